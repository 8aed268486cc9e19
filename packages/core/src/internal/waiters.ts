import type { Nanos } from "./time.js"

/** @internal */
export type Order = "fifo" | "lifo" | "adaptive"

/** An adaptive line turns around when it has not been empty for so long. @internal */
export const persistence: Nanos = 100_000_000n

/** Whose call it is, where each key has a line of its own. @internal */
export interface Share {
  readonly key: string
  /** So many times the part of a key of weight 1. */
  readonly weight: number
}

/** A call that waits for its permits. @internal */
export interface Waiter {
  readonly permits: number
  /** A small whole number, the least important first. */
  readonly rank: number
  readonly share?: Share | undefined
  /** It was its turn before: it is older than all others. */
  readonly returns?: boolean
  /** Called once: with `true` when the permits are its own, with a reason when it is turned away. */
  readonly decide: (granted: true | "QueueFull" | "TooManyPermits") => void
  /** Where it stands; `"Granted"` means that the permits are its own and it has to give them back. */
  place: "Waiting" | "Granted" | "Gone"
  before: Waiter | undefined
  behind: Waiter | undefined
}

/** Those who wait for permits, and who of them is next. @internal */
export interface Queue {
  readonly size: number
  readonly add: (waiter: Waiter, now: Nanos) => void
  readonly remove: (waiter: Waiter) => void
  /** Who is next. Asked only while a permit is free. */
  readonly next: (now: Nanos) => Waiter | undefined
  /** Whether a newcomer would be next. */
  readonly isNext: (rank: number, now: Nanos, share?: Share) => boolean
  /** Who gives way to a newcomer when the queue is full, if anybody. */
  readonly victim: (rank: number, now: Nanos, share?: Share) => Waiter | undefined
  readonly took: (permits: number, share?: Share) => void
  readonly gave: (permits: number, share?: Share) => void
  /** In no order that means something. What is met may be removed. */
  readonly [Symbol.iterator]: () => Iterator<Waiter>
}

/**
 * A line for each rank. The highest rank is served first, and within it the oldest or the newest, as the order says;
 * whoever would be served last gives way to a newcomer that would not.
 *
 * Source of the adaptive order: "Fail at Scale" (Ben Maurer, ACM Queue 2015): first in, first out while the queue drains,
 * last in, first out once it stands, because by then the oldest callers have given up.
 *
 * @internal
 */
export class Waiters implements Queue {
  size = 0
  /** By rank. */
  private readonly oldest: Array<Waiter | undefined> = []
  private readonly newest: Array<Waiter | undefined> = []
  /** Since when somebody waits. */
  private standing: Nanos = 0n

  constructor(private readonly order: Order) {}

  add(waiter: Waiter, now: Nanos): void {
    const { rank } = waiter
    if (this.size === 0) this.standing = now
    this.size++
    if (waiter.returns === true && !this.isLifo(now)) return this.addOldest(waiter)
    const before = this.newest[rank]
    waiter.before = before
    if (before === undefined) this.oldest[rank] = waiter
    else before.behind = waiter
    this.newest[rank] = waiter
  }

  /** Before all but those that have come back before it. */
  private addOldest(waiter: Waiter): void {
    const { rank } = waiter
    let before: Waiter | undefined
    let behind = this.oldest[rank]
    while (behind?.returns === true) {
      before = behind
      behind = behind.behind
    }
    waiter.before = before
    waiter.behind = behind
    if (before === undefined) this.oldest[rank] = waiter
    else before.behind = waiter
    if (behind === undefined) this.newest[rank] = waiter
    else behind.before = waiter
  }

  remove(waiter: Waiter): void {
    const { before, behind, rank } = waiter
    if (before === undefined) this.oldest[rank] = behind
    else before.behind = behind
    if (behind === undefined) this.newest[rank] = before
    else behind.before = before
    waiter.before = waiter.behind = undefined
    this.size--
  }

  next(now: Nanos): Waiter | undefined {
    const line = this.isLifo(now) ? this.newest : this.oldest
    for (let rank = line.length - 1; rank >= 0; rank--) if (line[rank] !== undefined) return line[rank]
    return undefined
  }

  /** Who would be served last. */
  last(now: Nanos): Waiter | undefined {
    return (this.isLifo(now) ? this.oldest : this.newest).find((waiter) => waiter !== undefined)
  }

  isNext(rank: number, now: Nanos): boolean {
    const next = this.next(now)
    return next === undefined || next.rank < rank || (next.rank === rank && this.isLifo(now))
  }

  victim(rank: number, now: Nanos): Waiter | undefined {
    const last = this.last(now)
    return last !== undefined && (last.rank < rank || (last.rank === rank && this.isLifo(now))) ? last : undefined
  }

  took(): void {}

  gave(): void {}

  *[Symbol.iterator](): Generator<Waiter> {
    for (let waiter of this.oldest) {
      while (waiter !== undefined) {
        const { behind }: Waiter = waiter
        yield waiter
        waiter = behind
      }
    }
  }

  private isLifo(now: Nanos): boolean {
    return this.order === "lifo" || (this.order === "adaptive" && now - this.standing >= persistence)
  }
}
