/**
 * A timeout gives a call so long and no longer.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import { deadlineOf } from "./internal/ambient.js"
import { errorFields, ErrorTypeId, retryAfter, stackless } from "./internal/errors.js"
import { duration, eventFields } from "./internal/event.js"
import { passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import { limit } from "./internal/limit.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import type { Nanos } from "./internal/time.js"
import { clockOf, forever, fromNanos, toMillis, toNanos } from "./internal/time.js"
import { InternalError } from "./InternalError.js"
import { classify } from "./Outcome.js"
import type { Guard, Observable, OnLayer, TagClass } from "./Pattern.js"

/**
 * The call did not end within the limit of this timeout. The timeout of another instance, and whatever the call itself
 * fails with, passes through untouched.
 *
 * @since 0.1.0
 * @category errors
 */
export class TimeoutExceededError
  extends Schema.TaggedError<TimeoutExceededError>("@effect-resilience/TimeoutExceededError")("TimeoutExceededError", {
    ...errorFields("Timeout"),
    reason: Schema.Literal("LimitExceeded"),
    limit: duration,
    elapsed: duration,
    retryAfter
  })
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "failure" as const
  }
  override get message() {
    return `Timeout "${this.instance}": no answer within ${Duration.format(this.limit)}`
  }
}

const fields = eventFields("Timeout")
const Event = Schema.Union(
  Schema.TaggedStruct("CompletedInTime", { ...fields, duration, limit: duration }),
  Schema.TaggedStruct("TimedOut", {
    ...fields,
    limit: duration,
    elapsed: duration,
    /** Whose limit it was: this timeout's own, or the ambient deadline that came first. */
    by: Schema.Literal("ownLimit", "deadline")
  }),
  InternalError
)

/** The options, their defaults and what they accept. @internal */
export const timeoutFields = {
  duration: option.duration("30 seconds", { above: 0, infinite: true }),
  disconnect: option.boolean(false)
} satisfies option.Fields<Timeout.Options>

type Named = Timeout.Options & { readonly name: string }

const check = (options: Named) => option.resolve("Timeout", options.name, timeoutFields, options)

const exceeded = (instance: string, limit: Nanos, elapsed: Nanos) =>
  stackless(() =>
    new TimeoutExceededError({
      instance,
      reason: "LimitExceeded",
      limit: fromNanos(limit),
      elapsed: fromNanos(elapsed),
      retryAfter: Option.none()
    }, true)
  )

/** The limit of one call: zero or less means none. NaN is a bug of the caller. */
const limitOf = (name: string, input: Duration.DurationInput): Nanos | undefined => {
  if (typeof input === "number" ? Number.isNaN(input) : Option.isNone(Duration.decodeUnknown(input))) {
    throw new option.InvalidOptionError("Timeout", name, "duration", input, "a duration")
  }
  const span = toNanos(input)
  return span <= 0n ? undefined : span
}

/** The counters of an instance. Owned by the `Ref` that holds it. */
class Tally {
  running = 0
  succeeded = 0
  failed = 0
  ignored = 0
  timedOut = 0
  totalTime: Nanos = 0n
}

const build = (options: Named, site: string): Effect.Effect<Timeout.Service, never, Scope> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const { name } = options
    const { emitter, observable } = yield* openInstance<Timeout.Event>("Timeout", name)
    const count = metric.calls("Timeout", name)
    const ref = yield* Ref.make(new Tally())
    const tally = yield* Ref.get(ref)

    const guard = (span: Nanos): Guard<TimeoutExceededError> => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.withFiberRuntime<A, E | TimeoutExceededError, R>((fiber) => {
        const clock = clockOf(fiber)
        const start = clock.unsafeCurrentTimeNanos()
        const at = span >= forever ? forever : start + span
        const call = emitter.listening ? emitter.call() : undefined
        let timedOut = false
        const onStart = () => {
          tally.running++
        }
        const onEnd = (exit: Exit.Exit<A, E | TimeoutExceededError>) => {
          const end = clock.unsafeCurrentTimeNanos()
          const outcome = timedOut ? "timedOut" : settled[classify(exit)]
          tally.running--
          tally[outcome]++
          tally.totalTime += end - start
          count[metered[outcome]]()
          if (call === undefined || !emitter.listening) return
          const ambient = deadlineOf(fiber)
          const late = exit._tag === "Failure" && Cause.isInterrupted(exit.cause) && ambient !== undefined &&
            ambient.at <= end
          const limit = fromNanos(span)
          const took = fromNanos(end - start)
          if (timedOut) emitter.emit({ _tag: "TimedOut", ...call, limit, elapsed: took, by: "ownLimit" })
          else if (late) emitter.emit({ _tag: "TimedOut", ...call, limit, elapsed: took, by: "deadline" })
          else emitter.emit({ _tag: "CompletedInTime", ...call, duration: took, limit })
        }
        return limit<A, E, R, TimeoutExceededError>(effect, {
          span,
          instant: { at, origin: "own" },
          disconnect: resolved.disconnect,
          onExpired: (elapsed) => {
            timedOut = true
            return exceeded(name, span, elapsed)
          },
          onStart,
          onEnd
        })
      })

    const metrics: Effect.Effect<Timeout.Metrics> = Effect.map(Ref.get(ref), ({ totalTime, ...s }) => {
      const ended = s.succeeded + s.failed + s.ignored
      return {
        limit: resolved.duration,
        offered: ended + s.timedOut + s.running,
        admitted: ended + s.timedOut + s.running,
        rejected: 0,
        ...s,
        failed: s.failed + s.timedOut,
        totalTime: fromNanos(totalTime),
        averageTime: ended + s.timedOut === 0
          ? Duration.zero
          : Duration.millis(toMillis(totalTime) / (ended + s.timedOut)),
        timeoutRate: ended + s.timedOut === 0 ? 0 : s.timedOut / (ended + s.timedOut)
      }
    })
    yield* register({ pattern: "Timeout", instance: name, site, snapshot: metrics, actions: {} })
    return {
      name,
      withTimeout: guard(toNanos(resolved.duration)),
      withTimeoutBy: (duration) => {
        const span = limitOf(name, duration)
        return span === undefined ? passThrough : guard(span)
      },
      metrics,
      ...observable
    }
  })

