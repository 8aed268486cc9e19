import type { Nanos } from "../time.js"
import type { AlgorithmName, Rate } from "./rate.js"

/**
 * A rate limit as pure transitions. The state of a key that was never seen is `undefined`. Times given to one state never
 * go back. All arithmetic is on whole numbers, so nothing is rounded away: neither periods nor shares of them.
 *
 * @internal
 */
export interface Algorithm<S> {
  /** The most that one call may cost. */
  readonly cap: number
  /** The first time, from `now` on, at which `n` may be taken; `n` is at most `cap`. */
  ready(state: S | undefined, now: Nanos, n: number): Nanos
  /** Takes `n`, whether or not it is there: what was not becomes debt. */
  charge(state: S | undefined, now: Nanos, n: number): S
  /** Gives up to `n` back; never more than what was taken. */
  give(state: S, now: Nanos, n: number): S
  /** What may be taken now. */
  available(state: S | undefined, now: Nanos): number
  /** Takes all that is left. */
  drain(state: S | undefined, now: Nanos): S
  /** From then on nobody can tell the state from that of a new key. */
  freeAt(state: S): Nanos
  /** The state under this rate of what was used under another, by the same algorithm. */
  rescale(state: S, now: Nanos, from: Rate): S
}

const max = (a: Nanos, b: Nanos): Nanos => a > b ? a : b
const ceilDiv = (a: Nanos, b: Nanos): Nanos => (a + b - 1n) / b

const gcd = (a: Nanos, b: Nanos): Nanos => b === 0n ? a : gcd(b, a % b)

/**
 * The generic cell rate algorithm, which is also the token bucket: the state is the time at which all that was taken is
 * paid for. It counts in parts of a nanosecond where the window does not divide by the limit.
 *
 * Admits at most `burst + limit * W / window` in any span W.
 */
class Gcra implements Algorithm<Nanos> {
  readonly cap: number
  /** What one call costs, in parts. */
  private readonly price: Nanos
  /** Parts of a nanosecond. */
  private readonly parts: Nanos
  private readonly whole: boolean
  private readonly tolerance: Nanos
  /** The debt with which there is room for one more call. */
  private readonly roomForOne: Nanos

  constructor({ burst, limit, window }: Rate) {
    const divisor = gcd(window, BigInt(limit))
    this.cap = burst
    this.price = window / divisor
    this.parts = BigInt(limit) / divisor
    this.whole = this.parts === 1n
    this.tolerance = this.price * BigInt(burst)
    this.roomForOne = this.tolerance - this.price
  }

  private scaled(now: Nanos): Nanos {
    return this.whole ? now : now * this.parts
  }

  private cost(n: number): Nanos {
    return n === 1 ? this.price : this.price * BigInt(n)
  }

  ready(state: Nanos | undefined, now: Nanos, n: number): Nanos {
    if (state === undefined) return now
    const due = state - (n === 1 ? this.roomForOne : this.tolerance - this.cost(n))
    return due <= this.scaled(now) ? now : ceilDiv(due, this.parts)
  }

  charge(state: Nanos | undefined, now: Nanos, n: number): Nanos {
    const time = this.scaled(now)
    return (state === undefined || state < time ? time : state) + this.cost(n)
  }

  give(state: Nanos, _now: Nanos, n: number): Nanos {
    return max(0n, state - this.cost(n))
  }

  available(state: Nanos | undefined, now: Nanos): number {
    if (state === undefined) return this.cap
    const debt = state - this.scaled(now)
    if (debt <= 0n) return this.cap
    return debt >= this.tolerance ? 0 : Number((this.tolerance - debt) / this.price)
  }

  drain(state: Nanos | undefined, now: Nanos): Nanos {
    return max(state ?? 0n, this.scaled(now) + this.tolerance)
  }

  freeAt(state: Nanos): Nanos {
    return ceilDiv(state, this.parts)
  }

