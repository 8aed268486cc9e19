import { Retry } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Duration, Effect, FastCheck as fc, Random, Schedule } from "effect"
import type { Backoff, Jitter, Strategy } from "../src/internal/backoff.js"
import { baseDelay, delayAfter } from "../src/internal/backoff.js"
import { holds } from "./utils/holds.js"

const backoff = (options: Partial<Backoff>): Backoff => ({
  strategy: "exponential",
  initialDelay: 100,
  factor: 2,
  maxDelay: 30_000,
  jitter: "none",
  ...options
})

const bases = (options: Partial<Backoff>, count: number) =>
  Array.from({ length: count }, (_, i) => baseDelay(backoff(options), i))

/** The delays of a schedule, stepped and not slept. */
const delaysOf = (schedule: Schedule.Schedule<unknown>, count: number, seed: number) =>
  Schedule.run(Schedule.delays(schedule), 0, Array.from({ length: count }, () => undefined)).pipe(
    Effect.map((delays) => Chunk.toReadonlyArray(delays).map(Duration.toMillis)),
    Effect.withRandom(Random.make(seed))
  )

describe("delays before jitter", () => {
  it("exponential: times the factor, up to the cap", () => {
    expect(bases({}, 4)).toEqual([100, 200, 400, 800])
    expect(bases({ factor: 1.5 }, 3)).toEqual([100, 150, 225])
    expect(bases({ maxDelay: 300 }, 4)).toEqual([100, 200, 300, 300])
  })

  it("linear: n times the initial delay", () => {
    expect(bases({ strategy: "linear" }, 4)).toEqual([100, 200, 300, 400])
    expect(bases({ strategy: "linear", maxDelay: 250 }, 4)).toEqual([100, 200, 250, 250])
  })

  it("constant: the initial delay", () => {
    expect(bases({ strategy: "constant" }, 3)).toEqual([100, 100, 100])
  })

  it("an initial delay of zero stays zero, whatever the factor", () => {
    expect(bases({ initialDelay: 0 }, 3)).toEqual([0, 0, 0])
    expect(baseDelay(backoff({ initialDelay: 0 }), 5000)).toBe(0)
  })

  it("W-R6: after 1,025 attempts the delay is the cap, and the arithmetic has not overflowed", () => {
    expect(baseDelay(backoff({ factor: 10 }), 5000)).toBe(30_000)
    for (const jitter of ["full", "equal", "none", 0.5] as const) {
      const delay = delayAfter(backoff({ maxDelay: Infinity, jitter }), 5000, 0, 0)
      expect(Number.isFinite(delay) && delay >= 0).toBe(true)
    }
  })
})

const strategy = fc.constantFrom<Array<Strategy>>("exponential", "linear", "constant", "decorrelated")
const jitter: fc.Arbitrary<Jitter> = fc.oneof(
  fc.constantFrom<Array<Jitter>>("full", "equal", "none"),
  fc.double({ min: 0, max: 1, noNaN: true })
)
const anyBackoff = fc.record({
  strategy,
  jitter,
  factor: fc.double({ min: 1, max: 100, noNaN: true }),
  initialDelay: fc.oneof(fc.constant(0), fc.double({ min: 0.001, max: 1e6, noNaN: true }))
}).chain((options) =>
  fc.oneof(fc.constant(Infinity), fc.double({ min: options.initialDelay, max: 1e9, noNaN: true })).map((maxDelay) => ({
    ...options,
    maxDelay
  }))
)
const draw = fc.double({ min: 0, max: 1, noNaN: true })

