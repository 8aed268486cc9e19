/**
 * Retry runs a call again when it failed in a way that may pass.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { Backoff } from "./internal/backoff.js"
import { toSchedule } from "./internal/backoff.js"
import type { BucketConfig } from "./internal/bucket.js"
import { Budget } from "./internal/budget.js"
import { errorFields, ErrorTypeId, retryAfter, stackless } from "./internal/errors.js"
import { countOrInfinity, duration, error, eventFields } from "./internal/event.js"
import { passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import * as option from "./internal/options.js"
import { retryBy } from "./internal/retryBy.js"
import type { LoopConfig, LoopWatch, Plan } from "./internal/retryLoop.js"
import { Attempt, retryLoop, unwatched } from "./internal/retryLoop.js"
import type { Matcher } from "./internal/retryMatch.js"
import { matches, ofError } from "./internal/retryMatch.js"
import { retryWatch } from "./internal/retryWatch.js"
import { makeTag, orDie } from "./internal/tag.js"
import { forever, toNanos } from "./internal/time.js"
import { InternalError } from "./InternalError.js"
import type { Classify, Outcome } from "./Outcome.js"
import { classify } from "./Outcome.js"
import type { Guard, Observable, OnLayer, TagClass } from "./Pattern.js"
import { RetryBudget, retryBudgetFields, watchedBudget } from "./RetryBudget.js"

/**
 * The last value was one that `retryOnResult` refuses.
 *
 * @since 0.1.0
 * @category errors
 */
export class RetryResultRejectedError<out A = unknown>
  extends Schema.TaggedError<RetryResultRejectedError>("@effect-resilience/RetryResultRejectedError")(
    "RetryResultRejectedError",
    {
      ...errorFields("Retry"),
      reason: Schema.Literal("ResultRejected"),
      retryAfter,
      /** Attempts that were made, the first included. */
      attempts: Schema.Int
    }
  )
{
  /**
   * The last value. It stays in the process: on the wire the error has none.
   *
   * @since 0.1.0
   */
  declare readonly value: A
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "failure" as const
  }
  override get message() {
    return `Retry "${this.instance}": no acceptable result in ${this.attempts} attempts`
  }
}

const refusal = <A>(instance: string, value: A, attempts: number): RetryResultRejectedError<A> =>
  Object.defineProperty(
    stackless(() =>
      new RetryResultRejectedError<A>({ instance, reason: "ResultRejected", retryAfter: Option.none(), attempts }, true)
    ),
    "value",
    { value, enumerable: false }
  )

const Exhaustion = Schema.Literal("Attempts", "Duration", "Deadline", "Budget", "Aborted")
const fields = eventFields("Retry")
const Event = Schema.Union(
  Schema.TaggedStruct("RetryScheduled", {
    ...fields,
    /** The attempt that failed. */
    attempt: Schema.Int,
    /** Of the strategy that this error has. */
    maxAttempts: countOrInfinity,
    delay: duration,
    error
  }),
  Schema.TaggedStruct("RetrySucceeded", { ...fields, attempts: Schema.Int }),
  Schema.TaggedStruct("RetryExhausted", { ...fields, attempts: Schema.Int, error, reason: Exhaustion }),
  InternalError
)

const matcher = option.optional(option.field<Matcher, Matcher>([], (input) => {
  if (Predicate.isFunction(input) || (Array.isArray(input) && input.every(Predicate.isString))) return input
  throw new option.Requirement("a list of error tags or a function of the exit")
}))

const parseJitter = (input: Retry.Jitter): Retry.Jitter => {
  if (input === "full" || input === "equal" || input === "none") return input
  if (Predicate.isNumber(input) && input >= 0 && input <= 1) return input
  throw new option.Requirement(`"full", "equal", "none" or a proportion from 0 to 1`)
}

/** The options of a backoff, for all errors or for one tag. */
const backoffFields = {
  maxAttempts: option.integer(3, { min: 1, infinite: true }),
  strategy: option.literal("exponential", "exponential", "linear", "constant", "decorrelated"),
  initialDelay: option.duration("100 millis", { min: 0 }),
  factor: option.number(2, { min: 1 }),
  maxDelay: option.duration("30 seconds", { min: 0, infinite: true }),
  jitter: option.field<Retry.Jitter, Retry.Jitter>("full", parseJitter)
}

