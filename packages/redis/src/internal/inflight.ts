import { later, realNow } from "./realTime.js"

/** @internal */
export interface Waiting {
  readonly due: number
  settled: boolean
  readonly expire: () => void
}

/**
 * Commands that wait for their answer. All are given the same time, so the first in is the first that is due: one timer
 * serves all.
 *
 * @internal
 */
export class Inflight {
  private queue: Array<Waiting> = []
  private head = 0
  private disarm: (() => void) | undefined

  constructor(private readonly millis: number) {}

  /** Calls `expire` once, unless what is returned is marked as settled before its time. */
  add(expire: () => void): Waiting {
    const waiting: Waiting = { due: realNow() + this.millis, settled: false, expire }
    this.queue.push(waiting)
    this.disarm ??= later(this.millis, this.ring)
    return waiting
  }

  private readonly ring = (): void => {
    this.disarm = undefined
    const now = realNow()
    for (;;) {
      const first = this.queue[this.head]
      if (first === undefined) break
      if (!first.settled && first.due > now) break
      this.head++
      if (!first.settled) {
        first.settled = true
        first.expire()
      }
    }
    this.queue = this.queue.slice(this.head)
    this.head = 0
    const [next] = this.queue
    if (next !== undefined) this.disarm ??= later(Math.max(next.due - now, 1), this.ring)
  }

  /** Forgets all without a word. */
  close(): void {
    this.disarm?.()
    this.queue = []
  }
}
