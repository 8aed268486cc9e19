import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Schedule from "effect/Schedule"
import * as Intervals from "effect/ScheduleIntervals"
import type { Classify } from "../Outcome.js"
import { classify as defaultClassify, OptionThrewError } from "../Outcome.js"
import type { Retry, RetryResultRejectedError } from "../Retry.js"
import type { RetryBudget } from "../RetryBudget.js"
import { deadlineOf } from "./ambient.js"
import { Budget } from "./budget.js"
import type { Call } from "./event.js"
import * as option from "./options.js"
import { retryAfterOf, tagOf } from "./retryMatch.js"
import type { Nanos } from "./time.js"
import { clockOf, currentClock, forever, now, toNanos } from "./time.js"
import { schedule } from "./timer.js"

/** The number of the attempt that runs, the first included. @internal */
export class Attempt extends Context.Reference<Attempt>()("@effect-resilience/Retry/Attempt", {
  defaultValue: () => 1
}) {}

/** When to give up and how long to wait, for all errors or for those with one tag. @internal */
export interface Plan {
  readonly maxAttempts: number
  readonly schedule: Schedule.Schedule<unknown, unknown>
  /** No delay of the schedule is longer. */
  readonly cap: Nanos
  /** The longest time that an error or `delayFrom` may ask for. */
  readonly maxDelay: Nanos
}

/** Values that are failures, and the error that they become. @internal */
export interface Refuses<X> {
  readonly test: (value: any) => boolean
  readonly error: (value: unknown, attempts: number) => X
}

/** `X` is what the loop adds to the errors of a call: nothing, or a value that `retryOnResult` refused. @internal */
export interface LoopConfig<X> {
  readonly instance: string
  readonly plan: Plan
  readonly plans: ReadonlyMap<string, Plan>
  readonly maxDuration: Nanos | undefined
  readonly classify: Classify
  readonly retryOn: ((exit: Exit.Failure<unknown, unknown>) => boolean) | undefined
  readonly abortOn: ((exit: Exit.Failure<unknown, unknown>) => boolean) | undefined
  readonly refuses: Refuses<X> | undefined
  readonly delayFrom: ((exit: Exit.Exit<any, any>, attempt: number) => Retry.Delay) | undefined
  readonly onRetry: ((exit: Exit.Exit<any, any>) => Effect.Effect<void>) | undefined
  /** What the events call a value that is a failure. */
  readonly refusal: (value: unknown, attempts: number) => RetryResultRejectedError
  readonly budget: RetryBudget.Service | undefined
  readonly watch: LoopWatch
}

/** How a call ended that did not succeed. @internal */
export type Ending = "failure" | "ignored"

/** @internal */
export interface LoopWatch {
  readonly listening: () => boolean
  readonly call: () => Call
  /** The first attempt succeeded: the usual case. */
  readonly first: () => void
  /** A call has entered the loop, or left it. */
  readonly running: (by: 1 | -1) => void
  readonly scheduled: (
    info: {
      readonly call: Call | undefined
      readonly attempt: number
      readonly maxAttempts: number
      readonly delay: Nanos
      readonly error: () => unknown
      readonly named: boolean
    }
  ) => void
  readonly succeeded: (call: Call | undefined, attempts: number) => void
  readonly exhausted: (
    info: {
      readonly call: Call | undefined
      readonly attempts: number
      readonly error: () => unknown
      readonly reason: Retry.Exhaustion
      readonly ending: Ending
    }
  ) => void
  readonly canceled: () => void
}

/** Counts and tells nothing. @internal */
export const unwatched: LoopWatch = {
  listening: () => false,
  call: () => ({ callId: 0, traceId: undefined, spanId: undefined }),
  first: () => {},
  running: () => {},
  scheduled: () => {},
  succeeded: () => {},
  exhausted: () => {},
  canceled: () => {}
}

/** What an exit means to the loop. */
type Verdict =
  | { readonly _tag: "Succeeded"; readonly earns: boolean }
  | { readonly _tag: "Failed"; readonly refused: boolean }
  | { readonly _tag: "Final"; readonly ending: Ending }
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Threw"; readonly error: OptionThrewError }

