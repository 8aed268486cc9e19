import { RateLimiter, type RateLimiterStore } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, FastCheck as fc, Fiber, TestContext } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { DeniedKeys } from "../src/internal/rate/denied.js"
import type { Plan } from "../src/internal/rate/plan.js"
import { Plans } from "../src/internal/rate/plan.js"
import { asked } from "./utils/rateStore.js"
import { scale } from "./utils/scale.js"
import { SkewedClock } from "./utils/skewed.js"
import { Spied } from "./utils/spied.js"

const url = inject("redisUrl")
const run = randomUUID()
let made = 0

/** Ten in a thousand seconds: the milliseconds that a test takes change nothing. */
const slow: ReadonlyArray<RateLimiterStore.Rate> = [{ limit: 10, window: Duration.seconds(1000), burst: 3 }]

const request = (instance: string, more: Partial<RateLimiterStore.Request> = {}, rates = slow) =>
  asked(instance, rates, more)

const open = (clock: SkewedClock, options: RedisRateLimiterStore.Options = {}, prefix = `${run}-${++made}:`) =>
  Effect.gen(function*() {
    const server: RedisConnection.Server = { _tag: "Standalone", url: String(url) }
    const spied = new Spied(yield* clock.connect({ server, prefix }))
    const store = yield* spied.provide(RedisRateLimiterStore.make(options))
    return { spied, store }
  })

/** Takes all that there is, and is denied once. */
const exhaust = (store: RateLimiterStore.Service, asked: RateLimiterStore.Request) =>
  Effect.iterate(1, { while: (granted) => granted > 0, body: () => Effect.map(store.decide(asked), (d) => d.granted) })

