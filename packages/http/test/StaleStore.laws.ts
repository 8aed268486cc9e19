import type { StaleStore } from "@effect-resilience/http"
import { expect, it } from "@effect/vitest"
import type { Scope, TestServices } from "effect"
import { Duration, Effect, FastCheck as fc, Option } from "effect"

const entry: StaleStore.Entry = {
  vary: ["accept-language"],
  response: {
    status: 200,
    headers: { "content-type": "image/png", "x-name": "Zoë \"☃\"" },
    cookies: [],
    body: Uint8Array.from({ length: 256 }, (_, byte) => byte)
  },
  maxAge: 60,
  age: 3
}

type Step =
  | { readonly op: "put"; readonly key: string; readonly maxAge: number; readonly minutes: number }
  | { readonly op: "get"; readonly key: string }
  | { readonly op: "pass"; readonly minutes: number }

const key = fc.constantFrom("a", "b", "c")
const minutes = fc.integer({ min: 1, max: 8 })
const steps = fc.array(
  fc.oneof<Array<fc.Arbitrary<Step>>>(
    fc.record({ op: fc.constant("put" as const), key, maxAge: fc.integer({ min: 0, max: 99 }), minutes }),
    fc.record({ op: fc.constant("get" as const), key }),
    fc.record({ op: fc.constant("pass" as const), minutes })
  ),
  { minLength: 10, maxLength: 60 }
)

/**
 * What every store of good responses does, wherever it keeps them. `advance` moves the time of the store. Keys are used
 * once, so a store need not be emptied between.
 */
export const laws = (subject: {
  readonly make: Effect.Effect<StaleStore.Service, never, Scope.Scope>
  readonly advance: (span: Duration.DurationInput) => Effect.Effect<void>
}): void => {
  const { advance } = subject
  let used = 0
  const law = (
    name: string,
    test: (store: StaleStore.Service, key: string) => Effect.Effect<void, unknown, TestServices.TestServices>
  ) => it.scoped(name, () => Effect.flatMap(subject.make, (store) => test(store, `law-${++used}`)))
  /** What is there, its age in whole seconds: a store elsewhere has a clock that goes on. */
  const find = (store: StaleStore.Service, key: string) =>
    Effect.map(
      store.get(key),
      Option.map(({ age, entry }) => ({ age: Math.floor(Duration.toSeconds(age)), entry }))
    )

  law("is its model", (store, space) =>
    Effect.gen(function*() {
      let run = 0
      let found = 0
      for (const sequence of fc.sample(steps, { numRuns: 30, seed: 7 })) {
        run++
        let now = 0
        const kept = new Map<string, { readonly maxAge: number; readonly since: number; readonly until: number }>()
        for (const step of sequence) {
          if (step.op === "pass") {
            now += step.minutes
            yield* advance(Duration.minutes(step.minutes))
          } else if (step.op === "put") {
            const { key, maxAge, minutes } = step
            yield* store.put(`${space}-${run}-${key}`, { ...entry, maxAge }, Duration.minutes(minutes))
            kept.set(key, { maxAge, since: now, until: now + minutes })
          } else {
            const wanted = kept.get(step.key)
            const there = Option.getOrUndefined(yield* find(store, `${space}-${run}-${step.key}`))
            if (wanted === undefined || wanted.until <= now) expect(there).toBeUndefined()
            else {
              found++
              expect(there).toMatchObject({ age: (now - wanted.since) * 60, entry: { maxAge: wanted.maxAge } })
            }
          }
        }
      }
      expect(found).toBeGreaterThan(30)
    }))

  law("what was put comes back as it was, byte for byte", (store, key) =>
    Effect.gen(function*() {
      expect(yield* find(store, key)).toEqual(Option.none())
      yield* store.put(key, entry, Duration.hours(1))
      expect(yield* find(store, key)).toEqual(Option.some({ age: 0, entry }))
    }))

  law("an entry without a response says by which fields there are others", (store, key) =>
    Effect.gen(function*() {
      yield* store.put(key, { ...entry, response: null }, Duration.hours(1))
      expect(yield* find(store, key)).toEqual(Option.some({ age: 0, entry: { ...entry, response: null } }))
    }))

  law("it knows how long ago it was put, and forgets it when its time is over", (store, key) =>
    Effect.gen(function*() {
      yield* store.put(key, entry, Duration.hours(1))
      yield* advance("59 minutes")
      expect(Option.map(yield* find(store, key), ({ age }) => age)).toEqual(Option.some(59 * 60))
      yield* advance("1 minute")
      expect(yield* find(store, key)).toEqual(Option.none())
    }))

  law("the last one that was put is there, for its own time", (store, key) =>
    Effect.gen(function*() {
      yield* store.put(key, entry, Duration.hours(2))
      yield* advance("1 minute")
      yield* store.put(key, { ...entry, maxAge: 5 }, Duration.minutes(1))
      expect(yield* find(store, key)).toMatchObject({ value: { age: 0, entry: { maxAge: 5 } } })
      yield* advance("1 minute")
      expect(yield* find(store, key)).toEqual(Option.none())
    }))

  law("keys are any text, and each its own", (store, key) =>
    Effect.gen(function*() {
      const odd = ["", "{", "}", "{}", "a b\r\n", "\u0000", "☃", "x".repeat(10_000)].map((odd) => key + odd)
      for (const [n, key] of odd.entries()) yield* store.put(key, { ...entry, maxAge: n }, Duration.hours(1))
      for (const [n, key] of odd.entries()) {
        expect(yield* find(store, key)).toMatchObject({ value: { entry: { maxAge: n } } })
      }
    }))
}
