/** The two ways to make the same call: as one writes it first, and protected by six patterns. */
import { Bulkhead, CircuitBreaker, Deadline, Fallback, LoadShedder, Retry, Timeout } from "@effect-resilience/core"
import { HttpClient, HttpClientResponse } from "@effect/platform"
import { Effect, Layer, Schedule } from "effect"

export type Answer = "fresh" | "fallback"

/** One request. `sent` is told of each, so retries count. */
const request = (url: string, sent: () => void) =>
  Effect.zipRight(Effect.sync(sent), HttpClient.get(url)).pipe(
    Effect.flatMap(HttpClientResponse.filterStatusOk),
    Effect.flatMap((response) => response.text),
    Effect.as<Answer>("fresh"),
    Effect.scoped
  )

/** A plain call with the client's defaults: it waits as long as the client does. */
export const bareCall = (url: string, sent: () => void) => request(url, sent)

export class Api extends CircuitBreaker.Tag<Api>()("api", {
  consecutiveFailures: 8,
  failureRate: 0.8,
  halfOpenMaxCalls: 2,
  openDuration: Schedule.exponential("250 millis").pipe(Schedule.union(Schedule.spaced("500 millis")))
}) {}
export class ApiPool extends Bulkhead.Tag<ApiPool>()("api", { maxConcurrent: 20 }) {}
export class ApiRetry extends Retry.Tag<ApiRetry>()("api", { maxAttempts: 4, initialDelay: "30 millis" }) {}
export class ApiTimeout extends Timeout.Tag<ApiTimeout>()("api", { duration: "500 millis" }) {}
/** It can bear sixteen calls at once. Sheddable ones may have four of them, normal ones eight, critical ones all. */
export class ApiShedder extends LoadShedder.Tag<ApiShedder>()("api", {
  maxInFlight: 16,
  maxQueueDepth: 0,
  shares: { normal: 0.5, low: 0.5, sheddable: 0.25 }
}) {}
export class ApiFallback extends Fallback.Tag<ApiFallback>()("api") {}

export const PatternsLive = Layer.mergeAll(
  Api.Live,
  ApiPool.Live,
  ApiRetry.Live,
  ApiTimeout.Live,
  ApiShedder.Live,
  ApiFallback.Live
)

/** The same call. Read from the bottom: fallback is outermost. */
export const protectedCall = (url: string, sent: () => void) =>
  request(url, sent).pipe(
    ApiTimeout.withTimeout,
    ApiPool.withPermit,
    Api.withBreaker,
    ApiRetry.withRetry,
    Deadline.within("900 millis"),
    ApiShedder.withShedding,
    ApiFallback.withFallbackValue((): Answer => "fallback")
  )
