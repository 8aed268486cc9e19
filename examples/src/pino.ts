// Events as records of a logger that is not Effect's: here pino.
import { CircuitBreaker, EventLog, ResilienceLive, Retry } from "@effect-resilience/core"
import { Cause, Effect, Layer, LogLevel } from "effect"
import { pino } from "pino"

const logger = pino({ level: "debug", base: { service: "shop" } })

// pino's levels beside Effect's; what is below all of these is trace.
const levels = ["fatal", "error", "warn", "info", "debug"] as const
const ordinals = [LogLevel.Fatal, LogLevel.Error, LogLevel.Warning, LogLevel.Info, LogLevel.Debug]
const levelOf = (level: LogLevel.LogLevel) =>
  levels[ordinals.findIndex(({ ordinal }) => level.ordinal >= ordinal)] ?? "trace"

const toPino = EventLog.layerSink(({ annotations, level, message }, cause) =>
  Effect.sync(() => {
    const error = Cause.isEmpty(cause) ? {} : { err: Cause.squash(cause) }
    logger[levelOf(level)]({ ...annotations, ...error }, message)
  })
)

class Payments extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 3 }) {}

const app = Layer.mergeAll(Payments.Live, Retry.layer({ initialDelay: "20 millis" }), toPino).pipe(
  Layer.provideMerge(ResilienceLive)
)

const program = Effect.fail(new Error("connection refused")).pipe(
  Payments.withBreaker,
  Retry.withRetry,
  Effect.catchAll((error) => Effect.sync(() => logger.error(`gave up: ${error.message}`)))
)

void Effect.runPromise(Effect.provide(program, app))
