import type { Outcome, Timeout } from "@effect-resilience/core"
import { Deadline, Priority, ResilienceError } from "@effect-resilience/core"
import * as App from "@effect/platform/HttpApp"
import { RequestError } from "@effect/platform/HttpServerError"
import { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Respondable from "@effect/platform/HttpServerRespondable"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as RuntimeFlags from "effect/RuntimeFlags"
import type * as Scope from "effect/Scope"
import { ClientIp } from "../ClientIp.js"
import type { HttpFallback } from "../HttpFallback.js"
import type { GatewayTimeout, ServiceUnavailable, TooManyRequests } from "../HttpProblem.js"
import { RateLimitDecision } from "../RateLimitDecision.js"
import { discard } from "./discard.js"
import type { Admit, Decision, Engine, Reject, Restore } from "./engine.js"
import { noHeaders } from "./engine.js"
import { isEventStream, mayUpgrade, watched, withUpgrade } from "./longLived.js"
import type { Overdue } from "./overdue.js"
import { watchTime } from "./overdue.js"
import { pathOf } from "./paths.js"
import { notedQuotas, noteQuotas } from "./quotas.js"
import type { Look } from "./rejection.js"
import { bodyOf, typed } from "./rejection.js"
import type { RequestInfo } from "./request.js"
import { current, servedIn } from "./served.js"
import type { Substitute } from "./substitute.js"
import { failureOf, insteadOf, rejected } from "./substitute.js"
import type { Sourced } from "./turnedAway.js"
import { markTurnedAway, wasTurnedAway } from "./turnedAway.js"

/*
 * The one file that knows how a request lives in `@effect/platform`: the middleware around it is uninterruptible, its
 * response is known in a pre-response handler and nowhere before, and what it holds is given back by the finalizer of its
 * scope, which comes when the body is sent.
 */

/** @internal */
export interface Chain {
  readonly name: string
  readonly engine: Engine
  readonly timeout: Timeout.Service | undefined
  readonly timeoutLook: Look
  /** The limits of time that are in a dry run. */
  readonly overdue: ReadonlyArray<Overdue>
  readonly clientIp: ClientIp.Rule | undefined
  readonly render: ((rejection: Reject, request: HttpServerRequest) => ServerResponse.HttpServerResponse) | undefined
  /** Other answers than rejections and failures; the first that has one counts. */
  readonly substitutes: ReadonlyArray<Substitute>
}

/** What a decision is made from. Most is not asked for with most requests. @internal */
export const infoOf = (request: HttpServerRequest): RequestInfo => new Info(request)

class Info implements RequestInfo {
  private found: string | undefined
  constructor(private readonly request: HttpServerRequest) {}
  get method() {
    return this.request.method
  }
  get path() {
    return this.found ??= pathOf(this.request)
  }
  get headers() {
    return this.request.headers
  }
  get remoteAddress() {
    return this.request.remoteAddress
  }
}

/** More than this is not read for one who is turned away. */
const largestUnread = 64 * 1024

/** Whether the connection has to go, or the client would go on sending what nobody reads. @internal */
export const hasUnreadBody = (
  { headers, source }: { readonly headers: RequestInfo["headers"]; readonly source: unknown }
): boolean => {
  if (!Predicate.hasProperty(source, "httpVersionMajor") || source.httpVersionMajor !== 1) return false
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > largestUnread
}

/** @internal */
export const respond = (chain: Chain, rejection: Reject, request: HttpServerRequest) => {
  const response = chain.render?.(rejection, request) ?? ServerResponse.text(bodyOf(rejection), {
    status: rejection.status,
    contentType: "application/problem+json",
    headers: rejection.headers
  })
  return closing(request, response)
}

const closing = (request: HttpServerRequest, response: ServerResponse.HttpServerResponse) =>
  hasUnreadBody(request) ? ServerResponse.setHeader(response, "connection", "close") : response

/** What a limiter says stands on every response. */
const quotasOf = (headers: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => /^(x-)?ratelimit/.test(name)))

/** The fields of a decision. Where policies around have limiters, too, or those inside of it, they tell of all. */
const fieldsOf = (
  chain: Chain,
  request: HttpServerRequest,
  decision: Decision
): Effect.Effect<Readonly<Record<string, string>>> => {
  const { headers, quotas } = decision
  const all = notedQuotas(request)
  if (all.length === 0 || all === quotas) return Effect.succeed(headers)
  return Effect.map(chain.engine.quotaHeaders(all), (fields) => ({ ...headers, ...fields }))
}

