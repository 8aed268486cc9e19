import type * as Clock from "effect/Clock"
import type { Nanos } from "../time.js"
import { forever, toNanos } from "../time.js"
import { schedule } from "../timer.js"
import type { Place } from "./line.js"
import { Line } from "./line.js"
import type { Charged, Plan } from "./plan.js"
import { become, charge, freeAt, none } from "./plan.js"

/** Time between two looks for keys that may be forgotten. */
const sweepPause = toNanos("1 minute")

/** Keys looked at for one that may go, when a new one comes to a full table. */
const lookAt = 64

/** Keys looked at in one turn of the event loop. */
const sweepSlice = 20_000

/**
 * The keys of a limiter: a bounded table of small records, and the lines of those few keys that somebody waits for.
 *
 * A key is forgotten only when nobody can tell it from a new one, so no quota is reset by filling the table. One timer
 * looks for such keys, and only while there are any.
 *
 * @internal
 */
export class RateTable {
  private readonly entries = new Map<string, Charged>()
  private readonly lines = new Map<string, Line>()
  /** When a key that was drained may be drained again. */
  private readonly drained = new Map<string, Nanos>()
  private cursor = this.entries.entries()
  /** Before that time no key can be forgotten: the last whole round found that. */
  private nextFree: Nanos = 0n
  /** The same, as far as this round has come. */
  private earliest: Nanos = forever
  private stopSweep: (() => void) | undefined
  private closed = false
  evicted = 0
  waiting = 0
  /** Reservations for a time to come, at most. */
  private reserved = 0

  constructor(private readonly maxKeys: number, private readonly onKeys: (count: number) => void = () => {}) {}

  get keys(): number {
    return this.entries.size
  }

  /**
   * When the cost may be taken; where that is now, it is. `undefined` when the table is full of live keys and this one is
   * new. The cost is at most the plan's cap.
   */
  take(key: string, plan: Plan, cost: number, now: Nanos, clock: Clock.Clock): Nanos | undefined {
    const entry = this.entry(key, plan, now, clock)
    if (entry === undefined) return undefined
    const line = this.lineOf(key, now)
    const { algorithm } = plan
    if (line !== undefined) {
      const at = line.ready(plan, cost, now)
      if (at <= now) line.join({ plan, cost, latest: now, pinned: true, taken: true, wake: noWake }, now)
      return at
    }
    const at = algorithm.ready(entry.state, now, cost)
    if (at <= now) entry.state = algorithm.charge(entry.state, now, cost)
    return at
  }

  /** When the cost could be taken. Takes nothing and remembers nothing. */
  ready(key: string, plan: Plan, cost: number, now: Nanos): Nanos | undefined {
    const line = this.lineOf(key, now)
    if (line !== undefined) return line.ready(plan, cost, now)
    if (!this.entries.has(key) && !this.hasRoom(now)) return undefined
    return plan.algorithm.ready(this.state(key, plan, now), now, cost)
  }

  /** The state of a key as one of this plan. */
  state(key: string, plan: Plan, now: Nanos): unknown {
    this.lineOf(key, now)
    const entry = this.entries.get(key)
    return entry === undefined ? undefined : plan.adapt(entry, now).state
  }

  available(key: string, plan: Plan, now: Nanos): number {
    return this.lineOf(key, now) === undefined ? plan.algorithm.available(this.state(key, plan, now), now) : 0
  }

  /** A promise for the first time that is free. The caller has asked `ready`. */
  join(key: string, place: Omit<Place, "at" | "after">, now: Nanos, clock: Clock.Clock): Place | undefined {
    const entry = this.entry(key, place.plan, now, clock)
    if (entry === undefined) return undefined
    let line = this.lineOf(key, now)
    if (line === undefined) {
      line = new Line(entry)
      this.lines.set(key, line)
    }
    const joined = line.join(place, now)
    if (!place.pinned) this.arm(key, line, clock)
    else if (joined.at > now) this.reserved++
    return joined
  }

  /** Gives a place back, exactly. `false` where its time has come: then it counts as used. */
  leave(key: string, place: Place, now: Nanos, clock: Clock.Clock): boolean {
    const line = this.lineOf(key, now)
    if (line === undefined || !line.leave(place, now)) return false
    if (place.pinned && place.taken && place.at > now) this.reserved--
    this.changed(key, line, now, clock)
    return true
  }

  /** The owner of a place goes. */
  go(key: string, place: Place, now: Nanos): void {
    place.taken = true
    this.lineOf(key, now)
  }

  /** Charges so many more, whether or not they are there. `false` where there is no room for the key. */
  penalize(key: string, plan: Plan, cost: number, now: Nanos, clock: Clock.Clock): boolean {
    return this.change(key, plan, now, clock, (used) => charge(used, now, cost))
  }

  reward(key: string, plan: Plan, cost: number, now: Nanos, clock: Clock.Clock): void {
    if (!this.entries.has(key)) return
    this.change(key, plan, now, clock, (used) => plan.give(used, now, cost))
    this.lookAgain()
  }

  /** Takes all that is left, once per window. `false` where there is no room for the key. */
  drain(key: string, plan: Plan, now: Nanos, clock: Clock.Clock): boolean {
    if (now < (this.drained.get(key) ?? 0n)) return true
    const done = this.change(key, plan, now, clock, (used) => ({
      ...used,
      state: plan.algorithm.drain(used.state, now)
    }))
    if (done) this.drained.set(key, now + plan.shortest)
    return done
  }

