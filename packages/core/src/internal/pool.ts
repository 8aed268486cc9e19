import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import type { Scope } from "effect/Scope"
import type { Bulkhead, BulkheadFullError } from "../Bulkhead.js"
import type { Outcome } from "../Outcome.js"
import { classify } from "../Outcome.js"
import type { Guard } from "../Pattern.js"
import { deadlineOf, rankOf } from "./ambient.js"
import type { Call } from "./event.js"
import type { Handlers, Restore } from "./guard.js"
import { hold } from "./guard.js"
import type { Emitter } from "./hub.js"
import type { KeyedTable } from "./keyed.js"
import type { Order } from "./permits.js"
import { Permits } from "./permits.js"
import type { Nanos } from "./time.js"
import { clockOf, fromNanos, now, toMillis, toNanos, toSeconds } from "./time.js"
import { Turn } from "./turn.js"
import { scheduleWait } from "./wait.js"

/** What a bulkhead tells, and to whom. Shared by the pools of a keyed instance. @internal */
export interface Watch {
  readonly emitter: Emitter<Bulkhead.Event>
  readonly counted: { readonly [O in Outcome]: () => void }
  readonly rejected: (reason: Bulkhead.Reason) => void
  readonly canceled: () => void
  readonly used: (pool: Permits) => void
  readonly queued: (pool: Permits) => void
  readonly waited: (seconds: number, result: "acquired" | "rejected" | "canceled") => void
  readonly limited: (limit: number) => void
  readonly error: (reason: Bulkhead.Reason, active: number, waiting: number) => BulkheadFullError
}

/** @internal */
export interface PoolConfig {
  readonly maxConcurrent: number
  readonly maxQueued: number
  readonly maxWait: Duration.Duration
  readonly order: Order
}

/** The key of a pool, and the table that may forget it. @internal */
export interface Home {
  readonly key: string
  readonly pools: KeyedTable<Pool>
}

/** A call that was let in while somebody listened. */
interface Visit {
  readonly call: Call
  readonly since: Nanos
}

/**
 * A bulkhead: `Permits` in a `Ref`, and the counters. While nobody listens all calls share one pair of handlers.
 *
 * @internal
 */
export class Pool {
  private readonly ref: Ref.Ref<Permits>
  private readonly maxWait: Nanos
  private readonly handlers: Handlers
  private succeeded = 0
  private failed = 0
  private ignored = 0
  private rejected = 0
  private canceled = 0
  private running = 0
  private totalWait: Nanos = 0n
  readonly read: Effect.Effect<Permits>
  readonly withPermit: Guard<BulkheadFullError>
  /** Whether forgetting this pool loses nothing. */
  readonly unsafeIdle: () => boolean

  constructor(config: PoolConfig, private readonly watch: Watch, private readonly home?: Home) {
    const permits = new Permits(config.maxConcurrent, config.maxQueued, config.order)
    this.ref = Ref.unsafeMake(permits)
    this.unsafeIdle = () => permits.used === 0 && permits.waiting === 0
    this.read = Ref.get(this.ref)
    this.maxWait = toNanos(config.maxWait)
    this.handlers = this.handlersFor(1, undefined)
    this.withPermit = this.withPermits(1)
  }

  readonly withPermits = (permits: number): Guard<BulkheadFullError> => {
    const quiet = permits === 1 ? this.handlers : this.handlersFor(permits, undefined)
    return hold<BulkheadFullError>((restore, run) =>
      this.enter(
        permits,
        restore,
        (pool, visit) => run(visit === undefined && pool === this ? quiet : pool.handlersFor(permits, visit))
      )
    )
  }

  private handlersFor(permits: number, visit: Visit | undefined): Handlers {
    return {
      onSuccess: (value) =>
        Ref.modify(this.ref, (pool) => {
          this.leave(pool, permits, visit, "success")
          return [value, pool]
        }),
      onFailure: (cause) =>
        Effect.flatMap(this.read, (pool) => {
          const exit = Exit.failCause(cause)
          this.leave(pool, permits, visit, classify(exit))
          return exit
        })
    }
  }