describe("delays after jitter", () => {
  it("W-R5: no delay is longer than maxDelay, negative or not a number, for 10,000 random options", () => {
    return holds(
      fc.property(anyBackoff, fc.array(draw, { minLength: 1, maxLength: 20 }), fc.nat(2000), (options, draws, from) => {
        let previous = 0
        for (const [i, u] of draws.entries()) {
          previous = delayAfter(options, from + i, previous, u)
          if (!(previous >= 0 && previous <= options.maxDelay && Number.isFinite(previous))) return false
        }
        return true
      }),
      10_000
    )
  })

  it("each jitter stays in its range around the base", () => {
    return holds(
      fc.property(anyBackoff, fc.nat(50), draw, (options, retries, u) => {
        if (options.strategy === "decorrelated") return true
        const base = baseDelay(options, retries)
        const delay = delayAfter(options, retries, 0, u)
        const slack = base * 1e-12
        switch (options.jitter) {
          case "none":
            return delay === base
          case "full":
            return delay <= base
          case "equal":
            return delay >= base / 2 - slack && delay <= base + slack
          default:
            return delay >= base * (1 - options.jitter) - slack && delay <= base * (1 + options.jitter) + slack
        }
      }),
      10_000
    )
  })

  it("decorrelated draws between the initial delay and three times the last", () => {
    const options = backoff({ strategy: "decorrelated" })
    expect(delayAfter(options, 0, 0, 0)).toBe(100)
    expect(delayAfter(options, 0, 0, 1)).toBe(300)
    expect(delayAfter(options, 1, 200, 1)).toBe(600)
    expect(delayAfter(options, 9, 29_000, 1)).toBe(30_000)
    expect(delayAfter(options, 9, 29_000, 0)).toBe(100)
  })

  it.effect("means are those of the formulas", () =>
    Effect.gen(function*() {
      const mean = (jitter: Jitter) =>
        Effect.replicateEffect(Random.next, 20_000).pipe(
          Effect.map((draws) => draws.reduce((sum, u) => sum + delayAfter(backoff({ jitter }), 2, 0, u), 0) / 20_000),
          Effect.withRandom(Random.make("means"))
        )
      expect(yield* mean("full")).toBeCloseTo(200, -1)
      expect(yield* mean("equal")).toBeCloseTo(300, -1)
      expect(yield* mean(0.25)).toBeCloseTo(400, -1)
    }))

  // Polly and resilience4j cut the jittered delay: 97 % and 100 % of a fleet then sleep exactly the cap.
  for (
    const options of [
      { jitter: "full" },
      { jitter: "equal" },
      { jitter: 0.1 },
      { jitter: 0.5 },
      { strategy: "decorrelated" }
    ] as const
  ) {
    it(`a fleet that has reached maxDelay is spread, not bunched at it: ${JSON.stringify(options)}`, () => {
      const capped = backoff({ maxDelay: 400, ...options })
      const delays = Array.from({ length: 1000 }, (_, i) => delayAfter(capped, 9, 400, i / 1000))
      expect(Math.max(...delays)).toBeLessThanOrEqual(400)
      expect(delays.filter((delay) => delay === 400).length).toBeLessThanOrEqual(1)
      const buckets = new Set(delays.map((delay) => Math.floor(delay)))
      expect(buckets.size).toBeGreaterThan(30)
    })
  }
})

describe("Retry.schedule", () => {
  it.effect("ends before the attempt after maxAttempts", () =>
    Effect.gen(function*() {
      expect(yield* delaysOf(Retry.schedule({ jitter: "none" }), 10, 1)).toEqual([100, 200, 0])
      expect(yield* delaysOf(Retry.schedule({ jitter: "none", maxAttempts: 1 }), 10, 1)).toEqual([0])
      expect(yield* delaysOf(Retry.schedule({ jitter: "none", maxAttempts: Infinity }), 5, 1))
        .toEqual([100, 200, 400, 800, 1600])
    }))

  it.effect("the options and the equal hand-written Schedule give the same delays", () =>
    Effect.gen(function*() {
      const pairs = [
        [{ jitter: "none" }, Schedule.exponential("100 millis", 2)],
        [
          { jitter: "none", factor: 3, initialDelay: "20 millis", maxDelay: "1 hour" },
          Schedule.exponential("20 millis", 3)
        ],
        [{ jitter: "none", strategy: "linear" }, Schedule.linear("100 millis")],
        [{ jitter: "none", strategy: "constant" }, Schedule.spaced("100 millis")],
        [
          { jitter: "none", maxDelay: "1 second" },
          Schedule.exponential("100 millis").pipe(
            Schedule.modifyDelay((_, delay) => Duration.min(delay, Duration.seconds(1)))
          )
        ],
        // Effect's own jitter is a proportion of 20 %.
        [{ jitter: 0.2, maxDelay: "1 hour" }, Schedule.jittered(Schedule.exponential("100 millis"))]
      ] as const
      for (const [options, byHand] of pairs) {
        const ours = yield* delaysOf(Retry.schedule({ ...options, maxAttempts: Infinity }), 8, 7)
        const theirs = yield* delaysOf(byHand, 8, 7)
        expect(ours.length).toBe(8)
        ours.forEach((delay, i) => expect(delay).toBeCloseTo(theirs[i] ?? NaN, 5))
      }
    }))

  it.effect("the same seed gives the same delays, another seed others", () =>
    Effect.gen(function*() {
      for (const options of [{ jitter: "full" }, { jitter: "equal" }, { strategy: "decorrelated" }] as const) {
        const one = yield* delaysOf(Retry.schedule({ ...options, maxAttempts: 9 }), 8, 1)
        expect(yield* delaysOf(Retry.schedule({ ...options, maxAttempts: 9 }), 8, 1)).toEqual(one)
        expect(yield* delaysOf(Retry.schedule({ ...options, maxAttempts: 9 }), 8, 2)).not.toEqual(one)
      }
    }))
})
