/**
 * The patterns of `@effect-resilience/core` shared by many processes through Redis. Nothing is here yet.
 *
 * @since 0.1.0
 */
export {}
