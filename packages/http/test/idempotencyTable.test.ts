import { IdempotencyStore } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, FastCheck as fc, Schema, TestClock } from "effect"
import { laws } from "./IdempotencyStore.laws.js"
import { Model, steps, takeStep } from "./utils/idempotencyModel.js"

describe("the memory store", () => {
  laws({ make: IdempotencyStore.makeMemory(), advance: TestClock.adjust })

  it.effect("is its model within its bounds, and knows what it holds", () =>
    Effect.gen(function*() {
      const samples = fc.sample(
        fc.record({ maxEntries: fc.integer({ min: 1, max: 4 }), steps }),
        { numRuns: 120, seed: 7 }
      )
      for (const { maxEntries, steps } of samples) {
        const store = yield* IdempotencyStore.makeMemory({ maxEntries, maxBytes: 100 })
        const model = new Model(maxEntries, 100)
        for (const step of steps) {
          yield* takeStep(store, model, step, TestClock.adjust)
          expect(yield* store.metrics).toEqual(model.metrics())
        }
      }
    }))

  it.effect("never evicts what is in flight", () =>
    Effect.gen(function*() {
      const store = yield* IdempotencyStore.makeMemory({ maxEntries: 2 })
      const begin = (key: string) =>
        Effect.either(store.begin({ key, token: key, fingerprint: "f", lease: Duration.minutes(1) }))
      yield* begin("a")
      yield* begin("b")
      expect(yield* begin("c")).toMatchObject({ left: { operation: "begin", reason: "Full" } })
      yield* TestClock.adjust("1 minute")
      expect(yield* begin("c")).toMatchObject({ right: { _tag: "New" } })
    }))

  it.effect("what it answers has a form on the wire", () =>
    Effect.gen(function*() {
      const response = { status: 201, headers: { a: "b" }, cookies: ["c=d"], body: new Uint8Array([0, 255]) }
      const done = { _tag: "Done", fingerprint: "f", response } as const
      const encoded = yield* Schema.encode(IdempotencyStore.Begun)(done)
      const decoded = yield* Schema.decodeUnknown(IdempotencyStore.Begun)(JSON.parse(JSON.stringify(encoded)))
      expect(decoded).toEqual(done)
    }))
})
