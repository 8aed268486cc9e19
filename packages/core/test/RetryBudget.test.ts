import { Registry, Retry, RetryBudget } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, FastCheck as fc, Fiber, Layer, Metric, Option, TestClock } from "effect"
import type { Bucket, BucketConfig, Source } from "../src/internal/bucket.js"
import * as transition from "../src/internal/bucket.js"
import { holds } from "./utils/holds.js"
import type { Subject } from "./utils/sweep.js"
import { sweep } from "./utils/sweep.js"

const second = 1_000_000_000n

/** Withdraws so often at one time and returns how many were granted. */
const take = (config: BucketConfig, bucket: Bucket, times: number, now: bigint): readonly [number, Bucket] => {
  let granted = 0
  let state = bucket
  for (let i = 0; i < times; i++) {
    const [source, next] = transition.withdraw(config, state, now)
    state = next
    if (source !== undefined) granted++
  }
  return [granted, state]
}

describe("tokens", () => {
  const config = { maxTokens: 3, tokensPerSuccess: 0.1, minPerSecond: 0 }

  it("start full, a retry costs one, ten successes earn one", () => {
    let [granted, state] = take(config, transition.full(config), 5, 0n)
    expect(granted).toBe(3)
    expect(state).toMatchObject({ granted: 3, denied: 2 })
    for (let i = 0; i < 9; i++) state = transition.deposit(config, state)
    ;[granted, state] = take(config, state, 1, 0n)
    expect(granted).toBe(0)
    state = transition.deposit(config, state)
    ;[granted, state] = take(config, state, 2, 0n)
    expect(granted).toBe(1)
  })

  it("never exceed the cap, whatever is deposited, refunded or reset", () => {
    let state = transition.full(config)
    for (let i = 0; i < 100; i++) state = transition.deposit(config, state)
    expect(state.tokens).toBe(3)
    expect(transition.refund(config, state, "tokens").tokens).toBe(3)
    expect(transition.reset(config, state).tokens).toBe(3)
  })

  it("a budget of no tokens denies every retry", () => {
    const none = { maxTokens: 0, tokensPerSuccess: 1, minPerSecond: 0 }
    const [granted] = take(none, transition.deposit(none, transition.full(none)), 5, second)
    expect(granted).toBe(0)
  })
})

describe("the floor", () => {
  const config = { maxTokens: 0, tokensPerSuccess: 0, minPerSecond: 2 }

  it("gives its retries each second, and saves up no more than a second's", () => {
    let [granted, state] = take(config, transition.full(config), 5, 0n)
    expect(granted).toBe(2)
    ;[granted, state] = take(config, state, 5, second / 2n)
    expect(granted).toBe(1)
    ;[granted, state] = take(config, state, 5, 100n * second)
    expect(granted).toBe(2)
    expect(transition.available(config, state, 101n * second)).toBe(2)
  })

  it("below one per second still gives one retry at a time", () => {
    const slow = { ...config, minPerSecond: 0.1 }
    let [granted, state] = take(slow, transition.full(slow), 2, 0n)
    expect(granted).toBe(1)
    ;[granted, state] = take(slow, state, 2, 9n * second)
    expect(granted).toBe(0)
    ;[granted, state] = take(slow, state, 2, 10n * second)
    expect(granted).toBe(1)
    expect(transition.refund(slow, state, "floor").floor).toBe(1)
  })

  it("is touched only when what was earned is used up", () => {
    const both = { maxTokens: 1, tokensPerSuccess: 1, minPerSecond: 1 }
    const [first, afterFirst] = transition.withdraw(both, transition.full(both), 0n)
    const [next] = transition.withdraw(both, afterFirst, 0n)
    expect([first, next]).toEqual(["tokens", "floor"])
  })

  it("does not run backwards with a clock that does", () => {
    const [, state] = take(config, transition.full(config), 5, 10n * second)
    const [granted, after] = take(config, state, 5, 9n * second)
    expect(granted).toBe(0)
    expect(take(config, after, 5, 10n * second + second / 2n)[0]).toBe(1)
  })
})

