import { RedisConnection } from "@effect-resilience/redis"
import { expect } from "@effect/vitest"
import { Effect } from "effect"
import { ask } from "./ask.js"
import { Load, quantile } from "./load.js"
import { until } from "./until.js"

/** What ran, as a server has it. */
export const entriesOf = (port: number, key = "l") =>
  Effect.promise(async () => await ask(port, "lrange", key, 0, -1) as Array<string>)

/** The calls are over: none may have taken longer, whatever happened; so much the timers of a busy machine may be late. */
export const expectShort = (load: Load, what: string, deadline = 100): void => {
  const durations = load.durations()
  console.log(
    `${what}: ${durations.length} calls, ${load.succeeded} succeeded, ${JSON.stringify(load.reasons())}; ` +
      `longest gap ${load.longestGap().toFixed(0)} ms, ` +
      `p99.9 ${quantile(durations, 0.999).toFixed(1)} ms, longest ${quantile(durations, 1).toFixed(1)} ms`
  )
  expect(load.pending).toBe(0)
  expect(quantile(durations, 0.999)).toBeLessThanOrEqual(deadline + 20)
}

/** Waits until a call that began after `since` has succeeded; how long after it that was, in milliseconds. */
export const untilBack = (load: Load, since: number, millis = 4000) =>
  Effect.promise(async () => {
    await until("it is back", () => load.recoveredAfter(since) < Infinity, millis)
    return load.recoveredAfter(since)
  })

/** A connection by way of `url` to the server at `port`, which is asked whatever happens. */
export const underLoad = (
  { port }: { readonly port: number },
  url: string,
  options: RedisConnection.Options = {},
  perSecond?: number
) =>
  Effect.gen(function*() {
    const redis = yield* RedisConnection.make({ server: url, ...options })
    const load = yield* Load.start(redis, "l", perSecond)
    /** Ends it: no call was long, and this is what became of them. */
    const end = (what: string) =>
      Effect.gen(function*() {
        yield* load.stop
        expectShort(load, what)
        return load.verdict(yield* entriesOf(port))
      })
    return { redis, load, end }
  })
