import { RateLimiter, RateLimiterStore, RateLimiterStoreError, RateLimitExceededError } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Clock, Duration, Effect, Fiber, Option, TestClock } from "effect"
import { algorithms, isBursty } from "../src/internal/rate/rate.js"
import { makeManualClock } from "./utils/clock.js"

const settle = Effect.repeatN(Effect.yieldNow(), 10)

const allowed = (limiter: RateLimiter.Service, times: number, args?: RateLimiter.Args) =>
  Effect.map(
    Effect.forEach(Array.from({ length: times }), () => limiter.consume(args)),
    (decisions) => decisions.filter((decision) => decision.allowed).length
  )

/** A test whose time is moved by hand, which is cheap enough for thousands of steps. */
const byHand = (
  run: (hand: ReturnType<typeof makeManualClock>) => Effect.Effect<void, unknown, Scope.Scope>
) => {
  const hand = makeManualClock()
  return Effect.withClock(run(hand), hand.clock)
}

/** In memory, and by a store. */
const both = (
  options: RateLimiter.Options,
  test: (limiter: RateLimiter.Service) => Effect.Effect<void, unknown, Scope.Scope>
) =>
  Effect.gen(function*() {
    yield* test(yield* RateLimiter.make({ name: "memory", ...options }))
    const store = yield* RateLimiterStore.makeMemory()
    yield* test(yield* RateLimiter.make({ name: "store", ...options, store }))
  })

/** Waits for the limiter, in a fiber of its own that has got as far as it can. */
const waiter = <A>(limiter: RateLimiter.Service, effect: Effect.Effect<A>, args: RateLimiter.Args = {}) =>
  Effect.tap(Effect.fork(limiter.withLimitBy(args)(effect)), () => settle)

describe("rate-limiter-flexible", () => {
  it.scoped("RL1: a limit over months is enforced beyond the longest timer", () =>
    byHand(({ adjust }) =>
      Effect.gen(function*() {
        for (const algorithm of algorithms) {
          const limiter = yield* RateLimiter.make({ name: "l", rate: { limit: 1, window: "60 days" }, algorithm })
          const begun = yield* Clock.currentTimeNanos
          adjust(Duration.nanos(5_184_000_000_000_000n - begun % 5_184_000_000_000_000n))
          expect(yield* allowed(limiter, 3)).toBe(1)
          for (const span of ["20 millis", "24 days", "25 days"] as const) {
            adjust(span)
            yield* settle
            expect(yield* allowed(limiter, 3)).toBe(0)
          }
          adjust((yield* limiter.peek()).retryAfter)
          expect(yield* allowed(limiter, 3)).toBe(1)
        }
      })
    ))

  it.scoped("RL2: ten a second are not nineteen within two tenths of a second", () =>
    byHand(({ adjust }) =>
      Effect.gen(function*() {
        for (const options of [{ algorithm: "sliding-log" }, { algorithm: "sliding-window" }, { burst: 1 }] as const) {
          const limiter = yield* RateLimiter.make({ name: "l", rate: "10/second", ...options })
          const begun = yield* Clock.currentTimeNanos
          adjust(Duration.nanos(1_000_000_000n - begun % 1_000_000_000n))
          // Whatever was let through late in one second counts early in the next.
          adjust("900 millis")
          const before = yield* allowed(limiter, 30)
          adjust("200 millis")
          const after = yield* allowed(limiter, 30)
          expect(before).toBeGreaterThan(0)
          expect(before + after).toBeLessThanOrEqual(11)
        }
      })
    ))

  it.scoped("RL3: ten thousand keys have one timer between them", () =>
    byHand(({ sleepers }) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter.make({ name: "l", rate: "1/hour" })
        for (let i = 0; i < 10_000; i++) yield* limiter.consume({ key: `user ${i}` })
        yield* settle
        expect((yield* limiter.metrics).keys).toBe(10_000)
        expect(sleepers()).toBe(1)
      })
    ))

  it.scoped("RL4: a rejection is an error, with a type and a time to come back", () =>
    both({ rate: "1/minute" }, (limiter) =>
      Effect.gen(function*() {
        yield* limiter.consume()
        const error = yield* Effect.flip(limiter.withLimit(Effect.void))
        expect(error).toBeInstanceOf(Error)
        expect(error).toBeInstanceOf(RateLimitExceededError)
        expect(error.retryAfter).toEqual(Option.some(Duration.minutes(1)))
      })))

  it.scoped("RL5: one who waits can leave, and the line of an idle key goes", () =>
    byHand(({ adjust, sleepers }) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter.make({ name: "l", rate: "1/second", mode: "wait", maxWait: "1 hour" })
        const fibers = []
        for (let i = 0; i < 100; i++) {
          yield* limiter.consume({ key: `user ${i}` })
          fibers.push(yield* waiter(limiter, Effect.void, { key: `user ${i}` }))
        }
        expect((yield* limiter.metrics).waiting).toBe(100)
        yield* Fiber.interruptAll(fibers)
        expect(yield* limiter.metrics).toMatchObject({ waiting: 0, canceled: 100 })
        for (let minute = 0; minute < 10; minute++) {
          adjust("1 minute")
          yield* settle
        }
        expect(yield* limiter.metrics).toMatchObject({ keys: 0, evicted: 100 })
        expect(sleepers()).toBe(0)
      })
    ))

  it.scoped("RL6: a call that one of several rates refuses is charged to none", () =>
    both({ rate: ["100/hour", "1/second"] }, (limiter) =>
      Effect.gen(function*() {
        yield* TestClock.adjust("1 hour")
        expect(yield* allowed(limiter, 50)).toBe(1)
        yield* TestClock.adjust("1 second")
        expect(yield* allowed(limiter, 1, { rate: "100/hour", cost: 99 })).toBe(1)
      })))
})

