import { Bulkhead, Registry } from "@effect-resilience/core"
import { enterAtOnce } from "@effect-resilience/core/extension"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Metric, Option, Runtime, TestClock } from "effect"
import { lentBulkhead } from "./utils/lender.js"
import { whole } from "./utils/sweepTests.js"

const settle = Effect.repeatN(Effect.yieldNow(), 5)
const reasonOf = (call: Effect.Effect<unknown, unknown>) =>
  Effect.map(Effect.flip(call), (error) => (error as { readonly reason: string }).reason)

describe("a bulkhead whose permits are lent", () => {
  it.scoped("hands out what it is lent, and nothing before", () =>
    Effect.gen(function*() {
      const { borrower, bulkhead, told } = yield* lentBulkhead(Bulkhead.make({ name: "b", maxConcurrent: 2 }))
      expect(yield* bulkhead.available).toBe(0)
      const calls = yield* Effect.fork(Effect.all([1, 2, 3].map(() => bulkhead.withPermit(Effect.never)), {
        concurrency: "unbounded"
      }))
      yield* settle
      expect(borrower.used()).toBe(0)
      expect(borrower.wanted()).toEqual({ all: 3, most: 1 })
      expect(told).toContain("queued")
      borrower.lend({ limit: 1, hoped: 1, shut: undefined })
      yield* settle
      expect([borrower.used(), borrower.waiting()]).toEqual([1, 2])
      borrower.lend({ limit: 2, hoped: 0, shut: undefined })
      yield* settle
      expect(yield* bulkhead.metrics).toMatchObject({ limit: 2, held: 2, active: 2, waiting: 1 })
      expect(told).toContain("used 2")
      yield* Fiber.interrupt(calls)
      expect([borrower.used(), borrower.waiting()]).toEqual([0, 0])
    }))

  it.scoped("RB20: the limit is that of all processes, and what this one holds stands beside it", () =>
    Effect.gen(function*() {
      const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "gauged-lent", maxConcurrent: 10 }))
      const gauges = Effect.map(Metric.snapshot, (pairs) =>
        new Map(
          pairs.filter(({ metricKey }) => metricKey.tags.some(({ value }) => value === "gauged-lent"))
            .map(({ metricKey, metricState }) => [metricKey.name, Reflect.get(metricState, "value")])
        ))
      const limits = [
        "resilience.bulkhead.shared.limit",
        "resilience.bulkhead.shared.held",
        "resilience.bulkhead.limit"
      ]
      const told = Effect.map(gauges, (gauges) => limits.map((name) => gauges.get(name)))
      expect(yield* bulkhead.metrics).toMatchObject({ limit: 10, held: 0, active: 0, available: 0, utilization: 0 })
      // Nobody has said yet what the limit of all is.
      expect(yield* told).toEqual([undefined, 0, undefined])
      borrower.allow(10)
      borrower.lend({ limit: 3, hoped: 0, shut: undefined })
      for (const _ of [1, 2, 3]) yield* Effect.fork(bulkhead.withPermit(Effect.never))
      yield* settle
      expect(yield* bulkhead.metrics).toMatchObject({ limit: 10, held: 3, active: 3, available: 0, utilization: 0.3 })
      expect(yield* told).toEqual([10, 3, undefined])
      borrower.allow(6)
      expect(yield* bulkhead.metrics).toMatchObject({ limit: 6, held: 3, active: 3, utilization: 0.5 })
      expect(yield* told).toEqual([6, 3, undefined])
      expect(yield* (yield* Bulkhead.make({ name: "own", maxConcurrent: 2 })).metrics).not.toHaveProperty("held")
    }))

  it.scoped("so many more may wait as the lender hopes for; when it gives up hope, the last are turned away", () =>
    Effect.gen(function*() {
      const options = { name: "b", maxConcurrent: 3, maxQueued: 1, maxWait: 0 }
      const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make(options))
      const calls = yield* Effect.forEach(
        [1, 2, 3, 4, 5],
        () => Effect.fork(Effect.either(bulkhead.withPermit(Effect.void)))
      )
      yield* settle
      // Three that the lender may still find, and one in the queue.
      expect(borrower.waiting()).toBe(4)
      expect(borrower.lend({ limit: 0, hoped: 0, shut: undefined })).toBe(3)
      yield* settle
      expect(borrower.waiting()).toBe(1)
      borrower.lend({ limit: 1, hoped: 0, shut: undefined })
      const results = yield* Effect.forEach(calls, Fiber.join)
      expect(results.map((result) => result._tag)).toEqual(["Right", "Left", "Left", "Left", "Left"])
      expect(results.flatMap((result) => result._tag === "Left" ? [result.left.reason] : [])).toEqual(
        ["QueueFull", "QueueFull", "QueueFull", "QueueFull"]
      )
    }))

  for (const options of [{ order: "lifo" }, { fair: true }] as const) {
    it.scoped(`in a queue of any kind (${Object.keys(options)})`, () =>
      Effect.gen(function*() {
        const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b", maxConcurrent: 8, ...options }))
        const calls = yield* Effect.forEach(["a", "a", "b", "c"], (key, i) =>
          Effect.fork(Effect.either(
            bulkhead.withPermitBy({ permits: i + 1, ..."fair" in options ? { key } : {} })(
              Effect.void
            )
          )))
        yield* settle
        expect(borrower.wanted()).toEqual({ all: 10, most: 4 })
        expect(borrower.lend({ limit: 0, hoped: 0, shut: "StoreUnavailable" })).toBe(10)
        for (const call of calls) {
          expect(yield* Fiber.join(call)).toMatchObject({ _tag: "Left", left: { reason: "StoreUnavailable" } })
        }
        expect(borrower.waiting()).toBe(0)
      }))
  }

  it.scoped("while it is shut nobody waits, and all are told why", () =>
    Effect.gen(function*() {
      const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b", maxConcurrent: 2 }))
      const waiting = yield* Effect.fork(reasonOf(bulkhead.withPermit(Effect.void)))
      yield* settle
      borrower.lend({ limit: 0, hoped: 0, shut: "StoreUnavailable" })
      expect(yield* Fiber.join(waiting)).toBe("StoreUnavailable")
      expect(yield* reasonOf(bulkhead.withPermit(Effect.void))).toBe("StoreUnavailable")
      expect(yield* bulkhead.wouldAdmit).toBe(false)
      borrower.lend({ limit: 1, hoped: 0, shut: undefined })
      yield* bulkhead.withPermit(Effect.void)
    }))

  it.scoped("what a call may ask for is what all have together", () =>
    Effect.gen(function*() {
      const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b", maxConcurrent: 4 }))
      borrower.lend({ limit: 1, hoped: 3, shut: undefined })
      const waiting = yield* Effect.fork(reasonOf(bulkhead.withPermitsBy(4)(Effect.void)))
      yield* settle
      expect(borrower.wanted()).toEqual({ all: 4, most: 4 })
      expect(yield* reasonOf(bulkhead.withPermitsBy(5)(Effect.void))).toBe("TooManyPermits")
      borrower.allow(3)
      expect(yield* Fiber.join(waiting)).toBe("TooManyPermits")
    }))

  it.scoped("while what is lent is no good nobody gets any, and all wait for what is lent next", () =>
    Effect.gen(function*() {
      let good = true
      const isGood = () => good
      const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b", maxConcurrent: 2, maxQueued: 1 }))
      borrower.lend({ limit: 2, hoped: 0, shut: undefined, isGood })
      const gate = yield* Deferred.make<void>()
      const call = () => Effect.fork(Effect.either(bulkhead.withPermit(Deferred.await(gate))))
      const calls = [yield* call(), yield* call(), yield* call()]
      yield* settle
      good = false
      // Handed on by nobody, taken by nobody: and two may wait for what they held, besides the one in line.
      yield* Deferred.succeed(gate, void 0)
      calls.push(yield* call(), yield* call())
      const scoped = yield* Effect.fork(reasonOf(Effect.scoped(bulkhead.acquire)))
      yield* settle
      expect([borrower.used(), borrower.waiting()]).toEqual([0, 3])
      expect(yield* Fiber.join(scoped)).toBe("QueueFull")
      good = true
      borrower.lend({ limit: 2, hoped: 0, shut: undefined, isGood })
      for (const one of calls) expect(yield* Fiber.join(one)).toMatchObject({ _tag: "Right" })
      expect(yield* bulkhead.metrics).toMatchObject({ succeeded: 5, failed: 0, rejected: 1, active: 0 })
    }))

  it.scoped("a call that was handed a permit, and learns of it when that is no good any more, waits on", () =>
    Effect.gen(function*() {
      let good = true
      const isGood = () => good
      const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b" }))
      for (const use of [bulkhead.withPermit(Effect.void), Effect.scoped(bulkhead.acquire)]) {
        const waiting = yield* Effect.fork(use)
        yield* settle
        borrower.lend({ limit: 1, hoped: 0, shut: undefined, isGood })
        expect(borrower.used()).toBe(1)
        good = false
        yield* settle
        expect([borrower.used(), borrower.waiting()]).toEqual([0, 1])
        good = true
        borrower.lend({ limit: 1, hoped: 0, shut: undefined, isGood })
        yield* Fiber.join(waiting)
        expect(borrower.used()).toBe(0)
        borrower.lend({ limit: 0, hoped: 1, shut: undefined })
      }
    }))

  it.scoped("RB16: a call that has not begun when its permit is good no more waits on, within its maxWait, and counts once", () =>
    Effect.gen(function*() {
      let good = true
      let ending = true
      const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b", maxWait: "1 second" }), () => {
        if (!ending) return undefined
        ending = good = false
        return "not begun"
      })
      const events = yield* bulkhead.subscribe
      const lend = (limit: number) => borrower.lend({ limit, hoped: 1, shut: undefined, isGood: () => good })
      /** It has waited for 600 ms when it gets a permit that is good no more, and waits on. */
      const unlucky = Effect.gen(function*() {
        lend(0)
        const call = yield* Effect.fork(Effect.either(bulkhead.withPermit(Effect.succeed("done"))))
        yield* TestClock.adjust("600 millis")
        good = ending = true
        lend(1)
        yield* settle
        expect([borrower.used(), borrower.waiting()]).toEqual([0, 1])
        expect([...yield* events.takeAll].map(({ _tag }) => _tag)).toEqual(["PermitAcquired", "PermitReleased"])
        return call
      })
      const late = yield* unlucky
      yield* TestClock.adjust("399 millis")
      expect(borrower.waiting()).toBe(1)
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(late)).toMatchObject({ _tag: "Left", left: { reason: "WaitExceeded" } })
      expect(yield* bulkhead.metrics).toMatchObject({ offered: 1, rejected: 1, admitted: 0, running: 0 })
      yield* events.takeAll

      const call = yield* unlucky
      yield* TestClock.adjust("100 millis")
      good = true
      lend(1)
      expect(yield* Fiber.join(call)).toMatchObject({ _tag: "Right", right: "done" })
      const metrics = yield* bulkhead.metrics
      expect(metrics).toMatchObject({ offered: 2, succeeded: 1, ignored: 0, running: 0, active: 0, waiting: 0 })
      expect(metrics.totalWait).toEqual(Duration.millis(700))
    }))

  whole(
    "interrupted at every operation while its permit is taken back and it waits for another, it keeps nothing",
    Effect.gen(function*() {
      let attempts = 0
      const { borrower, bulkhead } = yield* Effect.scoped(
        lentBulkhead(Bulkhead.make({ name: "b", maxWait: "1 minute" }), () => attempts++ % 2 ? undefined : "not begun")
      )
      borrower.lend({ limit: 1, hoped: 0, shut: undefined })
      return {
        with: bulkhead.withPermit,
        whole: Effect.map(
          bulkhead.metrics,
          ({ active, running, waiting }) => borrower.used() + active + running + waiting === 0
        )
      }
    }),
    { budgets: [12, 17] }
  )

  const lines = [[{ order: "fifo" }, "abc"], [{ order: "lifo" }, "cab"], [{ fair: true }, "abc"]] as const
  for (const [options, expected] of lines) {
    for (const learns of ["as it is handed it", "as it begins"]) {
      it.scoped(`RB16: whose permit is good no more ${learns} keeps its place (${Object.keys(options)}, ${expected})`, () =>
        Effect.gen(function*() {
          let good = true
          let ending = false
          const made = Bulkhead.make({ name: "b", maxQueued: 2, ...options })
          const { borrower, bulkhead } = yield* lentBulkhead(made, () => {
            if (!ending) return undefined
            good = ending = false
            return "not begun"
          })
          const lend = (limit: number) => borrower.lend({ limit, hoped: 0, shut: undefined, isGood: () => good })
          let ran = ""
          const call = (name: string) =>
            Effect.zipRight(
              Effect.fork(bulkhead.withPermit(Effect.sync(() => {
                ran += name
              }))),
              settle
            )
          lend(0)
          yield* call("a")
          yield* call("b")
          lend(2)
          if (learns === "as it begins") ending = true
          else good = false
          // It comes to the line that the others have left.
          yield* call("c")
          expect([borrower.used(), borrower.waiting(), ran]).toEqual([0, 3, ""])
          good = true
          lend(1)
          yield* settle
          expect(ran).toBe(expected)
        }))
    }
  }

  for (const options of [{ order: "fifo" }, { fair: true }] as const) {
    it.scoped(`RB16: whose permit is good no more comes before those who filled the line since (${Object.keys(options)})`, () =>
      Effect.gen(function*() {
        let good = true
        const made = Bulkhead.make({ name: "b", maxQueued: 2, ...options })
        const { borrower, bulkhead } = yield* lentBulkhead(made)
        const lend = (limit: number) => borrower.lend({ limit, hoped: 0, shut: undefined, isGood: () => good })
        const told: Array<string> = []
        const fork = Runtime.runFork(yield* Effect.runtime<never>())
        const call = (name: string) =>
          fork(Effect.matchEffect(bulkhead.withPermit(Effect.succeed("ran")), {
            onFailure: ({ reason }) => Effect.sync(() => told.push(`${name} ${reason}`)),
            onSuccess: (ran) => Effect.sync(() => told.push(`${name} ${ran}`))
          }))
        lend(0)
        call("a")
        call("b")
        // It is handed to the first, which has not heard of it.
        lend(1)
        good = false
        call("c")
        call("d")
        expect([borrower.used(), borrower.waiting()]).toEqual([1, 3])
        yield* settle
        expect([borrower.used(), borrower.waiting(), told]).toEqual([0, 3, ["d QueueFull"]])
        good = true
        lend(1)
        yield* Effect.repeatN(settle, 5)
        expect(told).toEqual(["d QueueFull", "a ran", "b ran", "c ran"])
      }))
  }

  it.scoped("a call whose permits are lost has failed, and gives them back", () =>
    Effect.gen(function*() {
      const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b" }), () => "LeaseLost")
      borrower.lend({ limit: 1, hoped: 0, shut: undefined })
      expect(yield* reasonOf(bulkhead.withPermit(Effect.void))).toBe("LeaseLost")
      expect(borrower.used()).toBe(0)
      // All other reasons are a rejection that ran nothing.
      expect(yield* bulkhead.metrics).toMatchObject({ failed: 1, rejected: 0 })
    }))

  it.scoped("a call waits for the lender even where it would not wait in line, and nobody is let in at once", () =>
    Effect.gen(function*() {
      const { bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b", maxWait: 0, maxQueued: 0 }))
      expect(enterAtOnce(bulkhead)).toBeUndefined()
      const call = yield* Effect.fork(reasonOf(bulkhead.withPermit(Effect.void)))
      yield* TestClock.adjust("249 millis")
      expect(Option.isNone(yield* Fiber.poll(call))).toBe(true)
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(call)).toBe("WaitExceeded")
    }))

  it.scoped("RB26: an operator's resize is the lender's affair, who says whom it has reached", () =>
    Effect.gen(function*() {
      const { bulkhead, told } = yield* lentBulkhead(Bulkhead.make({ name: "lent" }))
      yield* bulkhead.resize(7)
      const registry = yield* Registry
      const [entry] = (yield* registry.list).filter(({ instance }) => instance === "lent")
      expect(yield* entry!.actions["resize"]!(3, Duration.seconds(20))).toBe("fleet")
      // Where nobody else hears of it, that is what is said.
      expect(yield* entry!.actions["resize"]!(9)).toBe("process")
      expect(told).toEqual(["resize 7", "resize 3 for 20s", "resize 9"])
    }).pipe(Effect.provide(Registry.Live)))

  it.scoped("operators are told that its permits are shared, and of no other that they are", () =>
    Effect.gen(function*() {
      yield* lentBulkhead(Bulkhead.make({ name: "lent" }))
      yield* Bulkhead.make({ name: "own" })
      const { instances } = yield* Registry.snapshot
      expect(instances.map(({ instance, settings }) => [instance, settings])).toEqual([
        ["lent", { shared: true }],
        ["own", undefined]
      ])
    }).pipe(Effect.provide(Registry.Live)))
})