  /** The scoped form. */
  get acquire(): Effect.Effect<void, BulkheadFullError, Scope> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        this.enter(1, restore, (pool, visit) => Exit.succeed({ pool, visit })),
        ({ pool, visit }) =>
          Effect.addFinalizer((exit) =>
            Effect.map(pool.read, (permits) => pool.leave(permits, 1, visit, classify(exit)))
          )
      )
    )
  }

  /** Takes permits, or waits for them under `restore`. Uninterruptible. */
  private enter<A, E, R>(
    permits: number,
    restore: Restore,
    onEntered: (pool: Pool, visit: Visit | undefined) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BulkheadFullError, R> {
    return Effect.flatMap(this.read, (state) => {
      const { home } = this
      if (home === undefined || home.pools.peek(home.key) === this) {
        return this.admit(state, permits, restore, onEntered)
      }
      // The table forgot this pool after the call had looked it up. Two pools of one key would let twice as many in.
      return Effect.flatMap(home.pools.get(home.key), (pool) =>
        pool === undefined
          ? Effect.flatMap(this.read, (state) => this.admit(state, permits, restore, onEntered))
          : pool.enter(permits, restore, onEntered))
    })
  }

  private admit<A, E, R>(
    pool: Permits,
    permits: number,
    restore: Restore,
    onEntered: (pool: Pool, visit: Visit | undefined) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BulkheadFullError, R> {
    if (permits > pool.limit) return this.refuse(pool, "TooManyPermits")
    const fiber = Fiber.getCurrentFiber()
    const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
    if (deadline !== undefined && deadline.at <= now()) return this.refuse(pool, "DeadlineTooClose")
    const rank = rankOf(fiber)
    if (pool.take(permits, rank, now)) return onEntered(this, this.entered(pool, 0n))
    if (fiber._tag === "None" || pool.maxQueued === 0) return this.refuse(pool, "QueueFull")
    if (this.maxWait === 0n) return this.refuse(pool, "WaitExceeded")
    return this.wait(pool, permits, rank, fiber.value, restore, onEntered)
  }

  private wait<A, E, R>(
    pool: Permits,
    permits: number,
    rank: number,
    fiber: Fiber.RuntimeFiber<unknown, unknown>,
    restore: Restore,
    onEntered: (pool: Pool, visit: Visit | undefined) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BulkheadFullError, R> {
    const clock = clockOf(fiber)
    const since = clock.unsafeCurrentTimeNanos()
    const turn = new Turn(permits, rank)
    if (!pool.enqueue(turn, since)) return this.refuse(pool, "QueueFull")
    this.watch.queued(pool)
    const cancel = scheduleWait(fiber, this.maxWait, (byDeadline) => {
      turn.expire(byDeadline ? "DeadlineTooClose" : "WaitExceeded", () => {
        pool.abandon(turn, clock.unsafeCurrentTimeNanos())
      })
    })
    return Effect.matchCauseEffect(restore(turn.await), {
      onSuccess: (verdict): Effect.Effect<A, E | BulkheadFullError, R> => {
        cancel()
        this.watch.queued(pool)
        const time = now()
        const waited = time - since
        if (verdict !== true) {
          this.watch.waited(toSeconds(waited), "rejected")
          return this.refuse(pool, verdict)
        }
        const deadline = deadlineOf(fiber)
        if (deadline !== undefined && deadline.at <= time) {
          // A busy event loop rings late: the permits came, but after the deadline.
          pool.abandon(turn, time)
          this.watch.used(pool)
          this.watch.waited(toSeconds(waited), "rejected")
          return this.refuse(pool, "DeadlineTooClose")
        }
        this.watch.waited(toSeconds(waited), "acquired")
        return onEntered(this, this.entered(pool, waited))
      },
      onFailure: (cause) => {
        cancel()
        const time = now()
        pool.abandon(turn, time)
        this.canceled++
        this.watch.canceled()
        this.watch.waited(toSeconds(time - since), "canceled")
        this.watch.queued(pool)
        this.watch.used(pool)
        return Exit.failCause(cause)
      }
    })
  }

  private entered(pool: Permits, waited: Nanos): Visit | undefined {
    const { emitter } = this.watch
    this.running++
    if (waited > 0n) this.totalWait += waited
    this.watch.used(pool)
    if (!emitter.listening) return undefined
    const visit = { call: emitter.call(), since: now() }
    emitter.emit({
      _tag: "PermitAcquired",
      ...visit.call,
      ...this.keyed,
      active: pool.used,
      waiting: pool.waiting,
      waited: fromNanos(waited)
    })
    return visit
  }

  /** Gives permits back. */
  private leave(pool: Permits, permits: number, visit: Visit | undefined, outcome: Outcome): void {
    // The order of an empty queue asks for no time.
    const time = pool.waiting > 0 || visit !== undefined ? now() : 0n
    pool.release(permits, time)
    this.running--
    if (outcome === "success") this.succeeded++
    else if (outcome === "failure") this.failed++
    else this.ignored++
    this.watch.counted[outcome]()
    this.watch.used(pool)
    const { emitter } = this.watch
    if (visit !== undefined && emitter.listening) {
      emitter.emit({
        _tag: "PermitReleased",
        ...visit.call,
        ...this.keyed,
        active: pool.used,
        waiting: pool.waiting,
        held: fromNanos(time - visit.since)
      })
    }
  }

  /** Turns a call away: counted, told, and failed. */
  private refuse(pool: Permits, reason: Bulkhead.Reason): Exit.Exit<never, BulkheadFullError> {
    this.rejected++
    this.watch.rejected(reason)
    const { emitter } = this.watch
    if (emitter.listening) {
      emitter.emit({
        _tag: "Rejected",
        ...emitter.call(),
        ...this.keyed,
        reason,
        active: pool.used,
        waiting: pool.waiting
      })
    }
    return Exit.fail(this.watch.error(reason, pool.used, pool.waiting))
  }

  readonly resize = (limit: number): Effect.Effect<void> =>
    Effect.map(this.read, (pool) => {
      const from = pool.limit
      pool.resize(limit, now())
      this.watch.limited(limit)
      this.watch.used(pool)
      this.watch.queued(pool)
      const { emitter } = this.watch
      if (emitter.listening) emitter.emit({ _tag: "Resized", ...this.keyed, from, to: limit })
    })

  get available(): Effect.Effect<number> {
    return Effect.map(this.read, free)
  }

  get wouldAdmit(): Effect.Effect<boolean> {
    return Effect.map(this.read, (pool) => {
      const rank = rankOf(Fiber.getCurrentFiber())
      return pool.isFree(1, rank, now) || (this.maxWait > 0n && pool.hasPlace(rank, now()))
    })
  }

  get metrics(): Effect.Effect<Bulkhead.Metrics> {
    return Effect.map(this.read, (pool) => {
      const admitted = this.succeeded + this.failed + this.ignored + this.running
      const offered = admitted + this.rejected
      return {
        limit: pool.limit,
        active: pool.used,
        peak: pool.peak,
        available: free(pool),
        waiting: pool.waiting,
        queueLimit: pool.maxQueued,
        utilization: pool.used / pool.limit,
        offered,
        admitted,
        rejected: this.rejected,
        canceled: this.canceled,
        succeeded: this.succeeded,
        failed: this.failed,
        ignored: this.ignored,
        running: this.running,
        rejectionRate: offered === 0 ? 0 : this.rejected / offered,
        totalWait: fromNanos(this.totalWait),
        averageWait: admitted === 0 ? Duration.zero : Duration.millis(toMillis(this.totalWait) / admitted)
      }
    })
  }

  private get keyed(): { readonly key?: string } {
    return this.home === undefined ? {} : { key: this.home.key }
  }
}

const free = (pool: Permits): number => Math.max(0, pool.limit - pool.used)
