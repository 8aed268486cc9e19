/**
 * The errors of this library, told from the user's.
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import type { ConcurrencyLimitError } from "./AdaptiveConcurrency.js"
import type { BackpressureError } from "./Backpressure.js"
import type { BulkheadFullError } from "./Bulkhead.js"
import type { CircuitOpenError } from "./CircuitBreaker.js"
import type { DeadlineExceededError } from "./Deadline.js"
import type { FallbackFailedError } from "./Fallback.js"
import { ErrorTypeId } from "./internal/errors.js"
import type { LoadShedError } from "./LoadShedder.js"
import type { RateLimiterStoreError, RateLimitExceededError } from "./RateLimiter.js"
import type { RetryResultRejectedError } from "./Retry.js"
import type { TimeoutExceededError } from "./Timeout.js"

/**
 * Any error of this library. Each has `pattern`, `instance` and, where a pattern turned a call down, `reason` and
 * `retryAfter`.
 *
 * @since 0.1.0
 * @category errors
 */
export type ResilienceError =
  | BackpressureError
  | BulkheadFullError
  | CircuitOpenError
  | ConcurrencyLimitError
  | DeadlineExceededError
  | FallbackFailedError
  | LoadShedError
  | RateLimiterStoreError
  | RateLimitExceededError
  | RetryResultRejectedError
  | TimeoutExceededError

/**
 * @since 0.1.0
 * @category guards
 */
export const ResilienceError = {
  /** Whether the value is an error of this library. */
  is: (value: unknown): value is ResilienceError => Predicate.hasProperty(value, ErrorTypeId),
  /** Whether the value is an error by which a pattern turned a call down before it reached the dependency. */
  isRejection: (value: unknown): value is ResilienceError =>
    Predicate.hasProperty(value, ErrorTypeId) && value[ErrorTypeId] === "rejection"
}
