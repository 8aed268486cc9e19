/**
 * Backpressure slows producers down before there is too much to do: above a high mark newcomers wait, until what is
 * pending has fallen to a low one.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import { deadlineOf } from "./internal/ambient.js"
import { callMetrics, noCalls } from "./internal/calls.js"
import { errorFields, ErrorTypeId, retryAfter, stackless } from "./internal/errors.js"
import { eventFields } from "./internal/event.js"
import type { Handlers, Restore } from "./internal/guard.js"
import { hold, onClose, passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import type { Nanos } from "./internal/time.js"
import { now, toNanos, toSeconds } from "./internal/time.js"
import { schedule } from "./internal/timer.js"
import { Turn, waitInLine } from "./internal/waiting.js"
import type { Waiter } from "./internal/watermark.js"
import { Watermark } from "./internal/watermark.js"
import { InternalError } from "./InternalError.js"
import type { Outcome } from "./Outcome.js"
import { classify } from "./Outcome.js"
import type { CallMetrics, Guard, Observable, OnLayer, TagClass } from "./Pattern.js"

const Reason = Schema.Literal("Full", "WaitExceeded", "DeadlineTooClose")

/**
 * The item was not let in: there was no place left to wait (`Full`, for a producer too), the low mark was not reached in
 * time (`WaitExceeded`), or the ambient deadline came first (`DeadlineTooClose`).
 *
 * @since 0.1.0
 * @category errors
 */
export class BackpressureError
  extends Schema.TaggedError<BackpressureError>("@effect-resilience/BackpressureError")("BackpressureError", {
    ...errorFields("Backpressure"),
    reason: Reason,
    retryAfter,
    /** Items that were in process. */
    pending: Schema.NonNegativeInt,
    /** Items that waited to be let in. */
    waiting: Schema.NonNegativeInt
  })
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "rejection" as const
  }
  override get message() {
    return `Backpressure "${this.instance}" did not let the item in (${this.reason}): ` +
      `${this.pending} pending, ${this.waiting} waiting`
  }
}

const fields = {
  ...eventFields("Backpressure"),
  pending: Schema.NonNegativeInt
}
const Event = Schema.Union(
  Schema.TaggedStruct("HighWaterReached", fields),
  Schema.TaggedStruct("LowWaterReached", fields),
  Schema.TaggedStruct("Rejected", { ...fields, waiting: Schema.NonNegativeInt, reason: Reason }),
  InternalError
)

const count = (min: number) => option.integer(min, { min })

/** The options, their defaults and what they accept. @internal */
export const backpressureFields = {
  maxPending: option.integer(1000, { min: 1 }),
  highWaterMark: option.optional(count(1), "4/5 of maxPending"),
  lowWaterMark: option.optional(count(0), "1/4 of highWaterMark"),
  maxWait: option.duration("5 seconds", { min: 0, infinite: true }),
  maxWaiters: option.optional(count(0), "maxPending")
} satisfies option.Fields<Backpressure.Options>

type Named = Backpressure.Options & { readonly name: string }

/** The marks must lie in their order; those that are not given lie where they should. @internal */
export const check = (options: Named) => {
  const { name } = options
  const given = option.resolve("Backpressure", name, backpressureFields, options)
  const { maxPending, maxWaiters = maxPending } = given
  const { highWaterMark = Math.ceil(maxPending * 0.8) } = given
  const { lowWaterMark = Math.floor(highWaterMark / 4) } = given
  const refuse = (field: string, value: number, most: string) => {
    throw new option.InvalidOptionError("Backpressure", name, field, value, `at most ${most}`)
  }
  if (highWaterMark > maxPending) refuse("highWaterMark", highWaterMark, `maxPending (${maxPending})`)
  if (lowWaterMark > highWaterMark) refuse("lowWaterMark", lowWaterMark, `highWaterMark (${highWaterMark})`)
  return { ...given, highWaterMark, lowWaterMark, maxWaiters }
}

const parseWait = option.parseDuration({ min: 0, infinite: true })

/** The longest wait of a call: nonsense is a bug of the caller. */
const waitOrDie = (name: string, maxWait: Duration.DurationInput): Nanos => {
  try {
    return toNanos(parseWait(maxWait))
  } catch {
    throw new option.InvalidOptionError("Backpressure", name, "maxWait", maxWait, "a duration of at least 0 ms")
  }
}

