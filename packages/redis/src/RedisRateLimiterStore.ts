/**
 * Rate limits that many processes share: `RateLimiter.layerStore` asks this store.
 *
 * @since 0.1.0
 */
import type { ConfigOf } from "@effect-resilience/core"
import { RateLimiterStore } from "@effect-resilience/core"
import { layerFromConfig, option, orDie } from "@effect-resilience/core/extension"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import { Front } from "./internal/rate/front.js"
import type { LeaseOptions } from "./internal/rate/leases.js"
import { Plans } from "./internal/rate/plan.js"
import { RedisConnection } from "./RedisConnection.js"

/** @internal */
export const leaseFields = {
  maxOvershoot: option.number(0.01, { above: 0, max: 1 }),
  horizon: option.duration("50 millis"),
  heldFor: option.duration("100 millis"),
  maxKeys: option.integer(10_000, { min: 1 })
} satisfies option.Fields<RedisRateLimiterStore.Leases>

const readLeases = (input: RedisRateLimiterStore.Leases): LeaseOptions => {
  const { heldFor, horizon, ...rest } = option.resolve("RedisRateLimiterStore", "leases", leaseFields, input)
  return { ...rest, heldFor: Duration.toMillis(heldFor), horizon: Duration.toMillis(horizon) }
}

/** What the table of the documentation says. @internal */
export const rateLimiterStoreFields = {
  batching: option.boolean(true),
  deniedFor: option.duration("1 second", { min: 0 }),
  maxDeniedKeys: option.integer(10_000, { min: 1 }),
  leases: option.optional(option.field<RedisRateLimiterStore.Leases, LeaseOptions>({}, readLeases))
} satisfies option.Fields<RedisRateLimiterStore.Options>

const check = (options: RedisRateLimiterStore.Options) =>
  option.resolve("RedisRateLimiterStore", "redis", rateLimiterStoreFields, options)

const make = (
  options: RedisRateLimiterStore.Options = {}
): Effect.Effect<RateLimiterStore.Service, never, RedisConnection | Scope> =>
  Effect.gen(function*() {
    const { deniedFor, ...resolved } = yield* orDie(() => check(options))
    const redis = yield* RedisConnection
    return yield* Effect.acquireRelease(
      Effect.sync(() => new Front(redis, new Plans(), { ...resolved, deniedFor: Duration.toMillis(deniedFor) })),
      (front) => front.close
    )
  })

const layer = (options?: RedisRateLimiterStore.Options): Layer.Layer<RateLimiterStore, never, RedisConnection> =>
  Layer.scoped(RateLimiterStore, make(options))

/**
 * The counts of rate limiters in Redis: each decision is one atomic step there, by the server's clock. What it lets through
 * is what a limiter in memory lets through, over all processes together; where Redis does not answer, the limiter does what
 * its option `onStoreError` says.
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisRateLimiterStore = {
  /** The store, for limiters that are nobody's service. */
  make,
  /** `make` as a layer. */
  layer,
  /** `layer` with options from `Config`: each a value or a `Config`. A bad one fails the layer with a `ConfigError`. */
  layerConfig: (
    config: ConfigOf<RedisRateLimiterStore.Options>
  ): Layer.Layer<RateLimiterStore, ConfigError, RedisConnection> => layerFromConfig(config, check, layer),
  /** With the defaults. */
  Live: layer()
} as const

/**
 * @since 0.1.0
 */
export declare namespace RedisRateLimiterStore {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /**
     * Whether decisions that wait at the same moment share a round trip. They are decided as if they came one after another.
     * Defaults to `true`.
     */
    readonly batching?: boolean | undefined
    /**
     * How long a key that was denied may be denied again without a question, if it would be in any case: until then nothing
     * but a refund, a reward or a reset could let it in. Those of this process are heeded at once, and those of others after
     * this time at the latest, as is the loss of what Redis had. `0` asks each time. Defaults to `"1 second"`.
     */
    readonly deniedFor?: Duration.DurationInput | undefined
    /** Keys of which a denial is remembered, the latest of them. Defaults to `10000`. */
    readonly maxDeniedKeys?: number | undefined
    /**
     * Tokens fetched ahead. Where none are, no more is let through than the algorithm of a limiter says. Defaults to none.
     */
    readonly leases?: Leases | undefined
  }

  /**
   * Tokens that a process fetches ahead, for keys with many calls: it decides for most of them without a round trip. They
   * are charged when they are fetched, so no token is used twice, but it may be used later than it was charged.
   *
   * The bound: in any span W all processes together let through at most what the algorithm of the limiter lets through in W
   * and `maxOvershoot * limit` more. Of an instance of GCRA that is `burst + limit * W / window + maxOvershoot * limit`.
   * How many processes there are is heard once a second: for as long, those that have come hold their part beside the parts
   * of those that were there. A process that is killed loses what it holds, at most its part, once.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Leases {
    /**
     * The part of a limit that all processes together may hold. Each of them may have an equal part of it, and one of less
     * than 2 tokens leases nothing. Of several rates the least counts. Defaults to `0.01`.
     */
    readonly maxOvershoot?: number | undefined
    /**
     * For how long the tokens that are fetched at once are to last, as calls have come of late; longer, where bursts used
     * them up at once. Defaults to `"50 millis"`.
     */
    readonly horizon?: Duration.DurationInput | undefined
    /** Tokens that are not used for so long are given back. Defaults to `"100 millis"`. */
    readonly heldFor?: Duration.DurationInput | undefined
    /** Keys of which tokens are held. Defaults to `10000`. */
    readonly maxKeys?: number | undefined
  }
}