  rescale(state: Nanos, now: Nanos, from: Rate): Nanos {
    const before = new Gcra(from)
    const debt = state - before.scaled(now)
    // The debt is so many calls, and stays so many. Rounded against the caller.
    return debt <= 0n ? 0n : this.scaled(now) + ceilDiv(debt * this.price, before.price)
  }
}

interface Counters {
  readonly index: Nanos
  readonly current: Nanos
  readonly previous: Nanos
}

/**
 * Two windows: the calls of the current one, and of the one before the share that still overlaps. Approximate: at most
 * `2 * limit` in a window, usually a few per cent above `limit`.
 */
class SlidingWindow implements Algorithm<Counters> {
  readonly cap: number
  private readonly limit: Nanos
  private readonly window: Nanos

  constructor({ limit, window }: Rate) {
    this.cap = limit
    this.limit = BigInt(limit)
    this.window = window
  }

  private roll(state: Counters | undefined, now: Nanos): Counters {
    const index = now / this.window
    if (state === undefined) return { index, current: 0n, previous: 0n }
    if (index <= state.index) return state
    return { index, current: 0n, previous: index === state.index + 1n ? state.current : 0n }
  }

  /** What of the previous window counts, times the window. */
  private overlap({ index, previous }: Counters, now: Nanos): Nanos {
    return previous * ((index + 1n) * this.window - now)
  }

  /** How far into its window `used` of the previous one must have slid for `room` calls to remain. */
  private slide(used: Nanos, room: Nanos): Nanos {
    return room >= used ? 0n : this.window - room * this.window / used
  }

  ready(state: Counters | undefined, now: Nanos, n: number): Nanos {
    const rolled = this.roll(state, now)
    const { current, index, previous } = rolled
    const room = this.limit - BigInt(n) - current
    if (room >= 0n) {
      return this.overlap(rolled, now) <= room * this.window
        ? now
        : max(now, index * this.window + this.slide(previous, room))
    }
    return (index + 1n) * this.window + this.slide(current, this.limit - BigInt(n))
  }

  charge(state: Counters | undefined, now: Nanos, n: number): Counters {
    const { current, index, previous } = this.roll(state, now)
    return { index, current: current + BigInt(n), previous }
  }

  give(state: Counters, now: Nanos, n: number): Counters {
    const { current, index, previous } = this.roll(state, now)
    const fromCurrent = current < BigInt(n) ? current : BigInt(n)
    return { index, current: current - fromCurrent, previous: max(0n, previous - (BigInt(n) - fromCurrent)) }
  }

  available(state: Counters | undefined, now: Nanos): number {
    const rolled = this.roll(state, now)
    const left = (this.limit - rolled.current) * this.window - this.overlap(rolled, now)
    return left <= 0n ? 0 : Number(left / this.window)
  }

  drain(state: Counters | undefined, now: Nanos): Counters {
    const rolled = this.roll(state, now)
    return this.charge(rolled, now, this.available(rolled, now))
  }

  freeAt({ current, index, previous }: Counters): Nanos {
    return current > 0n ? (index + 2n) * this.window : previous > 0n ? (index + 1n) * this.window : 0n
  }

  rescale(state: Counters, now: Nanos, from: Rate): Counters {
    const before = new SlidingWindow(from)
    const rolled = before.roll(state, now)
    const index = now / this.window
    if (from.window === this.window) return rolled
    // All that still counts is counted as used just now: windows of another length have other borders.
    return { index, current: rolled.current + ceilDiv(before.overlap(rolled, now), from.window), previous: 0n }
  }
}

/** The time of each call of the last window: exactly at most `limit` in any window. */
class SlidingLog implements Algorithm<ReadonlyArray<Nanos>> {
  readonly cap: number

  constructor(private readonly rate: Rate) {
    this.cap = rate.limit
  }

