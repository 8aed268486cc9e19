import { Limit } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import type { Gradient2 } from "../src/internal/limits/gradient2.js"
import type { Windowed } from "../src/internal/limits/windowed.js"
import { holds } from "./utils/holds.js"

/* Sources of the rules: `AIMDLimit`, `VegasLimit`, `Gradient2Limit` and `WindowedLimit` of Netflix's concurrency-limits. */

const sample = (latency: number, inFlight: number, now = 0, random = 0.5): Limit.Sample => ({
  latency,
  inFlight,
  now,
  random
})

/** What a limit is after one step from a state that `before` steps lead to. */
const run = (limit: Limit.Any, steps: ReadonlyArray<(limit: Limit.Any, state: unknown) => unknown>) =>
  limit.limit(steps.reduce<unknown>((state, step) => step(limit, state), limit.initial))
const success = (one: Limit.Sample) => (limit: Limit.Any, state: unknown): unknown => limit.onSample(state, one)
const drop = (one: Limit.Sample) => (limit: Limit.Any, state: unknown): unknown => limit.onDrop(state, one)
const admit = (inFlight: number) => (limit: Limit.Any, state: unknown): unknown =>
  limit.onAdmit(state, { inFlight, now: 0, random: 0.5 })
const times = <A>(n: number, one: A) => Array.from({ length: n }, () => one)

describe("fixed", () => {
  it("never moves, but where an operator sets it", () => {
    const limit = Limit.fixed(7)
    expect(run(limit, [success(sample(1, 7)), drop(sample(1, 7)), admit(7)])).toBe(7)
    expect(limit.limit(limit.resize?.(limit.initial, 9))).toBe(9)
  })
  it("refuses what is no limit", () => {
    for (const n of [0, -1, 1.5, NaN, Infinity]) expect(() => Limit.fixed(n)).toThrow(/option limit must be an integer/)
  })
})

describe("aimd", () => {
  const limit = Limit.aimd({ initialLimit: 10, minLimit: 1, maxLimit: 11 })
  it.each([
    ["grows by one while half of it is in use", [success(sample(5, 4))], 11],
    ["holds while less is in use", [success(sample(5, 3))], 10],
    ["grows to its maximum", times(5, success(sample(5, 9))), 11],
    ["falls by a tenth for a loss", [drop(sample(5, 9, 10))], 9],
    ["falls for a success that took longer than slowLatency", [success(sample(5001, 9, 6000))], 9],
    ["falls once for calls of one incident", times(9, drop(sample(5, 9, 10))), 9],
    ["falls again for a call that began after that", [drop(sample(5, 9, 10)), drop(sample(5, 9, 16))], 8],
    ["does not fall below its minimum", Array.from({ length: 50 }, (_, i) => drop(sample(5, 9, 10 * (i + 1)))), 1]
  ])("%s", (_, steps, expected) => {
    expect(run(limit, steps)).toBe(expected)
  })
  it("keeps fractions of an increase", () => {
    expect(run(Limit.aimd({ increaseRate: 0.5 }), times(3, success(sample(1, 19))))).toBe(21)
  })
})

describe("successRate", () => {
  const limit = Limit.successRate({ initialLimit: 10, minLimit: 5, maxLimit: 20, measurementWindow: 10 })
  const window = (failures: number, now: number) => [
    ...times(failures, drop(sample(1, 9, now))),
    ...times(10 - failures, success(sample(1, 9, now)))
  ]
  it.each([
    ["grows after a good window in which it was reached", [admit(10), ...window(0, 10)], 11],
    ["holds after a good window in which it was not", [admit(9), ...window(0, 10)], 10],
    ["holds between the thresholds", [admit(10), ...window(1, 10)], 10],
    ["falls at the threshold for failures", [admit(10), ...window(2, 10)], 9],
    ["says nothing before a window is full", times(9, drop(sample(1, 9, 10))), 10],
    ["falls once for what was in flight", [...window(10, 10), ...window(10, 10), ...window(10, 11)], 9],
    ["falls again for what came after", [...window(10, 10), ...window(10, 12)], 8],
    ["does not fall below its minimum", Array.from({ length: 20 }, (_, i) => window(10, 10 * i + 10)).flat(), 5],
    ["counts nothing that is older than a minute", [
      ...times(9, drop(sample(1, 9, 10))),
      drop(sample(1, 9, 60_011)),
      ...times(9, success(sample(1, 9, 60_012)))
    ], 10]
  ])("%s", (_, steps, expected) => {
    expect(run(limit, steps)).toBe(expected)
  })
  it("W-A6: thresholds of 1 and 0 are met", () => {
    const strict = Limit.successRate({ measurementWindow: 1, successThreshold: 1, failureThreshold: 0 })
    expect(run(strict, [admit(20), success(sample(1, 19, 10))])).toBe(21)
    expect(run(strict, [drop(sample(1, 19, 10))])).toBe(18)
  })
  it("refuses thresholds that contradict each other", () => {
    expect(() => Limit.successRate({ successThreshold: 0.8 })).toThrow(
      `Limit "successRate": option successThreshold must be above failureThreshold (0.8), but is 0.8`
    )
  })
})

