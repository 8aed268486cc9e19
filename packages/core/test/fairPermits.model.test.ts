import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { FairWaiters } from "../src/internal/fairWaiters.js"
import { Permits } from "../src/internal/permits.js"
import type { Order, Share, Waiter } from "../src/internal/waiters.js"
import { holds } from "./utils/holds.js"

class Call implements Waiter {
  place: Waiter["place"] = "Waiting"
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  verdict: boolean | string | undefined
  decisions = 0
  readonly share: Share
  constructor(readonly key: string, readonly permits = 1, readonly rank = 2, weight = 1) {
    this.share = { key, weight }
  }
  readonly decide = (verdict: boolean | string) => {
    this.verdict = verdict
    this.decisions++
  }
}

const fair = (limit: number, maxQueued: number, order: Order = "fifo") => {
  const waiters = new FairWaiters(order)
  return Object.assign(new Permits(limit, maxQueued, waiters), { waiters })
}

/** A call comes: it runs, waits or is turned away. */
const come = (pool: Permits, call: Call, now = 0n) => {
  if (pool.take(call.permits, call.rank, () => now, call.share)) {
    call.verdict = true
    call.place = "Granted"
  } else if (!pool.enqueue(call, now)) {
    call.verdict = "QueueFull"
    call.place = "Gone"
  }
  return call
}
const end = (pool: Permits, call: Call, now = 0n) => {
  call.place = "Gone"
  pool.release(call.permits, now, call.share)
}

/** Max-min shares by progressive filling: each key gets what it wants, or as much as anybody. */
const maxMin = (limit: number, wants: ReadonlyArray<number>) => {
  const got = wants.map(() => 0)
  for (let left = limit; left > 0;) {
    const least = wants.reduce((best, want, i) => got[i]! < want && (best < 0 || got[i]! < got[best]!) ? i : best, -1)
    if (least < 0) return got
    got[least]!++
    left--
  }
  return got
}

