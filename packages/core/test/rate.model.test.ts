import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Requirement } from "../src/internal/options.js"
import type { Place } from "../src/internal/rate/line.js"
import { Line } from "../src/internal/rate/line.js"
import type { Charged } from "../src/internal/rate/plan.js"
import { charge, Plan } from "../src/internal/rate/plan.js"
import type { AlgorithmName, Rate } from "../src/internal/rate/rate.js"
import { algorithms, isBursty, parseRates } from "../src/internal/rate/rate.js"
import { holds } from "./utils/holds.js"

const runs = 10_000
const second = 1_000_000_000n

// Limits that do not divide their windows, above 1000 a second, and over months.
const rateOf = (algorithm: AlgorithmName): fc.Arbitrary<Rate> =>
  fc.record({
    limit: fc.integer({ min: 1, max: 7 }),
    window: fc.constantFrom(1n, 7n, 1000n, 997n, second, 60n * second, 90n * 86_400n * second),
    burst: fc.integer({ min: 1, max: 9 })
  }).map((rate) => isBursty(algorithm) ? rate : { ...rate, burst: rate.limit })

/** Few windows, so that rates share some of them. */
const mixed = (algorithm: AlgorithmName): fc.Arbitrary<Rate> =>
  fc.record({
    limit: fc.integer({ min: 1, max: 7 }),
    window: fc.constantFrom(1000n, 997n, 60_000n),
    burst: fc.integer({ min: 1, max: 9 })
  }).map((rate) => isBursty(algorithm) ? rate : { ...rate, burst: rate.limit })

const mixedPace: Rate = { limit: 1, window: 1000n, burst: 1 }

interface Step {
  readonly cost: number
  /** How far time goes on before, in thousandths of the window, and in nanoseconds. */
  readonly share: number
  readonly nanos: number
}
const step: fc.Arbitrary<Step> = fc.record({
  cost: fc.integer({ min: 1, max: 4 }),
  share: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 400 }), fc.constantFrom(1000, 2000)),
  nanos: fc.integer({ min: 0, max: 2 })
})
const after = (now: bigint, { window }: Rate, { nanos, share }: Step) =>
  now + window * BigInt(share) / 1000n + BigInt(nanos)

interface Admitted {
  readonly at: bigint
  readonly cost: number
}
const sum = (list: ReadonlyArray<Admitted>) => list.reduce((total, { cost }) => total + cost, 0)

/** The definitions in their plainest form, over the list of all that was let through. */
const admits: {
  readonly [A in AlgorithmName]: (rate: Rate, past: ReadonlyArray<Admitted>, now: bigint, cost: number) => boolean
} = {
  gcra: (rate, past, now, cost) => admits["token-bucket"](rate, past, now, cost),
  // A bucket, filled call by call in units that make everything whole.
  "token-bucket": ({ burst, limit, window }, past, now, cost) => {
    const full = BigInt(burst) * window
    let level = full
    let time = past[0]?.at ?? now
    for (const { at, cost } of [...past, { at: now, cost: 0 }]) {
      level += (at - time) * BigInt(limit)
      if (level > full) level = full
      level -= BigInt(cost) * window
      time = at
    }
    return level >= BigInt(cost) * window
  },
  "sliding-window": ({ limit, window }, past, now, cost) => {
    const index = now / window
    const into = now % window
    const inWindow = (which: bigint) => BigInt(sum(past.filter(({ at }) => at / window === which)))
    return inWindow(index - 1n) * (window - into) + (inWindow(index) + BigInt(cost)) * window <= BigInt(limit) * window
  },
  "sliding-log": ({ limit, window }, past, now, cost) =>
    sum(past.filter(({ at }) => at > now - window)) + cost <= limit,
  "fixed-window": ({ limit, window }, past, now, cost) =>
    sum(past.filter(({ at }) => at / window === now / window)) + cost <= limit
}

/** The most that a definition lets through between two calls, both counted. */
const bound = (algorithm: AlgorithmName, { burst, limit, window }: Rate, span: bigint): number => {
  if (isBursty(algorithm)) return burst + Number(span * BigInt(limit) / window)
  const windows = Number(span / window) + 1
  return algorithm === "sliding-log" ? limit * windows : limit * (windows + 1)
}

const start = 1_790_000_000_123_456_789n

