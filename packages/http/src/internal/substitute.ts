import { Fallback, ResilienceError } from "@effect-resilience/core"
import { onceAMinute, openInstance, option } from "@effect-resilience/core/extension"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { constFalse, constVoid } from "effect/Function"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Scope } from "effect/Scope"
import type { HttpFallback } from "../HttpFallback.js"

/** Another answer than the one there would be. @internal */
export interface Substitute {
  /** Whether it is asked at all. */
  readonly applies: (request: HttpServerRequest, failure: HttpFallback.Failure) => boolean
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
    (found, substitute) =>
      Option.isSome(found) || !substitute.applies(request, failure)
        ? Effect.succeed(found)
        : substitute.answer(request, failure)
  )

/** There was no answer in time. */
class NoAnswer extends Data.TaggedError("NoAnswer")<{ readonly message: string }> {}

/** In time or not at all; what goes wrong is told to `failed`, and changes nothing. @internal */
export const attempt = <A>(
  limit: Duration.Duration | undefined,
  failed: (error: unknown) => Effect.Effect<void>,
  effect: Effect.Effect<A, unknown>
): Effect.Effect<Option.Option<A>> => {
  const bounded = limit === undefined ? effect : Effect.timeoutFail(Effect.interruptible(Effect.disconnect(effect)), {
    duration: limit,
    onTimeout: () => new NoAnswer({ message: `there was no answer within ${Duration.format(limit)}` })
  })
  return Effect.matchCauseEffect(bounded, {
    onSuccess: Effect.succeedSome,
    onFailure: (cause) => Effect.as(failed(Cause.squash(cause)), Option.none())
  })
}

/**
 * A substitute as a `Fallback` of the registry: who answered is counted and told as it is of any other.
 *
 * @internal
 */
export const counted = (name: string, substitute: Substitute): Effect.Effect<Substitute, never, Scope> =>
  Effect.map(Fallback.make({ name }), (instance) => {
    const primary = instance.withFallbackValue(constVoid)(Effect.void)
    const used = ({ reason, status }: HttpFallback.Failure) =>
      instance.withFallback(() => Effect.void)(Effect.fail({ _tag: reason, status }))
    const lost = Effect.ignore(instance.withFallbackResult(constFalse, () => Effect.void)(Effect.fail("no answer")))
    return {
      applies: substitute.applies,
      answer: (request, failure) =>
        Effect.tap(substitute.answer(request, failure), (found) => Option.isSome(found) ? used(failure) : lost),
      observe: (request, response) => Effect.zipRight(primary, substitute.observe?.(request, response) ?? Effect.void)
    }
  })

/** The fallback of the options. @internal */
export const fallback = (
  name: string,
  { mark, on, respond, timeout }: option.Resolved<typeof fallbackFields>
): Effect.Effect<Substitute, never, Scope> =>
  Effect.flatMap(openInstance("Fallback", name), ({ emitter }) => {
    const failed = onceAMinute((error) => emitter.internalError("Option", error))
    return counted(name, {
      applies: (_, failure) => on.has(failure.reason),
      answer: (request, failure) => {
        const answer = Predicate.isFunction(respond)
          ? attempt(timeout, failed, Effect.suspend(() => respond(request, failure)))
          : Effect.succeedSome(respond)
        return Effect.map(
          answer,
          Option.map((response) =>
            mark ? ServerResponse.setHeader(response, "cache-status", "resilience; hit; detail=\"fallback\"") : response
          )
        )
      }
    })
  })