describe.skipIf(url === undefined)("a key that was denied", () => {
  it.scoped("is denied again without a question, with what a question would say", () =>
    Effect.gen(function*() {
      const clock = new SkewedClock()
      const { spied, store } = yield* open(clock, { deniedFor: "1 hour" })
      yield* exhaust(store, request("told"))
      const before = spied.calls
      yield* clock.advance("40 seconds")
      const decision = yield* store.decide(request("told"))
      expect(store.decideAtOnce?.(request("told"))?.granted).toBe(0)
      expect(spied.calls).toBe(before)
      const { store: twin } = yield* open(clock, { batching: false, deniedFor: 0 }, spied.redis.prefix)
      const truth = yield* twin.decide(request("told"))
      expect([decision.granted, decision.limit, decision.remaining]).toEqual([0, truth.limit, truth.remaining])
      expect(Duration.toMillis(decision.window)).toBe(Duration.toMillis(truth.window))
      for (const span of ["wait", "resetAfter"] as const) {
        expect(Math.abs(Duration.toSeconds(decision[span]) - Duration.toSeconds(truth[span]))).toBeLessThan(2)
      }
      expect(Duration.toSeconds(decision.wait)).toBeLessThan(60.001)
    }))

  it.scoped("is let in as soon as there is something, and not later", () =>
    Effect.gen(function*() {
      const clock = new SkewedClock()
      const { store } = yield* open(clock, { deniedFor: "1 hour" })
      yield* exhaust(store, request("soon"))
      const { wait } = yield* store.decide(request("soon"))
      yield* clock.advance(wait)
      expect((yield* store.decide(request("soon"))).granted).toBe(1)
    }))

  it.scoped("is asked about for what costs less, what looks for something else, and what may wait for it", () =>
    Effect.gen(function*() {
      const clock = new SkewedClock()
      const { spied, store } = yield* open(clock, { deniedFor: "1 hour" })
      yield* store.decide(request("less", { cost: 1 }))
      expect((yield* store.decide(request("less", { cost: 3 }))).granted).toBe(0)
      const before = spied.calls
      expect((yield* store.decide(request("less", { cost: 3 }))).granted).toBe(0)
      expect((yield* store.decide(request("less", { cost: 3, mode: "peek" }))).granted).toBe(0)
      expect((yield* store.decide(request("less", { cost: 3, mode: "reserve" }))).granted).toBe(0)
      expect(spied.calls).toBe(before)
      expect((yield* store.decide(request("less", { cost: 2 }))).granted).toBe(2)
      expect((yield* store.decide(request("less", { cost: 3, mode: "reserve", maxWait: Duration.hours(1) }))).granted)
        .toBe(3)
      expect((yield* store.decide(request("less", { key: "b" }))).granted).toBe(1)
    }))

  const changes: Record<string, (limiter: RateLimiter.Service) => Effect.Effect<unknown, unknown>> = {
    "a reward": (limiter) => limiter.reward({ cost: 1 }),
    "a reset": (limiter) => limiter.reset(),
    "another rate": (limiter) => limiter.setRate("20/minute")
  }
  for (const [name, change] of Object.entries(changes)) {
    it.scoped(`is asked about again after ${name} of this process`, () =>
      Effect.gen(function*() {
        const clock = new SkewedClock()
        const { spied, store } = yield* open(clock, { deniedFor: "1 hour" })
        const limiter = yield* RateLimiter.make({ name: `changed by ${name}`, rate: "3/minute", store })
        yield* Effect.repeatN(limiter.consume(), 3)
        const before = spied.calls
        expect((yield* limiter.consume()).allowed).toBe(false)
        expect(spied.calls).toBe(before)
        yield* change(limiter)
        expect((yield* limiter.consume()).allowed).toBe(true)
      }))
  }

  it.scoped("is asked about again after a refund of this process", () =>
    Effect.gen(function*() {
      const clock = new SkewedClock()
      const { store } = yield* open(clock, { deniedFor: "1 hour" })
      const decision = yield* store.decide(request("refund", { cost: 3 }))
      expect((yield* store.decide(request("refund"))).granted).toBe(0)
      yield* store.refund(request("refund", { cost: 3 }), decision)
      expect((yield* store.decide(request("refund"))).granted).toBe(1)
    }))

  const givenBack: Record<
    string,
    (store: RateLimiterStore.Service, taken: RateLimiterStore.Decision) => Effect.Effect<unknown, unknown>
  > = {
    "a refund": (store, taken) => store.refund(request("meanwhile", { cost: 3 }), taken),
    "a reward": (store) => store.adjust(request("meanwhile"), -3),
    "a reset": (store) => store.reset(request("meanwhile"))
  }
  for (const [name, giveBack] of Object.entries(givenBack)) {
    it.scoped(`is asked about again if it was denied while ${name} was on its way`, () =>
      Effect.gen(function*() {
        const clock = new SkewedClock()
        const { spied } = yield* open(clock)
        const gate = yield* Deferred.make<void>()
        const slow: RedisConnection.Service = Object.assign(Object.create(spied.redis) as RedisConnection.Service, {
          run: (...args: Parameters<RedisConnection.Service["run"]>) =>
            Effect.zipRight(Deferred.await(gate), spied.redis.run(...args))
        })
        const store = yield* Effect.provideService(
          RedisRateLimiterStore.make({ deniedFor: "1 hour" }),
          RedisConnection,
          slow
        )
        const taken = yield* store.decide(request("meanwhile", { cost: 3 }))
        const change = yield* Effect.fork(giveBack(store, taken))
        yield* Effect.yieldNow()
        expect((yield* store.decide(request("meanwhile"))).granted).toBe(0)
        yield* Deferred.succeed(gate, void 0)
        yield* Fiber.join(change)
        expect((yield* store.decide(request("meanwhile"))).granted).toBe(1)
      }))
  }

  it.scoped("is asked about again after deniedFor: what another process gave back is seen then", () =>
    Effect.gen(function*() {
      const clock = new SkewedClock()
      const { spied, store } = yield* open(clock)
      const { store: other } = yield* open(clock, {}, spied.redis.prefix)
      yield* exhaust(store, request("others"))
      yield* other.reset(request("others"))
      yield* clock.advance("990 millis")
      expect((yield* store.decide(request("others"))).granted).toBe(0)
      yield* clock.advance("10 millis")
      expect((yield* store.decide(request("others"))).granted).toBe(1)
    }))

  it.scoped("is asked about each time with deniedFor 0", () =>
    Effect.gen(function*() {
      const clock = new SkewedClock()
      const { spied, store } = yield* open(clock, { deniedFor: 0 })
      yield* exhaust(store, request("off"))
      const before = spied.calls
      yield* Effect.repeatN(store.decide(request("off")), 4)
      expect(spied.calls).toBe(before + 5)
    }))

  it.scoped("RF3: is never denied where a store without a memory lets it in (property)", () =>
    Effect.gen(function*() {
      const clock = new SkewedClock()
      const { spied, store } = yield* open(clock, { deniedFor: "1 hour", maxDeniedKeys: 2 })
      const { store: twin } = yield* open(clock, { batching: false, deniedFor: 0 })
      // A third key pushes one of the others out of a memory of two.
      const key = fc.constantFrom("a", "a", "a", "b", "b", "c")
      const cost = fc.constantFrom(1, 1, 1, 2, 3)
      const operation = fc.oneof(
        { weight: 12, arbitrary: fc.record({ _tag: fc.constant("Ask" as const), key, cost }) },
        { weight: 2, arbitrary: fc.record({ _tag: fc.constant("Reserve" as const), key, cost }) },
        {
          weight: 3,
          arbitrary: fc.record({ _tag: fc.constant("Wait" as const), tens: fc.integer({ min: 1, max: 12 }) })
        },
        { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Refund" as const), key }) },
        { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Reward" as const), key, cost }) },
        { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Penalty" as const), key, cost }) },
        { weight: 1, arbitrary: fc.record({ _tag: fc.constant("Reset" as const), key }) }
      )
      let cases = 0
      let asks = 0
      const play = (operations: ReadonlyArray<typeof operation extends fc.Arbitrary<infer A> ? A : never>) =>
        Effect.gen(function*() {
          const instance = `case ${++cases}`
          const last = new Map<
            string,
            readonly [RateLimiterStore.Request, RateLimiterStore.Decision, RateLimiterStore.Decision]
          >()
          for (const one of operations) {
            switch (one._tag) {
              case "Ask":
              case "Reserve": {
                const mode = one._tag === "Ask" ? "all" : "reserve"
                const asked = request(instance, { key: one.key, cost: one.cost, mode, maxWait: Duration.seconds(150) })
                asks++
                const ours = yield* store.decide(asked)
                const theirs = yield* twin.decide(asked)
                expect(ours.granted).toBe(theirs.granted)
                if (ours.granted > 0) last.set(one.key, [asked, ours, theirs])
                break
              }
              case "Wait":
                yield* clock.advance(Duration.seconds(10 * one.tens))
                break
              case "Refund": {
                const taken = last.get(one.key)
                last.delete(one.key)
                if (taken === undefined) break
                yield* store.refund(taken[0], taken[1])
                yield* twin.refund(taken[0], taken[2])
                break
              }
              case "Reward":
              case "Penalty":
                for (const each of [store, twin]) {
                  yield* each.adjust(request(instance, one), one._tag === "Reward" ? -one.cost : one.cost)
                }
                break
              case "Reset":
                for (const each of [store, twin]) yield* each.reset(request(instance, one))
            }
          }
        })
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(operation, { minLength: 40, maxLength: 100, size: "max" }),
            (operations) => Effect.runPromise(Effect.provide(play(operations), TestContext.TestContext))
          ),
          { numRuns: scale(20, 300) }
        )
      )
      // Some of them in each case, and often enough to be wrong.
      expect(asks - spied.calls).toBeGreaterThan(4 * cases)
    }), 120_000)
})