/** The options, their defaults and what they accept. @internal */
export const retryFields = {
  ...backoffFields,
  schedule: option.optional(
    option.field<Schedule.Schedule<unknown>, Schedule.Schedule<unknown>>(Schedule.forever, (input) => {
      if (Schedule.isSchedule(input)) return input
      throw new option.Requirement("a Schedule")
    })
  ),
  maxDuration: option.optional(option.duration("1 minute")),
  retryOn: matcher,
  abortOn: matcher,
  strategies: option.field<
    Readonly<Record<string, Retry.BackoffOptions>>,
    Readonly<Record<string, Retry.BackoffOptions>>
  >({}, (input) => {
    if (Predicate.isRecord(input)) return input
    throw new option.Requirement("a record of strategies by error tag")
  }),
  delayFrom: option.optional(option.fn<NonNullable<Retry.Options["delayFrom"]>>(() => "default", "—")),
  onRetry: option.optional(option.fn<NonNullable<Retry.Options["onRetry"]>>(() => Effect.void, "—")),
  classify: option.fn<Classify>(classify, "classify"),
  budget: option.field<Retry.BudgetOption<unknown>, Retry.BudgetOption<unknown>>(
    {},
    (input) => {
      if (input === false || Effect.isEffect(input) || Predicate.isRecord(input)) return input
      throw new option.Requirement("false, options of a budget, a RetryBudget or the tag of one")
    },
    "one of its own"
  )
} satisfies option.Fields<Retry.Options>

type Resolved = ReturnType<typeof check>

const check = (options: Retry.Options<unknown, unknown> & { readonly name: string }) => {
  const { name } = options
  const resolved = option.resolve("Retry", name, retryFields, options)
  if (resolved.schedule === undefined) ordered(name, resolved)
  const strategies = Object.entries(resolved.strategies).map(([tag, own]) => {
    const instance = `${name}/${tag}`
    const merged = option.merge<Retry.BackoffOptions>(option.pick(options, backoffFields), own)
    const strategy = option.resolve("Retry", instance, backoffFields, merged)
    ordered(instance, strategy)
    return [tag, strategy] as const
  })
  const { budget } = resolved
  if (budget !== false && !Effect.isEffect(budget) && !RetryBudget.isService(budget)) {
    option.resolve("Retry", `${name}/budget`, retryBudgetFields, budget)
  }
  return { ...resolved, strategies }
}

const ordered = (
  name: string,
  { initialDelay, maxDelay }: { readonly initialDelay: Duration.Duration; readonly maxDelay: Duration.Duration }
) => {
  if (Duration.greaterThan(initialDelay, maxDelay)) {
    const text = `at least initialDelay (${Duration.format(initialDelay)})`
    throw new option.InvalidOptionError("Retry", name, "maxDelay", maxDelay, text)
  }
}

const backoffOf = (options: option.Resolved<typeof backoffFields>): Backoff => ({
  strategy: options.strategy,
  initialDelay: Duration.toMillis(options.initialDelay),
  factor: options.factor,
  maxDelay: Duration.toMillis(options.maxDelay),
  jitter: options.jitter
})

const planOf = (options: option.Resolved<typeof backoffFields>): Plan => ({
  maxAttempts: options.maxAttempts,
  schedule: toSchedule(backoffOf(options), Infinity),
  cap: toNanos(options.maxDelay),
  maxDelay: toNanos(options.maxDelay)
})

const loopConfig = (
  instance: string,
  resolved: Resolved,
  budget: RetryBudget.Service | undefined,
  watch: LoopWatch
): LoopConfig<never> => ({
  instance,
  plan: resolved.schedule === undefined
    ? planOf(resolved)
    : {
      maxAttempts: resolved.maxAttempts,
      schedule: resolved.schedule,
      cap: forever,
      maxDelay: toNanos(resolved.maxDelay)
    },
  plans: new Map(resolved.strategies.map(([tag, strategy]) => [tag, planOf(strategy)])),
  maxDuration: resolved.maxDuration && toNanos(resolved.maxDuration),
  classify: resolved.classify,
  retryOn: matches(resolved.retryOn),
  abortOn: matches(resolved.abortOn),
  refuses: undefined,
  delayFrom: resolved.delayFrom,
  onRetry: resolved.onRetry,
  refusal: (value, attempts) => refusal(instance, value, attempts),
  budget,
  watch
})