  private live(state: ReadonlyArray<Nanos> | undefined, now: Nanos): ReadonlyArray<Nanos> {
    if (state === undefined) return []
    const { window } = this.rate
    let old = 0
    while (old < state.length && (state[old] ?? now) + window <= now) old++
    return old === 0 ? state : state.slice(old)
  }

  ready(state: ReadonlyArray<Nanos> | undefined, now: Nanos, n: number): Nanos {
    const live = this.live(state, now)
    const over = live.length + n - this.cap
    return over <= 0 ? now : max(now, (live[over - 1] ?? now) + this.rate.window)
  }

  charge(state: ReadonlyArray<Nanos> | undefined, now: Nanos, n: number): ReadonlyArray<Nanos> {
    const live = this.live(state, now)
    const charged = live.concat(new Array<Nanos>(Math.min(n, this.cap)).fill(now))
    // Of more than `limit` calls the oldest say nothing that the others do not.
    return charged.length > this.cap ? charged.slice(-this.cap) : charged
  }

  give(state: ReadonlyArray<Nanos>, now: Nanos, n: number): ReadonlyArray<Nanos> {
    const live = this.live(state, now)
    return live.slice(0, Math.max(0, live.length - n))
  }

  available(state: ReadonlyArray<Nanos> | undefined, now: Nanos): number {
    return Math.max(0, this.cap - this.live(state, now).length)
  }

  drain(state: ReadonlyArray<Nanos> | undefined, now: Nanos): ReadonlyArray<Nanos> {
    return this.charge(state, now, this.available(state, now))
  }

  freeAt(state: ReadonlyArray<Nanos>): Nanos {
    const last = state[state.length - 1]
    return last === undefined ? 0n : last + this.rate.window
  }

  rescale(state: ReadonlyArray<Nanos>, now: Nanos, from: Rate): ReadonlyArray<Nanos> {
    // Under a longer window what the shorter one forgot stays forgotten.
    const live = new SlidingLog(from).live(state, now)
    return live.length > this.cap ? live.slice(-this.cap) : live
  }
}

interface Counter {
  readonly index: Nanos
  readonly count: number
}

/** Counts per window of the clock. At most `2 * limit` across a border. */
class FixedWindow implements Algorithm<Counter> {
  readonly cap: number
  private readonly window: Nanos

  constructor({ limit, window }: Rate) {
    this.cap = limit
    this.window = window
  }

  private roll(state: Counter | undefined, now: Nanos): Counter {
    const index = now / this.window
    return state === undefined || index > state.index ? { index, count: 0 } : state
  }

  ready(state: Counter | undefined, now: Nanos, n: number): Nanos {
    const { count, index } = this.roll(state, now)
    return count + n <= this.cap ? now : (index + 1n) * this.window
  }

  charge(state: Counter | undefined, now: Nanos, n: number): Counter {
    const { count, index } = this.roll(state, now)
    return { index, count: count + n }
  }

  give(state: Counter, now: Nanos, n: number): Counter {
    const { count, index } = this.roll(state, now)
    return { index, count: Math.max(0, count - n) }
  }

  available(state: Counter | undefined, now: Nanos): number {
    return Math.max(0, this.cap - this.roll(state, now).count)
  }

  drain(state: Counter | undefined, now: Nanos): Counter {
    const { count, index } = this.roll(state, now)
    return { index, count: Math.max(count, this.cap) }
  }

  freeAt({ count, index }: Counter): Nanos {
    return count === 0 ? 0n : (index + 1n) * this.window
  }

  rescale(state: Counter, now: Nanos, from: Rate): Counter {
    const { count } = new FixedWindow(from).roll(state, now)
    return { index: now / this.window, count }
  }
}

const make: { readonly [A in AlgorithmName]: (rate: Rate) => Algorithm<unknown> } = {
  gcra: (rate) => new Gcra(rate),
  // The same machine: a bucket that holds `burst` and fills by `limit` per window.
  "token-bucket": (rate) => new Gcra(rate),
  "sliding-window": (rate) => new SlidingWindow(rate),
  "sliding-log": (rate) => new SlidingLog(rate),
  "fixed-window": (rate) => new FixedWindow(rate)
}

