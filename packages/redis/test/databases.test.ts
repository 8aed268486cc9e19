import { Bulkhead } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { inject } from "vitest"
import { fail, fresh, inProcess, member, wereTold } from "./utils/circuits.js"
import { eventually } from "./utils/until.js"

const url = inject("redisUrl")

/** The same server and prefix, in another database. */
const inDatabase = (db: number, where: ReturnType<typeof fresh>) => ({ ...where, db })

describe.skipIf(url === undefined)("messages of a server with several databases", () => {
  it.scopedLive("RC20: a circuit is opened, forced open and closed in its own database alone", () =>
    Effect.gen(function*() {
      const where = fresh()
      const shared = { quorum: 1, reportEvery: "50 millis" } as const
      const [a, b, other] = yield* Effect.forEach(
        [1, 1, 2],
        (db) => member(inDatabase(db, where), { openDuration: "1 minute" }, shared)
      ) as Effect.Effect<[A, A, A], never, never>
      yield* a.trip
      yield* b.is("Open")
      yield* b.breaker.reset
      yield* a.is("Closed")
      yield* a.breaker.forceOpen()
      yield* b.is("ForcedOpen")
      // Messages come to all in the same order: what is heard of this is heard after all of that.
      yield* Effect.repeatN(Effect.exit(other.breaker.withBreaker(fail)), 4)
      yield* wereTold([other], "fleet Open")
      expect(other.told).toEqual(["Open ConsecutiveFailures", "fleet Open"])
      expect(yield* a.breaker.state).toBe("ForcedOpen")
    }))

  it.scopedLive("RC20: no channel is that of another database, and database 0 has the plain names", () =>
    Effect.gen(function*() {
      const where = fresh()
      const build = (db: number) =>
        Effect.gen(function*() {
          const context = yield* inProcess(inDatabase(db, where))
          class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 1 }) {}
          yield* Layer.build(Layer.provide(RedisBulkhead.layer(Reports), Layer.succeedContext(context)))
          return Context.get(context, RedisConnection)
        })
      const redis = yield* build(0)
      const channels = Effect.map(
        Effect.orDie(redis.command("pubsub", "channels", `${where.prefix}*`)),
        (all) => [...all as ReadonlyArray<string>].sort()
      )
      const plain = yield* channels
      expect(plain).toEqual([`${where.prefix}bh:{reports}:line`, `${where.prefix}cb:`])
      yield* Effect.zip(build(1), build(2))
      expect(yield* channels).toEqual([...plain, ...plain.flatMap((name) => [`${name}@1`, `${name}@2`])].sort())
    }))
})

describe.skipIf(url === undefined)("a message that a shared circuit follows", () => {
  /** A message of a fleet: state, epoch, microseconds left, opens in a row, an operator's. */
  const say = ({ redis }: A, prefix: string, state: number, operator: number) =>
    redis.command("publish", `${prefix}cb:`, `${state} ${Date.now() * 1000} 60000000 1 ${operator} payments`)

  it.scopedLive("RC21: is a hint: what it opened, and Redis knows nothing of, probes when that is asked", () =>
    Effect.gen(function*() {
      const where = fresh()
      const one = yield* member(where, { openDuration: "1 minute" }, { reportEvery: "50 millis" })
      yield* say(one, where.prefix, 1, 0)
      yield* wereTold([one], "Open Shared")
      yield* eventually("it lets a call in", one.breaker.wouldAdmit)
      yield* one.breaker.withBreaker(Effect.void)
      yield* Effect.repeatN(one.breaker.withBreaker(Effect.void), 9)
      yield* one.is("Closed")
      expect(one.told.slice(0, 4)).toEqual(["fleet Open", "Open Shared", "fleet Unknown", "fleet Closed"])
    }))

  for (const [state, becomes] of [[3, "ForcedOpen"], [4, "Disabled"]] as const) {
    it.scopedLive(`RC21: is a hint: ${becomes} of which Redis knows nothing ends when that is asked`, () =>
      Effect.gen(function*() {
        const where = fresh()
        const one = yield* member(where, {}, { reportEvery: "50 millis" })
        yield* say(one, where.prefix, state, 1)
        yield* wereTold([one], `${becomes} Shared`)
        yield* one.is("Closed")
        expect(one.told).toEqual([`fleet ${becomes}`, `${becomes} Shared`, "fleet Closed", "Closed Shared"])
      }))
  }

  it.scopedLive("RC21: is a hint: a circuit that is open stays so when Redis says that it is", () =>
    Effect.gen(function*() {
      const where = fresh()
      const one = yield* member(where, { openDuration: "1 minute" }, { quorum: 1, reportEvery: "50 millis" })
      yield* one.trip
      yield* wereTold([one], "fleet Open")
      yield* say(one, where.prefix, 0, 1)
      yield* wereTold([one], "Closed Shared")
      yield* eventually("it is open again", Effect.map(one.breaker.state, (state) => state === "Open"))
    }))
})

type A = Effect.Effect.Success<ReturnType<typeof member>>
