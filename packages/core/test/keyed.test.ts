import type { BulkheadFullError } from "@effect-resilience/core"
import { Bulkhead, CircuitBreaker, RetryBudget } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Deferred,
  Duration,
  Effect,
  Exit,
  FastCheck as fc,
  Fiber,
  Layer,
  Logger,
  Option,
  Scope,
  TestClock
} from "effect"
import { KeyedTable, openKeyed } from "../src/internal/keyed.js"
import { makeManualClock } from "./utils/clock.js"
import { holds } from "./utils/holds.js"
import { sweep } from "./utils/sweep.js"

/** A state that says by itself whether it may be forgotten. */
interface State {
  readonly key: string
  busy: boolean
}

const open = (options: { readonly maxKeys?: number; readonly idleAfter?: Duration.DurationInput } = {}) =>
  openKeyed<State>({
    maxKeys: options.maxKeys ?? 3,
    idleAfter: Duration.decode(options.idleAfter ?? "10 minutes"),
    make: (key) => Effect.sync(() => ({ key, busy: false })),
    evictable: (state) => !state.busy
  })

const keysOf = (table: KeyedTable<State>) => [...table].map(([key]) => key)

const get = (table: KeyedTable<State>, key: string) =>
  Effect.map(table.get(key), (state) => {
    if (state === undefined) throw new Error(`no room for ${key}`)
    return state
  })

