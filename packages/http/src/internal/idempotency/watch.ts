import { callSite, metric, register } from "@effect-resilience/core/extension"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Scope } from "effect/Scope"
import type { IdempotencyStore } from "../../IdempotencyStore.js"

/** A store with what operators see of it: what requests it was asked about came to, and how much it holds. @internal */
export const watched = (
  name: string,
  store: IdempotencyStore.Service
): Effect.Effect<IdempotencyStore.Service, never, Scope> =>
  Effect.gen(function*() {
    const attributes = (more: Record<string, string> = {}) => metric.attributes("IdempotencyStore", name, more)
    const keys = (state: string) =>
      metric.gauge("resilience.idempotency.keys", "Keys that are held, by state", attributes({ state }))
    const gauges = { inFlight: keys("in_flight"), done: keys("done") }
    const bytes = metric.gauge("resilience.idempotency.bytes", "Bytes of the responses that are held", attributes())
    const errors = (operation: string) =>
      metric.counter("resilience.idempotency.store_errors", "Operations that failed", attributes({ operation }))
    const failed = { begin: errors("begin"), complete: errors("complete"), release: errors("release") }
    const tally = {
      offered: 0,
      admitted: 0,
      rejected: 0,
      replayed: 0,
      conflicts: 0,
      mismatches: 0,
      storeErrors: 0,
      /** Whether the last operation failed. */
      failing: false
    }
    const size = store.metrics ?? Effect.succeed(undefined)
    const measured = Effect.map(size, (now) => {
      if (now === undefined) return
      gauges.inFlight(now.inFlight)
      gauges.done(now.done)
      bytes(now.bytes)
    })
    const began = (request: IdempotencyStore.Begin, begun: IdempotencyStore.Begun) => {
      if (request.isRenewal === true) return
      tally.offered++
      if (begun._tag === "New") tally.admitted++
      else if (begun.fingerprint !== request.fingerprint) tally.mismatches++
      else if (begun._tag === "InFlight") tally.conflicts++
      else tally.replayed++
      tally.rejected = tally.mismatches + tally.conflicts
    }
    // One that is given up because it took too long has failed, too.
    const watch = <A, E>(operation: keyof typeof failed, effect: Effect.Effect<A, E>) =>
      Effect.onExit(effect, (exit) => {
        tally.failing = Exit.isFailure(exit)
        if (!tally.failing) return measured
        tally.storeErrors++
        return Effect.sync(failed[operation])
      })
    yield* register({
      pattern: "IdempotencyStore",
      instance: name,
      site: callSite(),
      snapshot: Effect.map(size, (now) => ({ ...tally, ...now })),
      actions: {}
    })
    return {
      begin: (request) =>
        Effect.tap(watch("begin", store.begin(request)), (begun) => Effect.sync(() => began(request, begun))),
      complete: (request) => watch("complete", store.complete(request)),
      release: (owner) => watch("release", store.release(owner)),
      scope: yield* Effect.scope,
      ...(store.metrics === undefined ? {} : { metrics: store.metrics })
    }
  })
