/**
 * A retry budget bounds how much load retries may add: they are paid for by successes.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Scope } from "effect/Scope"
import * as actions from "./internal/actions.js"
import type { Bucket, BucketConfig } from "./internal/bucket.js"
import { Budget } from "./internal/budget.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import type { KeyedTable } from "./internal/keyed.js"
import { keyedFields, openKeyed, Unguarded } from "./internal/keyed.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import type { Nanos } from "./internal/time.js"
import { now, toNanos } from "./internal/time.js"
import type { KeyedOptions, KeyedTagClass, TagClass } from "./Pattern.js"

/** The options, their defaults and what they accept. @internal */
export const retryBudgetFields = {
  tokensPerSuccess: option.number(0.1, { min: 0 }),
  maxTokens: option.number(50, { min: 0 }),
  minPerSecond: option.number(0, { min: 0 })
} satisfies option.Fields<RetryBudget.Options>

type Named = RetryBudget.Options & { readonly name: string }

/** Reads the options of a budget. Throws an `InvalidOptionError` for a bad one. @internal */
export const check = (options: Named) => option.resolve("RetryBudget", options.name, retryBudgetFields, options)

/**
 * A budget that keeps the gauge of its tokens. That of a retry is labelled as the retry's, so that a budget of the same
 * name is another series.
 *
 * @internal
 */
export const watchedBudget = (pattern: "Retry" | "RetryBudget", name: string, config: BucketConfig): Budget => {
  const gauge = metric.gauge(
    "resilience.retry.budget.available",
    "Tokens left, as a share of the most there can be",
    metric.attributes(pattern, name)
  )
  return new Budget(
    name,
    config,
    ({ tokens }) => gauge(config.maxTokens === 0 ? 0 : tokens / config.maxTokens)
  )
}

const build = (options: Named, site: string): Effect.Effect<RetryBudget.Service, never, Scope> =>
  Effect.gen(function*() {
    const config = yield* orDie(() => check(options))
    const budget = watchedBudget("RetryBudget", options.name, config)
    yield* register({
      pattern: "RetryBudget",
      instance: options.name,
      site,
      snapshot: budget.metrics,
      actions: { reset: () => budget.reset }
    })
    return budget
  })

/** Never denies, and counts nothing. */
const endless = (name: string): RetryBudget.Service => ({
  name,
  deposit: Effect.void,
  withdraw: Effect.succeedSome({ refund: Effect.void }),
  reset: Effect.void,
  available: Effect.succeed(Infinity),
  metrics: Effect.succeed({
    tokens: Infinity,
    maxTokens: Infinity,
    available: Infinity,
    offered: 0,
    granted: 0,
    denied: 0,
    refunded: 0
  })
})

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
    accessors: { deposit: "effect", withdraw: "effect", reset: "effect", available: "effect", metrics: "effect" }
  }, callSite)

type KeyedOwn = RetryBudget.Options & KeyedOptions<RetryBudget.Options>

const checkKeyed = ({ name, ...given }: KeyedOwn & { readonly name: string }) => {
  const fields = { ...retryBudgetFields, ...keyedFields<RetryBudget.Options>() }
  return { keyed: option.resolve("RetryBudget", name, fields, given), own: option.pick(given, retryBudgetFields) }
}

/** The budget of a key. */
interface Held {
  readonly budget: Budget
  used: Nanos
}

/** Adds up the retries of the budgets of a keyed instance. The sums outlive the keys that are forgotten. */
class Sums {
  granted = 0
  denied = 0
  refunded = 0

  /** What a budget is to tell of its changes. */
  readonly watch = () => {
    let last = { granted: 0, denied: 0, refunded: 0 }
    return (bucket: Bucket) => {
      this.granted += bucket.granted - last.granted
      this.denied += bucket.denied - last.denied
      this.refunded += bucket.refunded - last.refunded
      last = bucket
    }
  }

  metrics() {
    const { denied, granted, refunded } = this
    return { offered: granted + denied, granted, denied, refunded }
  }
}

