/**
 * The patterns of `@effect-resilience/core` as HTTP middleware and client parts.
 *
 * @since 0.1.0
 */
export * from "./ClientIp.js"
