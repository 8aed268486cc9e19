import type { RateLimiterStore } from "@effect-resilience/core"
import { RateLimiter } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { Duration, Effect, Exit, Scope, TestClock } from "effect"
import { randomUUID } from "node:crypto"
import { afterAll, beforeAll } from "vitest"
import { laws } from "../../../core/test/RateLimiter.laws.js"
import { atFixedTime } from "./fixedClock.js"

/** Options of connections that wait for a machine that is busy. */
export const patient = {
  commandTimeout: "5 seconds",
  connectTimeout: "10 seconds",
  socketTimeout: "5 seconds"
} as const

/**
 * The laws of core for limiters by a store, over whatever connection: the server's time is what the test says, so nothing
 * depends on how fast the machine is.
 */
export const storeLaws = (
  connect: (prefix: string) => Effect.Effect<RedisConnection.Service, unknown, Scope.Scope>
): void => {
  // A moment after the full hour, so that a test is in one window of the clock.
  let now = 1_800_000_000_000_000 + 1000
  const scope = Effect.runSync(Scope.make())
  let store: RateLimiterStore.Service
  beforeAll(async () => {
    const redis = await Effect.runPromise(Scope.extend(connect(`${randomUUID()}:`), scope))
    store = await Effect.runPromise(
      Effect.provideService(RedisRateLimiterStore.make(), RedisConnection, atFixedTime(redis, () => now)).pipe(
        Scope.extend(scope)
      )
    )
  }, 30_000)
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)), 30_000)
  laws({
    make: (options) => Effect.suspend(() => RateLimiter.make({ ...options, store })),
    advance: (span) =>
      Effect.suspend(() => {
        now += Math.ceil(Duration.toMillis(span) * 1000)
        return TestClock.adjust(span)
      })
  })
}
