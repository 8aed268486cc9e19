import { ResilienceError } from "@effect-resilience/core"
import { option } from "@effect-resilience/core/extension"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { HttpFallback } from "../HttpFallback.js"

/** Another answer than the one there would be. @internal */
export interface Substitute {
  readonly answer: (
    request: HttpServerRequest,
    failure: HttpFallback.Failure
  ) => Effect.Effect<Option.Option<HttpServerResponse>>
  /** Sees every response of an admitted request. */
  readonly observe?: (request: HttpServerRequest, response: HttpServerResponse) => Effect.Effect<void>
}

const reasons: ReadonlyArray<HttpFallback.Reason> = [
  "CircuitOpen",
  "AtCapacity",
  "Timeout",
  "RateLimited",
  "Failure",
  "ServerError"
]

const reasonsField = (fallback: ReadonlyArray<HttpFallback.Reason>, shown?: string) =>
  option.field<ReadonlyArray<HttpFallback.Reason>, ReadonlySet<HttpFallback.Reason>>(fallback, (input) => {
    if (Array.isArray(input) && input.every((reason) => reasons.includes(reason))) return new Set(input)
    throw new option.Requirement(`a list of ${reasons.join(", ")}`)
  }, shown)

/** @internal */
export const fallbackFields = {
  respond: option.field<HttpFallback.Options["respond"], HttpFallback.Options["respond"]>(
    undefined as never,
    (input) => {
      if (Predicate.isFunction(input) || ServerResponse.isServerResponse(input)) return input
      throw new option.Requirement("a response or a function")
    },
    "required"
  ),
  on: reasonsField(["CircuitOpen", "AtCapacity", "Timeout", "Failure"]),
  mark: option.boolean(true),
  timeout: option.duration("1 second")
} satisfies option.Fields<HttpFallback.Options>

/** @internal */
export const staleFields = {
  staleIfError: option.duration("1 day"),
  principal: option.optional(
    option.fn<NonNullable<HttpFallback.StaleOptions["principal"]>>(undefined as never, "—")
  ),
  on: reasonsField(reasons.filter((reason) => reason !== "RateLimited"), "all but \"RateLimited\""),
  maxBodySize: option.integer(1024 * 1024, { min: 0 }),
  timeout: option.duration("250 millis")
} satisfies option.Fields<HttpFallback.StaleOptions>

/** Why an error of ours was the answer. */
const reasonOf = (error: ResilienceError, status: number): HttpFallback.Reason => {
  if (error._tag === "CircuitOpenError") return "CircuitOpen"
  if (status === 504 || error._tag === "TimeoutExceededError" || error._tag === "DeadlineExceededError") {
    return "Timeout"
  }
  if (error._tag === "FallbackFailedError" || error._tag === "RetryResultRejectedError") return "Failure"
  return error._tag === "RateLimitExceededError" && status === 429 ? "RateLimited" : "AtCapacity"
}

/** What went wrong where the chain itself turned a request away, or ended it. @internal */
export const rejected = (error: ResilienceError, status: number): HttpFallback.Failure => ({
  reason: reasonOf(error, status),
  status,
  cause: Cause.fail(error)
})

/**
 * What went wrong with a request that was let in, where anything did: known when its response is. Who interrupts wants no
 * answer.
 *
 * @internal
 */
export const failureOf = (
  response: HttpServerResponse,
  cause: Cause.Cause<unknown>
): Option.Option<HttpFallback.Failure> => {
  const { body, status } = response
  if (status < 500 && status !== 429) return Option.none()
  if (!Cause.isEmpty(cause) && Cause.isInterruptedOnly(cause)) return Option.none()
  const error = Chunk.head(Chunk.appendAll(Cause.failures(cause), Cause.defects(cause)))
  if (Option.isSome(error) && ResilienceError.is(error.value)) {
    return Option.some({ reason: reasonOf(error.value, status), status, cause })
  }
  if (status < 500) return Option.none()
  return Option.some({ reason: body._tag === "Empty" ? "Failure" : "ServerError", status, cause })
}

/** The first other answer there is. @internal */
export const insteadOf = (
  substitutes: ReadonlyArray<Substitute>,
  request: HttpServerRequest,
  failure: HttpFallback.Failure
): Effect.Effect<Option.Option<HttpServerResponse>> =>
  Effect.reduce(
    substitutes,
    Option.none<HttpServerResponse>(),
    (found, substitute) => Option.isSome(found) ? Effect.succeed(found) : substitute.answer(request, failure)
  )

/** In time or not at all; what goes wrong is logged, and changes nothing. @internal */
export const attempt = <A>(
  what: string,
  limit: Duration.Duration | undefined,
  effect: Effect.Effect<A, unknown>
): Effect.Effect<Option.Option<A>> => {
  const bounded = limit === undefined ? Effect.asSome(effect) : Effect.tap(
    Effect.timeoutOption(Effect.interruptible(Effect.disconnect(effect)), limit),
    (done) => Option.isNone(done) ? Effect.logWarning(`${what} took too long`) : Effect.void
  )
  return Effect.catchAllCause(
    bounded,
    (cause) => Effect.as(Effect.logWarning(`${what} failed`, cause), Option.none())
  )
}

/** The fallback of the options. @internal */
export const fallback = (options: option.Resolved<typeof fallbackFields>): Substitute => {
  const { mark, on, respond, timeout } = options
  return {
    answer: (request, failure) => {
      if (!on.has(failure.reason)) return Effect.succeedNone
      const answer = Predicate.isFunction(respond)
        ? attempt("The fallback", timeout, Effect.suspend(() => respond(request, failure)))
        : Effect.succeedSome(respond)
      return Effect.map(
        answer,
        Option.map((response) =>
          mark ? ServerResponse.setHeader(response, "cache-status", "resilience; hit; detail=\"fallback\"") : response
        )
      )
    }
  }
}
