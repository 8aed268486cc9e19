import type { Order } from "./permits.js"
import { Permits } from "./permits.js"
import type { Nanos } from "./time.js"
import type { Waiter } from "./waiters.js"

/** The calls of one key: those that run, and those that wait. */
interface Line {
  readonly key: string
  readonly waiters: Array<Waiter>
  used: number
  /** Permits that the rounds have earned it. */
  deficit: number
}

/**
 * Permits whose line is one per key, so that a noisy tenant waits for itself:
 *
 * - what is free goes to the keys that have least, which fills their shares up to max-min fair ones;
 * - among those it goes round by deficit: each round earns a key a permit, and it is served when it has earned what its
 *   next call needs;
 * - a full queue turns away from the longest line.
 *
 * What nobody else wants a key may have. Keys are known only while they run or wait.
 *
 * Source: "Efficient Fair Queueing Using Deficit Round-Robin" (Shreedhar, Varghese, 1996).
 *
 * @internal
 */
export class FairPermits extends Permits {
  private readonly lines = new Map<string, Line>()
  /** The lines that have waiters; the first is next. */
  private readonly ring = new Set<Line>()
  /** Who was found to be next, and does not fit yet. */
  private chosen: Waiter | undefined

  constructor(limit: number, maxQueued: number, order: Order) {
    super(limit, maxQueued, order)
  }

  override isFree(permits: number): boolean {
    return this.used + permits <= this.limit && this.waiting === 0
  }

  override take(permits: number, _rank: number, _now: () => Nanos, key = ""): boolean {
    if (!this.isFree(permits)) return false
    this.grant(permits)
    this.lineOf(key).used += permits
    return true
  }

  override enqueue(waiter: Waiter, now: Nanos): boolean {
    const key = waiter.key ?? ""
    const isFull = this.waiting >= this.maxQueued
    const victim = isFull ? this.victim(waiter.rank, now, key) : undefined
    if (isFull && victim === undefined) return false
    if (this.waiting === 0) this.standing = now
    if (victim !== undefined) {
      this.leave(victim)
      victim.decide("QueueFull")
    }
    const line = this.lineOf(key)
    line.waiters.push(waiter)
    this.ring.add(line)
    this.waiting++
    if (victim !== undefined) this.serveLines(now)
    return true
  }

  override hasPlace(rank: number, now: Nanos, key = ""): boolean {
    return this.waiting < this.maxQueued || this.victim(rank, now, key) !== undefined
  }

  override release(permits: number, now: Nanos, key = ""): void {
    this.used -= permits
    const line = this.lines.get(key)
    if (line !== undefined) {
      line.used -= permits
      this.forget(line)
    }
    this.serveLines(now)
  }

  override abandon(waiter: Waiter, now: Nanos): void {
    if (waiter.place === "Granted") {
      waiter.place = "Gone"
      this.release(waiter.permits, now, waiter.key)
    } else if (waiter.place === "Waiting") {
      this.leave(waiter)
      this.serveLines(now)
    }
  }

  override resize(limit: number, now: Nanos): void {
    this.limit = limit
    for (const { waiters } of [...this.ring]) {
      for (const waiter of waiters.filter(({ permits }) => permits > limit)) {
        this.leave(waiter)
        waiter.decide("TooManyPermits")
      }
    }
    this.serveLines(now)
  }

  private serveLines(now: Nanos): void {
    while (this.waiting > 0 && this.used < this.limit) {
      const next = this.chosen ??= this.next(now)
      if (next === undefined || this.used + next.permits > this.limit) return
      const line = this.lineOf(next.key ?? "")
      line.deficit = Math.max(0, line.deficit - next.permits)
      line.used += next.permits
      this.leave(next)
      next.place = "Granted"
      this.grant(next.permits)
      next.decide(true)
    }
  }

  /** Goes round the keys until one has earned its next call. */
  private next(now: Nanos): Waiter | undefined {
    let least = Infinity
    for (const { used } of this.ring) least = Math.min(least, used)
    for (;;) {
      const [line] = this.ring
      if (line === undefined) return undefined
      this.ring.delete(line)
      this.ring.add(line)
      if (line.used > least) continue
      const waiter = line.waiters[this.isLifo(now) ? line.waiters.length - 1 : 0]
      line.deficit++
      if (waiter !== undefined && line.deficit >= waiter.permits) return waiter
    }
  }

  /**
   * Who gives way to a newcomer of this rank in a full queue: one of the lowest rank there is, in the longest line. Among
   * equals only a line that is longer than the newcomer's own gives way, or, where the newest is served first, its own.
   */
  private victim(rank: number, now: Nanos, key: string): Waiter | undefined {
    let lowest = rank
    for (const { waiters } of this.ring) for (const waiter of waiters) lowest = Math.min(lowest, waiter.rank)
    let longest: Line | undefined
    for (const line of this.ring) {
      const isLonger = longest === undefined || line.waiters.length > longest.waiters.length
      if (isLonger && line.waiters.some((waiter) => waiter.rank === lowest)) longest = line
    }
    if (longest === undefined) return undefined
    const own = this.lines.get(key)?.waiters.length ?? 0
    const isLifo = this.isLifo(now)
    const givesWay = lowest < rank || longest.waiters.length > own + 1 || (isLifo && longest.waiters.length >= own)
    if (!givesWay) return undefined
    const candidates = longest.waiters.filter((waiter) => waiter.rank === lowest)
    return candidates[isLifo ? 0 : candidates.length - 1]
  }

  private leave(waiter: Waiter): void {
    const line = this.lineOf(waiter.key ?? "")
    line.waiters.splice(line.waiters.indexOf(waiter), 1)
    waiter.place = "Gone"
    this.waiting--
    if (this.chosen === waiter) this.chosen = undefined
    if (line.waiters.length > 0) return
    line.deficit = 0
    this.ring.delete(line)
    this.forget(line)
  }

  private lineOf(key: string): Line {
    let line = this.lines.get(key)
    if (line === undefined) this.lines.set(key, line = { key, waiters: [], used: 0, deficit: 0 })
    return line
  }

  private forget(line: Line): void {
    if (line.used <= 0 && line.waiters.length === 0) this.lines.delete(line.key)
  }

  /** Keys that run or wait. */
  get keys(): number {
    return this.lines.size
  }
}