  /** The key begins anew. */
  reset(key: string, now: Nanos, clock: Clock.Clock): void {
    this.drained.delete(key)
    const entry = this.entries.get(key)
    const line = this.lineOf(key, now)
    this.lookAgain()
    if (entry === undefined) return
    if (line === undefined) {
      this.entries.delete(key)
      this.onKeys(this.entries.size)
      return
    }
    become(entry, fresh(entry.plan))
    line.replan(0, now)
    this.changed(key, line, now, clock)
  }

  /** Those who wait under one plan wait under another. Keys are rescaled when they are met next. */
  replace(from: Plan, to: Plan, now: Nanos, clock: Clock.Clock): void {
    this.lookAgain()
    for (const [key, line] of [...this.lines]) {
      line.settle(now)
      const entry = this.entries.get(key)
      if (entry?.plan === from) become(entry, to.adapt(entry, now))
      line.change(from, to, now)
      this.changed(key, line, now, clock)
    }
  }

  /** Nothing rings any more, so whoever waits is turned away. */
  close(): void {
    this.closed = true
    this.stopSweep?.()
    for (const line of this.lines.values()) line.close()
    this.lines.clear()
  }

  /** Whether one more may wait: reservations for a time to come count as those that wait. */
  hasPlace(max: number, now: Nanos): boolean {
    if (this.waiting + this.reserved < max) return true
    // Those whose time has passed are still in the count.
    this.reserved = 0
    for (const line of this.lines.values()) this.reserved += line.reserved(now)
    return this.waiting + this.reserved < max
  }

  get isClosed(): boolean {
    return this.closed
  }

  private change(
    key: string,
    plan: Plan,
    now: Nanos,
    clock: Clock.Clock,
    f: (used: Charged) => Charged
  ): boolean {
    const entry = this.entry(key, plan, now, clock)
    if (entry === undefined) return false
    const line = this.lineOf(key, now)
    become(entry, f(plan.adapt(entry, now)))
    if (line !== undefined) {
      line.replan(0, now)
      this.changed(key, line, now, clock)
    }
    return true
  }

  private entry(key: string, plan: Plan, now: Nanos, clock: Clock.Clock): Charged | undefined {
    const known = this.entries.get(key)
    if (known !== undefined) {
      // A line works with the plan that its base was charged under.
      if (known.plan !== plan && this.lineOf(key, now) === undefined) become(known, plan.adapt(known, now))
      return known
    }
    if (!this.hasRoom(now)) return undefined
    const entry = fresh(plan)
    this.entries.set(key, entry)
    this.onKeys(this.entries.size)
    if (this.stopSweep === undefined && !this.closed) this.armSweep(clock, sweepPause)
    return entry
  }

  private lineOf(key: string, now: Nanos): Line | undefined {
    if (this.lines.size === 0) return undefined
    const line = this.lines.get(key)
    if (line === undefined) return undefined
    line.settle(now)
    if (line.length > 0) return line
    this.lines.delete(key)
    line.cancel?.()
    return undefined
  }

  private changed(key: string, line: Line, now: Nanos, clock: Clock.Clock): void {
    if (this.lineOf(key, now) === line) this.arm(key, line, clock)
  }

  /** Sees to it that the next one in line is woken. */
  private arm(key: string, line: Line, clock: Clock.Clock): void {
    line.cancel?.()
    line.cancel = undefined
    const due = line.due()
    if (due === undefined || this.closed) return
    const now = clock.unsafeCurrentTimeNanos()
    line.cancel = schedule(clock, due > now ? due - now : 0n, () => {
      line.cancel = undefined
      line.ring(clock.unsafeCurrentTimeNanos())
      if (this.lines.get(key) === line) this.arm(key, line, clock)
    })
  }

  private mayForget(key: string, entry: Charged, now: Nanos): boolean {
    // The line first: it may have something to charge to the entry.
    return this.lineOf(key, now) === undefined && freeAt(entry) <= now
  }

  private forget(key: string): void {
    this.entries.delete(key)
    this.drained.delete(key)
    this.evicted++
  }

  /**
   * Looks at a few keys, where the last look ended, and not at all while it is known to be in vain. One that may go and is
   * not among them is found by a later call, or by the sweep.
   */
  private hasRoom(now: Nanos): boolean {
    if (this.entries.size < this.maxKeys) return true
    if (now < this.nextFree) return false
    for (let look = 0; look <= lookAt; look++) {
      const next = this.cursor.next()
      if (next.done) {
        this.cursor = this.entries.entries()
        this.nextFree = this.earliest
        this.earliest = forever
        if (now < this.nextFree) return false
        continue
      }
      const [key, entry] = next.value
      if (this.mayForget(key, entry, now)) {
        this.forget(key)
        return true
      }
      const free = max(freeAt(entry), now)
      if (free < this.earliest) this.earliest = free
    }
    return false
  }

  /** Keys may be free sooner than was seen. */
  private lookAgain(): void {
    this.nextFree = 0n
    this.earliest = 0n
  }

  private armSweep(clock: Clock.Clock, pause: Nanos, at = this.entries.entries()): void {
    this.stopSweep = schedule(clock, pause, () => {
      const now = clock.unsafeCurrentTimeNanos()
      for (let look = 0; look < sweepSlice; look++) {
        const next = at.next()
        if (next.done) {
          this.stopSweep = undefined
          this.onKeys(this.entries.size)
          if (this.entries.size > 0 && !this.closed) this.armSweep(clock, sweepPause)
          return
        }
        const [key, entry] = next.value
        if (this.mayForget(key, entry, now)) this.forget(key)
      }
      if (!this.closed) this.armSweep(clock, 0n, at)
    })
  }
}

const fresh = (plan: Plan): Charged => ({ plan, state: undefined, others: none })

const max = (a: Nanos, b: Nanos): Nanos => a > b ? a : b

const noWake = () => {}