/** Exact arithmetic for the model: tenths of a token, and milliseconds times the floor's rate. */
class Model {
  private tenths: number
  private floor: number
  private at: number | undefined
  constructor(private readonly maxTokens: number, private readonly earn: number, private readonly perSecond: number) {
    this.tenths = maxTokens * 10
    this.floor = this.cap
  }
  private get cap() {
    return this.perSecond * 1000
  }
  success() {
    this.tenths = Math.min(this.maxTokens * 10, this.tenths + this.earn)
  }
  withdraw(millis: number): Source | undefined {
    if (this.tenths >= 10) {
      this.tenths -= 10
      return "tokens"
    }
    this.floor = Math.min(this.cap, this.floor + (this.at === undefined ? 0 : (millis - this.at) * this.perSecond))
    this.at = millis
    if (this.floor < 1000) return undefined
    this.floor -= 1000
    return "floor"
  }
  refund(source: Source) {
    if (source === "tokens") this.tenths = Math.min(this.maxTokens * 10, this.tenths + 10)
    else this.floor = Math.min(this.cap, this.floor + 1000)
  }
  reset() {
    this.tenths = this.maxTokens * 10
    this.floor = this.cap
  }
}

const operation = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ _tag: "success" as const }) },
  { weight: 4, arbitrary: fc.constant({ _tag: "withdraw" as const }) },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constant("advance" as const), millis: fc.nat(3000) }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("refund" as const), which: fc.nat(50) }) },
  { weight: 1, arbitrary: fc.constant({ _tag: "reset" as const }) }
)

describe("against a model in exact arithmetic", () => {
  it("grants and denies the same in 10,000 random runs, and its counters add up", () => {
    return holds(
      fc.property(
        fc.nat(5),
        fc.nat(10),
        fc.nat(3),
        fc.array(operation, { maxLength: 60 }),
        (maxTokens, earn, minPerSecond, operations) => {
          const config = { maxTokens, tokensPerSuccess: earn / 10, minPerSecond }
          const model = new Model(maxTokens, earn, minPerSecond)
          const held: Array<Source> = []
          let state = transition.full(config)
          let millis = 0
          for (const op of operations) {
            switch (op._tag) {
              case "success":
                model.success()
                state = transition.deposit(config, state)
                break
              case "advance":
                millis += op.millis
                break
              case "withdraw": {
                const expected = model.withdraw(millis)
                const [source, next] = transition.withdraw(config, state, BigInt(millis) * 1_000_000n)
                if (source !== expected) return false
                if (source !== undefined) held.push(source)
                state = next
                break
              }
              case "refund": {
                const [source] = held.splice(op.which % Math.max(1, held.length), 1)
                if (source === undefined) break
                model.refund(source)
                state = transition.refund(config, state, source)
                break
              }
              case "reset":
                model.reset()
                state = transition.reset(config, state)
                break
            }
            if (state.tokens < 0 || state.tokens > maxTokens || state.floor < 0) return false
          }
          const withdrawals = operations.filter((op) => op._tag === "withdraw").length
          return state.granted + state.denied === withdrawals && held.length === state.granted - state.refunded
        }
      ),
      10_000
    )
  })

  it("retries are never more than what there was at first, what was earned, and what the floor gave", () => {
    return holds(
      fc.property(fc.nat(5), fc.nat(3), fc.array(operation, { maxLength: 80 }), (maxTokens, perSecond, operations) => {
        const config = { maxTokens, tokensPerSuccess: 0.1, minPerSecond: perSecond }
        let state = transition.full(config)
        let successes = 0
        let millis = 0
        for (const op of operations) {
          if (op._tag === "success") {
            successes++
            state = transition.deposit(config, state)
          } else if (op._tag === "advance") millis += op.millis
          else if (op._tag === "withdraw") state = transition.withdraw(config, state, BigInt(millis) * 1_000_000n)[1]
        }
        return state.granted <= maxTokens + successes / 10 + perSecond * (1 + millis / 1000) + 1e-6
      }),
      10_000
    )
  })
})

