import type { IdempotencyStore } from "@effect-resilience/http"
import { expect } from "@effect/vitest"
import { Duration, Effect, Either, FastCheck as fc } from "effect"

/*
 * What a person would write who had all the memory in the world and looked at everything at every step. Times are minutes.
 */

export type Step =
  | { readonly op: "begin"; readonly key: string; readonly token: string; readonly fingerprint: string }
  | { readonly op: "complete"; readonly key: string; readonly token: string; readonly size: number }
  | { readonly op: "release"; readonly key: string; readonly token: string }
  | { readonly op: "pass"; readonly minutes: number }

const key = fc.constantFrom("a", "b", "c", "d")
const token = fc.constantFrom("t", "u", "v")
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ op: fc.constant("begin" as const), key, token, fingerprint: fc.constantFrom("f", "g") }),
  fc.record({ op: fc.constant("complete" as const), key, token, size: fc.integer({ min: 0, max: 60 }) }),
  fc.record({ op: fc.constant("release" as const), key, token }),
  fc.record({ op: fc.constant("pass" as const), minutes: fc.integer({ min: 1, max: 8 }) })
)

/** Sequences of steps. */
export const steps = fc.array(step, { minLength: 10, maxLength: 60 })

const lease = 5
const ttl = 12

interface Entry {
  readonly key: string
  readonly token: string
  readonly fingerprint: string
  readonly until: number
  /** `undefined` while in flight. */
  readonly size: number | null | undefined
}

/** Entries in the order in which they were completed; so many and of so many bytes, where there are bounds. */
export class Model {
  private entries: ReadonlyArray<Entry> = []
  now = 0
  constructor(private readonly maxEntries = Infinity, private readonly maxBytes = Infinity) {}

  metrics() {
    const inFlight = this.entries.filter(({ size }) => size === undefined).length
    const bytes = this.entries.reduce((sum, entry) => sum + (entry.size ?? 0), 0)
    return { inFlight, done: this.entries.length - inFlight, bytes }
  }

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
    if (found !== undefined && found.until > this.now && found.token !== token) return false
    const room = found?.size === undefined && found !== undefined ? this.without(key) : this.room(this.without(key))
    if (room === undefined) return false
    const size = wanted > this.maxBytes ? null : wanted
    let kept = room
    const bytes = () => kept.reduce((sum, entry) => sum + (entry.size ?? 0), 0)
    while (bytes() + (size ?? 0) > this.maxBytes) {
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
    return found.until > this.now
  }
}

/** Takes a step of a store and of its model: they have to answer the same. `space` is put before the keys of the store. */
export const takeStep = (
  store: IdempotencyStore.Service,
  model: Model,
  step: Step,
  advance: (span: Duration.DurationInput) => Effect.Effect<void>,
  space = ""
) =>
  Effect.gen(function*() {
    if (step.op === "pass") {
      model.now += step.minutes
      return yield* advance(Duration.minutes(step.minutes))
    }
    const owner = { key: space + step.key, token: step.token }
    if (step.op === "begin") {
      const { fingerprint } = step
      const begun = yield* Effect.either(store.begin({ ...owner, fingerprint, lease: Duration.minutes(lease) }))
      const shown = Either.match(begun, {
        onLeft: ({ reason }) => String(reason),
        onRight: (begun) =>
          begun._tag === "New"
            ? begun._tag
            : begun._tag === "InFlight"
            ? `InFlight ${begun.fingerprint}`
            : `Done ${begun.fingerprint} ${begun.response.body?.byteLength ?? null}`
      })
      expect(shown).toBe(model.begin(step.key, step.token, fingerprint))
    } else if (step.op === "complete") {
      const response = { status: 200, headers: {}, cookies: [], body: new Uint8Array(step.size * 2) }
      const kept = yield* Effect.orDie(
        store.complete({ ...owner, fingerprint: "f", ttl: Duration.minutes(ttl), response })
      )
      expect(kept).toBe(model.complete(step.key, step.token, step.size * 2))
    } else {
      expect(yield* Effect.orDie(store.release(owner))).toBe(model.release(step.key, step.token))
    }
  })
