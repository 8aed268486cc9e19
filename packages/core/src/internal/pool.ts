import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import type { Scope } from "effect/Scope"
import type { Bulkhead, BulkheadFullError } from "../Bulkhead.js"
import type { Outcome } from "../Outcome.js"
import { classify } from "../Outcome.js"
import type { Guard } from "../Pattern.js"
import { Priority } from "../Priority.js"
import { deadlineOf, rankOf } from "./ambient.js"
import type { EnterAtOnce } from "./atOnce.js"
import { isTooLate } from "./atOnce.js"
import type { Call } from "./event.js"
import { FairWaiters } from "./fairWaiters.js"
import type { Handlers, Restore } from "./guard.js"
import { hold, onClose } from "./guard.js"
import type { Emitter } from "./hub.js"
import type { KeyedTable } from "./keyed.js"
import type { Borrower } from "./lending.js"
import { Permits } from "./permits.js"
import type { Counters } from "./tally.js"
import { Tally } from "./tally.js"
import type { Nanos } from "./time.js"
import { clockOf, fromNanos, now, toNanos, toSeconds } from "./time.js"
import { Turn } from "./turn.js"
import type { Order, Share } from "./waiters.js"
import { Waiters } from "./waiters.js"
import { waitInLine } from "./waiting.js"

/** What a bulkhead tells, and to whom. Shared by the pools of a keyed instance. @internal */
export interface Watch extends Counters<Bulkhead.Reason> {
  readonly emitter: Emitter<Bulkhead.Event>
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
  /** A line per key. */
  readonly fair: boolean
}

/** The key of a pool, and the table that may forget it. @internal */
export interface Home {
  readonly key: string
  readonly pools: KeyedTable<Pool>
}

/** What a call asks for. */
interface Demand {
  readonly permits: number
  readonly share: Share | undefined
}

