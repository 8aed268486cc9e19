import type { Nanos } from "./time.js"

/** A call that waits for its permits. @internal */
export interface Waiter {
  readonly permits: number
  /** A small whole number, the least important first. */
  readonly rank: number
  /** Whose call it is, where each key has a line of its own. */
  readonly key?: string | undefined
  /** Called once: with `true` when the permits are its own, with a reason when it is turned away. */
  readonly decide: (granted: true | "QueueFull" | "TooManyPermits") => void
  /** Where it stands; `"Granted"` means that the permits are its own and it has to give them back. */
  place: "Waiting" | "Granted" | "Gone"
  before: Waiter | undefined
  behind: Waiter | undefined
}

/** @internal */
export type Order = "fifo" | "lifo" | "adaptive"

/** An adaptive queue turns around when it has not been empty for so long. @internal */
export const persistence: Nanos = 100_000_000n

/**
 * A pool of permits and the line before it. Permits are handed over: what is given back goes straight to the waiter whose
 * turn it is, and nobody passes. A waiter that needs more than is left makes those behind it wait, though permits are free
 * meanwhile; where the newest goes first, a newcomer is not behind it.
 *
 * It is mutable, owned by the `Ref` that holds it, and touched in one synchronous step at a time.
 *
 * Source of the adaptive order: "Fail at Scale" (Ben Maurer, ACM Queue 2015): first in, first out while the queue drains,
 * last in, first out once it stands, because by then the oldest callers have given up.
 *
 * @internal
 */
export class Permits {
  used = 0
  peak = 0
  waiting = 0
  private head: Waiter | undefined
  private tail: Waiter | undefined
  /** Since when somebody waits. */
  protected standing: Nanos = 0n
  /** How many wait of each rank. */
  private readonly ranks: Array<number> = []

  constructor(public limit: number, public maxQueued: number, readonly order: Order) {}

  /** Takes permits if they are free and it is nobody else's turn. The order of an empty line asks for no time. */
  take(permits: number, now: () => Nanos, _key?: string): boolean {
    if (this.used + permits > this.limit || (this.head !== undefined && !this.isLifo(now()))) return false
    this.grant(permits)
    return true
  }

  /**
   * Puts a waiter in line. A full line turns away who matters least: the newcomer, unless one that waits has a lower
   * rank (the newest of those), or the order is last in, first out, where the oldest of its rank goes.
   */
  enqueue(waiter: Waiter, now: Nanos): boolean {
    if (!this.hasPlace(waiter.rank, now)) return false
    if (this.head === undefined) this.standing = now
    const victim = this.waiting >= this.maxQueued ? this.least(now) : undefined
    if (victim !== undefined) {
      this.remove(victim)
      victim.decide("QueueFull")
    }
    waiter.before = this.tail
    if (this.tail === undefined) this.head = waiter
    else this.tail.behind = waiter
    this.tail = waiter
    this.waiting++
    this.ranks[waiter.rank] = this.ofRank(waiter.rank) + 1
    // Those behind one that needed many and was pushed out.
    if (victim !== undefined) this.serve(now)
    return true
  }

  /** Whether a call of this rank may join the line. */
  hasPlace(rank: number, now: Nanos, _key?: string): boolean {
    if (this.waiting < this.maxQueued) return true
    if (this.waiting === 0) return false
    const lowest = this.lowestRank()
    return lowest < rank || (lowest === rank && this.isLifo(now))
  }

  /** Gives permits back, to those who wait for them. */
  release(permits: number, now: Nanos, _key?: string): void {
    this.used -= permits
    this.serve(now)
  }

  /** A waiter goes away: what it was handed already goes on to the next. */
  abandon(waiter: Waiter, now: Nanos): void {
    if (waiter.place === "Granted") {
      waiter.place = "Gone"
      this.release(waiter.permits, now)
    } else if (waiter.place === "Waiting") {
      this.remove(waiter)
      this.serve(now)
    }
  }

  /** Changes the limit. Shrinking waits for nobody: what is in use stays in use until it is given back. */
  resize(limit: number, now: Nanos): void {
    this.limit = limit
    for (let waiter = this.head; waiter !== undefined;) {
      const { behind } = waiter
      if (waiter.permits > limit) {
        this.remove(waiter)
        waiter.decide("TooManyPermits")
      }
      waiter = behind
    }
    this.serve(now)
  }

  /** Hands out what is free, in order. */
  private serve(now: Nanos): void {
    if (this.head === undefined) return
    for (;;) {
      const next: Waiter | undefined = this.isLifo(now) ? this.tail : this.head
      if (next === undefined || this.used + next.permits > this.limit) return
      this.remove(next)
      next.place = "Granted"
      this.grant(next.permits)
      next.decide(true)
    }
  }

  protected grant(permits: number): void {
    this.used += permits
    if (this.used > this.peak) this.peak = this.used
  }

  protected isLifo(now: Nanos): boolean {
    return this.order === "lifo" || (this.order === "adaptive" && now - this.standing >= persistence)
  }

  /** The waiter of the lowest rank: the newest of them, or the oldest where the newest is served first. */
  private least(now: Nanos): Waiter | undefined {
    const lowest = this.lowestRank()
    const lifo = this.isLifo(now)
    let waiter = lifo ? this.head : this.tail
    while (waiter !== undefined && waiter.rank !== lowest) waiter = lifo ? waiter.behind : waiter.before
    return waiter
  }

  private lowestRank(): number {
    return this.ranks.findIndex((count) => count > 0)
  }

  private ofRank(rank: number): number {
    return this.ranks[rank] ?? 0
  }

  private remove(waiter: Waiter): void {
    if (waiter.before === undefined) this.head = waiter.behind
    else waiter.before.behind = waiter.behind
    if (waiter.behind === undefined) this.tail = waiter.before
    else waiter.behind.before = waiter.before
    waiter.before = waiter.behind = undefined
    waiter.place = "Gone"
    this.waiting--
    this.ranks[waiter.rank] = this.ofRank(waiter.rank) - 1
  }
}