const isDecided = (decision: Effect.Effect<Decision>): decision is Exit.Success<Decision, never> =>
  Exit.isExit(decision) && decision._tag === "Success"

/** Decides about a request, uninterruptible but for its waits. An exit where it is let in at once. */
const decide = (
  chain: Chain,
  request: HttpServerRequest,
  fiber: Fiber.RuntimeFiber<unknown, unknown>
): Effect.Effect<Decision> => {
  const decided = chain.engine.decideIn(fiber, infoOf(request), Effect.interruptible)
  if (isDecided(decided) && decided.value.quotas.length === 0) return decided
  return Effect.flatMap(decided, (decision) => {
    noteQuotas(request, decision.quotas)
    return decision._tag === "Admit"
      ? Effect.succeed(decision)
      : Effect.map(fieldsOf(chain, request, decision), (headers): Decision => ({ ...decision, headers }))
  })
}

/** The answer to a request that was turned away: a substitute, or what it is told. While a server drains it is told. */
const turnAway = (chain: Chain, rejection: Reject, request: HttpServerRequest) =>
  Effect.map(answerTo(chain, rejection, request), (response) => {
    markTurnedAway(request, response.status)
    return response
  })

const answerTo = (chain: Chain, rejection: Reject, request: HttpServerRequest) => {
  const answer = () => respond(chain, rejection, request)
  if (rejection.error === undefined) return Effect.sync(answer)
  return Effect.map(
    insteadOf(chain.substitutes, request, rejected(rejection.error, rejection.status)),
    Option.match({
      onNone: answer,
      onSome: (response) => closing(request, ServerResponse.setHeaders(response, quotasOf(rejection.headers)))
    })
  )
}

/** What an answer says of how the service does. @internal */
export const outcomeOf = (request: Sourced, status: number): Outcome =>
  status === 499 || wasTurnedAway(request, status) ? "ignored" : status >= 500 ? "failure" : "success"

/** What is found out about a request on its way, before its response is known. */
interface Course {
  /** The chain itself ended it. */
  ended: HttpFallback.Failure | undefined
  /** What the app failed with. */
  cause: Cause.Cause<unknown>
  /** Its response is its own, and no failure. */
  isGood: boolean
  /** There is no room for another upgrade. */
  refused: Reject | undefined
  /** It is a socket now: there is no response to replace. */
  isUpgraded: boolean
}

/** A substitute for a response that went wrong, or the response. */
const substituted = (
  { substitutes }: Chain,
  request: HttpServerRequest,
  course: Course,
  response: ServerResponse.HttpServerResponse
): Effect.Effect<ServerResponse.HttpServerResponse> => {
  const failure = course.ended ?? Option.getOrUndefined(failureOf(response, course.cause))
  course.isGood = failure === undefined
  return failure === undefined
    ? Effect.succeed(response)
    : Effect.flatMap(
      insteadOf(substitutes, request, failure),
      Option.match({ onNone: () => Effect.succeed(response), onSome: (other) => Effect.as(discard(response), other) })
    )
}

/** Shows substitutes a good response, for them to keep. */
const observed = ({ substitutes }: Chain, course: Course): App.PreResponseHandler => (request, response) =>
  course.isGood
    ? Effect.as(
      Effect.forEach(substitutes, ({ observe }) => observe?.(request, response) ?? Effect.void, { discard: true }),
      response
    )
    : Effect.succeed(response)

/** Has the request hold what it was given until its response is sent. Returns its course, to be filled in. */
const holdUntilSent = (
  chain: Chain,
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  request: HttpServerRequest,
  scope: Scope.Scope,
  admit: Admit
) => {
  const course: Course = { ended: undefined, cause: Cause.empty, isGood: false, refused: undefined, isUpgraded: false }
  const answered = (answer: ServerResponse.HttpServerResponse) =>
    isEventStream(answer)
      ? Effect.flatMap(admit.stays, (rejection) =>
        rejection === undefined ? settled(answer) : Effect.zipLeft(
          Effect.zipWith(
            turnAway(chain, rejection, request),
            fieldsOf(chain, request, admit),
            ServerResponse.setHeaders
          ),
          Effect.zipRight(discard(answer), admit.answered("ignored"))
        ))
      : settled(answer)
  const settled = (answer: ServerResponse.HttpServerResponse) => {
    // The outcome is that of the answer there was, whatever is sent instead.
    const told = admit.answered(outcomeOf(request, answer.status))
    const final = chain.substitutes.length === 0 || course.isUpgraded
      ? Effect.as(told, answer)
      : Effect.zipRight(told, substituted(chain, request, course, answer))
    // Where the chain ended the app, what a limiter inside of it had to say went with it.
    return admit.headers === noHeaders && course.ended === undefined
      ? final
      : Effect.zipWith(final, fieldsOf(chain, request, admit), ServerResponse.setHeaders)
  }
  return Effect.as(servedIn(fiber, request, scope, { answered, sent: admit.sent }), course)
}

