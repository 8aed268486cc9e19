import type { Outcome } from "@effect-resilience/core"
import { classify } from "@effect-resilience/core"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import { parseRetryAfter } from "../retryAfter.js"

/*
 * What an answer says: whether the request may have done something, whether it is worth another attempt, and whether the
 * dependency works.
 */

/** What is read of a response. @internal */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
}

/** Methods that may be sent twice (RFC 9110, 9.2.2, and QUERY). @internal */
export const idempotentMethods: ReadonlyArray<string> = ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PUT", "DELETE"]

/** Statuses that may pass. @internal */
export const retryableStatuses: ReadonlyArray<number> = [408, 425, 429, 500, 502, 503, 504]

/** Codes of failures before a connection stood: the server has not seen the request. */
const unreachedCodes = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "UND_ERR_CONNECT_TIMEOUT"
])

/** Codes of certificates that do not fit: the next attempt sees the same. */
const isCertificate = (code: string): boolean =>
  /CERT|^ERR_TLS_|^UNABLE_TO_|^DEPTH_ZERO_|HOSTNAME_MISMATCH/.test(code) || code === "ERR_SSL_WRONG_VERSION_NUMBER"

/** The codes of an error and of what caused it. */
const codesOf = (error: unknown): ReadonlyArray<string> => {
  const codes: Array<string> = []
  let one = error
  for (let depth = 0; depth < 6 && Predicate.isObject(one); depth++) {
    if (Predicate.hasProperty(one, "code") && Predicate.isString(one.code)) codes.push(one.code)
    if (Predicate.hasProperty(one, "message") && String(one.message).includes("NGHTTP2_REFUSED_STREAM")) {
      codes.push("REFUSED_STREAM")
    }
    one = Predicate.hasProperty(one, "cause") ? one.cause : undefined
  }
  return codes
}

/** The response that an error is about, where a filter of statuses made it. */
const answerOf = (error: unknown): Answer | undefined =>
  HttpClientError.isHttpClientError(error) && error._tag === "ResponseError" && error.reason === "StatusCode"
    ? error.response
    : undefined

/** The answer of an attempt, as value or as error. @internal */
export const answerOfExit = (exit: Exit.Exit<Answer, unknown>): Answer | undefined =>
  exit._tag === "Success" ? exit.value : answerOf(Cause.squash(exit.cause))

/**
 * Whether a failed attempt may be made again: `"unreached"` whatever the request was, `"unknown"` where it does no harm,
 * `"final"` never.
 *
 * @internal
 */
export const fate = (error: unknown): "unreached" | "unknown" | "final" => {
  if (Predicate.isTagged(error, "TimeoutExceededError")) return "unknown"
  if (!HttpClientError.isHttpClientError(error) || error._tag !== "RequestError" || error.reason !== "Transport") {
    return "final"
  }
  if (Predicate.hasProperty(error, "retryable") && error.retryable === false) return "final"
  const codes = codesOf(error.cause)
  if (codes.some(isCertificate)) return "final"
  if (codes.some((code) => code === "REFUSED_STREAM" || unreachedCodes.has(code))) return "unreached"
  return "unknown"
}

/** Whether a status may pass. Envoy marks answers of its own rate limit, which retries only make worse. @internal */
export const mayPass = (statuses: ReadonlySet<number>) => ({ headers, status }: Answer): boolean =>
  statuses.has(status) && headers["x-envoy-ratelimited"] === undefined

/** What a status says of the dependency: a probe that is told `404` shows that it works. */
const ofStatus = (status: number): Outcome =>
  status >= 500 && status !== 501 && status !== 505
    ? "failure"
    : status === 408 || status === 429
    ? "ignored"
    : "success"

const ofError = (error: unknown): Outcome | undefined => {
  const answer = answerOf(error)
  if (answer !== undefined) return ofStatus(answer.status)
  if (!HttpClientError.isHttpClientError(error)) return undefined
  return error._tag === "RequestError" && error.reason === "Transport" ? undefined : "ignored"
}

/**
 * What an attempt says of the dependency: 5xx (but not 501 and 505), transport errors and timeouts of our own are failures;
 * 408, 429, interruption, our own rejections and requests that could not be built say nothing.
 *
 * @internal
 */
export const outcomeOf = (exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (exit._tag === "Success") return ofStatus((exit.value as Answer).status)
  return Option.flatMapNullable(Cause.failureOption(exit.cause), ofError).pipe(Option.getOrElse(() => classify(exit)))
}

/** When a server wants to be asked again; `"never"` where it wants no retry. @internal */
export type Asked = Duration.Duration | "never"

/** The wait that an answer asks for: `Retry-After`, or gRPC's push-back, whose negative values mean no retry. @internal */
export const askedBy = ({ headers }: Answer, time: number): Asked | undefined => {
  const after = parseRetryAfter(headers, time)
  if (Option.isSome(after)) return after.value
  const pushback = headers["grpc-retry-pushback-ms"]?.trim()
  if (pushback === undefined) return undefined
  return /^\d{1,12}$/.test(pushback) ? Duration.millis(Number(pushback)) : "never"
}
