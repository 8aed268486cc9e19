import type {
  BulkheadFullError,
  CircuitOpenError,
  RateLimitExceededError,
  TimeoutExceededError
} from "@effect-resilience/core"
import { Bulkhead, CircuitBreaker, Deadline, RateLimiter, Retry, Timeout } from "@effect-resilience/core"
import { toNanos } from "@effect-resilience/core/extension"
import { RequestInit } from "@effect/platform/FetchHttpClient"
import type * as ClientRequest from "@effect/platform/HttpClientRequest"
import type { HttpClientResponse } from "@effect/platform/HttpClientResponse"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { Answer, Asked } from "./answers.js"
import { answerOfExit, askedBy, fate, mayPass, outcomeOf } from "./answers.js"
import { HeldResponse, Hold } from "./held.js"
import type { Checked } from "./options.js"
import type { Target } from "./outgoing.js"
import { idempotencyHeader, isOneOf, isReplayable, propagated, targetOf, withIdempotencyKey } from "./outgoing.js"
import type { Override } from "./override.js"
import { CurrentOverride } from "./override.js"
import { openPacer, toldBy } from "./pace.js"

/*
 * The chain around the requests of a client, outermost first: total time, retry with its budget, and for each authority
 * circuit breaker, pace, rate limit, bulkhead, time of an attempt.
 *
 * - The breaker is outside the bulkhead: an open circuit fails at once, and what the bulkhead turns away is no failure of
 *   the dependency.
 * - The bulkhead is inside the retry: a pause holds no permit.
 * - The time of an attempt is innermost: what a request waits for here is not the dependency's time.
 */

/** What the chain adds to the errors of a client. @internal */
export type ChainError = BulkheadFullError | CircuitOpenError | RateLimitExceededError | TimeoutExceededError

/** Sends a request once. The scope aborts it when it is closed, also while its body is read. @internal */
export type Send<E, R> = (
  request: ClientRequest.HttpClientRequest
) => Effect.Effect<HttpClientResponse, E, R | Scope.Scope>

/** @internal */
export interface Chain {
  readonly call: <E, R>(
    request: ClientRequest.HttpClientRequest,
    send: Send<E, R>,
    /** Whether the body can be sent again, where the request does not say. */
    replayable?: boolean
  ) => Effect.Effect<HeldResponse, E | ChainError, R>
  /** What the chain ends with. */
  readonly scope: Scope.Scope
}

type Around = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | ChainError, R>
type ByAuthority = (authority: string) => Around
const nothing: Around = (effect) => effect

/** One logical call: its attempts so far, and what the last of them holds. */
class Call {
  attempts = 0
  hold: Hold | undefined
  constructor(readonly span: Tracer.Span) {}

  readonly abandon = Effect.suspend(() => this.hold?.end(false) ?? Effect.void)
}

/** The keyed form of a pattern is a tag: built here, in the scope of the client. */
const keyed = { maxKeys: 1000, onFull: "admit" } as const

const breakerOf = (checked: Checked): Effect.Effect<ByAuthority, never, Scope.Scope> => {
  const { circuitBreaker, maxAuthorities, name } = checked
  if (circuitBreaker === false) return Effect.succeed(() => nothing)
  const Circuits = CircuitBreaker.Keyed<"circuits">()(name, {
    ...circuitBreaker,
    ...keyed,
    maxKeys: maxAuthorities
  })
  return Effect.map(Layer.build(Circuits.Live), (context) => {
    const circuits = Context.get(context, Circuits)
    return (key) => circuits.withBreakerBy({ key })
  })
}

type Admission = (authority: string) => Effect.Effect<void, ChainError, Scope.Scope>

const permitOf = (checked: Checked): Effect.Effect<Admission, never, Scope.Scope> => {
  const { bulkhead, maxAuthorities, name } = checked
  if (bulkhead === false) return Effect.succeed(() => Effect.void)
  const Pools = Bulkhead.Keyed<"pools">()(name, {
    ...bulkhead,
    ...keyed,
    maxKeys: maxAuthorities
  })
  return Effect.map(Layer.build(Pools.Live), (context) => {
    const pools = Context.get(context, Pools)
    return (key) => pools.acquireBy({ key })
  })
}

