import type { RateLimiterStore } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import { ByKey } from "./byKey.js"
import type { Plan } from "./plan.js"
import { Told } from "./told.js"

/** @internal */
export interface LeaseOptions {
  /** How many more than its rate lets through a key may have in any span, over all processes: a part of its limit. */
  readonly maxOvershoot: number
  /** Milliseconds of a key's calls that are fetched at once. */
  readonly horizon: number
  /** Milliseconds after which tokens that nobody uses go back. */
  readonly heldFor: number
  readonly maxKeys: number
}

/** What leases need of the store. @internal */
export interface Lender {
  /** How many processes share the limit. */
  readonly processes: () => number
  /** Asks for as many tokens as there are of so many; to be answered by `Leases.lent`. */
  readonly borrow: (pool: Pool, tokens: number) => void
  /** Gives tokens back that were not used. */
  readonly giveBack: (pool: Pool, tokens: number) => void
}

/** Milliseconds of which the calls are counted for the average. */
const tick = 10

/** The most that is fetched at once, in horizons. */
const maxHorizons = 64

/** Tokens of a key that this process has been charged for and has not used. @internal */
export class Pool {
  tokens = 0
  /** So many were asked for, and there is no answer yet. */
  asked = 0
  askedAt = 0
  /** The store had less than was asked for, and has no more before that. */
  emptyUntil = 0
  lentAt = 0
  /** What the store said of the key last. */
  limit = 0
  remaining = 0
  resetAt = 0
  window: Duration.Duration | undefined
  /** Calls since the rate of calls was worked out last. */
  private calls = 0
  private since: number
  /** Calls in a millisecond. */
  private rate = 0
  /** How many horizons are fetched at once: more where calls come in bursts that their average does not foresee. */
  private horizons = 1
  private wasShort = false
  /** What was fetched last was more than before. */
  private isWider = false
  /** Once it is dropped: what is lent to it goes back at once, or is void. */
  fate: "back" | "void" | undefined

  constructor(readonly target: RateLimiterStore.Target, readonly plan: Plan, private readonly born: number) {
    this.since = born
  }

  /** Counts calls; an average that follows within the horizon. */
  count(calls: number, now: number, horizon: number): void {
    this.calls += calls
    const passed = now - this.since
    if (passed < tick) return
    this.rate += (1 - Math.exp(-passed / horizon)) * (this.calls / passed - this.rate)
    this.calls = 0
    this.since = now
  }

  /** How many tokens would be enough for the horizon. */
  need(horizon: number): number {
    return Math.ceil(this.rate * horizon * this.horizons)
  }

  /** It had too little for a call, though the store had more: the next that is fetched is more. */
  ranOut(now: number, horizon: number): void {
    const moreIsComing = this.isWider && this.asked > 0
    // At first it is the average that is not known yet.
    if (!moreIsComing && now >= this.emptyUntil && now - this.born > 2 * horizon) this.wasShort = true
  }

  /** Before something is fetched. */
  widen(): void {
    this.isWider = this.wasShort && this.horizons < maxHorizons
    if (this.isWider) this.horizons *= 2
    this.wasShort = false
  }

  /** It had more than was used. */
  hadLeft(): void {
    this.horizons = 1
    this.wasShort = false
  }

  isIdle(now: number, millis: number): boolean {
    return now - this.since > millis
  }
}

/** A decision that took from a pool. @internal */
export class Leased extends Told {
  constructor({ limit, remaining, resetAt, tokens }: Pool, granted: number, window: Duration.Duration, now: number) {
    super(granted, limit, window, remaining + tokens, 0, Math.ceil((resetAt - now) * 1000))
  }
}

/**
 * Tokens fetched ahead, for keys with many calls. They are charged when they are fetched, so a key never gets more of them
 * than its rate has; but those that were fetched earlier may be used later. All processes together hold at most
 * `maxOvershoot` of the limit, so in any span no more than that is let through on top of what the rate allows.
 *
 * All of it is a function of the times that it is given: what asks and what rings is outside.
 *
 * @internal
 */
export class Leases {
  private readonly pools: ByKey<Pool>

  constructor(private readonly options: LeaseOptions, private readonly lender: Lender) {
    this.pools = new ByKey(options.maxKeys)
  }

