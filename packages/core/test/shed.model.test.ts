import { Priority } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Permits } from "../src/internal/permits.js"
import {
  calm,
  cohortOf,
  fall,
  isShed,
  levelOf,
  levels,
  loopPressure,
  observe,
  rise,
  Shed,
  stand
} from "../src/internal/shed.js"
import { type Waiter, Waiters } from "../src/internal/waiters.js"
import { holds } from "./utils/holds.js"

const runs = 10_000
const part = fc.double({ min: 0, max: 2, noNaN: true })
const unit = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })

const lag = fc.oneof(fc.constant(0), fc.double({ min: 0, max: 12, noNaN: true }), fc.constantFrom(0.25, 1, 2, 4, 10))

type Step =
  | {
    readonly _tag: "come"
    readonly cost: number
    readonly rank: number
    readonly cohort: number
    readonly lag: number
  }
  | { readonly _tag: "end"; readonly pick: number }
  | { readonly _tag: "sample"; readonly ratios: readonly [number, number]; readonly own: number; readonly lag: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      _tag: fc.constant("come" as const),
      cost: fc.integer({ min: 1, max: 3 }),
      rank: fc.integer({ min: 0, max: 4 }),
      cohort: unit,
      lag
    })
  },
  { weight: 3, arbitrary: fc.record({ _tag: fc.constant("end" as const), pick: fc.nat(20) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      _tag: fc.constant("sample" as const),
      ratios: fc.tuple(part, part),
      own: fc.oneof(fc.constant(0), part),
      lag
    })
  }
)

interface Entry {
  readonly id: number
  readonly cost: number
  readonly rank: number
}

const roomOf = (share: number, max: number) => share > 0 && share * max < 1 ? 1 : Math.floor(share * max)

/** The same rules in the plainest form. */
class Model {
  inside: Array<Entry> = []
  line: Array<Entry> = []
  over = [false, false]
  risen = 0
  risenBy = 0
  own = 0
  /** What the samples say of the loop, the latest last. */
  lates: Array<boolean> = [false]
  isLate = false
  loop = 0
  level = 0
  constructor(
    readonly max: number,
    readonly queue: number,
    readonly shares: ReadonlyArray<number>,
    readonly recoverAt: number
  ) {}

  used = () => this.inside.reduce((sum, { cost }) => sum + cost, 0)
  pressure = () => Math.max(this.risen, this.own)
  reason = () => this.own > this.risen ? "Signal" : ["Cpu", "Memory"][this.risenBy]

  sample(ratios: ReadonlyArray<number>, own: number, lag: number) {
    this.over = this.over.map((was, i) => ratios[i]! >= 1 || (was && ratios[i]! >= this.recoverAt))
    const worst = Math.max(...ratios)
    if (worst >= 1) {
      this.risen = Math.min(1, this.risen + rise)
      this.risenBy = ratios.indexOf(worst)
    } else if (!this.over.includes(true)) this.risen = Math.max(0, this.risen - fall)
    this.own = Math.min(1, own)
    this.lates = [...this.lates, lag >= 1]
    const [before, last] = this.lates.slice(-2)
    if (before === last) this.isLate = last!
    this.loop = Math.max(0, this.late(lag), this.loop - fall)
  }
  late = (lag: number) => this.isLate || lag >= 10 ? Math.min(1, Math.max(0, 0.5 + Math.log2(lag) / 4)) : 0
  come(entry: Entry, cohort: number, late: number): string {
    const pressure = Math.max(this.pressure(), late)
    if (entry.rank < 4 && entry.rank / 4 + cohort / 4 < pressure) {
      this.loop = Math.max(this.loop, late)
      return pressure > this.pressure() ? "EventLoop" : this.reason()!
    }
    const room = roomOf(this.shares[entry.rank]!, this.max)
    if (this.line.every(({ rank }) => rank < entry.rank) && this.used() + entry.cost <= room) {
      this.inside.push(entry)
      return "in"
    }
    if (this.shares[entry.rank]! < 1 || entry.cost > this.max || this.queue === 0) return "InFlight"
    if (this.line.length < this.queue) {
      this.line.push(entry)
      return "Wait"
    }
    const lowest = Math.min(...this.line.map(({ rank }) => rank))
    if (lowest >= entry.rank) return "Queue"
    // The newest of the lowest gives its place up.
    const out = this.line.filter(({ rank }) => rank === lowest).at(-1)
    this.line = [...this.line.filter((one) => one !== out), entry]
    return "Wait"
  }
  serve() {
    // The most important first, and of those the oldest.
    for (const next of [...this.line].sort((a, b) => b.rank - a.rank || a.id - b.id)) {
      if (this.used() + next.cost > this.max) return
      this.line = this.line.filter((one) => one !== next)
      this.inside.push(next)
    }
  }
  watch() {
    const load = Math.max(this.used() / this.max, this.pressure(), this.loop)
    const reached = (l: number) => [0.6, 0.75, 0.9].filter((from) => l >= from).length
    while (this.level < reached(load)) this.level++
    while (this.level > reached(load / this.recoverAt)) this.level--
  }
}

