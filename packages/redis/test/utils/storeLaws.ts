import type { RateLimiterStore } from "@effect-resilience/core"
import { RateLimiter } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { Duration, Effect, TestClock } from "effect"
import type { Scope } from "effect"
import { randomUUID } from "node:crypto"
import { laws } from "../../../core/test/RateLimiter.laws.js"
import { atFixedTime } from "./fixedClock.js"

/**
 * The laws of core for limiters by a store, over whatever connection: the server's time is what the test says, so nothing
 * depends on how fast the machine is.
 */
export const storeLaws = (
  connect: (prefix: string) => Effect.Effect<RedisConnection.Service, unknown, Scope.Scope>,
  makeStore: Effect.Effect<RateLimiterStore.Service, never, RedisConnection | Scope.Scope> = RedisRateLimiterStore.make
): void => {
  // A moment after the full hour, so that a test is in one window of the clock.
  let now = 1_800_000_000_000_000 + 1000
  const prefix = `${randomUUID()}:`
  laws({
    make: (options) =>
      Effect.gen(function*() {
        const redis = atFixedTime(yield* Effect.orDie(connect(prefix)), () => now)
        const store = yield* Effect.provideService(makeStore, RedisConnection, redis)
        return yield* RateLimiter.make({ ...options, store })
      }),
    advance: (span) =>
      Effect.suspend(() => {
        now += Math.ceil(Duration.toMillis(span) * 1000)
        return TestClock.adjust(span)
      })
  })
}
