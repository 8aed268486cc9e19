import type { ResilienceError } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { GatewayTimeout, ServiceUnavailable, TooManyRequests } from "../HttpProblem.js"
import { retryAfterSeconds } from "./retryAfter.js"

/** How the rejections of one pattern look. @internal */
export interface Look {
  readonly status?: number | undefined
  readonly message?: string | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly retryAfter?:
    | "jittered"
    | Duration.Duration
    | ((error: ResilienceError) => Duration.DurationInput)
    | undefined
  readonly detail: "minimal" | "full"
}

/** A problem document, before it is written. @internal */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail?: string
  readonly instance?: string
  readonly pattern?: string
  readonly reason?: string
  readonly "violated-policies"?: ReadonlyArray<string>
}

/** @internal */
export interface Rejection {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly problem: Problem
}

const registered = (name: string) => `https://iana.org/assignments/http-problem-types#${name}`

const quotaExceeded = {
  status: 429,
  type: registered("quota-exceeded"),
  title: "Request cannot be satisfied as assigned quota has been exceeded"
}
const reducedCapacity = {
  status: 503,
  type: registered("temporary-reduced-capacity"),
  title: "Request cannot be satisfied due to temporary server capacity constraints"
}
const unavailable = { status: 503, type: "about:blank", title: "Service Unavailable" }
const timedOut = { status: 504, type: "about:blank", title: "Gateway Timeout" }

/** Whose fault a limiter's refusal is: the client's, or ours. */
const oursReasons: ReadonlySet<string> = new Set(["TooManyKeys", "StoreUnavailable", "QueueFull"])

/** What a rejection is called, by its kind. */
interface Kind {
  readonly status: number
  readonly type: string
  readonly title: string
}

/** The status of an error: 429 for the client's fault, 503 for ours, 504 where there was no time. */
const kindOf = (error: ResilienceError): Kind => {
  switch (error._tag) {
    case "RateLimitExceededError":
      if (error.reason === "DeadlineTooClose") return timedOut
      return oursReasons.has(error.reason) ? reducedCapacity : quotaExceeded
    case "BackpressureError":
    case "BulkheadFullError":
    case "ConcurrencyLimitError":
      return error.reason === "DeadlineTooClose" ? timedOut : reducedCapacity
    case "LoadShedError":
      return reducedCapacity
    case "DeadlineExceededError":
    case "TimeoutExceededError":
      return timedOut
    default:
      return unavailable
  }
}

/** What is waited for when nobody knows: long enough to let the service breathe. */
const breather = Duration.seconds(1)

const waitOf = (error: ResilienceError, look: Look, status: number): Duration.Duration | undefined => {
  const known = "retryAfter" in error ? Option.getOrUndefined(error.retryAfter) : undefined
  if (typeof look.retryAfter === "function") return Duration.decode(look.retryAfter(error))
  const floor = Duration.isDuration(look.retryAfter) ? look.retryAfter : undefined
  const wait = known ?? (status === 503 || status === 429 ? breather : undefined)
  return wait !== undefined && floor !== undefined ? Duration.max(wait, floor) : wait ?? floor
}

/**
 * What a client is told of an error. The document says no more than the status does, unless details are asked for: what
 * runs out where is nobody's business.
 *
 * @internal
 */
export const rejectionOf = (
  error: ResilienceError,
  look: Look,
  at: { readonly random: number; readonly traceId: string | undefined },
  kind: Kind = kindOf(error)
): Rejection => {
  const status = look.status ?? kind.status
  const wait = waitOf(error, look, status)
  const isKnown = wait !== undefined && Duration.isFinite(wait)
  const full = look.detail === "full"
  return {
    status,
    headers: {
      "cache-control": "no-store",
      ...(isKnown ? { "retry-after": String(retryAfterSeconds(wait, at.random)) } : {}),
      ...look.headers
    },
    problem: {
      type: kind.type,
      title: look.message ?? kind.title,
      status,
      ...(full ? { detail: error.message, pattern: error.pattern } : {}),
      ...(full && "reason" in error ? { reason: error.reason } : {}),
      ...(error._tag === "RateLimitExceededError" && status === 429 ? { "violated-policies": [error.instance] } : {}),
      ...(at.traceId === undefined ? {} : { instance: urn(at.traceId) })
    }
  }
}

/**
 * The same of an error that came out of a handler. Whom a limiter in there counts is not known: it may be one of calls
 * that go out, and a client that is told 429 would look for the fault in itself.
 *
 * @internal
 */
export const unhandledRejectionOf = (error: ResilienceError, random: number): Rejection => {
  const kind = kindOf(error)
  return rejectionOf(
    error,
    { detail: "minimal" },
    { random, traceId: undefined },
    kind === quotaExceeded ? reducedCapacity : kind
  )
}

/** What a new request is told while the server goes down. @internal */
export const goingDown = (retryAfter: Duration.Duration, random: number): Rejection => ({
  status: 503,
  headers: {
    "cache-control": "no-store",
    "retry-after": String(retryAfterSeconds(retryAfter, random))
  },
  problem: { ...unavailable }
})

/** What a request is told that comes before there is a handler. @internal */
export const comingUp: Rejection = goingDown(Duration.seconds(1), 0)

/** A trace as a name of the occurrence, which support can look up. */
const urn = (traceId: string): string =>
  /^[0-9a-f]{32}$/.test(traceId)
    ? `urn:uuid:${traceId.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")}`
    : `urn:trace:${encodeURIComponent(traceId)}`

/** The typed failure that says the same. @internal */
export const typed = ({ problem }: Rejection): TooManyRequests | ServiceUnavailable | GatewayTimeout => {
  if (problem.status === 429) return new TooManyRequests({ ...problem, status: 429 })
  if (problem.status === 504) return new GatewayTimeout({ ...problem, status: 504 })
  return new ServiceUnavailable({ ...problem, status: 503 })
}

/** The body: with the tag of the typed failure, so that a client derived from an `HttpApi` knows it. @internal */
export const bodyOf = ({ problem }: Rejection): string => {
  const tag = { 429: "TooManyRequests", 503: "ServiceUnavailable", 504: "GatewayTimeout" }[problem.status]
  return JSON.stringify(tag === undefined ? problem : { _tag: tag, ...problem })
}
