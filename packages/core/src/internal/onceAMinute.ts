import * as Effect from "effect/Effect"
import type { Nanos } from "./time.js"
import { now } from "./time.js"

const pause: Nanos = 60_000_000_000n

/** How long a helper has to do without a failure before it counts as well again. */
const calm: Nanos = 5_000_000_000n

/** Kinds that are told at once: what makes up a new one for each failure is not told without end. */
const most = 10

/** What kind of failure it is, as it says itself: by its `kind` or its `reason`, or else its name. */
const kindOf = (error: unknown): string => {
  const { kind, name, reason } = Object(error) as Record<"kind" | "name" | "reason", unknown>
  return String(kind ?? reason ?? name)
}

/**
 * Tells of a helper that fails once a minute for as long as it lasts, not with each request; of a failure of another kind
 * at once.
 *
 * @internal
 */
export const onceAMinute = (
  report: (error: unknown) => Effect.Effect<void>
): (error: unknown) => Effect.Effect<void> => trouble(report, Effect.void).failed

/** A helper that may fail. @internal */
export interface Trouble {
  readonly failed: (error: unknown) => Effect.Effect<void>
  /** To be run whenever it did what it was asked for. */
  readonly worked: Effect.Effect<void>
}

/**
 * The same, and `over` when it works again: by the first success that comes five seconds or more after the last failure, so
 * that one that fails now and then is not told of at each turn.
 *
 * @internal
 */
export const trouble = (
  report: (error: unknown) => Effect.Effect<void>,
  over: Effect.Effect<void>
): Trouble => {
  const told = new Map<string, Nanos>()
  let last: Nanos | undefined
  return {
    failed: (error) =>
      Effect.suspend(() => {
        const time = now()
        last = time
        for (const [kind, at] of told) if (time - at >= pause) told.delete(kind)
        const kind = kindOf(error)
        if (told.has(kind) || told.size >= most) return Effect.void
        told.set(kind, time)
        return report(error)
      }),
    worked: Effect.suspend(() => {
      if (last === undefined || now() - last < calm) return Effect.void
      last = undefined
      told.clear()
      return over
    })
  }
}