  get size(): number {
    return this.pools.size
  }

  /** The most that this process may hold of a key. */
  cap(plan: Plan): number {
    const least = plan.rates.reduce((least, { limit }) => Math.min(least, limit), Infinity)
    return Math.floor(this.options.maxOvershoot * least / Math.max(1, this.lender.processes()))
  }

  /** Takes from what is held. `undefined` where that is too little: then the store has to be asked. */
  take(request: RateLimiterStore.Request, plan: Plan, now: number): Leased | undefined {
    const { horizon } = this.options
    const { cost, instance, key } = request
    let pool = this.pools.get(instance, key)
    if (pool === undefined || pool.plan !== plan) {
      // A single token ahead would save nothing.
      if (request.mode === "peek" || this.cap(plan) < 2) return undefined
      if (pool !== undefined) this.drop(pool, "back")
      pool = new Pool(request, plan, now)
      const evicted = this.pools.set(instance, key, pool)
      if (evicted !== undefined) this.drop(evicted, "back")
    }
    if (request.mode !== "peek") pool.count(cost, now, horizon)
    const enough = pool.window !== undefined && pool.tokens >= cost && request.mode !== "atMost"
    if (request.mode !== "peek") {
      if (enough) pool.tokens -= cost
      else if (pool.window !== undefined) pool.ranOut(now, horizon)
    }
    this.refill(pool, now)
    return enough && pool.window !== undefined ? new Leased(pool, cost, pool.window, now) : undefined
  }

  /** Fetches when less than half is left, and never so much that the cap would be passed. */
  private refill(pool: Pool, now: number): void {
    if (pool.asked > 0 || now < pool.emptyUntil) return
    const { horizon } = this.options
    const need = pool.need(horizon)
    if (need < 2 || pool.tokens > need / 2) return
    const cap = this.cap(pool.plan)
    if (pool.tokens >= cap) return
    pool.widen()
    const tokens = Math.min(pool.need(horizon), cap) - pool.tokens
    pool.asked = tokens
    pool.askedAt = now
    this.lender.borrow(pool, tokens)
  }

  /**
   * What the store lent; `undefined` where it failed: then what it may have charged counts as used. What it said of times
   * was said after it was asked.
   */
  lent(pool: Pool, decision: RateLimiterStore.Decision | undefined, now: number): void {
    const asked = pool.asked
    pool.asked = 0
    if (decision === undefined) return
    if (pool.fate !== undefined) {
      if (pool.fate === "back" && decision.granted > 0) this.lender.giveBack(pool, decision.granted)
      return
    }
    if (decision.granted < asked) pool.emptyUntil = pool.askedAt + Duration.toMillis(decision.wait)
    if (decision.granted > 0) pool.lentAt = now
    pool.tokens += decision.granted
    pool.limit = decision.limit
    pool.window = decision.window
    pool.remaining = decision.remaining
    pool.resetAt = pool.askedAt + Duration.toMillis(decision.resetAfter)
  }

  /** The key is reset or drained: what is held of it is void. */
  forget({ instance, key }: RateLimiterStore.Target): void {
    const pool = this.pools.get(instance, key)
    if (pool !== undefined) this.drop(pool, "void")
  }

  /** Gives back what has not been used for a while, and forgets keys that nobody asks for. */
  sweep(now: number): void {
    for (const pool of [...this.pools]) {
      if (pool.isIdle(now, 10 * this.options.heldFor) && pool.asked === 0) this.drop(pool, "back")
      else if (pool.tokens > 0 && now - pool.lentAt >= this.options.heldFor) {
        pool.hadLeft()
        this.empty(pool)
      }
    }
  }

  /** Gives all back. */
  close(): void {
    for (const pool of [...this.pools]) this.drop(pool, "back")
  }

  private drop(pool: Pool, fate: "back" | "void"): void {
    pool.fate = fate
    if (this.pools.get(pool.target.instance, pool.target.key) === pool) {
      this.pools.delete(pool.target.instance, pool.target.key)
    }
    if (fate === "back") this.empty(pool)
    else pool.tokens = 0
  }

  private empty(pool: Pool): void {
    const { tokens } = pool
    pool.tokens = 0
    if (tokens > 0) this.lender.giveBack(pool, tokens)
  }
}
