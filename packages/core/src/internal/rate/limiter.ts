import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import { OptionThrewError } from "../../Outcome.js"
import type { Guard } from "../../Pattern.js"
import type { RateLimiter, RateLimitExceededError } from "../../RateLimiter.js"
import { deadlineOf } from "../ambient.js"
import type { Handlers, Restore } from "../guard.js"
import { hold, observe, passThrough } from "../guard.js"
import type { Emitter } from "../hub.js"
import { Unguarded } from "../keyed.js"
import * as option from "../options.js"
import type { Nanos } from "../time.js"
import { currentClock, forever, fromNanos, now, toNanos, toSeconds } from "../time.js"
import { Plan } from "./algorithms.js"
import type { Place } from "./line.js"
import { standing } from "./memory.js"
import type { AlgorithmName, Rate, RateInput } from "./rate.js"
import { parseRates, showRate } from "./rate.js"
import { RateTable } from "./table.js"

/** The options of a limiter, read. @internal */
export interface LimiterConfig {
  readonly name: string
  readonly rate: RateInput | ReadonlyArray<RateInput>
  readonly algorithm: AlgorithmName
  readonly burst: number | undefined
  readonly mode: "fail" | "wait"
  readonly maxWait: Duration.Duration
  readonly maxWaiters: number
  readonly maxKeys: number
  readonly onFull: "reject" | "admit"
  readonly rateFor: ((key: string) => RateLimiter.Rates | undefined) | undefined
  readonly revealKey: boolean
}

/** Where a limiter tells what happens. @internal */
export interface LimiterWatch {
  readonly emitter: Emitter<RateLimiter.Event>
  readonly decided: { readonly [R in "allowed" | "delayed" | "rejected" | "store_error"]: () => void }
  readonly canceled: () => void
  readonly rejected: (reason: RateLimiter.Reason) => void
  readonly waited: (seconds: number, result: "acquired" | "rejected" | "canceled") => void
  readonly keys: (count: number) => void
  readonly error: (
    reason: RateLimiter.Reason,
    retryAfter: Duration.Duration | undefined,
    limit: number,
    remaining: number
  ) => RateLimitExceededError
}

/** Plans held by the text of their rates, for rates that come with the calls. */
const maxPlans = 1024

/** Stands for the key in events, where it is not to be seen. */
const redacted = "<redacted>"

/**
 * What both kinds of limiter have: the rates, the counters, and what is told.
 *
 * @internal
 */
export class Limits {
  plan: Plan
  allowed = 0
  rejected = 0
  canceled = 0
  storeErrors = 0
  private readonly plans = new Map<string, Plan>()

  constructor(readonly config: LimiterConfig, readonly watch: LimiterWatch) {
    this.plan = this.parse(config.rate, config.burst)
  }

  /** The plan of a call: its own rate, its key's, or that of the instance. */
  planOf(key: string, rate: RateLimiter.Rates | undefined): Plan {
    if (rate !== undefined) return this.parse(rate)
    const { name, rateFor } = this.config
    if (rateFor === undefined) return this.plan
    let own: RateLimiter.Rates | undefined
    try {
      own = rateFor(key)
    } catch (error) {
      throw new OptionThrewError("RateLimiter", name, "rateFor", error)
    }
    return own === undefined ? this.plan : this.parse(own)
  }

  /** A rate that cannot be read is a bug of whoever wrote it: nothing passes. */
  parse(input: RateLimiter.Rates, burst?: number): Plan {
    const known = typeof input === "string" && burst === undefined ? this.plans.get(input) : undefined
    if (known !== undefined) return known
    const { algorithm, name } = this.config
    let rates: ReadonlyArray<Rate>
    try {
      rates = parseRates(input, algorithm, burst)
    } catch (error) {
      if (!(error instanceof option.Requirement)) throw error
      throw new option.InvalidOptionError("RateLimiter", name, "rate", input, error.text)
    }
    const text = rates.map(({ burst, limit, window }) => `${limit} ${window} ${burst}`).join()
    const plan = this.plans.get(text) ?? new Plan(algorithm, rates)
    if (this.plans.size >= maxPlans) this.plans.clear()
    this.plans.set(text, plan)
    if (typeof input === "string" && burst === undefined) this.plans.set(input, plan)
    return plan
  }

  cost(cost: number): number {
    if (Number.isSafeInteger(cost) && cost >= 1) return cost
    throw new option.InvalidOptionError("RateLimiter", this.config.name, "cost", cost, "an integer of at least 1")
  }

