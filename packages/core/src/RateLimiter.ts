/**
 * A rate limiter bounds how many calls are made in a span of time: by this program, or by each of its callers.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as actions from "./internal/actions.js"
import { decidingAtOnce } from "./internal/atOnce.js"
import { assemble, errorFields, ErrorTypeId, retryAfter, stackless, withCause } from "./internal/errors.js"
import { duration, eventFields } from "./internal/event.js"
import { passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import type { Instance } from "./internal/instance.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { LocalLimiter } from "./internal/rate/limiter.js"
import type { LimiterWatch } from "./internal/rate/limits.js"
import { Limits } from "./internal/rate/limits.js"
import type { AlgorithmName, Rate } from "./internal/rate/rate.js"
import { algorithms, parseRates } from "./internal/rate/rate.js"
import { SharedLimiter } from "./internal/rate/shared.js"
import { makeTag, orDie } from "./internal/tag.js"
import { InternalError } from "./InternalError.js"
import type { Guard, Observable, OnLayer, TagClass } from "./Pattern.js"
import { RateLimiterStore } from "./RateLimiterStore.js"

const Reason = Schema.Literal(
  "Exceeded",
  "WaitExceeded",
  "DeadlineTooClose",
  "QueueFull",
  "CostTooHigh",
  "TooManyKeys",
  "StoreUnavailable"
)

/**
 * The limiter did not let the call in: the rate is used up (`Exceeded`), its turn would not come in time (`WaitExceeded`)
 * or only after the ambient deadline (`DeadlineTooClose`), too many wait already (`QueueFull`), it costs more than the
 * rate ever has at once (`CostTooHigh`), all keys are live and its own is new (`TooManyKeys`), or the store is away and
 * that means no (`StoreUnavailable`). The message does not name the key.
 *
 * @since 0.1.0
 * @category errors
 */
export class RateLimitExceededError
  extends Schema.TaggedError<RateLimitExceededError>("@effect-resilience/RateLimitExceededError")(
    "RateLimitExceededError",
    {
      ...errorFields("RateLimiter"),
      reason: Reason,
      retryAfter,
      /** The limit of the rate that has least left. */
      limit: Schema.NonNegativeInt,
      /** What it has left: too little for this call. */
      remaining: Schema.NonNegativeInt
    }
  )
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "rejection" as const
  }
  override get message() {
    return `RateLimiter "${this.instance}" did not let the call in (${this.reason}): ` +
      `${this.remaining} of ${this.limit} left`
  }
}

/**
 * The store of a limiter failed or did not answer, and `onStoreError` is `"fail"`, or it was to `reset`. What the store
 * said is the `cause`, which does not go over the wire.
 *
 * @since 0.1.0
 * @category errors
 */
export class RateLimiterStoreError
  extends Schema.TaggedError<RateLimiterStoreError>("@effect-resilience/RateLimiterStoreError")(
    "RateLimiterStoreError",
    {
      ...errorFields("RateLimiter"),
      reason: Schema.Literal("StoreFailed"),
      retryAfter
    }
  )
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "rejection" as const
  }
  override get message() {
    return `RateLimiter "${this.instance}" could not ask its store`
  }
}

const fields = { ...eventFields("RateLimiter"), rate: Schema.String }
const Event = Schema.Union(
  Schema.TaggedStruct("Allowed", { ...fields, remaining: Schema.NonNegativeInt }),
  Schema.TaggedStruct("Exceeded", { ...fields, reason: Reason, retryAfter: duration }),
  Schema.TaggedStruct("LimitChanged", { ...eventFields("RateLimiter"), from: Schema.String, to: Schema.String }),
  InternalError
)