const settled = { success: "succeeded", failure: "failed", ignored: "ignored" } as const
const metered = { succeeded: "success", failed: "failure", ignored: "ignored", timedOut: "timeout" } as const

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: Timeout.Options
) =>
  & TagClass<Self, `@effect-resilience/Timeout/${Name}`, Timeout.Service, Timeout.Options>
  & Timeout.Operations<Self>
  & OnLayer<Timeout.Event, Self> = makeTag<Timeout.Operations, Timeout.Options>({
    pattern: "Timeout",
    make: build,
    check,
    noop: (name): Timeout.Service => ({
      name,
      withTimeout: passThrough,
      withTimeoutBy: () => passThrough,
      metrics: Effect.succeed({
        limit: Duration.infinity,
        offered: 0,
        admitted: 0,
        rejected: 0,
        succeeded: 0,
        failed: 0,
        ignored: 0,
        running: 0,
        timedOut: 0,
        totalTime: Duration.zero,
        averageTime: Duration.zero,
        timeoutRate: 0
      }),
      ...silent
    }),
    accessors: {
      withTimeout: "guard",
      withTimeoutBy: "curried",
      metrics: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

/**
 * The timeout. `Timeout` is the default instance, `Timeout.Tag` makes named ones, `Timeout.within` needs no layer.
 *
 * @example
 * import { Timeout } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.sleep("1 minute").pipe(Timeout.within("5 seconds"))
 *
 * @since 0.1.0
 * @category models
 */
export class Timeout extends Tag<Timeout>()("default") {
  /** Named instances: `class Slow extends Timeout.Tag<Slow>()("slow", { duration: "2 minutes" }) {}`. */
  static readonly Tag = Tag
  /** An instance that is nobody's service. */
  static readonly make = (options: Named): Effect.Effect<Timeout.Service, never, Scope> => build(options, callSite())
  /** For one-off use: no layer, no events, no metrics. Zero or less means no limit. */
  static readonly within = (
    duration: Duration.DurationInput,
    options?: { readonly disconnect?: boolean | undefined }
  ): Guard<TimeoutExceededError> => {
    const span = limitOf("within", duration)
    const disconnect = options?.disconnect ?? false
    return span === undefined ? passThrough : (effect) =>
      Effect.withFiberRuntime((fiber) => {
        const start = clockOf(fiber).unsafeCurrentTimeNanos()
        const at = span >= forever ? forever : start + span
        return limit(effect, {
          span,
          instant: { at, origin: "own" },
          disconnect,
          onExpired: (elapsed) => exceeded("within", span, elapsed)
        })
      })
  }
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace Timeout {
  /**
   * @since 0.1.0
   * @category events
   */
  export type Event = typeof Event.Type

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** How long a call may take, above 0. Defaults to `"30 seconds"`. */
    readonly duration?: Duration.DurationInput | undefined
    /**
     * Answers on time even when the call cannot be interrupted: it is left to end in the background. Otherwise the call's
     * finalizers are waited for, and a call that answers all the same keeps its answer. Defaults to `false`.
     */
    readonly disconnect?: boolean | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    /** Limits a call, and tightens the ambient `Deadline` that what runs inside can read. */
    readonly withTimeout: Guard<TimeoutExceededError, Env>
    /** Limits a call by a limit of its own; zero or less means none. */
    readonly withTimeoutBy: (duration: Duration.DurationInput) => Guard<TimeoutExceededError, Env>
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
   * `admitted = succeeded + failed + ignored + running`; `timedOut` is a part of `failed`.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    readonly limit: Duration.Duration
    readonly offered: number
    readonly admitted: number
    readonly rejected: number
    readonly succeeded: number
    readonly failed: number
    readonly ignored: number
    readonly running: number
    readonly timedOut: number
    readonly totalTime: Duration.Duration
    readonly averageTime: Duration.Duration
    /** `timedOut` of the calls that ended. */
    readonly timeoutRate: number
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const TimeoutLive = Timeout.Live
