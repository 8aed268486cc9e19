import type { Outcome, RateLimiter, ResilienceError } from "@effect-resilience/core"
import { Deadline, DeadlineExceededError, Priority } from "@effect-resilience/core"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import type { Form, Quota } from "./rateLimitHeaders.js"
import { rateLimitHeaders } from "./rateLimitHeaders.js"
import type { Look, Rejection } from "./rejection.js"
import { goingDown, rejectionOf } from "./rejection.js"
import type { RequestInfo } from "./request.js"

/** A request on its way in. @internal */
export interface Arrival {
  readonly request: RequestInfo
  readonly priority: Priority.Level
  readonly isLongLived: boolean
}

/** What a request holds after a step has let it in; the scope gives back what nobody settles. @internal */
export interface Ticket {
  readonly quotas?: ReadonlyArray<Quota>
  readonly decision?: RateLimiter.Decision
  /** Called once, when the status of the answer is known. */
  readonly answered?: (outcome: Outcome) => Effect.Effect<void>
  /** Called once, when the answer is sent. */
  readonly sent?: (outcome: Outcome) => Effect.Effect<void>
}

/** One pattern, as an admission. @internal */
export interface Step {
  readonly pattern: string
  readonly look: Look
  /** Would reject, but lets through: its pattern counts whom. */
  readonly dryRun: boolean
  readonly admit: (arrival: Arrival) => Effect.Effect<Ticket, Refused, Scope.Scope>
}

/** A step says no. The quotas are told all the same. @internal */
export class Refused {
  constructor(readonly error: ResilienceError, readonly quotas: ReadonlyArray<Quota> = []) {}
}

/** @internal */
export interface Admit {
  readonly _tag: "Admit"
  readonly headers: Readonly<Record<string, string>>
  readonly priority: Priority.Level
  readonly deadline: Deadline.Instant | undefined
  /** The path is none of the chain's: nothing of it applies. */
  readonly isExcluded: boolean
  readonly isLongLived: boolean
  /** What a rate limiter said, where there is one. */
  readonly decision: RateLimiter.Decision | undefined
  /** The status is known. Only the first counts. */
  readonly answered: (outcome: Outcome) => Effect.Effect<void>
  /** The answer is sent, or never will be: everything is given back, once. */
  readonly sent: Effect.Effect<void>
  /** Both, for servers that tell only when all is over. */
  readonly done: (outcome: Outcome) => Effect.Effect<void>
}

/** @internal */
export interface Reject extends Rejection {
  readonly _tag: "Reject"
  /** What turned the request away; nothing of ours did where the server goes down. */
  readonly error: ResilienceError | undefined
}

/** @internal */
export type Decision = Admit | Reject

/** Makes a wait interruptible. @internal */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** @internal */
export interface EngineConfig {
  readonly name: string
  readonly steps: ReadonlyArray<Step>
  readonly isExcluded: (path: string) => boolean
  /** Whether the server goes down, and takes no more requests. */
  readonly isDraining: () => boolean
  readonly isLongLived: (request: RequestInfo) => boolean
  readonly priorityOf: (request: RequestInfo) => Option.Option<Priority.Level>
  readonly timeoutOf: (request: RequestInfo) => Option.Option<Duration.Duration>
  readonly forms: ReadonlyArray<Form>
  readonly detail: "minimal" | "full"
}

const nothing: Admit = {
  _tag: "Admit",
  headers: {},
  priority: "normal",
  deadline: undefined,
  isExcluded: true,
  isLongLived: false,
  decision: undefined,
  answered: () => Effect.void,
  sent: Effect.void,
  done: () => Effect.void
}

/**
 * Decides about requests, by what every server knows of them: whether they are let in, with which header fields, and what
 * they are told otherwise. It is no part of any server.
 *
 * @internal
 */
export class Engine {
  constructor(private readonly config: EngineConfig) {}

  /**
   * Uninterruptible but for its waits, under `restore`. Who is let in has to be `sent`, and that soon: what it holds is
   * given back by nobody else.
   */
  decide(request: RequestInfo, restore: Restore): Effect.Effect<Decision> {
    const { config } = this
    if (config.isExcluded(request.path)) return Effect.succeed(nothing)
    if (config.isDraining()) return turnedAway
    return Effect.flatMap(this.deadline(request), (deadline): Effect.Effect<Decision> => {
      if (deadline !== undefined && deadline.spent) return this.turnDown(expired(), { detail: config.detail })
      const decided = Effect.flatMap(
        this.priority(request),
        (priority) =>
          this.admit({ request, priority, isLongLived: config.isLongLived(request) }, deadline?.instant, restore)
      )
      return deadline === undefined ? decided : Effect.provideService(decided, Deadline, deadline.instant)
    })
  }