const isOurs = (chain: Chain, admit: Admit, error: unknown): error is ResilienceError =>
  (Predicate.isTagged(error, "TimeoutExceededError") && Predicate.hasProperty(error, "instance") &&
    error.instance === chain.name && chain.timeout !== undefined) ||
  (Predicate.isTagged(error, "DeadlineExceededError") && admit.deadline !== undefined)

/** Has an upgrade stay, or fail where there is no room: with what answers by itself, where nobody handles it. */
const stayUpgraded = (
  chain: Chain,
  request: HttpServerRequest,
  admit: Admit,
  course: Course
): Effect.Effect<void, RequestError> =>
  Effect.flatMap(admit.stays, (rejection) => {
    course.refused = rejection
    course.isUpgraded = rejection === undefined
    if (rejection === undefined) return Effect.void
    const error = new RequestError({ request, reason: "Transport", cause: rejection.error })
    return Effect.fail(Object.assign(error, { [Respondable.symbol]: () => turnAway(chain, rejection, request) }))
  })

/** The time that the policy and the caller give. */
const within = <A, E, R>(
  timeout: Timeout.Service | undefined,
  deadline: Deadline.Instant | undefined,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | ResilienceError, R> => {
  const timed = timeout === undefined ? effect : timeout.withTimeout(effect)
  return deadline === undefined ? timed : Deadline.at(deadline)(Effect.disconnect(timed))
}

/** What handlers may ask for, beside what they could before. */
const findings = <R>(
  { clientIp }: Chain,
  request: HttpServerRequest,
  admit: Admit,
  context: Context.Context<R>
): Context.Context<R> => {
  const found = new Map(context.unsafeMap)
  if (!admit.isExcluded) found.set(Priority.key, admit.priority)
  // Where nothing is said, what a policy around this one found is as good as the socket, or better.
  const rule = clientIp ?? (found.has(ClientIp.key) ? undefined : ClientIp.fromSocket)
  if (rule !== undefined) found.set(ClientIp.key, rule(infoOf(request)))
  if (admit.decision !== undefined) found.set(RateLimitDecision.key, Option.some(admit.decision))
  return Context.unsafeMake<R>(found)
}

/** Tells the app what was found. In a fiber that a timeout has forked for it the context need not be put back. */
const withFindings = <E, R>(
  chain: Chain,
  request: HttpServerRequest,
  admit: Admit,
  app: App.Default<E, R>,
  isForked = false
): App.Default<E, R> => {
  const tellIn = <R1>(context: Context.Context<R1>) => findings(chain, request, admit, context)
  return isForked
    ? Effect.zipRight(FiberRef.update(FiberRef.currentContext, tellIn), app)
    : Effect.mapInputContext(app, (context: Context.Context<R | HttpServerRequest>) => tellIn(context))
}

/** Runs the app with the time it has. A handler that cannot be interrupted is left behind. */
const withLimits = <E, R>(
  chain: Chain,
  request: HttpServerRequest,
  admit: Admit,
  course: Course,
  app: App.Default<E, R>
): App.Default<E, R> => {
  const { deadline } = admit
  const { timeout } = chain
  const isTimed = timeout !== undefined || deadline !== undefined
  const isUpgrade = mayUpgrade(request.headers)
  const told = withFindings(chain, request, admit, app, timeout !== undefined && !isUpgrade)
  const watched = isUpgrade ? told : watchTime(chain.overdue, infoOf(request), told)
  if (!isTimed && !isUpgrade) return watched
  const bounded: App.Default<E | ResilienceError, R> = isUpgrade
    ? withUpgrade(watched, {
      request,
      within: isTimed ? (answer) => within(timeout, deadline, answer) : undefined,
      onUpgrade: stayUpgraded(chain, request, admit, course)
    })
    : within(timeout, deadline, watched)
  return Effect.catchAll(isTimed ? Effect.interruptible(bounded) : bounded, (error) => {
    if (course.refused !== undefined && Predicate.isTagged(error, "RequestError")) {
      return turnAway(chain, course.refused, request)
    }
    if (!isOurs(chain, admit, error)) return Effect.fail(error as E)
    return Effect.map(chain.engine.turnDown(error, chain.timeoutLook), (rejection) => {
      course.ended = rejected(error, rejection.status)
      const response = respond(chain, rejection, request)
      if (ResilienceError.isRejection(error)) markTurnedAway(request, response.status)
      return response
    })
  })
}

/**
 * Remembers what an app fails with, where somebody asks. Its own pre-response handlers have the last word on its response:
 * they may say that it is private, and stand in line when the app has ended.
 */
const withSubstitutes = <A, E, R>(chain: Chain, course: Course, effect: Effect.Effect<A, E, R>) =>
  chain.substitutes.length === 0 ? effect : Effect.onExit(effect, (exit) => {
    if (exit._tag === "Failure") course.cause = exit.cause
    return App.appendPreResponseHandler(observed(chain, course))
  })

/** The chain around an app. @internal */
export const protect = <E, R>(chain: Chain, app: App.Default<E, R>): App.Default<E, R> =>
  Effect.withFiberRuntime<ServerResponse.HttpServerResponse, E, R | HttpServerRequest>((fiber, status) => {
    const { request, scope } = current(fiber)
    const goOn = (decision: Decision, restore: Restore): App.Default<E, R> => {
      if (decision._tag === "Reject") return turnAway(chain, decision, request)
      if (decision.isExcluded) return restore(withFindings(chain, request, decision, app))
      return Effect.flatMap(
        holdUntilSent(chain, fiber, request, scope, decision),
        (course) => withSubstitutes(chain, course, restore(withLimits(chain, request, decision, course, app)))
      )
    }
    /** Must begin where nothing interrupts: who is let in at once holds something already. */
    const guarded = (restore: Restore) => {
      const decided = decide(chain, request, fiber)
      return isDecided(decided)
        ? goOn(decided.value, restore)
        : Effect.flatMap(decided, (decision) => goOn(decision, restore))
    }
    // What is around a router is uninterruptible already; to mask it again would cost more than to look.
    return RuntimeFlags.interruption(status.runtimeFlags)
      ? Effect.uninterruptible(Effect.suspend(() => guarded(Effect.interruptible)))
      : guarded((effect) => effect)
  })

/**
 * Tells the handler that comes after, in the same fiber, what it may ask for: there is nothing to wrap. A deadline is told
 * too, and ends what heeds one; but none where there may be an upgrade, for a socket has none.
 */
const tell = (chain: Chain, request: HttpServerRequest, admit: Admit, course: Course): Effect.Effect<void> =>
  FiberRef.update(FiberRef.currentContext, (context) => {
    const found = findings(chain, request, admit, context)
    if (mayUpgrade(request.headers)) {
      return Context.add(found, HttpServerRequest, watched(request, stayUpgraded(chain, request, admit, course)))
    }
    return admit.deadline === undefined ? found : Context.add(found, Deadline, admit.deadline)
  })

/** The chain before a handler of an `HttpApi`: a rejection is a typed failure. @internal */
export const admitTyped = (
  chain: Chain
): Effect.Effect<Admit, TooManyRequests | ServiceUnavailable | GatewayTimeout, HttpServerRequest> =>
  Effect.withFiberRuntime((fiber) => {
    const { request, scope } = current(fiber)
    return Effect.uninterruptible(
      Effect.flatMap(Effect.suspend(() => decide(chain, request, fiber)), (decision) => {
        if (decision._tag === "Admit") {
          return Effect.flatMap(
            holdUntilSent(chain, fiber, request, scope, decision),
            (course) => Effect.as(tell(chain, request, decision, course), decision)
          )
        }
        const failure = typed(decision)
        markTurnedAway(request, failure.status)
        const headers = { ...decision.headers, ...(hasUnreadBody(request) ? { connection: "close" } : {}) }
        return Effect.zipRight(
          App.appendPreResponseHandler((_, response) => Effect.succeed(ServerResponse.setHeaders(response, headers))),
          Effect.fail(failure)
        )
      })
    )
  })
