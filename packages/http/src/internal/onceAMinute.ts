import { EventBus } from "@effect-resilience/core"
import { now, publish } from "@effect-resilience/core/extension"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

const pause = 60_000_000_000n

/**
 * Tells of a helper that fails once a minute for as long as it lasts, not with each request.
 *
 * @internal
 */
export const onceAMinute = (
  report: (error: unknown) => Effect.Effect<void>
): (error: unknown) => Effect.Effect<void> => {
  let told: bigint | undefined
  return (error) =>
    Effect.suspend(() => {
      const time = now()
      if (told !== undefined && time - told < pause) return Effect.void
      told = time
      return report(error)
    })
}

/**
 * A store failed: an `InternalError` on the bus of whoever asks, where there is one, and always a warning.
 *
 * @internal
 */
export const storeFailed = (pattern: string, instance: string) => (error: unknown): Effect.Effect<void> =>
  Effect.gen(function*() {
    const bus = yield* Effect.serviceOption(EventBus)
    const timestamp = yield* Clock.currentTimeMillis
    if (Option.isSome(bus)) {
      yield* publish(bus.value, () => ({ _tag: "InternalError", pattern, instance, timestamp, source: "Store", error }))
    }
    yield* Effect.logWarning(`${pattern} "${instance}": store failed`, error).pipe(
      Effect.annotateLogs({ package: "@effect-resilience/http", pattern, instance })
    )
  })