  /** A call passes; `remaining` is asked for where somebody listens. */
  allow(key: string, plan: Plan, remaining: () => number, delayed = false): void {
    this.allowed++
    if (delayed) this.watch.decided.delayed()
    else this.watch.decided.allowed()
    const { emitter } = this.watch
    if (!emitter.listening) return
    emitter.emit({
      _tag: "Allowed",
      ...emitter.call(),
      ...this.shown(key),
      rate: showRates(plan),
      remaining: remaining()
    })
  }

  /** A call is turned away: counted, told, and failed. `wait` is `undefined` where waiting would not help. */
  refuse(
    key: string,
    plan: Plan,
    reason: RateLimiter.Reason,
    wait: Nanos | undefined,
    limit: number,
    remaining: number
  ): Exit.Exit<never, RateLimitExceededError> {
    this.rejected++
    this.watch.decided.rejected()
    this.watch.rejected(reason)
    const retryAfter = wait === undefined ? undefined : fromNanos(wait)
    const { emitter } = this.watch
    if (emitter.listening) {
      emitter.emit({
        _tag: "Exceeded",
        ...emitter.call(),
        ...this.shown(key),
        rate: showRates(plan),
        reason,
        retryAfter: retryAfter ?? Duration.infinity
      })
    }
    return Exit.fail(this.watch.error(reason, retryAfter, limit, remaining))
  }

  change(plan: Plan): void {
    const from = this.plan
    this.plan = plan
    const { emitter } = this.watch
    if (emitter.listening) emitter.emit({ _tag: "LimitChanged", from: showRates(from), to: showRates(plan) })
  }

  private shown(key: string): { readonly key?: string } {
    return key === "" ? {} : { key: this.config.revealKey ? key : redacted }
  }
}

/** @internal */
export const showRates = (plan: Plan): string => plan.rates.map(showRate).join(", ")

const quiet: Handlers = { onSuccess: Exit.succeed, onFailure: Exit.failCause }

/**
 * The limiter of this process: a table of keys in a `Ref`, and the lines of those that wait.
 *
 * @internal
 */
export class LocalLimiter {
  private readonly read: Effect.Effect<RateTable>
  private readonly maxWait: Nanos
  private readonly unguarded: Unguarded
  private readonly admitUnguarded: Guard
  private readonly closeTable: RateTable

  constructor(readonly limits: Limits) {
    const { config, watch } = limits
    const table = new RateTable(config.maxKeys, watch.keys)
    this.closeTable = table
    this.read = Ref.get(Ref.unsafeMake(table))
    this.maxWait = toNanos(config.maxWait)
    this.unguarded = new Unguarded(watch.emitter, config.maxKeys)
    this.admitUnguarded = (effect) => Effect.zipRight(this.unguarded.count, effect)
  }

  /** Nothing rings any more. */
  readonly close: Effect.Effect<void> = Effect.sync(() => this.closeTable.close())

  readonly guard = (
    key: string,
    cost: number,
    rate: RateLimiter.Rates | undefined
  ): Guard<RateLimitExceededError> => {
    const { config } = this.limits
    const waiting = config.mode === "fail" ?
      undefined :
      hold<RateLimitExceededError>((restore, run) =>
        Effect.flatMap(this.read, (table) => this.wait(table, key, cost, rate, restore, () => run(quiet)))
      )
    return observe(this.read, (table) => {
      const { limits } = this
      const plan = limits.planOf(key, rate)
      const clock = currentClock()
      const time = clock.unsafeCurrentTimeNanos()
      const early = this.early(table, key, plan, cost, time)
      if (early !== undefined) return early
      const at = table.take(key, plan, cost, time, clock)
      if (at === undefined) return this.full(key, plan)
      if (at <= time) {
        limits.allow(key, plan, () => table.available(key, plan, time))
        return passThrough
      }
      return waiting ?? this.refuse(table, key, plan, "Exceeded", time, at - time)
    })
  }

  /** What is refused whatever the key has left. */
  private early(
    table: RateTable,
    key: string,
    plan: Plan,
    cost: number,
    time: Nanos
  ): Exit.Exit<never, RateLimitExceededError> | undefined {
    if (cost > plan.algorithm.cap) return this.refuse(table, key, plan, "CostTooHigh", time, undefined)
    const fiber = Fiber.getCurrentFiber()
    const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
    return deadline !== undefined && deadline.at <= time
      ? this.refuse(table, key, plan, "DeadlineTooClose", time, undefined)
      : undefined
  }

  private refuse(
    table: RateTable,
    key: string,
    plan: Plan,
    reason: RateLimiter.Reason,
    time: Nanos,
    wait: Nanos | undefined
  ): Exit.Exit<never, RateLimitExceededError> {
    const limit = plan.tightest(table.state(key, plan, time), time)?.limit ?? 0
    return this.limits.refuse(key, plan, reason, wait, limit, table.available(key, plan, time))
  }

