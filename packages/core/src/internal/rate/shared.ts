import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type { Guard } from "../../Pattern.js"
import type { RateLimiter, RateLimiterStoreError, RateLimitExceededError } from "../../RateLimiter.js"
import type { RateLimiterStore } from "../../RateLimiterStore.js"
import { deadlineOf } from "../ambient.js"
import { Unguarded } from "../keyed.js"
import type { Nanos } from "../time.js"
import { fromNanos, now, toNanos, toSeconds } from "../time.js"
import { sleep } from "../timer.js"
import type { Answer } from "./asking.js"
import { Asking } from "./asking.js"
import type { Asked } from "./limiter.js"
import { LocalLimiter } from "./limiter.js"
import type { Limits } from "./limits.js"
import type { Plan } from "./plan.js"
import { Shares } from "./shares.js"

/** What happens when the store does not answer. @internal */
export type OnStoreError = "fail" | "open" | "closed" | "local"

type Rejection = RateLimitExceededError | RateLimiterStoreError

/**
 * A limiter whose counts are in a store. What became of a request is unclear when its caller is interrupted or the store
 * fails in mid-flight: then it counts as used.
 *
 * @internal
 */
export class SharedLimiter {
  /** Decides while the store does not answer, with `onStoreError: "local"`. */
  private readonly local: LocalLimiter
  private readonly shares: Shares
  private readonly asking: Asking
  private readonly unguarded: Unguarded
  private waiting = 0

  constructor(
    private readonly limits: Limits,
    private readonly store: RateLimiterStore.Service,
    private readonly onStoreError: OnStoreError,
    storeTimeout: Duration.Duration,
    storeError: (cause: unknown) => RateLimiterStoreError
  ) {
    this.shares = new Shares(store.processes)
    this.local = new LocalLimiter(limits, this.shares.of)
    this.asking = new Asking(limits, store, storeTimeout, storeError, `onStoreError: "${onStoreError}"`)
    this.unguarded = new Unguarded(limits.watch.emitter, undefined)
  }

  get close(): Effect.Effect<void> {
    return this.local.close
  }

  private target(key: string, plan: Plan): RateLimiterStore.Target {
    return { instance: this.limits.config.name, key, algorithm: plan.name, rates: plan.told }
  }

  private request({ cost, key }: Asked, plan: Plan, mode: "all" | "peek" | "reserve", maxWait: Duration.Duration) {
    return {
      instance: this.limits.config.name,
      key,
      algorithm: plan.name,
      rates: plan.told,
      cost,
      mode,
      maxWait
    } satisfies RateLimiterStore.Request
  }

