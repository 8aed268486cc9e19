import { EventBus } from "@effect-resilience/core"
import type { Trouble } from "@effect-resilience/core/extension"
import { failureLine, publish, trouble } from "@effect-resilience/core/extension"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** The store answers again. @internal */
export const storeWorks = (pattern: string, instance: string): Effect.Effect<void> =>
  annotated(pattern, instance)(Effect.logInfo(`${pattern} "${instance}": store answers again`))

const annotated = (pattern: string, instance: string) =>
  Effect.annotateLogs({ package: "@effect-resilience/http", pattern, instance })

/**
 * A store failed: an `InternalError` on the bus of whoever asks, where there is one, and always a warning, which says what
 * that means.
 *
 * @internal
 */
export const storeTrouble = (pattern: string, instance: string, meaning: string): Trouble =>
  trouble(
    (error) =>
      Effect.gen(function*() {
        const bus = yield* Effect.serviceOption(EventBus)
        const timestamp = yield* Clock.currentTimeMillis
        if (Option.isSome(bus)) {
          yield* publish(bus.value, () => ({
            _tag: "InternalError",
            pattern,
            instance,
            timestamp,
            source: "Store",
            error
          }))
        }
        const line = failureLine(`${pattern} "${instance}": store failed`, error, meaning)
        yield* annotated(pattern, instance)(Effect.logWarning(...line))
      }),
    storeWorks(pattern, instance)
  )