type States = ReadonlyArray<unknown>

/** Several rates as one: a call goes when all of them let it, and is charged to all or to none. */
class Several implements Algorithm<States> {
  readonly cap: number
  private readonly shortest: number

  constructor(private readonly parts: ReadonlyArray<Algorithm<unknown>>, rates: ReadonlyArray<Rate>) {
    this.cap = Math.min(...parts.map(({ cap }) => cap))
    this.shortest = rates.reduce((at, { window }, i) => window < (rates[at]?.window ?? window) ? i : at, 0)
  }

  ready(state: States | undefined, now: Nanos, n: number): Nanos {
    // What may go at one time may go at any later one, so the latest of the first times will do.
    return this.parts.reduce((at, part, i) => max(at, part.ready(state?.[i], now, n)), now)
  }

  charge(state: States | undefined, now: Nanos, n: number): States {
    return this.parts.map((part, i) => part.charge(state?.[i], now, n))
  }

  give(state: States, now: Nanos, n: number): States {
    return this.parts.map((part, i) => part.give(state[i], now, n))
  }

  available(state: States | undefined, now: Nanos): number {
    return Math.min(...this.parts.map((part, i) => part.available(state?.[i], now)))
  }

  /** The rate of the shortest window alone: an hour's quota is not lost to one answer 429. */
  drain(state: States | undefined, now: Nanos): States {
    return this.parts.map((part, i) =>
      i === this.shortest ? part.drain(state?.[i], now) : part.charge(state?.[i], now, 0)
    )
  }

  freeAt(state: States): Nanos {
    return this.parts.reduce((at, part, i) => max(at, part.freeAt(state[i])), 0n)
  }

  rescale(state: States): States {
    return state
  }
}

/**
 * Rates, ready to decide. A key remembers under which it was charged.
 *
 * @internal
 */
export class Plan {
  readonly algorithm: Algorithm<unknown>
  private readonly parts: ReadonlyArray<Algorithm<unknown>>
  /** The window after which a drained key may be drained again. */
  readonly shortest: Nanos

  constructor(readonly name: AlgorithmName, readonly rates: ReadonlyArray<Rate>) {
    this.parts = rates.map(make[name])
    const [only] = this.parts
    this.algorithm = only !== undefined && this.parts.length === 1 ? only : new Several(this.parts, rates)
    this.shortest = rates.reduce((least, { window }) => window < least ? window : least, rates[0]?.window ?? 0n)
  }

  /**
   * The rate that has least left, which is the one that a decision is about, and when it is as good as new. Of several
   * that have as little it is the one that takes longest.
   */
  tightest(state: unknown, now: Nanos): { readonly rate: Rate; readonly freeAt: Nanos } {
    const states: States = this.rates.length === 1 ? [state] : (state ?? []) as States
    let tightest = { rate: this.rates[0] as Rate, freeAt: now }
    let least = Infinity
    this.parts.forEach((part, i) => {
      const rate = this.rates[i] as Rate
      const left = part.available(states[i], now)
      const freeAt = states[i] === undefined ? now : max(now, part.freeAt(states[i]))
      if (left > least || (left === least && freeAt <= tightest.freeAt)) return
      least = left
      tightest = { rate, freeAt }
    })
    return tightest
  }

  /** A state that was charged under another plan, as one of this. A rate that is new begins anew. */
  adapt(state: unknown, now: Nanos, from: Plan): unknown {
    if (from === this || state === undefined) return state
    const before: States = from.rates.length === 1 ? [state] : state as States
    const after = this.parts.map((part, i) => {
      const rate = from.rates[i]
      return rate === undefined ? part.charge(undefined, now, 0) : part.rescale(before[i], now, rate)
    })
    return this.rates.length === 1 ? after[0] : after
  }
}