  readonly guard = (key: string, cost: number, rate: RateLimiter.Rates | undefined): Guard<Rejection> => (effect) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        this.admit({ key, cost, rate }, restore),
        (unguarded) => unguarded === "local" ? restore(this.local.guard(key, cost, rate)(effect)) : restore(effect)
      )
    )

  /** Asks, and waits for what was reserved. */
  private admit(
    asked: Asked,
    restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  ): Effect.Effect<"store" | "local", Rejection> {
    return Effect.suspend(() => {
      const { limits } = this
      const { config, watch } = limits
      const { cost, key } = asked
      const plan = limits.planOf(key, asked.rate)
      const since = now()
      const left = untilDeadline(since)
      const early = this.early(key, plan, cost, left)
      if (early !== undefined) return early
      const waits = config.mode === "wait"
      const patience = patienceOf(config.maxWait, left)
      // Where as many wait as may, a call may still go if it need not wait.
      const mayWait = waits && this.waiting < config.maxWaiters
      const request = this.request(asked, plan, mayWait ? "reserve" : "all", patience.maxWait)
      const admitted = this.asking.decision(request, (answer): Effect.Effect<"store" | "local", Rejection> => {
        if (Either.isLeft(answer)) return this.withoutStore(key, plan, cost, answer.left)
        const decision = answer.right
        const wait = toNanos(decision.wait)
        if (decision.full === true) return this.full(key, plan)
        if (decision.granted < cost) {
          const reason = !waits ? "Exceeded" : patience.late(wait) ?? "QueueFull"
          return limits.refuse(key, plan, reason, wait, decision.limit, decision.remaining)
        }
        if (wait <= 0n) return this.pass(key, plan, decision.remaining, false)
        return Effect.matchCauseEffect(restore(sleep(wait)), {
          onSuccess: () => {
            watch.waited(toSeconds(now() - since), "acquired")
            return this.pass(key, plan, decision.remaining, true)
          },
          onFailure: (cause) => {
            limits.canceled++
            watch.canceled()
            watch.waited(toSeconds(now() - since), "canceled")
            return Effect.zipRight(this.refund(request, decision), Effect.failCause(cause))
          }
        })
      }, restore)
      return mayWait ? this.asWaiter(admitted) : admitted
    })
  }

  /** What is refused whatever the store would say. */
  private early(key: string, plan: Plan, cost: number, left: Nanos | undefined) {
    const refuse = (reason: RateLimiter.Reason) =>
      this.limits.refuse(key, plan, reason, undefined, unasked(plan).limit, 0)
    if (cost > plan.algorithm.cap) return refuse("CostTooHigh")
    return left !== undefined && left <= 0n ? refuse("DeadlineTooClose") : undefined
  }

  /** Counted from before the store is asked: as many as ask may all have to wait. */
  private asWaiter<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    this.waiting++
    return Effect.ensuring(effect, Effect.sync(() => this.waiting--))
  }

  private pass(key: string, plan: Plan, remaining: number, delayed: boolean): Effect.Effect<"store"> {
    this.limits.allow(key, plan, () => remaining, delayed)
    return Effect.succeed("store")
  }

  /** A new key, and all keys of the store are live. */
  private full(key: string, plan: Plan): Effect.Effect<"store", Rejection> {
    return this.limits.config.onFull === "admit"
      ? Effect.zipRight(this.unguarded.count, this.pass(key, plan, 0, false))
      : this.limits.refuse(key, plan, "TooManyKeys", undefined, unasked(plan).limit, 0)
  }

  private refund(request: RateLimiterStore.Request, decision: RateLimiterStore.Decision) {
    return this.asking.ask(Effect.suspend(() => this.store.refund(request, decision)))
  }

  private withoutStore(
    key: string,
    plan: Plan,
    cost: number,
    error: RateLimiterStoreError
  ): Effect.Effect<"store" | "local", Rejection> {
    switch (this.onStoreError) {
      case "fail":
        this.limits.rejected++
        return Effect.fail(error)
      case "closed":
        return this.limits.refuse(key, plan, "StoreUnavailable", undefined, unasked(plan).limit, 0)
      case "open":
        return this.pass(key, plan, 0, false)
      case "local":
        return this.exceedsShare(plan, cost)
          ? this.limits.refuse(key, plan, "StoreUnavailable", undefined, unasked(plan).limit, 0)
          : Effect.succeed("local")
    }
  }

  /** More than the share of this process ever has at once: it goes when the store is back. */
  private exceedsShare(plan: Plan, cost: number): boolean {
    return cost > this.shares.of(plan).algorithm.cap
  }

  readonly consume = (asked: Asked): Effect.Effect<RateLimiter.Decision, RateLimiterStoreError> =>
    this.decide(asked, "all")

  readonly check = (asked: Asked): Effect.Effect<RateLimiter.Decision, RateLimiterStoreError> =>
    this.decide(asked, "peek")

  /** A decision that needs nobody to be asked; `undefined` where nothing has happened. */
  readonly consumeAtOnce = (asked: Asked): RateLimiter.Decision | undefined => {
    const plan = this.limits.planOf(asked.key, asked.rate)
    if (this.store.decideAtOnce === undefined || asked.cost > plan.algorithm.cap) return undefined
    let decision: RateLimiterStore.Decision | undefined
    try {
      decision = this.store.decideAtOnce(this.request(asked, plan, "all", Duration.zero))
    } catch {
      // `consume` meets it again, and says so.
      return undefined
    }
    if (decision === undefined || decision.full === true) return undefined
    return this.tell(asked, plan, decided(decision, asked.cost), "Exceeded")
  }

  private tell(
    { key }: Asked,
    plan: Plan,
    decision: RateLimiter.Decision,
    reason: RateLimiter.Reason
  ): RateLimiter.Decision {
    const { limits } = this
    if (decision.allowed) limits.allow(key, plan, () => decision.remaining)
    else limits.turnAway(key, plan, reason, () => toNanos(decision.retryAfter))
    return decision
  }

  private decide(asked: Asked, mode: "all" | "peek"): Effect.Effect<RateLimiter.Decision, RateLimiterStoreError> {
    return Effect.suspend(() => {
      const plan = this.limits.planOf(asked.key, asked.rate)
      if (asked.cost > plan.algorithm.cap) return this.blind(asked, plan, mode, false, "CostTooHigh")
      return this.asking.decision(
        this.request(asked, plan, mode, Duration.zero),
        (answer) => this.told(asked, plan, mode, answer)
      )
    })
  }

  private told(
    asked: Asked,
    plan: Plan,
    mode: "all" | "peek",
    answer: Answer<RateLimiterStore.Decision>
  ): Effect.Effect<RateLimiter.Decision, RateLimiterStoreError> {
    const { limits, onStoreError } = this
    if (Either.isRight(answer)) {
      if (answer.right.full === true) {
        const admit = limits.config.onFull === "admit"
        const decision = this.blind(asked, plan, mode, admit, "TooManyKeys")
        return admit && mode === "all" ? Effect.zipRight(this.unguarded.count, decision) : decision
      }
      const decision = decided(answer.right, asked.cost)
      return Effect.succeed(mode === "peek" ? decision : this.tell(asked, plan, decision, "Exceeded"))
    }
    switch (onStoreError) {
      case "fail":
        if (mode === "all") limits.rejected++
        return Effect.fail(answer.left)
      case "local":
        if (this.exceedsShare(plan, asked.cost)) return this.blind(asked, plan, mode, false, "StoreUnavailable")
        return mode === "all" ? this.local.consume(asked) : this.local.check(asked)
      case "open":
      case "closed":
        return this.blind(asked, plan, mode, onStoreError === "open", "StoreUnavailable")
    }
  }

  /** What is decided without knowing what is left. */
  private blind(
    asked: Asked,
    plan: Plan,
    mode: "all" | "peek",
    allowed: boolean,
    reason: RateLimiter.Reason
  ): Effect.Effect<RateLimiter.Decision> {
    const decision: RateLimiter.Decision = {
      allowed,
      ...unasked(plan),
      remaining: 0,
      retryAfter: allowed ? Duration.zero : Duration.infinity,
      resetAfter: Duration.zero
    }
    return Effect.succeed(mode === "peek" ? decision : this.tell(asked, plan, decision, reason))
  }

  readonly reserve = (asked: Asked, maxWait: Duration.Duration): Effect.Effect<RateLimiter.Reservation, Rejection> =>
    Effect.suspend(() => {
      const { limits } = this
      const { cost, key } = asked
      const plan = limits.planOf(key, asked.rate)
      const left = untilDeadline(now())
      const early = this.early(key, plan, cost, left)
      if (early !== undefined) return early
      const patience = patienceOf(maxWait, left)
      const request = this.request(asked, plan, "reserve", patience.maxWait)
      return this.asking.decision(
        request,
        (answer): Effect.Effect<RateLimiter.Reservation, Rejection> => {
          if (Either.isLeft(answer)) {
            return Effect.flatMap(
              this.withoutStore(key, plan, cost, answer.left),
              (how) => how === "local" ? this.local.reserve(asked, maxWait) : Effect.succeed(unbound(plan))
            )
          }
          const decision = answer.right
          if (decision.full === true) return Effect.as(this.full(key, plan), unbound(plan))
          const { granted, remaining, resetAfter, wait, window } = decision
          if (granted < cost) {
            const reason = patience.late(toNanos(wait)) ?? "QueueFull"
            return limits.refuse(key, plan, reason, toNanos(wait), decision.limit, remaining)
          }
          limits.allow(key, plan, () => remaining, toNanos(wait) > 0n)
          return Effect.succeed({
            delay: wait,
            decision: {
              allowed: true,
              limit: decision.limit,
              window,
              remaining,
              retryAfter: Duration.zero,
              resetAfter
            },
            cancel: Effect.map(
              this.refund(request, decision),
              Either.getOrElse(() => false)
            )
          })
        }
      )
    })

  readonly penalty = (key: string, cost: number) =>
    this.change(key, (target) => this.store.adjust(target, cost), this.local.penalty(key, cost))
  readonly reward = (key: string, cost: number) =>
    this.change(key, (target) => this.store.adjust(target, -cost), this.local.reward(key, cost))
  readonly drain = (key: string) => this.change(key, (target) => this.store.drain(target), this.local.drain(key))

  /** Forgets in both places. Whoever resets has to know where it failed: the key goes on with what it has used. */
  readonly reset = (key: string): Effect.Effect<void, RateLimiterStoreError> =>
    Effect.flatMap(
      Effect.zipRight(this.local.reset(key), this.askAbout(key, (target) => this.store.reset(target))),
      (answer) => answer
    )

  private change(
    key: string,
    f: (target: RateLimiterStore.Target) => Effect.Effect<void, Error>,
    local: Effect.Effect<void>
  ): Effect.Effect<void, RateLimiterStoreError> {
    return Effect.flatMap(this.askAbout(key, f), (answer) => {
      if (Either.isRight(answer)) return Effect.void
      switch (this.onStoreError) {
        case "fail":
          return Effect.fail(answer.left)
        case "local":
          return local
        case "open":
        case "closed":
          return Effect.void
      }
    })
  }

  private askAbout(key: string, f: (target: RateLimiterStore.Target) => Effect.Effect<void, Error>) {
    return Effect.suspend(() => {
      const target = this.target(key, this.limits.planOf(key, undefined))
      return this.asking.ask(Effect.suspend(() => f(target)))
    })
  }

  readonly setRate = (rate: RateLimiter.Rates): Effect.Effect<void> => this.local.setRate(rate)

  readonly metrics: Effect.Effect<RateLimiter.Metrics> = Effect.map(
    Effect.suspend(() => this.local.metrics),
    ({ evicted, keys, maxKeys, ...metrics }) => ({
      ...metrics,
      // Of keys it is known here only how many are counted here.
      ...(this.onStoreError === "local" ? { evicted, keys, maxKeys } : {}),
      waiting: metrics.waiting + this.waiting,
      unguarded: metrics.unguarded + this.unguarded.calls
    })
  )
}

