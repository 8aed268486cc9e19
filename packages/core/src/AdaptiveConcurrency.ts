/**
 * An adaptive limit of how many calls run at once: it is learned from their latency and their losses, so that nobody has
 * to know what a dependency can bear, today and after the next release.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { FairQueue } from "./FairQueue.js"
import * as actions from "./internal/actions.js"
import { lettingInAtOnce } from "./internal/atOnce.js"
import { noCalls } from "./internal/calls.js"
import { errorFields, ErrorTypeId, retryAfter, stackless } from "./internal/errors.js"
import { eventFields } from "./internal/event.js"
import { fairField, shareOf } from "./internal/fair.js"
import type { Watch } from "./internal/governor.js"
import { Governor } from "./internal/governor.js"
import { classifyBy, passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import type { Instance } from "./internal/instance.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import { boundsFields } from "./internal/limits/bounds.js"
import { isLimit } from "./internal/limits/isLimit.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import { InternalError } from "./InternalError.js"
import { Limit } from "./Limit.js"
import type { Classify, Outcome } from "./Outcome.js"
import { classify } from "./Outcome.js"
import type { CallMetrics, Guard, Observable, OnLayer, TagClass } from "./Pattern.js"

const Reason = Schema.Literal("QueueFull", "WaitExceeded", "DeadlineTooClose")

/**
 * The limit did not let the call in: it was reached and the queue was full (`QueueFull`), the call's turn did not come in
 * time (`WaitExceeded`), or less was left of the ambient deadline than an idle server takes (`DeadlineTooClose`).
 *
 * @since 0.1.0
 * @category errors
 */
export class ConcurrencyLimitError
  extends Schema.TaggedError<ConcurrencyLimitError>("@effect-resilience/ConcurrencyLimitError")(
    "ConcurrencyLimitError",
    {
      ...errorFields("AdaptiveConcurrency"),
      reason: Reason,
      retryAfter,
      /** The limit when the call was turned away. */
      limit: Schema.NonNegativeInt,
      /** Calls that were running. */
      active: Schema.NonNegativeInt,
      /** Calls that were waiting. */
      waiting: Schema.NonNegativeInt
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
    return `AdaptiveConcurrency "${this.instance}" did not let the call in (${this.reason}): ` +
      `${this.active} of ${this.limit} active, ${this.waiting} waiting`
  }
}

const Event = Schema.Union(
  Schema.TaggedStruct("LimitChanged", {
    ...eventFields("AdaptiveConcurrency"),
    from: Schema.NonNegativeInt,
    to: Schema.NonNegativeInt,
    reason: Schema.String
  }),
  Schema.TaggedStruct("Rejected", {
    ...eventFields("AdaptiveConcurrency"),
    limit: Schema.NonNegativeInt,
    active: Schema.NonNegativeInt,
    reason: Reason
  }),
  InternalError
)

const named = {
  knee: Limit.knee,
  gradient2: Limit.gradient2,
  vegas: Limit.vegas,
  aimd: Limit.aimd,
  successRate: Limit.successRate
}

const algorithms = Object.keys(named).map((name) => JSON.stringify(name)).join(", ")

/** An algorithm, by its name or by itself: one whose first limit is none is refused. */
const parseAlgorithm = (input: AdaptiveConcurrency.Algorithm | Limit.Any): keyof typeof named | Limit.Any => {
  if (Predicate.isString(input) && Object.hasOwn(named, input)) return input
  try {
    const first = isLimit(input) ? input.limit(input.initial) : 0
    if (isLimit(input) && Number.isSafeInteger(first) && first >= 1) return input
  } catch {
    // refused as one that answers with nonsense
  }
  throw new option.Requirement(`one of ${algorithms}, or a Limit whose first limit is an integer of at least 1`)
}

/** The options, their defaults and what they accept. @internal */
export const adaptiveConcurrencyFields = {
  algorithm: option.field<AdaptiveConcurrency.Algorithm | Limit.Any, ReturnType<typeof parseAlgorithm>>(
    "knee",
    parseAlgorithm
  ),
  ...boundsFields,
  maxQueued: option.optional(option.integer(0, { min: 0 }), "twice the limit"),
  maxWait: option.duration("100 millis", { min: 0, infinite: true }),
  order: option.literal("adaptive", "fifo", "lifo", "adaptive"),
  fair: fairField,
  classify: option.fn<Classify>(classify, "classify")
} satisfies option.Fields<AdaptiveConcurrency.Options>

