import { EventBus } from "@effect-resilience/core"
import { publish } from "@effect-resilience/core/extension"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

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