describe("shares", () => {
  it("of permits are max-min fair once every permit has changed hands, whatever the demands", () =>
    holds(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 6 }), (
        limit,
        wants
      ) => {
        const pool = fair(limit, 1000)
        const calls: Array<Call> = []
        // One key after the other, so that the first ones have taken all there is.
        wants.forEach((want, i) => {
          for (let n = 0; n < want; n++) calls.push(come(pool, new Call(`${i}`)))
        })
        const running = (i: number) => calls.filter(({ key, place }) => key === `${i}` && place === "Granted").length
        // The oldest ends, and another of the same key comes in its place: demands stay as they are.
        for (let turn = 0; turn < limit * 8; turn++) {
          const oldest = calls.findIndex(({ place }) => place === "Granted")
          if (oldest < 0) break
          const [call] = calls.splice(oldest, 1)
          end(pool, call!)
          calls.push(come(pool, new Call(call!.key)))
        }
        const shares = maxMin(limit, wants)
        wants.forEach((_, i) => {
          expect(Math.abs(running(i) - shares[i]!)).toBeLessThanOrEqual(1)
        })
        expect(calls.filter(({ place }) => place === "Granted").length).toBe(Math.min(limit, calls.length))
      }),
      10_000
    ), 120_000)

  it("of permits follow the weights of the keys where all want more, to little more than a permit", () =>
    holds(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.array(fc.constantFrom(0.5, 1, 2, 3, 10), { minLength: 1, maxLength: 6 }),
        (limit, weights) => {
          const pool = fair(limit, 1000)
          const calls: Array<Call> = []
          const callOf = (i: number) => new Call(`${i}`, 1, 2, weights[i]!)
          weights.forEach((_, i) => {
            for (let n = 0; n < limit + 2; n++) calls.push(come(pool, callOf(i)))
          })
          const held = weights.map(() => 0)
          const [settled, turns] = [limit * 10, limit * 40]
          // Whoever has run longest ends, so that all run equally long.
          const running = new Set<Call>()
          for (let turn = 0; turn < turns; turn++) {
            for (const call of calls) if (call.place === "Granted") running.add(call)
            const [call] = running
            if (call === undefined) break
            running.delete(call)
            calls.splice(calls.indexOf(call), 1)
            calls.push(come(pool, callOf(Number(call.key))))
            end(pool, call)
            if (turn < settled) continue
            for (const { key, place } of calls) if (place === "Granted") held[Number(key)]! += 1 / (turns - settled)
          }
          const sum = weights.reduce((total, weight) => total + weight, 0)
          // Permits are whole: 6 of them for 3, 3, 10, 3, 3 come out as 3.75 in place of 2.73 for the ten.
          weights.forEach((weight, i) => expect(Math.abs(held[i]! - limit * weight / sum)).toBeLessThanOrEqual(1.25))
        }
      ),
      3000
    ), 120_000)

  it("of what is served follow the weights of the keys, though there is one permit only", () => {
    const weights = { a: 1, b: 3, c: 0.5 }
    const pool = fair(1, 1000)
    let running = come(pool, new Call("x"))
    const calls = Object.entries(weights).flatMap(([key, weight]) =>
      Array.from({ length: 80 }, () => come(pool, new Call(key, 1, 2, weight)))
    )
    const served: Record<string, number> = { a: 0, b: 0, c: 0 }
    for (let i = 0; i < 90; i++) {
      end(pool, running)
      running = calls.find(({ place }) => place === "Granted")!
      served[running.key]!++
    }
    expect(served).toEqual({ a: 20, b: 60, c: 10 })
  })

  it("of what is served go round the keys, in permits and not in calls", () => {
    const pool = fair(1, 1000)
    const holder = come(pool, new Call("x"))
    const calls = Array.from({ length: 30 }, (_, i) => come(pool, new Call(["a", "b", "c"][i % 3]!)))
    let running = holder
    const served: Array<string> = []
    for (let i = 0; i < 30; i++) {
      end(pool, running)
      running = calls.find(({ place }) => place === "Granted")!
      served.push(running.key)
    }
    for (let round = 0; round < 10; round++) {
      expect(served.slice(round * 3, round * 3 + 3).sort()).toEqual(["a", "b", "c"])
    }

    const big = fair(4, 1000)
    const first = come(big, new Call("x", 4))
    const many = Array.from({ length: 10 }, () => come(big, new Call("big", 4)))
    const small = Array.from({ length: 40 }, () => come(big, new Call("small", 1)))
    end(big, first)
    const permits = { big: 0, small: 0 }
    for (let i = 0; i < 30; i++) {
      const granted = [...many, ...small].filter(({ place }) => place === "Granted")
      for (const call of granted) {
        permits[call.key as "big" | "small"] += call.permits
        end(big, call)
      }
    }
    expect(Math.abs(permits.big - permits.small)).toBeLessThanOrEqual(8)
  })

  it("a key that comes new is served next, however many of another wait", () => {
    const pool = fair(4, 100)
    const noisy = Array.from({ length: 100 }, () => come(pool, new Call("noisy")))
    const quiet = come(pool, new Call("quiet"))
    end(pool, noisy[0]!)
    expect(quiet.place).toBe("Granted")
  })

  it("a key that has its share lets others pass, though its calls are longer", () => {
    const pool = fair(4, 100)
    const slow = Array.from({ length: 10 }, () => come(pool, new Call("slow")))
    const quick = Array.from({ length: 10 }, () => come(pool, new Call("quick")))
    // Two of the four are given back once; from then on only quick calls end.
    end(pool, slow[0]!)
    end(pool, slow[1]!)
    for (let i = 0; i < 6; i++) end(pool, quick.find(({ place }) => place === "Granted")!)
    expect(slow.filter(({ place }) => place === "Granted")).toHaveLength(2)
    expect(quick.filter(({ place }) => place === "Gone")).toHaveLength(6)
  })

  it("a full queue turns away from the longest line, whoever is the least there", () => {
    const pool = fair(1, 3)
    come(pool, new Call("noisy"))
    const [first, urgent, last] = [2, 4, 2].map((rank) => come(pool, new Call("noisy", 1, rank)))
    expect(come(pool, new Call("noisy")).verdict).toBe("QueueFull")
    // Calling it critical gains a key nothing on others.
    const quiet = come(pool, new Call("quiet", 1, 0))
    expect([quiet, first, urgent, last].map((call) => call!.verdict)).toEqual([
      undefined,
      undefined,
      undefined,
      "QueueFull"
    ])
    // The lines are as long as each other now, or longer by the newcomer alone.
    expect(come(pool, new Call("other", 1, 4)).verdict).toBeUndefined()
    expect(first!.verdict).toBe("QueueFull")
    expect(come(pool, new Call("another", 1, 4)).verdict).toBe("QueueFull")
    expect(come(pool, new Call("quiet", 1, 1)).verdict).toBeUndefined()
    expect(quiet.verdict).toBe("QueueFull")
  })

  it("priority counts within a key", () => {
    const pool = fair(1, 100)
    let running = come(pool, new Call("x"))
    const calls = [["a", 2], ["a", 4], ["b", 0], ["b", 1], ["a", 4]] as const
    const all = calls.map(([key, rank]) => come(pool, new Call(key, 1, rank)))
    const served: Array<number> = []
    for (const _ of all) {
      end(pool, running)
      running = all.find(({ place }) => place === "Granted")!
      served.push(all.indexOf(running))
    }
    expect(served).toEqual([1, 3, 4, 2, 0])
  })

  it("a line that drains serves its oldest, though another stands", () => {
    const pool = fair(1, 100, "adaptive")
    const first = come(pool, new Call("noisy"))
    const [old, young] = [come(pool, new Call("noisy")), come(pool, new Call("noisy"))]
    const later = 150_000_000n
    const [oldest, newest] = [come(pool, new Call("quiet"), later), come(pool, new Call("quiet"), later)]
    end(pool, first, later)
    expect([old, young].map(({ place }) => place)).toEqual(["Waiting", "Granted"])
    end(pool, young, later)
    expect([oldest, newest].map(({ place }) => place)).toEqual(["Granted", "Waiting"])
  })

  it("a newcomer passes its own key's less important calls where it is their turn, and nobody else's", () => {
    const pool = fair(3, 100)
    come(pool, new Call("x"))
    const big = come(pool, new Call("a", 3))
    expect(come(pool, new Call("b", 1, 4)).place).toBe("Waiting")
    expect(come(pool, new Call("a", 1, 2)).place).toBe("Waiting")
    expect(come(pool, new Call("a", 1, 3)).place).toBe("Granted")
    expect(big.place).toBe("Waiting")
  })
})