type Named = AdaptiveConcurrency.Options & { readonly name: string }

const bounds = ["initialLimit", "minLimit", "maxLimit"] as const

/** The options, with the algorithm that they describe. @internal */
export const check = (options: Named) => {
  const { algorithm: chosen, ...resolved } = option.resolve(
    "AdaptiveConcurrency",
    options.name,
    adaptiveConcurrencyFields,
    options
  )
  if (Predicate.isString(chosen)) {
    const given = Object.fromEntries(bounds.map((field) => [field, options[field]]))
    try {
      return { ...resolved, algorithm: named[chosen](given) }
    } catch (error) {
      if (!(error instanceof option.InvalidOptionError)) throw error
      const { field, requirement, value } = error
      throw new option.InvalidOptionError("AdaptiveConcurrency", options.name, field, value, requirement)
    }
  }
  for (const field of bounds) {
    if (options[field] !== undefined) {
      const absent = `absent beside an algorithm that is a Limit: it has bounds of its own`
      throw new option.InvalidOptionError("AdaptiveConcurrency", options.name, field, options[field], absent)
    }
  }
  return { ...resolved, algorithm: chosen }
}

/** Where an instance tells what happens: its events and metrics. */
const watchOf = ({ emitter, enforced, name }: Instance<AdaptiveConcurrency.Event>): Watch => {
  const labels = (more: Record<string, string> = {}) => metric.attributes("AdaptiveConcurrency", name, more)
  const count = metric.calls("AdaptiveConcurrency", name, enforced)
  const rejection = metric.rejections<AdaptiveConcurrency.Reason>("AdaptiveConcurrency", name, enforced)
  const baseline = metric.gauge(
    "resilience.adaptive.baseline",
    "The latency in seconds that is taken for that of an idle server",
    labels({ unit: "s" })
  )
  const elasticity = metric.gauge(
    "resilience.adaptive.elasticity",
    "How much of the last change in concurrency was seen in latency",
    labels()
  )
  const wait = (result: string) =>
    metric.seconds("resilience.adaptive.wait.duration", "Time in the queue, of calls that waited", labels({ result }))
  const waits = { acquired: wait("acquired"), rejected: wait("rejected"), canceled: wait("canceled") }
  // Building an error is most of what a rejection costs, and a reached limit says the same to many.
  let last: ConcurrencyLimitError | undefined
  return {
    instance: name,
    emitter,
    counted: count,
    rejected: (reason) => {
      count.rejected()
      rejection(reason)
    },
    canceled: count.canceled,
    used: metric.gauge("resilience.adaptive.in_flight", "Calls that run", labels()),
    queued: metric.gauge("resilience.adaptive.queue.depth", "Calls that wait", labels()),
    waited: (seconds, result) => waits[result](seconds),
    limited: metric.gauge("resilience.adaptive.limit", "Calls that may run at once", labels()),
    learned: (insight) => {
      if (insight.baseline !== undefined) baseline(insight.baseline / 1e3)
      if (insight.elasticity !== undefined) elasticity(insight.elasticity)
    },
    error: (reason, limit, active, waiting) =>
      last?.reason === reason && last.limit === limit && last.active === active && last.waiting === waiting ?
        last :
        (last = stackless(() =>
          new ConcurrencyLimitError(
            { instance: name, reason, retryAfter: Option.none(), limit, active, waiting },
            true
          )
        ))
  }
}

/** A limit that an operator or the program sets: nonsense is a bug of the caller. */
const limitOrDie = (name: string, limit: number): number => {
  try {
    return option.parseInteger({ min: 1, max: Number.MAX_SAFE_INTEGER })(limit)
  } catch {
    throw new option.InvalidOptionError("AdaptiveConcurrency", name, "limit", limit, "an integer of at least 1")
  }
}

