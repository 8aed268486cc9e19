/**
 * The patterns of `@effect-resilience/core` as HTTP middleware and client parts.
 *
 * @since 0.1.0
 */
import "./respondable.js"

export { Admin, ForbiddenError } from "./Admin.js"
export { ClientIp } from "./ClientIp.js"
export { Dashboard } from "./Dashboard.js"
export { Drain } from "./Drain.js"
export * as Health from "./Health.js"
export type { HttpFallback } from "./HttpFallback.js"
export {
  GatewayTimeout,
  IdempotencyConflict,
  IdempotencyKeyMissing,
  IdempotencyKeyReused,
  ServiceUnavailable,
  TooManyRequests
} from "./HttpProblem.js"
export { HttpResilience, TwoPoliciesError } from "./HttpResilience.js"
export * as HttpServerMetrics from "./HttpServerMetrics.js"
export { Idempotency } from "./Idempotency.js"
export { IdempotencyStore, IdempotencyStoreError } from "./IdempotencyStore.js"
export * as PrometheusMetrics from "./PrometheusMetrics.js"
export { RateLimitDecision } from "./RateLimitDecision.js"
export { makeResilientFetch, resilientFetch } from "./ResilientFetch.js"
export { ResilientHttpClient, TwoClientsError } from "./ResilientHttpClient.js"
export { StaleStore, StaleStoreError } from "./StaleStore.js"
export { StoredResponse } from "./StoredResponse.js"