describe.each(algorithms)("%s", (algorithm) => {
  it("lets through what its definition does, and never more in any window", () =>
    holds(
      fc.property(rateOf(algorithm), fc.array(step, { maxLength: 30 }), (rate, steps) => {
        const plan = new Plan(algorithm, [rate])
        const past: Array<Admitted> = []
        let state: unknown
        let now = start
        for (const one of steps) {
          now = after(now, rate, one)
          if (one.cost > plan.algorithm.cap) continue
          const ready = plan.algorithm.ready(state, now, one.cost)
          expect(ready <= now).toBe(admits[algorithm](rate, past, now, one.cost))
          expect(plan.algorithm.available(state, now) >= one.cost).toBe(ready <= now)
          if (ready > now) continue
          state = plan.algorithm.charge(state, now, one.cost)
          past.push({ at: now, cost: one.cost })
        }
        for (let i = 0; i < past.length; i++) {
          for (let j = i; j < past.length; j++) {
            const span = (past[j]?.at ?? 0n) - (past[i]?.at ?? 0n)
            expect(sum(past.slice(i, j + 1))).toBeLessThanOrEqual(bound(algorithm, rate, span))
          }
        }
      }),
      runs
    ), 60_000)

  it("tells the first time that has room, to the nanosecond", () =>
    holds(
      fc.property(rateOf(algorithm), fc.array(step, { maxLength: 20 }), (rate, steps) => {
        const { algorithm: limiter } = new Plan(algorithm, [rate])
        let state: unknown
        let now = start
        for (const one of steps) {
          now = after(now, rate, one)
          const cost = Math.min(one.cost, limiter.cap)
          const ready = limiter.ready(state, now, cost)
          if (ready > now) {
            expect(limiter.ready(state, ready, cost)).toBe(ready)
            expect(limiter.ready(state, ready - 1n, cost)).toBe(ready)
          } else state = limiter.charge(state, now, cost)
        }
      }),
      runs
    ), 60_000)

  it("cannot be told from new at the time it says, and can before", () =>
    holds(
      fc.property(
        rateOf(algorithm),
        fc.array(step, { minLength: 1, maxLength: 10 }),
        fc.array(step, { maxLength: 10 }),
        (rate, before, later) => {
          const { algorithm: limiter } = new Plan(algorithm, [rate])
          let state: unknown
          let now = start
          for (const one of before) {
            now = after(now, rate, one)
            state = limiter.charge(state, now, Math.min(one.cost, limiter.cap))
          }
          const free = limiter.freeAt(state)
          expect(free).toBeGreaterThan(now)
          expect(limiter.available(state, free)).toBe(limiter.cap)
          expect(limiter.ready(state, free, limiter.cap)).toBe(free)
          let fresh: unknown
          let used: unknown = state
          now = free
          for (const one of later) {
            now = after(now, rate, one)
            const cost = Math.min(one.cost, limiter.cap)
            expect(limiter.ready(used, now, cost)).toBe(limiter.ready(fresh, now, cost))
            used = limiter.charge(used, now, cost)
            fresh = limiter.charge(fresh, now, cost)
          }
        }
      ),
      runs
    ), 60_000)

  it("gives back what was taken, and never more than was used", () =>
    holds(
      fc.property(rateOf(algorithm), fc.array(step, { maxLength: 10 }), step, (rate, steps, extra) => {
        const { algorithm: limiter } = new Plan(algorithm, [rate])
        let state: unknown
        let now = start
        for (const one of steps) {
          now = after(now, rate, one)
          const cost = Math.min(one.cost, limiter.cap)
          if (limiter.ready(state, now, cost) <= now) state = limiter.charge(state, now, cost)
        }
        const cost = Math.min(extra.cost, limiter.available(state, now))
        if (cost === 0) return
        const back = limiter.give(limiter.charge(state, now, cost), now, cost)
        expect(limiter.available(back, now)).toBe(limiter.available(state, now))
        expect(limiter.available(limiter.give(back, now, 1000), now)).toBe(limiter.cap)
      }),
      runs
    ), 60_000)

  it("has nothing left when it is drained, and has it all again in its time", () =>
    holds(
      fc.property(rateOf(algorithm), fc.array(step, { maxLength: 10 }), (rate, steps) => {
        const { algorithm: limiter } = new Plan(algorithm, [rate])
        let state: unknown
        let now = start
        for (const one of steps) {
          now = after(now, rate, one)
          const cost = Math.min(one.cost, limiter.cap)
          if (limiter.ready(state, now, cost) <= now) state = limiter.charge(state, now, cost)
        }
        const drained = limiter.drain(state, now)
        expect(limiter.available(drained, now)).toBe(0)
        expect(limiter.available(limiter.drain(drained, now), now)).toBe(0)
        expect(limiter.available(drained, limiter.freeAt(drained))).toBe(limiter.cap)
      }),
      runs
    ), 60_000)

  it("keeps what was used when its limit changes, as so many calls", () =>
    holds(
      fc.property(
        rateOf(algorithm),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 0, max: 7 }),
        ({ burst, window, ...rate }, limit, uses) => {
          const from = new Plan(algorithm, [{ ...rate, window, burst: isBursty(algorithm) ? burst : rate.limit }])
          const to = new Plan(algorithm, [{ limit, window, burst: isBursty(algorithm) ? burst : limit }])
          const used = Math.min(uses, from.algorithm.cap)
          const state = used === 0 ? undefined : from.algorithm.charge(undefined, start, used)
          const left = to.algorithm.available(to.adapt({ plan: from, state, others: [] }, start).state, start)
          expect(left).toBe(Math.max(0, to.algorithm.cap - used))
        }
      ),
      runs
    ), 60_000)

  it("keeps to each rate, whatever calls come under others between", () =>
    holds(
      fc.property(
        fc.array(fc.array(mixed(algorithm), { minLength: 1, maxLength: 2 }), { minLength: 2, maxLength: 3 }),
        fc.array(fc.tuple(fc.nat(2), step), { maxLength: 30 }),
        (rates, steps) => {
          const plans = rates.map((rates) => new Plan(algorithm, rates))
          const past: Array<Admitted & { readonly rates: ReadonlyArray<Rate> }> = []
          let used: Charged | undefined
          let now = start
          for (const [which, one] of steps) {
            const plan = plans[which % plans.length]
            if (plan === undefined) continue
            now = after(now, mixedPace, one)
            if (one.cost > plan.algorithm.cap) continue
            used = plan.adapt(used ?? { plan, state: undefined, others: [] }, now)
            const admitted = plan.algorithm.ready(used.state, now, one.cost) <= now
            const under = (same: (a: Rate, b: Rate) => boolean) =>
              plan.rates.every((rate) =>
                admits[algorithm](
                  rate,
                  past.filter(({ rates }) => rates.some((other) => same(rate, other))),
                  now,
                  one.cost
                )
              )
            // What came under a rate never exceeds it.
            if (admitted) expect(under((a, b) => a.window === b.window && a.limit === b.limit)).toBe(true)
            // Calls in a window are one count; spacing has a pace per rate.
            if (!isBursty(algorithm)) expect(admitted).toBe(under((a, b) => a.window === b.window))
            if (!admitted) continue
            used = charge(used, now, one.cost)
            past.push({ at: now, cost: one.cost, rates: plan.rates })
          }
        }
      ),
      runs
    ), 60_000)

  it("charges several rates all or none", () =>
    holds(
      fc.property(
        rateOf(algorithm),
        rateOf(algorithm),
        fc.array(step, { maxLength: 25 }),
        (first, second, steps) => {
          const plan = new Plan(algorithm, [first, second])
          const past: Array<Admitted> = []
          let state: unknown
          let now = start
          for (const one of steps) {
            now = after(now, first, one)
            if (one.cost > plan.algorithm.cap) continue
            const ready = plan.algorithm.ready(state, now, one.cost)
            const both = [first, second].every((rate) => admits[algorithm](rate, past, now, one.cost))
            expect(ready <= now).toBe(both)
            if (ready > now) {
              expect(plan.algorithm.ready(state, ready, one.cost)).toBe(ready)
              expect(plan.algorithm.ready(state, ready - 1n, one.cost)).toBe(ready)
              continue
            }
            state = plan.algorithm.charge(state, now, one.cost)
            past.push({ at: now, cost: one.cost })
          }
        }
      ),
      runs
    ), 60_000)

  it("leaves a state as it was when it is charged, given something or drained", () =>
    holds(
      fc.property(rateOf(algorithm), fc.array(step, { maxLength: 12 }), fc.nat(12), (rate, steps, from) => {
        const { algorithm: limiter } = new Plan(algorithm, [rate])
        /** What is left and when the whole is, after each step; `branch` goes other ways from one state on. */
        const walk = (branch: boolean) => {
          let state: unknown
          let now = start
          return steps.map((one, i) => {
            now = after(now, rate, one)
            state = limiter.charge(state, now, Math.min(one.cost, limiter.cap))
            if (branch && i === from % steps.length) {
              limiter.charge(limiter.charge(state, now, 1), now, 1)
              limiter.charge(limiter.give(state, now, 1), now, 1)
              limiter.drain(state, now)
            }
            return [limiter.available(state, now), limiter.ready(state, now, 1), limiter.freeAt(state)]
          })
        }
        expect(walk(true)).toEqual(walk(false))
      }),
      runs
    ), 60_000)

  it("loses nothing to those who leave the line, and nobody passes", () =>
    holds(
      fc.property(
        rateOf(algorithm),
        fc.array(step, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 8 }),
        fc.nat(7),
        (rate, steps, costs, leaver) => {
          const plan = new Plan(algorithm, [rate])
          const { algorithm: limiter } = plan
          let state: unknown
          let now = start
          for (const one of steps) {
            now = after(now, rate, one)
            const cost = Math.min(one.cost, limiter.cap)
            if (limiter.ready(state, now, cost) <= now) state = limiter.charge(state, now, cost)
          }
          const lineOf = (wanted: ReadonlyArray<number>) => {
            const line = new Line({ plan, state, others: [] })
            const places = wanted.map((cost): Place =>
              line.join({
                plan,
                cost: Math.min(cost, limiter.cap),
                latest: 1n << 90n,
                pinned: false,
                taken: false,
                wake: () => {}
              }, now)
            )
            return { line, places }
          }
          const { line, places } = lineOf(costs)
          const at = leaver % costs.length
          const [gone] = places.slice(at, at + 1)
          if (gone !== undefined) expect(line.leave(gone, now)).toBe(true)
          const left = places.filter((place) => place !== gone).map((place) => place.at)
          const never = lineOf(costs.filter((_, i) => i !== at))
          expect(left).toEqual(never.places.map((place) => place.at))
          expect(line.ready(plan, 1, now)).toBe(never.line.ready(plan, 1, now))
          for (let i = 1; i < left.length; i++) expect(left[i]).toBeGreaterThanOrEqual(left[i - 1] ?? 0n)
        }
      ),
      runs
    ), 60_000)
})

