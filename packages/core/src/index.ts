/**
 * @since 0.1.0
 */
export { AdaptiveConcurrency, AdaptiveConcurrencyLive, ConcurrencyLimitError } from "./AdaptiveConcurrency.js"
export { Backpressure, BackpressureError, BackpressureLive } from "./Backpressure.js"
export { Bulkhead, BulkheadFullError, BulkheadLive } from "./Bulkhead.js"
export { CircuitBreaker, CircuitBreakerLive, CircuitOpenError } from "./CircuitBreaker.js"
export { Deadline, DeadlineExceededError } from "./Deadline.js"
export { EventBus } from "./EventBus.js"
export { EventLog } from "./EventLog.js"
export type { FairQueue } from "./FairQueue.js"
export { Fallback, FallbackFailedError, FallbackLive } from "./Fallback.js"
export { Fleet } from "./Fleet.js"
export { InternalError } from "./InternalError.js"
export { Limit } from "./Limit.js"
export { LoadShedder, LoadShedderLive, LoadShedError } from "./LoadShedder.js"
export { OperatorAction } from "./OperatorAction.js"
export { type Classify, classify, classifyWith, OptionThrewError, type Outcome } from "./Outcome.js"
export type {
  CallMetrics,
  ClassifyBy,
  ConfigOf,
  EventOf,
  Guard,
  KeyedOptions,
  KeyedTagClass,
  Observable,
  OnLayer,
  Subscription,
  TagClass
} from "./Pattern.js"
export { Priority } from "./Priority.js"
export { RateLimiter, RateLimiterLive, RateLimiterStoreError, RateLimitExceededError } from "./RateLimiter.js"
export { RateLimiterStore } from "./RateLimiterStore.js"
export { ActionError, Registry, UnknownInstanceError } from "./Registry.js"
export { Resilience, ResilienceLive } from "./Resilience.js"
export { ResilienceError } from "./ResilienceError.js"
export { ResilienceEvent } from "./ResilienceEvent.js"
export { Retry, RetryLive, RetryResultRejectedError } from "./Retry.js"
export { RetryBudget, RetryBudgetLive } from "./RetryBudget.js"
export { SharedCircuits } from "./SharedCircuits.js"
export { SystemLoad, TestSystemLoad } from "./SystemLoad.js"
export { Timeout, TimeoutExceededError, TimeoutLive } from "./Timeout.js"
