import type { Nanos } from "./time.js"

/** The window over which the least lag counts, as in CoDel. @internal */
export const lagWindow: Nanos = 100_000_000n

/**
 * The least lateness of a timer within the last full window: what was late all the time stands in a queue, what was late
 * once was a pause. A window has two readings at least, or a single pause would fill one.
 *
 * Source: CoDel (Nichols and Jacobson, 2012), the minimum over an interval.
 *
 * @internal
 */
export class LeastLag {
  private least: Nanos | undefined
  private last: Nanos | undefined
  private begun: Nanos
  private readings = 0

  constructor(now: Nanos) {
    this.begun = now
  }

  record(lag: Nanos, now: Nanos): void {
    if (this.least === undefined || lag < this.least) this.least = lag
    this.readings++
    if (now - this.begun < lagWindow || this.readings < 2) return
    this.readings = 0
    this.last = this.least
    this.least = undefined
    this.begun = now
  }

  /** The least lag of the last full window; nothing before there was one. */
  get value(): Nanos | undefined {
    return this.last
  }
}
