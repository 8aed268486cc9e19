/**
 * Events as log records. Without this layer the library is silent, but for warnings about its own helpers.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as LogLevel from "effect/LogLevel"
import * as Predicate from "effect/Predicate"
import { EventBus } from "./EventBus.js"
import { each, Emitter } from "./internal/hub.js"
import type { ResilienceEvent } from "./ResilienceEvent.js"

/** The level of an event: what an operator wants to see at night is a warning, what happens per call is debug or less. */
const defaultLevel = (event: ResilienceEvent): LogLevel.LogLevel => {
  switch (event._tag) {
    case "StateChanged":
      return event.to === "Closed" ? LogLevel.Info : LogLevel.Warning
    case "FleetChanged":
      return event.state === "Closed" ? LogLevel.Info : LogLevel.Warning
    case "RetryExhausted":
      // A failure that is not retried is its caller's business: an open circuit would be a warning per call.
      return event.reason === "Aborted" ? LogLevel.Debug : LogLevel.Warning
    case "LevelChanged":
      return event.to === "normal" ? LogLevel.Info : LogLevel.Warning
    case "InternalError":
    case "FallbackExhausted":
    case "WouldHaveTripped":
    case "TimedOut":
    case "HighWaterReached":
    case "LeaseLost":
    case "OperatorAction":
      return LogLevel.Warning
    case "LowWaterReached":
    case "Rejected":
    case "CallRejected":
    case "Shed":
    case "FallbackUsed":
    case "Exceeded":
    case "LimitChanged":
    case "Resized":
    case "Reset":
      return LogLevel.Info
    case "RetryScheduled":
    case "RetrySucceeded":
    case "CallFailed":
    case "CallIgnored":
      return LogLevel.Debug
    case "Accepted":
    case "Allowed":
    case "CallSucceeded":
    case "CompletedInTime":
    case "PermitAcquired":
    case "PermitReleased":
      return LogLevel.Trace
  }
}

/** What failed, where an event tells of a failure; of several failures, in their order. */
const causeOf = (event: ResilienceEvent): Cause.Cause<unknown> => {
  if (Predicate.hasProperty(event, "error")) return Cause.fail(event.error)
  if (!Predicate.hasProperty(event, "errors")) return Cause.empty
  return event.errors.map((error): Cause.Cause<unknown> => Cause.fail(error)).reduce(Cause.sequential, Cause.empty)
}

const recordOf = (event: ResilienceEvent, options: EventLog.Options | undefined): EventLog.Record => {
  const { _tag, error: _error, errors: _errors, instance, pattern, timestamp, ...fields } = {
    error: undefined,
    errors: undefined,
    ...event
  }
  const shown = Object.entries(fields).flatMap(([key, value]) =>
    value === undefined ? [] : [[key, Duration.isDuration(value) ? Duration.toMillis(value) : value]]
  )
  const level = options?.level
  return {
    level: level === undefined ? defaultLevel(event) : Predicate.isFunction(level) ? level(event) : level,
    message: `${pattern} "${instance}": ${_tag}`,
    timestamp,
    annotations: {
      "resilience.pattern": pattern,
      "resilience.name": instance,
      "resilience.event": _tag,
      ...Object.fromEntries(shown),
      ...options?.annotations
    },
    event
  }
}

/** How long closing waits for a slow sink. */
const patience = Duration.seconds(5)

/**
 * Runs `write` for each event of the bus, in order. What is still queued when the layer closes is written first, by a
 * sink that takes no longer than `patience` for it.
 */
const follow = <R>(
  options: EventLog.Options | undefined,
  write: (record: EventLog.Record, cause: Cause.Cause<unknown>) => Effect.Effect<unknown, unknown, R>
): Layer.Layer<never, never, EventBus | R> =>
  Layer.scopedDiscard(Effect.gen(function*() {
    const bus = yield* EventBus
    const { drained, inbox } = yield* bus.hub.open
    const emitter = new Emitter<ResilienceEvent>("EventLog", "default", bus.hub, undefined)
    const one = (event: ResilienceEvent) =>
      Effect.suspend(() => {
        if (options?.filter?.(event) === false) return Effect.void
        const record = recordOf(event, options)
        return record.level === LogLevel.None ? Effect.void : write(record, causeOf(event))
      }).pipe(
        Effect.exit,
        Effect.flatMap((exit) =>
          Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause)
            ? Effect.void
            : emitter.subscriberFailed(Cause.squash(exit.cause), event)
        )
      )
    const context = yield* Effect.context<R>()
    // Nobody interrupts this before the end: what was taken from the queue is written, and the queue's end ends it.
    const writing = Effect.interruptible(each(inbox, one))
    const flush = (writer: Fiber.Fiber<void>) =>
      Effect.gen(function*() {
        yield* drained
        // Where the bus has ended, the writer takes what is left.
        const rest = (yield* inbox.isShutdown) ? [] : yield* inbox.takeAll
        yield* inbox.shutdown
        yield* Fiber.await(writer)
        yield* Effect.forEach(rest, one, { discard: true })
      })
    yield* Effect.acquireRelease(Effect.forkDaemon(writing), (writer) =>
      Effect.interruptible(flush(writer)).pipe(
        Effect.timeoutOption(patience),
        Effect.zipRight(Fiber.interrupt(writer)),
        Effect.provide(context)
      ))
  }))

/** One record of the log per event, by Effect's `Logger`. */
const layer = (options?: EventLog.Options): Layer.Layer<never, never, EventBus> =>
  follow(options, (record, cause) => {
    const log = Cause.isEmpty(cause)
      ? Effect.logWithLevel(record.level, record.message)
      : Effect.logWithLevel(record.level, record.message, cause)
    return Effect.annotateLogs(log, record.annotations)
  })

/**
 * One call of `sink` per event, for any other logger. A sink that fails is reported, and goes on with the next event.
 * When the layer closes, the sink gets what is still queued, for five seconds at most.
 */
const layerSink = <E, R>(
  sink: (record: EventLog.Record, cause: Cause.Cause<unknown>) => Effect.Effect<unknown, E, R>,
  options?: EventLog.Options
): Layer.Layer<never, never, EventBus | R> => follow(options, sink)

/**
 * Turns the events of the `EventBus` into log records.
 *
 * @example
 * import { EventLog, ResilienceLive } from "@effect-resilience/core"
 * import { Layer } from "effect"
 *
 * const Observed = EventLog.layer({ filter: (event) => event.pattern !== "Timeout" }).pipe(
 *   Layer.provideMerge(ResilienceLive)
 * )
 *
 * @since 0.1.0
 * @category events
 */
export const EventLog = { layer, layerSink, defaultLevel }

/**
 * @since 0.1.0
 */
export declare namespace EventLog {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** The level of all records, or of each event; `LogLevel.None` drops it. Defaults to `EventLog.defaultLevel`: a level per event. */
    readonly level?: LogLevel.LogLevel | ((event: ResilienceEvent) => LogLevel.LogLevel) | undefined
    /** Which events become records. Defaults to all. */
    readonly filter?: ((event: ResilienceEvent) => boolean) | undefined
    /** What each record carries besides its own annotations. Defaults to nothing. */
    readonly annotations?: Readonly<globalThis.Record<string, unknown>> | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Record {
    readonly level: LogLevel.LogLevel
    readonly message: string
    /** Milliseconds since the epoch. */
    readonly timestamp: number
    /** The fields of the event, durations in milliseconds. */
    readonly annotations: Readonly<globalThis.Record<string, unknown>>
    readonly event: ResilienceEvent
  }
}