describe("bottleneck", () => {
  it.scoped("RL7: windows are of any length, and none is doubled at its border", () =>
    byHand(({ adjust }) =>
      Effect.gen(function*() {
        for (const window of ["7 millis", "333 millis", "250 micros"] as const) {
          const length = Duration.unsafeToNanos(window)
          for (const algorithm of algorithms) {
            const burst = isBursty(algorithm) ? { burst: 1 } : {}
            const limiter = yield* RateLimiter.make({ name: "l", rate: { limit: 3, window }, algorithm, ...burst })
            const begun = yield* Clock.currentTimeNanos
            for (let passed = 0; passed < 300; passed++) {
              // One try is turned away at most: the next comes when it was told to.
              const { allowed, retryAfter } = yield* limiter.consume()
              if (allowed) continue
              adjust(retryAfter)
              expect((yield* limiter.consume()).allowed).toBe(true)
            }
            const windows = Number((yield* Clock.currentTimeNanos) - begun) / Number(length)
            // The two counters are on the safe side, by more than one of three.
            const most = algorithm === "sliding-window" ? 151 : 101
            expect([window, algorithm, windows > 98.9 && windows < most]).toEqual([window, algorithm, true])
          }
        }
      })
    ))

  it.scoped("RL8: one who waits leaves when its caller does, and its share goes to those behind", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "l", rate: "1/second", mode: "wait", maxWait: "1 hour" })
      yield* limiter.consume()
      const order: Array<string> = []
      const first = yield* waiter(limiter, Effect.sync(() => order.push("first")))
      yield* waiter(limiter, Effect.sync(() => order.push("second")))
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust("1 second")
      expect(order).toEqual(["second"])
    }))
})

describe("@upstash/ratelimit", () => {
  it.scoped("RL9: a store that does not answer does not let everything through", () =>
    Effect.gen(function*() {
      const away = () => Effect.never
      const store: RateLimiterStore.Service = { decide: away, refund: away, adjust: away, drain: away, reset: away }
      const limiter = yield* RateLimiter.make({ name: "l", rate: "1/minute", store })
      for (const ask of [limiter.withLimit(Effect.void), limiter.consume(), limiter.reserve()]) {
        const fiber = yield* Effect.fork(Effect.flip(ask))
        yield* settle
        yield* TestClock.adjust("10 seconds")
        expect(yield* Fiber.join(fiber)).toBeInstanceOf(RateLimiterStoreError)
      }
    }))

  it.scoped("RL10: a key that was turned away and never asks again is forgotten", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "l", rate: "1/second" })
      for (let i = 0; i < 100; i++) expect(yield* allowed(limiter, 3, { key: `user ${i}` })).toBe(1)
      yield* TestClock.adjust("2 minutes")
      expect(yield* limiter.metrics).toMatchObject({ keys: 0, evicted: 100 })
    }))

  it.scoped("RL11: each window has its whole limit", () =>
    both({ rate: "5/second", algorithm: "fixed-window" }, (limiter) =>
      Effect.gen(function*() {
        for (let window = 0; window < 5; window++) {
          yield* TestClock.adjust("1 second")
          expect(yield* allowed(limiter, 9)).toBe(5)
        }
      })))

  it.scoped("RL12: those who wait go in the order in which they came, and nobody asks again and again", () =>
    byHand(({ adjust, sleepers }) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter.make({ name: "l", rate: "1/second", mode: "wait", maxWait: "1 hour" })
        yield* limiter.consume()
        const before = sleepers()
        const order: Array<number> = []
        for (let i = 0; i < 20; i++) yield* waiter(limiter, Effect.sync(() => order.push(i)))
        expect(sleepers() - before).toBe(1)
        for (let i = 0; i < 20; i++) {
          adjust("999 millis")
          yield* settle
          expect(order).toHaveLength(i)
          adjust("1 millis")
          yield* settle
        }
        expect(order).toEqual(Array.from({ length: 20 }, (_, i) => i))
      })
    ))
})