/** The budget that an option names, unless it is one that the context has. */
const ownBudget = (
  name: string,
  budget: Retry.BudgetOption<unknown>,
  make: (name: string, config: BucketConfig) => RetryBudget.Service
): RetryBudget.Service | undefined => {
  if (budget === false || Effect.isEffect(budget)) return undefined
  return RetryBudget.isService(budget)
    ? budget
    : make(name, option.resolve("Retry", `${name}/budget`, retryBudgetFields, budget))
}

const plainBudget = (name: string, config: BucketConfig) => new Budget(name, config)

/** Options that say how the delay grows. Given for one call, they replace the schedule of the instance. */
const growth = ["strategy", "initialDelay", "factor", "jitter"] as const

/** A retry with options of one call laid over those of an instance. */
const byOf = (
  instance: string,
  own: Retry.Options,
  ownBudgetOf: RetryBudget.Service | undefined,
  watch: LoopWatch
): Retry.By =>
  retryBy(({ abortOn, retryOn, retryOnResult, ...given }) => {
    const merged = option.merge<Retry.Options<unknown, unknown>>(own, {
      ...given,
      retryOn: ofError(retryOn),
      abortOn: ofError(abortOn)
    })
    const regrown = given.schedule === undefined && growth.some((key) => given[key] !== undefined)
    const resolved = check({ ...merged, ...(regrown ? { schedule: undefined } : {}), name: instance })
    if (retryOnResult !== undefined && !Predicate.isFunction(retryOnResult)) {
      throw new option.InvalidOptionError("Retry", instance, "retryOnResult", retryOnResult, "a function")
    }
    const { budget } = given
    const config = {
      ...loopConfig(
        instance,
        resolved,
        budget === undefined
          ? ownBudgetOf
          : ownBudget(instance, budget, plainBudget),
        watch
      ),
      refuses: retryOnResult && {
        test: retryOnResult,
        error: (value: unknown, attempts: number) => refusal(instance, value, attempts)
      }
    }
    return <A, E, R>(effect: Effect.Effect<A, E, R>) => {
      if (!Effect.isEffect(budget)) return retryLoop(config, effect)
      let met: RetryBudget.Service | undefined
      let built: Effect.Effect<A, E | RetryResultRejectedError, R>
      return Effect.flatMap(budget, (service) => {
        if (service !== met) {
          met = service
          built = retryLoop({ ...config, budget: service }, effect)
        }
        return built
      })
    }
  })

const build = <B, S>(
  options: Retry.Options<B, S> & { readonly name: string },
  site: string
): Effect.Effect<Retry.Service, never, Scope | B | S> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const { budget: budgetOption, name, ...own } = options
    const { emitter, observable } = yield* openInstance<Retry.Event>("Retry", name)
    const context = yield* Effect.context<S>()
    const budget = Effect.isEffect(budgetOption)
      ? yield* budgetOption
      : ownBudget(name, resolved.budget, (name, config) => watchedBudget("Retry", name, config))
    const schedule = options.schedule && Schedule.provideContext(options.schedule, context)
    const { metrics, watch } = retryWatch(name, emitter, budget)
    yield* register({
      pattern: "Retry",
      instance: name,
      site,
      snapshot: metrics,
      actions: budget === undefined ? {} : { resetBudget: () => budget.reset }
    })
    const config = loopConfig(name, { ...resolved, schedule }, budget, watch)
    return {
      name,
      withRetry: (effect) => retryLoop(config, effect),
      withRetryBy: byOf(name, { ...own, schedule }, budget, watch),
      metrics,
      ...observable
    }
  })

const noop = (name: string): Retry.Service => ({
  name,
  withRetry: passThrough,
  withRetryBy: retryBy(() => passThrough),
  metrics: Effect.succeed({
    offered: 0,
    admitted: 0,
    rejected: 0,
    succeeded: 0,
    failed: 0,
    ignored: 0,
    running: 0,
    succeededFirst: 0,
    succeededRetried: 0,
    failedWithoutRetry: 0,
    failedExhausted: 0,
    retries: 0,
    totalDelay: Duration.zero,
    exhausted: { Attempts: 0, Duration: 0, Deadline: 0, Budget: 0, Aborted: 0 },
    budgetAvailable: Option.none()
  }),
  ...silent
})

