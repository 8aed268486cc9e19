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
}

/** One rate. @internal */
export interface Single<S> extends Algorithm<S> {
  readonly rate: Rate
  /** Whether the state of this rate says all that one of the other rate does, so that only one of them is kept. */
  covers(rate: Rate): boolean
  /** The state of this rate, if it has one, after what was used under another rate with the same window. */
  merge(state: S | undefined, now: Nanos, used: S, from: Rate): S
}

const max = (a: Nanos, b: Nanos): Nanos => a > b ? a : b
const min = (a: Nanos, b: Nanos): Nanos => a < b ? a : b
const ceilDiv = (a: Nanos, b: Nanos): Nanos => (a + b - 1n) / b

const gcd = (a: Nanos, b: Nanos): Nanos => b === 0n ? a : gcd(b, a % b)

/**
 * The generic cell rate algorithm, which is also the token bucket: the state is the time at which all that was taken is
 * paid for. It counts in parts of a nanosecond where the window does not divide by the limit.
 *
 * Admits at most `burst + limit * W / window` in any span W.
 */
class Gcra implements Single<Nanos> {
  readonly cap: number
  /** What one call costs, in parts. */
  private readonly price: Nanos
  /** Parts of a nanosecond. */
  private readonly parts: Nanos
  private readonly whole: boolean
  private readonly tolerance: Nanos
  /** The debt with which there is room for one more call. */
  private readonly roomForOne: Nanos

  constructor(readonly rate: Rate) {
    const { burst, limit, window } = rate
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

  /** What is used is paid off at the pace of its own rate: another one must not make it whole sooner. */
  covers({ limit, window }: Rate): boolean {
    return limit === this.rate.limit && window === this.rate.window
  }

  merge(state: Nanos | undefined, now: Nanos, used: Nanos, from: Rate): Nanos {
    if (this.covers(from)) return max(state ?? 0n, used)
    const before = new Gcra(from)
    const debt = used - before.scaled(now)
    if (debt <= 0n) return state ?? 0n
    const share = min(debt, before.tolerance)
    // Calls of the other rate use this one up, and no more: it is whole again in its own time. A penalty stays whole.
    const counted = min(this.converted(share, before), this.tolerance)
    const penalty = state === undefined ? this.converted(debt - share, before) : 0n
    return max(state ?? 0n, this.scaled(now) + counted + penalty)
  }

  /** A debt is so many calls, and stays so many. Rounded against the caller. */
  private converted(debt: Nanos, from: Gcra): Nanos {
    return ceilDiv(debt * this.price, from.price)
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
class SlidingWindow implements Single<Counters> {
  readonly cap: number
  private readonly limit: Nanos
  private readonly window: Nanos

  constructor(readonly rate: Rate) {
    const { limit, window } = rate
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

  covers({ window }: Rate): boolean {
    return window === this.rate.window
  }

  /** Calls in a window are the same under each limit. */
  merge(state: Counters | undefined, _now: Nanos, used: Counters): Counters {
    return state ?? used
  }
}

/** Part of a list of times, which only grows at its end. A state that is charged shares the list with the one before. */
interface Log {
  readonly times: Array<Nanos>
  readonly from: number
  readonly to: number
}

/** The time of each call of the last window: exactly at most `limit` in any window. */
class SlidingLog implements Single<Log> {
  readonly cap: number

  constructor(readonly rate: Rate) {
    this.cap = rate.limit
  }

  /** Where the calls begin that still count. */
  private live({ from, times, to }: Log, now: Nanos): number {
    const old = now - this.rate.window
    let low = from
    let high = to
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((times[middle] ?? now) <= old) low = middle + 1
      else high = middle
    }
    return low
  }

  ready(state: Log | undefined, now: Nanos, n: number): Nanos {
    if (state === undefined) return now
    const from = this.live(state, now)
    const over = state.to - from + n - this.cap
    return over <= 0 ? now : max(now, (state.times[from + over - 1] ?? now) + this.rate.window)
  }

  charge(state: Log | undefined, now: Nanos, n: number): Log {
    const { from, times, to } = state === undefined ? { times: [], from: 0, to: 0 } : this.room(state, now)
    const added = Math.min(n, this.cap)
    for (let i = 0; i < added; i++) times.push(now)
    // Of more than `limit` calls the oldest say nothing that the others do not; under a higher limit they were kept.
    const kept = Math.max(this.cap, to - from)
    return { times, from: Math.max(from, to + added - kept), to: to + added }
  }

  /** What counts, at the end of a list: a copy, where another state has grown the list or most of it is over. */
  private room(state: Log, now: Nanos): Log {
    const from = this.live(state, now)
    const { times, to } = state
    if (times.length === to && from <= to - from) return { times, from, to }
    return { times: times.slice(from, to), from: 0, to: to - from }
  }

  give(state: Log, now: Nanos, n: number): Log {
    const from = this.live(state, now)
    return { times: state.times, from, to: Math.max(from, state.to - n) }
  }

  available(state: Log | undefined, now: Nanos): number {
    return state === undefined ? this.cap : Math.max(0, this.cap - (state.to - this.live(state, now)))
  }

  drain(state: Log | undefined, now: Nanos): Log {
    return this.charge(state, now, this.available(state, now))
  }

  freeAt({ from, times, to }: Log): Nanos {
    const last = to > from ? times[to - 1] : undefined
    return last === undefined ? 0n : last + this.rate.window
  }

  covers({ window }: Rate): boolean {
    return window === this.rate.window
  }

  /** Calls in a window are the same under each limit. */
  merge(state: Log | undefined, _now: Nanos, used: Log): Log {
    return state ?? used
  }
}

interface Counter {
  readonly index: Nanos
  readonly count: number
}

/** Counts per window of the clock. At most `2 * limit` across a border. */
class FixedWindow implements Single<Counter> {
  readonly cap: number
  private readonly window: Nanos

  constructor(readonly rate: Rate) {
    const { limit, window } = rate
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

  covers({ window }: Rate): boolean {
    return window === this.rate.window
  }

  /** Calls in a window are the same under each limit. */
  merge(state: Counter | undefined, _now: Nanos, used: Counter): Counter {
    return state ?? used
  }
}

/** @internal */
export const make: { readonly [A in AlgorithmName]: (rate: Rate) => Single<unknown> } = {
  gcra: (rate) => new Gcra(rate),
  // The same machine: a bucket that holds `burst` and fills by `limit` per window.
  "token-bucket": (rate) => new Gcra(rate),
  "sliding-window": (rate) => new SlidingWindow(rate),
  "sliding-log": (rate) => new SlidingLog(rate),
  "fixed-window": (rate) => new FixedWindow(rate)
}
