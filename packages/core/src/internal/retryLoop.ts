import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as Schedule from "effect/Schedule"
import * as Intervals from "effect/ScheduleIntervals"
import type { Classify } from "../Outcome.js"
import { OptionThrewError } from "../Outcome.js"
import type { Retry } from "../Retry.js"
import { deadlineOf } from "./ambient.js"
import type { Bucket } from "./bucket.js"
import type { Call } from "./event.js"
import type { Nanos } from "./time.js"
import { clockOf, currentClock, forever, fromNanos, now, toNanos } from "./time.js"

/** The number of the attempt that runs, the first included. @internal */
export class Attempt extends Context.Reference<Attempt>()("@effect-resilience/Retry/Attempt", {
  defaultValue: () => 1
}) {}

/** When to give up and how long to wait, for all errors or for those with one tag. @internal */
export interface Plan {
  readonly maxAttempts: number
  readonly schedule: Schedule.Schedule<unknown, unknown>
}

type Judge = (exit: Exit.Exit<unknown, unknown>) => boolean

/** @internal */
export interface LoopConfig {
  readonly instance: string
  readonly plan: Plan
  readonly plans: ReadonlyMap<string, Plan>
  readonly maxDelay: Nanos
  readonly maxDuration: Nanos | undefined
  readonly classify: Classify
  readonly retryOn: Judge | undefined
  readonly abortOn: Judge | undefined
  readonly retryOnResult: ((value: unknown) => boolean) | undefined
  readonly delayFrom: ((exit: Exit.Exit<unknown, unknown>, attempt: number) => Retry.Delay) | undefined
  readonly rejectResult: (value: unknown, attempts: number) => Exit.Exit<never, unknown>
  readonly bucket: Bucket | undefined
  readonly watch: LoopWatch
}

/** How a retried call ended. @internal */
export type Ending = "success" | "failure" | "ignored"

/** @internal */
export interface LoopWatch {
  readonly listening: () => boolean
  readonly call: () => Call
  /** The first attempt succeeded: the usual case. */
  readonly first: () => void
  readonly scheduled: (
    info: { call: Call | undefined; attempt: number; maxAttempts: number; delay: Nanos; error: unknown; named: boolean }
  ) => void
  readonly retrying: (by: 1 | -1) => void
  readonly succeeded: (call: Call | undefined, attempts: number) => void
  readonly exhausted: (
    info: { call: Call | undefined; attempts: number; error: unknown; reason: Retry.Exhaustion; ending: Ending }
  ) => void
}

/** A retried call, from its first failure on. */
interface Run {
  readonly start: Nanos
  readonly call: Call | undefined
  readonly states: Map<Plan, unknown>
  attempt: number
}

/**
 * Retries an effect. The first attempt is only watched; the machinery is built when it fails, so a call that succeeds at
 * once pays for one match.
 *
 * From then on one mask holds the loop. Attempts and sleeps are interruptible, the reservation of the budget is not: an
 * interrupted sleep gives it back, and starts nothing.
 *
 * @internal
 */
