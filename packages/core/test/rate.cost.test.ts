import { describe, expect, it } from "@effect/vitest"
import type { Place } from "../src/internal/rate/line.js"
import { Line } from "../src/internal/rate/line.js"
import { none, Plan } from "../src/internal/rate/plan.js"
import { parseRates } from "../src/internal/rate/rate.js"
import { toNanos } from "../src/internal/time.js"

/** Milliseconds that it takes, the least of two times. */
const cost = (f: () => void): number =>
  Math.min(...[1, 2].map(() => {
    const since = performance.now()
    f()
    return performance.now() - since
  }))

describe("the exact log", () => {
  const plan = new Plan("sliding-log", parseRates("10000/minute", "sliding-log"))
  const start = toNanos("1 day")

  it("is shared by those who wait: a thousand join and a hundred leave in no time", () => {
    let state: unknown
    for (let i = 10_000; i > 0; i--) state = plan.algorithm.charge(state, start - BigInt(i) * toNanos("6 millis"), 1)
    const took = cost(() => {
      const line = new Line({ plan, state, others: none })
      const places = Array.from(
        { length: 1000 },
        (_, i): Place =>
          line.join(
            { plan, cost: 1, latest: 1n << 90n, pinned: false, taken: false, wake: () => {} },
            start + BigInt(i)
          )
      )
      for (const place of places.slice(0, 100)) expect(line.leave(place, start + 2000n)).toBe(true)
      expect(line.length).toBe(900)
    })
    // With a log of its own for each place this takes half a minute.
    expect(took).toBeLessThan(2000)
  })

  it("does not grow with the calls that are over", () => {
    let state: unknown
    for (let i = 0; i < 100_000; i++) state = plan.algorithm.charge(state, start + BigInt(i) * toNanos("1 second"), 1)
    const { times } = state as { readonly times: ReadonlyArray<bigint> }
    expect(times.length).toBeLessThanOrEqual(200)
  })
})
