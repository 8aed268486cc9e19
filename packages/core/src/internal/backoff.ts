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

/** Where arithmetic ends that nothing else caps: 285,000 years. */
const ceiling = Number.MAX_SAFE_INTEGER

/** The delay before jitter after so many retries (0 first), capped: arithmetic that overflows saturates. @internal */
export const baseDelay = ({ factor, initialDelay, maxDelay, strategy }: Backoff, retries: number): number => {
  if (initialDelay === 0) return 0
  const cap = Math.min(maxDelay, ceiling)
  switch (strategy) {
    case "constant":
    case "decorrelated":
      return Math.min(cap, initialDelay)
    case "linear":
      return Math.min(cap, (retries + 1) * initialDelay)
    case "exponential":
      return Math.min(cap, initialDelay * factor ** retries)
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
  const cap = Math.min(backoff.maxDelay, ceiling)
  if (backoff.strategy === "decorrelated") return between(base, Math.min(cap, 3 * Math.max(previous, base)), draw)
  switch (backoff.jitter) {
    case "none":
      return base
    case "full":
      return base * draw
    case "equal":
      return between(base / 2, base, draw)
    default:
      return between(base * (1 - backoff.jitter), Math.min(cap, base * (1 + backoff.jitter)), draw)
  }
}

const between = (low: number, high: number, draw: number): number => low + (high - low) * draw

const steady = Effect.succeed(0)

/**
 * The delays of a backoff as a schedule, which gives each delay in milliseconds and ends before the attempt after
 * `maxAttempts`.
 *
 * @internal
 */
export const toSchedule = (backoff: Backoff, maxAttempts: number): Schedule.Schedule<number> => {
  const draws = backoff.strategy === "decorrelated" || backoff.jitter !== "none" ? Random.next : steady
  return Schedule.makeWithState(
    { retries: 0, previous: 0 },
    (now, _input, state) => {
      const { previous, retries } = state
      if (retries + 1 >= maxAttempts) return Effect.succeed([state, previous, Decision.done] as const)
      return Effect.map(draws, (draw) => {
        const delay = delayAfter(backoff, retries, previous, draw)
        return [
          { retries: retries + 1, previous: delay },
          delay,
          Decision.continueWith(Interval.after(now + delay))
        ] as const
      })
    }
  )
}
