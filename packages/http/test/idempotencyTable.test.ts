import { IdempotencyStore } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import type { TestServices } from "effect"
import { Duration, Effect, Either, FastCheck as fc, Schema, TestClock } from "effect"

/*
 * The memory store against a model: what a person would write who had all the memory in the world and looked at
 * everything at every step.
 */

type Step =
  | { readonly op: "begin"; readonly key: string; readonly token: string; readonly fingerprint: string }
  | { readonly op: "complete"; readonly key: string; readonly token: string; readonly size: number }
  | { readonly op: "release"; readonly key: string; readonly token: string }
  | { readonly op: "pass"; readonly seconds: number }

const key = fc.constantFrom("a", "b", "c", "d")
const token = fc.constantFrom("t", "u", "v")
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ op: fc.constant("begin" as const), key, token, fingerprint: fc.constantFrom("f", "g") }),
  fc.record({ op: fc.constant("complete" as const), key, token, size: fc.integer({ min: 0, max: 60 }) }),
  fc.record({ op: fc.constant("release" as const), key, token }),
  fc.record({ op: fc.constant("pass" as const), seconds: fc.integer({ min: 1, max: 8 }) })
)

const lease = 5
const ttl = 12
const maxBytes = 100

interface Entry {
  readonly key: string
  readonly token: string
  readonly fingerprint: string
  readonly until: number
  /** `undefined` while in flight. */
  readonly size: number | null | undefined
}

/** Entries in the order in which they were completed. */
class Model {
  entries: ReadonlyArray<Entry> = []
  now = 0
  constructor(readonly maxEntries: number) {}

  private without(key: string) {
    return this.entries.filter((entry) => entry.key !== key)
  }

  /** What is left when one more has its place, or `undefined` when there is none. */
  private room(entries: ReadonlyArray<Entry>): ReadonlyArray<Entry> | undefined {
    if (entries.length < this.maxEntries) return entries
    const goes = entries.find(({ size }) => size !== undefined) ?? entries.find(({ until }) => until <= this.now)
    return goes === undefined ? undefined : entries.filter((entry) => entry !== goes)
  }

  begin(key: string, token: string, fingerprint: string): string {
    const found = this.entries.find((entry) => entry.key === key)
    if (found !== undefined && found.until > this.now) {
      if (found.size !== undefined) return `Done ${found.fingerprint} ${found.size}`
      if (found.token !== token) return `InFlight ${found.fingerprint}`
    }
    const room = found !== undefined && found.size === undefined ? this.without(key) : this.room(this.without(key))
    if (room === undefined) {
      this.entries = this.without(key)
      return "Full"
    }
    this.entries = [...room, { key, token, fingerprint, until: this.now + lease, size: undefined }]
    return "New"
  }

  complete(key: string, token: string, wanted: number): boolean {
    const found = this.entries.find((entry) => entry.key === key)
    if (found !== undefined && found.token !== token) return false
    const room = found?.size === undefined && found !== undefined ? this.without(key) : this.room(this.without(key))
    if (room === undefined) return false
    const size = wanted > maxBytes ? null : wanted
    let kept = room
    const bytes = () => kept.reduce((sum, entry) => sum + (entry.size ?? 0), 0)
    while (bytes() + (size ?? 0) > maxBytes) {
      const oldest = kept.find((entry) => entry.size !== undefined)
      kept = kept.filter((entry) => entry !== oldest)
    }
    this.entries = [...kept, { key, token, fingerprint: "f", until: this.now + ttl, size }]
    return true
  }

  release(key: string, token: string): boolean {
    const found = this.entries.find((entry) => entry.key === key)
    if (found?.token !== token || found.size !== undefined) return false
    this.entries = this.without(key)
    return true
  }
}

const run = (maxEntries: number, steps: ReadonlyArray<Step>): Effect.Effect<void, never, TestServices.TestServices> =>
  Effect.gen(function*() {
    const store = yield* IdempotencyStore.makeMemory({ maxEntries, maxBytes })
    const model = new Model(maxEntries)
    for (const step of steps) {
      if (step.op === "pass") {
        model.now += step.seconds
        yield* TestClock.adjust(Duration.seconds(step.seconds))
      } else if (step.op === "begin") {
        const begun = yield* Effect.either(store.begin({ ...step, lease: Duration.seconds(lease) }))
        const shown = Either.match(begun, {
          onLeft: ({ reason }) => String(reason),
          onRight: (begun) =>
            begun._tag === "New"
              ? begun._tag
              : begun._tag === "InFlight"
              ? `InFlight ${begun.fingerprint}`
              : `Done ${begun.fingerprint} ${begun.response.body?.byteLength ?? null}`
        })
        expect(shown).toBe(model.begin(step.key, step.token, step.fingerprint))
      } else if (step.op === "complete") {
        const response = { status: 200, headers: {}, cookies: [], body: new Uint8Array(step.size * 2) }
        const kept = yield* Effect.orDie(
          store.complete({ ...step, fingerprint: "f", ttl: Duration.seconds(ttl), response })
        )
        expect(kept).toBe(model.complete(step.key, step.token, step.size * 2))
      } else {
        expect(yield* Effect.orDie(store.release(step))).toBe(model.release(step.key, step.token))
      }
      const inFlight = model.entries.filter(({ size }) => size === undefined).length
      expect(yield* store.metrics).toEqual({
        inFlight,
        done: model.entries.length - inFlight,
        bytes: model.entries.reduce((sum, entry) => sum + (entry.size ?? 0), 0)
      })
    }
  })

describe("the memory store", () => {
  it.effect("is its model", () =>
    Effect.gen(function*() {
      const samples = fc.sample(
        fc.record({
          maxEntries: fc.integer({ min: 1, max: 4 }),
          steps: fc.array(step, { minLength: 10, maxLength: 60 })
        }),
        { numRuns: 120, seed: 7 }
      )
      const seen = new Set<string>()
      for (const { maxEntries, steps } of samples) {
        for (const { op } of steps) seen.add(op)
        yield* run(maxEntries, steps)
      }
      expect(seen.size).toBe(4)
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

  it.effect("forgets a response when its time is over", () =>
    Effect.gen(function*() {
      const store = yield* IdempotencyStore.makeMemory()
      const owner = { key: "a", token: "t", fingerprint: "f" }
      const response = { status: 201, headers: {}, cookies: [], body: new Uint8Array() }
      yield* store.begin({ ...owner, lease: Duration.minutes(1) })
      yield* store.complete({ ...owner, response, ttl: Duration.hours(24) })
      const begin = store.begin({ ...owner, token: "u", lease: Duration.minutes(1) })
      yield* TestClock.adjust("23 hours")
      expect((yield* begin)._tag).toBe("Done")
      yield* TestClock.adjust("1 hour")
      expect((yield* begin)._tag).toBe("New")
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
