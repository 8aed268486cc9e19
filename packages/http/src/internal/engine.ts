import type { Outcome, RateLimiter, ResilienceError } from "@effect-resilience/core"
import { Deadline, DeadlineExceededError, Priority } from "@effect-resilience/core"
import { stackless } from "@effect-resilience/core/extension"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
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
  /** That of the caller. */
  readonly deadline: Deadline.Instant | undefined
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
  /** Called instead, where a later step turned the request away. For what no scope gives back. */
  readonly dropped?: () => Effect.Effect<void>
}

/** One pattern, as an admission. @internal */
export interface Step {
  readonly pattern: string
  readonly look: Look
  /** Would reject, but lets through: its pattern counts whom. */
  readonly dryRun: boolean
  /**
   * The admission in one step of the run loop, where it can be told without a wait: `undefined`, and nothing has happened,
   * where it cannot. Most can: a scope, a context and steps of the run loop would be most of what they cost.
   */
  readonly atOnce?: ((arrival: Arrival) => Ticket | Refused | undefined) | undefined
  /** `undefined` where it has no say in such a request. */
  readonly admit: (arrival: Arrival) => Effect.Effect<Ticket, Refused, Scope.Scope> | undefined
}

/** A step says no. The quotas are told all the same. @internal */
export class Refused {
  constructor(readonly error: ResilienceError, readonly quotas: ReadonlyArray<Quota> = []) {}
}

/** @internal */
export interface Admit {
  readonly _tag: "Admit"
  readonly headers: Readonly<Record<string, string>>
  /** What its limiters said: the headers tell of it. */
  readonly quotas: ReadonlyArray<Quota>
  readonly priority: Priority.Level
  readonly deadline: Deadline.Instant | undefined
  /** The path is none of the chain's: nothing of it applies. */
  readonly isExcluded: boolean
  /** It turns out to stay, and moves to the bulkhead of those that do, or is turned away: then whenever it asks. */
  readonly stays: Effect.Effect<Reject | undefined>
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
  readonly quotas: ReadonlyArray<Quota>
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
  /** The bulkhead of those that stay, which is one of the steps. */
  readonly longLived: Step | undefined
  /** The bulkhead that those that stay remain in, where they have none of their own. */
  readonly holdsThatStay: Step | undefined
  readonly priorityOf: (request: RequestInfo, ambient: Priority.Level) => Priority.Level
  /** How long the caller waits, in milliseconds, where it says so. */
  readonly timeoutOf: (request: RequestInfo) => number | undefined
  readonly forms: ReadonlyArray<Form>
  readonly detail: "minimal" | "full"
}

/** Where one stays. */
interface Place {
  readonly leave: Effect.Effect<void>
}

/** @internal */
export const noHeaders: Readonly<Record<string, string>> = {}

/** For paths that nothing is done about. */
const excluded: Admit = {
  _tag: "Admit",
  headers: noHeaders,
  quotas: [],
  priority: "normal",
  deadline: undefined,
  isExcluded: true,
  stays: Effect.succeed(undefined),
  decision: undefined,
  answered: () => Effect.void,
  sent: Effect.void,
  done: () => Effect.void
}

