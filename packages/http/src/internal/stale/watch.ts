import { callSite, metric, openInstance, register, trouble } from "@effect-resilience/core/extension"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { StaleStore } from "../../StaleStore.js"
import { storeWorks } from "../storeTrouble.js"

/** What is counted and told of the responses that are kept. @internal */
export interface StaleWatch {
  readonly looked: (found: boolean) => Effect.Effect<void>
  readonly kept: Effect.Effect<void>
  readonly failed: (error: unknown) => Effect.Effect<void>
  /** The store did what it was asked for. */
  readonly worked: Effect.Effect<void>
}

/** @internal */
export const watchStale = (name: string, store: StaleStore.Service): Effect.Effect<StaleWatch, never, Scope> =>
  Effect.gen(function*() {
    const { emitter } = yield* openInstance("StaleStore", name)
    const requests = (result: string) =>
      metric.counter(
        "resilience.cache.requests",
        "Lookups of a last good response, by what came of them",
        metric.attributes("StaleStore", name, { result })
      )
    const result = { hit: requests("stale_if_error"), miss: requests("miss"), error: requests("store_error") }
    const attributes = metric.attributes("StaleStore", name)
    const entries = metric.gauge("resilience.cache.entries", "Responses that are kept", attributes)
    const bytes = metric.gauge("resilience.cache.bytes", "Bytes of the responses that are kept", attributes)
    /** `failing`: whether the last operation failed. */
    const tally = { served: 0, missed: 0, kept: 0, storeErrors: 0, failing: false }
    const size = store.metrics ?? Effect.succeed(undefined)
    const measured = Effect.map(size, (now) => {
      if (now === undefined) return
      entries(now.entries)
      bytes(now.bytes)
    })
    const told = trouble(
      (error) => emitter.internalError("Store", error, "nothing is kept, and errors are answered as they are"),
      storeWorks("StaleStore", name)
    )
    yield* register({
      pattern: "StaleStore",
      instance: name,
      site: callSite(),
      snapshot: Effect.map(size, (now) => ({ ...tally, ...now })),
      actions: {}
    })
    return {
      looked: (found) =>
        Effect.zipRight(
          Effect.sync(() => {
            tally.failing = false
            if (found) tally.served++
            else tally.missed++
            result[found ? "hit" : "miss"]()
          }),
          measured
        ),
      kept: Effect.zipRight(
        Effect.sync(() => {
          tally.failing = false
          tally.kept++
        }),
        measured
      ),
      failed: (error) =>
        Effect.suspend(() => {
          tally.storeErrors++
          tally.failing = true
          result.error()
          return told.failed(error)
        }),
      worked: told.worked
    }
  })
