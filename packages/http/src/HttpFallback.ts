/**
 * What is answered instead of a rejection or a failure.
 *
 * @since 0.1.0
 */
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import type { Cause } from "effect/Cause"
import type { DurationInput } from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Option } from "effect/Option"

/**
 * @since 0.1.0
 */
export declare namespace HttpFallback {
  /**
   * Why there is no answer.
   *
   * - `"CircuitOpen"`: a circuit breaker, of the chain or of a client that the handler uses.
   * - `"AtCapacity"`: load shedding, bulkhead, backpressure, adaptive concurrency, or a limiter for our own fault.
   * - `"Timeout"`: there was no time, or none is left.
   * - `"RateLimited"`: this client asked too much.
   * - `"Failure"`: the handler failed, or answered with 500 or above and no body.
   * - `"ServerError"`: it answered with 500 or above, and a body of its own.
   *
   * @since 0.1.0
   * @category models
   */
  export type Reason = "CircuitOpen" | "AtCapacity" | "Timeout" | "RateLimited" | "Failure" | "ServerError"

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Failure {
    readonly reason: Reason
    /** The status that the answer would have. */
    readonly status: number
    /** What the chain or the handler failed with; empty where it answered with 500 or above. */
    readonly cause: Cause<unknown>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /**
     * The answer, or a function that makes it from the request and what went wrong. One that fails or dies leaves the
     * answer as it was.
     */
    readonly respond:
      | HttpServerResponse
      | ((request: HttpServerRequest, failure: Failure) => Effect.Effect<HttpServerResponse, unknown>)
    /** What it stands in for. Defaults to `["CircuitOpen", "AtCapacity", "Timeout", "Failure"]`. */
    readonly on?: ReadonlyArray<Reason> | undefined
    /** Says `Cache-Status: resilience; hit; detail="fallback"`. Defaults to `true`. */
    readonly mark?: boolean | undefined
    /** How long the function may take; after it the answer is as it was. Defaults to `"1 second"`. */
    readonly timeout?: DurationInput | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface StaleOptions {
    /** How long after its freshness a response is served; its own `stale-if-error` wins. Defaults to `"1 day"`. */
    readonly staleIfError?: DurationInput | undefined
    /**
     * Whose response it is: kept for this principal alone, and for those of `Option.none()` not at all. Without it
     * responses are anybody's, and kept only where they say so (`public`, `max-age`, `s-maxage` or `stale-if-error`), and
     * never for requests with `Authorization` or `Cookie`. Defaults to none.
     */
    readonly principal?: ((request: HttpServerRequest) => Option<string>) | undefined
    /** What it stands in for, with a status of 500, 502, 503, 504 or 429. Defaults to all but `"RateLimited"`. */
    readonly on?: ReadonlyArray<Reason> | undefined
    /** Bytes of a body that is kept. Defaults to `1048576`. */
    readonly maxBodySize?: number | undefined
    /** How long the store may take; after it nothing is kept, or served. Defaults to `"250 millis"`. */
    readonly timeout?: DurationInput | undefined
  }
}