describe("a keyed table", () => {
  it.scoped("has one state per key", () =>
    Effect.gen(function*() {
      const table = yield* open()
      expect(yield* table.get("a")).toBe(yield* table.get("a"))
      expect(yield* table.get("a")).not.toBe(yield* table.get("b"))
      expect(table.peek("c")).toBe(undefined)
      expect(keysOf(table)).toEqual(["a", "b"])
    }))

  it.scoped("forgets what was not used for longest when it is full", () =>
    Effect.gen(function*() {
      const table = yield* open()
      for (const key of ["a", "b", "c", "a", "d"]) yield* table.get(key)
      expect(keysOf(table)).toEqual(["c", "a", "d"])
      yield* table.get("e")
      expect(keysOf(table)).toEqual(["a", "d", "e"])
      expect(table.evicted).toBe(2)
    }))

  it.scoped("asking about a key is no use of it", () =>
    Effect.gen(function*() {
      const table = yield* open()
      for (const key of ["a", "b", "c"]) yield* table.get(key)
      table.peek("a")
      yield* table.get("d")
      expect(keysOf(table)).toEqual(["b", "c", "d"])
    }))

  it.scoped("never forgets what is protected, and says so when all of it is", () =>
    Effect.gen(function*() {
      const table = yield* open()
      for (const key of ["a", "b", "c"]) (yield* get(table, key)).busy = true
      expect(yield* table.get("d")).toBe(undefined)
      const b = yield* get(table, "b")
      b.busy = false
      expect((yield* get(table, "d")).key).toBe("d")
      expect(keysOf(table)).toEqual(["a", "c", "d"])
    }))

  it.scoped("finds room behind any number of protected keys", () =>
    Effect.gen(function*() {
      const table = yield* open({ maxKeys: 1000 })
      for (let i = 0; i < 1000; i++) (yield* get(table, `k${i}`)).busy = i < 999
      expect((yield* get(table, "new")).key).toBe("new")
      expect(table.peek("k999")).toBe(undefined)
    }))

  it.scoped("finds what became free after a search for nothing, within a few calls", () =>
    Effect.gen(function*() {
      const table = yield* open({ maxKeys: 640 })
      for (let i = 0; i < 640; i++) (yield* get(table, `k${i}`)).busy = true
      expect(yield* table.get("new")).toBe(undefined)
      ;(yield* get(table, "k300")).busy = false
      let calls = 1
      while ((yield* table.get("new")) === undefined) calls++
      expect(calls).toBeLessThanOrEqual(11)
    }))

  it.scoped("the sweep forgets idle keys, unless they are protected", () =>
    Effect.gen(function*() {
      const table = yield* open({ maxKeys: 10 })
      yield* table.get("idle")
      ;(yield* get(table, "busy")).busy = true
      yield* TestClock.adjust("8 minutes")
      yield* table.get("used")
      yield* TestClock.adjust("7 minutes")
      expect(keysOf(table)).toEqual(["busy", "used"])
      yield* TestClock.adjust("1 hour")
      expect(keysOf(table)).toEqual(["busy"])
    }))

  it.effect("its sweeping fiber lives only while there are keys", () =>
    Effect.gen(function*() {
      const manual = makeManualClock()
      yield* Effect.scoped(Effect.gen(function*() {
        const table = yield* open()
        const turn = Effect.repeatN(Effect.yieldNow(), 5)
        const pass = (time: "5 minutes") => Effect.zipRight(Effect.sync(() => manual.adjust(time)), turn)
        expect(manual.sleepers()).toBe(0)
        yield* table.get("a")
        yield* table.get("b")
        yield* turn
        expect(manual.sleepers()).toBe(1)
        for (let i = 0; i < 3; i++) yield* pass("5 minutes")
        expect([table.size, manual.sleepers()]).toEqual([0, 0])
        yield* table.get("c")
        yield* turn
        expect(manual.sleepers()).toBe(1)
      })).pipe(Effect.withClock(manual.clock))
      expect(manual.sleepers()).toBe(0)
    }))

  it.scopedLive("the sweep comes by the real clock, too, whose timers are bare", () =>
    Effect.gen(function*() {
      const table = yield* open({ idleAfter: "40 millis" })
      yield* table.get("a")
      yield* Effect.sleep("5 millis").pipe(
        Effect.repeat({ until: () => table.size === 0 }),
        Effect.timeout("4 seconds")
      )
    }))

  it.effect("keys that never idle out need no fiber, and a long time has no timer that never rings", () =>
    Effect.gen(function*() {
      const manual = makeManualClock()
      yield* Effect.scoped(Effect.gen(function*() {
        const turn = Effect.repeatN(Effect.yieldNow(), 5)
        const forever = yield* open({ idleAfter: Duration.infinity })
        yield* forever.get("a")
        yield* turn
        expect(manual.sleepers()).toBe(0)
        const long = yield* open({ idleAfter: "60 days" })
        yield* long.get("a")
        for (let day = 0; day < 61; day++) {
          yield* turn
          manual.adjust("1 day")
        }
        yield* turn
        expect(long.size).toBe(0)
      })).pipe(Effect.withClock(manual.clock))
    }))

  it.scoped("two fibers that ask for a new key at once get the same state, and the bound holds", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const scope = yield* Effect.scope
      const table = new KeyedTable<State>({
        maxKeys: 2,
        idleAfter: 1n << 80n,
        make: (key) => Effect.as(Deferred.await(gate), { key, busy: true }),
        evictable: (state) => !state.busy,
        scope
      })
      const fibers = yield* Effect.forEach(["a", "a", "b", "c", "d"], (key) => Effect.fork(table.get(key)))
      yield* Effect.repeatN(Effect.yieldNow(), 3)
      yield* Deferred.succeed(gate, void 0)
      const [a, again, ...rest] = yield* Effect.forEach(fibers, Fiber.join)
      expect(a).toBe(again)
      expect(table.size).toBe(2)
      expect(rest.filter((state) => state === undefined)).toHaveLength(2)
    }))

  it("holds its bound and forgets nothing protected, whatever happens", () => {
    const command = fc.oneof(
      fc.record({ op: fc.constant("get" as const), key: fc.integer({ min: 0, max: 9 }) }),
      fc.record({ op: fc.constant("toggle" as const), key: fc.integer({ min: 0, max: 9 }) }),
      fc.record({ op: fc.constant("pass" as const), key: fc.integer({ min: 0, max: 9 }) })
    )
    const manual = makeManualClock()
    const scope = Effect.runSync(Scope.make())
    return holds(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.array(command, { maxLength: 30 }), (maxKeys, commands) => {
        const table = new KeyedTable<State>({
          maxKeys,
          idleAfter: 1n << 80n,
          make: (key) => Effect.succeed({ key, busy: false }),
          evictable: (state) => !state.busy,
          scope
        })
        // The model: keys in the order of their last use.
        let model: ReadonlyArray<State> = []
        for (const { key: n, op } of commands) {
          const key = `k${n}`
          const known = model.find((state) => state.key === key)
          if (op === "pass") manual.adjust("1 second")
          else if (op === "toggle") {
            if (known !== undefined) known.busy = !known.busy
          } else {
            const got = Effect.runSync(Effect.withClock(table.get(key), manual.clock))
            const full = known === undefined && model.length >= maxKeys
            const room = !full || model.some((state) => !state.busy)
            expect(got?.key).toBe(room ? key : undefined)
            if (known !== undefined) expect(got).toBe(known)
            if (got === undefined) continue
            // Which of those that may go went is the table's business; what stays is checked below.
            model = [...model.filter((state) => table.peek(state.key) === state && state !== got), got]
          }
          expect(table.size).toBeLessThanOrEqual(maxKeys)
          expect(table.size).toBe(model.length)
        }
      }),
      10_000
    )
  })
})

