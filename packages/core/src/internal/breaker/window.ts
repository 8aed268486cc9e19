import type { Nanos } from "../time.js"
import { forever } from "../time.js"

/** What a window holds. @internal */
export interface Totals {
  readonly calls: number
  readonly failures: number
  readonly slow: number
}

/** A part of a window and how old it is: means the same in another process. @internal */
export interface AgedTotals extends Totals {
  readonly age: Nanos
}

/**
 * The calls that the rules of a closed circuit look at. It is mutable, owned by one period and replaced with it, never
 * reset: a late result of an earlier period counts in a window that nobody reads any more.
 *
 * A window is aged by the time it is given, never by traffic.
 *
 * @internal
 */
export interface Window {
  /** Whether there may be failures in it. */
  readonly failing: boolean
  readonly record: (now: Nanos, calls: number, failures: number, slow: number) => void
  readonly totals: (now: Nanos) => Totals
  /** All that was ever recorded, what has left the window too. */
  readonly ever: () => Totals
  /** From the oldest to the newest. */
  readonly parts: (now: Nanos) => ReadonlyArray<AgedTotals>
}

/** Buckets of a window of time, the current one included. @internal */
export const bucketCount = 10

const past = bucketCount - 1

/** Before every time: the window is empty. */
const unset: Nanos = -forever

/**
 * The calls of the last `length`, in ten buckets: running totals and a ring, so recording costs the same however long
 * the window is. A bucket leaves as a whole.
 *
 * Source: the sliding time window of resilience4j (`SlidingTimeWindowMetrics`), which also expires on read.
 *
 * @internal
 */
export class DurationWindow implements Window {
  private readonly bucket: Nanos
  /** End of the current bucket. */
  private end: Nanos = unset
  private calls = 0
  private failures = 0
  private slow = 0
  private readonly ring = new Uint32Array(3 * past)
  private at = 0
  private pastCalls = 0
  private pastFailures = 0
  private pastSlow = 0
  /** What left the current bucket. */
  private everCalls = 0
  private everFailures = 0
  private everSlow = 0

  constructor(length: Nanos) {
    this.bucket = length / BigInt(bucketCount) || 1n
  }

  get failing(): boolean {
    return this.failures + this.pastFailures > 0
  }

  record(now: Nanos, calls: number, failures: number, slow: number): void {
    if (now >= this.end) this.roll(now)
    this.calls += calls
    this.failures += failures
    this.slow += slow
  }

  /** A successful call that was not slow: nearly all calls, so it has a path of its own. */
  success(now: Nanos): void {
    if (now >= this.end) this.roll(now)
    this.calls++
  }

  totals(now: Nanos): Totals {
    if (now >= this.end) this.roll(now)
    return {
      calls: this.pastCalls + this.calls,
      failures: this.pastFailures + this.failures,
      slow: this.pastSlow + this.slow
    }
  }

  parts(now: Nanos): ReadonlyArray<AgedTotals> {
    if (now >= this.end) this.roll(now)
    const parts: Array<AgedTotals> = []
    const started = this.end - this.bucket
    for (let i = 0; i < past; i++) {
      const k = 3 * ((this.at + i) % past)
      const [calls = 0, failures = 0, slow = 0] = this.ring.subarray(k, k + 3)
      if (calls + failures + slow > 0) {
        parts.push({ age: now - started + BigInt(past - i) * this.bucket, calls, failures, slow })
      }
    }
    if (this.calls + this.failures + this.slow > 0) {
      parts.push({ age: now - started, calls: this.calls, failures: this.failures, slow: this.slow })
    }
    return parts
  }

  /** Puts a part of another process's window where it belongs. Parts come from the oldest to the newest. */
  restore(now: Nanos, part: AgedTotals): void {
    this.record(now - part.age, part.calls, part.failures, part.slow)
  }

  ever(): Totals {
    return {
      calls: this.everCalls + this.calls,
      failures: this.everFailures + this.failures,
      slow: this.everSlow + this.slow
    }
  }

