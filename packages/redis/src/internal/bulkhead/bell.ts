import * as Effect from "effect/Effect"
import { later, realNow } from "../realTime.js"

/** What a fiber waits for: it is rung, or the time comes. @internal */
export class Bell {
  private rung = false
  private resume: (() => void) | undefined

  readonly ring = (): void => {
    this.rung = true
    this.resume?.()
  }

  /** Waits until it was rung since the last time, or `due` has come. */
  until(due: number): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const wake = () => {
        cancel()
        this.rung = false
        this.resume = undefined
        resume(Effect.void)
      }
      const cancel = due === Infinity ? () => {} : later(Math.max(due - realNow(), 0), wake)
      this.resume = wake
      if (this.rung) wake()
      return Effect.sync(() => {
        cancel()
        this.resume = undefined
      })
    })
  }
}
