import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import type { Waiter } from "../src/internal/watermark.js"
import { Watermark } from "../src/internal/watermark.js"
import { holds } from "./utils/holds.js"

/** What may happen: an item or a producer comes, an item ends, one goes away while it waits or after, time passes. */
type Step =
  | { readonly _tag: "come" }
  | { readonly _tag: "ready" }
  | { readonly _tag: "forget" }
  | { readonly _tag: "end" | "abandon"; readonly pick: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ _tag: fc.constant("come" as const) }) },
  { weight: 3, arbitrary: fc.record({ _tag: fc.constant("ready" as const) }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("forget" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      _tag: fc.constantFrom("end" as const, "end" as const, "abandon" as const),
      pick: fc.nat(20)
    })
  }
)

/** The same rules in the plainest form: lists of numbers. */
class Model {
  inside: Array<number> = []
  line: Array<{ readonly id: number; readonly isProducer: boolean }> = []
  turnedAway: Array<number> = []
  high = false
  expected = 0
  readonly crossings: Array<string> = []
  constructor(readonly max: number, readonly mark: number, readonly low: number, readonly waiters: number) {}

  count(isProducer: boolean) {
    return this.line.filter((one) => one.isProducer === isProducer).length
  }
  admit(id: number) {
    this.inside.push(id)
    if (this.inside.length >= this.mark) {
      this.high = true
      this.expected = 0
      this.crossings.push(`high ${this.inside.length}`)
    }
  }
  come(id: number) {
    if (!this.high) {
      this.expected = Math.max(0, this.expected - 1)
      this.admit(id)
    } else if (this.count(false) < this.waiters && this.inside.length + this.count(false) < this.max) {
      this.line.push({ id, isProducer: false })
    } else this.turnedAway.push(id)
  }
  ready(id: number) {
    if (!this.high && this.count(true) === 0) return
    if (this.count(true) < this.waiters) this.line.push({ id, isProducer: true })
    else this.turnedAway.push(id)
  }
  /** The first in line for whom there is room, again and again. */
  open() {
    while (!this.high) {
      const next = this.line.find(({ isProducer }) => !isProducer || this.inside.length + this.expected < this.mark)
      if (next === undefined) return
      this.line = this.line.filter((one) => one !== next)
      if (next.isProducer) this.expected++
      else this.admit(next.id)
    }
  }
  forget() {
    this.expected = 0
    this.open()
  }
  leave(id: number) {
    this.line = this.line.filter((one) => one.id !== id)
    if (!this.inside.includes(id)) return
    this.inside = this.inside.filter((one) => one !== id)
    if (this.high && this.inside.length > this.low) return
    if (this.high) this.crossings.push(`low ${this.inside.length}`)
    this.high = false
    this.open()
  }
}

class Item implements Waiter {
  place: Waiter["place"] = "Waiting"
  ticket = 0
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  constructor(readonly id: number, readonly isProducer: boolean, readonly admitted: Array<number>) {}
  readonly admit = () => {
    this.admitted.push(this.id)
  }
}

describe("the marks, against a model", () => {
  it("nobody passes, nothing is lost or doubled, and the bounds hold", () =>
    holds(
      fc.property(
        fc.integer({ min: 1, max: 6 }).chain((max) =>
          fc.integer({ min: 1, max }).chain((mark) =>
            fc.tuple(fc.constant(max), fc.constant(mark), fc.integer({ min: 0, max: mark }), fc.nat(4))
          )
        ),
        fc.array(step, { maxLength: 50 }),
        ([max, mark, low, waiters], steps) => {
          const crossings: Array<string> = []
          const water: Watermark = new Watermark(max, mark, low, waiters, (high) => {
            crossings.push(`${high ? "high" : "low"} ${water.pending}`)
          })
          const model = new Model(max, mark, low, waiters)
          const items = new Map<number, Item>()
          const admitted: Array<number> = []
          const wentOn: Array<number> = []
          const turnedAway: Array<number> = []
          let id = 0
          for (const one of steps) {
            if (one._tag === "forget") {
              water.forget()
              model.forget()
            } else if (one._tag === "ready") {
              const item = new Item(++id, true, wentOn)
              items.set(id, item)
              if (!water.isOpen && !water.enqueue(item)) turnedAway.push(id)
              model.ready(id)
            } else if (one._tag === "come") {
              const item = new Item(++id, false, admitted)
              items.set(id, item)
              if (water.take()) {
                item.place = "Admitted"
                admitted.push(id)
              } else if (!water.enqueue(item)) turnedAway.push(id)
              model.come(id)
            } else {
              const from = one._tag === "end" ? model.inside : [...model.line.map(({ id }) => id), ...model.inside]
              const picked = from[one.pick % Math.max(1, from.length)]
              if (picked === undefined) continue
              if (one._tag === "end") water.release()
              else water.abandon(items.get(picked)!)
              model.leave(picked)
            }
            expect([water.pending, water.waiting, water.producers, water.high]).toEqual([
              model.inside.length,
              model.count(false),
              model.count(true),
              model.high
            ])
            expect(turnedAway).toEqual(model.turnedAway)
            expect(crossings).toEqual(model.crossings)
            expect(water.pending).toBeLessThanOrEqual(mark)
            expect(water.pending + water.waiting).toBeLessThanOrEqual(max)
            expect(model.count(false) === 0 || model.high).toBe(true)
            // Everybody comes in once, in the order in which they came.
            expect(admitted).toEqual([...new Set(admitted)].sort((a, b) => a - b))
            expect(wentOn).toEqual([...new Set(wentOn)].sort((a, b) => a - b))
            for (const inside of model.inside) expect(admitted).toContain(inside)
          }
          // All that is inside ends: nobody is left waiting.
          for (let left = id; left > 0; left--) {
            if (water.pending > 0) water.release()
            water.forget()
          }
          expect([water.pending, water.waiting, water.producers]).toEqual([0, 0, 0])
        }
      ),
      10_000
    ))
})
