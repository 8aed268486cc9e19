import { afterReading, awaited, realNow } from "./realTime.js"

/** A command that waits for its answer: a link of the chain of all that do. @internal */
export abstract class Waiting {
  settled = false
  before: Waiting | undefined = undefined
  behind: Waiting | undefined = undefined
  constructor(
    /** When, in milliseconds. */
    readonly sent: number
  ) {}
  /** Called where there is no answer in time, or none will come because the connection was closed. */
  abstract expire(closed: boolean): void
}

/**
 * Commands that wait for their answer. All are given the same time, so the first in is the first that is due: one timer
 * serves all.
 *
 * @internal
 */
export class Inflight {
  private first: Waiting | undefined
  private last: Waiting | undefined
  private disarm: (() => void) | undefined
  /** How many wait. */
  pending = 0

  constructor(private readonly millis: number) {}

  add(waiting: Waiting): void {
    this.pending++
    waiting.before = this.last
    if (this.last === undefined) this.first = waiting
    else this.last.behind = waiting
    this.last = waiting
    this.disarm ??= awaited(this.millis, this.ring)
  }

  /** Its answer is here, or it is given up: nobody waits for it any more. */
  settle(waiting: Waiting): void {
    const { before, behind } = waiting
    waiting.settled = true
    this.pending--
    if (before === undefined) this.first = behind
    else before.behind = behind
    if (behind === undefined) this.last = before
    else behind.before = before
    waiting.before = waiting.behind = undefined
  }

  /** What waited for this process, and not for the server, is no timeout. */
  private readonly ring = (): void => afterReading(this.expire)

  private readonly expire = (): void => {
    this.disarm = undefined
    const due = realNow() - this.millis
    while (this.first !== undefined && this.first.sent <= due) {
      const { first } = this
      this.settle(first)
      first.expire(false)
    }
    if (this.first !== undefined) this.disarm ??= awaited(Math.max(this.first.sent - due, 1), this.ring)
  }

  /** Expires all at once. */
  close(): void {
    this.disarm?.()
    this.disarm = undefined
    while (this.first !== undefined) {
      const { first } = this
      this.settle(first)
      first.expire(true)
    }
  }
}
