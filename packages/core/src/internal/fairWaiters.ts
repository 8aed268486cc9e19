import type { Nanos } from "./time.js"
import type { Order, Queue, Share, Waiter } from "./waiters.js"
import { Waiters } from "./waiters.js"

/** The calls of one key: those that run, and those that wait. */
interface Line {
  readonly key: string | undefined
  weight: number
  readonly waiters: Waiters
  /** Permits that its running calls hold. */
  used: number
  /** Permits that the rounds have earned it. Below 0 it owes some. */
  earned: number
  /** Whether it has earned its part of this round. */
  isOnTurn: boolean
}

/**
 * A line for each key, so that a noisy one waits for itself. Between keys all is fair, and priority counts within a key:
 *
 * - what is free goes to a key that has least for its weight, which fills the shares up to max-min fair ones;
 * - among those it goes round by deficit: each round earns a key permits by its weight, and it is served as long as it has
 *   earned what its next call needs;
 * - a full queue turns away from the longest line whoever would be served last there. Where the newcomer's own line is
 *   about as long, that is its own affair.
 *
 * The order is that of each line: one that drains serves its oldest, though another stands.
 *
 * What nobody else wants a key may have. Keys are known only while they run or wait; calls without one share a line.
 *
 * Source: "Efficient Fair Queueing Using Deficit Round-Robin" (Shreedhar, Varghese, 1996).
 *
 * @internal
 */
export class FairWaiters implements Queue {
  size = 0
  private readonly lines = new Map<string | undefined, Line>()
  /** The lines that have waiters; the first is the next to be looked at. */
  private readonly ring = new Set<Line>()
  /** The lines by how many wait in them; the last are the longest. */
  private readonly byLength: Array<Set<Line>> = [new Set()]
  /** The line whose turn it is. It stays so until it is served, though others may have less by then. */
  private chosen: Line | undefined

  constructor(private readonly order: Order) {}

  add(waiter: Waiter, now: Nanos): void {
    const line = this.lineOf(waiter.share)
    line.waiters.add(waiter, now)
    this.size++
    this.grew(line, 1)
    if (this.ring.has(line)) return
    line.earned = 0
    line.isOnTurn = false
    this.ring.add(line)
  }

  remove(waiter: Waiter): void {
    const line = this.lineOf(waiter.share)
    line.waiters.remove(waiter)
    this.size--
    this.grew(line, -1)
    if (this.chosen === line) this.chosen = undefined
    if (line.waiters.size > 0) return
    this.ring.delete(line)
    this.forget(line)
  }

  next(now: Nanos): Waiter | undefined {
    this.chosen ??= this.choose(now)
    return this.chosen?.waiters.next(now)
  }

  isNext(rank: number, now: Nanos, share?: Share): boolean {
    if (this.next(now) === undefined) return true
    return this.chosen?.key === share?.key && this.chosen?.waiters.isNext(rank, now) === true
  }

  victim(rank: number, now: Nanos, share?: Share): Waiter | undefined {
    const own = this.lines.get(share?.key)?.waiters
    const [longest] = this.byLength.at(-1) ?? []
    if (longest !== undefined && longest.waiters.size > (own?.size ?? 0) + 1) return longest.waiters.last(now)
    return own?.victim(rank, now)
  }

  took(permits: number, share?: Share): void {
    const line = this.lineOf(share)
    line.used += permits
    line.earned -= permits
  }

  gave(permits: number, share?: Share): void {
    const line = this.lineOf(share)
    line.used -= permits
    this.forget(line)
  }

  *[Symbol.iterator](): Generator<Waiter> {
    for (const { waiters } of [...this.ring]) yield* waiters
  }

  /** Keys that run or wait. */
  get keys(): number {
    return this.lines.size
  }

  /** Goes round the lines until one that has no more than its part has earned its next call. */
  private choose(now: Nanos): Line | undefined {
    // Who has as much as another would have with one permit more is not next.
    let least = Infinity
    for (const { used, weight } of this.ring) least = Math.min(least, (used + 1) / weight)
    for (const line of this.ring) {
      if (line.used / line.weight >= least) continue
      if (!line.isOnTurn) line.earned += line.weight
      line.isOnTurn = true
      if (line.earned >= (line.waiters.next(now)?.permits ?? 0)) return line
      line.isOnTurn = false
      // It goes to the end, and this loop comes to it again.
      this.ring.delete(line)
      this.ring.add(line)
    }
    return undefined
  }

  private grew(line: Line, by: 1 | -1): void {
    const { byLength } = this
    const { size } = line.waiters
    byLength[size - by]?.delete(line)
    const equals = byLength[size] ??= new Set()
    if (size > 0) equals.add(line)
    while (byLength.length > 1 && byLength.at(-1)?.size === 0) byLength.pop()
  }

  private lineOf(share: Share | undefined): Line {
    const key = share?.key
    const weight = share?.weight ?? 1
    let line = this.lines.get(key)
    if (line === undefined) {
      line = { key, weight, waiters: new Waiters(this.order), used: 0, earned: 0, isOnTurn: false }
      this.lines.set(key, line)
    }
    line.weight = weight
    return line
  }

  private forget(line: Line): void {
    if (line.used <= 0 && line.waiters.size === 0) this.lines.delete(line.key)
  }
}
