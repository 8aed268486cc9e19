import type { RateLimiterStore } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { atFixedTime } from "./fixedClock.js"
import { patient } from "./storeLaws.js"

export const url = inject("redisUrl")

/** Tells the names of this run from those of others. */
export const run = randomUUID()

export const algorithms = ["gcra", "token-bucket", "sliding-window", "sliding-log", "fixed-window"] as const

export const connect = RedisConnection.make({ server: String(url), prefix: `${run}:`, ...patient })
export const storeOf = (redis: RedisConnection.Service) =>
  Effect.provideService(RedisRateLimiterStore.make({ deniedFor: 0 }), RedisConnection, redis)

/** A store whose server has the time that the test says. */
export const fixedStore = Effect.gen(function*() {
  const time = { micros: 1_800_000_000_000_000 + 1000 }
  const store = yield* storeOf(atFixedTime(yield* connect, () => time.micros))
  return { store, time }
})

export const requestOf = (
  algorithm: RateLimiterStore.Algorithm,
  rate: { readonly limit: number; readonly window: Duration.DurationInput; readonly burst?: number },
  more: Partial<RateLimiterStore.Request> = {}
): RateLimiterStore.Request => ({
  instance: run,
  key: randomUUID(),
  algorithm,
  rates: [{ limit: rate.limit, window: Duration.decode(rate.window), burst: rate.burst ?? rate.limit }],
  cost: 1,
  mode: "all",
  maxWait: Duration.zero,
  ...more
})

/** One call of the key `a` by `gcra`. */
export const asked = (
  instance: string,
  rates: ReadonlyArray<RateLimiterStore.Rate>,
  more: Partial<RateLimiterStore.Request> = {}
): RateLimiterStore.Request => ({
  instance,
  key: "a",
  algorithm: "gcra",
  rates,
  cost: 1,
  mode: "all",
  maxWait: Duration.zero,
  ...more
})