class Call implements Waiter {
  place: Waiter["place"] = "Waiting"
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  constructor(readonly permits: number, readonly rank: number) {}
  readonly decide = () => {}
}

const shares = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 5, maxLength: 5 }).map((some) =>
  some.sort((a, b) => a - b)
)

describe("shedding, against a model", () => {
  it("lets in, has wait and sheds as the rules say, each call for its reason", () =>
    holds(
      fc.property(
        fc.integer({ min: 1, max: 8 }),
        fc.nat(3),
        fc.oneof(shares, fc.constant([0.5, 0.8, 1, 1, 1])),
        fc.double({ min: 0.5, max: 1, noNaN: true }),
        fc.array(step, { maxLength: 40 }),
        (max, queue, shares, recoverAt, steps) => {
          const [sheddable, low, normal, high, critical] = shares as [number, number, number, number, number]
          const permits = new Permits(max, queue, new Waiters("fifo"))
          const shed = new Shed(permits, { sheddable, low, normal, high, critical }, recoverAt)
          const model = new Model(max, queue, shares, recoverAt)
          const zero = () => 0n
          let id = 0
          for (const one of steps) {
            if (one._tag === "sample") {
              const [Cpu, Memory] = one.ratios
              shed.observe({ Cpu, Memory }, one.own, one.lag)
              model.sample(one.ratios, one.own, one.lag)
              expect(shed.pressure.value).toBe(model.pressure())
            } else if (one._tag === "come") {
              const late = shed.late(one.lag)
              expect(late).toBeCloseTo(model.late(one.lag), 12)
              const verdict = shed.admit(one.cost, one.rank, one.cohort, late, zero)
              if (verdict === "Wait") permits.enqueue(new Call(one.cost, one.rank), 0n)
              // A quotient of sums and a sum of quotients may differ in the last bit.
              const pressure = Math.max(model.pressure(), late)
              if (Math.abs((one.rank + one.cohort) / 4 - pressure) < 1e-12) return
              expect(verdict === true ? "in" : verdict).toBe(model.come({ id: ++id, ...one }, one.cohort, late))
              if (verdict === true) expect(permits.used).toBeLessThanOrEqual(roomOf(shares[one.rank]!, max))
            } else {
              const entry = model.inside[one.pick % Math.max(1, model.inside.length)]
              if (entry === undefined) continue
              model.inside = model.inside.filter((other) => other !== entry)
              permits.release(entry.cost, 0n)
              model.serve()
            }
            shed.changeLevel()
            model.watch()
            expect([permits.used, permits.waiting]).toEqual([model.used(), model.line.length])
            expect(shed.level).toBe(levels[model.level])
          }
        }
      ),
      runs
    ))
})

