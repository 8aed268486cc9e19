/**
 * Gives the errors of core the method by which `@effect/platform` makes a response of an error: one that nobody handles
 * becomes a 429, 503 or 504 with `Retry-After`, instead of an empty 500. Importing the index of this package imports it.
 *
 * @since 0.1.0
 */
import {
  BackpressureError,
  BulkheadFullError,
  CircuitOpenError,
  ConcurrencyLimitError,
  DeadlineExceededError,
  FallbackFailedError,
  LoadShedError,
  RateLimiterStoreError,
  RateLimitExceededError,
  type ResilienceError,
  RetryResultRejectedError,
  TimeoutExceededError
} from "@effect-resilience/core"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { bodyOf, rejectionOf } from "./internal/rejection.js"

const errors = [
  BackpressureError,
  BulkheadFullError,
  CircuitOpenError,
  ConcurrencyLimitError,
  DeadlineExceededError,
  FallbackFailedError,
  LoadShedError,
  RateLimiterStoreError,
  RateLimitExceededError,
  RetryResultRejectedError,
  TimeoutExceededError
]

function respond(this: ResilienceError) {
  return Effect.map(Random.next, (random) => {
    const rejection = rejectionOf(this, { detail: "minimal" }, { random, traceId: undefined })
    return ServerResponse.text(bodyOf(rejection), {
      status: rejection.status,
      contentType: "application/problem+json",
      headers: rejection.headers
    })
  })
}

for (const { prototype } of errors) {
  Object.defineProperty(prototype, HttpServerRespondable.symbol, { value: respond, configurable: true })
}
