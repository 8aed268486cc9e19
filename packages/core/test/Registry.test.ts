import {
  ActionError,
  Bulkhead,
  CircuitBreaker,
  Fallback,
  Registry,
  ResilienceLive,
  Retry,
  Timeout,
  UnknownInstanceError
} from "@effect-resilience/core"
import { expect, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"

class Payments extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 1 }) {}
class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 2 }) {}
const patterns = Layer.mergeAll(Payments.Live, Reports.Live, Retry.Live, Timeout.Live, Fallback.Live)
const app = patterns.pipe(Layer.provideMerge(ResilienceLive))

// A file of its own: `layer` changes the `it` that all tests of a file share, so theirs would run with these instances.
layer(app)("the registry of one program", (it) => {
  it.effect("has all instances with their metrics, as long as they live", () =>
    Effect.gen(function*() {
      const { instances } = yield* Registry.snapshot
      expect(instances.map(({ instance, pattern }) => `${pattern} ${instance}`).sort()).toEqual([
        "Bulkhead reports",
        "CircuitBreaker payments",
        "Fallback default",
        "Retry default",
        "Timeout default"
      ])
      yield* Effect.scoped(Effect.zipRight(
        Bulkhead.make({ name: "short" }),
        Effect.tap(Registry.list, (list) => expect(list.some(({ instance }) => instance === "short")).toBe(true))
      ))
      expect((yield* Registry.list).some(({ instance }) => instance === "short")).toBe(false)
    }))

  it.effect("carries the operator's actions", () =>
    Effect.gen(function*() {
      yield* Registry.act("CircuitBreaker", "payments", "forceOpen", "1 minute")
      expect(yield* Payments.state).toBe("ForcedOpen")
      yield* Registry.act("CircuitBreaker", "payments", "reset", "alice")
      expect(yield* Payments.state).toBe("Closed")
      yield* Registry.act("Bulkhead", "reports", "resize", 7)
      expect((yield* Reports.metrics).limit).toBe(7)
    }))

  it.effect("says what is wrong with an action", () =>
    Effect.gen(function*() {
      const unknown = yield* Effect.flip(Registry.act("CircuitBreaker", "paymets", "reset"))
      expect(unknown).toBeInstanceOf(UnknownInstanceError)
      expect(unknown.message).toContain("payments")
      const none = yield* Effect.flip(Registry.act("CircuitBreaker", "payments", "close"))
      expect(none).toBeInstanceOf(ActionError)
      expect(none.message).toContain("forceOpen, disable, metricsOnly, reset")
      for (const input of [0, -1, 1.5, "many", undefined]) {
        expect((yield* Effect.flip(Registry.act("Bulkhead", "reports", "resize", input))).message).toContain(
          "at least 1"
        )
      }
      expect((yield* Effect.flip(Registry.act("CircuitBreaker", "payments", "forceOpen", "soon"))).message)
        .toContain("duration")
    }))
})