const buildKeyed = (
  options: KeyedOwn & { readonly name: string },
  site: string
): Effect.Effect<RetryBudget.KeyedService, never, Scope> =>
  Effect.gen(function*() {
    const { keyed, own } = yield* orDie(() => checkKeyed(options))
    const { name } = options
    const { emitter } = yield* openInstance<never>("RetryBudget", name)
    const sums = new Sums()
    const idleAfter = toNanos(keyed.idleAfter)
    const table: KeyedTable<Held> = yield* openKeyed({
      ...keyed,
      make: (key) =>
        Effect.sync(() => {
          const full = `${name}/${key}`
          const config = check({ ...option.merge(own, keyed.optionsFor?.(key)), name: full })
          return { budget: new Budget(full, config, sums.watch()), used: now() }
        }),
      // A used-up budget is not forgotten to make room for a new key: its host would get a burst of retries.
      evictable: ({ budget, used }, time) => budget.full || time - used >= idleAfter
    })
    const denying = new Budget(name, { maxTokens: 0, tokensPerSuccess: 0, minPerSecond: 0 }, sums.watch())
    const admitting = endless(name)
    const unguarded = new Unguarded(emitter, keyed.maxKeys)
    const metrics: Effect.Effect<RetryBudget.KeyedMetrics> = Effect.map(
      Effect.suspend(() =>
        Effect.forEach(
          [...table].filter(([, { budget }]) => !budget.full),
          ([key, { budget }]) => Effect.map(budget.available, (available) => ({ key, available }))
        )
      ),
      (low) => ({ keys: table.size, evicted: table.evicted, unguarded: unguarded.calls, ...sums.metrics(), low })
    )
    yield* register({
      pattern: "RetryBudget",
      instance: name,
      site,
      snapshot: metrics,
      actions: {
        reset: (input) =>
          Effect.flatMap(actions.key(input), (key) =>
            table.peek(key)?.budget.reset ??
              Effect.fail(actions.badInput(`there is no budget for the key ${JSON.stringify(key)}`)))
      }
    })
    return {
      name,
      budgetFor: (key) =>
        Effect.flatMap(table.get(key), (held) => {
          if (held !== undefined) {
            held.used = now()
            return Effect.succeed(held.budget)
          }
          if (keyed.onFull === "reject") {
            return Effect.succeed(denying)
          }
          return Effect.as(unguarded.count, admitting)
        }),
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
      budgetFor: () => Effect.succeed(endless(name)),
      metrics: Effect.succeed({ keys: 0, evicted: 0, unguarded: 0, ...new Sums().metrics(), low: [] })
    }),
    accessors: { budgetFor: "method", metrics: "effect" }
  }, callSite)

/**
 * The retry budget. Every `Retry` has one of its own; a tag of this class, given as a retry's `budget`, is shared.
 *
 * @example
 * import { Retry, RetryBudget } from "@effect-resilience/core"
 *
 * // retries of both are paid for by the successes of both
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
    Predicate.hasProperty(value, "withdraw") && Effect.isEffect(value.withdraw) &&
    Predicate.hasProperty(value, "deposit") && Effect.isEffect(value.deposit)
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
    /** Tokens that a successful call adds; a retry costs one, so `0.1` pays for one per ten successes. Defaults to `0.1`. */
    readonly tokensPerSuccess?: number | undefined
    /** The most tokens there can be, and those to start with: so many retries may come in one burst. Defaults to `50`. */
    readonly maxTokens?: number | undefined
    /** Retries per second that are allowed whatever the tokens, for clients with little traffic. Defaults to `0`. */
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
    /** A call succeeded: earns `tokensPerSuccess`. */
    readonly deposit: Effect.Effect<void, never, Env>
    /**
     * Takes a token for a retry or a hedge, if there is one, before the wait and not after it. Run it where it cannot be
     * interrupted, and give the reservation back when what it paid for does not start.
     */
    readonly withdraw: Effect.Effect<Option.Option<Reservation>, never, Env>
    /** Fills the budget up, as an operator does after an incident. */
    readonly reset: Effect.Effect<void, never, Env>
    /** Retries that would be let through now, the floor's share included. */
    readonly available: Effect.Effect<number, never, Env>
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
   * `offered = granted + denied`.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    /** What is left of what was earned. */
    readonly tokens: number
    readonly maxTokens: number
    /** `tokens` and what the floor of `minPerSecond` has to give now. */
    readonly available: number
    /** Retries that asked. */
    readonly offered: number
    readonly granted: number
    readonly denied: number
    /** Granted to a retry that was interrupted before it began, and given back. */
    readonly refunded: number
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KeyedOperations<Env = never> {
    /** The budget of a key: `Retry.withRetryBy({ budget: Hosts.budgetFor(host) })`. */
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
   * The retries of all keys, those of forgotten ones too: `offered = granted + denied`. Those of a budget that never denies
   * are in none of these.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface KeyedMetrics {
    readonly keys: number
    /** Keys forgotten because they were idle or made room while their budget was full. */
    readonly evicted: number
    /** Asked for with a new key while every key was live, and answered with a budget that never denies. */
    readonly unguarded: number
    /** Retries that asked. */
    readonly offered: number
    readonly granted: number
    /** Also those with a new key while every key was live. */
    readonly denied: number
    readonly refunded: number
    /** The keys whose budget is not full. */
    readonly low: ReadonlyArray<{ readonly key: string; readonly available: number }>
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const RetryBudgetLive = RetryBudget.Live