  /** Leaves the buckets behind that are over: at most once per bucket, whatever the gap. */
  private roll(now: Nanos): void {
    this.everCalls += this.calls
    this.everFailures += this.failures
    this.everSlow += this.slow
    const steps = this.end === unset ? bucketCount : Number((now - this.end) / this.bucket) + 1
    if (steps >= bucketCount) {
      this.ring.fill(0)
      this.calls = this.failures = this.slow = 0
      this.pastCalls =
        this.pastFailures =
        this.pastSlow =
        this.at =
          0
      this.end = now + this.bucket
      return
    }
    for (let i = 0; i < steps; i++) {
      const k = 3 * this.at
      this.at = (this.at + 1) % past
      this.pastCalls += this.calls - (this.ring[k] ?? 0)
      this.pastFailures += this.failures - (this.ring[k + 1] ?? 0)
      this.pastSlow += this.slow - (this.ring[k + 2] ?? 0)
      this.ring[k] = this.calls
      this.ring[k + 1] = this.failures
      this.ring[k + 2] = this.slow
      this.calls = this.failures = this.slow = 0
    }
    this.end += BigInt(steps) * this.bucket
  }
}

const failed = 1
const late = 2

/**
 * The last `size` calls, a byte each.
 *
 * @internal
 */
export class CountWindow implements Window {
  private readonly ring: Uint8Array
  private at = 0
  private calls = 0
  private failures = 0
  private slow = 0
  private everCalls = 0
  private everFailures = 0
  private everSlow = 0

  constructor(size: number) {
    this.ring = new Uint8Array(size)
  }

  get failing(): boolean {
    return this.failures > 0
  }

  record(_now: Nanos, calls: number, failures: number, slow: number): void {
    this.everCalls += calls
    this.everFailures += failures
    this.everSlow += slow
    if (calls === 0) return this.amend(failures, slow)
    if (this.calls === this.ring.length) {
      const oldest = this.ring[this.at] ?? 0
      if ((oldest & failed) !== 0) this.failures--
      if ((oldest & late) !== 0) this.slow--
    } else {
      this.calls++
    }
    this.ring[this.at] = (failures > 0 ? failed : 0) | (slow > 0 ? late : 0)
    this.at = (this.at + 1) % this.ring.length
    if (failures > 0) this.failures++
    if (slow > 0) this.slow++
  }

  success(now: Nanos): void {
    this.record(now, 1, 0, 0)
  }

  totals(): Totals {
    return { calls: this.calls, failures: this.failures, slow: this.slow }
  }

  ever(): Totals {
    return { calls: this.everCalls, failures: this.everFailures, slow: this.everSlow }
  }

  parts(): ReadonlyArray<AgedTotals> {
    const parts: Array<AgedTotals> = []
    for (let i = 0; i < this.calls; i++) {
      const k = (this.at - this.calls + i + this.ring.length) % this.ring.length
      const flags = this.ring[k] ?? 0
      parts.push({ age: 0n, calls: 1, failures: flags & failed, slow: (flags & late) >> 1 })
    }
    return parts
  }

  restore(now: Nanos, part: AgedTotals): void {
    for (let i = 0; i < part.calls; i++) {
      this.record(now, 1, i < part.failures ? 1 : 0, i < part.slow ? 1 : 0)
    }
  }

  /** More is known of a call that was recorded while it ran: the newest that says less takes the mark. */
  private amend(failures: number, slow: number): void {
    const mark = (failures > 0 ? failed : 0) | (slow > 0 ? late : 0)
    for (let i = 1; i <= this.calls; i++) {
      const k = (this.at - i + this.ring.length) % this.ring.length
      const flags = this.ring[k] ?? 0
      if ((flags & mark) === 0 && (flags & late) !== 0) {
        this.ring[k] = flags | mark
        if (failures > 0) this.failures++
        if (slow > 0) this.slow++
        return
      }
    }
  }
}

/** @internal */
export type Windows = DurationWindow | CountWindow