const rateLimitOf = ({ maxAuthorities, name, rateLimit }: Checked): Effect.Effect<ByAuthority, never, Scope.Scope> =>
  rateLimit === false ? Effect.succeed(() => nothing) : Effect.map(
    RateLimiter.make({ ...rateLimit, maxKeys: maxAuthorities, name }),
    (limiter) => (key) => (effect) =>
      // Its counts are kept here, so there is no store that could fail.
      Effect.catchIf(
        limiter.withLimitBy({ key })(effect),
        (error): error is Extract<typeof error, { readonly _tag: "RateLimiterStoreError" }> =>
          Predicate.isTagged(error, "RateLimiterStoreError"),
        Effect.die
      )
  )

type Limit = Duration.Duration | false

/** A limit of time, in whose place a call may have another. A client without one has none for the others. */
const timeoutOf = (
  name: string,
  own: Limit
): Effect.Effect<(asked: Limit | undefined) => Around, never, Scope.Scope> =>
  Effect.map(
    Timeout.make({ name, duration: own === false ? Duration.infinity : own }),
    ({ withTimeout, withTimeoutBy }) => (asked = own) =>
      asked === false ? nothing : asked === own ? withTimeout : withTimeoutBy(asked)
  )

/** The three ways of a retry: whatever failed, only what the server has not seen, and none. */
const retriesOf = (checked: Checked, asked: WeakMap<object, Asked>, unreached: WeakSet<object>) => {
  const { name, retry } = checked
  if (retry === false) return Effect.succeed({ safe: nothing, unsafe: nothing })
  const passing = mayPass(new Set(retry.statuses))
  const isRefused = (exit: Exit.Exit<unknown, unknown>): boolean => {
    const answer = answerOfExit(exit as Exit.Exit<Answer, unknown>)
    return answer !== undefined && passing(answer)
  }
  const schedule = Retry.schedule({
    maxAttempts: retry.maxAttempts,
    initialDelay: retry.initialDelay,
    factor: retry.factor,
    maxDelay: retry.maxDelay
  })
  const made = Retry.make({
    name,
    maxAttempts: retry.maxAttempts,
    schedule,
    maxDelay: retry.maxRetryAfter,
    budget: retry.budget,
    classify: (exit) => exit._tag === "Failure" ? outcomeOf(exit) : isRefused(exit) ? "failure" : "success",
    retryOn: (exit) =>
      isRefused(exit) || Option.exists(Cause.failureOption(exit.cause), (error) => fate(error) !== "final"),
    delayFrom: (exit) => {
      const said = exit._tag === "Success" ? exit.value : Cause.squash(exit.cause)
      const wait = Predicate.isObject(said) ? asked.get(said) : undefined
      return wait === undefined ? "default" : wait === "never" ? "stop" : { after: wait }
    },
    onRetry: (exit) =>
      Effect.zipRight(
        exit._tag === "Success" && exit.value instanceof HeldResponse ? exit.value.discard : Effect.void,
        Effect.ignore(
          Effect.zipWith(Effect.currentSpan, Clock.currentTimeNanos, (span, time) => span.event("retry", time))
        )
      )
  })
  return Effect.map(made, (instance): { readonly safe: Around; readonly unsafe: Around } => ({
    safe: instance.withRetry,
    unsafe: instance.withRetryBy({
      retryOn: (error: unknown) => Predicate.isObject(error) && unreached.has(error),
      classify: (exit: Exit.Exit<unknown, unknown>) =>
        exit._tag === "Success" && isRefused(exit) ? "ignored" : outcomeOf(exit) === "failure" ? "ignored" : "success"
    })
  }))
}

/** Up to a tenth later than a server asks, so that not all come back at once. */
const spread = (wait: Asked): Effect.Effect<Asked> =>
  wait === "never" ? Effect.succeed(wait) : Effect.map(Random.next, (random) => Duration.times(wait, 1 + random / 10))

