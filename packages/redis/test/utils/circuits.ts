import type { SharedCircuits } from "@effect-resilience/core"
import { CircuitBreaker } from "@effect-resilience/core"
import { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
import { Context, Duration, Effect, Exit, Layer } from "effect"
import { inject } from "vitest"
import { freshPrefix } from "./connected.js"
import { eventually } from "./until.js"
import { deaf } from "./withoutMessages.js"

/** Where the processes of one fleet meet. */
export interface Where {
  readonly prefix: string
  readonly url: string
  readonly db?: number
  /** It hears no message. */
  readonly deaf?: boolean
  /** Nobody listens to its breaker. */
  readonly silent?: boolean
  /** In milliseconds. */
  readonly commandTimeout?: number
}

/** A fleet that no other test has. */
export const fresh = (url = String(inject("redisUrl"))): Where => ({ prefix: freshPrefix(), url })

export const fail = Effect.fail("down")

/** What one process of a fleet has: a connection and a layer of its own. */
export const inProcess = (where: Where, options?: RedisCircuitBreaker.Options) => {
  const connection = RedisConnection.layer({
    server: { _tag: "Standalone", url: where.url, db: where.db ?? 0 },
    prefix: where.prefix,
    commandTimeout: where.commandTimeout ?? 300
  })
  return Layer.build(
    RedisCircuitBreaker.layer(options).pipe(
      Layer.provideMerge(where.deaf === true ? Layer.provide(deaf, connection) : connection)
    )
  )
}

/** A process with a breaker. */
export const member = (
  where: Where,
  options: CircuitBreaker.Options = {},
  shared?: RedisCircuitBreaker.Options
) =>
  Effect.gen(function*() {
    const context: Context.Context<SharedCircuits | RedisConnection> = yield* inProcess(where, shared)
    const breaker = yield* Effect.provide(CircuitBreaker.make({ name: "payments", ...options }), context)
    const redis = Context.get(context, RedisConnection)
    const told: Array<string> = []
    const listen: typeof breaker.on = where.silent === true ? () => Effect.void : breaker.on
    yield* listen("*", (event) =>
      Effect.sync(() => {
        if (event._tag === "StateChanged") told.push(`${event.to} ${event.cause}`)
        if (event._tag === "FleetChanged") told.push(`fleet ${event.state}`)
        if (event._tag === "InternalError") told.push(`problem ${String(event.error)}`)
      }))
    yield* known(where, redis, redis.channel(`${where.prefix}${shared?.mode === "advisory" ? "ca" : "cb"}:`))
    return {
      breaker,
      redis,
      told,
      trip: Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 4),
      is: (state: CircuitBreaker.State) =>
        eventually(`a circuit is ${state}`, Effect.map(breaker.state, (now) => now === state)),
      epoch: Effect.map(breaker.metrics, ({ shared }) => shared?.epoch ?? 0)
    }
  })

export type Member = Effect.Effect.Success<ReturnType<typeof member>>

/** So many processes that are alike. */
export const membersOf = <const N extends 2 | 3>(
  count: N,
  where: Where,
  options?: CircuitBreaker.Options,
  shared?: RedisCircuitBreaker.Options
) =>
  Effect.map(
    Effect.replicateEffect(member(where, options, shared), count),
    (members) => members as unknown as N extends 2 ? [Member, Member] : [Member, Member, Member]
  )

/** How many the server sends the messages of a fleet to. */
export const hearersOf = (redis: RedisConnection.Service, channel: string) =>
  Effect.map(
    Effect.orDie(redis.command("pubsub", "numsub", channel)),
    (reply) => Number(Array.isArray(reply) ? reply[1] : 0)
  )

/** How many processes of a fleet hear its messages. */
const hearers = new Map<string, number>()

/** It hears messages. */
const known = ({ deaf, prefix }: Where, redis: RedisConnection.Service, channel: string) => {
  const fleet = `${prefix} ${channel}`
  const expected = (hearers.get(fleet) ?? 0) + (deaf === true ? 0 : 1)
  hearers.set(fleet, expected)
  return eventually("it is heard", Effect.map(hearersOf(redis, channel), (count) => count >= expected))
}

/** All come to a state. */
export const all = (members: ReadonlyArray<Member>, state: CircuitBreaker.State) =>
  Effect.forEach(members, ({ is }) => is(state), { discard: true })

/** The first two trip, and with them all open. */
export const openAll = (members: ReadonlyArray<Member>) =>
  Effect.zipRight(Effect.forEach(members.slice(0, 2), ({ trip }) => trip), all(members, "Open"))

/** All were told so. */
export const wereTold = (members: ReadonlyArray<Member>, text: string) =>
  eventually(
    `all are told: ${text}`,
    Effect.sync(() => members.every(({ told }) => told.some((one) => one.includes(text))))
  )

/** All have an answer to what they asked from now on: what they know is no message's word any more. */
export const haveAsked = (members: ReadonlyArray<Pick<Member, "breaker">>) =>
  Effect.forEach([1, 2], () =>
    Effect.suspend(() => {
      const began = performance.now()
      const answered = ({ breaker }: Pick<Member, "breaker">) =>
        Effect.map(
          breaker.metrics,
          ({ shared }) => shared !== undefined && Duration.toMillis(shared.age) < performance.now() - began
        )
      return eventually("all have asked", Effect.map(Effect.forEach(members, answered), (all) => all.every(Boolean)))
    }), { discard: true })

/** Calls of all get through again, whoever probes. */
export const works = (members: ReadonlyArray<Member>) =>
  eventually(
    "all work again",
    Effect.map(
      Effect.forEach(
        members,
        ({ breaker }) => Effect.zip(Effect.exit(breaker.withBreaker(Effect.void)), breaker.state)
      ),
      (all) => all.every(([exit, state]) => Exit.isSuccess(exit) && state === "Closed")
    )
  )

/** Calls of scripts, and messages, that the server has counted. */
export const scripts = (redis: RedisConnection.Service) =>
  Effect.map(redis.command("info", "commandstats"), (text) => {
    const count = (name: string) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(String(text))?.[1] ?? 0)
    return count("evalsha") + count("eval") + count("publish")
  })
