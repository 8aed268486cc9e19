import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Waiter } from "./permits.js"

/** What becomes of a waiting call: its permits, or why it is turned away. @internal */
export type Verdict = true | "QueueFull" | "WaitExceeded" | "DeadlineTooClose" | "TooManyPermits"

/** A waiter as an effect: it is decided once, whoever is first. @internal */
export class Turn implements Waiter {
  place: Waiter["place"] = "Waiting"
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  private verdict: Verdict | undefined
  private resume: ((result: Effect.Effect<Verdict>) => void) | undefined

  constructor(readonly permits: number, readonly rank: number, readonly key?: string) {}

  readonly await = Effect.async<Verdict>((resume) => {
    if (this.verdict !== undefined) resume(Exit.succeed(this.verdict))
    else this.resume = resume
  })

  readonly decide = (verdict: Verdict): void => {
    if (this.verdict !== undefined) return
    this.verdict = verdict
    this.resume?.(Exit.succeed(verdict))
  }

  /** The wait is over, unless the permits came first. */
  expire(reason: "WaitExceeded" | "DeadlineTooClose", leave: () => void): void {
    if (this.verdict !== undefined) return
    leave()
    this.decide(reason)
  }
}
