import type { Bulkhead } from "@effect-resilience/core"
import { ResilienceLive } from "@effect-resilience/core"
import { Admin } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Random } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { bulkheadOf, connect, eventually, hold, stateOf } from "./utils/bulkheads.js"
import { Worker } from "./utils/worker.js"
import type { Setup } from "./workers/resizer.js"

const url = String(inject("redisUrl"))
const operator = { name: "an operator" }
const live = Layer.fresh(Admin.Live.pipe(Layer.provideMerge(ResilienceLive)))

/** A process: a bulkhead with an operator of its own. */
const processOf = (name: string, maxConcurrent = 10) =>
  Effect.gen(function*() {
    const { apply, giveBack } = yield* Admin
    const which = { pattern: "Bulkhead", instance: name, reason: "a test" }
    return {
      bulkhead: yield* bulkheadOf(url, { name, maxConcurrent, maxQueued: 100, maxWait: "10 seconds" }),
      resize: (input: number, ttl: Admin.Act["ttl"] = "1 second") =>
        apply({ ...which, action: "resize", input, ttl }, operator),
      giveBack: giveBack({ ...which, setting: "limit" }, operator)
    }
  }).pipe((made) => Effect.flatMap(Layer.build(live), (context) => Effect.provide(made, context)))

const is = (limit: number, ...bulkheads: ReadonlyArray<Bulkhead.Service>) =>
  eventually(
    `the limit is ${limit}`,
    Effect.map(
      Effect.forEach(bulkheads, ({ metrics }) => metrics),
      (all) => all.every((metrics) => metrics.limit === limit)
    )
  )

const runsAtOnce = (permits: number, ...bulkheads: ReadonlyArray<Bulkhead.Service>) =>
  Effect.forEach(bulkheads, (bulkhead) => bulkhead.withPermitsBy(permits)(Effect.void))

const quiet = Logger.remove(Logger.defaultLogger)

