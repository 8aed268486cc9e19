/**
 * The patterns of `@effect-resilience/core` as HTTP middleware and client parts.
 *
 * @since 0.1.0
 */
import "./respondable.js"

export { ClientIp } from "./ClientIp.js"
export { GatewayTimeout, ServiceUnavailable, TooManyRequests } from "./HttpProblem.js"
export { HttpResilience, TwoPoliciesError } from "./HttpResilience.js"
export { RateLimitDecision } from "./RateLimitDecision.js"
