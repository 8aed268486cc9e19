import type { RateLimiterStore } from "../../RateLimiterStore.js"
import type { Nanos } from "../time.js"
import { fromNanos } from "../time.js"
import type { Algorithm, Single } from "./algorithms.js"
import { make } from "./algorithms.js"
import type { AlgorithmName, Rate } from "./rate.js"

const max = (a: Nanos, b: Nanos): Nanos => a > b ? a : b

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
}

/** What was used under one rate. @internal */
export interface Used {
  readonly part: Single<unknown>
  readonly state: unknown
}

/** What a key has used. @internal */
export interface Charged {
  /** Under which it was charged last. */
  plan: Plan
  state: unknown
  /** What it has used under rates that the plan does not have, until that is as good as new. */
  others: ReadonlyArray<Used>
}

/** @internal */
export const none: ReadonlyArray<Used> = []

/**
 * Rates, ready to decide. A key remembers under which it was charged.
 *
 * @internal
 */
export class Plan {
  readonly algorithm: Algorithm<unknown>
  private readonly parts: ReadonlyArray<Single<unknown>>
  /** The window after which a drained key may be drained again. */
  readonly shortest: Nanos
  /** What a store is told: one list, by which it may know the plan again. */
  readonly told: ReadonlyArray<RateLimiterStore.Rate>

  constructor(readonly name: AlgorithmName, readonly rates: ReadonlyArray<Rate>) {
    this.parts = rates.map(make[name])
    const [only] = this.parts
    this.algorithm = only !== undefined && this.parts.length === 1 ? only : new Several(this.parts, rates)
    this.told = rates.map(({ burst, limit, window }) => ({ burst, limit, window: fromNanos(window) }))
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

  /**
   * What a key has used, seen by this plan. Rates with the same window count the same calls; what is used in a window that
   * this plan does not have is carried along.
   */
  adapt(from: Charged, now: Nanos): Charged {
    if (from.plan === this) return from
    const used = from.plan.split(from.state).concat(from.others)
    if (used.length === 0) return { plan: this, state: undefined, others: none }
    const after = this.parts.map((part) => {
      const own = used.find((one) => part.covers(one.part.rate))?.state
      const same = used.filter(({ part: { rate } }) => rate.window === part.rate.window)
      const all = same.reduce((state, one) => part.merge(state, now, one.state, one.part.rate), own)
      return all ?? part.charge(undefined, now, 0)
    })
    const others = used.filter((one) =>
      !this.parts.some((part) => part.covers(one.part.rate)) && one.part.freeAt(one.state) > now
    )
    return { plan: this, state: this.parts.length === 1 ? after[0] : after, others: bounded(others) }
  }

  /** Gives up to `n` back, under each rate that counts the same calls. */
  give({ others, state }: Charged, now: Nanos, n: number): Charged {
    return {
      plan: this,
      state: state === undefined ? undefined : this.algorithm.give(state, now, n),
      others: others.map((one) =>
        this.rates.some(({ window }) => window === one.part.rate.window)
          ? { ...one, state: one.part.give(one.state, now, n) }
          : one
      )
    }
  }

  private split(state: unknown): ReadonlyArray<Used> {
    if (state === undefined) return none
    return this.parts.map((part, i) => ({ part, state: this.parts.length === 1 ? state : (state as States)[i] }))
  }
}

/** The most rates beside those of its plan that a key remembers: of more, those that are longest used up. */
const maxOthers = 16

const bounded = (others: ReadonlyArray<Used>): ReadonlyArray<Used> =>
  others.length <= maxOthers
    ? others
    : [...others].sort((a, b) => Number(b.part.freeAt(b.state) - a.part.freeAt(a.state))).slice(0, maxOthers)

/** @internal */
export const charge = ({ others, plan, state }: Charged, now: Nanos, n: number): Charged => ({
  plan,
  state: plan.algorithm.charge(state, now, n),
  others
})

/** One record becomes what another is. @internal */
export const become = (entry: Charged, { others, plan, state }: Charged): void => {
  entry.plan = plan
  entry.state = state
  entry.others = others
}

/** From then on nobody can tell the key from a new one. @internal */
export const freeAt = ({ others, plan, state }: Charged): Nanos => {
  let free = state === undefined ? 0n : plan.algorithm.freeAt(state)
  for (const { part, state } of others) free = max(free, part.freeAt(state))
  return free
}