/** Kept here, not in the table of all options: these fields belong to each keyed form. */
describe("options of keyed forms", () => {
  class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts") {}
  class Tenants extends Bulkhead.Keyed<Tenants>()("tenants") {}
  class Budgets extends RetryBudget.Keyed<Budgets>()("budgets") {}
  const bad = {
    maxKeys: [0, -1, 1.5, NaN, Infinity, "3", null],
    idleAfter: [0, -1, NaN, "soon", {}, null],
    onFull: ["drop", 1, null],
    optionsFor: [1, {}, null]
  }
  const layers: ReadonlyArray<readonly [string, (options: never) => Layer.Layer<never>]> = [
    ["CircuitBreaker \"hosts", Hosts.layer as never],
    ["Bulkhead \"tenants", Tenants.layer as never],
    ["RetryBudget \"budgets", Budgets.layer as never]
  ]
  for (const [named, layer] of layers) {
    for (const [field, values] of Object.entries(bad)) {
      it.effect(`${named}" refuses bad values of ${field}`, () =>
        Effect.gen(function*() {
          for (const value of values) {
            const exit = yield* Effect.exit(Effect.scoped(Layer.build(layer({ [field]: value } as never))))
            const message = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : `was taken: ${String(value)}`
            expect(message).toContain(`${named}`)
            expect(message).toContain(`option ${field} must be`)
          }
        }))
    }
  }

  it.effect("bad options of one key are that call's defect, and leave nothing behind", () =>
    Effect.gen(function*() {
      const layer = Tenants.layer({ optionsFor: (key) => key === "bad" ? { maxConcurrent: NaN } : {} })
      yield* Effect.gen(function*() {
        const exit = yield* Effect.exit(Tenants.withPermitBy({ key: "bad" })(Effect.void))
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(`Bulkhead "tenants/bad"`)
        expect((yield* Tenants.metrics).keys).toBe(0)
        expect(yield* Tenants.withPermitBy({ key: "good" })(Effect.succeed(1))).toBe(1)
      }).pipe(Effect.provide(layer))
    }))
})

