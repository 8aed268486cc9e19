import { RedisUnavailableError } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import type { ServerClock } from "../src/internal/clock.js"
import { heard, offsetOf, unknownClock } from "../src/internal/clock.js"
import type { Search } from "../src/internal/master.js"
import { afterReadOnly, noSearch } from "../src/internal/master.js"
import type { Causes, Outage } from "../src/internal/outage.js"
import { afterCause, afterFailure, afterProbe, probeDelay, saysAbsent, up } from "../src/internal/outage.js"
import type { Refusal } from "../src/internal/refusal.js"
import { afterRefusal, afterTaken } from "../src/internal/refusal.js"

describe("what is known of a server's clock", () => {
  const answers = fc.array(
    fc.record({ sent: fc.integer({ min: 0, max: 1000 }), there: fc.integer({ min: 0, max: 50 }), back: fc.nat(50) }),
    { minLength: 1, maxLength: 30 }
  )

  it.prop("is never ahead of it, and behind it by the quickest of the last ten answers at most", [
    answers,
    fc.integer({ min: -1e12, max: 1e12 })
  ], ([answers, ahead]) => {
    let clock: ServerClock = unknownClock
    let now = 0
    const backs: Array<number> = []
    for (const { back, sent, there } of answers) {
      const begin = now += sent
      const server = (begin + there) * 1000 + ahead
      now = begin + there + back
      clock = heard(clock, server, begin, now)
      backs.push(back)
      const known = offsetOf(clock) ?? NaN
      expect(known).toBeLessThanOrEqual(ahead)
      expect(known).toBeGreaterThanOrEqual(ahead - Math.min(...backs.slice(-10)) * 1000)
    }
  })

  it.prop("a step forward is followed at once, and one back with the next answer", [
    fc.integer({ min: 100_000, max: 1e10 }),
    fc.boolean()
  ], ([step, forward]) => {
    let clock = unknownClock
    for (let n = 0; n < 10; n++) clock = heard(clock, n * 1e6, n * 1000 - 2, n * 1000)
    const moved = forward ? step : -step
    clock = heard(clock, 10 * 1e6 + moved, 9998, 10_000)
    expect(offsetOf(clock)).toBe(moved)
  })
})

describe("a server that goes down", () => {
  const model = fc.array(fc.constantFrom("fails", "answers", "probe fails", "probe answers"), { maxLength: 60 })

  it.prop("after so many failures in a row, and until a probe is answered", [model, fc.integer({ min: 1, max: 5 })], (
    [events, downAfter]
  ) => {
    let outage: Outage = up
    let row = 0
    let down = false
    for (const event of events) {
      if (event === "fails") {
        outage = afterFailure(outage, downAfter)
        if (!down && ++row === downAfter) down = true
      } else if (event === "probe fails") outage = afterProbe(outage)
      else if (event === "probe answers" || !down) {
        outage = up
        row = 0
        down = false
      }
      expect(outage._tag === "Down").toBe(down)
    }
  })

  it.prop("is probed after 100 ms, then twice as long each time, up to two seconds, by chance half as long", [
    fc.nat(2000),
    fc.double({ min: 0, max: 1, noNaN: true })
  ], ([probes, random]) => {
    const longest = Math.min(100 * 2 ** probes, 2000)
    const delay = probeDelay(probes, random)
    expect(delay).toBeLessThanOrEqual(longest)
    expect(delay).toBeGreaterThanOrEqual(longest / 2)
  })

  it("is one that does not answer, and not one that refuses", () => {
    const reasons = ["Timeout", "NotReady", "Disconnected", "Loading", "Busy", "ClusterDown"] as const
    expect(reasons.every(saysAbsent)).toBe(true)
    expect((["Late", "Down", "ReadOnly", "OutOfMemory", "Denied", "Reply"] as const).some(saysAbsent)).toBe(false)
  })
})

describe("the causes of an outage", () => {
  const seen = fc.array(
    fc.record({ kind: fc.constantFrom("Absent", "Denied", "Reply"), after: fc.integer({ min: 0, max: 40_000 }) }),
    { maxLength: 60 }
  )

  it.prop("RN29: each is told of where it is another, at once, and once a minute however often it comes", [seen], (
    [seen]
  ) => {
    let causes: Causes | undefined
    let now = 0
    const lines: Array<{ readonly kind: string; readonly at: number }> = []
    for (const { after, kind } of seen) {
      now += after
      const last = lines.at(-1)?.kind
      const before = lines.filter((line) => line.kind === kind).at(-1)?.at ?? -Infinity
      const next = afterCause(causes, kind, now)
      expect(next !== undefined).toBe(kind !== last && now - before >= 60_000)
      if (next === undefined) continue
      causes = next
      lines.push({ kind, at: now })
    }
  })
})

describe("a server that refuses what is written", () => {
  const error = new RedisUnavailableError({ connection: "redis", command: "beat", reason: "OutOfMemory" })
  const beats = fc.array(fc.record({ taken: fc.boolean(), after: fc.integer({ min: 0, max: 2000 }) }), {
    maxLength: 40
  })

  it.prop("does so until three in a row were taken, and is told of where it refuses for half a second", [beats], (
    [beats]
  ) => {
    let refusal: Refusal | undefined
    let now = 0
    let since: number | undefined
    let row = 0
    let told = false
    for (const { after, taken } of beats) {
      now += after
      refusal = taken ? afterTaken(refusal) : afterRefusal(refusal, error, now)
      row = taken ? row + 1 : 0
      if (!taken) {
        since ??= now
        told ||= now - since >= 500
      } else if (row === 3) {
        since = undefined
        told = false
      }
      expect(refusal?.since).toBe(since)
      expect(refusal?.told ?? false).toBe(told)
    }
  })

  it.prop("as a replica is left at once, and at most so often, and anew after a long silence", [
    fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 200 }),
    fc.double({ min: 0, max: 1, noNaN: true })
  ], ([gaps, random]) => {
    let search: Search = noSearch
    let now = 0
    const left: Array<number> = []
    for (const gap of gaps) {
      now += gap
      const after = afterReadOnly(search, now, () => random)
      search = after.search
      if (after.isDue) left.push(now)
    }
    expect(left[0]).toBe(gaps[0])
    left.forEach((at, i) => {
      const wait = Math.min(500 * 2 ** (i - 1), 5000) * (1 - random / 2)
      if (i > 0) expect(at - (left[i - 1] ?? 0)).toBeGreaterThanOrEqual(wait - 1e-6)
    })
    expect(afterReadOnly(search, search.next + 5001, () => 0).search.next - search.next).toBeCloseTo(5501)
  })
})
