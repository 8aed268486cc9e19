import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Duration from "effect/Duration"
import * as Fiber from "effect/Fiber"

/**
 * Time is `bigint` nanoseconds of the running fiber's `Clock`: monotonic, driven by `TestClock` in tests, and cheaper to
 * compare than to convert.
 *
 * @internal
 */
export type Nanos = bigint

const liveServices = DefaultServices.liveServices

/** @internal */
export const liveClock: Clock.Clock = Context.get(liveServices, Clock.Clock)

// The services object is shared by all fibers until somebody replaces a default service, so one remembered pair spares
// nearly every lookup. It is a cache of a pure function and decides nothing.
let knownServices: Context.Context<DefaultServices.DefaultServices> = liveServices
let knownClock: Clock.Clock = liveClock

/** @internal */
export const clockOf = (fiber: Fiber.RuntimeFiber<any, any>): Clock.Clock => {
  const services = fiber.currentDefaultServices
  if (services !== knownServices) {
    knownClock = Context.get(services, Clock.Clock)
    knownServices = services
  }
  return knownClock
}

/**
 * The clock of the fiber that runs the callback this is called from. It spares the run-loop step of `Effect.clockWith`
 * (4 ns against about 95).
 *
 * @internal
 */
export const currentClock = (): Clock.Clock => {
  const fiber = Fiber.getCurrentFiber()
  return fiber._tag === "Some" ? clockOf(fiber.value) : liveClock
}

/** @internal */
export const now = (): Nanos => currentClock().unsafeCurrentTimeNanos()

/** Nanoseconds that no clock reaches: what an infinite duration becomes. @internal */
export const forever: Nanos = 1n << 80n

/** @internal */
export const toNanos = (duration: Duration.DurationInput): Nanos => {
  const nanos = Duration.toNanos(duration)
  return nanos._tag === "Some" ? nanos.value : forever
}

/** A span of time as a `Duration`, never negative. @internal */
export const fromNanos = (nanos: Nanos): Duration.Duration =>
  nanos >= forever ?
    Duration.infinity
    : nanos <= 0n ?
    Duration.zero
    // Whole milliseconds compare equal to those that a person writes.
    : nanos % 1_000_000n === 0n ?
    Duration.millis(Number(nanos / 1_000_000n))
    : Duration.nanos(nanos)

/** A span of time in milliseconds, with fractions, never negative. @internal */
export const toMillis = (nanos: Nanos): number => nanos <= 0n ? 0 : nanos >= forever ? Infinity : Number(nanos) / 1e6

/** A span of time in seconds, for metrics. @internal */
export const toSeconds = (nanos: Nanos): number => toMillis(nanos) / 1e3
