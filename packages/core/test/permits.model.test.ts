import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Permits } from "../src/internal/permits.js"
import { persistence, type Waiter, Waiters } from "../src/internal/waiters.js"
import { holds } from "./utils/holds.js"

/** What may happen to a pool. */
type Step =
  | { readonly _tag: "call"; readonly permits: number; readonly rank: number }
  | { readonly _tag: "end" | "interrupt"; readonly pick: number }
  | { readonly _tag: "resize"; readonly limit: number }
  | { readonly _tag: "pass"; readonly millis: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      _tag: fc.constant("call" as const),
      permits: fc.integer({ min: 1, max: 3 }),
      rank: fc.integer({ min: 0, max: 2 })
    })
  },
  {
    weight: 4,
    arbitrary: fc.record({ _tag: fc.constantFrom("end" as const, "interrupt" as const), pick: fc.nat(20) })
  },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("resize" as const), limit: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("pass" as const), millis: fc.integer({ min: 1, max: 200 }) }) }
)

interface Entry {
  readonly id: number
  readonly permits: number
  readonly rank: number
}

/** The same rules in the plainest form: a list, and no cleverness. */
class Model {
  running: Array<Entry> = []
  queue: Array<Entry> = []
  rejected: Array<number> = []
  standing = 0
  constructor(public limit: number, readonly maxQueued: number, readonly order: "fifo" | "lifo" | "adaptive") {}

  used = () => this.running.reduce((sum, { permits }) => sum + permits, 0)
  lifo = (now: number) =>
    this.order === "lifo" || (this.order === "adaptive" && now - this.standing >= Number(persistence))
  /** In the order in which they are served: by rank, and then by age. */
  inOrder(queue: ReadonlyArray<Entry>, now: number) {
    const age = this.lifo(now) ? -1 : 1
    return [...queue].sort((a, b) => b.rank - a.rank || age * (a.id - b.id))
  }
  serve(now: number) {
    for (const next of this.inOrder(this.queue, now)) {
      if (this.used() + next.permits > this.limit) return
      this.queue = this.queue.filter((one) => one !== next)
      this.running.push(next)
    }
  }
  call(entry: Entry, now: number) {
    // It may take what is free where it would be the first in line.
    if (this.inOrder([...this.queue, entry], now)[0] === entry && this.used() + entry.permits <= this.limit) {
      this.running.push(entry)
      return
    }
    const stood = this.queue.length > 0
    if (this.queue.length >= this.maxQueued) {
      const last = this.inOrder([...this.queue, entry], now).at(-1)!
      this.rejected.push(last.id)
      if (last === entry) return
      this.queue = this.queue.filter((one) => one !== last)
    }
    if (!stood) this.standing = now
    this.queue.push(entry)
    this.serve(now)
  }
  resize(limit: number, now: number) {
    this.limit = limit
    for (const { id } of this.queue.filter(({ permits }) => permits > limit)) this.rejected.push(id)
    this.queue = this.queue.filter(({ permits }) => permits <= limit)
    this.serve(now)
  }
}

/** A call against the pool under test, as the guard makes it. */
class Call implements Waiter {
  place: Waiter["place"] = "Waiting"
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  verdict: true | string | undefined
  decisions = 0
  constructor(readonly id: number, readonly permits: number, readonly rank: number) {}
  readonly decide = (verdict: true | string) => {
    this.decisions++
    this.verdict = verdict
  }
}

const runs = 10_000

describe("the permit queue, against a model", () => {
  for (const order of ["fifo", "lifo", "adaptive"] as const) {
    it(`no permit is lost or doubled, and turns come in order (${order})`, () => {
      return holds(
        fc.property(
          fc.integer({ min: 1, max: 4 }),
          fc.nat(4),
          fc.array(step, { maxLength: 40 }),
          (limit, maxQueued, steps) => {
            const pool = new Permits(limit, maxQueued, new Waiters(order))
            const model = new Model(limit, maxQueued, order)
            const calls = new Map<number, Call>()
            let now = 0
            let id = 0
            for (const one of steps) {
              switch (one._tag) {
                case "pass":
                  now += one.millis * 1_000_000
                  break
                case "resize":
                  pool.resize(one.limit, BigInt(now))
                  model.resize(one.limit, now)
                  break
                case "call": {
                  if (one.permits > pool.limit) break
                  const call = new Call(++id, one.permits, one.rank)
                  calls.set(id, call)
                  if (pool.take(call.permits, call.rank, () => BigInt(now))) {
                    call.verdict = true
                    call.place = "Granted"
                  } else if (!pool.enqueue(call, BigInt(now))) call.verdict = "QueueFull"
                  model.call({ id, permits: one.permits, rank: one.rank }, now)
                  break
                }
                case "end": {
                  const entry = model.running[one.pick % Math.max(1, model.running.length)]
                  if (entry === undefined) break
                  model.running = model.running.filter((other) => other !== entry)
                  calls.get(entry.id)!.place = "Gone"
                  pool.release(entry.permits, BigInt(now))
                  model.serve(now)
                  break
                }
                case "interrupt": {
                  const all = [...model.queue, ...model.running]
                  const entry = all[one.pick % Math.max(1, all.length)]
                  if (entry === undefined) break
                  model.queue = model.queue.filter((other) => other !== entry)
                  model.running = model.running.filter((other) => other !== entry)
                  pool.abandon(calls.get(entry.id)!, BigInt(now))
                  model.serve(now)
                }
              }
              expect(pool.used).toBe(model.used())
              expect(pool.waiting).toBe(model.queue.length)
              expect(pool.used).toBeLessThanOrEqual(Math.max(pool.limit, pool.peak))
              const [next] = model.inOrder(model.queue, now)
              // An adaptive queue may have turned around since anything moved.
              if (next !== undefined && order !== "adaptive") {
                expect(pool.used + next.permits).toBeGreaterThan(pool.limit)
              }
              for (const { id } of model.running) expect(calls.get(id)!.verdict).toBe(true)
              for (const { id } of model.queue) expect(calls.get(id)!.verdict).toBeUndefined()
              for (const id of model.rejected) expect(calls.get(id)!.verdict).toBeTypeOf("string")
              for (const call of calls.values()) expect(call.decisions).toBeLessThanOrEqual(1)
            }
          }
        ),
        runs
      )
    })
  }
})