/** The options, their defaults and what they accept. @internal */
export const rateLimiterFields = {
  rate: option.field<RateLimiter.Rates | undefined, RateLimiter.Rates>(undefined, (input) => {
    parseRates(input, "gcra")
    return input as RateLimiter.Rates
  }),
  algorithm: option.literal<AlgorithmName>("gcra", ...algorithms),
  burst: option.optional(option.integer(1, { min: 1 })),
  mode: option.literal("fail", "fail", "wait"),
  maxWait: option.duration("1 second", { min: 0, infinite: true }),
  maxWaiters: option.integer(1000, { min: 1 }),
  rateFor: option.optional(option.fn<NonNullable<RateLimiter.Options["rateFor"]>>(() => undefined, "—")),
  maxKeys: option.integer(10_000, { min: 1 }),
  onFull: option.literal("reject", "reject", "admit"),
  revealKey: option.boolean(false),
  onStoreError: option.literal("fail", "fail", "open", "closed", "local"),
  storeTimeout: option.duration("1 second")
} satisfies option.Fields<RateLimiter.Options>

type Named = RateLimiter.Options & { readonly name: string }

/** Reads the options of a limiter. Throws an `InvalidOptionError` for a bad one. @internal */
export const check = (options: Named) => {
  const resolved = option.resolve("RateLimiter", options.name, rateLimiterFields, options)
  const bad = (field: string, value: unknown) => (error: unknown): never => {
    if (!(error instanceof option.Requirement)) throw error
    throw new option.InvalidOptionError("RateLimiter", options.name, field, value, error.text)
  }
  // What fits one algorithm does not fit every other.
  const attempt = (burst: number | undefined, otherwise: (error: unknown) => never): ReadonlyArray<Rate> => {
    try {
      return parseRates(resolved.rate, resolved.algorithm, burst)
    } catch (error) {
      return otherwise(error)
    }
  }
  attempt(undefined, bad("rate", resolved.rate))
  if (resolved.burst !== undefined) attempt(resolved.burst, bad("burst", resolved.burst))
  return { ...resolved, name: options.name }
}

/** Where an instance tells what happens: its events and metrics. */
const watchOf = ({ emitter, enforced, name }: Instance<RateLimiter.Event>): LimiterWatch => {
  const labels = (more: Record<string, string> = {}) => metric.attributes("RateLimiter", name, more)
  const count = metric.calls("RateLimiter", name, enforced)
  const rejection = metric.rejections<RateLimiter.Reason>("RateLimiter", name, enforced)
  const decided = (result: string) => {
    const up = metric.counter("resilience.rate_limiter.decisions", "Decisions by result", labels({ result }))
    return () => up()
  }
  const wait = (result: string) =>
    metric.seconds("resilience.rate_limiter.wait.duration", "Time in line, of calls that waited", labels({ result }))
  const waits = { acquired: wait("acquired"), rejected: wait("rejected"), canceled: wait("canceled") }
  return {
    emitter,
    decided: {
      allowed: decided("allowed"),
      delayed: decided("delayed"),
      rejected: decided("rejected"),
      store_error: decided("store_error")
    },
    canceled: count.canceled,
    rejected: (reason) => {
      count.rejected()
      rejection(reason)
    },
    waited: (seconds, result) => waits[result](seconds),
    keys: metric.gauge("resilience.rate_limiter.keys", "Keys that are held", labels()),
    error: (reason, wait, limit, remaining) =>
      assemble(RateLimitExceededError, {
        _tag: "RateLimitExceededError",
        pattern: "RateLimiter",
        instance: name,
        reason,
        retryAfter: wait === undefined ? Option.none() : Option.some(wait),
        limit,
        remaining
      })
  }
}

const storeErrorOf = (name: string) => (cause: unknown): RateLimiterStoreError =>
  withCause(
    stackless(() =>
      new RateLimiterStoreError({ instance: name, reason: "StoreFailed", retryAfter: Option.none() }, true)
    ),
    cause
  )