describe("a budget", () => {
  class Outgoing extends RetryBudget.Tag<Outgoing>()("outgoing", { maxTokens: 2 }) {}

  it.effect("is shared by the retries that name its tag", () =>
    Effect.gen(function*() {
      class Search extends Retry.Tag<Search>()("search", { jitter: "none", budget: Outgoing }) {}
      class Users extends Retry.Tag<Users>()("users", { jitter: "none", budget: Outgoing }) {}
      const retries = Layer.provideMerge(Layer.merge(Search.Live, Users.Live), Outgoing.Live)
      yield* Effect.gen(function*() {
        const search = yield* Effect.fork(Effect.exit(Search.withRetry(Effect.fail("down"))))
        yield* TestClock.adjust("1 minute")
        expect(Exit.isSuccess(yield* Fiber.await(search))).toBe(true)
        expect(yield* Outgoing.available).toBe(0)
        yield* Effect.exit(Users.withRetry(Effect.fail("down")))
        expect((yield* Users.metrics).exhausted.Budget).toBe(1)
        expect(yield* Outgoing.metrics).toMatchObject({ offered: 3, granted: 2, denied: 1 })
      }).pipe(Effect.provide(retries))
    }))

  it.effect("can be given to the default retry by its layer, and to one call", () =>
    Effect.gen(function*() {
      yield* Effect.gen(function*() {
        const calls = yield* Effect.fork(Effect.exit(Retry.withRetry(Effect.fail("down"))))
        yield* TestClock.adjust("1 minute")
        yield* Fiber.await(calls)
        expect(yield* Outgoing.available).toBe(0)
        yield* Outgoing.reset
        const one = yield* Effect.fork(Effect.exit(Effect.fail("down").pipe(Retry.using({ budget: Outgoing }))))
        yield* TestClock.adjust("1 minute")
        yield* Fiber.await(one)
        expect(yield* Outgoing.available).toBe(0)
      }).pipe(Effect.provide(Layer.provideMerge(Retry.layer({ budget: Outgoing }), Outgoing.Live)))
    }))

  it.effect("a token is given back once, however often it is asked", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ name: "b", maxTokens: 3 })
      const one = Option.getOrThrow(yield* budget.withdraw)
      yield* budget.withdraw
      yield* one.refund
      yield* one.refund
      expect(yield* budget.metrics).toMatchObject({ tokens: 2, granted: 2, refunded: 1 })
    }).pipe(Effect.scoped))

  it.effect("the floor follows the clock", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ name: "b", maxTokens: 0, minPerSecond: 1 })
      const granted = Effect.map(budget.withdraw, Option.isSome)
      expect([yield* granted, yield* granted]).toEqual([true, false])
      yield* TestClock.adjust("1 second")
      expect(yield* budget.available).toBe(1)
      expect([yield* granted, yield* granted]).toEqual([true, false])
    }).pipe(Effect.scoped))

  it.effect("its gauge shows the share that is left, and rises with successes", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ name: "gauged", maxTokens: 2, tokensPerSuccess: 0.5 })
      const share = Effect.map(Metric.snapshot, (pairs) =>
        pairs.filter(({ metricKey }) =>
          metricKey.name === "resilience.retry.budget.available" &&
          metricKey.tags.some(({ key, value }) =>
            key === "resilience.name" && value === "gauged"
          )
        ).map(({ metricState }) => (metricState as unknown as { readonly value: number }).value))
      expect(yield* share).toEqual([1])
      yield* budget.withdraw
      yield* budget.withdraw
      expect(yield* share).toEqual([0])
      yield* budget.deposit
      expect(yield* share).toEqual([0.25])
      yield* budget.reset
      expect(yield* share).toEqual([1])
    }).pipe(Effect.scoped))

  it.effect("its gauge is apart from that of a retry with the same name", () =>
    Effect.gen(function*() {
      yield* RetryBudget.make({ name: "twice", maxTokens: 2 })
      const retry = yield* Retry.make({ name: "twice", budget: { maxTokens: 4 }, maxAttempts: 2, initialDelay: 0 })
      yield* Effect.exit(retry.withRetry(Effect.fail("no")))
      const shares = Object.fromEntries(
        (yield* Metric.snapshot).flatMap(({ metricKey, metricState }) => {
          const tags = Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value]))
          return metricKey.name === "resilience.retry.budget.available" && tags["resilience.name"] === "twice"
            ? [[tags["resilience.pattern"], (metricState as unknown as { readonly value: number }).value]]
            : []
        })
      )
      expect(shares).toEqual({ RetryBudget: 1, Retry: 0.75 })
    }).pipe(Effect.scoped))

  it.effect("the registry lists it with its operator's reset", () =>
    Effect.gen(function*() {
      yield* Outgoing.withdraw
      yield* Registry.act("RetryBudget", "outgoing", "reset")
      expect(yield* Outgoing.available).toBe(2)
      const { instances } = yield* Registry.snapshot
      expect(instances).toMatchObject([{ pattern: "RetryBudget", instance: "outgoing", metrics: { tokens: 2 } }])
    }).pipe(Effect.provide(Outgoing.Live.pipe(Layer.provideMerge(Registry.Live)))))

  it.effect("layerNoop never denies", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 200; i++) expect(Option.isSome(yield* Outgoing.withdraw)).toBe(true)
      expect(yield* Outgoing.available).toBe(Infinity)
    }).pipe(Effect.provide(Outgoing.layerNoop)))

  it.effect("anything with the same operations can stand in for it", () =>
    Effect.gen(function*() {
      let asked = 0
      const own: RetryBudget.Service = {
        ...yield* RetryBudget.make({ name: "b" }),
        withdraw: Effect.sync(() => {
          asked++
          return Option.none()
        })
      }
      yield* Effect.exit(Effect.fail("x").pipe(Retry.using({ budget: own })))
      expect(asked).toBe(1)
    }).pipe(Effect.scoped))
})

