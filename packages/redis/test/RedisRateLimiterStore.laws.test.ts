import { RateLimiter } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { describe } from "@effect/vitest"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { laws } from "../../core/test/RateLimiter.laws.js"
import { SkewedClock } from "./utils/skewed.js"

const url = inject("redisUrl")

describe.skipIf(url === undefined)("laws, by one server", () => {
  const clock = new SkewedClock()
  const run = randomUUID()
  laws({
    make: (options) =>
      Effect.gen(function*() {
        const redis = yield* clock.connect({ server: { _tag: "Standalone", url: String(url) }, prefix: `${run}:` })
        const store = yield* Effect.provideService(RedisRateLimiterStore.make(), RedisConnection, redis)
        return yield* RateLimiter.make({ ...options, store })
      }),
    advance: clock.advance
  })
})