const build = (
  options: Named,
  site: string,
  store?: RateLimiterStore.Service
): Effect.Effect<RateLimiter.Service, never, Scope> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const { name } = options
    const instance = yield* openInstance<RateLimiter.Event>("RateLimiter", name)
    const limits = new Limits(resolved, watchOf(instance))
    const limiter = store === undefined
      ? new LocalLimiter(limits)
      : new SharedLimiter(limits, store, resolved.onStoreError, resolved.storeTimeout, storeErrorOf(name))
    yield* Effect.addFinalizer(() => limiter.close)
    const refuse = (field: string, value: unknown, requirement: string): never => {
      throw new option.InvalidOptionError("RateLimiter", name, field, value, requirement)
    }
    // A key that is none would share the bucket of those without one, or have one for each call.
    const keyOrDie = (key: string = ""): string => Predicate.isString(key) ? key : refuse("key", key, "a string")
    const argsOrDie = <A extends RateLimiter.Args>(args: A): A =>
      Predicate.isRecord(args) ? args : refuse("args", args, "{ key, cost, rate }")
    const asked = (args: RateLimiter.Args = {}) => {
      const { cost = 1, key, rate } = argsOrDie(args)
      return { key: keyOrDie(key), cost: limits.cost(cost), rate }
    }
    const setRate = (rate: RateLimiter.Rates) => Effect.suspend(() => limiter.setRate(rate))
    yield* register({
      pattern: "RateLimiter",
      instance: name,
      site,
      snapshot: limiter.metrics,
      ...(store === undefined ? {} : { settings: { onStoreError: resolved.onStoreError } }),
      actions: {
        reset: (input) => Effect.flatMap(keyInput(input), limiter.reset),
        drain: (input) => Effect.flatMap(keyInput(input), limiter.drain),
        setRate: (input) =>
          Effect.suspend(() => {
            try {
              parseRates(input, resolved.algorithm)
            } catch (error) {
              if (!(error instanceof option.Requirement)) throw error
              return Effect.fail(actions.badInput(`the input must be ${error.text}, but is ${option.show(input)}`))
            }
            return setRate(input as RateLimiter.Rates)
          })
      }
    })
    const withLimitBy = (args: RateLimiter.Args) => {
      const { cost, key, rate } = asked(args)
      return limiter.guard(key, cost, rate)
    }
    const service: RateLimiter.Service = {
      name,
      withLimit: withLimitBy({}),
      withLimitBy,
      consume: (args) => Effect.suspend(() => limiter.consume(asked(args))),
      check: (args) => Effect.suspend(() => limiter.check(asked(args))),
      peek: (key) => Effect.suspend(() => limiter.check(asked({ key }))),
      reserve: (args = {}) =>
        Effect.suspend(() => {
          const { maxWait = resolved.maxWait, ...rest } = argsOrDie(args)
          return limiter.reserve(asked(rest), waitOrDie(name, maxWait))
        }),
      reset: (key) => Effect.suspend(() => limiter.reset(keyOrDie(key))),
      drain: (key) => Effect.suspend(() => limiter.drain(keyOrDie(key))),
      penalty: (args) => Effect.suspend(() => spread(asked(args), limiter.penalty)),
      reward: (args) => Effect.suspend(() => spread(asked(args), limiter.reward)),
      setRate,
      metrics: limiter.metrics,
      ...instance.observable
    }
    return limiter instanceof LocalLimiter || store?.decideAtOnce !== undefined
      ? decidingAtOnce(service, (args) => limiter.consumeAtOnce(asked(args)))
      : service
  })

const spread = <A>(
  { cost, key }: { readonly key: string; readonly cost: number },
  f: (key: string, cost: number) => A
) => f(key, cost)

/** The key that an operator names, or none. */
const keyInput = (input: unknown): Effect.Effect<string, Error> =>
  Predicate.isNullable(input) ? Effect.succeed("") : actions.key(input)

const parseWait = option.parseDuration({ min: 0, infinite: true })

const waitOrDie = (name: string, maxWait: Duration.DurationInput): Duration.Duration => {
  try {
    return parseWait(maxWait)
  } catch {
    throw new option.InvalidOptionError("RateLimiter", name, "maxWait", maxWait, "a duration of at least 0 ms")
  }
}