const leftAlone = Effect.succeed(excluded)
const told = Effect.succeed(noHeaders)

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
    return Effect.withFiberRuntime((fiber) => this.decideIn(fiber, request, restore))
  }

  /** The same within a step of this fiber: where an exit is returned it is decided already. */
  decideIn(
    fiber: Fiber.RuntimeFiber<unknown, unknown>,
    request: RequestInfo,
    restore: Restore
  ): Effect.Effect<Decision> {
    const { config } = this
    if (config.isExcluded(request.path)) return leftAlone
    if (config.isDraining()) return turnedAway
    const timeout = config.timeoutOf(request)
    if (timeout !== undefined && timeout <= 0) return this.turnDown(expired(), { detail: config.detail })
    const priority = config.priorityOf(request, Context.get(fiber.currentContext, Priority))
    const isLongLived = config.isLongLived(request)
    if (timeout === undefined) return this.admit({ request, priority, deadline: undefined, isLongLived }, restore)
    return Effect.flatMap(Clock.currentTimeNanos, (now) => {
      const deadline = { at: now + nanos(timeout), origin: "caller" } as const
      return this.admit({ request, priority, deadline, isLongLived }, restore)
    })
  }

  /** What a client is told when `error` ended its request after it was let in. */
  turnDown(error: ResilienceError, look: Look, quotas: ReadonlyArray<Quota> = []): Effect.Effect<Reject> {
    return Effect.withFiberRuntime((fiber) =>
      Effect.zipWith(Random.next, this.quotaHeaders(quotas), (random, headers): Reject => {
        const span = fiber.currentSpan
        const traceId = span?._tag === "Span" ? span.traceId : undefined
        const rejection = rejectionOf(error, look, { random, traceId })
        return { _tag: "Reject", error, quotas, ...rejection, headers: { ...rejection.headers, ...headers } }
      })
    )
  }

  /** Has one who stays enter the bulkhead of those. */
  private enter(arrival: Arrival, restore: Restore): Effect.Effect<Reject | Place> {
    const { longLived } = this.config
    const admission = longLived?.admit({ ...arrival, isLongLived: true })
    if (longLived === undefined || admission === undefined) return Effect.succeed({ leave: Effect.void })
    return Effect.flatMap(Scope.make(), (scope) => {
      const leave = Scope.close(scope, Exit.void)
      return Effect.matchCauseEffect(restore(this.inside({ ...arrival, deadline: undefined }, scope, admission)), {
        onSuccess: () => Effect.succeed<Reject | Place>({ leave }),
        onFailure: (cause) =>
          Effect.zipRight(
            leave,
            Either.match(Cause.failureOrCause(cause), {
              onLeft: ({ error }): Effect.Effect<Reject | Place> =>
                longLived.dryRun ? Effect.succeed({ leave: Effect.void }) : this.turnDown(error, longLived.look),
              onRight: Effect.failCause
            })
          )
      })
    })
  }

  /** The header fields that tell of these. */
  quotaHeaders(quotas: ReadonlyArray<Quota>): Effect.Effect<Readonly<Record<string, string>>> {
    return quotas.length === 0
      ? told
      : Effect.map(Clock.currentTimeMillis, (time) => rateLimitHeaders(quotas, this.config.forms, time))
  }

  /** The steps, one after the other: at once where none has to wait, otherwise in a scope of the request's own. */
  private admit(arrival: Arrival, restore: Restore): Effect.Effect<Decision> {
    const held = new Held()
    const walked = this.begin(arrival, held)
    if (Exit.isExit(walked)) return this.decided(arrival, held, restore, walked as Exit.Exit<void, Stopped>)
    return Effect.flatMap(
      this.open(held),
      (load) =>
        Effect.matchCauseEffect(restore(this.inside(arrival, load, walked)), {
          onSuccess: () => this.decided(arrival, held, restore, Exit.void),
          onFailure: (cause) => this.decided(arrival, held, restore, Exit.failCause(cause))
        })
    )
  }

  /** Opens the scopes of what does not come at once. */
  private open(held: Held): Effect.Effect<Scope.Scope> {
    return Effect.flatMap(Scope.make(), (scope) => {
      held.scope = held.load = scope
      if (this.config.holdsThatStay === undefined) return Effect.succeed(scope)
      return Effect.map(Scope.fork(scope, ExecutionStrategy.sequential), (load) => held.load = load)
    })
  }

  private decided(
    arrival: Arrival,
    held: Held,
    restore: Restore,
    walked: Exit.Exit<void, Stopped>
  ): Effect.Effect<Decision> {
    const { quotas, scope, tickets } = held
    if (walked._tag === "Success") {
      const admit = (headers: Readonly<Record<string, string>>) =>
        admitted(arrival, held, headers, () => this.enter(arrival, restore))
      return quotas.length === 0 ? Exit.succeed(admit(noHeaders)) : Effect.map(this.quotaHeaders(quotas), admit)
    }
    // The call did not run: what earlier steps gave says nothing of how it went.
    return Effect.zipRight(
      both(each(tickets, "dropped", "ignored"), close(scope, Exit.interrupt(FiberId.none))),
      Either.match(Cause.failureOrCause(walked.cause), {
        onLeft: ({ refused, step }): Effect.Effect<Decision> => this.turnDown(refused.error, step.look, quotas),
        onRight: Effect.failCause
      })
    )
  }

  /** Begins to walk. A function of the options that throws is a failure like others: what is held already goes back. */
  private begin(arrival: Arrival, held: Held): Effect.Effect<void, Stopped, Scope.Scope> {
    try {
      return this.walk(0, arrival, held)
    } catch (defect) {
      return Exit.die(defect)
    }
  }

  /** What patterns ask for: all of it at once, for to provide a service is dear. */
  private inside<A, E>(
    { deadline, priority }: Arrival,
    scope: Scope.Scope,
    effect: Effect.Effect<A, E, Scope.Scope>
  ): Effect.Effect<A, E> {
    return Effect.mapInputContext(effect, (context: Context.Context<never>) => {
      const services = new Map(context.unsafeMap)
      services.set(Scope.Scope.key, scope)
      services.set(Priority.key, priority)
      if (deadline !== undefined) services.set(Deadline.key, deadline)
      return Context.unsafeMake<Scope.Scope>(services)
    })
  }

  private walk(index: number, arrival: Arrival, held: Held): Effect.Effect<void, Stopped, Scope.Scope> {
    const { quotas, tickets } = held
    for (let i = index; i < this.config.steps.length; i++) {
      const step = this.config.steps[i] as Step
      const isKept = step === this.config.holdsThatStay
      const onSuccess = (ticket: Ticket) => {
        tickets.push(ticket)
        if (isKept) held.kept = ticket
        if (ticket.quotas !== undefined) quotas.push(...ticket.quotas)
      }
      const onFailure = (refused: Refused): Exit.Exit<void, Stopped> => {
        quotas.push(...refused.quotas)
        return step.dryRun ? Exit.void : Exit.fail({ step, refused })
      }
      const known = step.atOnce?.(arrival)
      if (known === undefined) {
        const admission = step.admit(arrival)
        if (admission === undefined) continue
        const next = () => this.walk(i + 1, arrival, held)
        return Effect.matchEffect(isKept ? inOuter(held, admission) : admission, {
          onSuccess: (ticket) => {
            onSuccess(ticket)
            return next()
          },
          onFailure: (refused) => Effect.flatMap(onFailure(refused), next)
        })
      }
      if (known instanceof Refused) {
        const refused = onFailure(known)
        if (refused._tag === "Failure") return refused
      } else onSuccess(known)
    }
    return Exit.void
  }
}