describe("Effect's RateLimiter", () => {
  it.scoped("RL13: 300, 400, 600 and 900 a second are so many", () =>
    byHand(({ adjust }) =>
      Effect.gen(function*() {
        for (const limit of [300, 400, 600, 900]) {
          const limiter = yield* RateLimiter.make({ name: "l", rate: { limit, window: "1 second", burst: 1 } })
          let passed = 0
          for (let step = 0; step < 10_000; step++) {
            passed += yield* allowed(limiter, 1)
            adjust("100 micros")
          }
          // Asked every tenth of a millisecond, each call is late by that at most.
          expect(passed).toBeGreaterThan(limit * 0.9)
          expect(passed).toBeLessThanOrEqual(limit + 1)
        }
      })
    ))

  it.scoped("RL14: there is no highest rate", () =>
    byHand(({ adjust }) =>
      Effect.gen(function*() {
        const limiter = yield* RateLimiter.make({ name: "l", rate: { limit: 1_000_000, window: "1 second", burst: 1 } })
        let passed = 0
        for (let step = 0; step < 10_000; step++) {
          passed += yield* allowed(limiter, 2)
          adjust(Duration.nanos(1000n))
        }
        expect(passed).toBe(10_000)
      })
    ))

  it.scoped("RL15: a call can fail at once, wait so long and no longer, have a key, and be asked about", () =>
    Effect.gen(function*() {
      const failing = yield* RateLimiter.make({ name: "f", rate: "1/second" })
      yield* failing.consume({ key: "a" })
      expect(yield* Effect.flip(failing.withLimitBy({ key: "a" })(Effect.void))).toMatchObject({ reason: "Exceeded" })
      expect(yield* failing.withLimitBy({ key: "b" })(Effect.succeed("ran"))).toBe("ran")
      expect(yield* failing.peek("a")).toMatchObject({ remaining: 0, limit: 1 })
      const patient = yield* RateLimiter.make({ name: "w", rate: "1/second", mode: "wait", maxWait: "500 millis" })
      yield* patient.consume()
      expect(yield* Effect.flip(patient.withLimit(Effect.void))).toMatchObject({ reason: "WaitExceeded" })
    }))

  it.scoped("RL16: no timer for each call, and no fiber for a limiter that is idle", () =>
    byHand(({ sleepers }) =>
      Effect.gen(function*() {
        const limiters = []
        for (let i = 0; i < 100; i++) limiters.push(yield* RateLimiter.make({ name: `l ${i}`, rate: "1000/second" }))
        yield* settle
        expect(sleepers()).toBe(0)
        for (const limiter of limiters) yield* allowed(limiter, 100)
        yield* settle
        // The one that will look for keys to forget.
        expect(sleepers()).toBe(100)
      })
    ))
})

describe("the RateLimiter of @effect/experimental", () => {
  it.scoped("RL17: a cost that never fits is refused instead of delayed, and takes nothing", () =>
    both({ rate: "5/minute", mode: "wait", maxWait: "1 hour" }, (limiter) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(limiter.withLimitBy({ cost: 6 })(Effect.void))
        expect(error).toMatchObject({ reason: "CostTooHigh", retryAfter: Option.none() })
        expect((yield* limiter.peek()).remaining).toBe(5)
      })))

  it.scoped("RL18: retryAfter knows how much of the window has passed", () =>
    both({ rate: "1/minute" }, (limiter) =>
      Effect.gen(function*() {
        yield* limiter.consume()
        yield* TestClock.adjust("59 seconds")
        expect((yield* limiter.consume()).retryAfter).toEqual(Duration.seconds(1))
      })))

  it.scoped("RL19: a store in memory forgets the keys that are as good as new", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory({ maxKeys: 10 })
      const limiter = yield* RateLimiter.make({ name: "l", rate: "1/second", store })
      for (let i = 0; i < 100; i++) {
        expect(yield* allowed(limiter, 2, { key: `user ${i}` })).toBe(1)
        yield* TestClock.adjust("1 second")
      }
    }))

  it.scoped("RL20: a limit that does not divide its window goes to a store as it was written", () =>
    Effect.gen(function*() {
      const memory = yield* RateLimiterStore.makeMemory()
      const asked: Array<RateLimiterStore.Rate> = []
      const store: RateLimiterStore.Service = {
        ...memory,
        decide: (request) => {
          asked.push(...request.rates)
          return memory.decide(request)
        }
      }
      for (const limit of [3, 7]) {
        const limiter = yield* RateLimiter.make({ name: `l ${limit}`, rate: `${limit}/second`, store })
        expect(yield* allowed(limiter, 20)).toBe(limit)
        const { retryAfter } = yield* limiter.peek()
        yield* TestClock.adjust(Duration.nanos(Duration.unsafeToNanos(retryAfter) - 1n))
        expect(yield* allowed(limiter, 1)).toBe(0)
        yield* TestClock.adjust(Duration.nanos(1n))
        expect(yield* allowed(limiter, 1)).toBe(1)
      }
      expect(new Set(asked.map(({ limit, window }) => `${limit} in ${Duration.format(window)}`))).toEqual(
        new Set(["3 in 1s", "7 in 1s"])
      )
    }))

  it.scoped("RL21: one who is interrupted while it waits gives its tokens back", () =>
    both({ rate: "1/second", mode: "wait", maxWait: "1 hour" }, (limiter) =>
      Effect.gen(function*() {
        yield* limiter.consume()
        yield* Fiber.interrupt(yield* waiter(limiter, Effect.void))
        yield* TestClock.adjust("1 second")
        expect(yield* allowed(limiter, 1)).toBe(1)
      })))
})