const left = Effect.map(
  Deadline.remaining,
  Option.match({ onNone: () => toNanos(Duration.infinity), onSome: (duration) => toNanos(duration) })
)

/**
 * What `fetch` is told to do with redirects, where anybody says so. Where nobody does, it may be a transport that follows
 * none, or a `FetchHttpClient` that follows them by itself: they look alike.
 */
const redirects = Effect.map(
  Effect.serviceOption(RequestInit),
  (init): string | undefined => Option.getOrUndefined(init)?.redirect
)

/** The chain of a client, for the length of the scope. @internal */
export const openChain = (checked: Checked): Effect.Effect<Chain, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { name, retry } = checked
    const asked = new WeakMap<object, Asked>()
    const total = yield* timeoutOf(name, checked.timeout)
    /** Errors of requests that their server has not seen. */
    const unreached = new WeakSet<object>()
    const retries = yield* retriesOf(checked, asked, unreached)
    const breaker = yield* breakerOf(checked)
    const pacer = checked.heed === undefined ? undefined : yield* openPacer({
      name: `${name}/paced`,
      maxWait: toNanos(checked.heed.maxWait),
      maxReset: checked.heed.maxReset,
      maxKeys: checked.maxAuthorities,
      left
    })
    const rateLimit = yield* rateLimitOf(checked)
    const permit = yield* permitOf(checked)
    const attemptTime = yield* timeoutOf(`${name}/attempt`, checked.attemptTimeout)
    const idle = checked.bodyIdleTimeout === false ? undefined : checked.bodyIdleTimeout
    const methods = new Set(retry === false ? [] : retry.methods)
    const warned = { ofNesting: false, ofRedirect: false }

    /** Attempts inside the attempts of another retry multiply. */
    const warnOfNesting = (asked: Override) =>
      Effect.flatMap(Retry.attempt, (attempt) => {
        if (attempt === 1 || warned.ofNesting || retry === false || retry.maxAttempts === 1 || asked.retry === false) {
          return Effect.void
        }
        warned.ofNesting = true
        return Effect.logWarning(
          `ResilientHttpClient "${name}" retries inside another retry: the attempts multiply. Leave one of them out`
        )
      })

    /** Tells a server that is named, but not through a `fetch` that would tell whoever a redirect leads to. */
    const tell = (
      request: ClientRequest.HttpClientRequest,
      target: Target | undefined,
      redirect: string | undefined
    ): Effect.Effect<ClientRequest.HttpClientRequest> => {
      const { propagate } = checked
      if (propagate === undefined || target === undefined || !isOneOf(propagate.hosts, target)) {
        return Effect.succeed(request)
      }
      if (redirect !== "follow") return propagated(propagate, request)
      if (warned.ofRedirect) return Effect.succeed(request)
      warned.ofRedirect = true
      return Effect.as(
        Effect.logWarning(
          `ResilientHttpClient "${name}": propagate tells ${target.host} nothing, for fetch would take it to wherever ` +
            `a redirect leads. Say { redirect: "manual" }`
        ),
        request
      )
    }

    const listen = (said: object, answer: Answer, target: Target | undefined): Effect.Effect<void> =>
      Effect.flatMap(Clock.currentTimeMillis, (time) => {
        const wait = askedBy(answer, time)
        const isRefusal = answer.status === 429 || answer.status === 503
        const quota = isRefusal && wait !== undefined && wait !== "never"
          ? { remaining: 0, resetAfter: wait }
          : toldBy(answer, time)
        const learned = pacer === undefined || quota === undefined || target === undefined
          ? Effect.void
          : pacer.learn(target.authority, quota)
        // A client that may come back only then is told so by the limit's own field, too.
        const due = wait ??
          (answer.status === 429 && quota !== undefined && quota.remaining < 1 ? quota.resetAfter : undefined)
        if (due === undefined) return learned
        return Effect.zipRight(
          learned,
          Effect.map(spread(due), (spreadOut) => {
            asked.set(said, spreadOut)
          })
        )
      })

    const attempt = <E, R>(
      call: Call,
      request: ClientRequest.HttpClientRequest,
      target: Target | undefined,
      send: Send<E, R>,
      timed: Around,
      redirect: string | undefined
    ): Effect.Effect<HeldResponse, E | ChainError, R> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Hold.make, (hold) => {
          call.hold = hold
          const resend = call.attempts++
          const sent = Scope.extend(Effect.flatMap(tell(request, target, redirect), send), hold.wire) as Effect.Effect<
            HttpClientResponse,
            E,
            R
          >
          const counted = resend === 0 ? sent : Effect.annotateSpans(sent, "http.request.resend_count", resend)
          const admitted = target === undefined
            ? timed(counted)
            : Effect.zipRight(Scope.extend(permit(target.authority), hold.rest), timed(counted))
          return Effect.matchCauseEffect(restore(admitted), {
            onFailure: (cause): Effect.Effect<HeldResponse, E | ChainError> => {
              const error = Cause.squash(cause)
              if (Predicate.isObject(error) && fate(error, { request, redirect }) === "unreached") unreached.add(error)
              const answer = answerOfExit(Exit.failCause(cause))
              return hold.end(false).pipe(
                Effect.zipRight(
                  answer === undefined || !Predicate.isObject(error) ? Effect.void : listen(error, answer, target)
                ),
                Effect.zipRight(Effect.failCause(cause))
              )
            },
            onSuccess: (response) => {
              const held = new HeldResponse(response, hold, idle)
              return Effect.as(listen(held, held, held.isOfAnother ? undefined : target), held)
            }
          })
        })
      )

    const call = <E, R>(
      given: ClientRequest.HttpClientRequest,
      send: Send<E, R>,
      replayable = isReplayable(given)
    ): Effect.Effect<HeldResponse, E | ChainError, R> =>
      Effect.useSpan(`resilience.http ${name}`, { captureStackTrace: false }, (span) => {
        const call = new Call(span)
        const target = targetOf(given)
        const ending = (outcome: string) => {
          span.attribute("resilience.attempts", call.attempts)
          span.attribute("resilience.outcome", outcome)
        }
        const isGenerating = retry !== false && retry.idempotencyKey && !methods.has(given.method)
        const ready = isGenerating ? withIdempotencyKey(given) : Effect.succeed(given)
        return Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(Effect.all([Effect.tap(CurrentOverride, warnOfNesting), ready, redirects]), (said) => {
            const [asked, request, redirect] = said
            const once = attempt(call, request, target, send, attemptTime(asked.attemptTimeout), redirect)
            const paced = target === undefined || pacer === undefined
              ? once
              : Effect.zipRight(pacer.depart(target.authority), once)
            const guarded = target === undefined
              ? once
              : breaker(target.authority)(rateLimit(target.authority)(paced))
            const isSafe = asked.retry === true || methods.has(request.method) ||
              request.headers[idempotencyHeader] !== undefined
            const mayRepeat = asked.retry !== false && (replayable || (retry !== false && retry.replayableBody))
            const again = mayRepeat ? (isSafe ? retries.safe : retries.unsafe) : nothing
            const inSpan = Effect.mapInputContext(
              total(asked.timeout)(again(guarded)),
              (context: Context.Context<R>) => Context.add(context, Tracer.ParentSpan, span)
            )
            return Effect.matchCauseEffect(restore(inSpan), {
              // Whatever ended the call, an attempt may have been answered: what it holds goes back.
              onFailure: (cause) => {
                const error = Cause.squash(cause)
                ending(Predicate.hasProperty(error, "_tag") ? String(error._tag) : "Interrupted")
                return Effect.zipRight(call.abandon, Effect.failCause(cause))
              },
              onSuccess: (response) => {
                ending(String(response.status))
                return response.watch
              }
            })
          })
        )
      })
    return { call, scope: yield* Effect.scope }
  })