/** What a store decided, for whoever asked. */
const decided = (
  { granted, limit, remaining, resetAfter, wait, window }: RateLimiterStore.Decision,
  cost: number
): RateLimiter.Decision => {
  const allowed = granted >= cost
  return { allowed, limit, window, remaining, retryAfter: allowed ? Duration.zero : wait, resetAfter }
}

/** The rate that a decision names when no store was asked what is left: the first. */
const unasked = ({ rates: [rate] }: Plan) => ({ limit: rate?.limit ?? 0, window: fromNanos(rate?.window ?? 0n) })

/** A reservation that no store knows of. */
const unbound = (plan: Plan): RateLimiter.Reservation => ({
  delay: Duration.zero,
  decision: {
    allowed: true,
    ...unasked(plan),
    remaining: 0,
    retryAfter: Duration.zero,
    resetAfter: Duration.zero
  },
  cancel: Effect.succeed(false)
})

/** How long a call may wait: not to its deadline, at which nothing starts. */
const patienceOf = (maxWait: Duration.Duration, left: Nanos | undefined) => {
  const longest = toNanos(maxWait)
  const most = left !== undefined && left - 1n < longest ? left - 1n : longest
  return {
    maxWait: fromNanos(most),
    /** Why so long a wait is too long; `undefined` where it is not. */
    late: (wait: Nanos) => wait <= most ? undefined : wait <= longest ? "DeadlineTooClose" : "WaitExceeded"
  } as const
}

const untilDeadline = (time: Nanos): Nanos | undefined => {
  const fiber = Fiber.getCurrentFiber()
  const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
  return deadline && deadline.at - time
}