/** How long a place is kept for a producer that went on out of the line, and has sent nothing yet. */
const expectedFor = toNanos("100 millis")

/** An item in line, or a producer. */
class Place extends Turn<true | Backpressure.Reason> implements Waiter {
  place: Waiter["place"] = "Waiting"
  ticket = 0
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  constructor(readonly isProducer: boolean) {
    super()
  }
  readonly admit = (): void => this.decide(true)
}

const build = (options: Named, site: string): Effect.Effect<Backpressure.Service, never, Scope> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const { name } = options
    const instance = yield* openInstance<Backpressure.Event>("Backpressure", name)
    const { emitter } = instance
    const clock = yield* Effect.clock
    const ended = { success: 0, failure: 0, ignored: 0 }
    let running = 0
    let rejected = 0
    let canceled = 0

    const labels = metric.attributes("Backpressure", name)
    const counted = metric.calls("Backpressure", name, instance.enforced)
    const rejection = metric.rejections<Backpressure.Reason>("Backpressure", name, instance.enforced)
    const pending = metric.gauge("resilience.backpressure.pending", "Items in process", labels)
    const waiting = metric.gauge("resilience.backpressure.waiting", "Items that wait to be let in", labels)
    const active = metric.gauge("resilience.backpressure.active", "1 while newcomers wait", labels)
    const wait = (result: string) =>
      metric.seconds(
        "resilience.backpressure.wait.duration",
        "Time in line, of items that waited",
        metric.attributes("Backpressure", name, { result })
      )
    const waits = { acquired: wait("acquired"), rejected: wait("rejected"), canceled: wait("canceled") }

    const water = new Watermark(
      resolved.maxPending,
      resolved.highWaterMark,
      resolved.lowWaterMark,
      resolved.maxWaiters,
      (high) => {
        active(high ? 1 : 0)
        if (emitter.listening) {
          emitter.emit({ _tag: high ? "HighWaterReached" : "LowWaterReached", pending: water.pending })
        }
      }
    )
    active(0)
    waiting(0)
    const state = yield* Ref.make(water)
    const read = Ref.get(state)

    // Building an error is most of what a rejection costs, and a full house says the same to everybody.
    let last: BackpressureError | undefined
    const errorOf = (reason: Backpressure.Reason, { pending, waiting }: Watermark): BackpressureError =>
      last?.reason === reason && last.pending === pending && last.waiting === waiting ?
        last :
        (last = stackless(() =>
          new BackpressureError({ instance: name, reason, retryAfter: Option.none(), pending, waiting }, true)
        ))
    const refuse = (water: Watermark, reason: Backpressure.Reason): Exit.Exit<never, BackpressureError> => {
      rejected++
      counted.rejected()
      rejection(reason)
      if (emitter.listening) {
        const { pending, waiting } = water
        emitter.emit({ _tag: "Rejected", ...emitter.call(), reason, pending, waiting })
      }
      return Exit.fail(errorOf(reason, water))
    }
    // They may have had nothing to send after all.
    let stopForgetting: (() => void) | undefined
    const forget = () => {
      stopForgetting = undefined
      water.forget()
      show(water)
    }
    // The line is empty most of the time: a gauge is set where it changes.
    let shown = 0
    const show = (water: Watermark) => {
      pending(water.pending)
      if (water.waiting !== shown) waiting(shown = water.waiting)
      // Producers wait at a low state only for what others of them were let on to send.
      if (water.high || water.producers === 0) {
        stopForgetting?.()
        stopForgetting = undefined
      } else if (stopForgetting === undefined) stopForgetting = schedule(clock, expectedFor, forget)
    }
    const entered = (water: Watermark) => {
      running++
      show(water)
    }
    const leave = (water: Watermark, outcome: Outcome) => {
      water.release()
      running--
      ended[outcome]++
      counted[outcome]()
      show(water)
    }

    /** Lets an item in, or has it wait under `restore`. Uninterruptible. */
    const enter = <A, E, R>(
      maxWait: Nanos,
      restore: Restore,
      onEntered: () => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | BackpressureError, R> =>
      Effect.flatMap(read, (water) => {
        const fiber = Fiber.getCurrentFiber()
        const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
        if (deadline !== undefined && deadline.at <= now()) return refuse(water, "DeadlineTooClose")
        if (water.take()) {
          entered(water)
          return onEntered()
        }
        if (fiber._tag === "None" || !water.hasPlace) return refuse(water, "Full")
        if (maxWait === 0n) return refuse(water, "WaitExceeded")
        const place = new Place(false)
        water.enqueue(place)
        show(water)
        const leaveLine = () => {
          water.abandon(place)
          show(water)
        }
        return waitInLine(fiber.value, maxWait, place, restore, {
          expired: (byDeadline) => {
            water.abandon(place)
            return byDeadline ? "DeadlineTooClose" : "WaitExceeded"
          },
          decided: (verdict, waited, late): Effect.Effect<A, E | BackpressureError, R> => {
            const reason = verdict === true && late ? "DeadlineTooClose" : verdict
            waits[reason === true ? "acquired" : "rejected"](toSeconds(waited))
            if (reason === true) {
              entered(water)
              return onEntered()
            }
            leaveLine()
            return refuse(water, reason)
          },
          interrupted: (waited) => {
            leaveLine()
            canceled++
            counted.canceled()
            waits.canceled(toSeconds(waited))
          }
        })
      })

    const handlers: Handlers = {
      onSuccess: (value) =>
        Effect.map(read, (water) => {
          leave(water, "success")
          return value
        }),
      onFailure: (cause) =>
        Effect.flatMap(read, (water) => {
          const exit = Exit.failCause(cause)
          leave(water, classify(exit))
          return exit
        })
    }
    const withBackpressure = (maxWait: Nanos): Guard<BackpressureError> =>
      hold<BackpressureError>((restore, run) => enter(maxWait, restore, () => run(handlers)))

    const maxWait = toNanos(resolved.maxWait)
    const ready = Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(read, (water): Effect.Effect<void, BackpressureError> => {
        if (water.isOpen) return Effect.void
        const place = new Place(true)
        if (!water.enqueue(place)) return refuse(water, "Full")
        show(water)
        return Effect.onError(restore(Effect.asVoid(place.await)), () =>
          Effect.sync(() => {
            water.abandon(place)
            show(water)
          }))
      })
    )
    const metrics = Effect.map(read, (water): Backpressure.Metrics => {
      return {
        state: water.high ? "high" : "low",
        pending: water.pending,
        peak: water.peak,
        waiting: water.waiting,
        producers: water.producers,
        limit: water.maxPending,
        highWaterMark: water.highWaterMark,
        lowWaterMark: water.lowWaterMark,
        utilization: water.pending / water.maxPending,
        ...callMetrics({
          succeeded: ended.success,
          failed: ended.failure,
          ignored: ended.ignored,
          running,
          rejected,
          canceled
        })
      }
    })
    yield* register({ pattern: "Backpressure", instance: name, site, snapshot: metrics, actions: {} })
    return {
      name,
      withBackpressure: withBackpressure(maxWait),
      withBackpressureBy: ({ maxWait }) => withBackpressure(waitOrDie(name, maxWait)),
      acquire: Effect.uninterruptibleMask((restore) =>
        Effect.zipRight(
          enter(maxWait, restore, () => Effect.void),
          onClose((exit) => Effect.map(read, (water) => leave(water, classify(exit))))
        )
      ),
      gate: (stream) => Stream.tap(stream, () => ready),
      ready,
      state: Effect.map(read, ({ high }) => high ? "high" : "low"),
      metrics,
      ...instance.observable
    }
  })