describe("vegas", () => {
  // Steps are 1 below a limit of 100: 1, 3 and 6 calls are the thresholds.
  const limit = Limit.vegas({ initialLimit: 20, windowTime: 0, windowSamples: 1 })
  const idle = success(sample(100, 19))
  it.each([
    ["the first sample only tells the latency of an idle server", [idle], 20],
    ["grows by six steps where nothing queues", [idle, success(sample(100, 19))], 26],
    ["grows by a step where little queues: ceil(20 (1 - 100/111)) = 2", [idle, success(sample(111, 19))], 21],
    ["holds between: ceil(20 (1 - 100/130)) = 5", [idle, success(sample(130, 19))], 20],
    ["falls by a step where much queues: ceil(20 (1 - 100/200)) = 10", [idle, success(sample(200, 19))], 19],
    ["falls by a step for a loss", [idle, drop(sample(200, 19))], 19],
    ["holds while less than half of it is in use", [idle, success(sample(100, 8))], 20],
    ["a lower latency is the new idle one", [idle, success(sample(50, 19)), success(sample(100, 19))], 19]
  ])("%s", (_, steps, expected) => {
    expect(run(limit, steps)).toBe(expected)
  })
  it("measures the idle latency anew after 15 to 30 samples per call of the limit", () => {
    let state: unknown = limit.initial
    state = limit.onSample(state, sample(100, 0))
    for (let i = 0; i < 600; i++) state = limit.onSample(state, sample(200, 0))
    expect(limit.inspect(state).baseline).toBe(200)
  })
  it("takes the mean of a second, and one decrease for all its losses", () => {
    const windowed = Limit.vegas({ initialLimit: 20 })
    const second = (at: number, latency: number) =>
      Array.from({ length: 11 }, (_, i) => success(sample(latency + (i % 2 === 0 ? 20 : -20), 19, at + i * 100)))
    expect(run(windowed, second(1, 100))).toBe(20)
    expect(run(windowed, [...second(1, 100), ...second(1102, 102)])).toBe(26)
    const bad = Array.from({ length: 11 }, (_, i) => drop(sample(100, 19, 1102 + i * 100)))
    expect(run(windowed, [...second(1, 100), ...bad])).toBe(19)
  })
})

describe("gradient2", () => {
  const limit = Limit.gradient2({ initialLimit: 20, windowTime: 0, windowSamples: 1 })
  const warm = times(10, success(sample(100, 0)))
  it.each([
    ["grows by a fifth of the queue where latency holds: 20 + .2 * 4", [...warm, success(sample(100, 19))], 20],
    ["... which adds up: 20 + 2 * .8", [...warm, ...times(2, success(sample(100, 19)))], 21],
    ["falls by the gradient: .8 * 20 + .2 * (20 * .5 + 4) = 18.8", [...warm, success(sample(400, 19))], 18],
    ["holds while less than half of it is in use", [...warm, ...times(9, success(sample(100, 8)))], 20],
    ["falls by a tenth for a loss, once an incident", [...warm, ...times(4, drop(sample(5, 9, 10)))], 18]
  ])("%s", (_, steps, expected) => {
    expect(run(limit, steps)).toBe(expected)
  })
  it("a long average that remembers an overload comes down faster", () => {
    const after = [...times(10, success(sample(1000, 0))), success(sample(100, 0))]
    const state = after.reduce<unknown>((one, step) => step(limit, one), limit.initial)
    const { inner } = state as Windowed<Gradient2>
    expect(inner.long).toBeCloseTo((1000 - (2 / 601) * 900) * 0.95)
    expect(limit.inspect(state)).toEqual({ reason: "initial" })
  })
})

