import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Decision from "effect/ScheduleDecision"
import * as Interval from "effect/ScheduleInterval"

/** @internal */
export type Strategy = "exponential" | "linear" | "constant" | "decorrelated"

/** @internal */
export type Jitter = "full" | "equal" | "none" | number

/** Delays in milliseconds. @internal */
export interface Backoff {
  readonly strategy: Strategy
  readonly initialDelay: number
  readonly factor: number
  readonly maxDelay: number
  readonly jitter: Jitter
}

/** The delay before jitter after so many retries (0 first), capped: arithmetic that overflows saturates. @internal */
export const baseDelay = ({ factor, initialDelay, maxDelay, strategy }: Backoff, retries: number): number => {
  if (initialDelay === 0) return 0
  switch (strategy) {
    case "constant":
    case "decorrelated":
      return Math.min(maxDelay, initialDelay)
    case "linear":
      return Math.min(maxDelay, (retries + 1) * initialDelay)
    case "exponential":
      return Math.min(maxDelay, initialDelay * factor ** retries)
  }
}

/**
 * The delay after so many retries. `draw` is a random number from 0 to 1, `previous` the delay before this one.
 *
 * The base is capped and then spread, never the other way round: a fleet whose jittered delays are cut at the cap sleeps
 * exactly the cap and comes back in one wave.
 *
 * Source: "Exponential Backoff And Jitter" (Marc Brooker, AWS Architecture Blog, 2015) for `full`, `equal` and
 * `decorrelated`, the last with its range cut before the draw instead of its result after it.
 *
 * @internal
 */
export const delayAfter = (backoff: Backoff, retries: number, previous: number, draw: number): number => {
  const base = baseDelay(backoff, retries)
  const { jitter, maxDelay, strategy } = backoff
  if (strategy === "decorrelated") return between(base, Math.min(maxDelay, 3 * Math.max(previous, base)), draw)
  switch (jitter) {
    case "none":
      return base
    case "full":
      return base * draw
    case "equal":
      return between(base / 2, base, draw)
    default:
      return between(base * (1 - jitter), Math.min(maxDelay, base * (1 + jitter)), draw)
  }
}

const between = (low: number, high: number, draw: number): number => low + (high - low) * draw

/** The delays of a backoff as an endless schedule, which gives each delay in milliseconds. @internal */
export const toSchedule = (backoff: Backoff): Schedule.Schedule<number> =>
  Schedule.makeWithState(
    { retries: 0, previous: 0 },
    (now, _input, { previous, retries }) =>
      Effect.map(Random.next, (draw) => {
        const delay = delayAfter(backoff, retries, previous, draw)
        return [
          { retries: retries + 1, previous: delay },
          delay,
          Decision.continueWith(Interval.after(now + delay))
        ] as const
      })
  )
