import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { errorOf } from "./errors.js"
import type { Call } from "./event.js"

/** What made a fallback necessary. @internal */
export interface Trigger {
  readonly kind: "error" | "defect" | "result"
  readonly error: unknown
}

/** A fallback: steps that are tried in order, and what it fails with when none of them answers. @internal */
export interface Recovery<A, E, R> {
  readonly trigger: Trigger
  /** Whether a step that dies is a step that failed. Otherwise its defect ends the call. */
  readonly catchDefects: boolean
  readonly steps: ReadonlyArray<(failures: ReadonlyArray<unknown>) => Effect.Effect<A, E, R>>
  readonly failWith: (failures: ReadonlyArray<unknown>, last: Cause.Cause<E>) => Exit.Exit<never, E>
}

/** @internal */
export interface AnswerWatch {
  readonly call: () => Call | undefined
  readonly primary: () => void
  readonly running: (by: 1 | -1) => void
  readonly used: (call: Call | undefined, step: number, trigger: Trigger, error: unknown) => void
  readonly exhausted: (call: Call | undefined, errors: ReadonlyArray<unknown>) => void
  readonly failed: () => void
  readonly ignored: () => void
}

/**
 * A typed failure, or a defect where that is asked for. Interruption alone never triggers a fallback; beside a failure it
 * is what concurrent work does to the rest of itself.
 *
 * @internal
 */
export const triggerOf = (cause: Cause.Cause<unknown>, catchDefects: boolean): Trigger | undefined => {
  if (Cause.isFailure(cause)) return { kind: "error", error: errorOf(cause) }
  return catchDefects && Cause.isDie(cause) ? { kind: "defect", error: errorOf(cause) } : undefined
}

/**
 * Runs an effect; where `onCause` or `onValue` name a recovery, that answers instead.
 *
 * @internal
 */
export const answer = <A, E, R, A2, E2, R2>(
  watch: AnswerWatch,
  effect: Effect.Effect<A, E, R>,
  onCause: (cause: Cause.Cause<E>) => Recovery<A2, E2, R2> | undefined,
  onValue?: (value: A) => Recovery<A2, E2, R2> | undefined
): Effect.Effect<A | A2, E | E2, R | R2> =>
  Effect.matchCauseEffect(effect, {
    onSuccess: (value): Effect.Effect<A | A2, E2, R2> => {
      const recovery = onValue?.(value)
      if (recovery !== undefined) return recover(watch, recovery)
      watch.primary()
      return Exit.succeed(value)
    },
    onFailure: (cause): Effect.Effect<A2, E | E2, R2> => {
      const recovery = onCause(cause)
      if (recovery !== undefined) return recover(watch, recovery)
      lost(watch, cause)
      return Exit.failCause(cause)
    }
  })

const lost = (watch: AnswerWatch, cause: Cause.Cause<unknown>): void => {
  if (Cause.isInterruptedOnly(cause)) watch.ignored()
  else watch.failed()
}

const recover = <A, E, R>(
  watch: AnswerWatch,
  { catchDefects, failWith, steps, trigger }: Recovery<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) => {
    const call = watch.call()
    // Never written to: steps, events and the error keep what they are given.
    let failures: ReadonlyArray<unknown> = [trigger.error]
    const run = (index: number): Effect.Effect<A, E, R> =>
      Effect.matchCauseEffect(restore(Effect.suspend(() => steps[index]?.(failures) ?? Effect.interrupt)), {
        onSuccess: (value) => {
          watch.running(-1)
          watch.used(call, index + 1, trigger, failures[failures.length - 1])
          return Exit.succeed(value)
        },
        onFailure: (cause) => {
          const failed = triggerOf(cause, catchDefects) !== undefined
          if (!Cause.isInterruptedOnly(cause)) {
            failures = [...failures, errorOf(cause)]
            if (failed && index + 1 < steps.length) return run(index + 1)
            watch.exhausted(call, failures)
          }
          watch.running(-1)
          lost(watch, cause)
          return failed ? failWith(failures, cause) : Exit.failCause(cause)
        }
      })
    watch.running(1)
    return run(0)
  })
