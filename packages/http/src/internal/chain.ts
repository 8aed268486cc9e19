import { Timeout } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { ClientIp } from "../ClientIp.js"
import { Drain } from "../Drain.js"
import type { HttpResilience } from "../HttpResilience.js"
import type { Step } from "./engine.js"
import { Engine } from "./engine.js"
import { callerTimeout, timeoutHeaders } from "./intake.js"
import type { Resolved } from "./options.js"
import { overdue } from "./overdue.js"
import * as parts from "./parts.js"
import type { Chain } from "./platform.js"
import type { RequestInfo } from "./request.js"
import { policySite } from "./site.js"
import { substitutesOf } from "./substitutes.js"

const timeoutOf = (part: HttpResilience.DeadlineOptions | false) => {
  if (part === false) return () => undefined
  const names = (part.headers ?? timeoutHeaders).map((name) => name.toLowerCase())
  return (request: RequestInfo) => callerTimeout(request.headers, names)
}

const isDeadlineDry = ({ deadline }: Resolved): boolean => deadline !== false && deadline.dryRun === true

/** In a dry run nobody has a deadline, and whose was over on arrival is counted: wherever a policy stands, it knows that. */
const enforcedTimeoutOf = (name: string, resolved: Resolved) => {
  const limitOf = timeoutOf(resolved.deadline)
  if (!isDeadlineDry(resolved)) return limitOf
  const { count } = overdue("Deadline", name, limitOf)
  return (request: RequestInfo) => {
    if (limitOf(request) === 0) count()
    return undefined
  }
}

/** How long the handler of a request has that came in time. */
const remainingOf = (resolved: Resolved) => {
  const limitOf = timeoutOf(resolved.deadline)
  return (request: RequestInfo) => limitOf(request) || undefined
}

/** Who a client is where nothing else is said: its address. */
const keyOf = (rule: ClientIp.Rule | undefined) => ClientIp.keyOf(rule ?? ClientIp.fromSocket)

/** A part that has fair lines has a key. */
const withKey = <P extends HttpResilience.FairOptions & { readonly fair?: boolean | object | undefined }>(
  part: P,
  rule: ClientIp.Rule | undefined
): P => {
  const { fair = part.key !== undefined, key } = part
  return fair === false ? part : { ...part, fair, key: key ?? keyOf(rule) }
}

/** How a policy is made: what decides, and around it what only has a place where a handler is wrapped. @internal */
export interface Plan {
  /** Where its policy was made. */
  readonly site: string
  readonly engine: Effect.Effect<Engine, never, Scope.Scope>
  readonly around: (engine: Engine) => Effect.Effect<Chain, never, Scope.Scope>
}

/** With instances of its own. @internal */
export const planOf = (options: HttpResilience.Options, resolved: Resolved): Plan => ({
  site: policySite(),
  engine: engineOf(options.name, resolved),
  around: (engine) => around(options.name, resolved, engine)
})

/** What is left of a chain where no handler is wrapped. @internal */
export const admissionOf = (name: string, { clientIp, detail, render }: Resolved, engine: Engine): Chain => ({
  name,
  engine,
  timeout: undefined,
  overdue: [],
  timeoutLook: { detail },
  clientIp,
  render,
  substitutes: []
})

const engineOf = (name: string, resolved: Resolved): Plan["engine"] =>
  Effect.gen(function*() {
    const { detail } = resolved
    const drain = Option.getOrUndefined(yield* Effect.serviceOption(Drain))
    const longLived = resolved.longLived === false
      ? undefined
      : yield* parts.longLived(name, withKey(resolved.longLived, resolved.clientIp), detail)
    const bulkhead = longLived === undefined ? parts.bulkhead : parts.shortLived
    const wanted = [
      resolved.loadShedder !== false && parts.loadShedder(name, resolved.loadShedder, detail),
      resolved.rateLimit !== false &&
      parts.rateLimiter(
        name,
        {
          ...resolved.rateLimit,
          key: resolved.rateLimit.key ?? keyOf(resolved.clientIp),
          isTold: resolved.rateLimitHeaders.length > 0
        },
        detail
      ),
      resolved.backpressure !== false && parts.backpressure(name, resolved.backpressure, detail),
      longLived !== undefined && Effect.succeed(longLived),
      resolved.bulkhead !== false && bulkhead(name, withKey(resolved.bulkhead, resolved.clientIp), detail),
      resolved.adaptiveConcurrency !== false &&
      parts.adaptiveConcurrency(name, withKey(resolved.adaptiveConcurrency, resolved.clientIp), detail),
      resolved.circuitBreaker !== false && parts.circuitBreaker(name, resolved.circuitBreaker, detail)
    ].filter((step) => step !== false)
    const steps: ReadonlyArray<Step> = yield* Effect.all(wanted)
    return new Engine({
      name,
      steps,
      isExcluded: resolved.isExcluded,
      isDraining: () => drain?.isRefusing() ?? false,
      isLongLived: resolved.isLongLived,
      longLived,
      holdsThatStay: longLived === undefined ? steps.find(({ pattern }) => pattern === "Bulkhead") : undefined,
      priorityOf: resolved.priorityOf,
      timeoutOf: enforcedTimeoutOf(name, resolved),
      forms: resolved.rateLimitHeaders,
      detail
    })
  })

const around = (name: string, resolved: Resolved, engine: Engine): Effect.Effect<Chain, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { detail } = resolved
    const { dryRun, duration = "30 seconds", ...timeoutPart } = resolved.timeout === false ? {} : resolved.timeout
    const timeout = resolved.timeout === false || dryRun === true
      ? undefined
      : yield* Timeout.make({ duration, disconnect: true, name })
    const limit = Duration.toMillis(duration)
    const watched = [
      dryRun === true && overdue("Timeout", name, () => limit),
      isDeadlineDry(resolved) && overdue("Deadline", name, remainingOf(resolved))
    ].filter((one) => one !== false)
    const substitutes = yield* substitutesOf(
      name,
      resolved,
      (request) => !resolved.isExcluded(request.path) && !resolved.isLongLived(request)
    )
    return {
      name,
      engine,
      timeout,
      overdue: watched,
      clientIp: resolved.clientIp,
      timeoutLook: { ...timeoutPart, detail } as Chain["timeoutLook"],
      render: resolved.render,
      substitutes
    }
  })
