import type { RateLimiter } from "@effect-resilience/core"
import type { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { long, scale } from "./utils/scale.js"
import { Sentinels } from "./utils/sentinel.js"
import { canStart, Server } from "./utils/server.js"
import { until } from "./utils/until.js"
import { Worker } from "./utils/worker.js"

const limit = 100
const rate = { limit, window: "1 second" } as const
const limits = {
  gcra: { algorithm: "gcra", rate },
  paced: { algorithm: "gcra", rate: { ...rate, burst: 10 } },
  counter: { algorithm: "sliding-window", rate },
  log: { algorithm: "sliding-log", rate },
  fixed: { algorithm: "fixed-window", rate }
} satisfies Record<string, RateLimiter.Options>
type Name = keyof typeof limits
const names = Object.keys(limits) as ReadonlyArray<Name>

/** Calls a second of each process and limit: uneven, and more than five times the limit in all. */
const loads = [20, 60, 120, 360]

interface Report {
  readonly admitted: Record<Name, ReadonlyArray<number>>
  readonly failed: Record<string, number>
  readonly calls: number
  readonly roundTrips: number
}

/** The most that came within a second, from any microsecond on. */
const mostInASecond = (times: ReadonlyArray<number>): number => {
  let most = 0
  for (let from = 0, to = 0; to < times.length; to++) {
    while ((times[to] ?? 0) - (times[from] ?? 0) >= 1_000_000) from++
    most = Math.max(most, to - from + 1)
  }
  return most
}

/** By how many calls more came than `burst + limit * span` between any two of them, at most. */
const excess = (times: ReadonlyArray<number>, burst: number): number => {
  let most = -Infinity
  // Of j - i + 1 - burst - limit * (t[j] - t[i]) over all pairs, in one pass.
  let best = -Infinity
  times.forEach((time, i) => {
    const rank = i - limit * time / 1e6
    best = Math.max(best, -rank)
    most = Math.max(most, rank + best + 1 - burst)
  })
  return most
}

const run = (server: RedisConnection.Options["server"], seconds: number, meanwhile: Effect.Effect<void>) =>
  Effect.gen(function*() {
    const prefix = `${randomUUID()}:`
    const file = new URL("./workers/limiter.ts", import.meta.url)
    const workers = yield* Effect.forEach(
      loads,
      (perSecond) => Worker.start(file, JSON.stringify({ server, prefix, limits, perSecond, seconds })),
      { concurrency: 4 }
    )
    for (const worker of workers) expect(yield* worker.next).toBe("ready")
    for (const worker of workers) worker.send("go")
    yield* meanwhile
    const reports = (yield* Effect.forEach(workers, ({ next }) => next)) as ReadonlyArray<Report>
    const timesOf = (name: Name) => reports.flatMap(({ admitted }) => admitted[name] ?? []).sort((a, b) => a - b)
    return { reports, timesOf }
  })

describe.skipIf(!canStart)("one limit of four processes", () => {
  it.scopedLive("RL30: is kept in every window, by every algorithm, and used up", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const seconds = scale(2, 60)
      const { reports, timesOf } = yield* run(server.url, seconds, Effect.void)
      // A machine that is busy may be late; it is then as if the call had not been let in.
      const lost = reports.reduce((sum, { failed }) => sum + Object.values(failed).reduce((a, b) => a + b, 0), 0)
      const sum = (of: (report: Report) => number) => reports.reduce((all, report) => all + of(report), 0)
      const shared = sum(({ roundTrips }) => roundTrips) / sum(({ calls }) => calls)
      // By the defaults calls share a round trip, and those that are denied in any case need none.
      expect(shared).toBeLessThan(0.5)
      expect(excess(timesOf("gcra"), limit)).toBeLessThanOrEqual(1e-6)
      expect(excess(timesOf("paced"), 10)).toBeLessThanOrEqual(1e-6)
      expect(mostInASecond(timesOf("log"))).toBeLessThanOrEqual(limit)
      expect(mostInASecond(timesOf("counter"))).toBeLessThanOrEqual(2 * limit)
      expect(mostInASecond(timesOf("fixed"))).toBeLessThanOrEqual(2 * limit)
      const windows = new Map<number, number>()
      for (const time of timesOf("fixed")) {
        const index = Math.floor(time / 1e6)
        windows.set(index, (windows.get(index) ?? 0) + 1)
      }
      expect(Math.max(...windows.values())).toBeLessThanOrEqual(limit)
      for (const name of names) {
        const times = timesOf(name)
        const span = ((times.at(-1) ?? 0) - (times[0] ?? 0)) / 1e6
        expect(span).toBeGreaterThan(seconds - 1.5)
        // The counter counts the window before as if its calls had been evenly spread.
        expect(times.length + lost).toBeGreaterThanOrEqual(limit * (span - 1) * (name === "counter" ? 0.95 : 0.99))
      }
      if (long) {
        console.info("most in a second", names.map((name) => [name, mostInASecond(timesOf(name))]), "lost", lost)
        console.info("round trips for each call", shared)
      }
    }), 300_000)

  it.scopedLive("RL31: is exceeded by no more than what a new master has not heard of", () =>
    Effect.gen(function*() {
      const sentinels = yield* Sentinels.start()
      // The sentinels take three or four of them to find another.
      const seconds = scale(9, 60)
      const before = yield* Effect.promise(sentinels.master)
      const { reports, timesOf } = yield* run(
        sentinels.options,
        seconds,
        Effect.promise(async () => {
          await new Promise((resolve) => setTimeout(resolve, scale(1500, 15_000)))
          await before.kill()
          await until("there is another master", async () => (await sentinels.master()).port !== before.port, 15_000)
        })
      )
      const over = [excess(timesOf("gcra"), limit), excess(timesOf("paced"), 10)]
      // A replica is behind by the time that a write takes to come: a second of calls, at the very most.
      expect(Math.max(...over)).toBeLessThanOrEqual(limit)
      expect(mostInASecond(timesOf("log"))).toBeLessThanOrEqual(2 * limit)
      const times = timesOf("paced")
      const gaps = times.map((time, i) => time - (times[i - 1] ?? time))
      // Both before and after.
      expect(Math.max(...gaps)).toBeGreaterThan(200_000)
      expect(gaps.length - gaps.indexOf(Math.max(...gaps))).toBeGreaterThan(limit / 2)
      if (long) {
        console.info("over by", over, "silent for ms", Math.max(...gaps) / 1000, reports.map(({ failed }) => failed))
      }
    }), 300_000)
})