  /** What a client is told when `error` ended its request after it was let in. */
  turnDown(error: ResilienceError, look: Look, quotas: ReadonlyArray<Quota> = []): Effect.Effect<Reject> {
    return Effect.withFiberRuntime((fiber) =>
      Effect.zipWith(Random.next, this.quotaHeaders(quotas), (random, headers): Reject => {
        const span = fiber.currentSpan
        const traceId = span?._tag === "Span" ? span.traceId : undefined
        const rejection = rejectionOf(error, look, { random, traceId })
        return { _tag: "Reject", error, ...rejection, headers: { ...rejection.headers, ...headers } }
      })
    )
  }

  private quotaHeaders(quotas: ReadonlyArray<Quota>): Effect.Effect<Record<string, string>> {
    return quotas.length === 0
      ? Effect.succeed({})
      : Effect.map(Clock.currentTimeMillis, (time) => rateLimitHeaders(quotas, this.config.forms, time))
  }

  private deadline(request: RequestInfo) {
    const timeout = Option.getOrUndefined(this.config.timeoutOf(request))
    if (timeout === undefined) return Effect.succeed(undefined)
    const spent = Duration.toMillis(timeout) <= 0
    return Effect.map(Clock.currentTimeNanos, (now) => ({
      spent,
      instant: { at: now + Option.getOrElse(Duration.toNanos(timeout), () => 0n), origin: "caller" as const }
    }))
  }

  private priority(request: RequestInfo): Effect.Effect<Priority.Level> {
    const found = this.config.priorityOf(request)
    return Option.isSome(found) ? Effect.succeed(found.value) : Priority
  }

  private admit(
    arrival: Arrival,
    deadline: Deadline.Instant | undefined,
    restore: Restore
  ): Effect.Effect<Decision> {
    return Effect.flatMap(Scope.make(), (scope) => {
      const tickets: Array<Ticket> = []
      const quotas: Array<Quota> = []
      const walk = Effect.forEach(this.config.steps, (step) =>
        Effect.matchEffect(step.admit(arrival), {
          onSuccess: (ticket) => {
            tickets.push(ticket)
            if (ticket.quotas !== undefined) quotas.push(...ticket.quotas)
            return Effect.void
          },
          onFailure: (refused) => {
            quotas.push(...refused.quotas)
            return step.dryRun ? Effect.void : Effect.fail({ step, refused })
          }
        }), { discard: true })
      return Effect.matchCauseEffect(
        restore(Effect.provideService(Scope.extend(walk, scope), Priority, arrival.priority)),
        {
          onSuccess: () =>
            Effect.map(this.quotaHeaders(quotas), (headers) => admitted(arrival, deadline, scope, tickets, headers)),
          // The call did not run: what earlier steps gave says nothing of how it went.
          onFailure: (cause): Effect.Effect<Decision> =>
            Effect.zipRight(
              Scope.close(scope, Exit.interrupt(FiberId.none)),
              Either.match(Cause.failureOrCause(cause), {
                onLeft: ({ refused, step }) => this.turnDown(refused.error, step.look, quotas),
                onRight: Effect.failCause
              })
            )
        }
      )
    })
  }
}

const admitted = (
  arrival: Arrival,
  deadline: Deadline.Instant | undefined,
  scope: Scope.CloseableScope,
  tickets: ReadonlyArray<Ticket>,
  headers: Readonly<Record<string, string>>
): Admit => {
  let outcome: Outcome | undefined
  let isSent = false
  const answered = (result: Outcome) =>
    Effect.suspend(() => {
      if (outcome !== undefined) return Effect.void
      outcome = result
      return Effect.forEach(tickets, (ticket) => ticket.answered?.(result) ?? Effect.void, { discard: true })
    })
  const sent = Effect.suspend(() => {
    if (isSent) return Effect.void
    isSent = true
    const result = outcome ??= "ignored"
    return Effect.zipRight(
      Effect.forEach(tickets, (ticket) => ticket.sent?.(result) ?? Effect.void, { discard: true }),
      Scope.close(scope, Exit.void)
    )
  })
  return {
    _tag: "Admit",
    headers,
    priority: arrival.priority,
    deadline,
    isExcluded: false,
    isLongLived: arrival.isLongLived,
    decision: tickets.find((ticket) => ticket.decision !== undefined)?.decision,
    answered,
    sent,
    done: (result) => Effect.zipRight(answered(result), sent)
  }
}

const turnedAway: Effect.Effect<Reject> = Effect.map(Random.next, (random) => {
  const rejection = goingDown(Duration.seconds(1), random)
  return { _tag: "Reject", error: undefined, ...rejection, headers: { ...rejection.headers, connection: "close" } }
})

const expired = (): DeadlineExceededError =>
  new DeadlineExceededError({ instance: "ambient", reason: "Expired", origin: "caller", retryAfter: Option.none() })
