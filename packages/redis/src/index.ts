/**
 * The patterns of `@effect-resilience/core` shared by many processes through Redis.
 *
 * @since 0.1.0
 */
export * from "./RedisBulkhead.js"
export * from "./RedisCircuitBreaker.js"
export * from "./RedisConnection.js"
export * from "./RedisEventStream.js"
export * from "./RedisFleet.js"
export * from "./RedisRateLimiterStore.js"
export * from "./RedisUnavailableError.js"