describe("any story", () => {
  const key = fc.constantFrom("a", "b", "c")
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ what: fc.constant("come" as const), key, n: fc.nat(2), rank: fc.nat(2) }) },
    {
      weight: 5,
      arbitrary: fc.record({
        what: fc.constantFrom("end" as const, "abandon" as const),
        key,
        n: fc.nat(50),
        rank: fc.nat(2)
      })
    },
    {
      weight: 1,
      arbitrary: fc.record({ what: fc.constant("resize" as const), key, n: fc.nat(4), rank: fc.nat(2) })
    }
  )
  for (const order of ["fifo", "lifo", "adaptive"] as const) {
    it(
      `loses no permit, leaves none free that somebody could have, and forgets keys that are gone (${order})`,
      () =>
        holds(
          fc.property(fc.integer({ min: 1, max: 5 }), fc.nat(4), fc.array(step, { maxLength: 40 }), (
            limit,
            maxQueued,
            steps
          ) => {
            const pool = fair(limit, maxQueued, order)
            const calls: Array<Call> = []
            let now = 0n
            /** One gives way, of the longest line or else of the newcomer's own, and nobody there matters less. */
            const givesWay = (line: ReadonlyArray<Call>, call: Call) => {
              const rejected = [...line, call].filter(({ verdict }) => verdict === "QueueFull")
              expect(rejected).toHaveLength(1)
              const out = rejected[0]!
              const length = (key: string) => line.filter((other) => other.key === key).length
              const longest = Math.max(...["a", "b", "c"].map(length))
              if (longest > length(call.key) + 1) expect(length(out.key)).toBe(longest)
              else expect(out.key).toBe(call.key)
              const others = [...line, call].filter((other) => other !== out && other.key === out.key)
              expect(Math.min(out.rank, ...others.map(({ rank }) => rank))).toBe(out.rank)
            }
            const check = () => {
              const running = calls.filter(({ place }) => place === "Granted")
              const waiting = calls.filter(({ place }) => place === "Waiting")
              const used = running.reduce((sum, { permits }) => sum + permits, 0)
              if (pool.used !== used) expect(pool.used).toBe(used)
              if (pool.waiting !== waiting.length) expect(pool.waiting).toBe(waiting.length)
              if (waiting.length > maxQueued) expect(waiting.length).toBeLessThanOrEqual(maxQueued)
              const keys = new Set([...running, ...waiting].map((call) => call.key))
              if (pool.waiters.keys !== keys.size) expect(pool.waiters.keys).toBe(keys.size)
              const fits = waiting.length > 0 && waiting.every(({ permits }) => used + permits <= pool.limit)
              if (fits) expect("a permit is free").toBe("while all that wait could have it")
              for (const { decisions } of calls) if (decisions > 1) expect(decisions).toBe(1)
            }
            for (const one of steps) {
              now += 30_000_000n
              const pick = (place: Waiter["place"]) => {
                const from = calls.filter((call) => call.place === place)
                return from[one.n % Math.max(1, from.length)]
              }
              if (one.what === "come") {
                if (one.n + 1 > pool.limit) continue
                const line = calls.filter(({ place }) => place === "Waiting")
                const call = come(pool, new Call(one.key, one.n + 1, one.rank), now)
                calls.push(call)
                if (line.length >= maxQueued && call.place !== "Granted") givesWay(line, call)
              } else if (one.what === "end") {
                const call = pick("Granted")
                if (call !== undefined) end(pool, call, now)
              } else if (one.what === "abandon") {
                const call = pick("Waiting") ?? pick("Granted")
                if (call !== undefined) pool.abandon(call, now)
              } else pool.resize(one.n + 1, now)
              check()
            }
            for (;;) {
              const call = calls.find(({ place }) => place === "Granted")
              if (call === undefined) break
              end(pool, call, now)
              check()
            }
            expect([pool.used, pool.waiting, pool.waiters.keys]).toEqual([0, 0, 0])
          }),
          10_000
        ),
      120_000
    )
  }
})
