/**
 * Where a rate limiter keeps its counts when it shares them with other processes.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import type { Scope } from "effect/Scope"
import * as option from "./internal/options.js"
import { memoryStore } from "./internal/rate/memory.js"
import { RateTable } from "./internal/rate/table.js"
import { orDie } from "./internal/tag.js"

const fields = {
  maxKeys: option.integer(10_000, { min: 1 }),
  maxReservations: option.integer(10_000, { min: 1 })
} satisfies option.Fields<RateLimiterStore.Options>

const makeMemory = (options: RateLimiterStore.Options = {}): Effect.Effect<RateLimiterStore.Service, never, Scope> =>
  Effect.gen(function*() {
    const { maxKeys, maxReservations } = yield* orDie(() =>
      option.resolve("RateLimiterStore", "memory", fields, options)
    )
    const table = yield* Effect.acquireRelease(
      Effect.sync(() => new RateTable(maxKeys)),
      (table) => Effect.sync(() => table.close())
    )
    return memoryStore(yield* Ref.make(table), maxReservations)
  })

/**
 * The seam for shared stores: `RateLimiter.layerStore` asks one for each decision. A store takes all or nothing in one
 * step, by its own monotonic clock, and remembers only what it let through.
 *
 * @since 0.1.0
 * @category models
 */
export class RateLimiterStore
  extends Context.Tag("@effect-resilience/RateLimiterStore")<RateLimiterStore, RateLimiterStore.Service>()
{
  /** A store in this process, for tests, and for limiters that are to share one table. */
  static readonly makeMemory = makeMemory
  /** `makeMemory` as a layer. */
  static readonly layerMemory = (options?: RateLimiterStore.Options): Layer.Layer<RateLimiterStore> =>
    Layer.scoped(RateLimiterStore, makeMemory(options))
}

/**
 * @since 0.1.0
 */
export declare namespace RateLimiterStore {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** Keys held at once: a new one beyond is not let in, and a penalty for it fails. Defaults to `10000`. */
    readonly maxKeys?: number | undefined
    /** Reservations for a time to come, over all keys: one more is not granted. Defaults to `10000`. */
    readonly maxReservations?: number | undefined
  }

  /**
   * How calls are counted. `"gcra"` and `"token-bucket"` are one algorithm.
   *
   * @since 0.1.0
   * @category models
   */
  export type Algorithm = "gcra" | "token-bucket" | "sliding-window" | "sliding-log" | "fixed-window"

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Rate {
    readonly limit: number
    readonly window: Duration.Duration
    readonly burst: number
  }

  /**
   * What a store counts by: one state for each instance and key.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Target {
    readonly instance: string
    readonly key: string
    readonly algorithm: Algorithm
    /** A call is charged to all of them or to none. A limiter passes the same list for the same rates. */
    readonly rates: ReadonlyArray<Rate>
  }

  /**
   * `"all"` takes the cost or nothing; `"atMost"` takes what there is of it; `"peek"` takes nothing; `"reserve"` takes it
   * for the first time that is free, if that is within `maxWait`.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Request extends Target {
    /** At least 1, and not above what any of the rates lets through at once. */
    readonly cost: number
    readonly mode: "all" | "atMost" | "peek" | "reserve"
    /** For `"reserve"`. */
    readonly maxWait: Duration.Duration
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Decision {
    /** What was taken; with `"peek"` what would be. */
    readonly granted: number
    /** The limit of the rate that has least left; of several that have as little, of the one that takes longest. */
    readonly limit: number
    /** The window of that rate. */
    readonly window: Duration.Duration
    readonly remaining: number
    /** Until what was reserved may be used; where nothing was granted, until it makes sense to ask again. */
    readonly wait: Duration.Duration
    /** Until that rate is as good as new. */
    readonly resetAfter: Duration.Duration
    /** All keys of the store are live, and this one is new. */
    readonly full?: boolean | undefined
    /** What the store needs to take a reservation back. */
    readonly reservation?: unknown
  }

  /**
   * A change of what a key has used: above 0 a penalty, below 0 a reward.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    readonly decide: (request: Request) => Effect.Effect<Decision, Error>
    /**
     * A decision that the store can make in this process, in one step; `undefined` where it has to ask, and then nothing
     * has happened. It is asked before each `decide`, from within a running fiber. Absent where it never can.
     */
    readonly decideAtOnce?: ((request: Request) => Decision | undefined) | undefined
    /**
     * Every effect of this store ends by itself within this time, with a failure where it has no answer, and may be
     * interrupted at any time. Where that is within `storeTimeout`, the limiter does not watch over it. Absent where
     * nobody promises that.
     */
    readonly settlesWithin?: Duration.Duration | undefined
    /**
     * How many processes count by this store, this one among them, as last heard: with `onStoreError: "local"` each has its
     * part of the rates, at least 1. Absent where the store does not know: then each has the whole.
     */
    readonly processes?: (() => number) | undefined
    /** Gives back what a decision took, if it was not used. `false` where that is no longer possible. */
    readonly refund: (request: Request, decision: Decision) => Effect.Effect<boolean, Error>
    readonly adjust: (target: Target, by: number) => Effect.Effect<void, Error>
    /** Takes all that is left of the rate with the shortest window, once per such window. */
    readonly drain: (target: Target) => Effect.Effect<void, Error>
    readonly reset: (target: Target) => Effect.Effect<void, Error>
  }
}
