/**
 * A bulkhead bounds how many calls run at once and how many wait for their turn, so that one slow dependency cannot take
 * all there is.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { FairQueue } from "./FairQueue.js"
import * as actions from "./internal/actions.js"
import { lettingInAtOnce } from "./internal/atOnce.js"
import { buildKeyed } from "./internal/bulkhead/keyed.js"
import type { KeyedOwn, Named } from "./internal/bulkhead/options.js"
import { check, checkKeyed, limitOrDie, permitsOrDie } from "./internal/bulkhead/options.js"
import type { Watch } from "./internal/bulkhead/watch.js"
import { heard, watchOf } from "./internal/bulkhead/watch.js"
import { noCalls } from "./internal/calls.js"
import { errorFields, ErrorTypeId, retryAfter, stackless } from "./internal/errors.js"
import { duration, eventFields } from "./internal/event.js"
import { shareOf } from "./internal/fair.js"
import { passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import type { Lender } from "./internal/lending.js"
import { Lending } from "./internal/lending.js"
import * as metric from "./internal/metrics.js"
import { Pool } from "./internal/pool.js"
import { makeTag, orDie } from "./internal/tag.js"
import type { Share } from "./internal/waiters.js"
import { InternalError } from "./InternalError.js"
import type { CallMetrics, Guard, KeyedTagClass, Observable, OnLayer, TagClass } from "./Pattern.js"
import type { Registry } from "./Registry.js"

const Reason = Schema.Literal(
  "QueueFull",
  "WaitExceeded",
  "DeadlineTooClose",
  "TooManyPermits",
  "TooManyKeys",
  "StoreUnavailable",
  "LeaseLost"
)

/**
 * The bulkhead did not let the call in: the queue was full (`QueueFull`), its turn did not come in time (`WaitExceeded`),
 * the ambient deadline came first (`DeadlineTooClose`), it asked for more permits than there are (`TooManyPermits`), or
 * all keys of a keyed bulkhead were busy and its own was new (`TooManyKeys`).
 *
 * Where processes share the permits, it also says that the store of the permits cannot be asked (`StoreUnavailable`), or
 * that the permits of a call that was running are no longer its own (`LeaseLost`): that one was interrupted, and what it
 * did until then is done. The latter is a failure of the call; all others are rejections, and nothing was run.
 *
 * @since 0.1.0
 * @category errors
 */
export class BulkheadFullError
  extends Schema.TaggedError<BulkheadFullError>("@effect-resilience/BulkheadFullError")("BulkheadFullError", {
    ...errorFields("Bulkhead"),
    reason: Reason,
    retryAfter,
    /** Permits in use when the call was turned away. */
    active: Schema.NonNegativeInt,
    /** Calls that were waiting. */
    waiting: Schema.NonNegativeInt
  })
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return this.reason === "LeaseLost" ? "failure" as const : "rejection" as const
  }
  override get message() {
    if (this.reason === "LeaseLost") return `Bulkhead "${this.instance}" lost the permits of a running call`
    return `Bulkhead "${this.instance}" did not let the call in (${this.reason}): ` +
      `${this.active} active, ${this.waiting} waiting`
  }
}

const fields = {
  ...eventFields("Bulkhead"),
  active: Schema.NonNegativeInt,
  waiting: Schema.NonNegativeInt
}
const Event = Schema.Union(
  Schema.TaggedStruct("PermitAcquired", { ...fields, waited: duration }),
  Schema.TaggedStruct("PermitReleased", { ...fields, held: duration }),
  Schema.TaggedStruct("Rejected", { ...fields, reason: Reason }),
  Schema.TaggedStruct("Resized", {
    ...eventFields("Bulkhead"),
    from: Schema.NonNegativeInt,
    to: Schema.NonNegativeInt
  }),
  Schema.TaggedStruct("LeaseLost", { ...eventFields("Bulkhead"), active: Schema.NonNegativeInt }),
  InternalError
)

const errorOf = (instance: string): Watch["error"] => (reason, active, waiting) =>
  stackless(() => new BulkheadFullError({ instance, reason, retryAfter: Option.none(), active, waiting }, true))