const free: RateLimiter.Decision = {
  allowed: true,
  limit: 0,
  window: Duration.zero,
  remaining: 0,
  retryAfter: Duration.zero,
  resetAfter: Duration.zero
}

const noMetrics: RateLimiter.Metrics = {
  rate: "",
  keys: 0,
  maxKeys: 0,
  checks: 0,
  allowed: 0,
  rejected: 0,
  canceled: 0,
  waiting: 0,
  evicted: 0,
  unguarded: 0,
  storeErrors: 0
}

const makeLimiterTag = makeTag<RateLimiter.Operations, RateLimiter.Options>({
  pattern: "RateLimiter",
  make: build,
  check,
  noop: (name): RateLimiter.Service => ({
    name,
    withLimit: passThrough,
    withLimitBy: () => passThrough,
    consume: () => Effect.succeed(free),
    check: () => Effect.succeed(free),
    peek: () => Effect.succeed(free),
    reserve: () => Effect.succeed({ delay: Duration.zero, decision: free, cancel: Effect.succeed(false) }),
    reset: () => Effect.void,
    drain: () => Effect.void,
    penalty: () => Effect.void,
    reward: () => Effect.void,
    setRate: () => Effect.void,
    metrics: Effect.succeed(noMetrics),
    ...silent
  }),
  accessors: {
    withLimit: "guard",
    withLimitBy: "curried",
    consume: "method",
    check: "method",
    peek: "method",
    reserve: "method",
    reset: "method",
    drain: "method",
    penalty: "method",
    reward: "method",
    setRate: "method",
    metrics: "effect",
    events: "stream",
    subscribe: "effect",
    on: "method"
  }
}, callSite)

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options: RateLimiter.Options
) =>
  & TagClass<
    Self,
    `@effect-resilience/RateLimiter/${Name}`,
    RateLimiter.Service,
    Partial<RateLimiter.Options>
  >
  & RateLimiter.LayerStore<Self>
  & RateLimiter.Operations<Self>
  & OnLayer<RateLimiter.Event, Self> = <Self>() => (name: string, own: RateLimiter.Options) => {
    const site = callSite()
    const tag = makeLimiterTag<Self>()(name, own)
    return Object.assign(tag, {
      layerStore: (options?: Partial<RateLimiter.Options>) =>
        Layer.scoped(
          tag,
          Effect.flatMap(RateLimiterStore, (store) =>
            build({ ...own, ...option.merge<Partial<RateLimiter.Options>>(own, options), name }, site, store))
        )
    })
  }

/**
 * The rate limiter. `RateLimiter` is the default instance, of 100 calls a second; `RateLimiter.Tag` makes named ones.
 *
 * @example
 * import { RateLimiter } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * class Search extends RateLimiter.Tag<Search>()("search", { rate: ["10/second", "1000/hour"] }) {}
 *
 * const program = Effect.succeed("found").pipe(Search.withLimitBy({ key: "user 42" }), Effect.provide(Search.Live))
 *
 * @since 0.1.0
 * @category models
 */
