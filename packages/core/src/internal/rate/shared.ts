import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type { Guard } from "../../Pattern.js"
import type { RateLimiter, RateLimiterStoreError, RateLimitExceededError } from "../../RateLimiter.js"
import type { RateLimiterStore } from "../../RateLimiterStore.js"
import { deadlineOf } from "../ambient.js"
import type { Nanos } from "../time.js"
import { fromNanos, now, toNanos, toSeconds } from "../time.js"
import type { Asked } from "./limiter.js"
import { LocalLimiter } from "./limiter.js"
import type { Limits } from "./limits.js"
import type { Plan } from "./plan.js"

/** What happens when the store does not answer. @internal */
export type OnStoreError = "fail" | "open" | "closed" | "local"

type Rejection = RateLimitExceededError | RateLimiterStoreError

/** Time between two warnings of a store that stays away. */
const warningPause: Nanos = 60_000_000_000n

/**
 * A limiter whose counts are in a store. What became of a request is unclear when its caller is interrupted or the store
 * fails in mid-flight: then it counts as used.
 *
 * @internal
 */
export class SharedLimiter {
  /** Decides while the store does not answer, with `onStoreError: "local"`. */
  private readonly local: LocalLimiter
  private warned: Nanos | undefined
  private waiting = 0

  constructor(
    private readonly limits: Limits,
    private readonly store: RateLimiterStore.Service,
    private readonly onStoreError: OnStoreError,
    private readonly storeTimeout: Duration.Duration,
    private readonly storeError: (cause: unknown) => RateLimiterStoreError
  ) {
    this.local = new LocalLimiter(limits)
  }

  get close(): Effect.Effect<void> {
    return this.local.close
  }

  private target(key: string, plan: Plan): RateLimiterStore.Target {
    const rates = plan.rates.map(({ burst, limit, window }) => ({ burst, limit, window: fromNanos(window) }))
    return { instance: this.limits.config.name, key, algorithm: plan.name, rates }
  }

  /** An answer of the store, in time, or its failure as a value. */
  private ask<A>(effect: Effect.Effect<A, Error>): Effect.Effect<Either.Either<A, RateLimiterStoreError>> {
    return Effect.suspend(() => effect).pipe(
      Effect.timeoutFail({
        duration: this.storeTimeout,
        onTimeout: () => new Error(`the store did not answer within ${Duration.format(this.storeTimeout)}`)
      }),
      Effect.sandbox,
      Effect.matchEffect({
        onSuccess: (value) => Effect.succeed(Either.right(value)),
        onFailure: (cause) => {
          if (cause._tag === "Interrupt") return Effect.failCause(cause)
          const error = cause._tag === "Fail" || cause._tag === "Die"
            ? cause._tag === "Fail" ? cause.error : cause.defect
            : cause
          return Effect.as(this.failed(error), Either.left(this.storeError(error)))
        }
      })
    )
  }

