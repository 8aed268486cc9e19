/**
 * Gives the errors of core the method by which `@effect/platform` makes a response of an error: one that nobody handles
 * becomes a 503 or 504 with `Retry-After`, instead of an empty 500. None becomes a 429, for the limiter in a handler may
 * be one of calls that go out. Importing the index of this package imports it.
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
  ResilienceError,
  RetryResultRejectedError,
  TimeoutExceededError
} from "@effect-resilience/core"
import { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { bodyOf, unhandledRejectionOf } from "./internal/rejection.js"
import { markTurnedAway } from "./internal/turnedAway.js"

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
  return Effect.zipWith(Random.next, Effect.serviceOption(HttpServerRequest), (random, request) => {
    const rejection = unhandledRejectionOf(this, random)
    if (Option.isSome(request) && ResilienceError.isRejection(this)) markTurnedAway(request.value, rejection.status)
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