/** A server of `workers`, in whole steps: latency is what Little's law says of so many in flight. */
const saturate = (
  limit: Limit.Any,
  server: { readonly workers: number; readonly millis: number },
  millis: number,
  from: unknown = limit.initial,
  stop: (state: unknown) => boolean = () => false
) => {
  let state = from
  const began = now
  let inFlight = 0
  while (now < began + millis && !stop(state)) {
    const most = limit.limit(state)
    while (inFlight < most) state = limit.onAdmit(state, { now, inFlight: ++inFlight, random: 0.5 })
    state = limit.onReject(state, { now, inFlight, random: 0.5 })
    const latency = server.millis * Math.max(1, inFlight / server.workers)
    now += latency / inFlight
    inFlight--
    state = limit.onSample(state, { now, inFlight, latency, random: 0.5 })
  }
  return state
}
let now = 0

describe("knee", () => {
  it("finds the knee of a server from below and from above", () => {
    for (const workers of [10, 50, 200]) {
      now = 0
      const state = saturate(Limit.knee(), { workers, millis: 50 }, 60_000)
      expect(Limit.knee().limit(state)).toBeGreaterThan(workers * 0.65)
      expect(Limit.knee().limit(state)).toBeLessThan(workers * 1.6)
    }
  })

  it("does not learn that a queue is normal, however long it stands", () => {
    now = 0
    const limit = Limit.knee()
    const minute = saturate(limit, { workers: 32, millis: 50 }, 60_000)
    const later = saturate(limit, { workers: 32, millis: 50 }, 300_000, minute)
    expect(limit.inspect(later).baseline).toBeLessThan(60)
    expect(limit.limit(later)).toBeLessThan(32 * 1.6)
  })

  it("a service that became slower keeps its concurrency: it did not become smaller", () => {
    now = 0
    const limit = Limit.knee()
    const fast = saturate(limit, { workers: 1000, millis: 50 }, 5000)
    const slow = saturate(limit, { workers: 1000, millis: 200 }, 20_000, fast)
    expect(limit.limit(slow)).toBeGreaterThan(limit.limit(fast) * 0.9)
    expect(limit.inspect(slow).baseline).toBeGreaterThan(150)
  })

  it("falls while calls are lost, and comes back when that ends", () => {
    const limit = Limit.knee({ initialLimit: 100 })
    now = 0
    let state = saturate(limit, { workers: 100, millis: 50 }, 2000)
    const before = limit.limit(state)
    for (let i = 0; i < 500; i++) state = limit.onDrop(state, sample(100, 50, now += 1))
    const low = limit.limit(state)
    expect(low).toBeLessThan(before * 0.7)
    expect(limit.inspect(state).reason).toBe("losses")
    state = saturate(limit, { workers: 100, millis: 50 }, 2000, state)
    expect(limit.limit(state)).toBeGreaterThan(before * 0.6)
  })

  /** Two calls come each millisecond to a server that works for 50 ms, and refuses at once what it has no worker for. */
  const refuse = (limit: Limit.Any, workers: number, fails: (i: number) => boolean) => {
    let state: unknown = limit.initial
    let running: Array<{ readonly end: number; readonly began: number }> = []
    let last = { refused: 0, failed: 0, ok: 0 }
    for (let i = 0, at = 0; at < 30_000; at++) {
      if (at === 15_000) last = { refused: 0, failed: 0, ok: 0 }
      for (const { began } of running.filter(({ end }) => end <= at)) {
        running = running.filter((one) => one.began !== began)
        const ended = sample(at - Math.floor(began), running.length, at)
        const isFailure = fails(i++)
        last[isFailure ? "failed" : "ok"]++
        state = isFailure ? limit.onDrop(state, ended) : limit.onSample(state, ended)
      }
      for (const began of [at, at + 0.5]) {
        const inFlight = running.length
        if (inFlight >= limit.limit(state)) state = limit.onReject(state, { now: at, inFlight, random: 0.5 })
        else {
          state = limit.onAdmit(state, { now: at, inFlight: inFlight + 1, random: 0.5 })
          if (inFlight < workers) running.push({ began, end: at + 40 + (7 * i++) % 21 })
          else {
            last.refused++
            state = limit.onDrop(state, sample(0, inFlight, at))
          }
        }
      }
    }
    return { state, ...last }
  }

  it("losses that a lower limit does not end come by themselves, and do not hold it down", () => {
    for (const share of [0.4, 0.6]) {
      const limit = Limit.knee()
      const { failed, ok } = refuse(limit, 1000, (i) => (i * 0.618) % 1 < share)
      // 2000 in a second for 15 seconds: what it costs to find out may be no more than a tenth of them.
      expect(failed + ok).toBeGreaterThan(27_000)
    }
  })

  it("a server that refuses what is too much, without being slow, is heeded", () => {
    const blind = refuse(Limit.fixed(200), 32, () => false)
    const heeding = refuse(Limit.knee(), 32, () => false)
    expect(blind.refused).toBeGreaterThan(1.5 * blind.ok)
    // For each answer a third of the refusals at most.
    expect(3 * heeding.refused / heeding.ok).toBeLessThan(blind.refused / blind.ok)
    expect(heeding.ok).toBeGreaterThan(0.8 * blind.ok)
  })

  it("a window without a success is no latency, however many losses are borne", () => {
    const limit = Limit.knee({ maxLosses: 1 })
    let state: unknown = limit.initial
    for (let at = 1; at < 1000; at++) state = limit.onDrop(state, sample(50, 10, at))
    now = 1000
    const after = saturate(limit, { workers: 32, millis: 50 }, 10_000, state)
    expect(limit.inspect(after).baseline).toBeGreaterThan(45)
  })

  it("a dip whose calls hang is given up", () => {
    const limit = Limit.knee({ initialLimit: 50, dipEvery: "1 second" })
    now = 0
    const dipping = (one: unknown) => limit.inspect(one).reason === "dip"
    let state = saturate(limit, { workers: 50, millis: 50 }, 60_000, limit.initial, dipping)
    expect(dipping(state)).toBe(true)
    const low = limit.limit(state)
    state = limit.onReject(state, { now: now + 10_001, inFlight: 50, random: 0.5 })
    expect(limit.limit(state)).toBeGreaterThan(low)
    expect(limit.inspect(state).reason).toBe("dip over")
  })
})