describe("a budget per key", () => {
  class Hosts extends RetryBudget.Keyed<Hosts>()("hosts", { maxTokens: 2, maxKeys: 3, idleAfter: "10 minutes" }) {}

  const spend = (key: string) => Effect.flatMap(Hosts.budgetFor(key), (budget) => budget.withdraw)

  it.effect("a host that is down uses up its own retries, and no other's", () =>
    Effect.gen(function*() {
      const call = (host: string) =>
        Effect.gen(function*() {
          let calls = 0
          const effect = Effect.suspend(() => {
            calls++
            return Effect.fail("down")
          })
          const guarded = effect.pipe(
            Retry.using({ jitter: "none", initialDelay: 0, maxAttempts: 9, budget: Hosts.budgetFor(host) })
          )
          yield* Effect.exit(guarded)
          return calls
        })
      expect(yield* call("a")).toBe(3)
      expect(yield* call("a")).toBe(1)
      expect(yield* call("b")).toBe(3)
      expect(yield* Hosts.metrics).toMatchObject({
        keys: 2,
        low: [{ key: "a", available: 0 }, { key: "b", available: 0 }]
      })
    }).pipe(Effect.provide(Hosts.Live)))

  it.effect("a used-up budget is not forgotten to make room; a full one is", () =>
    Effect.gen(function*() {
      for (const host of ["a", "b", "c"]) yield* spend(host)
      expect(Option.isNone(yield* spend("d"))).toBe(true)
      expect(yield* Hosts.metrics).toMatchObject({ keys: 3, evicted: 0, denied: 1 })
      yield* Effect.flatMap(Hosts.budgetFor("b"), (budget) => budget.reset)
      expect(Option.isSome(yield* spend("d"))).toBe(true)
      expect(yield* Hosts.metrics).toMatchObject({ keys: 3, evicted: 1, denied: 1 })
    }).pipe(Effect.provide(Hosts.Live)))

  it.effect("adds up the retries of all its keys, those of forgotten ones too", () =>
    Effect.gen(function*() {
      expect(yield* Hosts.metrics).toMatchObject({ offered: 0, granted: 0, denied: 0, refunded: 0 })
      for (const host of ["a", "b", "c", "a", "a"]) yield* spend(host) // the last is denied
      yield* spend("d") // no room for the key
      yield* TestClock.adjust("20 minutes")
      const reservation = Option.getOrThrow(yield* spend("e"))
      yield* Effect.repeatN(reservation.refund, 1)
      expect(yield* Hosts.metrics).toMatchObject({ keys: 1, offered: 7, granted: 5, denied: 2, refunded: 1 })
    }).pipe(Effect.provide(Hosts.Live)))

  it.effect("a key that was idle is forgotten, and the table does not fill up with dead hosts", () =>
    Effect.gen(function*() {
      for (const host of ["a", "b", "c"]) yield* spend(host)
      yield* TestClock.adjust("20 minutes")
      expect((yield* Hosts.metrics).keys).toBe(0)
      expect(Option.isSome(yield* spend("d"))).toBe(true)
    }).pipe(Effect.provide(Hosts.Live)))

  it.effect("onFull admit: a new key goes without a budget, and that is counted", () =>
    Effect.gen(function*() {
      for (const host of ["a", "b", "c"]) yield* spend(host)
      for (let i = 0; i < 5; i++) expect(Option.isSome(yield* spend("d"))).toBe(true)
      expect(yield* Hosts.metrics).toMatchObject({ keys: 3, unguarded: 5, denied: 0 })
    }).pipe(Effect.provide(Hosts.layer({ onFull: "admit" }))))

  it.effect("options may depend on the key, and the operator resets one", () =>
    Effect.gen(function*() {
      yield* spend("big")
      expect(yield* Effect.flatMap(Hosts.budgetFor("big"), (budget) => budget.available)).toBe(99)
      yield* Registry.act("RetryBudget", "hosts", "reset", "big")
      expect((yield* Hosts.metrics).low).toEqual([])
      const unknown = yield* Effect.flip(Registry.act("RetryBudget", "hosts", "reset", "small"))
      expect(unknown.message).toContain("there is no budget for the key")
    }).pipe(
      Effect.provide(
        Hosts.layer({ optionsFor: (key) => key === "big" ? { maxTokens: 100 } : {} }).pipe(
          Layer.provideMerge(Registry.Live)
        )
      )
    ))
})

