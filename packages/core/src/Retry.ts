/**
 * Retry runs a call again when it failed in a way that may pass.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { NoExcessProperties } from "effect/Types"
import type { Backoff } from "./internal/backoff.js"
import { toSchedule } from "./internal/backoff.js"
import { Bucket } from "./internal/bucket.js"
import { errorFields, ErrorTypeId, reject } from "./internal/errors.js"
import { countOrInfinity, duration, error, eventFields } from "./internal/event.js"
import { passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import type { LoopConfig, LoopWatch, Plan } from "./internal/retryLoop.js"
import { Attempt, retryLoop } from "./internal/retryLoop.js"
import { makeTag, orDie } from "./internal/tag.js"
import type { Nanos } from "./internal/time.js"
import { fromNanos, toNanos, toSeconds } from "./internal/time.js"
import { InternalError } from "./InternalError.js"
import type { Classify, Outcome } from "./Outcome.js"
import { classify } from "./Outcome.js"
import type { Guard, Observable, OnLayer, TagClass } from "./Pattern.js"
import { RetryBudget, retryBudgetFields } from "./RetryBudget.js"

/**
 * The last value was one that `retryOnResult` refuses.
 *
 * @since 0.1.0
 * @category errors
 */
export class RetryResultRejectedError
  extends Schema.TaggedError<RetryResultRejectedError>("@effect-resilience/RetryResultRejectedError")(
    "RetryResultRejectedError",
    { ...errorFields("Retry"), reason: Schema.Literal("ResultRejected"), attempts: Schema.Int, value: Schema.Unknown }
  )
{
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

const Exhaustion = Schema.Literal("Attempts", "Duration", "Deadline", "Budget", "Aborted")
const fields = eventFields("Retry")
const Event = Schema.Union(
  Schema.TaggedStruct("RetryScheduled", {
    ...fields,
    /** The attempt that failed. */
    attempt: Schema.Int,
    /** `Infinity` becomes `null` on the wire. */
    maxAttempts: countOrInfinity,
    delay: duration,
    error
  }),
  Schema.TaggedStruct("RetrySucceeded", { ...fields, attempts: Schema.Int }),
  Schema.TaggedStruct("RetryExhausted", { ...fields, attempts: Schema.Int, error, reason: Exhaustion }),
  InternalError
)

type Matcher = ReadonlyArray<string> | ((exit: Exit.Exit<unknown, unknown>) => boolean)

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
  classify: option.fn<Classify>(classify, "classify"),
  budget: option.field<Retry.Options<unknown>["budget"] & {}, Retry.Options<unknown>["budget"] & {}>(
    {},
    (input) => {
      if (input === false || Effect.isEffect(input) || Predicate.isRecord(input)) return input
      throw new option.Requirement("false, options of a budget, or a RetryBudget")
    },
    "one of its own"
  )
} satisfies option.Fields<Retry.Options>

type Resolved = ReturnType<typeof check>

