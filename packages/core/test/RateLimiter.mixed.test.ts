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
  it.scoped("is not forgotten for what it used in another window", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "set", rate: "100/day", algorithm, maxKeys: 1 })
      yield* TestClock.adjust("1 day")
      expect(yield* count(limiter, 200)).toBe(100)
      yield* limiter.setRate("200/minute")
      expect(yield* count(limiter, 300)).toBe(200)
      yield* TestClock.adjust("5 minutes")
      // It is as good as new in its minute, but not in its day.
      expect((yield* limiter.consume({ key: "another" })).allowed).toBe(false)
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
