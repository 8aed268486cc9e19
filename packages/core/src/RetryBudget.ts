/**
 * A retry budget bounds how much load retries may add: they are paid for by successes.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Ref from "effect/Ref"
import type { Scope } from "effect/Scope"
import { Bucket } from "./internal/bucket.js"
import { callSite, register } from "./internal/instance.js"
import type { KeyedTable } from "./internal/keyed.js"
import { keyedFields, openKeyed } from "./internal/keyed.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import { now } from "./internal/time.js"
import type { KeyedOptions, KeyedTagClass, TagClass } from "./Pattern.js"

/** The options, their defaults and what they accept. @internal */
export const retryBudgetFields = {
  tokensPerSuccess: option.number(0.1, { min: 0 }),
  maxTokens: option.number(50, { min: 0 }),
  minPerSecond: option.number(0, { min: 0 })
} satisfies option.Fields<RetryBudget.Options>

type Named = RetryBudget.Options & { readonly name: string }

const check = (options: Named) => option.resolve("RetryBudget", options.name, retryBudgetFields, options)

/** A budget around a bucket. @internal */
export const serviceOf = (name: string, bucket: Bucket): RetryBudget.Service => {
  // The bucket is what the Ref holds; it is the Ref's.
  const read = Ref.get(Ref.unsafeMake(bucket))
  return {
    name,
    bucket,
    deposit: Effect.map(read, (bucket) => bucket.deposit()),
    withdraw: Effect.map(read, (bucket) => {
      const source = bucket.withdraw(now())
      if (source === undefined) return Option.none()
      let spent = false
      return Option.some({
        refund: Effect.sync(() => {
          if (spent) return
          spent = true
          bucket.refund(source)
        })
      })
    }),
    reset: Effect.map(read, (bucket) => bucket.reset()),
    metrics: Effect.map(read, ({ config, denied, granted, refunded, tokens }) => ({
      tokens,
      maxTokens: config.maxTokens,
      offered: granted + denied,
      granted,
      denied,
      refunded
    }))
  }
}

/** A bucket that keeps the gauge of its tokens. */
class WatchedBucket extends Bucket {
  private readonly gauge: (value: number) => void

  constructor(name: string, config: ReturnType<typeof check>) {
    super(config)
    this.gauge = metric.gauge(
      "resilience.retry.budget.available",
      "Tokens left, as a share of the most there can be",
      metric.attributes("RetryBudget", name)
    )
    this.show()
  }
  private show() {
    this.gauge(this.config.maxTokens === 0 ? 0 : this.tokens / this.config.maxTokens)
  }
  override deposit() {
    if (this.tokens >= this.config.maxTokens) return
    super.deposit()
    this.show()
  }
  override withdraw(time: bigint) {
    const source = super.withdraw(time)
    this.show()
    return source
  }
}

const build = (options: Named, site: string): Effect.Effect<RetryBudget.Service, never, Scope> =>
  Effect.gen(function*() {
    const config = yield* orDie(() => check(options))
    const service = serviceOf(options.name, new WatchedBucket(options.name, config))
    yield* register({
      pattern: "RetryBudget",
      instance: options.name,
      site,
      snapshot: service.metrics,
      actions: { reset: () => service.reset }
    })
    return service
  })

/** Never denies. */
class EndlessBucket extends Bucket {
  override withdraw(): "tokens" {
    this.granted++
    return "tokens"
  }
}
const endless = (name: string) =>
  serviceOf(name, new EndlessBucket({ maxTokens: Infinity, tokensPerSuccess: 0, minPerSecond: 0 }))

/** Denies every retry: what a full table of keys answers with. */
const empty = (name: string) => serviceOf(name, new Bucket({ maxTokens: 0, tokensPerSuccess: 0, minPerSecond: 0 }))

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: RetryBudget.Options
) =>
  & TagClass<Self, `@effect-resilience/RetryBudget/${Name}`, RetryBudget.Service, RetryBudget.Options>
  & RetryBudget.Operations<Self> = makeTag<RetryBudget.Operations, RetryBudget.Options>({
    pattern: "RetryBudget",
    make: build,
    check,
    noop: endless,
    accessors: { deposit: "effect", withdraw: "effect", reset: "effect", metrics: "effect" }
  }, callSite)

type KeyedOwn = RetryBudget.Options & KeyedOptions<RetryBudget.Options>

const checkKeyed = ({ name, ...given }: KeyedOwn & { readonly name: string }) => {
  const fields = { ...retryBudgetFields, ...keyedFields<RetryBudget.Options>() }
  return { keyed: option.resolve("RetryBudget", name, fields, given), own: option.pick(given, retryBudgetFields) }
}

