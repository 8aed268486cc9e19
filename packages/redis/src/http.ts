/**
 * The stores of `@effect-resilience/http` in Redis. Apart from the index, for they need that package and
 * `@effect/platform`.
 *
 * @since 0.1.0
 */
export * from "./RedisIdempotencyStore.js"
export * from "./RedisStaleStore.js"