describe("interruption at every operation", () => {
  /**
   * Tokens gone must be retries that began. An interruption can hit a retry that has been handed over and has not yet run
   * its first operation: with `handedOver` such a one counts as begun.
   */
  const subject = (
    retrying: (budget: RetryBudget.Service, effect: Effect.Effect<never, string>) => Effect.Effect<never, string>,
    handedOver = 0
  ): Effect.Effect<Subject> =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ name: "b", maxTokens: 10, tokensPerSuccess: 0 })
      let attempts = 0
      const effect = Effect.suspend(() => {
        attempts++
        return attempts === 4 ? Effect.never : Effect.fail("down")
      })
      const whole = Effect.map(budget.available, (tokens) => {
        const unaccounted = 10 - tokens - Math.max(0, attempts - 1)
        return unaccounted >= 0 && unaccounted <= handedOver
      })
      return { with: () => retrying(budget, effect), whole } as unknown as Subject
    }).pipe(Effect.scoped)

  const budgets = { budgets: [12, 16, 23, 31], contended: [false], steps: 16 }

  it.live(
    "a token is spent for a retry that began, or given back: none is lost and none doubled",
    () =>
      Effect.gen(function*() {
        for (const [initialDelay, handedOver] of [["1 hour", 0], [0, 1]] as const) {
          const guard = (budget: RetryBudget.Service) =>
            Retry.using({ jitter: "none", maxAttempts: 9, maxDelay: "1 hour", initialDelay, budget })
          const { leaks, runs } = yield* sweep(
            subject((budget, effect) => effect.pipe(guard(budget)), handedOver),
            budgets
          )
          expect(leaks).toEqual([])
          expect(runs).toBeGreaterThan(1000)
        }
      }),
    60_000
  )

  const mutants: Record<
    string,
    (budget: RetryBudget.Service, effect: Effect.Effect<never, string>) => Effect.Effect<never, string>
  > = {
    "reserves and does not give back": (budget, effect) =>
      Effect.catchAll(effect, () => Effect.zipRight(budget.withdraw, Effect.zipRight(Effect.sleep("1 hour"), effect))),
    "reserves outside the mask": (budget, effect) =>
      Effect.catchAll(effect, () =>
        Effect.flatMap(budget.withdraw, (reservation) =>
          Effect.zipRight(
            Effect.void,
            Effect.uninterruptibleMask((restore) =>
              Effect.onInterrupt(
                restore(Effect.zipRight(Effect.sleep("1 hour"), effect)),
                () => Option.match(reservation, { onNone: () => Effect.void, onSome: ({ refund }) => refund })
              )
            )
          ))),
    "gives back although the attempt began": (budget, effect) =>
      Effect.catchAll(
        effect,
        () =>
          Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(budget.withdraw, (reservation) =>
              Effect.onInterrupt(
                restore(Effect.zipRight(effect.pipe(Effect.retry({ times: 2 })), Effect.never)),
                () => Option.match(reservation, { onNone: () => Effect.void, onSome: ({ refund }) => refund })
              ))
          )
      )
  }
  for (const [name, mutant] of Object.entries(mutants)) {
    it.live(`the sweep catches one that ${name}`, () =>
      Effect.gen(function*() {
        const { leaks } = yield* sweep(subject(mutant), budgets)
        expect(leaks.length).toBeGreaterThan(0)
      }), 60_000)
  }
})
