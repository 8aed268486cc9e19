import { adaptiveConcurrencyFields } from "../AdaptiveConcurrency.js"
import { backpressureFields } from "../Backpressure.js"
import { fallbackFields } from "../Fallback.js"
import { loadShedderFields } from "../LoadShedder.js"
import { rateLimiterFields } from "../RateLimiter.js"
import { retryFields } from "../Retry.js"
import { retryBudgetFields } from "../RetryBudget.js"
import { timeoutFields } from "../Timeout.js"
import { circuitBreakerFields } from "./breaker/options.js"
import { bulkheadFields } from "./bulkhead/options.js"

/**
 * The options of all patterns: for the check of the documentation's tables and of bad values, and for those who are given
 * an option of theirs.
 *
 * @internal
 */
export const optionTables = {
  AdaptiveConcurrency: adaptiveConcurrencyFields,
  Backpressure: backpressureFields,
  Bulkhead: bulkheadFields,
  CircuitBreaker: circuitBreakerFields,
  Fallback: fallbackFields,
  LoadShedder: loadShedderFields,
  RateLimiter: rateLimiterFields,
  Retry: retryFields,
  RetryBudget: retryBudgetFields,
  Timeout: timeoutFields
}