const build = (options: Named, site: string): Effect.Effect<AdaptiveConcurrency.Service, never, Scope> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const { name } = options
    const instance = yield* openInstance<AdaptiveConcurrency.Event>("AdaptiveConcurrency", name)
    const seed = yield* Random.nextIntBetween(1, 2 ** 31 - 1)
    const governor = new Governor({ ...resolved, fair: resolved.fair !== undefined, seed }, watchOf(instance))
    yield* register({
      pattern: "AdaptiveConcurrency",
      instance: name,
      site,
      snapshot: governor.metrics,
      actions: { setLimit: (input) => Effect.flatMap(actions.integer(1)(input), governor.setLimit) }
    })
    const withPermitBy: AdaptiveConcurrency.PermitBy = <A, E>(args: {
      readonly key?: string | undefined
      readonly classify?: ((exit: Exit.Exit<NoInfer<A>, NoInfer<E>>) => Outcome) | undefined
    }) => {
      const { classify = resolved.classify, key } = args
      const share = shareOf("AdaptiveConcurrency", name, resolved.fair, key)
      return classifyBy((classify) => governor.withPermitBy(classify, share))<A, E>({ classify })
    }
    const service: AdaptiveConcurrency.Service = {
      name,
      withPermit: governor.withPermit,
      withPermitBy,
      acquire: governor.acquireBy(resolved.classify, undefined),
      acquireBy: ({ classify = resolved.classify, key }) =>
        Effect.suspend(() => governor.acquireBy(classify, shareOf("AdaptiveConcurrency", name, resolved.fair, key))),
      wouldAdmit: governor.wouldAdmit,
      setLimit: (limit) => Effect.suspend(() => governor.setLimit(limitOrDie(name, limit))),
      state: governor.state,
      metrics: governor.metrics,
      ...instance.observable
    }
    return lettingInAtOnce<typeof service, ConcurrencyLimitError, string | undefined>(
      service,
      (arrival, key) => governor.enterAtOnce(arrival, shareOf("AdaptiveConcurrency", name, resolved.fair, key))
    )
  })

const noState: AdaptiveConcurrency.State = {
  algorithm: "none",
  limit: Infinity,
  active: 0,
  waiting: 0,
  reason: "noop",
  baseline: undefined,
  elasticity: undefined
}

