import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import type { Deadline } from "../../Deadline.js"
import type { Guard } from "../../Pattern.js"
import type { RateLimiter, RateLimitExceededError } from "../../RateLimiter.js"
import { deadlineOf } from "../ambient.js"
import type { Handlers, Restore } from "../guard.js"
import { hold, observeOwned, passThrough } from "../guard.js"
import { Unguarded } from "../keyed.js"
import type { Nanos } from "../time.js"
import { clockOf, currentClock, forever, fromNanos, now, toNanos, toSeconds } from "../time.js"
import { Turn } from "../waiting.js"
import type { Limits } from "./limits.js"
import { showRates } from "./limits.js"
import type { Place } from "./line.js"
import { standing } from "./memory.js"
import type { Plan } from "./plan.js"
import { RateTable } from "./table.js"

const quiet: Handlers = { onSuccess: Exit.succeed, onFailure: Exit.failCause }

/**
 * The limiter of this process: a table of keys in a `Ref`, and the lines of those that wait.
 *
 * @internal
 */
export class LocalLimiter {
  /** What is in the `Ref`, always: the guard has it at hand. */
  private readonly table: RateTable
  private readonly read: Effect.Effect<RateTable>
  private readonly maxWait: Nanos
  private readonly unguarded: Unguarded
  private readonly lost: Unguarded
  private readonly admitUnguarded: Guard

  /** `part`: what of a plan is this process's, where others count by it too. */
  constructor(readonly limits: Limits, private readonly part: (plan: Plan) => Plan = (plan) => plan) {
    const { config, watch } = limits
    this.table = new RateTable(config.maxKeys, watch.keys)
    this.read = Ref.get(Ref.unsafeMake(this.table))
    this.maxWait = toNanos(config.maxWait)
    this.unguarded = new Unguarded(watch.emitter, config.maxKeys)
    this.lost = new Unguarded(watch.emitter, config.maxKeys, "penalties of new ones are lost")
    this.admitUnguarded = (effect) => Effect.zipRight(this.unguarded.count, effect)
  }

  private planOf(key: string, rate: RateLimiter.Rates | undefined): Plan {
    return this.part(this.limits.planOf(key, rate))
  }

  /** Nothing rings any more. */
  readonly close: Effect.Effect<void> = Effect.sync(() => this.table.close())

