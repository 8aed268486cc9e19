import type { Nanos } from "./time.js"
import type { Waiter } from "./waiters.js"
import { Waiters } from "./waiters.js"

/** @internal */
export type Order = "fifo" | "lifo" | "adaptive"

/** An adaptive queue turns around when it has not been empty for so long. @internal */
export const persistence: Nanos = 100_000_000n

/**
 * A pool of permits and the queue before it. Permits are handed over: what is given back goes straight to the waiter whose
 * turn it is. The highest rank is next, and within it the oldest or the newest, as the order says. A newcomer takes what
 * is free only if it would be next: it passes those of a lower rank, and its equals where the newest goes first. A waiter
 * that needs more than is left makes those after it wait, though permits are free meanwhile.
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
  private readonly waiters = new Waiters()
  /** Since when somebody waits. */
  protected standing: Nanos = 0n

  constructor(public limit: number, public maxQueued: number, readonly order: Order) {}

  /** Takes permits where they are free for a call of this rank. */
  take(permits: number, rank: number, now: () => Nanos, key?: string): boolean {
    if (!this.isFree(permits, rank, now, key)) return false
    this.grant(permits)
    return true
  }

  /** Whether so many are free, and it is nobody else's turn. The order of an empty queue asks for no time. */
  isFree(permits: number, rank: number, now: () => Nanos, _key?: string): boolean {
    if (this.used + permits > this.limit) return false
    return this.waiting === 0 || this.waiters.isNext(rank, this.isLifo(now()))
  }

  /**
   * Puts a waiter in the queue that could not take its permits. A full one turns away whoever would be served last: the
   * newcomer, unless one that waits has a lower rank, or the order is last in, first out, where the oldest of its rank goes.
   */
  enqueue(waiter: Waiter, now: Nanos): boolean {
    if (!this.hasPlace(waiter.rank, now)) return false
    if (this.waiting === 0) this.standing = now
    if (this.waiting >= this.maxQueued) {
      const victim = this.waiters.victim(waiter.rank, this.isLifo(now))
      if (victim !== undefined) {
        this.remove(victim)
        victim.decide("QueueFull")
      }
    }
    this.waiters.add(waiter)
    this.waiting++
    // Nobody is served by this: who gave way was not next, or else the newcomer is now, and did not fit.
    return true
  }

  /** Whether a call of this rank may join the queue. */
  hasPlace(rank: number, now: Nanos, _key?: string): boolean {
    return this.waiting < this.maxQueued || this.waiters.victim(rank, this.isLifo(now)) !== undefined
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
    for (const waiter of this.waiters) {
      if (waiter.permits > limit) {
        this.remove(waiter)
        waiter.decide("TooManyPermits")
      }
    }
    this.serve(now)
  }

  /** Hands out what is free, in order. */
  private serve(now: Nanos): void {
    while (this.waiting > 0) {
      const next = this.waiters.next(this.isLifo(now))
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

  private remove(waiter: Waiter): void {
    this.waiters.remove(waiter)
    this.waiting--
  }
}
