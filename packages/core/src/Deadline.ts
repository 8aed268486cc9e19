/**
 * A deadline is one point in time for everything that happens inside a region: waits are cut at it, nothing starts after
 * it, and what still runs then is interrupted.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { deadlineKey, deadlineOf, Region } from "./internal/ambient.js"
import { errorFields, ErrorTypeId, retryAfter, stackless } from "./internal/errors.js"
import { limit } from "./internal/limit.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import type { Nanos } from "./internal/time.js"
import { clockOf, forever, fromNanos, toNanos } from "./internal/time.js"
import type { Guard } from "./Pattern.js"

const Origin = Schema.Literal("own", "caller")

/**
 * The ambient deadline had passed before the effect began (`Expired`), or passed while it ran (`Exceeded`).
 *
 * Only a deadline of our own that passes while a call runs counts against the dependency: what a caller imposes says
 * nothing about it.
 *
 * @since 0.1.0
 * @category errors
 */
export class DeadlineExceededError
  extends Schema.TaggedError<DeadlineExceededError>("@effect-resilience/DeadlineExceededError")(
    "DeadlineExceededError",
    {
      ...errorFields("Deadline"),
      reason: Schema.Literal("Expired", "Exceeded"),
      /** Who set it. */
      origin: Origin,
      retryAfter
    }
  )
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return this.origin === "own" && this.reason === "Exceeded" ? "failure" as const : "rejection" as const
  }
  override get message() {
    return this.reason === "Expired"
      ? "The deadline had passed before the effect began"
      : "The deadline passed while the effect ran"
  }
}

const failures = metric.rejections<DeadlineExceededError["reason"]>("Deadline", "ambient")

const exceeded = (reason: DeadlineExceededError["reason"], origin: Deadline.Origin) => {
  failures(reason)
  return stackless(() =>
    new DeadlineExceededError({ instance: "ambient", reason, origin, retryAfter: Option.none() }, true)
  )
}

/** Runs the effect with this deadline. The ambient one goes on, and ends the effect where it comes first. */
const enforce = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  instantAt: (now: Nanos, nowMillis: number) => Deadline.Instant
): Effect.Effect<A, E | DeadlineExceededError, R> =>
  Effect.withFiberRuntime<A, E | DeadlineExceededError, R>((fiber) => {
    const clock = clockOf(fiber)
    const now = clock.unsafeCurrentTimeNanos()
    const ambient = deadlineOf(fiber)
    const own = instantAt(now, clock.unsafeCurrentTimeMillis())
    const first = ambient !== undefined && ambient.at <= own.at ? ambient : own
    if (first.at <= now) return Exit.fail(exceeded("Expired", first.origin))
    // One that is only told, and stands in no region, is enforced by nobody else.
    const end = ambient instanceof Region ? own : first
    return limit(effect, {
      span: end.at >= forever ? forever : end.at - now,
      instant: end,
      disconnect: false,
      onExpired: () => exceeded("Exceeded", end.origin)
    })
  })

const parseLimit = (duration: Duration.DurationInput): Nanos => {
  try {
    return toNanos(option.parseDuration({ min: 0, infinite: true })(duration))
  } catch (error) {
    if (!(error instanceof option.Requirement)) throw error
    throw new option.InvalidOptionError("Deadline", "ambient", "duration", duration, error.text)
  }
}

const reach = (now: Nanos, span: Nanos): Nanos => span >= forever ? forever : now + span

/**
 * The ambient deadline. Reading it needs no layer.
 *
 * @example
 * import { Deadline } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * const step = Effect.flatMap(Deadline.remaining, Effect.log)
 *
 * // one deadline around two calls in a row
 * const both = Effect.zipRight(step, step).pipe(Deadline.within("2 seconds"))
 *
 * @since 0.1.0
 * @category references
 */
export class Deadline extends Context.Reference<Deadline>()(deadlineKey, {
  defaultValue: (): Deadline.Instant | undefined => undefined
}) {
  /**
   * Gives the effect this long. A deadline that stands already and comes first stays: deadlines only get tighter.
   * `origin` says who set it; a caller's deadline never counts against a dependency. Defaults to `"own"`.
   */
  static readonly within = (
    duration: Duration.DurationInput,
    options?: { readonly origin?: Deadline.Origin | undefined }
  ): Guard<DeadlineExceededError> => {
    const span = parseLimit(duration)
    const origin = options?.origin ?? "own"
    return (effect) => enforce(effect, (now) => ({ at: reach(now, span), origin }))
  }

  /**
   * Gives the effect until this instant, which several fibers may share. A `Date` is read by the wall clock once, when
   * the effect starts.
   */
  static readonly at = (
    instant: Deadline.Instant | Date,
    options?: { readonly origin?: Deadline.Origin | undefined }
  ): Guard<DeadlineExceededError> =>
  (effect) =>
    enforce(effect, (now, nowMillis) => {
      if (!(instant instanceof Date)) return instant
      const left = instant.getTime() - nowMillis
      if (Number.isNaN(left)) {
        throw new option.InvalidOptionError("Deadline", "ambient", "instant", String(instant), "a valid date")
      }
      return { at: now + BigInt(Math.ceil(left * 1e6)), origin: options?.origin ?? "own" }
    })

  /** The instant that is this long from now: a value to share between fibers. */
  static readonly after = (
    duration: Duration.DurationInput,
    options?: { readonly origin?: Deadline.Origin | undefined }
  ): Effect.Effect<Deadline.Instant> =>
    Effect.withFiberRuntime((fiber) =>
      Effect.succeed({
        at: reach(clockOf(fiber).unsafeCurrentTimeNanos(), parseLimit(duration)),
        origin: options?.origin ?? "own"
      })
    )

  /** The ambient deadline, if there is one. */
  static readonly current: Effect.Effect<Option.Option<Deadline.Instant>> = Effect.withFiberRuntime((fiber) =>
    Effect.succeed(Option.map(Option.fromNullable(deadlineOf(fiber)), ({ at, origin }) => ({ at, origin })))
  )

  /** Time left until the ambient deadline, zero when it has passed; none where there is no deadline. */
  static readonly remaining: Effect.Effect<Option.Option<Duration.Duration>> = Effect.withFiberRuntime((fiber) => {
    const instant = deadlineOf(fiber)
    if (instant === undefined) return Effect.succeedNone
    const left = instant.at >= forever ? forever : instant.at - clockOf(fiber).unsafeCurrentTimeNanos()
    return Effect.succeedSome(fromNanos(left))
  })
}

/**
 * @since 0.1.0
 */
export declare namespace Deadline {
  /**
   * @since 0.1.0
   * @category models
   */
  export type Origin = typeof Origin.Type

  /**
   * An absolute point of the monotonic clock of this process, and who set it: `"own"` code, or the `"caller"` of this
   * service.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Instant {
    /** Nanoseconds of the `Clock`. */
    readonly at: bigint
    readonly origin: Origin
  }
}
