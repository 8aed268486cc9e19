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

/** @internal */
export const liveClock: Clock.Clock = Context.get(DefaultServices.liveServices, Clock.Clock)

/** The clock of a fiber. Straight from the map, as every call reads it: `Context.get` costs half as much again. @internal */
export const clockOf = (fiber: Fiber.RuntimeFiber<any, any>): Clock.Clock =>
  fiber.currentDefaultServices.unsafeMap.get(Clock.Clock.key)

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

declare const performance: { readonly now: () => number }

/** The same in milliseconds, with fractions: a third of the price, for those who compare and nothing else. @internal */
export const nowMillis = (): number => {
  const clock = currentClock()
  return clock === liveClock ? performance.now() : Number(clock.unsafeCurrentTimeNanos()) / 1e6
}

/** Nanoseconds that no clock reaches: what an infinite duration becomes. @internal */
export const forever: Nanos = 1n << 80n

/** @internal */
export const min = (one: Nanos, other: Nanos): Nanos => one < other ? one : other

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
