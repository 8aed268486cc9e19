/**
 * The patterns of `@effect-resilience/core` as HTTP middleware and client parts. Nothing is here yet.
 *
 * @since 0.1.0
 */
export {}