const succeeded: Verdict = { _tag: "Succeeded", earns: true }
const unpaid: Verdict = { _tag: "Succeeded", earns: false }
const interrupted: Verdict = { _tag: "Interrupted" }

const judge = (config: LoopConfig<unknown>, exit: Exit.Exit<unknown, unknown>): Verdict => {
  let asking = "retryOnResult"
  try {
    if (exit._tag === "Success") {
      if (config.refuses?.test(exit.value) === true) return { _tag: "Failed", refused: true }
      asking = "classify"
      const outcome = config.classify(exit)
      if (outcome === "failure") return { _tag: "Failed", refused: false }
      return outcome === "success" ? succeeded : unpaid
    }
    if (Cause.isInterruptedOnly(exit.cause)) return interrupted
    asking = "classify"
    const outcome = config.classify(exit)
    const final: Verdict = { _tag: "Final", ending: outcome === "ignored" ? "ignored" : "failure" }
    asking = "abortOn"
    if (config.abortOn?.(exit) === true) return final
    asking = "retryOn"
    // Without `retryOn`: an error of the typed channel that counts against the dependency. A defect is a bug, and stays.
    const again = config.retryOn === undefined
      ? outcome === "failure" && !Cause.isDie(exit.cause)
      : config.retryOn(exit)
    return again ? { _tag: "Failed", refused: false } : final
  } catch (error) {
    return { _tag: "Threw", error: new OptionThrewError("Retry", config.instance, asking, error) }
  }
}

/**
 * Retries an effect. The first attempt is only watched: the machinery is built when it fails, so a call that succeeds at
 * once pays for one match. The handlers are built once per guarded effect.
 *
 * @internal
 */