/** What the patterns gave a request. */
class Held {
  readonly tickets: Array<Ticket> = []
  readonly quotas: Array<Quota> = []
  /** That of the place of one who stays. */
  kept: Ticket | undefined = undefined
  /** Of what did not come at once. All is given back when `scope` closes; when `load` does, what is no place of one who stays. */
  scope: Scope.CloseableScope | undefined = undefined
  load: Scope.CloseableScope | undefined = undefined
}

/** The step that said no. */
interface Stopped {
  readonly step: Step
  readonly refused: Refused
}

/** In the scope that is open for as long as the request is. */
const inOuter = <A, E>(held: Held, admission: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E, Scope.Scope> =>
  Effect.suspend(() => held.scope === undefined ? admission : Scope.extend(admission, held.scope))

const close = (scope: Scope.CloseableScope | undefined, exit: Exit.Exit<void>): Effect.Effect<void> =>
  scope === undefined ? Effect.void : Scope.close(scope, exit)

/** How far a request is that was let in. Who is refused a place is told so whenever it asks. */
type Phase =
  | { readonly _tag: "Running" }
  | { readonly _tag: "Staying"; readonly leave: Effect.Effect<void> }
  | { readonly _tag: "Refused"; readonly rejection: Reject }
  | { readonly _tag: "Over" }

const running: Phase = { _tag: "Running" }
const over: Phase = { _tag: "Over" }

const admitted = (
  arrival: Arrival,
  { kept, load, quotas, scope, tickets }: Held,
  headers: Readonly<Record<string, string>>,
  enter: () => Effect.Effect<Reject | Place>
): Admit => {
  let outcome: Outcome | undefined
  let phase: Phase = running
  const answered = (result: Outcome) =>
    Effect.suspend(() => {
      if (outcome !== undefined) return Effect.void
      outcome = result
      return each(tickets, "answered", result)
    })
  /** Begins when it is called. */
  const giveBack = (given: ReadonlyArray<Ticket>, from: Scope.CloseableScope | undefined, result: Outcome) =>
    both(each(given, "sent", result), close(from, Exit.void))
  const sent = Effect.suspend(() => {
    const before = phase
    phase = over
    if (before._tag === "Over") return Effect.void
    if (before._tag === "Staying") {
      return both(before.leave, giveBack(kept === undefined ? [] : [kept], scope, "ignored"))
    }
    // How long one stays says nothing of how the service does.
    return giveBack(tickets, scope, arrival.isLongLived ? "ignored" : outcome ??= "ignored")
  })
  const moved = (entered: Reject | Place): Effect.Effect<Reject | undefined> => {
    const isFirst = phase === running
    if ("_tag" in entered) {
      if (isFirst) phase = { _tag: "Refused", rejection: entered }
      return Effect.succeed(entered)
    }
    // A handler that was left behind comes when all is over.
    if (!isFirst) return Effect.as(entered.leave, undefined)
    phase = { _tag: "Staying", leave: entered.leave }
    const lighten = Effect.suspend(() => giveBack(tickets.filter((ticket) => ticket !== kept), load, "success"))
    return Effect.as(Effect.zipRight(answered("success"), lighten), undefined)
  }
  const stays = Effect.suspend(() => {
    if (phase._tag === "Refused") return Effect.succeed(phase.rejection)
    if (phase !== running || arrival.isLongLived) return Effect.succeed(undefined)
    return Effect.uninterruptible(Effect.flatMap(enter(), moved))
  })
  return {
    _tag: "Admit",
    headers,
    quotas,
    priority: arrival.priority,
    deadline: arrival.deadline,
    isExcluded: false,
    stays,
    decision: tickets.find((ticket) => ticket.decision !== undefined)?.decision,
    answered,
    sent,
    done: (result) => Effect.zipRight(answered(result), sent)
  }
}

/** Tells each ticket that asks for it. */
const each = (
  tickets: ReadonlyArray<Ticket>,
  moment: "answered" | "sent" | "dropped",
  outcome: Outcome
): Effect.Effect<void> => {
  let all: Effect.Effect<void> = Effect.void
  for (const ticket of tickets) {
    const told = ticket[moment]?.(outcome)
    if (told !== undefined) all = both(all, told)
  }
  return all
}

/** One after the other. Mostly there is nothing left to do, and then there is no step for it. */
const both = (first: Effect.Effect<void>, second: Effect.Effect<void>): Effect.Effect<void> =>
  isNothing(first) ? second : isNothing(second) ? first : Effect.zipRight(first, second)

const isNothing = (effect: Effect.Effect<void>): boolean => effect === Effect.void || effect === Exit.void

/** Of milliseconds. */
const nanos = (millis: number): bigint => BigInt(Math.round(millis * 1e6))

const turnedAway: Effect.Effect<Reject> = Effect.map(Random.next, (random) => {
  const rejection = goingDown(Duration.seconds(1), random)
  return {
    _tag: "Reject",
    error: undefined,
    quotas: [],
    ...rejection,
    headers: { ...rejection.headers, connection: "close" }
  }
})

const expired = (): DeadlineExceededError =>
  stackless(() =>
    new DeadlineExceededError(
      { instance: "ambient", reason: "Expired", origin: "caller", retryAfter: Option.none() },
      true
    )
  )