const bounds = { initialLimit: 20, minLimit: 3, maxLimit: 60 }
const algorithms: Readonly<Record<string, Limit.Any>> = {
  fixed: Limit.fixed(20),
  aimd: Limit.aimd(bounds),
  successRate: Limit.successRate({ ...bounds, measurementWindow: 5 }),
  vegas: Limit.vegas({ ...bounds, windowTime: 0, windowSamples: 1 }),
  "vegas in windows": Limit.vegas({ ...bounds, windowTime: "20 millis", windowSamples: 2 }),
  gradient2: Limit.gradient2({ ...bounds, windowTime: 0, windowSamples: 1 }),
  knee: Limit.knee({ ...bounds, windowTime: 1, windowSamples: 8, dipEvery: "100 millis" })
}

const deepFreeze = <A>(value: A): A => {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    Object.values(value).forEach(deepFreeze)
  }
  return value
}

const odd = [NaN, Infinity, -Infinity, -1, 0, 1e300]
const step = fc.record({
  what: fc.constantFrom("onAdmit", "onReject", "onSample", "onDrop", "onIgnore", "resize"),
  pass: fc.oneof({ weight: 20, arbitrary: fc.double({ min: 0, max: 100, noNaN: true }) }, {
    weight: 1,
    arbitrary: fc.constantFrom(...odd, -50)
  }),
  inFlight: fc.oneof({ weight: 20, arbitrary: fc.nat(70) }, { weight: 1, arbitrary: fc.constantFrom(...odd) }),
  latency: fc.oneof({ weight: 20, arbitrary: fc.double({ min: 0, max: 500, noNaN: true }) }, {
    weight: 1,
    arbitrary: fc.constantFrom(...odd)
  }),
  random: fc.oneof({ weight: 20, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) }, {
    weight: 1,
    arbitrary: fc.constantFrom(...odd)
  })
})

