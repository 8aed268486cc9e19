import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import type { Scope } from "effect/Scope"
import type { AdaptiveConcurrency, ConcurrencyLimitError } from "../AdaptiveConcurrency.js"
import type { Deadline } from "../Deadline.js"
import type { Limit } from "../Limit.js"
import type { Classify, Outcome } from "../Outcome.js"
import type { Guard } from "../Pattern.js"
import { Priority } from "../Priority.js"
import { deadlineOf, rankOf } from "./ambient.js"
import type { EnterAtOnce } from "./atOnce.js"
import { isTooLate } from "./atOnce.js"
import { FairWaiters } from "./fairWaiters.js"
import type { Handlers, Reading, Restore } from "./guard.js"
import { finish, hold, onClose, read } from "./guard.js"
import type { Emitter } from "./hub.js"
import { Permits } from "./permits.js"
import type { Counters } from "./tally.js"
import { Tally } from "./tally.js"
import type { Nanos } from "./time.js"
import { clockOf, now, toMillis, toNanos, toSeconds } from "./time.js"
import { Turn } from "./turn.js"
import type { Order, Share } from "./waiters.js"
import { Waiters } from "./waiters.js"
import { waitInLine } from "./waiting.js"

/** What a limiter tells, and to whom. @internal */
export interface Watch extends Counters<AdaptiveConcurrency.Reason> {
  readonly instance: string
  readonly emitter: Emitter<AdaptiveConcurrency.Event>
  readonly used: (active: number) => void
  readonly queued: (waiting: number) => void
  readonly waited: (seconds: number, result: "acquired" | "rejected" | "canceled") => void
  readonly limited: (limit: number) => void
  readonly learned: (insight: Limit.Insight) => void
  readonly error: (
    reason: AdaptiveConcurrency.Reason,
    limit: number,
    active: number,
    waiting: number
  ) => ConcurrencyLimitError
}

/** @internal */
export interface GovernorConfig {
  readonly algorithm: Limit.Any
  /** Twice the limit, wherever that is, when absent. */
  readonly maxQueued: number | undefined
  readonly maxWait: Duration.Duration
  readonly order: Order
  /** A line per key. */
  readonly fair: boolean
  readonly classify: Classify
  /** From 1 to 2^31 - 1. */
  readonly seed: number
}

/** What the `Ref` holds: the permits, and what the algorithm knows. */
interface Governed {
  readonly permits: Permits
  learned: unknown
  /** What an operator set where the algorithm cannot take it: it holds until the algorithm's own limit is another. */
  set: { readonly own: number; readonly limit: number } | undefined
}

/** Settlements between two looks at the algorithm for its gauges. */
const lookEvery = 64

/**
 * An adaptive limiter: `Permits` whose limit a `Limit` learns. Each call tells the algorithm when it is let in, when it has
 * to wait or to go, and how it ends; what follows for the limit happens in the same step.
 *
 * @internal
 */
export class Governor {
  private readonly own: Governed
  private readonly maxWait: Nanos
  private algorithm: Limit.Any
  private broken: unknown
  private random: number
  private untilLook = 1
  private readonly tally: Tally<AdaptiveConcurrency.Reason>
  private readonly read: Effect.Effect<Governed>
  readonly withPermit: Guard<ConcurrencyLimitError>

  constructor(private readonly config: GovernorConfig, private readonly watch: Watch) {
    const { algorithm } = config
    this.algorithm = algorithm
    this.random = config.seed
    const limit = algorithm.limit(algorithm.initial)
    const queue = new (config.fair ? FairWaiters : Waiters)(config.order)
    const permits = new Permits(limit, config.maxQueued ?? 2 * limit, queue)
    this.own = { permits, learned: algorithm.initial, set: undefined }
    this.read = Ref.get(Ref.unsafeMake(this.own))
    this.maxWait = toNanos(config.maxWait)
    this.tally = new Tally(watch)
    this.withPermit = this.withPermitBy(config.classify, undefined)
    watch.limited(limit)
  }

