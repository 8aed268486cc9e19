import { check as checkAdaptiveConcurrency } from "../AdaptiveConcurrency.js"
import { check as checkBackpressure } from "../Backpressure.js"
import { check as checkLoadShedder } from "../LoadShedder.js"
import { check as checkRateLimiter } from "../RateLimiter.js"
import { check as checkRetryBudget } from "../RetryBudget.js"
import { check as checkCircuitBreaker } from "./breaker/options.js"
import { check as checkBulkhead, checkPool } from "./bulkhead/options.js"

/**
 * Reads the options of a pattern as the pattern itself does, for those who are given them long before they build it. Each
 * throws an `InvalidOptionError` for a bad one.
 *
 * @internal
 */
export const optionChecks = {
  AdaptiveConcurrency: checkAdaptiveConcurrency,
  Backpressure: checkBackpressure,
  Bulkhead: checkBulkhead,
  /** Of a pool of a keyed bulkhead. */
  BulkheadPool: checkPool,
  CircuitBreaker: checkCircuitBreaker,
  LoadShedder: checkLoadShedder,
  RateLimiter: checkRateLimiter,
  RetryBudget: checkRetryBudget
}