describe("what is remembered of denied keys", () => {
  const plans = new Plans()
  const plan: Plan = plans.of(request("unit"))
  const denied: RateLimiterStore.Decision = {
    granted: 0,
    limit: 10,
    window: Duration.seconds(1000),
    remaining: 0,
    wait: Duration.seconds(100),
    resetAfter: Duration.seconds(300)
  }

  it("is nothing of a decision that was on its way when something was given back", () => {
    const keys = new DeniedKeys(10, 1e9)
    const { generation } = keys
    keys.forget(request("unit"))
    keys.remember(request("unit"), plan, denied, 0, generation)
    expect(keys.find(request("unit"), plan, 1)).toBeUndefined()
    keys.remember(request("unit"), plan, denied, 0, keys.generation)
    expect(keys.find(request("unit"), plan, 1)).toBeDefined()
  })

  it("RF4: is of so many keys, the latest", () => {
    const keys = new DeniedKeys(3, 1e9)
    for (let i = 0; i < 1000; i++) {
      keys.remember(request(`instance ${i % 7}`, { key: `key ${i}` }), plan, denied, 0, keys.generation)
      expect(keys.size).toBeLessThanOrEqual(3)
    }
    keys.remember(request("unit", { key: "last" }), plan, denied, 0, keys.generation)
    expect(keys.find(request("unit", { key: "last" }), plan, 1)).toBeDefined()
  })

  it("ends when it makes sense to ask again, and after its longest time", () => {
    const keys = new DeniedKeys(3, 1000)
    keys.remember(request("unit"), plan, denied, 5000, keys.generation)
    expect(keys.find(request("unit"), plan, 5999)).toBeDefined()
    expect(keys.find(request("unit"), plan, 6000)).toBeUndefined()
    expect(keys.size).toBe(0)
    keys.remember(request("unit"), plan, { ...denied, wait: Duration.millis(5) }, 5000, keys.generation)
    expect(keys.find(request("unit"), plan, 5004.9)).toBeDefined()
    expect(keys.find(request("unit"), plan, 5005)).toBeUndefined()
  })
})