const buildKeyed = (
  options: KeyedOwn & { readonly name: string },
  site: string
): Effect.Effect<RetryBudget.KeyedService, never, Scope> =>
  Effect.gen(function*() {
    const { keyed, own } = yield* orDie(() => checkKeyed(options))
    const { name } = options
    const table: KeyedTable<RetryBudget.Service> = yield* openKeyed({
      ...keyed,
      make: (key) =>
        Effect.sync(() => {
          const full = `${name}/${key}`
          return serviceOf(full, new Bucket(check({ ...option.merge(own, keyed.optionsFor?.(key)), name: full })))
        }),
      // A budget that is not full again is used-up quota, and is not forgotten.
      evictable: ({ bucket }) => bucket.tokens >= bucket.config.maxTokens
    })
    const metrics = Effect.sync((): RetryBudget.KeyedMetrics => ({ keys: table.size, evicted: table.evicted }))
    yield* register({ pattern: "RetryBudget", instance: name, site, snapshot: metrics, actions: {} })
    return {
      name,
      budgetFor: (key) =>
        Effect.map(table.get(key), (budget) => budget ?? (keyed.onFull === "admit" ? endless(name) : empty(name))),
      metrics
    }
  })

const Keyed: <Self>() => <const Name extends string>(
  name: Name,
  options?: KeyedOwn
) =>
  & KeyedTagClass<Self, `@effect-resilience/RetryBudget/Keyed/${Name}`, RetryBudget.KeyedService, RetryBudget.Options>
  & RetryBudget.KeyedOperations<Self> = makeTag<RetryBudget.KeyedOperations, KeyedOwn>({
    pattern: "RetryBudget/Keyed",
    make: buildKeyed,
    check: checkKeyed,
    noop: (name): RetryBudget.KeyedService => ({
      name,
      budgetFor: () => Effect.sync(() => endless(name)),
      metrics: Effect.succeed({ keys: 0, evicted: 0 })
    }),
    accessors: { budgetFor: "method", metrics: "effect" }
  }, callSite)

/**
 * The retry budget. Every `Retry` has one of its own; a tag of this class, given as a retry's `budget`, is shared.
 *
 * @example
 * import { Retry, RetryBudget } from "@effect-resilience/core"
 *
 * class Outgoing extends RetryBudget.Tag<Outgoing>()("outgoing", { maxTokens: 100 }) {}
 * class Search extends Retry.Tag<Search>()("search", { budget: Outgoing }) {}
 * class Users extends Retry.Tag<Users>()("users", { budget: Outgoing }) {}
 *
 * @since 0.1.0
 * @category models
 */
export class RetryBudget extends Tag<RetryBudget>()("default") {
  /** Named instances: `class Outgoing extends RetryBudget.Tag<Outgoing>()("outgoing", { … }) {}`. */
  static readonly Tag = Tag
  /** One budget per key: `class Hosts extends RetryBudget.Keyed<Hosts>()("hosts", { … }) {}`. */
  static readonly Keyed = Keyed
  /** An instance that is nobody's service. */
  static readonly make = (options: Named): Effect.Effect<RetryBudget.Service, never, Scope> =>
    build(options, callSite())
  /** Whether the value is a budget. */
  static readonly isService = (value: unknown): value is RetryBudget.Service =>
    Predicate.hasProperty(value, "bucket") && value.bucket instanceof Bucket
}

/**
 * @since 0.1.0
 */
export declare namespace RetryBudget {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** What a successful call adds: `0.1` lets one retry follow ten successes. Defaults to `0.1`. */
    readonly tokensPerSuccess?: number | undefined
    /** The most tokens there can be, and those to start with: how many retries may come in one burst. Defaults to `50`. */
    readonly maxTokens?: number | undefined
    /** Retries per second that are always allowed, for clients with little traffic. Defaults to `0`. */
    readonly minPerSecond?: number | undefined
  }

  /**
   * A token taken, to be given back once if the retry does not happen.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Reservation {
    /** Gives the token back; a second time it does nothing. */
    readonly refund: Effect.Effect<void>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> {
    /** A call succeeded. */
    readonly deposit: Effect.Effect<void, never, Env>
    /** Takes a token for a retry, if there is one. */
    readonly withdraw: Effect.Effect<Option.Option<Reservation>, never, Env>
    /** Fills the budget. */
    readonly reset: Effect.Effect<void, never, Env>
    readonly metrics: Effect.Effect<Metrics, never, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service extends Operations {
    readonly name: string
    /** @internal */
    readonly bucket: Bucket
  }

  /**
   * `offered = granted + denied`.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    readonly tokens: number
    readonly maxTokens: number
    readonly offered: number
    readonly granted: number
    readonly denied: number
    readonly refunded: number
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KeyedOperations<Env = never> {
    /** The budget of a key, to be given to `withRetryBy({ budget })`. */
    readonly budgetFor: (key: string) => Effect.Effect<Service, never, Env>
    readonly metrics: Effect.Effect<KeyedMetrics, never, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KeyedService extends KeyedOperations {
    readonly name: string
  }

  /**
   * @since 0.1.0
   * @category metrics
   */
  export interface KeyedMetrics {
    readonly keys: number
    readonly evicted: number
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const RetryBudgetLive = RetryBudget.Live
