import { awaited, realNow } from "./realTime.js"

/** A command that waits for its answer. @internal */
export interface Waiting {
  readonly sent: number
  settled: boolean
  /** Called where there is no answer in time, or none will come. */
  readonly expire: (closed: boolean) => void
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
  /** How many wait. */
  pending = 0

  constructor(private readonly millis: number) {}

  add(waiting: Waiting): void {
    this.pending++
    this.queue.push(waiting)
    this.disarm ??= awaited(this.millis, this.ring)
  }

  /** Whether the answer to it is the first, and in time; from then on it is not waited for. */
  settle(waiting: Waiting): boolean {
    if (waiting.settled) return false
    waiting.settled = true
    this.pending--
    return true
  }

  private readonly ring = (): void => {
    this.disarm = undefined
    const due = realNow() - this.millis
    for (;;) {
      const first = this.queue[this.head]
      if (first === undefined || (!first.settled && first.sent > due)) break
      this.head++
      if (this.settle(first)) first.expire(false)
    }
    this.queue = this.queue.slice(this.head)
    this.head = 0
    const [next] = this.queue
    if (next !== undefined) this.disarm ??= awaited(Math.max(next.sent - due, 1), this.ring)
  }

  /** Expires all at once. */
  close(): void {
    this.disarm?.()
    this.disarm = undefined
    const left = this.queue
    this.queue = []
    this.head = 0
    for (const waiting of left) if (this.settle(waiting)) waiting.expire(true)
  }
}