const Tag: <Self>() => <const Name extends string, B = never, S = never>(
  name: Name,
  options?: Retry.Options<B, S>
) =>
  & Retry.Class<Self, `@effect-resilience/Retry/${Name}`, B | S>
  & Retry.Operations<Self>
  & OnLayer<Retry.Event, Self> = makeTag<Retry.Operations, Retry.Options<unknown, unknown>>({
    pattern: "Retry",
    make: build,
    check,
    noop,
    accessors: {
      withRetry: "guard",
      withRetryBy: "curried",
      metrics: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

const presets = {
  /** The defaults: 3 attempts, exponential from 100 ms, full jitter, at most 30 s. */
  standard: {},
  /** For calls that must get through: 5 attempts from 50 ms, at most 10 s. */
  aggressive: { maxAttempts: 5, initialDelay: "50 millis", maxDelay: "10 seconds" },
  /** For dependencies that need rest: 3 attempts, 2 s and 4 s, equal jitter. */
  conservative: { maxAttempts: 3, strategy: "linear", initialDelay: "2 seconds", jitter: "equal" },
  /** Retries what the network did to the call: transport errors by tag and Node's code, and our own timeouts. */
  network: {
    maxAttempts: 4,
    initialDelay: "250 millis",
    maxDelay: "15 seconds",
    retryOn: [
      "RequestError.Transport",
      "TimeoutExceededError",
      "TimeoutException",
      "SocketError",
      "ECONNRESET",
      "ECONNREFUSED",
      "ECONNABORTED",
      "ETIMEDOUT",
      "EPIPE",
      "EHOSTUNREACH",
      "ENETUNREACH",
      "ENETRESET",
      "EAI_AGAIN",
      "ENOTFOUND",
      "UND_ERR_SOCKET",
      "UND_ERR_CONNECT_TIMEOUT",
      "UND_ERR_HEADERS_TIMEOUT",
      "UND_ERR_BODY_TIMEOUT"
    ]
  },
  /** The defaults of aioresilience: 3 attempts, 1 s and 2 s, ±10 %, at most 60 s. */
  aioresilience: { maxAttempts: 3, initialDelay: "1 second", maxDelay: "60 seconds", jitter: 0.1 }
} as const satisfies Record<string, Retry.Options>

/**
 * Retry. `Retry` is the default instance, `Retry.Tag` makes named ones, `Retry.using` needs no layer.
 *
 * @example
 * import { Retry } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.fail("busy").pipe(Retry.using({ maxAttempts: 5, initialDelay: "50 millis" }))
 *
 * @since 0.1.0
 * @category models
 */
export class Retry extends Tag<Retry>()("default") {
  /** Named instances: `class Search extends Retry.Tag<Search>()("search", { maxAttempts: 5 }) {}`. */
  static readonly Tag = Tag
  /** An instance that is nobody's service. */
  static readonly make = <B = never, S = never>(
    options: Retry.Options<B, S> & { readonly name: string }
  ): Effect.Effect<Retry.Service, never, Scope | B | S> => build(options, callSite())
  /**
   * For one-off use: no layer, no events, no metrics. The budget of its own lives as long as the guard that this returns,
   * so name the guard once where it is used often, or give it a `budget` to share.
   */
  static readonly using: Retry.By = retryBy((options) =>
    byOf("using", {}, options.budget === undefined ? ownBudget("using", {}, plainBudget) : undefined, unwatched)(
      options
    )
  )
  /**
   * The delays of these options as a schedule that ends before the attempt after `maxAttempts`: for `Effect.retry`,
   * `Stream.retry`, or to be combined with others into the `schedule` of a retry.
   */
  static readonly schedule = (options: Retry.BackoffOptions = {}): Schedule.Schedule<Duration.Duration> => {
    const resolved = option.resolve("Retry", "schedule", backoffFields, options)
    ordered("schedule", resolved)
    return Schedule.map(toSchedule(backoffOf(resolved), resolved.maxAttempts), Duration.millis)
  }
  /** The number of the attempt that runs: 1 for the first and outside any retry. An inner retry's first sees the outer's. */
  static readonly attempt: Effect.Effect<number> = Attempt
  /** Options for usual cases: `Retry.layer(Retry.presets.network)`. */
  static readonly presets = presets
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace Retry {
  /**
   * @since 0.1.0
   * @category events
   */
  export type Event = typeof Event.Type

  /**
   * Why a call is not retried any more.
   *
   * @since 0.1.0
   * @category models
   */
  export type Exhaustion = typeof Exhaustion.Type

  /**
   * What becomes of a delay: `"full"` draws from zero to it, `"equal"` from half of it, a proportion spreads it to both
   * sides, `"none"` keeps it.
   *
   * @since 0.1.0
   * @category models
   */
  export type Jitter = "full" | "equal" | "none" | number

  /**
   * What `delayFrom` answers: the usual delay, one of its own, or no retry.
   *
   * @since 0.1.0
   * @category models
   */
  export type Delay = "default" | "stop" | { readonly after: Duration.DurationInput }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface BackoffOptions {
    /** Attempts in all, the first included; `Infinity` leaves it to the other limits. Defaults to `3`. */
    readonly maxAttempts?: number | undefined
    /**
     * How the delay grows: `"exponential"` by `factor`, `"linear"` to n times `initialDelay`, `"constant"`, or
     * `"decorrelated"`, drawn between `initialDelay` and three times the last delay. Defaults to `"exponential"`.
     */
    readonly strategy?: "exponential" | "linear" | "constant" | "decorrelated" | undefined
    /** The delay before the first retry. Defaults to `"100 millis"`. */
    readonly initialDelay?: Duration.DurationInput | undefined
    /** What an exponential delay is multiplied by, at least 1. Defaults to `2`. */
    readonly factor?: number | undefined
    /** No delay is longer; the base is capped first and jittered then. Defaults to `"30 seconds"`. */
    readonly maxDelay?: Duration.DurationInput | undefined
    /** How a delay is spread. `"decorrelated"` draws by itself and takes none. Defaults to `"full"`. */
    readonly jitter?: Jitter | undefined
  }

  /**
   * What pays for retries: nothing (`false`), a budget of its own with these options, a budget, or the tag of one.
   *
   * @since 0.1.0
   * @category models
   */
  export type BudgetOption<B = never> =
    | false
    | RetryBudget.Options
    | RetryBudget.Service
    | Effect.Effect<RetryBudget.Service, never, B>

  /**
   * `B` is what the budget needs and `S` what the schedule needs: the layer of an instance then needs it too.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Options<out B = never, out S = never> extends BackoffOptions {
    /**
     * The delays, instead of `strategy` and what belongs to it. It may end the retries before `maxAttempts` does, and is
     * given the error. Defaults to none.
     */
    readonly schedule?: Schedule.Schedule<unknown, unknown, S> | undefined
    /** No retry begins later than this after the call began. Defaults to none. */
    readonly maxDuration?: Duration.DurationInput | undefined
    /**
     * Which failures are retried: `_tag`s (`"Busy"`), `_tag`s with a reason (`"RequestError.Transport"`) and codes of
     * Node's errors (`"ECONNRESET"`), or a function of the exit. Rejections of this library's patterns are retried only
     * where they are named here. Defaults to every error of the typed channel that `classify` calls a failure.
     */
    readonly retryOn?: ReadonlyArray<string> | ((exit: Exit.Failure<unknown, unknown>) => boolean) | undefined
    /** Which failures are never retried, even where `retryOn` names them. Defaults to none. */
    readonly abortOn?: ReadonlyArray<string> | ((exit: Exit.Failure<unknown, unknown>) => boolean) | undefined
    /** Other strategies for errors with these `_tag`s; what they leave out is as above. Defaults to `{}`. */
    readonly strategies?: Readonly<Record<string, BackoffOptions>> | undefined
    /**
     * The delay after this exit and so many attempts. One above `maxDelay` ends the retries. Without it, or with
     * `"default"`, the `retryAfter` of the error is honoured. Defaults to none.
     */
    readonly delayFrom?: ((exit: Exit.Exit<unknown, unknown>, attempt: number) => Delay) | undefined
    /**
     * Run when a retry is decided on and paid for, before its delay: the place to give back what a refused value holds,
     * such as the body of a response. Defaults to none.
     */
    readonly onRetry?: ((exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>) | undefined
    /**
     * What an exit means. A value that is a failure is retried, and given back as it is when the attempts are used up.
     * Defaults to `classify`.
     */
    readonly classify?: Classify | undefined
    /** What pays for retries. Defaults to one of its own, with the options of `RetryBudget`. */
    readonly budget?: BudgetOption<B> | undefined
  }

  /**
   * Options for one call, whose functions know its types. What is not given is as the instance has it.
   *
   * @since 0.1.0
   * @category models
   */
  export interface ByOptions<in A, in E> extends BackoffOptions {
    /** As in `Options`. With `retryOnResult` it is also given the values. Defaults to the instance's. */
    readonly schedule?: Schedule.Schedule<unknown, E, unknown> | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly maxDuration?: Duration.DurationInput | undefined
    /** As in `Options`, or a function of the error. Defaults to the instance's. */
    readonly retryOn?: ReadonlyArray<string> | ((error: E) => boolean) | undefined
    /** As in `Options`, or a function of the error. Defaults to the instance's. */
    readonly abortOn?: ReadonlyArray<string> | ((error: E) => boolean) | undefined
    /** Values that are retried; exhaustion is a `RetryResultRejectedError`. Defaults to none. */
    readonly retryOnResult?: ((value: A) => boolean) | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly strategies?: Readonly<Record<string, BackoffOptions>> | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly delayFrom?: ((exit: Exit.Exit<A, E>, attempt: number) => Delay) | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly classify?: ((exit: Exit.Exit<A, E>) => Outcome) | undefined
    /** As in `Options`; options of a budget make one that lives as long as the guard. Defaults to the instance's. */
    readonly budget?: BudgetOption<unknown> | undefined
  }

  /**
   * A retry that takes options for one call. Piped to an effect, the functions among them know its types; kept as a value,
   * they say what they take, and the guard keeps the types of each effect it stands around.
   *
   * @since 0.1.0
   * @category models
   */
  export interface By<out R = never> {
    <A, E, O>(
      options: O & ByOptions<A, E> & Checked<A, E, O>
    ): <A1 extends A, E1 extends E, R1>(
      effect: Effect.Effect<A1, E1, R1> & Effect.Effect<A, E, R1>
    ) => Effect.Effect<A1, E1 | Refused<A1, O>, R1 | R | Needs<O>>
  }

  /**
   * What options must be beside `ByOptions`: no other names, and a schedule that takes values where values are retried.
   *
   * @since 0.1.0
   * @category models
   */
  export type Checked<A, E, O> =
    & { readonly [K in Exclude<keyof O, keyof ByOptions<never, never>>]: never }
    & (O extends { readonly retryOnResult: (value: never) => boolean }
      ? { readonly schedule?: Schedule.Schedule<unknown, NoInfer<A | E>, unknown> | undefined }
      : unknown)

  /**
   * What options add to the errors of a call.
   *
   * @since 0.1.0
   * @category models
   */
  export type Refused<A, O> = O extends { readonly retryOnResult?: unknown }
    ? "retryOnResult" extends keyof O
      ? [Exclude<O["retryOnResult"], undefined>] extends [never] ? never : RetryResultRejectedError<A>
    : never
    : never

  /**
   * What the budget and the schedule among options need.
   *
   * @since 0.1.0
   * @category models
   */
  export type Needs<O> =
    | (O extends { readonly budget: Effect.Effect<unknown, unknown, infer B> } ? B : never)
    | (O extends { readonly schedule: Schedule.Schedule<unknown, never, infer B> } ? B : never)

  /**
   * A tag class of a retry: a layer with options may need what those options name.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Class<Self, Key extends string, out RIn> extends TagClass<Self, Key, Service, Options, RIn> {
    /** `Live` with these options laid over the tag's own. Without options it is `Live`. Name the result once and reuse it. */
    readonly layer: <B = never, S = never>(options?: Options<B, S>) => Layer.Layer<Self, never, RIn | B | S>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    /** Retries a call by the instance's options. The last failure survives as it is. */
    readonly withRetry: Guard<never, Env>
    /** Retries a call by options of its own. */
    readonly withRetryBy: By<Env>
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
   * Calls, not attempts: `offered = admitted`, `admitted = succeeded + failed + ignored + running`. A call that is
   * interrupted in a retry is among the ignored; one that is interrupted in its first attempt is not seen.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    readonly offered: number
    readonly admitted: number
    readonly rejected: number
    readonly succeeded: number
    readonly failed: number
    readonly ignored: number
    /** Calls between their first failure and their end. */
    readonly running: number
    readonly succeededFirst: number
    readonly succeededRetried: number
    /** Failed in the first attempt, and were not retried. */
    readonly failedWithoutRetry: number
    /** Failed in a retry. */
    readonly failedExhausted: number
    /** Retries, not counting first attempts. */
    readonly retries: number
    readonly totalDelay: Duration.Duration
    /** Calls that were given up, by reason. */
    readonly exhausted: { readonly [K in Exhaustion]: number }
    /** Retries that the budget would let through now, where there is one. */
    readonly budgetAvailable: Option.Option<number>
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const RetryLive = Retry.Live