export class RateLimiter extends Tag<RateLimiter>()("default", { rate: "100/second" }) {
  /** Named instances: `class Search extends RateLimiter.Tag<Search>()("search", { rate: "10/second" }) {}`. */
  static readonly Tag = Tag
  /** An instance that is nobody's service. With a `store` its counts are kept there. */
  static readonly make = (
    { store, ...options }: Named & { readonly store?: RateLimiterStore.Service | undefined }
  ): Effect.Effect<RateLimiter.Service, never, Scope> => build(options, callSite(), store)
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace RateLimiter {
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
   * So many calls in a window: `"100/minute"`, `"10/s"`, `"5/30 seconds"`, or an object, which may have a `burst`.
   *
   * @since 0.1.0
   * @category models
   */
  export type Rate = string | {
    readonly limit: number
    readonly window: Duration.DurationInput
    readonly burst?: number | undefined
  }

  /**
   * One rate, or several that are one decision: a call is charged to all of them or to none.
   *
   * @since 0.1.0
   * @category models
   */
  export type Rates = Rate | ReadonlyArray<Rate>

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** How many calls in which time. What cannot be read as a rate is refused at construction. */
    readonly rate: Rates
    /**
     * How they are counted: by spacing with a burst (`"gcra"`, which is also `"token-bucket"`), by two windows that slide
     * (`"sliding-window"`), exactly (`"sliding-log"`), or per window of the clock (`"fixed-window"`). Defaults to `"gcra"`.
     */
    readonly algorithm?: RateLimiterStore.Algorithm | undefined
    /**
     * How many of one rate may come at once, for `"gcra"` and `"token-bucket"`; a rate may name its own. It is that of a
     * single rate that comes later too, by `setRate`, `rateFor` or a call. In any span W at most
     * `burst + limit * W / window` calls are let through. Defaults to the limit of the rate.
     */
    readonly burst?: number | undefined
    /** What a call without its share does: fail at once, or wait for it. Defaults to `"fail"`. */
    readonly mode?: "fail" | "wait" | undefined
    /**
     * How long a call may wait, cut at the ambient `Deadline`. It fails at once where its turn would come later.
     * Defaults to `"1 second"`.
     */
    readonly maxWait?: Duration.DurationInput | undefined
    /**
     * Calls that may wait at once, and reservations for a time to come, over all keys; by a store, those that ask it
     * whether they have to wait are counted too. A call that need not wait passes in any case. Defaults to `1000`.
     */
    readonly maxWaiters?: number | undefined
    /**
     * The rate of a key; `undefined` for that of the instance. It is asked at each call and answers at once; an answer
     * that is no rate, and an exception, are defects. Defaults to none.
     */
    readonly rateFor?: ((key: string) => Rates | undefined) | undefined
    /**
     * Keys held at once. One is forgotten only when it is as good as new. A store has a bound of its own: by `layerStore`
     * this one is for `onStoreError: "local"`. Defaults to `10000`.
     */
    readonly maxKeys?: number | undefined
    /**
     * What happens to a call with a new key when no held key may be forgotten: it is rejected, or let through uncounted,
     * which is reported once a minute. Defaults to `"reject"`.
     */
    readonly onFull?: "reject" | "admit" | undefined
    /** Whether events show keys, which may be addresses or names of people. Defaults to `false`. */
    readonly revealKey?: boolean | undefined
    /**
     * What a call does when the store of `layerStore` fails: fail with `RateLimiterStoreError`, pass (`"open"`), be
     * rejected (`"closed"`), or be counted in this process (`"local"`), by its share of the rate where the store knows how
     * many processes there are: limit and burst divided by them, rounded down, at least 1. A call that costs more than
     * such a share ever has is rejected (`StoreUnavailable`). A penalty, a reward and a drain do likewise: with
     * `"open"` and `"closed"` they are dropped. A `reset` fails in any case. Each is counted and reported. Defaults to
     * `"fail"`.
     */
    readonly onStoreError?: "fail" | "open" | "closed" | "local" | undefined
    /** How long the store may take to answer. Defaults to `"1 second"`. */
    readonly storeTimeout?: Duration.DurationInput | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Args {
    /**
     * Whose share it is: a user, a tenant, an address. Absent, `undefined` and `""` are one share for all; what is no
     * string is a defect.
     */
    readonly key?: string | undefined
    /** What the call takes of it. More than there ever is at once is refused. Defaults to `1`. */
    readonly cost?: number | undefined
    /**
     * The rate for this call, in place of `rateFor` and `rate`. What the key has used in the same window counts in it; the
     * quotas of other windows are neither charged nor forgotten.
     */
    readonly rate?: Rates | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Decision {
    readonly allowed: boolean
    /** The limit of the rate that has least left; of several that have as little, of the one that takes longest. */
    readonly limit: number
    /** The window of that rate: `limit` calls in it. */
    readonly window: Duration.Duration
    /** What may still be taken now: what that rate has left. */
    readonly remaining: number
    /** Until the same question has a chance by all rates; zero when allowed, infinite when it never has. */
    readonly retryAfter: Duration.Duration
    /** Until that rate is as good as new. */
    readonly resetAfter: Duration.Duration
  }

  /**
   * A share taken for a time to come.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Reservation {
    /** Act after this. */
    readonly delay: Duration.Duration
    readonly decision: Decision
    /** Gives it back, exactly; `false` where its time has passed: then it counts as used. */
    readonly cancel: Effect.Effect<boolean>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    /** Runs the effect if the rate has room for it. */
    readonly withLimit: Guard<RateLimitExceededError | RateLimiterStoreError, Env>
    /** The same for a key, a cost, a rate of the call. */
    readonly withLimitBy: (args: Args) => Guard<RateLimitExceededError | RateLimiterStoreError, Env>
    /** Takes a share if it is there, and says so. It never waits. */
    readonly consume: (args?: Args) => Effect.Effect<Decision, RateLimiterStoreError, Env>
    /** Whether `consume` would be allowed now. A hint: it takes nothing. */
    readonly check: (args?: Args) => Effect.Effect<Decision, RateLimiterStoreError, Env>
    /** What a key has left. Takes nothing. */
    readonly peek: (key?: string) => Effect.Effect<Decision, RateLimiterStoreError, Env>
    /**
     * Takes a share for the first time that has one, if that is within `maxWait` and before the ambient `Deadline`: wait
     * for `delay`, then act.
     */
    readonly reserve: (
      args?: Args & { readonly maxWait?: Duration.DurationInput | undefined }
    ) => Effect.Effect<Reservation, RateLimitExceededError | RateLimiterStoreError, Env>
    /** Forgets what a key has used. */
    readonly reset: (key?: string) => Effect.Effect<void, RateLimiterStoreError, Env>
    /**
     * Takes all that a key has left, because the backend answered 429: of several rates, of the one with the shortest
     * window. Once per such window: a burst of answers 429 is one reason.
     */
    readonly drain: (key?: string) => Effect.Effect<void, RateLimiterStoreError, Env>
    /** Charges a key for more than its calls, whether or not it has as much. */
    readonly penalty: (args: Omit<Args, "rate">) => Effect.Effect<void, RateLimiterStoreError, Env>
    /** Gives a key something back, never more than it has used. */
    readonly reward: (args: Omit<Args, "rate">) => Effect.Effect<void, RateLimiterStoreError, Env>
    /**
     * Changes the rate of the instance. What keys have used in a window stays used, as so many calls; a window that is new
     * begins anew, and one that comes back is as it was left.
     */
    readonly setRate: (rate: Rates) => Effect.Effect<void, never, Env>
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
   * @category layers
   */
  export interface LayerStore<Self> {
    /** The instance with its counts in the `RateLimiterStore`. Name the result once and reuse it. */
    readonly layerStore: (options?: Partial<Options>) => Layer.Layer<Self, never, RateLimiterStore>
  }

  /**
   * `checks = allowed + rejected`. Those that wait, and those that were interrupted while they waited (`canceled`), are in
   * neither.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    /** The rate of the instance, as `"100/1s"`. */
    readonly rate: string
    /** Keys held; absent with a store, which holds them, unless this process may have to (`onStoreError: "local"`). */
    readonly keys?: number | undefined
    /** Absent as `keys` is. */
    readonly maxKeys?: number | undefined
    readonly checks: number
    readonly allowed: number
    readonly rejected: number
    readonly canceled: number
    readonly waiting: number
    /** Keys forgotten when they were as good as new; absent as `keys` is. */
    readonly evicted?: number | undefined
    /** Calls let through uncounted, because every held key was live. */
    readonly unguarded: number
    /** Questions that the store did not answer. */
    readonly storeErrors: number
  }
}

/**
 * The default instance: 100 calls a second.
 *
 * @since 0.1.0
 * @category layers
 */
export const RateLimiterLive = RateLimiter.Live
