import type { Bulkhead } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { Deferred, Effect, Fiber } from "effect"
import { keysOf } from "../../src/internal/bulkhead/settle.js"

export { eventually } from "./until.js"

/** A connection that has time, for a machine that has much to do. */
export const connect = (url: string, options: RedisConnection.Options = {}) =>
  RedisConnection.make({ server: { _tag: "Standalone", url }, commandTimeout: "2 seconds", ...options })

/** A bulkhead with a connection of its own, as another process has it. */
export const bulkheadOf = (
  url: string,
  bulkhead: Bulkhead.Options & { readonly name: string },
  options?: RedisBulkhead.Options,
  connection?: RedisConnection.Options
) =>
  Effect.flatMap(
    connect(url, connection),
    (redis) => Effect.provideService(RedisBulkhead.make(bulkhead, options), RedisConnection, redis)
  )

/** A call that runs until it is told to end. */
export interface Held {
  readonly end: Effect.Effect<unknown>
  readonly fiber: Fiber.RuntimeFiber<unknown, unknown>
}

/** Begins a call, and waits until it runs. */
export const hold = (bulkhead: Bulkhead.Service, permits = 1) =>
  Effect.gen(function*() {
    const running = yield* Deferred.make<void, unknown>()
    const gate = yield* Deferred.make<void>()
    const fiber = yield* Effect.fork(
      Effect.zipRight(Deferred.succeed(running, void 0), Deferred.await(gate)).pipe(
        bulkhead.withPermitsBy(permits),
        Effect.tapErrorCause((cause) => Deferred.failCause(running, cause))
      )
    )
    yield* Deferred.await(running)
    return { fiber, end: Effect.zipRight(Deferred.succeed(gate, void 0), Fiber.await(fiber)) } satisfies Held
  })

/** What a bulkhead's keys say. */
export const stateOf = (redis: RedisConnection.Service, name: string) =>
  Effect.gen(function*() {
    const [keyOfEnds, keyOfHolders, keyOfLine] = keysOf(redis.prefix, name).keys as [string, string, string]
    const names = (yield* redis.command("hkeys", keyOfHolders)) as ReadonlyArray<string>
    const values = (yield* redis.command("hvals", keyOfHolders)) as ReadonlyArray<string>
    const fields = new Map(names.map((name, i) => [name, String(values[i])]))
    const used = Number(fields.get("#used") ?? 0)
    const holders = new Map(
      [...fields].filter(([name]) => !name.startsWith("#")).map(([name, text]) => [name, Number(text.split(" ")[0])])
    )
    const line = (yield* redis.command("zrange", keyOfLine, 0, -1)) as ReadonlyArray<string>
    const scores = (yield* redis.command("zrange", keyOfEnds, 0, -1, "withscores")) as ReadonlyArray<string>
    const ends = new Map<string, string>()
    for (let i = 0; i < scores.length; i += 2) ends.set(String(scores[i]), String(scores[i + 1]))
    return { used, holders, line, ends }
  })

/** The server forgets all of a bulkhead. */
export const forget = (redis: RedisConnection.Service, name: string) =>
  redis.command("del", ...keysOf(redis.prefix, name).keys)

/** A resource that refuses whoever comes with a smaller fence than it has seen. */
export const write = `local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) < last then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1`