export const retryLoop = <A, E, R, X>(
  config: LoopConfig<X>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | X, R> => {
  const { budget, maxDuration, watch } = config
  const own = budget instanceof Budget ? budget : undefined
  const plain = config.refuses === undefined && config.classify === defaultClassify
  const accept = (value: A): Effect.Effect<A> => {
    watch.first()
    return budget === undefined || own?.full === true ? Exit.succeed(value) : Effect.as(budget.deposit, value)
  }
  const firstAttempt = (start: Nanos | undefined) =>
    Effect.matchCauseEffect(effect, {
      onSuccess: plain ? accept : (value): Effect.Effect<A, E | X, R> => {
        const exit = Exit.succeed(value)
        const verdict = judge(config, exit)
        if (verdict === succeeded) return accept(value)
        if (verdict === unpaid) {
          watch.first()
          return exit
        }
        return loop(config, effect, exit, verdict, start)
      },
      onFailure: (cause): Effect.Effect<A, E | X, R> => {
        const exit = Exit.failCause(cause)
        return loop(config, effect, exit, judge(config, exit), start)
      }
    })
  if (maxDuration === undefined) return firstAttempt(undefined)
  // Only a limit on the whole call needs the time of its start.
  return Effect.withFiberRuntime((fiber) => firstAttempt(clockOf(fiber).unsafeCurrentTimeNanos()))
}

/**
 * The loop of a call whose first attempt did not do: one mask holds it. Attempts, sleeps and the user's schedule can be
 * interrupted; a reservation of the budget is given back unless the attempt it paid for began.
 */
const loop = <A, E, R, X>(
  config: LoopConfig<X>,
  effect: Effect.Effect<A, E, R>,
  firstExit: Exit.Exit<A, E>,
  firstVerdict: Verdict,
  start: Nanos | undefined
): Effect.Effect<A, E | X, R> =>
  Effect.uninterruptibleMask((restore) => {
    const { budget, watch } = config
    const call = watch.listening() ? watch.call() : undefined
    const states = new Map<Plan, unknown>()
    let attempt = 1

    /** The one way out. */
    const end = (exit: Exit.Exit<A, E | X>): Exit.Exit<A, E | X> => {
      watch.running(-1)
      return exit
    }
    /** What the events tell of an exit. */
    const errorOf = (exit: Exit.Exit<A, E>): unknown =>
      exit._tag === "Failure" ? Cause.squash(exit.cause) : config.refusal(exit.value, attempt)
    const ended = (exit: Exit.Exit<A, E>, reason: Retry.Exhaustion, ending: Ending): void =>
      watch.exhausted({ call, attempts: attempt, error: () => errorOf(exit), reason, ending })
    /** The last failure survives as it is; a value that `retryOnResult` refused becomes an error. */
    const giveUp = (exit: Exit.Exit<A, E>, refused: boolean, reason: Retry.Exhaustion) => {
      ended(exit, reason, "failure")
      return end(
        refused && exit._tag === "Success" && config.refuses !== undefined
          ? Exit.fail(config.refuses.error(exit.value, attempt))
          : exit
      )
    }

    const next = (exit: Exit.Exit<A, E>, verdict: Verdict): Effect.Effect<A, E | X, R> => {
      switch (verdict._tag) {
        case "Succeeded":
          watch.succeeded(call, attempt)
          return verdict.earns && budget !== undefined ? Effect.zipRight(budget.deposit, end(exit)) : end(exit)
        case "Interrupted":
          watch.canceled()
          return end(exit)
        case "Final":
          ended(exit, "Aborted", verdict.ending)
          return end(exit)
        case "Threw":
          ended(exit, "Aborted", "failure")
          return end(Exit.die(verdict.error))
        case "Failed": {
          const plan = planOf(config, exit)
          if (attempt >= plan.maxAttempts) return giveUp(exit, verdict.refused, "Attempts")
          return Effect.matchCauseEffect(restore(step(plan, states, exit)), {
            onFailure: (cause) => {
              if (Cause.isInterruptedOnly(cause)) watch.canceled()
              else ended(exit, "Aborted", "failure")
              return end(Exit.failCause(cause))
            },
            onSuccess: (scheduled) => {
              const wait = waitFor(config, plan, scheduled, exit, attempt)
              if (wait instanceof OptionThrewError) return next(exit, { _tag: "Threw", error: wait })
              const stop = wait.stop ?? limitOf(config, wait.delay, start)
              return stop === undefined
                ? reserve(exit, verdict.refused, plan, wait)
                : giveUp(exit, verdict.refused, stop)
            }
          })
        }
      }
    }

    /** Nothing sleeps that has not been paid for. */
    const reserve = (exit: Exit.Exit<A, E>, refused: boolean, plan: Plan, wait: Wait): Effect.Effect<A, E | X, R> =>
      budget === undefined
        ? again(exit, plan, wait, Effect.void)
        : Effect.flatMap(budget.withdraw, (reservation) =>
          reservation._tag === "None"
            ? giveUp(exit, refused, "Budget")
            : again(exit, plan, wait, reservation.value.refund))

    const again = (
      exit: Exit.Exit<A, E>,
      { maxAttempts }: Plan,
      { delay, named }: Wait,
      refund: Effect.Effect<void>
    ): Effect.Effect<A, E | X, R> => {
      watch.scheduled({ call, attempt, maxAttempts, delay, error: () => errorOf(exit), named })
      let began = false
      const attempting = Effect.provideService(
        Effect.suspend(() => {
          began = true
          attempt++
          return effect
        }),
        Attempt,
        attempt + 1
      )
      const judged = (exit: Exit.Exit<A, E>) => next(exit, judge(config, exit))
      const waiting = config.onRetry === undefined
        ? sleep(delay)
        : Effect.zipRight(told(config, config.onRetry, exit), sleep(delay))
      return Effect.matchCauseEffect(restore(Effect.zipRight(waiting, attempting)), {
        onSuccess: (value) => judged(Exit.succeed(value)),
        onFailure: (cause): Effect.Effect<A, E | X, R> => {
          if (began) return judged(Exit.failCause(cause))
          if (Cause.isInterruptedOnly(cause)) watch.canceled()
          else ended(exit, "Aborted", "failure")
          return Effect.zipRight(refund, end(Exit.failCause(cause)))
        }
      })
    }

    watch.running(1)
    start ??= now()
    return next(firstExit, firstVerdict)
  })

const planOf = (config: LoopConfig<unknown>, exit: Exit.Exit<unknown, unknown>): Plan => {
  if (config.plans.size === 0 || exit._tag === "Success") return config.plan
  const tag = tagOf(Cause.squash(exit.cause))
  return (tag === undefined ? undefined : config.plans.get(tag)) ?? config.plan
}

/** One step of a plan's schedule: the delay, or `undefined` where it ends. It is given the error, or the refused value. */
const step = (
  plan: Plan,
  states: Map<Plan, unknown>,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<Nanos | undefined> =>
  Effect.suspend(() => {
    const millis = currentClock().unsafeCurrentTimeMillis()
    const input = exit._tag === "Success" ? exit.value : Cause.squash(exit.cause)
    const state = states.has(plan) ? states.get(plan) : plan.schedule.initial
    return Effect.map(plan.schedule.step(millis, input, state), ([next, , decision]) => {
      states.set(plan, next)
      if (decision._tag === "Done") return undefined
      const delay = Intervals.start(decision.intervals) - millis
      const nanos = delay > 0 ? toNanos(Duration.millis(delay)) : 0n
      return nanos < plan.cap ? nanos : plan.cap
    })
  })

/** How long to wait, or why not to. `named`: the error or the user named it, so it is never shortened. */
interface Wait {
  readonly delay: Nanos
  readonly stop: Retry.Exhaustion | undefined
  readonly named: boolean
}

const parseAfter = option.parseDuration({ min: 0, infinite: true })

/**
 * The wait after a failure: what `delayFrom` says, else the `retryAfter` of the error, else the schedule. A schedule that
 * ends the retries does so whoever names the delay.
 */
const waitFor = (
  config: LoopConfig<unknown>,
  plan: Plan,
  scheduled: Nanos | undefined,
  exit: Exit.Exit<unknown, unknown>,
  attempt: number
): Wait | OptionThrewError => {
  const stop = (reason: Retry.Exhaustion): Wait => ({ delay: 0n, stop: reason, named: false })
  const named = (delay: Nanos): Wait => ({ delay, stop: delay > plan.maxDelay ? "Duration" : undefined, named: true })
  if (config.delayFrom !== undefined) {
    try {
      const choice = config.delayFrom(exit, attempt)
      if (choice === "stop") return stop("Aborted")
      if (choice !== "default") {
        return scheduled === undefined
          ? stop("Attempts")
          : named(toNanos(parseAfter(choice.after)))
      }
    } catch (error) {
      const cause = error instanceof option.Requirement ? new Error(`after must be ${error.text}`) : error
      return new OptionThrewError("Retry", config.instance, "delayFrom", cause)
    }
  }
  if (scheduled === undefined) return stop("Attempts")
  const asked = exit._tag === "Failure" ? retryAfterOf(Cause.squash(exit.cause)) : undefined
  return asked === undefined ? { delay: scheduled, stop: undefined, named: false } : named(toNanos(asked))
}

/** Nothing sleeps up to a limit or past it: the caller gets the real last failure, and gets it now. */
const limitOf = (config: LoopConfig<unknown>, delay: Nanos, start: Nanos | undefined): Retry.Exhaustion | undefined => {
  const time = now()
  const fiber = Fiber.getCurrentFiber()
  const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
  if (deadline !== undefined && time + delay >= deadline.at) return "Deadline"
  if (delay >= forever) return "Duration"
  if (config.maxDuration === undefined || start === undefined) return undefined
  return time - start + delay >= config.maxDuration ? "Duration" : undefined
}

/** The user is told that a retry comes. */
const told = (
  { instance }: LoopConfig<unknown>,
  onRetry: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<void> =>
  Effect.suspend(() => {
    try {
      return onRetry(exit)
    } catch (error) {
      return Effect.die(new OptionThrewError("Retry", instance, "onRetry", error))
    }
  })

/** Sleeps for no less than `span`; an interruption ends it at once. */
const sleep = (span: Nanos): Effect.Effect<void> =>
  span === 0n ? Effect.void : Effect.async<void>((resume) => {
    const cancel = schedule(currentClock(), span, () => resume(Effect.void))
    return Effect.sync(cancel)
  })
