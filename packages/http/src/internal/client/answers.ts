import type { Outcome } from "@effect-resilience/core"
import { classify } from "@effect-resilience/core"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as ClientRequest from "@effect/platform/HttpClientRequest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import { parseRetryAfter } from "../retryAfter.js"
import type { Target } from "./outgoing.js"
import { targetOf } from "./outgoing.js"

/*
 * What an answer says: whether the request may have done something, whether it is worth another attempt, and whether the
 * dependency works.
 */

/** What is read of a response. @internal */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  /** Whether another server gave it, to which a redirect led. */
  readonly isOfAnother?: boolean
}

/** Methods that may be sent twice (RFC 9110, 9.2.2, and QUERY). @internal */
export const idempotentMethods: ReadonlyArray<string> = ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PUT", "DELETE"]

/** Statuses that may pass. @internal */
export const retryableStatuses: ReadonlyArray<number> = [408, 425, 429, 500, 502, 503, 504]

/** Codes of a call of the system that did not bring a connection about. */
const unreachedCodes = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN"
])

/** Codes of certificates that do not fit: the next attempt sees the same. */
const isCertificate = (code: string): boolean =>
  /CERT|^ERR_TLS_|^UNABLE_TO_|^DEPTH_ZERO_|HOSTNAME_MISMATCH/.test(code) || code === "ERR_SSL_WRONG_VERSION_NUMBER"

/** An error and what caused it, from the outside in. */
const causesOf = (error: unknown): ReadonlyArray<object> => {
  const causes: Array<object> = []
  let one = error
  for (let depth = 0; depth < 6 && Predicate.isObject(one); depth++) {
    causes.push(one)
    one = Predicate.hasProperty(one, "cause") ? one.cause : undefined
  }
  return causes
}

const textOf = (error: object, field: "code" | "name" | "message"): string => {
  const value: unknown = (error as Readonly<Record<string, unknown>>)[field]
  return Predicate.isString(value) ? value : ""
}

/** The response that an error is about, where a filter of statuses made it. */
const answerOf = (error: unknown): Answer | undefined =>
  HttpClientError.isHttpClientError(error) && error._tag === "ResponseError" && error.reason === "StatusCode"
    ? error.response
    : undefined

/** The answer of an attempt, as value or as error. @internal */
export const answerOfExit = (exit: Exit.Exit<Answer, unknown>): Answer | undefined =>
  exit._tag === "Success" ? exit.value : answerOf(Cause.squash(exit.cause))

/** To whom a connection did not come to stand; `undefined` where it is not said that it did not. */
const unconnected = (error: object, target: Target): "target" | "another" | undefined => {
  if (Predicate.hasProperty(error, "errors") && Array.isArray(error.errors) && error.errors.length > 0) {
    const of = error.errors.map((one) => Predicate.isObject(one) ? unconnected(one, target) : undefined)
    return of.every((one) => one === of[0]) ? of[0] : undefined
  }
  const { hostname, port } = target
  const code = textOf(error, "code")
  if (code === "UND_ERR_CONNECT_TIMEOUT") return "target"
  const { address, hostname: looked, port: at, syscall } = error as Readonly<Record<string, unknown>>
  if (!unreachedCodes.has(code) || (syscall !== "getaddrinfo" && syscall !== "connect")) return undefined
  if (syscall === "getaddrinfo") return looked === hostname ? "target" : "another"
  const isNumeric = hostname.startsWith("[") || /^[\d.]+$/.test(hostname)
  return at === port && (!isNumeric || address === hostname.replace(/^\[|\]$/g, "")) ? "target" : "another"
}

/** How a socket's own errors are called. What stands around it, as `fetch` does, throws others. */
const ownNames = ["Error", "AggregateError", "ConnectTimeoutError"]

/** What was sent, and what becomes of its redirects where `fetch` sends it. @internal */
export interface Sent {
  readonly request: ClientRequest.HttpClientRequest
  readonly redirect: string | undefined
}

/**
 * Whether the server cannot have seen the request. Who follows redirects by himself may have been answered before he failed
 * to connect, and `fetch` does unless it is told not to: then nobody knows.
 */
const isUnreached = (error: HttpClientError.RequestError, { redirect, request }: Sent): boolean => {
  const target = targetOf(request)
  const failed = targetOf(error.request)
  if (target === undefined || failed?.href !== target.href) return false
  const causes = causesOf(error.cause)
  const isSingle = redirect === "manual" || redirect === "error"
  const seen = isSingle ? causes : redirect === undefined ? causes.slice(0, 1) : []
  return seen.some((cause) =>
    (isSingle || ownNames.includes(textOf(cause, "name"))) &&
    (textOf(cause, "message").includes("NGHTTP2_REFUSED_STREAM") || unconnected(cause, target) === "target")
  )
}

/**
 * Whether a failed attempt may be made again: `"unreached"` whatever the request was, `"unknown"` where it does no harm,
 * `"final"` never.
 *
 * @internal
 */
export const fate = (error: unknown, sent?: Sent): "unreached" | "unknown" | "final" => {
  if (Predicate.isTagged(error, "TimeoutExceededError")) return "unknown"
  if (!HttpClientError.isHttpClientError(error) || error._tag !== "RequestError" || error.reason !== "Transport") {
    return "final"
  }
  if (Predicate.hasProperty(error, "retryable") && error.retryable === false) return "final"
  if (causesOf(error.cause).some((cause) => isCertificate(textOf(cause, "code")))) return "final"
  return sent !== undefined && isUnreached(error, sent) ? "unreached" : "unknown"
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

/** Whether another server, or a proxy, could not be connected to. */
const isOfAnother = (error: HttpClientError.RequestError): boolean => {
  const target = targetOf(error.request)
  return target !== undefined && causesOf(error.cause).some((cause) => unconnected(cause, target) === "another")
}

const ofError = (error: unknown): Outcome | undefined => {
  const answer = answerOf(error)
  if (answer !== undefined) return ofStatus(answer.status)
  if (!HttpClientError.isHttpClientError(error)) return undefined
  return error._tag === "RequestError" && error.reason === "Transport" && !isOfAnother(error) ? undefined : "ignored"
}

/**
 * What an attempt says of the dependency: 5xx (but not 501 and 505), transport errors and timeouts of our own are failures;
 * 408, 429, interruption, our own rejections, requests that could not be built, and the failures of another server to which
 * a redirect led say nothing.
 *
 * @internal
 */
export const outcomeOf = (exit: Exit.Exit<unknown, unknown>): Outcome => {
  if (exit._tag === "Success") {
    const { isOfAnother = false, status } = exit.value as Answer
    return isOfAnother ? "success" : ofStatus(status)
  }
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