const noMetrics: AdaptiveConcurrency.Metrics = {
  ...noState,
  peak: 0,
  queueLimit: 0,
  utilization: 0,
  ...noCalls,
  totalWait: Duration.zero,
  averageWait: Duration.zero
}

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: AdaptiveConcurrency.Options
) =>
  & TagClass<
    Self,
    `@effect-resilience/AdaptiveConcurrency/${Name}`,
    AdaptiveConcurrency.Service,
    AdaptiveConcurrency.Options
  >
  & AdaptiveConcurrency.Operations<Self>
  & OnLayer<AdaptiveConcurrency.Event, Self> = makeTag<AdaptiveConcurrency.Operations, AdaptiveConcurrency.Options>({
    pattern: "AdaptiveConcurrency",
    make: build,
    check,
    noop: (name): AdaptiveConcurrency.Service => ({
      name,
      withPermit: passThrough,
      withPermitBy: () => passThrough,
      acquire: Effect.succeed({ settle: () => Effect.void }),
      acquireBy: () => Effect.succeed({ settle: () => Effect.void }),
      wouldAdmit: Effect.succeed(true),
      setLimit: () => Effect.void,
      state: Effect.succeed(noState),
      metrics: Effect.succeed(noMetrics),
      ...silent
    }),
    accessors: {
      withPermit: "guard",
      withPermitBy: "curried",
      acquire: "effect",
      acquireBy: "method",
      wouldAdmit: "effect",
      setLimit: "method",
      state: "effect",
      metrics: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

/**
 * The adaptive limiter. `AdaptiveConcurrency` is the default instance, `AdaptiveConcurrency.Tag` makes named ones.
 *
 * @example
 * import { AdaptiveConcurrency } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * class Search extends AdaptiveConcurrency.Tag<Search>()("search", { maxLimit: 200 }) {}
 *
 * const program = Effect.succeed("results").pipe(Search.withPermit, Effect.provide(Search.Live))
 *
 * @since 0.1.0
 * @category models
 */
export class AdaptiveConcurrency extends Tag<AdaptiveConcurrency>()("default") {
  /** Named instances: `class Search extends AdaptiveConcurrency.Tag<Search>()("search", { maxLimit: 200 }) {}`. */
  static readonly Tag = Tag
  /** An instance that is nobody's service. */
  static readonly make = (options: Named): Effect.Effect<AdaptiveConcurrency.Service, never, Scope> =>
    build(options, callSite())
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace AdaptiveConcurrency {
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
   * The algorithms that have a name.
   *
   * @since 0.1.0
   * @category models
   */
  export type Algorithm = "knee" | "gradient2" | "vegas" | "aimd" | "successRate"

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** How the limit is learned: by its name, or a `Limit` with options of its own. Defaults to `"knee"`. */
    readonly algorithm?: Algorithm | Limit.Any | undefined
    /** The limit to start with. Defaults to `20`. */
    readonly initialLimit?: number | undefined
    /** The limit never falls below it. Defaults to `2`. */
    readonly minLimit?: number | undefined
    /** The limit never rises above it. Defaults to `1000`. */
    readonly maxLimit?: number | undefined
    /**
     * Calls that may wait; `0` rejects at once. When the queue is full, a call of a higher ambient `Priority` pushes out
     * the newest of the lowest. Defaults to twice the limit, wherever that is.
     */
    readonly maxQueued?: number | undefined
    /** How long a call may wait, cut at the ambient `Deadline`. Defaults to `"100 millis"`. */
    readonly maxWait?: Duration.DurationInput | undefined
    /**
     * Who is next of the highest ambient `Priority` that waits: the oldest (`"fifo"`), the newest (`"lifo"`), or the
     * oldest until a queue has stood for 100 ms and the newest from then on (`"adaptive"`). Defaults to `"adaptive"`.
     */
    readonly order?: "fifo" | "lifo" | "adaptive" | undefined
    /**
     * Whether the queue is fair between keys, `withPermitBy({ key })`, so that a noisy one waits for itself: `true`, or
     * the weights of keys. `FairQueue` says what is fair. Defaults to `false`.
     */
    readonly fair?: boolean | FairQueue.Options | undefined
    /** What an exit means: a success tells its latency, a failure is a loss. Defaults to `classify`. */
    readonly classify?: ((exit: Exit.Exit<unknown, unknown>) => Outcome) | undefined
  }

  /**
   * A call that was let in. The end of the scope settles it by its exit.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Permit {
    /** Settles the call by hand and gives the permit back. What comes later, the end of the scope included, changes nothing. */
    readonly settle: (outcome: Outcome) => Effect.Effect<void>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface PermitBy<out Env = never> {
    <A, E>(args: {
      /** Whose call it is, with the option `fair`. Calls without a key share a line. */
      readonly key?: string | undefined
      /** What the exit of this call means. Defaults to the option. */
      readonly classify?: ((exit: Exit.Exit<NoInfer<A>, NoInfer<E>>) => Outcome) | undefined
    }): <R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | ConcurrencyLimitError, R | Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    /** Runs the effect with a permit, and learns from how it ends. */
    readonly withPermit: Guard<ConcurrencyLimitError, Env>
    /**
     * Runs the effect with a permit of its key's fair share; its outcome is read by a function that knows the types of its
     * exit.
     */
    readonly withPermitBy: PermitBy<Env>
    /** Holds a permit for the length of the scope, or until it is settled by hand. */
    readonly acquire: Effect.Effect<Permit, ConcurrencyLimitError, Scope | Env>
    /** The same with a permit of its key's fair share. */
    readonly acquireBy: (args: {
      /** Whose call it is, with the option `fair`. Calls without a key share a line. */
      readonly key?: string | undefined
      /** What the exit of the scope means. Defaults to the option. */
      readonly classify?: ((exit: Exit.Exit<unknown, unknown>) => Outcome) | undefined
    }) => Effect.Effect<Permit, ConcurrencyLimitError, Scope | Env>
    /** Whether a call would be let in, or may wait, now. A hint: it reserves nothing. */
    readonly wouldAdmit: Effect.Effect<boolean, never, Env>
    /**
     * Sets the limit, within the bounds of the algorithm, which goes on from there. Shrinking waits for nobody: what runs
     * goes on running.
     */
    readonly setLimit: (limit: number) => Effect.Effect<void, never, Env>
    readonly state: Effect.Effect<State, never, Env>
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
   * @category models
   */
  export interface State {
    /** The name of the algorithm. */
    readonly algorithm: string
    readonly limit: number
    /** Calls that run; above `limit` for a while after it fell. */
    readonly active: number
    readonly waiting: number
    /** Why the limit changed last. */
    readonly reason: string
    /** The latency that is taken for that of an idle server, where the algorithm knows one. */
    readonly baseline: Duration.Duration | undefined
    /** How much of the last change in concurrency was seen in latency: 0 none of it, 1 all of it. */
    readonly elasticity: number | undefined
  }

  /**
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics extends State, CallMetrics {
    /** The most calls that ran at once. */
    readonly peak: number
    readonly queueLimit: number
    /** `active / limit`. */
    readonly utilization: number
    readonly totalWait: Duration.Duration
    /** Over all admitted calls. */
    readonly averageWait: Duration.Duration
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const AdaptiveConcurrencyLive = AdaptiveConcurrency.Live
