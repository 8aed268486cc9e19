import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { deadlineOf } from "./ambient.js"
import type { Restore } from "./guard.js"
import type { Nanos } from "./time.js"
import { clockOf, now } from "./time.js"
import { scheduleWait } from "./wait.js"

/** The turn of one who waits in line, as an effect: it is decided once, whoever is first. @internal */
export class Turn<Verdict> {
  private verdict: Verdict | undefined
  private resume: ((result: Effect.Effect<Verdict>) => void) | undefined

  readonly await = Effect.async<Verdict>((resume) => {
    if (this.verdict !== undefined) resume(Exit.succeed(this.verdict))
    else this.resume = resume
  })

  get isDecided(): boolean {
    return this.verdict !== undefined
  }

  readonly decide = (verdict: Verdict): void => {
    if (this.verdict !== undefined) return
    this.verdict = verdict
    this.resume?.(Exit.succeed(verdict))
  }
}

/**
 * Waits in line, uninterruptibly but for the wait itself: until the turn is decided, for `span` at most, and no longer
 * than the ambient deadline.
 *
 * @internal
 */
export const waitInLine = <Verdict, A, E, R>(
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  span: Nanos,
  turn: Turn<Verdict>,
  restore: Restore,
  on: {
    /** The wait is over and nobody has decided: leave the line, and say with what verdict. */
    readonly expired: (byDeadline: boolean) => Verdict
    /** `late`: the deadline had passed all the same, because a busy event loop rings late. */
    readonly decided: (verdict: Verdict, waited: Nanos, late: boolean) => Effect.Effect<A, E, R>
    /** Leave the line, or give back what was handed over already. */
    readonly interrupted: (waited: Nanos) => void
  }
): Effect.Effect<A, E, R> => {
  const since = clockOf(fiber).unsafeCurrentTimeNanos()
  const cancel = scheduleWait(fiber, span, (byDeadline) => {
    if (!turn.isDecided) turn.decide(on.expired(byDeadline))
  })
  return Effect.matchCauseEffect(restore(turn.await), {
    onSuccess: (verdict) => {
      cancel()
      const time = now()
      const deadline = deadlineOf(fiber)
      return on.decided(verdict, time - since, deadline !== undefined && deadline.at <= time)
    },
    onFailure: (cause) => {
      cancel()
      on.interrupted(now() - since)
      return Exit.failCause(cause)
    }
  })
}