  readonly guard = (
    key: string,
    cost: number,
    rate: RateLimiter.Rates | undefined
  ): Guard<RateLimitExceededError> => {
    const { limits, table } = this
    const waiting = limits.config.mode === "fail" ?
      undefined :
      hold<RateLimitExceededError>((restore, run) =>
        Effect.flatMap(this.read, (table) => this.wait(table, key, cost, rate, restore, () => run(quiet)))
      )
    return observeOwned((fiber) => {
      const plan = this.planOf(key, rate)
      const clock = clockOf(fiber)
      const time = clock.unsafeCurrentTimeNanos()
      const early = this.early(table, key, plan, cost, time, deadlineOf(fiber))
      if (early !== undefined) return early
      const at = table.take(key, plan, cost, time, clock)
      if (at === undefined) return this.full(key, plan)
      if (at <= time) {
        limits.count(false)
        if (limits.listening) limits.tellAllowed(key, plan, table.available(key, plan, time))
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
    time: Nanos,
    deadline: Deadline.Instant | undefined
  ): Exit.Exit<never, RateLimitExceededError> | undefined {
    if (cost > plan.algorithm.cap) return this.refuse(table, key, plan, "CostTooHigh", time, undefined)
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
    const { limit } = plan.tightest(table.state(key, plan, time), time).rate
    return this.limits.refuse(key, plan, reason, wait, limit, table.available(key, plan, time))
  }

  private full(key: string, plan: Plan): Exit.Exit<never, RateLimitExceededError> | Guard {
    if (this.limits.config.onFull === "admit") {
      this.limits.allow(key, plan, () => 0)
      return this.admitUnguarded
    }
    return this.tooManyKeys(key, plan)
  }

  private tooManyKeys(key: string, plan: Plan): Exit.Exit<never, RateLimitExceededError> {
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
    const plan = this.planOf(key, rate)
    const clock = currentClock()
    const since = clock.unsafeCurrentTimeNanos()
    const at = table.ready(key, plan, cost, since)
    if (at === undefined) return this.tooManyKeys(key, plan)
    const refuse = (reason: RateLimiter.Reason) => this.refuse(table, key, plan, reason, since, at - since)
    const deadline = currentDeadline()
    const byWait = this.maxWait >= forever ? forever : since + this.maxWait
    // Of a limiter that is gone nobody would be woken.
    if (at > byWait || table.isClosed) return refuse("WaitExceeded")
    // Nothing starts at a deadline, or after it.
    const latest = deadline !== undefined && deadline.at - 1n < byWait ? deadline.at - 1n : byWait
    const late = latest === byWait ? "WaitExceeded" : "DeadlineTooClose"
    if (at > latest) return refuse("DeadlineTooClose")
    if (!table.hasPlace(limits.config.maxWaiters, since)) return refuse("QueueFull")
    const turn = new Turn<boolean>()
    const place = table.join(
      key,
      { plan, cost, latest, pinned: false, taken: false, wake: turn.decide },
      since,
      clock
    )
    if (place === undefined) return this.tooManyKeys(key, plan)
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

  readonly consume = (asked: Asked): Effect.Effect<RateLimiter.Decision> =>
    Effect.flatMap(this.read, () => {
      const decision = this.consumeAtOnce(asked)
      if (decision !== undefined) return Exit.succeed(decision)
      const { key, rate } = asked
      const plan = this.planOf(key, rate)
      this.limits.allow(key, plan, () => 0)
      return Effect.as(this.unguarded.count, unasked(plan, true))
    })

  /** The decision in one step of a running fiber; none where a new key goes unguarded for want of room. */
  readonly consumeAtOnce = ({ cost, key, rate }: Asked): RateLimiter.Decision | undefined => {
    const { limits, table } = this
    const plan = this.planOf(key, rate)
    const clock = currentClock()
    const time = clock.unsafeCurrentTimeNanos()
    const at = cost > plan.algorithm.cap ? forever : table.take(key, plan, cost, time, clock)
    if (at === undefined) {
      if (limits.config.onFull === "admit") return undefined
      limits.turnAway(key, plan, "TooManyKeys", () => undefined)
      return unasked(plan, false)
    }
    const allowed = at <= time
    if (allowed) limits.allow(key, plan, () => table.available(key, plan, time))
    else if (at >= forever) limits.turnAway(key, plan, "CostTooHigh", () => undefined)
    else limits.turnAway(key, plan, "Exceeded", () => at - time)
    return this.decision(table, key, plan, time, allowed, at)
  }

  readonly check = ({ cost, key, rate }: Asked): Effect.Effect<RateLimiter.Decision> =>
    Effect.map(this.read, (table) => {
      const plan = this.planOf(key, rate)
      const time = now()
      const at = cost > plan.algorithm.cap ? forever : table.ready(key, plan, cost, time)
      return at === undefined
        ? unasked(plan, this.limits.config.onFull === "admit")
        : this.decision(table, key, plan, time, at <= time, at)
    })

  private decision(
    table: RateTable,
    key: string,
    plan: Plan,
    time: Nanos,
    allowed: boolean,
    at: Nanos
  ): RateLimiter.Decision {
    const wait = allowed ? 0n : at >= forever ? forever : at - time
    return { allowed, retryAfter: fromNanos(wait), ...standing(table, key, plan, time) }
  }

  readonly reserve = (
    { cost, key, rate }: Asked,
    maxWait: Duration.Duration
  ): Effect.Effect<RateLimiter.Reservation, RateLimitExceededError> =>
    Effect.flatMap(this.read, (table) => {
      const { limits } = this
      const plan = this.planOf(key, rate)
      const clock = currentClock()
      const time = clock.unsafeCurrentTimeNanos()
      const deadline = currentDeadline()
      const early = this.early(table, key, plan, cost, time, deadline)
      if (early !== undefined) return early
      const at = table.ready(key, plan, cost, time)
      if (at === undefined) return this.unbound(key, plan)
      const refuse = (reason: RateLimiter.Reason) => this.refuse(table, key, plan, reason, time, at - time)
      const byWait = time + toNanos(maxWait)
      if (at > byWait) return refuse("WaitExceeded")
      if (deadline !== undefined && at >= deadline.at) return refuse("DeadlineTooClose")
      if (at > time && !table.hasPlace(limits.config.maxWaiters, time)) return refuse("QueueFull")
      const place = table.join(
        key,
        { plan, cost, latest: byWait, pinned: true, taken: true, wake: () => {} },
        time,
        clock
      )
      if (place === undefined) return this.unbound(key, plan)
      limits.allow(key, plan, () => table.available(key, plan, time), at > time)
      return Exit.succeed<RateLimiter.Reservation>({
        delay: fromNanos(at - time),
        decision: this.decision(table, key, plan, time, true, at),
        cancel: Effect.sync(() => this.cancel(table, key, place))
      })
    })

  /** What `reserve` does for a new key for which there is no room. */
  private unbound(key: string, plan: Plan): Effect.Effect<RateLimiter.Reservation, RateLimitExceededError> {
    if (this.limits.config.onFull !== "admit") return this.tooManyKeys(key, plan)
    this.limits.allow(key, plan, () => 0)
    return Effect.as(this.unguarded.count, {
      delay: fromNanos(0n),
      decision: unasked(plan, true),
      cancel: Effect.succeed(false)
    })
  }

  private cancel(table: RateTable, key: string, place: Place): boolean {
    const clock = currentClock()
    const time = clock.unsafeCurrentTimeNanos()
    // At its time itself it may still be taken out: nothing has been charged between.
    return table.leave(key, place, time, clock)
  }

  readonly penalty = (key: string, cost: number): Effect.Effect<void> =>
    this.charge(key, (table, plan, time, clock) => table.penalize(key, plan, cost, time, clock))

  readonly reward = (key: string, cost: number): Effect.Effect<void> =>
    this.change(key, (table, plan, time, clock) => table.reward(key, plan, cost, time, clock))

  readonly drain = (key: string): Effect.Effect<void> =>
    this.charge(key, (table, plan, time, clock) => table.drain(key, plan, time, clock))

  readonly reset = (key: string): Effect.Effect<void> =>
    this.change(key, (table, _plan, time, clock) => table.reset(key, time, clock))

  /** A change that has to be remembered. */
  private charge(
    key: string,
    f: (table: RateTable, plan: Plan, time: Nanos, clock: ReturnType<typeof currentClock>) => boolean
  ): Effect.Effect<void> {
    return Effect.flatMap(this.read, (table) => {
      const clock = currentClock()
      const time = clock.unsafeCurrentTimeNanos()
      return f(table, this.planOf(key, undefined), time, clock) ? Effect.void : this.lost.count
    })
  }

  private change(
    key: string,
    f: (table: RateTable, plan: Plan, time: Nanos, clock: ReturnType<typeof currentClock>) => void
  ): Effect.Effect<void> {
    return Effect.map(this.read, (table) => {
      const clock = currentClock()
      f(table, this.planOf(key, undefined), clock.unsafeCurrentTimeNanos(), clock)
    })
  }

  readonly setRate = (rate: RateLimiter.Rates): Effect.Effect<void> =>
    Effect.map(this.read, (table) => {
      const from = this.limits.plan
      const to = this.limits.parse(rate)
      const clock = currentClock()
      this.limits.change(to)
      if (from !== to) table.replace(this.part(from), this.part(to), clock.unsafeCurrentTimeNanos(), clock)
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

/** The ambient deadline of the fiber that runs the callback this is called from. */
const currentDeadline = (): Deadline.Instant | undefined => {
  const fiber = Fiber.getCurrentFiber()
  return fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
}

/** What is said of a new key for which there is no room. */
const unasked = (plan: Plan, allowed: boolean): RateLimiter.Decision => {
  const [rate] = plan.rates
  return {
    allowed,
    limit: rate?.limit ?? 0,
    window: fromNanos(rate?.window ?? 0n),
    remaining: 0,
    retryAfter: fromNanos(allowed ? 0n : forever),
    resetAfter: fromNanos(0n)
  }
}