describe("rates", () => {
  it("are read to the nanosecond", () => {
    const read = (input: unknown, algorithm: AlgorithmName = "gcra", burst?: number) =>
      parseRates(input, algorithm, burst).map(({ burst, limit, window }) => [limit, window / 1_000_000n, burst])
    expect(read("100/minute")).toEqual([[100, 60_000n, 100]])
    expect(read(" 10 / s ")).toEqual([[10, 1000n, 10]])
    expect(read("5/30 seconds", "gcra", 2)).toEqual([[5, 30_000n, 2]])
    expect(read("7/2hours")).toEqual([[7, 7_200_000n, 7]])
    expect(read("1000000/90 days")).toEqual([[1_000_000, 7_776_000_000n, 1_000_000]])
    expect(read({ limit: 3, window: "1 second", burst: 9 })).toEqual([[3, 1000n, 9]])
    expect(read(["10/second", "1000/hour"])).toEqual([[10, 1000n, 10], [1000, 3_600_000n, 1000]])
  })

  it("that cannot be read are refused, whatever stands there", () =>
    holds(
      fc.property(fc.oneof(fc.string(), fc.anything()), (input) => {
        try {
          const rates = parseRates(input, "gcra")
          for (const { limit, window } of rates) {
            expect(limit).toBeGreaterThanOrEqual(1)
            expect(window).toBeGreaterThan(0n)
          }
        } catch (error) {
          expect(error).toBeInstanceOf(Requirement)
        }
      }),
      runs
    ))

  const message = (f: () => unknown): string => {
    try {
      return JSON.stringify(f())
    } catch (error) {
      return error instanceof Requirement ? error.text : String(error)
    }
  }

  it("that are refused are refused with the reason, and the place", () => {
    const why = (input: unknown) => message(() => parseRates(input, "gcra"))
    for (const none of ["0/second", "1.5/second", "-1/second", "ten/second", { limit: 0, window: 1 }]) {
      expect(why(none)).toContain("with a whole limit of at least 1")
    }
    expect(why("10/0 seconds")).toContain("with a whole window of at least 1")
    expect(why("10/month")).toContain("a month or a year is so many days")
    expect(why({ limit: 10, window: "1 secnd" })).toBe(
      `a rate whose window is a duration above 0 ms, such as "1 second" (its window is "1 secnd")`
    )
    expect(why(["10/second", "x"])).toMatch(/^at index 1 a rate such as/)
  })

  it("that an algorithm cannot keep are refused", () => {
    expect(message(() => parseRates("10001/day", "sliding-log"))).toContain("at most 10000")
    expect(message(() => parseRates("10/s", "fixed-window", 5))).toContain(`absent for "fixed-window"`)
    expect(message(() => parseRates({ limit: 1, window: 1, burst: 1 }, "sliding-log"))).toContain("without burst")
    expect(message(() => parseRates(["10/s", "100/m"], "gcra", 5))).toContain("one rate where the option burst")
  })
})