for (const [name, limit] of Object.entries(algorithms)) {
  describe(`laws: ${name}`, () => {
    it("stays a whole number within its bounds whatever it is told, and writes to no state", () =>
      holds(
        fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
          let state: unknown = deepFreeze(limit.initial)
          let time = 0
          for (const { inFlight, latency, pass, random, what } of steps) {
            const told = time + pass
            if (Number.isFinite(told)) time = told
            const at = { now: told, inFlight, latency, random }
            if (what === "resize") state = limit.resize?.(state, latency)
            else state = limit[what as "onSample"](state, at)
            deepFreeze(state)
            const n = limit.limit(state)
            if (name !== "fixed" && !(Number.isInteger(n) && n >= 3 && n <= 60)) expect(n).toBe("within bounds")
            if (!(Number.isInteger(n) && n >= 1)) expect(n).toBe("a limit")
            const { baseline, elasticity } = limit.inspect(state)
            if (Number.isNaN(baseline) || Number.isNaN(elasticity)) expect(limit.inspect(state)).toBe("no NaN")
          }
        }),
        10_000
      ), 120_000)

    it("answers the same to the same story", () => {
      const story = () => {
        let state: unknown = limit.initial
        for (let i = 0; i < 500; i++) {
          state = limit.onAdmit(state, { now: i, inFlight: 20, random: 0.3 })
          state = limit.onSample(state, sample(50 + (i % 7), 19, i + 0.5, 0.3))
        }
        return state
      }
      expect(story()).toEqual(story())
    })
  })
}

describe("options of the algorithms", () => {
  const make: Readonly<Record<string, (options: object) => Limit.Any>> = {
    aimd: Limit.aimd,
    successRate: Limit.successRate,
    vegas: Limit.vegas,
    gradient2: Limit.gradient2,
    knee: Limit.knee
  }
  const bad: Readonly<Record<string, ReadonlyArray<object>>> = {
    aimd: [{ increaseRate: 0 }, { decreaseFactor: 1 }, { decreaseFactor: 0 }, { slowLatency: NaN }],
    successRate: [
      { increaseRate: NaN },
      { decreaseFactor: 1 },
      { measurementWindow: 0.5 },
      { measurementTime: 0 },
      { successThreshold: 1.1 },
      { failureThreshold: -1 }
    ],
    vegas: [{ windowTime: -1 }, { windowSamples: 0 }],
    gradient2: [
      { windowTime: NaN },
      { windowSamples: 1.5 },
      { tolerance: 0.5 },
      { queueSize: -1 },
      { smoothing: 0 },
      { longWindow: 0 }
    ],
    knee: [
      { tolerance: 0 },
      { dipDepth: 1 },
      { dipEvery: 0 },
      { windowTime: -1 },
      { windowSamples: 7 },
      { maxLosses: 0 }
    ]
  }
  for (const [name, of] of Object.entries(make)) {
    it(`of ${name} are checked`, () => {
      const common = [
        { initialLimit: 0 },
        { minLimit: 1.5 },
        { maxLimit: NaN },
        { maxLimit: Infinity },
        { minLimit: 5, maxLimit: 4 },
        { initialLimit: 5, minLimit: 6 },
        { initialLimit: 5, maxLimit: 4 },
        { typo: 1 }
      ]
      for (const options of [...common, ...bad[name]!]) {
        expect(() => of(options), JSON.stringify(options)).toThrow(
          new RegExp(`^Limit "${name}": (option \\w+ must be|has no option "typo")`)
        )
      }
    })
    it(`of ${name}: bounds that were not given make room for those that were`, () => {
      expect(of({ initialLimit: 1 }).limit(of({ initialLimit: 1 }).initial)).toBe(1)
      expect(of({ maxLimit: 10 }).limit(of({ maxLimit: 10 }).initial)).toBe(10)
      expect(of({ minLimit: 50 }).limit(of({ minLimit: 50 }).initial)).toBe(50)
      expect(of({ initialLimit: 2000 }).limit(of({ initialLimit: 2000 }).initial)).toBe(2000)
    })
  }
})
