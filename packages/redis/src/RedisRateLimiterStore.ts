/**
 * Rate limits that many processes share: `RateLimiter.layerStore` asks this store.
 *
 * @since 0.1.0
 */
import { RateLimiterStore } from "@effect-resilience/core"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Plans } from "./internal/rate/plan.js"
import { changes, directDecide } from "./internal/rate/store.js"
import { RedisConnection } from "./RedisConnection.js"

const make = Effect.map(RedisConnection, (redis): RateLimiterStore.Service => {
  const plans = new Plans()
  return { decide: directDecide(redis, plans), ...changes(redis, plans) }
})

/**
 * The counts of rate limiters in Redis: each decision is one atomic step there, by the server's clock. What it lets through
 * is what a limiter in memory lets through, over all processes together; where Redis does not answer, the limiter does what
 * its option `onStoreError` says.
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisRateLimiterStore: {
  readonly make: Effect.Effect<RateLimiterStore.Service, never, RedisConnection>
  readonly layer: Layer.Layer<RateLimiterStore, never, RedisConnection>
} = {
  make,
  layer: Layer.effect(RateLimiterStore, make)
}
