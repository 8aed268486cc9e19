import type { Share, Waiter } from "./waiters.js"
import { Turn as AnyTurn } from "./waiting.js"

/** What becomes of a waiting call: its permits, or why it is turned away. @internal */
export type Verdict = true | "QueueFull" | "WaitExceeded" | "DeadlineTooClose" | "TooManyPermits"

/** The turn of a call that waits for permits. @internal */
export class Turn extends AnyTurn<Verdict> implements Waiter {
  place: Waiter["place"] = "Waiting"
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined

  constructor(
    readonly permits: number,
    readonly rank: number,
    readonly share: Share | undefined,
    readonly returns = false
  ) {
    super()
  }
}
