import type * as Cause from "effect/Cause"
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
import type { Watch } from "./bulkhead/watch.js"
import type { Call } from "./event.js"
import { FairWaiters } from "./fairWaiters.js"
import type { Handlers, Restore } from "./guard.js"
import { hold, onClose } from "./guard.js"
import type { KeyedTable } from "./keyed.js"
import type { Borrower } from "./lending.js"
import { notBegun } from "./lending.js"
import { Permits } from "./permits.js"
import { Tally } from "./tally.js"
import type { Nanos } from "./time.js"
import { clockOf, forever, fromNanos, now, toNanos, toSeconds } from "./time.js"
import { Turn } from "./turn.js"
import type { Order, Share } from "./waiters.js"
import { Waiters } from "./waiters.js"
import { waitInLine } from "./waiting.js"

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
  /** It has had permits that were lent no longer when it had them, after it had waited for so long. */
  readonly returns: boolean
  readonly waited: Nanos
}

const demandOf = (permits: number, share: Share | undefined): Demand => ({ permits, share, returns: false, waited: 0n })

const one = demandOf(1, undefined)

/** What goes on when a call is let in. */
type OnEntered<A, E, R> = (pool: Pool, visit: Visit | undefined, waited: Nanos) => Effect.Effect<A, E, R>

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
    const demand = permits === 1 && share === undefined ? one : demandOf(permits, share)
    const quiet = demand === one ? this.handlers : this.handlersFor(demand, undefined)
    return hold<BulkheadFullError>((restore, run) =>
      this.enter(
        demand,
        restore,
        (pool, visit) => run(visit === undefined && pool === this ? quiet : pool.handlersFor(demand, visit))
      )
    )
  }

  /** The same by permits that are lent, in which `around` stands: a call that it does not begin waits for others. */
  readonly withLentPermits = (
    around: Guard<BulkheadFullError>,
    permits = 1,
    share?: Share
  ): Guard<BulkheadFullError> => {
    const guard = hold<BulkheadFullError>(<A, E, R>(
      restore: Restore,
      run: (handlers: Handlers) => Effect.Effect<A, E, R>
    ) => {
      const enter = (demand: Demand): Effect.Effect<A, E | BulkheadFullError, R> =>
        Effect.flatMap(this.read, (state) =>
          this.admit(state, demand, restore, (_, visit, waited) => {
            if (visit === undefined && waited === 0n) return run(quiet)
            return run(this.handlersFor({ ...demand, waited }, visit, enter({ ...demand, returns: true, waited })))
          }))
      const demand = demandOf(permits, share)
      const quiet = this.handlersFor(demand, undefined, enter({ ...demand, returns: true }))
      return enter(demand)
    })
    return (effect) => guard(around(effect))
  }

  /** `again`: how a call goes on that did not begin. */
  private handlersFor(
    demand: Demand,
    visit: Visit | undefined,
    again?: Effect.Effect<unknown, unknown, unknown>
  ): Handlers {
    return {
      onSuccess: (value) =>
        Ref.modify(this.ref, (pool) => {
          this.leave(pool, demand, visit, "success")
          return [value, pool]
        }),
      onFailure: <E>(cause: Cause.Cause<E>) =>
        Effect.flatMap(this.read, (pool): Effect.Effect<never, E> => {
          if (again !== undefined && cause === notBegun) {
            this.leave(pool, demand, visit, "not begun")
            // It ends as the call would have.
            return again as Effect.Effect<never, E>
          }
          const exit = Exit.failCause(cause)
          this.leave(pool, demand, visit, classify(exit))
          return exit
        })
    }
  }

  /** The scoped form. */
  readonly acquire = (permits = 1, share?: Share): Effect.Effect<void, BulkheadFullError, Scope> => {
    const demand = demandOf(permits, share)
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
      this.leave(own, demandOf(1, share), visit, outcome)
      return Effect.void
    }
  }

  /** Takes permits, or waits for them under `restore`. Uninterruptible. */
  private enter<A, E, R>(
    demand: Demand,
    restore: Restore,
    onEntered: OnEntered<A, E, R>
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
    onEntered: OnEntered<A, E, R>
  ): Effect.Effect<A, E | BulkheadFullError, R> {
    const { permits, share, waited } = demand
    if (permits > pool.most) return this.refuse(pool, share, "TooManyPermits")
    const fiber = Fiber.getCurrentFiber()
    const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
    if (deadline !== undefined && deadline.at <= now()) return this.refuse(pool, share, "DeadlineTooClose")
    const rank = rankOf(fiber)
    if (pool.take(permits, rank, now, share)) {
      return onEntered(this, this.entered(pool, share, waited), waited)
    }
    if (pool.shut !== undefined) return this.refuse(pool, share, pool.shut)
    if (fiber._tag === "None" || pool.places === 0) return this.refuse(pool, share, "QueueFull")
    if (this.maxWait <= waited) return this.refuse(pool, share, "WaitExceeded")
    return this.wait(pool, new Turn(permits, rank, share, demand.returns), waited, fiber.value, restore, onEntered)
  }

  private wait<A, E, R>(
    pool: Permits,
    turn: Turn,
    before: Nanos,
    fiber: Fiber.RuntimeFiber<unknown, unknown>,
    restore: Restore,
    onEntered: OnEntered<A, E, R>
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
    const left = this.maxWait >= forever ? forever : this.maxWait - before
    return waitInLine(fiber, left, turn, restore, {
      expired: (byDeadline) => {
        leave()
        return byDeadline ? "DeadlineTooClose" : "WaitExceeded"
      },
      decided: (verdict, since, late): Effect.Effect<A, E | BulkheadFullError, R> => {
        const waited = before + since
        const reason = verdict === true && late ? "DeadlineTooClose" : verdict
        if (reason === true && pool.isOver) {
          // It was its turn, but what it was handed is lent no longer: it waits on.
          leave()
          this.watch.queued(pool)
          this.watch.used(pool)
          return this.admit(pool, { permits: turn.permits, share, returns: true, waited }, restore, onEntered)
        }
        if (reason === true) {
          ended(waited, "acquired")
          return onEntered(this, this.entered(pool, share, waited), waited)
        }
        leave()
        ended(waited, "rejected")
        return this.refuse(pool, share, reason === "QueueFull" ? pool.shut ?? reason : reason)
      },
      interrupted: (waited) => {
        leave()
        this.tally.cancel()
        ended(before + waited, "canceled")
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
  private leave(
    pool: Permits,
    { permits, share, waited }: Demand,
    visit: Visit | undefined,
    outcome: Outcome | "not begun"
  ): void {
    // The order of an empty queue asks for no time.
    const time = pool.waiting > 0 || visit !== undefined ? now() : 0n
    pool.release(permits, time, share)
    if (outcome === "not begun") this.tally.revoke(waited)
    else this.tally.settle(outcome)
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
      allow: (most) => {
        own.allow(most)
        watch.allowed(most)
      },
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
