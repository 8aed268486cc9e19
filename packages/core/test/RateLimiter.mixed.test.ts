import { RateLimiter } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, TestClock } from "effect"
import { algorithms } from "../src/internal/rate/rate.js"

const count = (limiter: RateLimiter.Service, times: number, args?: RateLimiter.Args) =>
  Effect.map(
    Effect.forEach(Array.from({ length: times }), () => limiter.consume(args)),
    (decisions) => decisions.filter(({ allowed }) => allowed).length
  )

describe.each(algorithms)("a key that meets several rates, %s", (algorithm) => {
  it.scoped("keeps the quota of a window that a call in between does not name", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "mixed", rate: ["10/second", "100/hour"], algorithm })
      yield* TestClock.adjust("1 hour")
      let passed = 0
      for (let second = 0; second < 600; second++) {
        passed += yield* count(limiter, 5, { key: "a" })
        yield* limiter.consume({ key: "a", rate: "5/second" })
        yield* TestClock.adjust("1 second")
      }
      expect(passed).toBeGreaterThanOrEqual(100)
      // In ten minutes a hundred an hour gives sixteen more, where it is spaced.
      expect(passed).toBeLessThanOrEqual(117)
    }), 20_000)

  it.scoped("has used in one tier what it used in another, there and back", () =>
    Effect.gen(function*() {
      let tier = "10/day"
      const limiter = yield* RateLimiter.make({ name: "tiers", rate: "1/day", algorithm, rateFor: () => tier })
      yield* TestClock.adjust("1 day")
      expect(yield* count(limiter, 20, { key: "a" })).toBe(10)
      tier = "10000/day"
      expect((yield* limiter.consume({ key: "a" })).allowed).toBe(true)
      tier = "20/minute"
      expect(yield* count(limiter, 30, { key: "a" })).toBe(20)
      yield* TestClock.adjust("2 minutes")
      tier = "10/day"
      expect(yield* count(limiter, 20, { key: "a" })).toBe(0)
    }))

  it.scoped("is not turned away in a short window for what it used in a long one", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "order", rate: ["1000/hour", "10/second"], algorithm })
      yield* TestClock.adjust("1 hour")
      for (let second = 0; second < 50; second++) {
        expect(yield* count(limiter, 10)).toBe(10)
        yield* TestClock.adjust("2 seconds")
      }
      expect((yield* limiter.consume({ rate: "10/second" })).allowed).toBe(true)
    }))

  it.scoped("is where it was when the rate of the instance is changed and changed back", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "set", rate: "100/day", algorithm, maxKeys: 1 })
      yield* TestClock.adjust("1 day")
      expect(yield* count(limiter, 200)).toBe(100)
      yield* limiter.setRate("200/minute")
      expect(yield* count(limiter, 300)).toBe(200)
      yield* TestClock.adjust("5 minutes")
      // It is as good as new in its minute, but not in its day.
      expect((yield* limiter.consume({ key: "another" })).allowed).toBe(false)
      yield* limiter.setRate("100/day")
      expect(yield* count(limiter, 5)).toBe(0)
      yield* limiter.reset()
      expect((yield* limiter.peek()).remaining).toBe(100)
    }))

  it.scoped("remembers no more rates than a few", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "many", rate: "3/day", algorithm })
      yield* TestClock.adjust("1 day")
      expect(yield* count(limiter, 3)).toBe(3)
      // The longest used up are those that are kept.
      for (let i = 1; i <= 40; i++) yield* limiter.consume({ rate: { limit: 1, window: Duration.minutes(i) } })
      expect(yield* count(limiter, 3)).toBe(0)
    }))
})

describe("the burst of an instance", () => {
  it.scoped("is that of a single rate that comes later, unless that names its own", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({
        name: "burst",
        rate: "10/second",
        burst: 2,
        rateFor: (key) => key === "tier" ? "30/second" : undefined
      })
      const own = { limit: 20, window: "1 second", burst: 5 } as const
      expect(yield* count(limiter, 50, { key: "plain" })).toBe(2)
      expect(yield* count(limiter, 50, { key: "tier" })).toBe(2)
      expect(yield* count(limiter, 50, { key: "call", rate: "20/second" })).toBe(2)
      expect(yield* count(limiter, 50, { key: "list", rate: ["20/second"] })).toBe(2)
      expect(yield* count(limiter, 50, { key: "own", rate: own })).toBe(5)
      expect(yield* count(limiter, 50, { key: "several", rate: ["20/second", "90/minute"] })).toBe(20)
      yield* limiter.setRate("40/second")
      expect((yield* limiter.metrics).rate).toBe("40/1s (burst 2)")
      expect(yield* count(limiter, 50, { key: "set" })).toBe(2)
    }))
})