describe.skipIf(inject("redisUrl") === undefined)("an operator's limit of a shared bulkhead, for a while", () => {
  for (const inUse of [0, 3]) {
    it.scopedLive(`RB19: is afterwards what it was, and not what a process held (${inUse})`, () =>
      Effect.gen(function*() {
        const name = randomUUID()
        const here = yield* processOf(name)
        const there = yield* processOf(name)
        const held = yield* Effect.all(Array.from({ length: inUse }, () => hold(here.bulkhead)))
        const { previous, reach } = yield* here.resize(5)
        expect([previous, reach]).toMatchObject([{ limit: 10 }, "fleet"])
        yield* is(5, here.bulkhead, there.bulkhead)
        expect(yield* Effect.flip(here.bulkhead.withPermitsBy(6)(Effect.void))).toMatchObject({
          reason: "TooManyPermits"
        })
        yield* is(10, here.bulkhead, there.bulkhead)
        for (const one of held) yield* one.end
        yield* runsAtOnce(10, here.bulkhead, there.bulkhead)
        // What is changed for good is what it was, too.
        yield* there.bulkhead.resize(6)
        yield* is(6, here.bulkhead, there.bulkhead)
        expect((yield* here.resize(2)).previous).toMatchObject({ limit: 6 })
        yield* is(2, here.bulkhead, there.bulkhead)
        yield* is(6, here.bulkhead, there.bulkhead)
      }).pipe(Effect.provide(quiet)))
  }

  it.scopedLive("RB21: is over for all when its time is, though the process that acted was killed", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const busy = yield* bulkheadOf(url, { name, maxConcurrent: 10 })
      // It neither holds nor waits, and has not asked for anything yet.
      const idle = yield* bulkheadOf(url, { name, maxConcurrent: 10 })
      const held = yield* hold(busy)
      const setup: Setup = { url, name, maxConcurrent: 10, to: 2, seconds: 3 }
      const { child, next } = yield* Worker.start(
        new URL("./workers/resizer.ts", import.meta.url),
        JSON.stringify(setup)
      )
      expect(yield* next).toMatchObject({ limit: 10 })
      yield* is(2, busy, idle)
      child.kill("SIGKILL")
      expect(yield* Effect.flip(idle.withPermitsBy(3)(Effect.void))).toMatchObject({ reason: "TooManyPermits" })
      yield* is(10, busy, idle)
      yield* held.end
      yield* runsAtOnce(10, idle)
      // Nothing of it is left for those who start with another limit.
      const later = yield* bulkheadOf(url, { name, maxConcurrent: 12 })
      yield* runsAtOnce(12, later)
    }))

  it.scopedLive("RB21: of two the last one counts, and each ends its own alone", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const [a, b] = [yield* processOf(name), yield* processOf(name)]
      yield* a.resize(2, "1 minute")
      yield* is(2, a.bulkhead, b.bulkhead)
      expect((yield* b.resize(5, "1 minute")).previous).toMatchObject({ limit: 2 })
      yield* is(5, a.bulkhead, b.bulkhead)
      expect(yield* a.giveBack).toBe("fleet")
      // A call asks Redis after that order.
      yield* runsAtOnce(5, a.bulkhead, b.bulkhead)
      yield* is(5, a.bulkhead, b.bulkhead)
      // What is put back is what lasts, and not the other's two.
      expect(yield* b.giveBack).toBe("fleet")
      yield* is(10, a.bulkhead, b.bulkhead)
      yield* runsAtOnce(10, a.bulkhead, b.bulkhead)
    }).pipe(Effect.provide(quiet)))

  it.scopedLive("RB21: takes no permit out of the world while it comes and goes, and calls are interrupted", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const processes = [yield* processOf(name), yield* processOf(name)] as const
      const redis = yield* connect(url)
      let running = 0
      let most = 0
      const call = (bulkhead: Bulkhead.Service) =>
        Effect.gen(function*() {
          const ends = yield* Random.nextIntBetween(0, 20)
          yield* bulkhead.withPermit(Effect.acquireUseRelease(
            Effect.sync(() => {
              most = Math.max(most, ++running)
            }),
            () => Effect.sleep(5),
            () => Effect.sync(() => running--)
          )).pipe(Effect.timeout(ends), Effect.ignore)
        })
      const load = yield* Effect.fork(Effect.forEach(
        processes.flatMap(({ bulkhead }) => Array.from({ length: 15 }, () => bulkhead)),
        (bulkhead) => Effect.forever(call(bulkhead)),
        { concurrency: "unbounded", discard: true }
      ))
      yield* eventually("all are in use", Effect.sync(() => most === 10))
      for (const [i, to] of [2, 7, 1, 4].entries()) {
        const { bulkhead, giveBack, resize } = processes[i % 2]!
        yield* resize(to, "1 minute")
        // A process parts with what its calls use no more, and then uses no more than what Redis knows of.
        yield* eventually("no more are held", Effect.map(stateOf(redis, name), ({ used }) => used <= to))
        most = 0
        yield* eventually("some run", Effect.sync(() => most > 0))
        yield* Effect.sleep("50 millis")
        expect(most).toBeLessThanOrEqual(to)
        yield* giveBack
        yield* is(10, bulkhead)
        yield* eventually("all are in use again", Effect.sync(() => most === 10))
      }
      yield* load.interruptAsFork(load.id())
      yield* eventually("none runs", Effect.sync(() => running === 0))
      for (const { bulkhead } of processes) yield* bulkhead.withPermitsBy(10)(Effect.void)
      yield* eventually(
        "nobody holds anything",
        Effect.map(
          stateOf(redis, name),
          ({ ends, holders, line, used }) => used + holders.size + line.length + ends.size === 0
        )
      )
      for (const { bulkhead } of processes) {
        expect(yield* bulkhead.metrics).toMatchObject({ active: 0, held: 0, limit: 10 })
      }
    }).pipe(Effect.provide(quiet)))
})