describe("the pressure", () => {
  it("sheds nobody before somebody less important, and a caller in the same way everywhere", () =>
    holds(
      fc.property(unit, fc.nat(4), fc.nat(4), fc.string(), fc.string(), (pressure, one, other, name, another) => {
        const shedOne = isShed(pressure, Math.max(one, other), cohortOf(name))
        if (one !== other && shedOne) expect(isShed(pressure, Math.min(one, other), cohortOf(another))).toBe(true)
        expect(isShed(pressure, one, cohortOf(name))).toBe(isShed(pressure, one, cohortOf(`${name}`)))
        expect(isShed(pressure, 4, cohortOf(name))).toBe(false)
      }),
      runs
    ))

  it("sheds of one class the part it says", () => {
    const names = Array.from({ length: 20_000 }, (_, i) => `user-${i}`)
    const shed = (pressure: number, level: Priority.Level) =>
      names.filter((name) => isShed(pressure, Priority.rank(level), cohortOf(name))).length / names.length
    expect(shed(0.125, "sheddable")).toBeCloseTo(0.5, 1)
    expect(shed(0.25, "low")).toBe(0)
    expect(shed(0.7, "normal")).toBeCloseTo(0.8, 1)
    expect(shed(0.7, "low")).toBe(1)
    expect(shed(1, "high")).toBe(1)
    expect(shed(1, "critical")).toBe(0)
  })

  it("rises while a signal is over, stays until it has recovered, and falls then", () => {
    let pressure = calm
    const sample = (Cpu: number, times = 1) => {
      for (; times > 0; times--) pressure = observe(pressure, { Cpu, Memory: 0 }, 0, 0.8)
      return Number(pressure.value.toFixed(3))
    }
    expect(sample(0.9)).toBe(0)
    expect(sample(1, 3)).toBe(0.3)
    expect(sample(0.85, 5)).toBe(0.3)
    expect(sample(0.79, 2)).toBe(0.2)
    // Between, but not coming from above: it goes on recovering.
    expect(sample(0.9)).toBe(0.15)
    expect(sample(2, 20)).toBe(1)
  })

  it("is not moved by what is not a number", () => {
    const pressure = observe(calm, { Cpu: NaN, Memory: NaN }, NaN, 0.8)
    expect(pressure).toEqual(calm)
  })

  it("of the event loop has each class wait twice as long as the one below it", () => {
    const late = { isLate: true, against: 0 }
    const pressures = [0, 0.25, 0.5, 1, 2, 4, 1000].map((lag) => loopPressure(lag, late))
    expect(pressures).toEqual([0, 0, 0.25, 0.5, 0.75, 1, 1])
    const rankOf = Priority.rank
    // All of a class are shed from here on, and nobody below half of it.
    for (const [level, lag] of [["sheddable", 0.5], ["low", 1], ["normal", 2], ["high", 4]] as const) {
      expect(isShed(loopPressure(lag * 1.001, late), rankOf(level), 0.999)).toBe(true)
      expect(isShed(loopPressure(lag / 2, late), rankOf(level), 0)).toBe(false)
    }
    expect(loopPressure(NaN, late)).toBe(0)
  })

  it("of the event loop counts while that is late all the time, or far too late", () => {
    const after = (lags: ReadonlyArray<number>) => lags.reduce(stand, { isLate: false, against: 0 })
    const isLate = (...lags: ReadonlyArray<number>) => after(lags).isLate
    expect([isLate(9), isLate(9, 0, 9), isLate(9, 1), isLate(1, 1, 0.9), isLate(1, 1, 0.9, 0), isLate(NaN, NaN)])
      .toEqual([false, false, true, true, false, false])
    const calm = after([])
    expect([1, 9.9, 10, 20].map((lag) => loopPressure(lag, calm))).toEqual([0, 0, 1, 1])
  })

  it("gives a level, which is left well below where it was reached", () => {
    expect(levelOf("normal", 0.6, 0.8)).toBe("elevated")
    expect(levelOf("elevated", 0.5, 0.8)).toBe("elevated")
    expect(levelOf("elevated", 0.47, 0.8)).toBe("normal")
    expect(levelOf("normal", 0.95, 0.8)).toBe("critical")
    expect(levelOf("critical", 0.65, 0.8)).toBe("high")
  })
})
