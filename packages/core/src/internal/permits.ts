import type { Nanos } from "./time.js"
import type { Queue, Share, Waiter } from "./waiters.js"

/**
 * A pool of permits and the queue before it. Permits are handed over: what is given back goes straight to the waiter whose
 * turn it is, as the queue says, and a newcomer takes what is free only if it would be next. A waiter that needs more than
 * is left makes those after it wait, though permits are free meanwhile.
 *
 * It is mutable, owned by the `Ref` that holds it, and touched in one synchronous step at a time.
 *
 * @internal
 */
export class Permits {
  used = 0
  peak = 0
  /** What no call can ask for more than: `limit`, but where the permits are lent, and more may come. */
  most: number
  /** Why nobody may wait, where that is so. */
  shut: "StoreUnavailable" | undefined
  /** Whether `limit` still holds, where it is lent for a time. */
  isGood: (() => boolean) | undefined
  /** The part of `most` that is lent to this process, where permits are lent. */
  held: number | undefined

  constructor(public limit: number, public maxQueued: number, private readonly queue: Queue) {
    this.most = limit
  }

  get waiting(): number {
    return this.queue.size
  }

  /** The time of what is lent is over: nothing is handed out, and calls wait, until it is lent anew. */
  get isOver(): boolean {
    return this.isGood !== undefined && !this.isGood()
  }

  /** Calls that may wait. What is over may be lent again: so many more may wait for that. */
  get places(): number {
    return this.isOver ? this.maxQueued + this.limit : this.maxQueued
  }

  /** Takes permits where they are free for this call. */
  take(permits: number, rank: number, now: () => Nanos, share?: Share): boolean {
    if (!this.isFree(permits, rank, now, share)) return false
    this.grant(permits, share)
    return true
  }

  /** Whether so many are free, and it is nobody else's turn. The order of an empty queue asks for no time. */
  isFree(permits: number, rank: number, now: () => Nanos, share?: Share): boolean {
    if (this.used + permits > this.limit || this.isOver) return false
    return this.queue.size === 0 || this.queue.isNext(rank, now(), share)
  }

  /**
   * Puts a waiter in the queue. A full one turns away whoever would be served last, as the queue says: the newcomer, or one
   * that waits. Who comes back was there first.
   */
  enqueue(waiter: Waiter, now: Nanos): boolean {
    const victim = this.isFull ? this.displaced(waiter, now) : undefined
    if (this.isFull && victim === undefined) return false
    // Before the other goes: a queue stands although its only place changes hands.
    this.queue.add(waiter, now)
    if (victim !== undefined) {
      this.turnAway(victim, "QueueFull")
    }
    this.serve(now)
    return true
  }

  /** Whether a call may join the queue. */
  hasPlace(rank: number, now: Nanos, share?: Share): boolean {
    return !this.isFull || this.victim(rank, now, share) !== undefined
  }

  /** Gives permits back, to those who wait for them. */
  release(permits: number, now: Nanos, share?: Share): void {
    this.used -= permits
    this.queue.gave(permits, share)
    this.serve(now)
  }

  /** A waiter goes away: what it was handed already goes on to the next. */
  abandon(waiter: Waiter, now: Nanos): void {
    if (waiter.place === "Granted") {
      waiter.place = "Gone"
      this.release(waiter.permits, now, waiter.share)
    } else if (waiter.place === "Waiting") {
      this.remove(waiter)
      this.serve(now)
    }
  }

  /** Changes the limit. Shrinking waits for nobody: what is in use stays in use until it is given back. */
  resize(limit: number, now: Nanos): void {
    this.limit = limit
    this.allow(limit)
    this.serve(now)
  }

  /** Changes what a call may ask for. Those that ask for more can never be served. */
  allow(most: number): void {
    this.most = most
    for (const waiter of this.queue) if (waiter.permits > most) this.turnAway(waiter, "TooManyPermits")
  }

  /** What is lent has changed: so many permits, until there are others, and while they are good. */
  lend(limit: number, isGood: (() => boolean) | undefined, now: Nanos): void {
    this.limit = this.held = limit
    this.isGood = isGood
    this.serve(now)
  }

  /** Has no more than so many wait. Those that would be served last go. Returns the permits that they asked for. */
  trim(waiting: number, now: Nanos): number {
    let permits = 0
    while (this.queue.size > waiting) {
      const last = this.last(now)
      if (last === undefined) break
      permits += last.permits
      this.turnAway(last, "QueueFull")
    }
    return permits
  }

  /** The permits that those who wait ask for: all of them, and the one that asks for most. */
  get wanted(): { readonly all: number; readonly most: number } {
    let all = 0
    let most = 0
    for (const { permits } of this.queue) {
      all += permits
      most = Math.max(most, permits)
    }
    return { all, most }
  }

  /** Hands out what is free, in order. */
  private serve(now: Nanos): void {
    if (this.isOver) return
    while (this.queue.size > 0 && this.used < this.limit) {
      const next = this.queue.next(now)
      if (next === undefined || this.used + next.permits > this.limit) return
      this.grant(next.permits, next.share)
      this.queue.remove(next)
      next.place = "Granted"
      next.decide(true)
    }
  }

  private grant(permits: number, share: Share | undefined): void {
    this.used += permits
    if (this.used > this.peak) this.peak = this.used
    this.queue.took(permits, share)
  }

  private turnAway(waiter: Waiter, reason: "QueueFull" | "TooManyPermits"): void {
    this.remove(waiter)
    waiter.decide(reason)
  }

  private remove(waiter: Waiter): void {
    this.queue.remove(waiter)
    waiter.place = "Gone"
  }

  private get isFull(): boolean {
    return this.queue.size >= this.places
  }

  private displaced({ rank, returns, share }: Waiter, now: Nanos): Waiter | undefined {
    if (returns !== true) return this.victim(rank, now, share)
    const last = this.last(now, share)
    return last?.returns === true ? undefined : last
  }

  private last(now: Nanos, share?: Share): Waiter | undefined {
    const [any] = this.queue
    return this.queue.victim(Infinity, now, share) ?? any
  }

  private victim(rank: number, now: Nanos, share: Share | undefined): Waiter | undefined {
    return this.queue.size === 0 ? undefined : this.queue.victim(rank, now, share)
  }
}