  private full(key: string, plan: Plan): Exit.Exit<never, RateLimitExceededError> | Guard {
    if (this.limits.config.onFull === "admit") {
      this.limits.allow(key, plan, () => 0)
      return this.admitUnguarded
    }
    return this.limits.refuse(key, plan, "TooManyKeys", undefined, plan.rates[0]?.limit ?? 0, 0)
  }

  /** Takes a place in line and waits for it under `restore`. Uninterruptible. */
  private wait<A, E, R>(
    table: RateTable,
    key: string,
    cost: number,
    rate: RateLimiter.Rates | undefined,
    restore: Restore,
    onAllowed: () => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | RateLimitExceededError, R> {
    const { limits } = this
    const current = Fiber.getCurrentFiber()
    const plan = limits.planOf(key, rate)
    const clock = currentClock()
    const since = clock.unsafeCurrentTimeNanos()
    const at = table.ready(key, plan, cost, since)
    if (at === undefined) return this.refuse(table, key, plan, "TooManyKeys", since, undefined)
    const refuse = (reason: RateLimiter.Reason) => this.refuse(table, key, plan, reason, since, at - since)
    const deadline = current._tag === "Some" ? deadlineOf(current.value) : undefined
    const byWait = this.maxWait >= forever ? forever : since + this.maxWait
    if (at > byWait) return refuse("WaitExceeded")
    // Nothing starts at a deadline, or after it.
    const latest = deadline !== undefined && deadline.at - 1n < byWait ? deadline.at - 1n : byWait
    const late = latest === byWait ? "WaitExceeded" : "DeadlineTooClose"
    if (at > latest) return refuse("DeadlineTooClose")
    if (table.waiting >= limits.config.maxWaiters) return refuse("QueueFull")
    const turn = new Turn()
    const place = table.join(
      key,
      { plan, cost, latest, pinned: false, taken: false, wake: turn.decide },
      since,
      clock
    )
    if (place === undefined) return refuse("TooManyKeys")
    table.waiting++
    return Effect.matchCauseEffect(restore(turn.await), {
      onSuccess: (inTime): Effect.Effect<A, E | RateLimitExceededError, R> => {
        table.waiting--
        const time = clock.unsafeCurrentTimeNanos()
        const waited = toSeconds(time - since)
        // A busy event loop rings late: the turn came, but after the deadline.
        const standing = current._tag === "Some" ? deadlineOf(current.value) : undefined
        const passed = standing !== undefined && standing.at <= time
        if (!inTime || passed) {
          if (inTime) table.leave(key, place, time, clock)
          this.limits.watch.waited(waited, "rejected")
          const left = table.ready(key, plan, cost, time) ?? time
          return this.refuse(table, key, plan, passed ? "DeadlineTooClose" : late, time, left - time)
        }
        table.go(key, place, time)
        limits.watch.waited(waited, "acquired")
        limits.allow(key, place.plan, () => table.available(key, place.plan, time), true)
        return onAllowed()
      },
      onFailure: (cause) => {
        table.waiting--
        const time = clock.unsafeCurrentTimeNanos()
        table.leave(key, place, time, clock)
        limits.canceled++
        limits.watch.canceled()
        limits.watch.waited(toSeconds(time - since), "canceled")
        return Exit.failCause(cause)
      }
    })
  }

  readonly consume = ({ cost, key, rate }: Asked): Effect.Effect<RateLimiter.Decision> =>
    Effect.map(this.read, (table) => {
      const { limits } = this
      const plan = limits.planOf(key, rate)
      const clock = currentClock()
      const time = clock.unsafeCurrentTimeNanos()
      const at = cost > plan.algorithm.cap ? forever : table.take(key, plan, cost, time, clock)
      const allowed = at === undefined ? limits.config.onFull === "admit" : at <= time
      if (allowed) limits.allow(key, plan, () => table.available(key, plan, time))
      else this.refuse(table, key, plan, reasonOf(at), time, at === undefined || at >= forever ? undefined : at - time)
      if (at === undefined && allowed) this.unguarded.calls++
      return this.decision(table, key, plan, time, allowed, at)
    })

  readonly check = ({ cost, key, rate }: Asked): Effect.Effect<RateLimiter.Decision> =>
    Effect.map(this.read, (table) => {
      const plan = this.limits.planOf(key, rate)
      const time = now()
      const at = cost > plan.algorithm.cap ? forever : table.ready(key, plan, cost, time)
      const allowed = at === undefined ? this.limits.config.onFull === "admit" : at <= time
      return this.decision(table, key, plan, time, allowed, at)
    })

  private decision(
    table: RateTable,
    key: string,
    plan: Plan,
    time: Nanos,
    allowed: boolean,
    at: Nanos | undefined
  ): RateLimiter.Decision {
    const wait = allowed ? 0n : at === undefined ? forever : at >= forever ? forever : at - time
    return { allowed, retryAfter: fromNanos(wait), ...standing(table, key, plan, time) }
  }

  readonly reserve = (
    { cost, key, rate }: Asked,
    maxWait: Duration.Duration
  ): Effect.Effect<RateLimiter.Reservation, RateLimitExceededError> =>
    Effect.flatMap(this.read, (table) => {
      const { limits } = this
      const plan = limits.planOf(key, rate)
      const clock = currentClock()
      const time = clock.unsafeCurrentTimeNanos()
      const early = this.early(table, key, plan, cost, time)
      if (early !== undefined) return early
      const at = table.ready(key, plan, cost, time)
      const latest = time + toNanos(maxWait)
      if (at !== undefined && at > latest) return this.refuse(table, key, plan, "WaitExceeded", time, at - time)
      const place = at === undefined
        ? undefined
        : table.join(key, { plan, cost, latest, pinned: true, taken: true, wake: () => {} }, time, clock)
      if (at === undefined || place === undefined) {
        return this.refuse(table, key, plan, "TooManyKeys", time, undefined)
      }
      limits.allow(key, plan, () => table.available(key, plan, time), at > time)
      return Exit.succeed<RateLimiter.Reservation>({
        delay: fromNanos(at - time),
        decision: this.decision(table, key, plan, time, true, at),
        cancel: Effect.sync(() => this.cancel(table, key, place))
      })
    })

  private cancel(table: RateTable, key: string, place: Place): boolean {
    const clock = currentClock()
    const time = clock.unsafeCurrentTimeNanos()
    // At its time itself it may still be taken out: nothing has been charged between.
    return table.leave(key, place, time, clock)
  }

  readonly penalty = (key: string, cost: number): Effect.Effect<void> =>
    this.change(key, (table, plan, time, clock) => table.penalize(key, plan, cost, time, clock))

  readonly reward = (key: string, cost: number): Effect.Effect<void> =>
    this.change(key, (table, plan, time, clock) => table.reward(key, plan, cost, time, clock))

  readonly drain = (key: string): Effect.Effect<void> =>
    this.change(key, (table, plan, time, clock) => table.drain(key, plan, time, clock))

  readonly reset = (key: string): Effect.Effect<void> =>
    this.change(key, (table, _plan, time, clock) => table.reset(key, time, clock))

  private change(
    key: string,
    f: (table: RateTable, plan: Plan, time: Nanos, clock: ReturnType<typeof currentClock>) => void
  ): Effect.Effect<void> {
    return Effect.map(this.read, (table) => {
      const clock = currentClock()
      f(table, this.limits.planOf(key, undefined), clock.unsafeCurrentTimeNanos(), clock)
    })
  }

  readonly setRate = (rate: RateLimiter.Rates): Effect.Effect<void> =>
    Effect.map(this.read, (table) => {
      const from = this.limits.plan
      const to = this.limits.parse(rate)
      const clock = currentClock()
      this.limits.change(to)
      if (from !== to) table.replace(from, to, clock.unsafeCurrentTimeNanos(), clock)
    })

  readonly metrics: Effect.Effect<RateLimiter.Metrics> = Effect.map(
    Effect.suspend(() => this.read),
    (table) => {
      const { allowed, canceled, config, plan, rejected, storeErrors } = this.limits
      return {
        rate: showRates(plan),
        keys: table.keys,
        maxKeys: config.maxKeys,
        checks: allowed + rejected,
        allowed,
        rejected,
        canceled,
        waiting: table.waiting,
        evicted: table.evicted,
        unguarded: this.unguarded.calls,
        storeErrors
      }
    }
  )
}

/** The arguments of a decision, with their defaults. @internal */
export interface Asked {
  readonly key: string
  readonly cost: number
  readonly rate: RateLimiter.Rates | undefined
}

const reasonOf = (at: Nanos | undefined): RateLimiter.Reason =>
  at === undefined ? "TooManyKeys" : at >= forever ? "CostTooHigh" : "Exceeded"

/** A waiter as an effect: it is decided once, whoever is first. */
class Turn {
  private inTime: boolean | undefined
  private resume: ((result: Effect.Effect<boolean>) => void) | undefined

  readonly await = Effect.async<boolean>((resume) => {
    if (this.inTime !== undefined) resume(Exit.succeed(this.inTime))
    else this.resume = resume
  })

  readonly decide = (inTime: boolean): void => {
    if (this.inTime !== undefined) return
    this.inTime = inTime
    this.resume?.(Exit.succeed(inTime))
  }
}