describe("a table that is full of live keys, and lets new ones through", () => {
  const full = { maxKeys: 1, onFull: "admit" } as const
  class Hosts extends CircuitBreaker.Keyed<Hosts>()("full hosts", { ...full, consecutiveFailures: 1 }) {}
  class Tenants extends Bulkhead.Keyed<Tenants>()("full tenants", full) {}
  class Budgets extends RetryBudget.Keyed<Budgets>()("full budgets", full) {}
  type Forms = Hosts | Tenants | Budgets
  const forms: Record<string, {
    readonly fill: Effect.Effect<unknown, unknown, Forms>
    readonly call: Effect.Effect<unknown, unknown, Forms>
    readonly unguarded: Effect.Effect<number, never, Forms>
  }> = {
    CircuitBreaker: {
      fill: Hosts.withBreakerBy({ key: "a" })(Effect.fail("down")),
      call: Hosts.withBreakerBy({ key: "b" })(Effect.void),
      unguarded: Effect.map(Hosts.metrics, (metrics) => metrics.unguarded)
    },
    Bulkhead: {
      fill: Effect.zipRight(Effect.fork(Tenants.withPermitBy({ key: "a" })(Effect.never)), Effect.yieldNow()),
      call: Tenants.withPermitBy({ key: "b" })(Effect.void),
      unguarded: Effect.map(Tenants.metrics, (metrics) => metrics.unguarded)
    },
    RetryBudget: {
      fill: Effect.flatMap(Budgets.budgetFor("a"), (budget) => budget.withdraw),
      call: Budgets.budgetFor("b"),
      unguarded: Effect.map(Budgets.metrics, (metrics) => metrics.unguarded)
    }
  }
  for (const [pattern, { call, fill, unguarded }] of Object.entries(forms)) {
    it.effect(`${pattern} counts each such call, and warns once a minute`, () => {
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => warnings.push(String(message)))
      return Effect.gen(function*() {
        yield* Effect.exit(fill)
        yield* Effect.repeatN(call, 999)
        expect(yield* unguarded).toBe(1000)
        expect(warnings).toHaveLength(1)
        yield* TestClock.adjust("59 seconds")
        yield* call
        expect(warnings).toHaveLength(1)
        yield* TestClock.adjust("1 second")
        yield* Effect.repeatN(call, 999)
        expect(warnings).toHaveLength(2)
        expect(warnings[1]).toContain("all 1 keys are live")
        expect(warnings[1]).toContain("1002 so far")
        expect(yield* unguarded).toBe(2001)
      }).pipe(
        Effect.provide(Layer.mergeAll(Hosts.Live, Tenants.Live, Budgets.Live)),
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
    })
  }
})

describe("interruption", () => {
  class Swept extends Bulkhead.Keyed<Swept>()("swept", { maxConcurrent: 1, maxKeys: 1 }) {}
  type Held = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | BulkheadFullError, R | Swept>
  const ways: Record<string, (key: string) => Held> = {
    "the guard": (key) => Swept.withPermitBy({ key }),
    "the scoped form": (key) => (effect) => Effect.scoped(Effect.zipRight(Swept.acquireBy({ key }), effect))
  }
  for (const [way, held] of Object.entries(ways)) {
    it.live(
      `a call by ${way} that is interrupted anywhere leaves its key's bulkhead idle, and the key goes in the end`,
      () =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          const context = yield* Layer.buildWithScope(Swept.Live, scope)
          let n = 0
          const { leaks, runs } = yield* sweep(
            Effect.sync(() => {
              const key = `k${n++}`
              return {
                with: (effect) => Effect.provide(held(key)(effect), context),
                // The only key has made room for this one: so it was idle again.
                whole: Effect.map(Effect.provide(Swept.metricsOf(key), context), (metrics) =>
                  Option.match(metrics, {
                    onNone: () => true,
                    onSome: ({ active, running, waiting }) => active === 0 && running === 0 && waiting === 0
                  }))
              }
            }),
            { budgets: [16, 23] }
          )
          expect(runs).toBeGreaterThan(100)
          expect(leaks).toEqual([])
          yield* Scope.close(scope, Exit.void)
        }),
      60_000
    )
  }

  it.scoped("acquireBy rejects a call whose key is full, or for whose key there is no room", () =>
    Effect.gen(function*() {
      class Tenants extends Bulkhead.Keyed<Tenants>()("few", { maxConcurrent: 1, maxQueued: 0, maxKeys: 1 }) {}
      yield* Effect.gen(function*() {
        yield* Tenants.acquireBy({ key: "a" })
        expect(yield* Effect.flip(Tenants.acquireBy({ key: "a" }))).toMatchObject({ reason: "QueueFull" })
        expect(yield* Effect.flip(Tenants.acquireBy({ key: "b" }))).toMatchObject({ reason: "TooManyKeys" })
        expect((yield* Tenants.metrics).busy).toMatchObject([{ key: "a", active: 1 }])
      }).pipe(Effect.provide(Tenants.Live))
    }))
})
