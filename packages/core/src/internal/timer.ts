import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Predicate from "effect/Predicate"
import type { Nanos } from "./time.js"
import { forever, fromNanos, liveClock } from "./time.js"

declare const setTimeout: (task: () => void, millis: number) => unknown
declare const clearTimeout: (handle: unknown) => void

/** The longest delay that a JavaScript timer keeps: a longer one would fire at once. */
const maxMillis = 2 ** 31 - 1

const noTimer = () => {}

/**
 * Runs `task` once after `span`, and never early; returns what cancels it. The one place that arms timers: bare ones for
 * the live clock, `clock.sleep` for every other, so `TestClock` drives all that waits. A span that no clock reaches arms
 * nothing. `task` must not throw.
 *
 * @internal
 */
export const schedule = (clock: Clock.Clock, span: Nanos, task: () => void): () => void => {
  if (span >= forever) return noTimer
  return clock === liveClock ? scheduleLive(clock, span, task) : scheduleSleep(clock, span, task)
}

const scheduleLive = (clock: Clock.Clock, span: Nanos, task: () => void): () => void => {
  const due = clock.unsafeCurrentTimeNanos() + span
  let handle: unknown
  const arm = (left: Nanos) => {
    // Rounded up: timers have whole milliseconds, and fire up to one early.
    handle = setTimeout(ring, Math.min(Number((left + 999_999n) / 1_000_000n), maxMillis))
  }
  const ring = () => {
    const left = due - clock.unsafeCurrentTimeNanos()
    if (left > 0n) arm(left)
    else task()
  }
  arm(span)
  return () => clearTimeout(handle)
}

const scheduleSleep = (clock: Clock.Clock, span: Nanos, task: () => void): () => void => {
  const fiber = Effect.runFork(Effect.flatMap(clock.sleep(fromNanos(span)), () => Effect.sync(task)))
  return () => fiber.unsafeInterruptAsFork(FiberId.none)
}

/** Sleeps by the fiber's clock, and never ends early: a bare timer drops fractions of a millisecond. @internal */
export const sleep = (span: Nanos): Effect.Effect<void> =>
  Effect.clockWith((clock) =>
    clock !== liveClock ? clock.sleep(fromNanos(span)) : Effect.async<void>((resume) => {
      const cancel = schedule(clock, span, () => resume(Effect.void))
      return Effect.sync(cancel)
    })
  )

/**
 * Sleeps for housekeeping: a process that has nothing else to do ends meanwhile, where timers can tell it so. At most 24
 * days.
 *
 * @internal
 */
export const doze = (span: Duration.Duration): Effect.Effect<void> =>
  Effect.clockWith((clock) =>
    clock !== liveClock ? clock.sleep(span) : Effect.async<void>((resume) => {
      const handle = setTimeout(() => resume(Effect.void), Duration.toMillis(span))
      if (Predicate.hasProperty(handle, "unref") && Predicate.isFunction(handle.unref)) handle.unref()
      return Effect.sync(() => clearTimeout(handle))
    })
  )
