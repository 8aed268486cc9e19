/**
 * The events of all patterns.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { AdaptiveConcurrency } from "./AdaptiveConcurrency.js"
import { Backpressure } from "./Backpressure.js"
import { Bulkhead } from "./Bulkhead.js"
import { CircuitBreaker } from "./CircuitBreaker.js"
import { Fallback } from "./Fallback.js"
import { InternalError } from "./InternalError.js"
import { LoadShedder } from "./LoadShedder.js"
import { OperatorAction } from "./OperatorAction.js"
import { RateLimiter } from "./RateLimiter.js"
import { Retry } from "./Retry.js"
import { Timeout } from "./Timeout.js"

/**
 * Every event that reaches the `EventBus`, as a schema for the wire.
 *
 * @since 0.1.0
 * @category events
 */
export const ResilienceEvent = Schema.Union(
  AdaptiveConcurrency.Event,
  Backpressure.Event,
  Bulkhead.Event,
  CircuitBreaker.Event,
  Fallback.Event,
  LoadShedder.Event,
  RateLimiter.Event,
  Retry.Event,
  Timeout.Event,
  InternalError,
  OperatorAction
)

/**
 * @since 0.1.0
 * @category events
 */
export type ResilienceEvent = typeof ResilienceEvent.Type