export const retryLoop = <A, E, R>(
  config: LoopConfig,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, unknown, R> => {
  const { bucket, watch } = config
  return Effect.withFiberRuntime<A, unknown, R>((fiber) => {
    // Only a limit on the whole call needs the time of its start.
    const start = config.maxDuration === undefined ? undefined : clockOf(fiber).unsafeCurrentTimeNanos()
    return Effect.matchCauseEffect(effect, {
      onSuccess: (value) => {
        const refused = config.retryOnResult !== undefined && isRefused(config, value)
        if (refused === false) {
          bucket?.deposit()
          watch.first()
          return Exit.succeed(value)
        }
        return begin(config, effect, Exit.succeed(value), start, refused)
      },
      onFailure: (cause) => begin(config, effect, Exit.failCause(cause), start, undefined)
    })
  })
}

const isRefused = (config: LoopConfig, value: unknown): boolean | OptionThrewError => {
  try {
    return config.retryOnResult?.(value) === true
  } catch (error) {
    return new OptionThrewError("Retry", config.instance, "retryOnResult", error)
  }
}

const begin = <A, E, R>(
  config: LoopConfig,
  effect: Effect.Effect<A, E, R>,
  exit: Exit.Exit<A, E>,
  start: Nanos | undefined,
  refused: boolean | OptionThrewError | undefined
): Effect.Effect<A, unknown, R> =>
  refused instanceof OptionThrewError ? Effect.die(refused) : Effect.uninterruptibleMask((restore) => {
    const run: Run = {
      start: start ?? now(),
      call: config.watch.listening() ? config.watch.call() : undefined,
      states: new Map(),
      attempt: 1
    }
    const attempt = (): Effect.Effect<A, unknown, R> =>
      Effect.matchCauseEffect(restore(Effect.provideService(effect, Attempt, run.attempt)), {
        onSuccess: (value) => next(Exit.succeed(value)),
        onFailure: (cause) => next(Exit.failCause(cause))
      })
    const next = (exit: Exit.Exit<A, E>): Effect.Effect<A, unknown, R> => {
      const verdict = judge(config, run, exit)
      switch (verdict._tag) {
        case "Done":
          return end(config, verdict.result)
        case "Retry":
          return Effect.flatMap(delayOf(config, run, verdict.plan, exit), (delay) => {
            const reserved = reserve(config, run, delay)
            if (reserved._tag === "Stop") return end(config, giveUp(config, run, exit, reserved.reason))
            config.watch.scheduled({
              call: run.call,
              attempt: run.attempt,
              maxAttempts: verdict.plan.maxAttempts,
              delay: delay.delay,
              error: errorOf(exit),
              named: delay.named
            })
            return Effect.matchCauseEffect(restore(Effect.sleep(fromNanos(delay.delay))), {
              onSuccess: () => {
                run.attempt++
                return attempt()
              },
              onFailure: (cause) => {
                reserved.refund()
                config.watch.exhausted({
                  call: undefined,
                  attempts: run.attempt,
                  error: errorOf(exit),
                  reason: "Aborted",
                  ending: "ignored"
                })
                return end(config, Exit.failCause(cause))
              }
            })
          })
      }
    }
    config.watch.retrying(1)
    return next(exit)
  })

/** The one way out of the loop. */
const end = <A>(config: LoopConfig, result: Exit.Exit<A, unknown>): Exit.Exit<A, unknown> => {
  config.watch.retrying(-1)
  return result
}

type Verdict<A> =
  | { readonly _tag: "Done"; readonly result: Exit.Exit<A, unknown> }
  | { readonly _tag: "Retry"; readonly plan: Plan }

/** Is this exit the end, and which? */
const judge = <A, E>(config: LoopConfig, run: Run, exit: Exit.Exit<A, E>): Verdict<A> => {
  const done = (result: Exit.Exit<A, unknown>): Verdict<A> => ({ _tag: "Done", result })
  try {
    if (exit._tag === "Success") {
      if (config.retryOnResult?.(exit.value) !== true) {
        config.bucket?.deposit()
        config.watch.succeeded(run.call, run.attempt)
        return done(exit)
      }
    } else if (Cause.isInterrupted(exit.cause)) {
      ended(config, run, exit, "Aborted", "ignored")
      return done(exit)
    } else {
      const aborted = config.abortOn?.(exit) === true
      if (aborted || !(config.retryOn?.(exit) ?? isRetryable(config.classify, exit))) {
        ended(config, run, exit, "Aborted", config.classify(exit) === "ignored" ? "ignored" : "failure")
        return done(exit)
      }
    }
    const plan = planOf(config, exit)
    return run.attempt >= plan.maxAttempts
      ? done(giveUp(config, run, exit, "Attempts"))
      : { _tag: "Retry", plan }
  } catch (error) {
    ended(config, run, exit, "Aborted", "failure")
    return done(Exit.die(new OptionThrewError("Retry", config.instance, "retryOn, abortOn or retryOnResult", error)))
  }
}

/** A failure of the typed channel that says something about the dependency. Defects are bugs, and stay. */
const isRetryable = (classify: Classify, exit: Exit.Failure<unknown, unknown>): boolean =>
  Option.isSome(Cause.failureOption(exit.cause)) && classify(exit) === "failure"

const planOf = (config: LoopConfig, exit: Exit.Exit<unknown, unknown>): Plan => {
  if (config.plans.size === 0) return config.plan
  const error = errorOf(exit)
  return Predicate.hasProperty(error, "_tag") ? config.plans.get(String(error._tag)) ?? config.plan : config.plan
}

/** The real last failure, or the typed rejection of the last value. */
const giveUp = <A, E>(
  config: LoopConfig,
  run: Run,
  exit: Exit.Exit<A, E>,
  reason: Retry.Exhaustion
): Exit.Exit<A, unknown> => {
  ended(config, run, exit, reason, "failure")
  return exit._tag === "Success" ? config.rejectResult(exit.value, run.attempt) : exit
}

const ended = (
  config: LoopConfig,
  run: Run,
  exit: Exit.Exit<unknown, unknown>,
  reason: Retry.Exhaustion,
  ending: Ending
): void => config.watch.exhausted({ call: run.call, attempts: run.attempt, error: errorOf(exit), reason, ending })

/** How long to wait, or why not to. `named`: the error or the user named it, so it is not shortened. */
interface Wait {
  readonly delay: Nanos
  readonly stop: Retry.Exhaustion | undefined
  readonly named: boolean
}

const delayOf = (
  config: LoopConfig,
  run: Run,
  plan: Plan,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<Wait> => {
  const named = (delay: Nanos): Effect.Effect<Wait> =>
    Effect.succeed({ delay, stop: delay > config.maxDelay ? "Duration" : undefined, named: true })
  if (config.delayFrom !== undefined) {
    let choice: Retry.Delay
    try {
      choice = config.delayFrom(exit, run.attempt)
    } catch (error) {
      return Effect.die(new OptionThrewError("Retry", config.instance, "delayFrom", error))
    }
    if (choice === "stop") return Effect.succeed({ delay: 0n, stop: "Aborted", named: true })
    if (choice !== "default") return Effect.succeed({ delay: toNanos(choice.after), stop: undefined, named: true })
  }
  const asked = retryAfterOf(errorOf(exit))
  if (asked !== undefined) return named(toNanos(asked))
  return Effect.suspend(() => {
    const millis = currentClock().unsafeCurrentTimeMillis()
    const state = run.states.has(plan) ? run.states.get(plan) : plan.schedule.initial
    return Effect.map(plan.schedule.step(millis, errorOf(exit), state), ([next, , decision]): Wait => {
      run.states.set(plan, next)
      if (decision._tag === "Done") return { delay: 0n, stop: "Attempts", named: false }
      const delay = Intervals.start(decision.intervals) - millis
      return { delay: delay > 0 ? toNanos(Duration.millis(delay)) : 0n, stop: undefined, named: false }
    })
  })
}

type Reservation =
  | { readonly _tag: "Stop"; readonly reason: Retry.Exhaustion }
  | { readonly _tag: "Go"; readonly refund: () => void }

/** Nothing sleeps past a limit, and nothing sleeps that has not been paid for. */
const reserve = (config: LoopConfig, run: Run, wait: Wait): Reservation => {
  if (wait.stop !== undefined) return { _tag: "Stop", reason: wait.stop }
  const time = now()
  const fiber = Fiber.getCurrentFiber()
  const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
  if (deadline !== undefined && time + wait.delay >= deadline.at) return { _tag: "Stop", reason: "Deadline" }
  if (config.maxDuration !== undefined && time - run.start + wait.delay >= config.maxDuration) {
    return { _tag: "Stop", reason: "Duration" }
  }
  if (wait.delay >= forever) return { _tag: "Stop", reason: "Duration" }
  const { bucket } = config
  if (bucket === undefined) return { _tag: "Go", refund: () => {} }
  const source = bucket.withdraw(time)
  return source === undefined
    ? { _tag: "Stop", reason: "Budget" }
    : { _tag: "Go", refund: () => bucket.refund(source) }
}

const errorOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  exit._tag === "Success" ? exit.value : Cause.squash(exit.cause)

/** The time that an error asks for, as a `Duration` or an `Option` of one. @internal */
export const retryAfterOf = (error: unknown): Duration.Duration | undefined => {
  if (!Predicate.hasProperty(error, "retryAfter")) return undefined
  const { retryAfter } = error
  if (Duration.isDuration(retryAfter)) return retryAfter
  return Option.isOption(retryAfter) && Option.isSome(retryAfter) && Duration.isDuration(retryAfter.value)
    ? retryAfter.value
    : undefined
}