  /** The store failed: counted each time, told once a minute for as long as it lasts. */
  private failed(error: unknown): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { limits } = this
      limits.storeErrors++
      limits.watch.decided.store_error()
      const time = now()
      if (this.warned !== undefined && time - this.warned < warningPause) return Effect.void
      this.warned = time
      return limits.watch.emitter.internalError("Store", error)
    })
  }

  private request({ cost, key }: Asked, plan: Plan, mode: "all" | "peek" | "reserve", maxWait: Duration.Duration) {
    return { ...this.target(key, plan), cost, mode, maxWait } satisfies RateLimiterStore.Request
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
      const limit = plan.rates[0]?.limit ?? 0
      if (cost > plan.algorithm.cap) return limits.refuse(key, plan, "CostTooHigh", undefined, limit, 0)
      const since = now()
      const left = untilDeadline(since)
      if (left !== undefined && left <= 0n) return limits.refuse(key, plan, "DeadlineTooClose", undefined, limit, 0)
      const waits = config.mode === "wait"
      const byDeadline = left !== undefined && left - 1n < toNanos(config.maxWait)
      const maxWait = byDeadline ? fromNanos(left - 1n) : config.maxWait
      if (waits && this.waiting >= config.maxWaiters) return limits.refuse(key, plan, "QueueFull", undefined, limit, 0)
      const request = this.request(asked, plan, waits ? "reserve" : "all", maxWait)
      return Effect.flatMap(restore(this.ask(this.store.decide(request))), (answer) => {
        if (Either.isLeft(answer)) return this.withoutStore(key, plan, answer.left)
        const decision = answer.right
        const wait = toNanos(decision.wait)
        if (decision.full === true) {
          return config.onFull === "admit"
            ? this.pass(key, plan, 0, false)
            : limits.refuse(key, plan, "TooManyKeys", undefined, limit, 0)
        }
        if (decision.granted < cost) {
          const reason = !waits
            ? "Exceeded"
            : byDeadline && wait <= toNanos(config.maxWait)
            ? "DeadlineTooClose"
            : "WaitExceeded"
          return limits.refuse(key, plan, reason, wait, decision.limit, decision.remaining)
        }
        if (wait <= 0n) return this.pass(key, plan, decision.remaining, false)
        this.waiting++
        return Effect.matchCauseEffect(restore(Effect.sleep(decision.wait)), {
          onSuccess: () => {
            this.waiting--
            watch.waited(toSeconds(now() - since), "acquired")
            return this.pass(key, plan, decision.remaining, true)
          },
          onFailure: (cause) => {
            this.waiting--
            limits.canceled++
            watch.canceled()
            watch.waited(toSeconds(now() - since), "canceled")
            return Effect.zipRight(this.ask(this.store.refund(request, decision)), Effect.failCause(cause))
          }
        })
      })
    })
  }

  private pass(key: string, plan: Plan, remaining: number, delayed: boolean): Effect.Effect<"store"> {
    this.limits.allow(key, plan, () => remaining, delayed)
    return Effect.succeed("store")
  }

  private withoutStore(
    key: string,
    plan: Plan,
    error: RateLimiterStoreError
  ): Effect.Effect<"store" | "local", Rejection> {
    switch (this.onStoreError) {
      case "fail":
        this.limits.rejected++
        return Effect.fail(error)
      case "closed":
        return this.limits.refuse(key, plan, "StoreUnavailable", undefined, plan.rates[0]?.limit ?? 0, 0)
      case "open":
        return this.pass(key, plan, 0, false)
      case "local":
        return Effect.succeed("local")
    }
  }

  readonly consume = (asked: Asked): Effect.Effect<RateLimiter.Decision, RateLimiterStoreError> =>
    this.decide(asked, "all")

  readonly check = (asked: Asked): Effect.Effect<RateLimiter.Decision, RateLimiterStoreError> =>
    this.decide(asked, "peek")

  private decide(
    asked: Asked,
    mode: "all" | "peek"
  ): Effect.Effect<RateLimiter.Decision, RateLimiterStoreError> {
    return Effect.suspend(() => {
      const { limits } = this
      const { cost, key } = asked
      const plan = limits.planOf(key, asked.rate)
      const tell = (decision: RateLimiter.Decision, reason: RateLimiter.Reason): RateLimiter.Decision => {
        if (mode === "peek") return decision
        if (decision.allowed) limits.allow(key, plan, () => decision.remaining)
        else limits.refuse(key, plan, reason, toNanos(decision.retryAfter), decision.limit, decision.remaining)
        return decision
      }
      const blind = (allowed: boolean, reason: RateLimiter.Reason) =>
        Effect.succeed(tell({
          allowed,
          ...unasked(plan),
          remaining: 0,
          retryAfter: allowed ? Duration.zero : Duration.infinity,
          resetAfter: Duration.zero
        }, reason))
      if (cost > plan.algorithm.cap) return blind(false, "CostTooHigh")
      return Effect.flatMap(this.ask(this.store.decide(this.request(asked, plan, mode, Duration.zero))), (answer) => {
        if (Either.isRight(answer)) {
          const { full, granted, limit, remaining, resetAfter, wait, window } = answer.right
          if (full === true) return blind(limits.config.onFull === "admit", "TooManyKeys")
          const allowed = granted >= cost
          return Effect.succeed(
            tell(
              { allowed, limit, window, remaining, retryAfter: allowed ? Duration.zero : wait, resetAfter },
              "Exceeded"
            )
          )
        }
        switch (this.onStoreError) {
          case "fail":
            if (mode === "all") limits.rejected++
            return Effect.fail(answer.left)
          case "local":
            return mode === "all" ? this.local.consume(asked) : this.local.check(asked)
          case "open":
          case "closed":
            return blind(this.onStoreError === "open", "StoreUnavailable")
        }
      })
    })
  }

  readonly reserve = (asked: Asked, maxWait: Duration.Duration): Effect.Effect<RateLimiter.Reservation, Rejection> =>
    Effect.suspend(() => {
      const { limits } = this
      const { cost, key } = asked
      const plan = limits.planOf(key, asked.rate)
      const limit = plan.rates[0]?.limit ?? 0
      if (cost > plan.algorithm.cap) return limits.refuse(key, plan, "CostTooHigh", undefined, limit, 0)
      const request = this.request(asked, plan, "reserve", maxWait)
      return Effect.flatMap(
        this.ask(this.store.decide(request)),
        (answer): Effect.Effect<RateLimiter.Reservation, Rejection> => {
          if (Either.isLeft(answer)) {
            return Effect.flatMap(
              this.withoutStore(key, plan, answer.left),
              (how) => how === "local" ? this.local.reserve(asked, maxWait) : Effect.succeed(unbound(plan))
            )
          }
          const decision = answer.right
          if (decision.full === true) return limits.refuse(key, plan, "TooManyKeys", undefined, limit, 0)
          const { granted, remaining, resetAfter, wait, window } = decision
          if (granted < cost) {
            return limits.refuse(key, plan, "WaitExceeded", toNanos(wait), decision.limit, remaining)
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
              this.ask(this.store.refund(request, decision)),
              Either.getOrElse(() => false)
            )
          })
        }
      )
    })

  readonly penalty = (key: string, cost: number) => this.tell(key, (target) => this.store.adjust(target, cost))
  readonly reward = (key: string, cost: number) => this.tell(key, (target) => this.store.adjust(target, -cost))
  readonly drain = (key: string) => this.tell(key, (target) => this.store.drain(target))
  readonly reset = (key: string) => this.tell(key, (target) => this.store.reset(target))

  private tell(
    key: string,
    f: (target: RateLimiterStore.Target) => Effect.Effect<void, Error>
  ): Effect.Effect<void, RateLimiterStoreError> {
    return Effect.suspend(() =>
      Effect.flatMap(
        this.ask(f(this.target(key, this.limits.planOf(key, undefined)))),
        (answer) => Either.isLeft(answer) && this.onStoreError === "fail" ? Effect.fail(answer.left) : Effect.void
      )
    )
  }

  readonly setRate = (rate: RateLimiter.Rates): Effect.Effect<void> => this.local.setRate(rate)

  readonly metrics: Effect.Effect<RateLimiter.Metrics> = Effect.map(
    Effect.suspend(() => this.local.metrics),
    (metrics) => ({ ...metrics, waiting: metrics.waiting + this.waiting })
  )
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

const untilDeadline = (time: Nanos): Nanos | undefined => {
  const fiber = Fiber.getCurrentFiber()
  const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
  return deadline && deadline.at - time
}