const build = (options: Named, site: string): Effect.Effect<Bulkhead.Service, never, Scope> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const { name } = options
    const instance = yield* openInstance<Bulkhead.Event>("Bulkhead", name)
    const lending = Context.getOption(yield* Effect.context<never>(), Lending)
    let lender: Lender | undefined
    const own = watchOf(instance, true, errorOf(name))
    const watch = lending._tag === "None" ? own : heard(own, name, () => lender)
    if (lending._tag === "None") watch.limited(resolved.maxConcurrent)
    metric.gauge("resilience.bulkhead.queue.limit", "Calls that may wait", metric.attributes("Bulkhead", name))(
      resolved.maxQueued
    )
    // To wait for the lender's answer is not to wait in line.
    const maxWait = lending._tag === "None" ? resolved.maxWait : Duration.max(resolved.maxWait, "250 millis")
    const pool = new Pool({ ...resolved, maxWait, fair: resolved.fair !== undefined }, watch)
    if (lending._tag === "Some") lender = yield* lending.value(pool.lentBy(name))
    const resize = (limit: number, lasts?: Duration.Duration): Effect.Effect<void | Registry.Reach> =>
      lender === undefined
        ? pool.resize(limit)
        : Effect.map(lender.resize(limit, lasts), (reached) => reached ? "fleet" : "process")
    yield* register({
      pattern: "Bulkhead",
      instance: name,
      site,
      snapshot: pool.metrics,
      ...(lender === undefined ? {} : { settings: { shared: true } }),
      actions: { resize: (input, lasts) => Effect.flatMap(actions.integer(1)(input), (limit) => resize(limit, lasts)) }
    })
    const withPermits = (permits: number, share?: Share) =>
      lender === undefined ? pool.withPermits(permits, share) : pool.withLentPermits(lender.around, permits, share)
    const service: Bulkhead.Service = {
      name,
      withPermit: withPermits(1),
      withPermitsBy: (permits) => withPermits(permitsOrDie(name, permits)),
      withPermitBy: ({ key, permits = 1 }) =>
        withPermits(permitsOrDie(name, permits), shareOf("Bulkhead", name, resolved.fair, key)),
      acquire: pool.acquire(),
      acquireBy: ({ key, permits = 1 }) =>
        Effect.suspend(() => pool.acquire(permitsOrDie(name, permits), shareOf("Bulkhead", name, resolved.fair, key))),
      wouldAdmit: pool.wouldAdmit,
      available: pool.available,
      resize: (limit) => Effect.suspend(() => Effect.asVoid(resize(limitOrDie(name, limit)))),
      metrics: pool.metrics,
      ...instance.observable
    }
    // A call by a lent permit has to be interrupted with it.
    if (lender !== undefined) return service
    return lettingInAtOnce<typeof service, BulkheadFullError, string | undefined>(
      service,
      (arrival, key) => pool.enterAtOnce(arrival, shareOf("Bulkhead", name, resolved.fair, key))
    )
  })

