import * as Effect from "effect/Effect"
import type { Nanos } from "./time.js"
import { now } from "./time.js"

const pause: Nanos = 60_000_000_000n

/**
 * Tells of a helper that fails once a minute for as long as it lasts, not with each request.
 *
 * @internal
 */
export const onceAMinute = (
  report: (error: unknown) => Effect.Effect<void>
): (error: unknown) => Effect.Effect<void> => {
  let told: Nanos | undefined
  return (error) =>
    Effect.suspend(() => {
      const time = now()
      if (told !== undefined && time - told < pause) return Effect.void
      told = time
      return report(error)
    })
}
