import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { FairPermits } from "../src/internal/fairPermits.js"
import type { Waiter } from "../src/internal/waiters.js"
import { holds } from "./utils/holds.js"

class Call implements Waiter {
  place: Waiter["place"] = "Waiting"
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  verdict: boolean | string | undefined
  decisions = 0
  constructor(readonly key: string, readonly permits = 1, readonly rank = 2) {}
  readonly decide = (verdict: boolean | string) => {
    this.verdict = verdict
    this.decisions++
  }
}

/** A call comes: it runs, waits or is turned away. */
const come = (pool: FairPermits, call: Call, now = 0n) => {
  if (pool.take(call.permits, call.rank, () => now, call.key)) {
    call.verdict = true
    call.place = "Granted"
  } else if (!pool.enqueue(call, now)) {
    call.verdict = "QueueFull"
    call.place = "Gone"
  }
  return call
}
const end = (pool: FairPermits, call: Call, now = 0n) => {
  call.place = "Gone"
  pool.release(call.permits, now, call.key)
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
        const pool = new FairPermits(limit, 1000, "fifo")
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

  it("of what is served go round the keys, in permits and not in calls", () => {
    const pool = new FairPermits(1, 1000, "fifo")
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

    const big = new FairPermits(4, 1000, "fifo")
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
    const pool = new FairPermits(4, 100, "fifo")
    const noisy = Array.from({ length: 100 }, () => come(pool, new Call("noisy")))
    const quiet = come(pool, new Call("quiet"))
    end(pool, noisy[0]!)
    expect(quiet.place).toBe("Granted")
  })

  it("a key that has its share lets others pass, though its calls are longer", () => {
    const pool = new FairPermits(4, 100, "fifo")
    const slow = Array.from({ length: 10 }, () => come(pool, new Call("slow")))
    const quick = Array.from({ length: 10 }, () => come(pool, new Call("quick")))
    // Two of the four are given back once; from then on only quick calls end.
    end(pool, slow[0]!)
    end(pool, slow[1]!)
    for (let i = 0; i < 6; i++) end(pool, quick.find(({ place }) => place === "Granted")!)
    expect(slow.filter(({ place }) => place === "Granted")).toHaveLength(2)
    expect(quick.filter(({ place }) => place === "Gone")).toHaveLength(6)
  })

  it("a full queue turns away from the longest line, and never for a less important call", () => {
    const pool = new FairPermits(1, 3, "fifo")
    come(pool, new Call("noisy"))
    const waiting = [1, 2, 3].map(() => come(pool, new Call("noisy")))
    expect(come(pool, new Call("noisy")).verdict).toBe("QueueFull")
    expect(come(pool, new Call("quiet", 1, 1)).verdict).toBe("QueueFull")
    const quiet = come(pool, new Call("quiet"))
    expect([quiet.verdict, ...waiting.map(({ verdict }) => verdict)]).toEqual([
      undefined,
      undefined,
      undefined,
      "QueueFull"
    ])
    expect(come(pool, new Call("other", 1, 4)).verdict).toBeUndefined()
    expect(waiting[1]!.verdict).toBe("QueueFull")
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
  for (const order of ["fifo", "adaptive"] as const) {
    it(
      `loses no permit, leaves none free that somebody could have, and forgets keys that are gone (${order})`,
      () =>
        holds(
          fc.property(fc.integer({ min: 1, max: 5 }), fc.nat(4), fc.array(step, { maxLength: 40 }), (
            limit,
            maxQueued,
            steps
          ) => {
            const pool = new FairPermits(limit, maxQueued, order)
            const calls: Array<Call> = []
            let now = 0n
            const check = () => {
              const running = calls.filter(({ place }) => place === "Granted")
              const waiting = calls.filter(({ place }) => place === "Waiting")
              const used = running.reduce((sum, { permits }) => sum + permits, 0)
              if (pool.used !== used) expect(pool.used).toBe(used)
              if (pool.waiting !== waiting.length) expect(pool.waiting).toBe(waiting.length)
              if (waiting.length > maxQueued) expect(waiting.length).toBeLessThanOrEqual(maxQueued)
              const keys = new Set([...running, ...waiting].map((call) => call.key))
              if (pool.keys !== keys.size) expect(pool.keys).toBe(keys.size)
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
                if (one.n + 1 <= pool.limit) calls.push(come(pool, new Call(one.key, one.n + 1, one.rank), now))
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
            expect([pool.used, pool.waiting, pool.keys]).toEqual([0, 0, 0])
          }),
          10_000
        ),
      120_000
    )
  }
})