const check = <B>(options: Retry.Options<B> & { readonly name: string }) => {
  const resolved = option.resolve("Retry", options.name, retryFields, options)
  ordered(options.name, resolved)
  const strategies = Object.entries(resolved.strategies).map(([tag, own]) => {
    const instance = `${options.name}/${tag}`
    const merged = option.merge(option.pick(options, backoffFields), option.merge(own, undefined))
    const strategy = option.resolve("Retry", instance, backoffFields, merged)
    ordered(instance, strategy)
    return [tag, strategy] as const
  })
  const { budget } = resolved
  if (budget !== false && !Effect.isEffect(budget) && !RetryBudget.isService(budget)) {
    option.resolve("Retry", `${options.name}/budget`, retryBudgetFields, budget)
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

const matches = (matcher: Matcher | undefined): ((exit: Exit.Exit<unknown, unknown>) => boolean) | undefined => {
  if (matcher === undefined || Predicate.isFunction(matcher)) return matcher
  return (exit) => {
    const failure = exit._tag === "Failure" ? Cause.failureOption(exit.cause) : Option.none()
    if (failure._tag === "None") return false
    const { value } = failure
    return (Predicate.hasProperty(value, "_tag") && matcher.includes(String(value._tag))) ||
      // Errors of Node name themselves by a code, as ECONNRESET.
      codesOf(value).some((code) => matcher.includes(code))
  }
}

/** The codes of an error and of what caused it. */
const codesOf = (error: unknown): ReadonlyArray<string> => {
  const codes: Array<string> = []
  let one = error
  for (let depth = 0; depth < 5 && Predicate.isObject(one); depth++) {
    if (Predicate.hasProperty(one, "code") && Predicate.isString(one.code)) codes.push(one.code)
    one = Predicate.hasProperty(one, "cause") ? one.cause : undefined
  }
  return codes
}

const bucketOf = (budget: Resolved["budget"]): Bucket | undefined => {
  if (budget === false || Effect.isEffect(budget)) return undefined
  if (RetryBudget.isService(budget)) return budget.bucket
  return new Bucket(option.resolve("Retry", "budget", retryBudgetFields, budget))
}

const loopConfig = (
  instance: string,
  resolved: Resolved,
  bucket: Bucket | undefined,
  watch: LoopWatch
): LoopConfig => {
  const plan: Plan = {
    maxAttempts: resolved.maxAttempts,
    schedule: resolved.schedule ?? toSchedule(backoffOf(resolved))
  }
  return {
    instance,
    plan,
    plans: new Map(resolved.strategies.map(([tag, own]) => [
      tag,
      { maxAttempts: own.maxAttempts, schedule: toSchedule(backoffOf(own)) }
    ])),
    maxDelay: toNanos(resolved.maxDelay),
    maxDuration: resolved.maxDuration && toNanos(resolved.maxDuration),
    classify: resolved.classify,
    retryOn: matches(resolved.retryOn),
    abortOn: matches(resolved.abortOn),
    retryOnResult: undefined,
    delayFrom: resolved.delayFrom,
    rejectResult: (value, attempts) =>
      reject(() => new RetryResultRejectedError({ instance, reason: "ResultRejected", attempts, value }, true)),
    bucket,
    watch
  }
}

const guardOf = (config: LoopConfig): Guard => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  // Without `retryOnResult` the loop ends with an exit of the effect itself.
  retryLoop(config, effect) as Effect.Effect<A, E, R>

/** A predicate over the error of a call, as one over its exit. */
const ofExit = (matcher: ReadonlyArray<string> | ((error: unknown) => boolean) | undefined): Matcher | undefined =>
  Predicate.isFunction(matcher)
    ? (exit) => exit._tag === "Failure" && Option.exists(Cause.failureOption(exit.cause), (error) => matcher(error))
    : matcher

const byOf = (
  instance: string,
  own: Retry.Options<unknown>,
  bucket: Bucket | undefined,
  watch: LoopWatch
): Retry.By =>
(options) => {
  const { abortOn, budget, retryOn, retryOnResult, ...typed } = options as Retry.ByOptions<unknown, unknown>
  const merged = option.merge<Retry.Options<unknown>>(own, {
    ...typed,
    retryOn: ofExit(retryOn),
    abortOn: ofExit(abortOn)
  })
  const resolved = check({ ...merged, ...(budget === undefined ? {} : { budget }), name: instance })
  const config: LoopConfig = {
    ...loopConfig(instance, resolved, budget === undefined ? bucket : bucketOf(resolved.budget), watch),
    retryOnResult
  }
  return <A, E, R>(effect: Effect.Effect<A, E, R>) => retryLoop(config, effect) as Effect.Effect<A, never, R>
}

/** Counts and tells nothing: for `Retry.using`. */
const unwatched: LoopWatch = {
  listening: () => false,
  call: () => ({ callId: 0, traceId: undefined, spanId: undefined }),
  first: () => {},
  scheduled: () => {},
  retrying: () => {},
  succeeded: () => {},
  exhausted: () => {}
}

/** The counters of an instance. Owned by the `Ref` that holds it. */
class Tally {
  first = 0
  retried = 0
  failedFirst = 0
  exhausted = 0
  ignored = 0
  running = 0
  retries = 0
  totalDelay: Nanos = 0n
  readonly reasons = { Attempts: 0, Duration: 0, Deadline: 0, Budget: 0, Aborted: 0 }
}

const build = <B>(
  options: Retry.Options<B> & { readonly name: string },
  site: string
): Effect.Effect<Retry.Service, never, Scope | B> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const { name } = options
    const { emitter, observable } = yield* openInstance<Retry.Event>("Retry", name)
    const shared = Effect.isEffect(options.budget) ? (yield* options.budget).bucket : undefined
    const bucket = shared ?? bucketOf(resolved.budget)
    const ref = yield* Ref.make(new Tally())
    const tally = yield* Ref.get(ref)

    const count = metric.calls("Retry", name)
    const kind = (kind: string) =>
      metric.counter("resilience.retry.calls", "Calls by how they ended", metric.attributes("Retry", name, { kind }))
    const kinds = {
      first: kind("success_first"),
      retried: kind("success_retried"),
      failedFirst: kind("failed_no_retry"),
      exhausted: kind("failed_exhausted")
    }
    const attempts = metric.counter("resilience.retry.attempts", "Retries", metric.attributes("Retry", name))
    const delays = (source: string) =>
      metric.seconds("resilience.retry.delay", "Time before a retry", metric.attributes("Retry", name, { source }))
    const backoffDelay = delays("backoff")
    const namedDelay = delays("retry_after")
    const rejection = metric.rejections<string>("Retry", name)

    const watch: LoopWatch = {
      listening: () => emitter.listening,
      call: () => emitter.call(),
      first: () => {
        tally.first++
        count.success()
        kinds.first()
      },
      retrying: (by) => {
        tally.running += by
      },
      scheduled: ({ attempt, call, delay, error, maxAttempts, named }) => {
        tally.retries++
        tally.totalDelay += delay
        attempts()
        if (named) namedDelay(toSeconds(delay))
        else backoffDelay(toSeconds(delay))
        if (call !== undefined && emitter.listening) {
          emitter.emit({ _tag: "RetryScheduled", ...call, attempt, maxAttempts, delay: fromNanos(delay), error })
        }
      },
      succeeded: (call, attempts) => {
        tally.retried++
        count.success()
        kinds.retried()
        if (call !== undefined && emitter.listening) emitter.emit({ _tag: "RetrySucceeded", ...call, attempts })
      },
      exhausted: ({ attempts, call, ending, error, reason }) => {
        if (ending === "ignored") {
          tally.ignored++
          count.ignored()
        } else {
          const which = attempts === 1 && reason === "Aborted" ? "failedFirst" : "exhausted"
          tally[which]++
          count.failure()
          kinds[which]()
        }
        tally.reasons[reason]++
        if (reason === "Budget") rejection("BudgetExhausted")
        if (call !== undefined && emitter.listening) {
          emitter.emit({ _tag: "RetryExhausted", ...call, attempts, error, reason })
        }
      }
    }

    const metrics: Effect.Effect<Retry.Metrics> = Effect.map(Ref.get(ref), (t) => {
      const ended = t.first + t.retried + t.failedFirst + t.exhausted + t.ignored
      return {
        offered: ended + t.running,
        admitted: ended + t.running,
        rejected: 0,
        succeeded: t.first + t.retried,
        failed: t.failedFirst + t.exhausted,
        ignored: t.ignored,
        running: t.running,
        succeededFirst: t.first,
        succeededRetried: t.retried,
        failedWithoutRetry: t.failedFirst,
        failedExhausted: t.exhausted,
        retries: t.retries,
        totalDelay: fromNanos(t.totalDelay),
        exhausted: { ...t.reasons },
        budgetTokens: Option.map(Option.fromNullable(bucket), (bucket) => bucket.tokens)
      }
    })
    yield* register({ pattern: "Retry", instance: name, site, snapshot: metrics, actions: {} })
    return {
      name,
      withRetry: guardOf(loopConfig(name, resolved, bucket, watch)),
      withRetryBy: byOf(name, options, bucket, watch),
      metrics,
      ...observable
    }
  })

