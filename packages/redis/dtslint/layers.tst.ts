import { Bulkhead, type BulkheadFullError, type RateLimiterStore, type SharedCircuits } from "@effect-resilience/core"
import type { IdempotencyStore, StaleStore } from "@effect-resilience/http"
import {
  RedisBulkhead,
  RedisCircuitBreaker,
  RedisConnection,
  RedisRateLimiterStore,
  type RedisUnavailableError
} from "@effect-resilience/redis"
import { RedisIdempotencyStore, RedisStaleStore } from "@effect-resilience/redis/http"
import { Config, type ConfigError, Effect, Layer } from "effect"
import { describe, expect, it } from "tstyche"

class Reports extends Bulkhead.Tag<Reports>()("reports") {}

describe("layers", () => {
  it("have the tags of those in memory, and need the connection", () => {
    expect(RedisBulkhead.layer(Reports)).type.toBe<Layer.Layer<Reports, never, RedisConnection>>()
    expect(RedisCircuitBreaker.layer()).type.toBe<Layer.Layer<SharedCircuits, never, RedisConnection>>()
    expect(RedisRateLimiterStore.layer()).type.toBe<Layer.Layer<RateLimiterStore, never, RedisConnection>>()
    expect(RedisIdempotencyStore.layer()).type.toBe<Layer.Layer<IdempotencyStore, never, RedisConnection>>()
    expect(RedisStaleStore.layer()).type.toBe<Layer.Layer<StaleStore, never, RedisConnection>>()
  })

  it("leave the types of a program as they are", () => {
    const report = Effect.succeed("report").pipe(Reports.withPermit)
    expect(report.pipe(Effect.provide(Reports.Live))).type.toBe<Effect.Effect<string, BulkheadFullError>>()
    expect(report.pipe(Effect.provide(RedisBulkhead.layer(Reports)))).type.toBe<
      Effect.Effect<string, BulkheadFullError, RedisConnection>
    >()
  })

  it("fail with what the connection does", () => {
    const live = RedisConnection.layerConfig({ server: Config.redacted("REDIS_URL") })
    expect(RedisStaleStore.layer().pipe(Layer.provide(live))).type.toBe<
      Layer.Layer<StaleStore, RedisUnavailableError | ConfigError.ConfigError>
    >()
  })

  it("take no option that there is not", () => {
    expect(RedisIdempotencyStore.layer).type.not.toBeCallableWith({ ttl: "1 day" })
    expect(RedisStaleStore.layer).type.not.toBeCallableWith({ maxBytes: "1 MiB" })
  })
})
