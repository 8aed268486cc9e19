import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import type { Waiter } from "../src/internal/watermark.js"
import { Watermark } from "../src/internal/watermark.js"
import { holds } from "./utils/holds.js"

/** What may happen: an item comes, one ends, one goes away while it waits or after. */
type Step =
  | { readonly _tag: "come" }
  | { readonly _tag: "end" | "abandon"; readonly pick: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ _tag: fc.constant("come" as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      _tag: fc.constantFrom("end" as const, "end" as const, "abandon" as const),
      pick: fc.nat(20)
    })
  }
)

/** The same rules in the plainest form: two lists of numbers. */
class Model {
  inside: Array<number> = []
  line: Array<number> = []
  turnedAway: Array<number> = []
  high = false
  readonly crossings: Array<string> = []
  constructor(readonly max: number, readonly mark: number, readonly low: number, readonly waiters: number) {}

  admit(id: number) {
    this.inside.push(id)
    if (this.inside.length >= this.mark) {
      this.high = true
      this.crossings.push(`high ${this.inside.length}`)
    }
  }
  come(id: number) {
    if (!this.high) this.admit(id)
    else if (this.line.length < this.waiters && this.inside.length + this.line.length < this.max) this.line.push(id)
    else this.turnedAway.push(id)
  }
  gone(id: number) {
    this.line = this.line.filter((one) => one !== id)
    if (!this.inside.includes(id)) return
    this.inside = this.inside.filter((one) => one !== id)
    if (!this.high || this.inside.length > this.low) return
    this.high = false
    this.crossings.push(`low ${this.inside.length}`)
    while (!this.high && this.line.length > 0) this.admit(this.line.shift()!)
  }
}

class Item implements Waiter {
  place: Waiter["place"] = "Waiting"
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  constructor(readonly id: number, readonly admitted: Array<number>) {}
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
          const turnedAway: Array<number> = []
          let id = 0
          for (const one of steps) {
            if (one._tag === "come") {
              const item = new Item(++id, admitted)
              items.set(id, item)
              if (water.take()) {
                item.place = "Admitted"
                admitted.push(id)
              } else if (!water.enqueue(item)) turnedAway.push(id)
              model.come(id)
            } else {
              const from = one._tag === "end" ? model.inside : [...model.line, ...model.inside]
              const picked = from[one.pick % Math.max(1, from.length)]
              if (picked === undefined) continue
              if (one._tag === "end") water.release()
              else water.abandon(items.get(picked)!)
              model.gone(picked)
            }
            expect([water.pending, water.waiting, water.high]).toEqual([
              model.inside.length,
              model.line.length,
              model.high
            ])
            expect(turnedAway).toEqual(model.turnedAway)
            expect(crossings).toEqual(model.crossings)
            expect(water.pending).toBeLessThanOrEqual(mark)
            expect(water.pending + water.waiting).toBeLessThanOrEqual(max)
            expect(model.line.length === 0 || model.high).toBe(true)
            // Everybody comes in once, in the order in which they came.
            expect(admitted).toEqual([...new Set(admitted)].sort((a, b) => a - b))
            for (const inside of model.inside) expect(admitted).toContain(inside)
          }
          // All that is inside ends: nobody is left waiting.
          for (let left = id; left > 0; left--) if (water.pending > 0) water.release()
          expect([water.pending, water.waiting]).toEqual([0, 0])
        }
      ),
      10_000
    ))
})