const noop = (name: string): Retry.Service => ({
  name,
  withRetry: passThrough,
  withRetryBy: () => (effect) => effect,
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
    budgetTokens: Option.none()
  }),
  ...silent
})

const Tag: <Self>() => <const Name extends string, B = never>(
  name: Name,
  options?: Retry.Options<B>
) =>
  & TagClass<Self, `@effect-resilience/Retry/${Name}`, Retry.Service, Retry.Options, B>
  & Retry.Operations<Self>
  & OnLayer<Retry.Event, Self> = makeTag<Retry.Operations, Retry.Options<unknown>>({
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
      "RequestError",
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
  static readonly make = <B = never>(
    options: Retry.Options<B> & { readonly name: string }
  ): Effect.Effect<Retry.Service, never, Scope | B> => build(options, callSite())
  /** For one-off use: no layer, no events, no metrics. Its budget lives as long as the guard that this returns. */
  static readonly using: Retry.By = (options) => {
    const own = options as Retry.ByOptions<unknown, unknown>
    return byOf("using", {}, own.budget === undefined ? bucketOf({}) : undefined, unwatched)(options)
  }
  /** The delays of these options as a schedule, endless, each delay given out as a `Duration`. */
  static readonly schedule = (options: Retry.BackoffOptions = {}): Schedule.Schedule<Duration.Duration> => {
    const resolved = option.resolve("Retry", "schedule", backoffFields, options)
    ordered("schedule", resolved)
    return Schedule.map(toSchedule(backoffOf(resolved)), Duration.millis)
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
   * @since 0.1.0
   * @category models
   */
  export interface Options<out B = never> extends BackoffOptions {
    /** The delays, instead of `strategy` and what belongs to it. It is given the error. Defaults to none. */
    readonly schedule?: Schedule.Schedule<unknown> | undefined
    /** No retry starts later than this after the call began. Defaults to none. */
    readonly maxDuration?: Duration.DurationInput | undefined
    /**
     * What is retried: `_tag`s of errors, codes of Node's errors, or a function of the exit. Rejections of this library's
     * patterns are retried only where they are named here. Defaults to every failure of the typed channel that `classify`
     * calls a failure.
     */
    readonly retryOn?: ReadonlyArray<string> | ((exit: Exit.Exit<unknown, unknown>) => boolean) | undefined
    /** What is never retried, even where `retryOn` would. Defaults to none. */
    readonly abortOn?: ReadonlyArray<string> | ((exit: Exit.Exit<unknown, unknown>) => boolean) | undefined
    /** Other strategies for errors with these `_tag`s. Defaults to none. */
    readonly strategies?: Readonly<Record<string, BackoffOptions>> | undefined
    /**
     * The delay after this exit. Without it the `retryAfter` of the error is honoured, and one beyond `maxDelay` or the
     * deadline stops. Defaults to none.
     */
    readonly delayFrom?: ((exit: Exit.Exit<unknown, unknown>, attempt: number) => Delay) | undefined
    /** What an exit means. Defaults to `classify`. */
    readonly classify?: Classify | undefined
    /** What pays for retries: options of a budget, a budget, or a tag of one. `false` turns it off. Defaults to one of its own. */
    readonly budget?:
      | false
      | RetryBudget.Options
      | RetryBudget.Service
      | Effect.Effect<RetryBudget.Service, never, B>
      | undefined
  }

  /**
   * Options for one call, whose functions know its types. What is not given is as the instance has it.
   *
   * @since 0.1.0
   * @category models
   */
  export interface ByOptions<A, E> extends BackoffOptions {
    /** As in `Options`. Defaults to the instance's. */
    readonly schedule?: Schedule.Schedule<unknown, E> | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly maxDuration?: Duration.DurationInput | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly retryOn?: ReadonlyArray<string> | ((error: E) => boolean) | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly abortOn?: ReadonlyArray<string> | ((error: E) => boolean) | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly strategies?: Readonly<Record<string, BackoffOptions>> | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly delayFrom?: ((exit: Exit.Exit<A, E>, attempt: number) => Delay) | undefined
    /** As in `Options`. Defaults to the instance's. */
    readonly classify?: ((exit: Exit.Exit<A, E>) => Outcome) | undefined
    /** Values that are retried; exhaustion is a `RetryResultRejectedError`. Defaults to none. */
    readonly retryOnResult?: ((value: A) => boolean) | undefined
    /** As in `Options`, but for a tag. Defaults to the instance's. */
    readonly budget?: false | RetryBudget.Options | RetryBudget.Service | undefined
  }

  /**
   * The guard that takes options for one call.
   *
   * @since 0.1.0
   * @category models
   */
  export interface By<out R = never> {
    <A, E1, O extends NoExcessProperties<ByOptions<NoInfer<A>, NoInfer<E1>>, O>>(
      options: O
    ): <R1>(
      effect: Effect.Effect<A, E1, R1>
    ) => Effect.Effect<
      A,
      E1 | (O extends { readonly retryOnResult: (value: never) => boolean } ? RetryResultRejectedError : never),
      R1 | R
    >
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
   * Calls, not attempts: `admitted = succeeded + failed + ignored + running`. A first attempt that is interrupted from
   * outside is not seen.
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
    readonly failedWithoutRetry: number
    readonly failedExhausted: number
    /** Retries, not counting first attempts. */
    readonly retries: number
    readonly totalDelay: Duration.Duration
    /** Calls that were given up, by reason. */
    readonly exhausted: { readonly [K in Exhaustion]: number }
    /** Tokens left in the budget, where there is one. */
    readonly budgetTokens: Option.Option<number>
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const RetryLive = Retry.Live
