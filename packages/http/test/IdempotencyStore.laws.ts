import type { IdempotencyStore, StoredResponse } from "@effect-resilience/http"
import { expect, it } from "@effect/vitest"
import type { Scope, TestServices } from "effect"
import { Duration, Effect, FastCheck as fc } from "effect"
import { Model, steps, takeStep } from "./utils/idempotencyModel.js"

const minute = Duration.minutes(1)
const day = Duration.hours(24)

const response: StoredResponse = {
  status: 201,
  headers: { "content-type": "application/octet-stream", "x-name": "Zoë \"☃\"" },
  cookies: ["a=b; Path=/", "c=d"],
  body: Uint8Array.from({ length: 256 }, (_, byte) => byte)
}

/**
 * What every idempotency store does, wherever it keeps its keys. `advance` moves the time of the store. Keys are used once,
 * so a store need not be emptied between.
 */
export const laws = (subject: {
  readonly make: Effect.Effect<IdempotencyStore.Service, never, Scope.Scope>
  readonly advance: (span: Duration.DurationInput) => Effect.Effect<void>
}): void => {
  const { advance } = subject
  let used = 0
  const law = (
    name: string,
    test: (store: IdempotencyStore.Service, key: string) => Effect.Effect<void, unknown, TestServices.TestServices>
  ) => it.scoped(name, () => Effect.flatMap(subject.make, (store) => test(store, `law-${++used}`)))
  const asks = (store: IdempotencyStore.Service, key: string, token: string, fingerprint = "f") =>
    store.begin({ key, token, fingerprint, lease: minute })
  const ends = (store: IdempotencyStore.Service, key: string, token: string, more: Partial<StoredResponse> = {}) =>
    store.complete({ key, token, fingerprint: "f", ttl: day, response: { ...response, ...more } })

  law("is its model", (store, space) =>
    Effect.gen(function*() {
      const seen = new Set<string>()
      let run = 0
      for (const sequence of fc.sample(steps, { numRuns: 30, seed: 7 })) {
        run++
        const model = new Model()
        for (const step of sequence) {
          seen.add(step.op)
          yield* takeStep(store, model, step, advance, `${space}-${run}-`)
        }
      }
      expect(seen.size).toBe(4)
    }))

  law("of many who ask at once one has the key", (store, key) =>
    Effect.gen(function*() {
      const tokens = Array.from({ length: 50 }, (_, n) => `t${n}`)
      const begun = yield* Effect.forEach(tokens, (token) => asks(store, key, token), { concurrency: "unbounded" })
      expect(begun.filter(({ _tag }) => _tag === "New")).toHaveLength(1)
      expect(begun.filter(({ _tag }) => _tag === "InFlight")).toHaveLength(49)
    }))

  law("a response comes back as it was, byte for byte", (store, key) =>
    Effect.gen(function*() {
      yield* asks(store, key, "t")
      expect(yield* ends(store, key, "t")).toBe(true)
      expect(yield* asks(store, key, "u", "g")).toEqual({ _tag: "Done", fingerprint: "f", response })
    }))

  for (const body of [null, new Uint8Array()]) {
    law(
      `a response ${body === null ? "that cannot be repeated" : "without a body"} is one`,
      (store, key) =>
        Effect.gen(function*() {
          yield* asks(store, key, "t")
          expect(yield* ends(store, key, "t", { body })).toBe(true)
          expect(yield* asks(store, key, "u")).toMatchObject({ _tag: "Done", response: { status: 201, body } })
        })
    )
  }

  law("the same token has the key for another lease", (store, key) =>
    Effect.gen(function*() {
      for (let n = 0; n < 3; n++) {
        expect(yield* asks(store, key, "t")).toEqual({ _tag: "New" })
        yield* advance("40 seconds")
      }
      const begun = yield* asks(store, key, "u", "g")
      expect(begun).toMatchObject({ _tag: "InFlight", fingerprint: "f" })
      // What a store says of the lease is true; one of its own need not.
      if (begun._tag !== "InFlight" || begun.leaseLeft === undefined) return
      expect(Duration.toMillis(begun.leaseLeft)).toBeLessThanOrEqual(20_000)
      expect(Duration.toMillis(begun.leaseLeft)).toBeGreaterThan(15_000)
    }))

  law("the key of an owner who died is free after its lease", (store, key) =>
    Effect.gen(function*() {
      yield* asks(store, key, "t")
      yield* advance("59 seconds")
      expect((yield* asks(store, key, "u"))._tag).toBe("InFlight")
      yield* advance("1 second")
      expect((yield* asks(store, key, "u"))._tag).toBe("New")
      // Its late owner changes nothing any more.
      expect(yield* ends(store, key, "t")).toBe(false)
      expect(yield* store.release({ key, token: "t" })).toBe(false)
      expect((yield* asks(store, key, "v"))._tag).toBe("InFlight")
    }))

  law("a late owner keeps its response where nobody else has come", (store, key) =>
    Effect.gen(function*() {
      yield* asks(store, key, "t")
      yield* advance("2 minutes")
      expect(yield* ends(store, key, "t")).toBe(true)
      expect((yield* asks(store, key, "u"))._tag).toBe("Done")
    }))

  law("a response is forgotten when its time is over", (store, key) =>
    Effect.gen(function*() {
      yield* asks(store, key, "t")
      yield* ends(store, key, "t")
      yield* advance("23 hours")
      expect((yield* asks(store, key, "u"))._tag).toBe("Done")
      yield* advance("1 hour")
      expect((yield* asks(store, key, "u"))._tag).toBe("New")
      // And with it what it was: the key is in flight, and not done.
      expect((yield* asks(store, key, "v"))._tag).toBe("InFlight")
    }))

  law("nobody takes back what is done, its owner neither", (store, key) =>
    Effect.gen(function*() {
      yield* asks(store, key, "t")
      yield* ends(store, key, "t")
      expect(yield* store.release({ key, token: "t" })).toBe(false)
      expect(yield* ends(store, key, "u", { status: 500 })).toBe(false)
      expect(yield* asks(store, key, "u")).toMatchObject({ _tag: "Done", response: { status: 201 } })
    }))

  law("a key that is let go is free at once, by its owner alone", (store, key) =>
    Effect.gen(function*() {
      yield* asks(store, key, "t")
      expect(yield* store.release({ key, token: "u" })).toBe(false)
      expect((yield* asks(store, key, "u"))._tag).toBe("InFlight")
      expect(yield* store.release({ key, token: "t" })).toBe(true)
      expect((yield* asks(store, key, "u"))._tag).toBe("New")
    }))
}