const noMetrics: Backpressure.Metrics = {
  state: "low",
  pending: 0,
  peak: 0,
  waiting: 0,
  producers: 0,
  limit: Infinity,
  highWaterMark: Infinity,
  lowWaterMark: Infinity,
  utilization: 0,
  ...noCalls
}

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: Backpressure.Options
) =>
  & TagClass<Self, `@effect-resilience/Backpressure/${Name}`, Backpressure.Service, Backpressure.Options>
  & Backpressure.Operations<Self>
  & OnLayer<Backpressure.Event, Self> = makeTag<Backpressure.Operations, Backpressure.Options>({
    pattern: "Backpressure",
    make: build,
    check,
    noop: (name): Backpressure.Service => ({
      name,
      withBackpressure: passThrough,
      withBackpressureBy: () => passThrough,
      acquire: Effect.void,
      gate: (stream) => stream,
      ready: Effect.void,
      state: Effect.succeed("low"),
      metrics: Effect.succeed(noMetrics),
      ...silent
    }),
    accessors: {
      withBackpressure: "guard",
      withBackpressureBy: "curried",
      acquire: "effect",
      gate: "operator",
      ready: "effect",
      state: "effect",
      metrics: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

/**
 * Backpressure. `Backpressure` is the default instance, `Backpressure.Tag` makes named ones.
 *
 * @example
 * import { Backpressure } from "@effect-resilience/core"
 * import { Effect, Stream } from "effect"
 *
 * class Orders extends Backpressure.Tag<Orders>()("orders", { maxPending: 10, maxWait: Infinity }) {}
 *
 * declare const handle: (order: number) => Effect.Effect<void>
 *
 * // in front of a call
 * const one = handle(1).pipe(Orders.withBackpressure)
 *
 * // before a producer goes on, and in front of each of its items
 * const all = Stream.range(1, 1000).pipe(
 *   Orders.gate,
 *   Stream.mapEffect((order) => handle(order).pipe(Orders.withBackpressure), { concurrency: 50 }),
 *   Stream.runDrain
 * )
 *
 * @since 0.1.0
 * @category models
 */
export class Backpressure extends Tag<Backpressure>()("default") {
  /** Named instances: `class Orders extends Backpressure.Tag<Orders>()("orders", { maxPending: 100 }) {}`. */
  static readonly Tag = Tag
  /** An instance that is nobody's service. */
  static readonly make = (options: Named): Effect.Effect<Backpressure.Service, never, Scope> =>
    build(options, callSite())
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace Backpressure {
  /**
   * @since 0.1.0
   * @category models
   */
  export type Reason = typeof Reason.Type

  /**
   * `"high"` from the high mark on, until the low one is reached.
   *
   * @since 0.1.0
   * @category models
   */
  export type State = "low" | "high"

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
    /** Items here at once, those that wait to be let in included. At least 1. Defaults to `1000`. */
    readonly maxPending?: number | undefined
    /** Items in process from which on newcomers wait. Defaults to four fifths of `maxPending`: `800`. */
    readonly highWaterMark?: number | undefined
    /** Items in process at which those that wait are let in. Defaults to a quarter of `highWaterMark`: `200`. */
    readonly lowWaterMark?: number | undefined
    /**
     * How long an item may wait, cut at the ambient `Deadline`; `0` rejects at once, `Infinity` waits without an end.
     * Defaults to `"5 seconds"`.
     */
    readonly maxWait?: Duration.DurationInput | undefined
    /**
     * Items that may wait, and producers that may, each. Defaults to `maxPending`, which bounds the items in any case.
     */
    readonly maxWaiters?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    /** Runs the effect as an item. */
    readonly withBackpressure: Guard<BackpressureError, Env>
    /** Runs the effect as an item that may wait for so long. */
    readonly withBackpressureBy: (args: { readonly maxWait: Duration.DurationInput }) => Guard<BackpressureError, Env>
    /** Lets an item in for the length of the scope: for items whose processing ends elsewhere. */
    readonly acquire: Effect.Effect<void, BackpressureError, Scope | Env>
    /**
     * Passes each element of a stream on as `ready` lets a producer go on. It counts nothing: those that process do.
     */
    readonly gate: <A, E, R>(stream: Stream.Stream<A, E, R>) => Stream.Stream<A, E | BackpressureError, R | Env>
    /**
     * Waits until the state is low and its turn has come, for a producer that is to offer something then. It takes no
     * place, but of those that wait only as many go on as there is room for below the high mark, in their order among all
     * that wait; the next follow where an item ends, or where those before them have sent nothing for 100 ms. It waits
     * without an end, and fails with `Full` where `maxWaiters` producers wait already.
     */
    readonly ready: Effect.Effect<void, BackpressureError, Env>
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
   * @category metrics
   */
  export interface Metrics extends CallMetrics {
    readonly state: State
    /** Items in process. */
    readonly pending: number
    /** The most items that were in process at once. */
    readonly peak: number
    /** Items that wait to be let in. */
    readonly waiting: number
    /** Producers that wait to go on. */
    readonly producers: number
    /** `maxPending`. */
    readonly limit: number
    readonly highWaterMark: number
    readonly lowWaterMark: number
    /** `pending / limit`. */
    readonly utilization: number
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const BackpressureLive = Backpressure.Live
