/**
 * A bulkhead whose permits all processes share.
 *
 * @since 0.1.0
 */
import type { ConfigOf, TagClass } from "@effect-resilience/core"
import { Bulkhead } from "@effect-resilience/core"
import type { Borrower } from "@effect-resilience/core/extension"
import { layerFromConfig, Lending, option, optionTables, orDie } from "@effect-resilience/core/extension"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import { Fence } from "./internal/bulkhead/calls.js"
import { lendBy } from "./internal/bulkhead/lender.js"
import { RedisConnection } from "./RedisConnection.js"

/** What the table of the documentation says. @internal */
export const redisBulkheadFields = {
  lease: option.duration("10 seconds", { min: 100 }),
  onLeaseLost: option.literal("interrupt", "interrupt", "report"),
  onStoreError: option.literal("fail", "fail", "open", "closed", "local"),
  fences: option.boolean(false),
  strict: option.boolean(false)
} satisfies option.Fields<RedisBulkhead.Options>

const ofBulkhead: option.Elsewhere = {
  fields: optionTables.Bulkhead,
  where: (key) =>
    `of the bulkhead itself: give it to its Tag, or share another layer of it, ` +
    `RedisBulkhead.shared(Reports.layer({ ${key} }))`
}

const check = (name: string, options: RedisBulkhead.Options) =>
  option.resolve("RedisBulkhead", name, redisBulkheadFields, { ...options }, ofBulkhead)

/** Lends permits to whatever bulkhead asks. */
const lending = (options: RedisBulkhead.Options = {}) =>
  Effect.map(RedisConnection, (redis) => (borrower: Borrower) =>
    Effect.flatMap(
      orDie(() => check(borrower.name, options)),
      (settings) => lendBy(redis, { ...settings, lease: Duration.toMillis(settings.lease) })(borrower)
    ))

const shared = <Self, E, R>(
  bulkhead: Layer.Layer<Self, E, R>,
  options?: RedisBulkhead.Options
): Layer.Layer<Self, E, R | RedisConnection> =>
  Layer.unwrapEffect(Effect.map(lending(options), (lend) => {
    let lent = false
    const lender = Layer.succeed(Lending, (borrower) => {
      lent = true
      return lend(borrower)
    })
    // A layer of the same tag that shares nothing may stand in the same program.
    return Layer.tap(
      Layer.provide(Layer.fresh(bulkhead), lender),
      (context) => lent ? Effect.void : Effect.die(buildsNoBulkhead(context))
    )
  }))

/** Who asked for shared permits is not to have others without a word. */
const buildsNoBulkhead = (context: Context.Context<never>) => {
  const services = [...context.unsafeMap.keys()]
  const requirement = "build a bulkhead, by the layer of a Bulkhead.Tag"
  return new option.InvalidOptionError(
    "RedisBulkhead",
    "shared",
    "layer",
    services,
    requirement,
    `the layer must ${requirement}, or nothing is shared, but builds ${services.join(", ") || "nothing"}`
  )
}

/** A class made by `Bulkhead.Tag`. */
type AnyTag<Self> = Pick<TagClass<Self, string, Bulkhead.Service, Bulkhead.Options>, "Live" | "key">

/**
 * Bulkheads of which `maxConcurrent` is for all processes together. Program text stays as it is: only the layer is another.
 *
 * Each process holds permits by a lease and hands them out itself, so a call that finds one free asks nobody. What a
 * process does not use it gives back, at once where others wait.
 *
 * @example
 * import { Bulkhead } from "@effect-resilience/core"
 * import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
 * import { Effect, Layer } from "effect"
 *
 * class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 20 }) {}
 *
 * const report = Effect.succeed("report").pipe(Reports.withPermit)
 *
 * const main = report.pipe(Effect.provide(RedisBulkhead.layer(Reports).pipe(Layer.provide(RedisConnection.Live))))
 *
 * @since 0.1.0
 * @category layers
 */
export class RedisBulkhead {
  /** The layer of a tag, with the tag's own options. Name the result once and reuse it. */
  static readonly layer = <Self>(
    bulkhead: AnyTag<Self>,
    options?: RedisBulkhead.Options
  ): Layer.Layer<Self, never, RedisConnection> => shared(bulkhead.Live, options)
  /** `layer` with options from `Config`: each a value or a `Config`. A bad one fails the layer with a `ConfigError`. */
  static readonly layerConfig = <Self>(
    bulkhead: AnyTag<Self>,
    config: ConfigOf<RedisBulkhead.Options>
  ): Layer.Layer<Self, ConfigError, RedisConnection> =>
    layerFromConfig(
      config,
      (options) => check(bulkhead.key.replace(/^.*\//, ""), options),
      (options) => RedisBulkhead.layer(bulkhead, options)
    )
  /**
   * The same for another layer of a tag: `shared(Reports.layer({ maxConcurrent: 5 }))`. A layer that builds nothing which
   * could be shared dies with an `InvalidOptionError`: that of a keyed bulkhead, whose keys have a pool each, and one that
   * builds no bulkhead, or has an instance already.
   */
  static readonly shared = shared
  /** An instance that is nobody's service. */
  static readonly make = (
    bulkhead: Bulkhead.Options & { readonly name: string },
    options?: RedisBulkhead.Options
  ): Effect.Effect<Bulkhead.Service, never, RedisConnection | Scope> =>
    Effect.flatMap(lending(options), (lending) => Effect.provideService(Bulkhead.make(bulkhead), Lending, lending))
  /**
   * The fence of the permits of the call that reads it, with the option `fences`: larger than those of all permits that a
   * process got before. A resource that refuses what comes with a smaller one than it has seen takes no write of a holder
   * that lost its lease, where `maxConcurrent` is 1. `None` outside of a call, and in one that was let in by `"open"` or `"local"` while Redis
   * was away: no lease stands behind it.
   */
  static readonly fence: Effect.Effect<Option.Option<number>> = Effect.map(
    Effect.context<never>(),
    (context) => Context.get(context, Fence)
  )
}

/**
 * @since 0.1.0
 */
export declare namespace RedisBulkhead {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /**
     * How long a process holds its permits when nothing is heard of it: when it is killed, others have them after so long.
     * It renews them every second, or after a third of it. At least 100 ms. Defaults to `"10 seconds"`.
     */
    readonly lease?: Duration.DurationInput | undefined
    /**
     * What becomes of the calls that run when the process has lost its permits, because it was paused or could not reach
     * Redis for longer than the lease: they are interrupted and fail with a `BulkheadFullError` of the reason
     * `"LeaseLost"`, or go on, beyond the limit. Both publish `LeaseLost`. What is held by `acquire` goes on.
     * Defaults to `"interrupt"`.
     */
    readonly onLeaseLost?: "interrupt" | "report" | undefined
    /**
     * What a process does that cannot reach Redis, once its lease is over. Calls are turned away at once, with
     * `"StoreUnavailable"` (`"fail"`); wait as before a full bulkhead (`"closed"`); get all of `maxConcurrent` in each
     * process (`"open"`), or its part of them, by the number of processes last heard and at least 1 (`"local"`).
     * Defaults to `"fail"`.
     */
    readonly onStoreError?: "fail" | "open" | "closed" | "local" | undefined
    /** Whether calls can read their `fence`, which costs each some microseconds. Defaults to `false`. */
    readonly fences?: boolean | undefined
    /**
     * Whether nobody is given a permit for the length of a lease after the server is another, or has forgotten all, as
     * it was before its first use: then the leases that it does not know of are over. Defaults to `false`.
     */
    readonly strict?: boolean | undefined
  }
}