const noMetrics: Bulkhead.Metrics = {
  limit: Infinity,
  active: 0,
  peak: 0,
  available: Infinity,
  waiting: 0,
  queueLimit: 0,
  utilization: 0,
  ...noCalls,
  totalWait: Duration.zero,
  averageWait: Duration.zero
}

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: Bulkhead.Options
) =>
  & TagClass<Self, `@effect-resilience/Bulkhead/${Name}`, Bulkhead.Service, Bulkhead.Options>
  & Bulkhead.Operations<Self>
  & OnLayer<Bulkhead.Event, Self> = makeTag<Bulkhead.Operations, Bulkhead.Options>({
    pattern: "Bulkhead",
    make: build,
    check,
    noop: (name): Bulkhead.Service => ({
      name,
      withPermit: passThrough,
      withPermitsBy: () => passThrough,
      withPermitBy: () => passThrough,
      acquire: Effect.void,
      acquireBy: () => Effect.void,
      wouldAdmit: Effect.succeed(true),
      available: Effect.succeed(Infinity),
      resize: () => Effect.void,
      metrics: Effect.succeed(noMetrics),
      ...silent
    }),
    accessors: {
      withPermit: "guard",
      withPermitsBy: "curried",
      withPermitBy: "curried",
      acquire: "effect",
      acquireBy: "method",
      wouldAdmit: "effect",
      available: "effect",
      resize: "method",
      metrics: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

const Keyed: <Self>() => <const Name extends string>(
  name: Name,
  options?: KeyedOwn
) =>
  & KeyedTagClass<Self, `@effect-resilience/Bulkhead/Keyed/${Name}`, Bulkhead.KeyedService, Bulkhead.PoolOptions>
  & Bulkhead.KeyedOperations<Self>
  & OnLayer<Bulkhead.Event, Self> = makeTag<Bulkhead.KeyedOperations, KeyedOwn>({
    pattern: "Bulkhead/Keyed",
    make: (options, site) => buildKeyed(errorOf, options, site),
    check: checkKeyed,
    noop: (name): Bulkhead.KeyedService => ({
      name,
      withPermitBy: () => passThrough,
      acquireBy: () => Effect.void,
      metrics: Effect.succeed({ keys: 0, evicted: 0, unguarded: 0, ...noCalls, busy: [] }),
      metricsOf: () => Effect.succeedNone,
      ...silent
    }),
    accessors: {
      withPermitBy: "curried",
      acquireBy: "method",
      metrics: "effect",
      metricsOf: "method",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

/**
 * The bulkhead. `Bulkhead` is the default instance, `Bulkhead.Tag` makes named ones.
 *
 * @example
 * import { Bulkhead } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 2 }) {}
 *
 * const report = Effect.succeed("report").pipe(Reports.withPermit)
 *
 * // at the edge of the program, once
 * const main = Effect.all([report, report], { concurrency: 2 }).pipe(Effect.provide(Reports.Live))
 *
 * @since 0.1.0
 * @category models
 */
export class Bulkhead extends Tag<Bulkhead>()("default") {
  /** Named instances: `class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 2 }) {}`. */
  static readonly Tag = Tag
  /** One pool per key: `class Tenants extends Bulkhead.Keyed<Tenants>()("tenants", { maxConcurrent: 2 }) {}`. */
  static readonly Keyed = Keyed
  /** An instance that is nobody's service. */
  static readonly make = (options: Named): Effect.Effect<Bulkhead.Service, never, Scope> => build(options, callSite())
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace Bulkhead {
  /**
   * @since 0.1.0
   * @category models
   */
  export type Reason = typeof Reason.Type

  /**
   * @since 0.1.0
   * @category events
   */
  export type Event = typeof Event.Type

  /**
   * What a pool of permits is made of. A `Keyed` bulkhead has one for each key.
   *
   * @since 0.1.0
   * @category models
   */
  export interface PoolOptions {
    /** Permits: executions allowed at once, at least 1. Defaults to `10`. */
    readonly maxConcurrent?: number | undefined
    /**
     * Calls that may wait for a permit; `0` rejects at once. When the queue is full, a call of a higher ambient
     * `Priority` pushes out the newest of the lowest. Defaults to `10`.
     */
    readonly maxQueued?: number | undefined
    /** How long a call may wait, cut at the ambient `Deadline`. Defaults to `"1 second"`. */
    readonly maxWait?: Duration.DurationInput | undefined
    /**
     * Who is next of the highest ambient `Priority` that waits: the oldest (`"fifo"`), the newest (`"lifo"`), or the
     * oldest until a queue has stood for 100 ms and the newest from then on (`"adaptive"`). With the last two a call for many permits is passed by smaller ones.
     * Defaults to `"fifo"`.
     */
    readonly order?: "fifo" | "lifo" | "adaptive" | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options extends PoolOptions {
    /**
     * Whether the queue is fair between keys, `withPermitBy({ key })`, so that a noisy one waits for itself: `true`, or
     * the weights of keys. `FairQueue` says what is fair. All keys share `maxConcurrent`; for a limit of each key's own
     * there is `Bulkhead.Keyed`. Defaults to `false`.
     */
    readonly fair?: boolean | FairQueue.Options | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    /** Runs the effect with a permit. */
    readonly withPermit: Guard<BulkheadFullError, Env>
    /** Runs the effect with so many permits. More than there are is refused at once. */
    readonly withPermitsBy: (permits: number) => Guard<BulkheadFullError, Env>
    /** Runs the effect with a permit of its key's fair share. */
    readonly withPermitBy: (args: {
      /** Whose call it is, with the option `fair`. Calls without a key share a line. */
      readonly key?: string | undefined
      /** Permits to hold. Defaults to `1`. */
      readonly permits?: number | undefined
    }) => Guard<BulkheadFullError, Env>
    /** Holds a permit for the length of the scope. */
    readonly acquire: Effect.Effect<void, BulkheadFullError, Scope | Env>
    /** Holds permits of its key's fair share for the length of the scope. */
    readonly acquireBy: (args: {
      /** Whose call it is, with the option `fair`. Calls without a key share a line. */
      readonly key?: string | undefined
      /** Permits to hold. Defaults to `1`. */
      readonly permits?: number | undefined
    }) => Effect.Effect<void, BulkheadFullError, Scope | Env>
    /** Whether a call would be let in, or may wait, now. A hint: it reserves nothing. */
    readonly wouldAdmit: Effect.Effect<boolean, never, Env>
    /** Permits that are free. */
    readonly available: Effect.Effect<number, never, Env>
    /** Changes `maxConcurrent`. Shrinking waits for nobody: what is in use stays so until it is given back. */
    readonly resize: (maxConcurrent: number) => Effect.Effect<void, never, Env>
    readonly metrics: Effect.Effect<Metrics, never, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service extends Operations {
    readonly name: string
  }

  /**
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics extends CallMetrics {
    /** Permits that there are; where processes share them, those of all processes together. */
    readonly limit: number
    /** Permits that this process holds of them. Only where processes share them: it holds what it uses, and 0 while idle. */
    readonly held?: number
    /** Permits in use, by this process; above `limit` for a while after shrinking. */
    readonly active: number
    /** The most permits that were in use at once. */
    readonly peak: number
    /** Permits that are free; where processes share them, of those that this process holds. */
    readonly available: number
    readonly waiting: number
    readonly queueLimit: number
    /** `active / limit`. */
    readonly utilization: number
    readonly totalWait: Duration.Duration
    /** Over all admitted calls. */
    readonly averageWait: Duration.Duration
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KeyedOperations<Env = never> extends Observable<Event, Env> {
    /** Runs the effect with a permit of its key's pool. */
    readonly withPermitBy: (args: {
      readonly key: string
      /** Permits to hold. Defaults to `1`. */
      readonly permits?: number | undefined
    }) => Guard<BulkheadFullError, Env>
    /** Holds permits of its key's pool for the length of the scope. */
    readonly acquireBy: (args: {
      readonly key: string
      /** Permits to hold. Defaults to `1`. */
      readonly permits?: number | undefined
    }) => Effect.Effect<void, BulkheadFullError, Scope | Env>
    readonly metrics: Effect.Effect<KeyedMetrics, never, Env>
    /** The metrics of one key's pool, if it has one. */
    readonly metricsOf: (key: string) => Effect.Effect<Option.Option<Metrics>, never, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KeyedService extends KeyedOperations {
    readonly name: string
  }

  /**
   * The calls of all keys, those of forgotten ones too: `offered = admitted + rejected`,
   * `admitted = succeeded + failed + ignored + running`. Calls let through unguarded are in none of these.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface KeyedMetrics extends CallMetrics {
    readonly keys: number
    /** Keys forgotten because they were idle. */
    readonly evicted: number
    /** Calls let through without a pool, because every key was busy. */
    readonly unguarded: number
    readonly busy: ReadonlyArray<{
      readonly key: string
      readonly limit: number
      readonly active: number
      readonly waiting: number
    }>
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const BulkheadLive = Bulkhead.Live