  readonly withPermitBy = (classify: Classify, share: Share | undefined): Guard<ConcurrencyLimitError> =>
    hold<ConcurrencyLimitError>((restore, run) =>
      this.enter(restore, share, (since) => run(this.handlersFor(since, classify, share)))
    )

  private handlersFor(since: Nanos, classify: Classify, share: Share | undefined): Handlers {
    return {
      onSuccess: (value) => this.conclude(since, classify, share, Exit.succeed(value)),
      onFailure: (cause) => this.conclude(since, classify, share, Exit.failCause(cause))
    }
  }

  private conclude<A, E>(
    since: Nanos,
    classify: Classify,
    share: Share | undefined,
    exit: Exit.Exit<A, E>
  ): Effect.Effect<A, E> {
    return Effect.flatMap(this.read, (governed) => {
      const reading = read(classify, exit, "AdaptiveConcurrency", this.watch.instance)
      this.leave(governed, since, reading, share)
      return this.reported(finish(exit, reading))
    })
  }

  /** The scoped form: settled by hand, or by the exit of the scope. */
  readonly acquireBy = (
    classify: Classify,
    share: Share | undefined
  ): Effect.Effect<AdaptiveConcurrency.Permit, ConcurrencyLimitError, Scope> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        this.enter(restore, share, (since) => Exit.succeed(since)),
        (since) => {
          let open = true
          const settle = (exit: Exit.Exit<unknown, unknown>, classify: Classify) =>
            Effect.flatMap(this.read, (governed): Effect.Effect<void> => {
              if (!open) return Effect.void
              open = false
              const reading = read(classify, exit, "AdaptiveConcurrency", this.watch.instance)
              this.leave(governed, since, reading, share)
              return this.reported(finish(Exit.void, reading))
            })
          return Effect.as(
            onClose((exit) => settle(exit, classify)),
            { settle: (outcome: Outcome) => settle(Exit.void, () => outcome) }
          )
        }
      )
    )

  /** Takes a permit where one is free. */
  readonly enterAtOnce: EnterAtOnce<ConcurrencyLimitError, Share | undefined> = (arrival, share) => {
    const { own } = this
    if (isTooLate(arrival)) return undefined
    const since = now()
    if (!own.permits.take(1, Priority.rank(arrival.priority), () => since, share)) return undefined
    this.entered(own, since, 0n)
    return (outcome) => {
      this.leave(own, since, outcome, share)
      return this.reported(Exit.void)
    }
  }

  /** Takes a permit, or waits for one under `restore`. Uninterruptible. `onEntered` gets the time at which the call began. */
  private enter<A, E, R>(
    restore: Restore,
    share: Share | undefined,
    onEntered: (since: Nanos) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | ConcurrencyLimitError, R> {
    return Effect.flatMap(this.read, (governed): Effect.Effect<A, E | ConcurrencyLimitError, R> => {
      const { permits } = governed
      const time = now()
      const fiber = Fiber.getCurrentFiber()
      const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
      if (deadline !== undefined && deadline.at <= time) return this.refuse(permits, "DeadlineTooClose")
      const rank = rankOf(fiber)
      if (permits.take(1, rank, () => time, share)) {
        this.entered(governed, time, 0n)
        return onEntered(time)
      }
      this.tell(governed, "onReject", time)
      if (fiber._tag === "None" || permits.maxQueued === 0) return this.refuse(permits, "QueueFull")
      if (this.maxWait === 0n) return this.refuse(permits, "WaitExceeded")
      if (this.isTooClose(governed, deadline, time)) return this.refuse(permits, "DeadlineTooClose")
      return this.wait(governed, time, new Turn(1, rank, share), fiber.value, restore, onEntered)
    })
  }

  private wait<A, E, R>(
    governed: Governed,
    since: Nanos,
    turn: Turn,
    fiber: Fiber.RuntimeFiber<unknown, unknown>,
    restore: Restore,
    onEntered: (since: Nanos) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | ConcurrencyLimitError, R> {
    const { permits } = governed
    const clock = clockOf(fiber)
    if (!permits.enqueue(turn, since)) return this.refuse(permits, "QueueFull")
    this.watch.queued(permits.waiting)
    /** It leaves the queue, or gives back what it was handed. */
    const leave = () => permits.abandon(turn, clock.unsafeCurrentTimeNanos())
    const ended = (waited: Nanos, result: "acquired" | "rejected" | "canceled") => {
      this.watch.queued(permits.waiting)
      this.watch.used(permits.used)
      this.watch.waited(toSeconds(waited), result)
    }
    return waitInLine(fiber, this.maxWait, turn, restore, {
      expired: (byDeadline) => {
        leave()
        return byDeadline ? "DeadlineTooClose" : "WaitExceeded"
      },
      decided: (verdict, waited): Effect.Effect<A, E | ConcurrencyLimitError, R> => {
        const time = now()
        const tooLate = verdict === true && this.isTooClose(governed, deadlineOf(fiber), time)
        const reason = tooLate ? "DeadlineTooClose" : verdict
        if (reason === true) {
          ended(waited, "acquired")
          this.entered(governed, time, waited)
          return onEntered(time)
        }
        leave()
        ended(waited, "rejected")
        // All ask for one permit, and there always is one.
        return this.refuse(permits, reason === "TooManyPermits" ? "QueueFull" : reason)
      },
      interrupted: (waited) => {
        leave()
        this.tally.cancel()
        ended(waited, "canceled")
      }
    })
  }

  /** Whether what is left is less than an idle server takes: a call that waited would only be late. */
  private isTooClose(governed: Governed, deadline: Deadline.Instant | undefined, time: Nanos): boolean {
    if (deadline === undefined) return false
    return deadline.at <= time || toMillis(deadline.at - time) < (this.insight(governed).baseline ?? 0)
  }

  private entered(governed: Governed, time: Nanos, waited: Nanos): void {
    this.tally.admit(waited)
    this.watch.used(governed.permits.used)
    this.tell(governed, "onAdmit", time)
  }

  /** Tells the algorithm how the call ended, and gives the permit back under the limit that follows. */
  private leave(governed: Governed, since: Nanos, reading: Reading, share: Share | undefined): void {
    const { permits } = governed
    const time = now()
    const outcome = typeof reading === "string" ? reading : "ignored"
    this.tell(governed, steps[outcome], time, permits.used - 1, toMillis(time - since))
    permits.release(1, time, share)
    this.tally.settle(outcome)
    this.watch.used(permits.used)
    if (--this.untilLook <= 0) {
      this.untilLook = lookEvery
      this.watch.learned(this.insight(governed))
    }
  }

  /** One step of the algorithm, and what follows for the limit. */
  private tell(governed: Governed, step: Step, time: Nanos, inFlight = governed.permits.used, latency = 0): void {
    const at = { now: Number(time) / 1e6, inFlight, random: this.nextRandom(), latency }
    this.change(governed, time, () => this.algorithm[step](governed.learned, at))
  }

  private change(governed: Governed, time: Nanos, next: () => unknown): void {
    const { permits } = governed
    const limit = this.guarded(permits.limit, () => {
      governed.learned = next()
      return this.algorithm.limit(governed.learned)
    })
    if (governed.set !== undefined && governed.set.own !== limit) governed.set = undefined
    this.apply(governed, governed.set?.limit ?? limit, time)
  }

  private apply(governed: Governed, limit: number, time: Nanos): void {
    const { permits } = governed
    const from = permits.limit
    if (limit === from) return
    if (this.config.maxQueued === undefined) permits.maxQueued = 2 * limit
    permits.resize(limit, time)
    this.watch.limited(limit)
    this.watch.queued(permits.waiting)
    const insight = this.insight(governed)
    this.watch.learned(insight)
    const { emitter } = this.watch
    const reason = governed.set === undefined ? insight.reason : "operator"
    if (emitter.listening) emitter.emit({ _tag: "LimitChanged", from, to: limit, reason })
  }

  /** An algorithm of the user that throws, or answers with what is no limit, is not asked again: its last limit stays. */
  private guarded(last: number, limit: () => number): number {
    if (this.algorithm !== this.config.algorithm) return last
    try {
      const answer = limit()
      if (Number.isSafeInteger(answer) && answer >= 1) return answer
      this.broken = new Error(`the algorithm ${this.algorithm.name} answered with the limit ${answer}`)
    } catch (error) {
      this.broken = error
    }
    this.algorithm = stuck
    return last
  }

  private insight(governed: Governed): Limit.Insight {
    try {
      return this.algorithm.inspect(governed.learned)
    } catch {
      return { reason: "unknown" }
    }
  }

  /** Tells once of an algorithm that broke. */
  private reported<A, E>(exit: Exit.Exit<A, E>): Effect.Effect<A, E> {
    if (this.broken === undefined) return exit
    const { broken } = this
    this.broken = undefined
    return Effect.zipRight(this.watch.emitter.internalError("Option", broken), exit)
  }

  /** Turns a call away: counted, told, and failed. */
  private refuse(permits: Permits, reason: AdaptiveConcurrency.Reason): Exit.Exit<never, ConcurrencyLimitError> {
    this.tally.reject(reason)
    const { emitter } = this.watch
    const { limit, used: active, waiting } = permits
    if (emitter.listening) emitter.emit({ _tag: "Rejected", ...emitter.call(), reason, limit, active })
    return Exit.fail(this.watch.error(reason, limit, active, waiting))
  }

  readonly setLimit = (limit: number): Effect.Effect<void> =>
    Effect.flatMap(this.read, (governed) => {
      const { algorithm } = this
      if (algorithm.resize === undefined) {
        const own = this.guarded(governed.permits.limit, () => algorithm.limit(governed.learned))
        governed.set = { own, limit }
        this.apply(governed, limit, now())
      } else this.change(governed, now(), () => algorithm.resize?.(governed.learned, limit))
      return this.reported(Exit.void)
    })

  get wouldAdmit(): Effect.Effect<boolean> {
    return Effect.map(this.read, ({ permits }) => {
      const rank = rankOf(Fiber.getCurrentFiber())
      return permits.isFree(1, rank, now) || (this.maxWait > 0n && permits.hasPlace(rank, now()))
    })
  }

  get state(): Effect.Effect<AdaptiveConcurrency.State> {
    return Effect.map(this.read, (governed) => {
      const { baseline, elasticity, reason } = this.insight(governed)
      const { limit, used: active, waiting } = governed.permits
      return {
        algorithm: this.config.algorithm.name,
        limit,
        active,
        waiting,
        reason,
        baseline: baseline === undefined ? undefined : Duration.millis(baseline),
        elasticity
      }
    })
  }

  get metrics(): Effect.Effect<AdaptiveConcurrency.Metrics> {
    return Effect.zipWith(this.state, this.read, (state, { permits }) => ({
      ...state,
      ...this.tally.snapshot(permits)
    }))
  }

  /** Marsaglia's xorshift: `Random` costs a run-loop step, and gave the seed. */
  private nextRandom(): number {
    this.random ^= this.random << 13
    this.random ^= this.random >>> 17
    this.random ^= this.random << 5
    return (this.random >>> 0) / 2 ** 32
  }
}

type Step = "onAdmit" | "onReject" | "onSample" | "onDrop" | "onIgnore"

const steps = { success: "onSample", failure: "onDrop", ignored: "onIgnore" } as const

/** In the place of an algorithm that broke. `guarded` keeps the limit. */
const stuck: Limit.Any = {
  name: "stuck",
  initial: undefined,
  limit: () => 1,
  onAdmit: () => undefined,
  onReject: () => undefined,
  onSample: () => undefined,
  onDrop: () => undefined,
  onIgnore: () => undefined,
  inspect: () => ({ reason: "the algorithm broke" })
}