const one: Demand = { permits: 1, share: undefined }

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
  private readonly own: Permits
  private readonly maxWait: Nanos
  private readonly handlers: Handlers
  private readonly tally: Tally<Bulkhead.Reason>
  readonly read: Effect.Effect<Permits>
  readonly withPermit: Guard<BulkheadFullError>
  /** Whether forgetting this pool loses nothing. */
  readonly unsafeIdle: () => boolean

  constructor(config: PoolConfig, private readonly watch: Watch, private readonly home?: Home) {
    const { fair, maxConcurrent, maxQueued, order } = config
    const permits = new Permits(maxConcurrent, maxQueued, new (fair ? FairWaiters : Waiters)(order))
    this.own = permits
    this.ref = Ref.unsafeMake(permits)
    this.unsafeIdle = () => permits.used === 0 && permits.waiting === 0
    this.read = Ref.get(this.ref)
    this.maxWait = toNanos(config.maxWait)
    this.tally = new Tally(watch)
    this.handlers = this.handlersFor(one, undefined)
    this.withPermit = this.withPermits(1)
  }

  readonly withPermits = (permits: number, share?: Share): Guard<BulkheadFullError> => {
    const demand = permits === 1 && share === undefined ? one : { permits, share }
    const quiet = demand === one ? this.handlers : this.handlersFor(demand, undefined)
    return hold<BulkheadFullError>((restore, run) =>
      this.enter(
        demand,
        restore,
        (pool, visit) => run(visit === undefined && pool === this ? quiet : pool.handlersFor(demand, visit))
      )
    )
  }

  private handlersFor(demand: Demand, visit: Visit | undefined): Handlers {
    return {
      onSuccess: (value) =>
        Ref.modify(this.ref, (pool) => {
          this.leave(pool, demand, visit, "success")
          return [value, pool]
        }),
      onFailure: (cause) =>
        Effect.flatMap(this.read, (pool) => {
          const exit = Exit.failCause(cause)
          this.leave(pool, demand, visit, classify(exit))
          return exit
        })
    }
  }

  /** The scoped form. */
  readonly acquire = (permits = 1, share?: Share): Effect.Effect<void, BulkheadFullError, Scope> => {
    const demand = { permits, share }
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        this.enter(demand, restore, (pool, visit) => Exit.succeed({ pool, visit })),
        ({ pool, visit }) =>
          onClose((exit) => Effect.map(pool.read, (permits) => pool.leave(permits, demand, visit, classify(exit))))
      )
    )
  }

  /** Takes a permit where one is free. For a pool that no table may forget. */
  readonly enterAtOnce: EnterAtOnce<BulkheadFullError, Share | undefined> = (arrival, share) => {
    const { own } = this
    if (isTooLate(arrival) || !own.take(1, Priority.rank(arrival.priority), now, share)) return undefined
    const visit = this.entered(own, share, 0n)
    return (outcome) => {
      this.leave(own, { permits: 1, share }, visit, outcome)
      return Effect.void
    }
  }

  /** Takes permits, or waits for them under `restore`. Uninterruptible. */
  private enter<A, E, R>(
    demand: Demand,
    restore: Restore,
    onEntered: (pool: Pool, visit: Visit | undefined) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BulkheadFullError, R> {
    return Effect.flatMap(this.read, (state) => {
      const { home } = this
      if (home === undefined || home.pools.peek(home.key) === this) {
        return this.admit(state, demand, restore, onEntered)
      }
      // The table forgot this pool after the call had looked it up. Two pools of one key would let twice as many in.
      return Effect.flatMap(home.pools.get(home.key), (pool) =>
        pool === undefined
          ? Effect.flatMap(this.read, (state) => this.admit(state, demand, restore, onEntered))
          : pool.enter(demand, restore, onEntered))
    })
  }

  private admit<A, E, R>(
    pool: Permits,
    demand: Demand,
    restore: Restore,
    onEntered: (pool: Pool, visit: Visit | undefined) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BulkheadFullError, R> {
    const { permits, share } = demand
    if (permits > pool.most) return this.refuse(pool, share, "TooManyPermits")
    const fiber = Fiber.getCurrentFiber()
    const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
    if (deadline !== undefined && deadline.at <= now()) return this.refuse(pool, share, "DeadlineTooClose")
    const rank = rankOf(fiber)
    if (pool.take(permits, rank, now, share)) return onEntered(this, this.entered(pool, share, 0n))
    if (pool.shut !== undefined) return this.refuse(pool, share, pool.shut)
    if (fiber._tag === "None" || pool.places === 0) return this.refuse(pool, share, "QueueFull")
    if (this.maxWait === 0n) return this.refuse(pool, share, "WaitExceeded")
    return this.wait(pool, new Turn(permits, rank, share), fiber.value, restore, onEntered)
  }

  private wait<A, E, R>(
    pool: Permits,
    turn: Turn,
    fiber: Fiber.RuntimeFiber<unknown, unknown>,
    restore: Restore,
    onEntered: (pool: Pool, visit: Visit | undefined) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | BulkheadFullError, R> {
    const clock = clockOf(fiber)
    const { share } = turn
    if (!pool.enqueue(turn, clock.unsafeCurrentTimeNanos())) return this.refuse(pool, share, "QueueFull")
    this.watch.queued(pool)
    /** It leaves the queue, or gives back what it was handed. */
    const leave = () => pool.abandon(turn, clock.unsafeCurrentTimeNanos())
    const ended = (waited: Nanos, result: "acquired" | "rejected" | "canceled") => {
      this.watch.queued(pool)
      this.watch.used(pool)
      this.watch.waited(toSeconds(waited), result)
    }
    return waitInLine(fiber, this.maxWait, turn, restore, {
      expired: (byDeadline) => {
        leave()
        return byDeadline ? "DeadlineTooClose" : "WaitExceeded"
      },
      decided: (verdict, waited, late): Effect.Effect<A, E | BulkheadFullError, R> => {
        const reason = verdict === true && late ? "DeadlineTooClose" : verdict
        if (reason === true && pool.isOver) {
          // It was its turn, but what it was handed is lent no longer: it waits on.
          leave()
          this.watch.queued(pool)
          this.watch.used(pool)
          return this.admit(pool, turn, restore, onEntered)
        }
        if (reason === true) {
          ended(waited, "acquired")
          return onEntered(this, this.entered(pool, share, waited))
        }
        leave()
        ended(waited, "rejected")
        return this.refuse(pool, share, reason === "QueueFull" ? pool.shut ?? reason : reason)
      },
      interrupted: (waited) => {
        leave()
        this.tally.cancel()
        ended(waited, "canceled")
      }
    })
  }

  private entered(pool: Permits, share: Share | undefined, waited: Nanos): Visit | undefined {
    const { emitter } = this.watch
    this.tally.admit(waited)
    this.watch.used(pool)
    if (!emitter.listening) return undefined
    const visit = { call: emitter.call(), since: now() }
    emitter.emit({
      _tag: "PermitAcquired",
      ...visit.call,
      ...this.keyed(share),
      active: pool.used,
      waiting: pool.waiting,
      waited: fromNanos(waited)
    })
    return visit
  }

  /** Gives permits back. */
  private leave(pool: Permits, { permits, share }: Demand, visit: Visit | undefined, outcome: Outcome): void {
    // The order of an empty queue asks for no time.
    const time = pool.waiting > 0 || visit !== undefined ? now() : 0n
    pool.release(permits, time, share)
    this.tally.settle(outcome)
    this.watch.used(pool)
    const { emitter } = this.watch
    if (visit !== undefined && emitter.listening) {
      emitter.emit({
        _tag: "PermitReleased",
        ...visit.call,
        ...this.keyed(share),
        active: pool.used,
        waiting: pool.waiting,
        held: fromNanos(time - visit.since)
      })
    }
  }

  /** Turns a call away: counted, told, and failed. */
  private refuse(
    pool: Permits,
    share: Share | undefined,
    reason: Bulkhead.Reason
  ): Exit.Exit<never, BulkheadFullError> {
    this.tally.reject(reason)
    const { emitter } = this.watch
    if (emitter.listening) {
      emitter.emit({
        _tag: "Rejected",
        ...emitter.call(),
        ...this.keyed(share),
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
      if (emitter.listening) emitter.emit({ _tag: "Resized", ...this.keyed(undefined), from, to: limit })
    })

  /** Has somebody else lend the permits: there are none until it does. */
  lentBy(name: string): Borrower {
    const { own, watch } = this
    const { limit: maxConcurrent, maxQueued } = own
    return {
      name,
      maxConcurrent,
      used: () => own.used,
      waiting: () => own.waiting,
      wanted: () => own.wanted,
      lend: ({ hoped, isGood, limit, shut }) => {
        own.shut = shut
        own.maxQueued = maxQueued + hoped
        own.lend(limit, isGood, now())
        watch.limited(limit)
        return own.trim(shut === undefined ? own.places : 0, now())
      },
      allow: (most) => own.allow(most),
      error: (reason) => watch.error(reason, own.used, own.waiting),
      emitter: watch.emitter
    }
  }

  get available(): Effect.Effect<number> {
    return Effect.map(this.read, free)
  }

  get wouldAdmit(): Effect.Effect<boolean> {
    return Effect.map(this.read, (pool) => {
      const rank = rankOf(Fiber.getCurrentFiber())
      return pool.isFree(1, rank, now) || (this.maxWait > 0n && pool.shut === undefined && pool.hasPlace(rank, now()))
    })
  }

  get metrics(): Effect.Effect<Bulkhead.Metrics> {
    return Effect.map(this.read, (pool) => ({ ...this.tally.snapshot(pool), available: free(pool) }))
  }

  /** The key of a pool, or of a call where keys share one. */
  private keyed(share: Share | undefined): { readonly key?: string } {
    const key = this.home?.key ?? share?.key
    return key === undefined ? {} : { key }
  }
}

const free = (pool: Permits): number => Math.max(0, pool.limit - pool.used)
