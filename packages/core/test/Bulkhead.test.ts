import { Bulkhead, BulkheadFullError, Deadline, Priority, Registry } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  FiberId,
  Layer,
  Metric,
  MetricState,
  Option,
  Queue,
  Scope,
  TestClock
} from "effect"
import { makeManualClock } from "./utils/clock.js"

const settle = Effect.zipRight(Effect.yieldNow(), Effect.yieldNow())

/** A call that holds its permit until it is told to end. */
const holding = (bulkhead: Bulkhead.Service, permits = 1) =>
  Effect.gen(function*() {
    const gate = yield* Deferred.make<void>()
    const fiber = yield* Effect.fork(bulkhead.withPermitsBy(permits)(Deferred.await(gate)))
    yield* settle
    return { end: Effect.zipRight(Deferred.succeed(gate, void 0), Fiber.await(fiber)), fiber }
  })

/** A call that notes its name when it runs. */
const noting = (bulkhead: Bulkhead.Service, log: Array<string>, name: string, permits = 1) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(bulkhead.withPermitsBy(permits)(Effect.sync(() => log.push(name))))
    yield* settle
    return fiber
  })

const reasonOf = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), (error) => {
    expect(error).toBeInstanceOf(BulkheadFullError)
    return (error as unknown as BulkheadFullError).reason
  })

describe("admission", () => {
  it.scoped("lets so many in, has so many wait, and turns the rest away", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 2, maxQueued: 1 })
      const first = yield* holding(bulkhead)
      const second = yield* holding(bulkhead)
      const third = yield* holding(bulkhead)
      const error = yield* Effect.flip(bulkhead.withPermit(Effect.void))
      expect(error).toMatchObject({ pattern: "Bulkhead", instance: "b", reason: "QueueFull", active: 2, waiting: 1 })
      expect(yield* bulkhead.metrics).toMatchObject({ active: 2, waiting: 1, available: 0, peak: 2, utilization: 1 })
      yield* first.end
      expect(yield* bulkhead.metrics).toMatchObject({ active: 2, waiting: 0 })
      yield* second.end
      yield* third.end
      expect(yield* bulkhead.metrics).toMatchObject({
        active: 0,
        offered: 4,
        admitted: 3,
        succeeded: 3,
        rejected: 1,
        running: 0
      })
    }))

  it.scoped("turns a waiting call away when its turn does not come in time", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "2 seconds" })
      yield* holding(bulkhead)
      const waiting = yield* Effect.fork(bulkhead.withPermit(Effect.void))
      yield* TestClock.adjust("1999 millis")
      expect(Option.isNone(yield* Fiber.poll(waiting))).toBe(true)
      yield* TestClock.adjust("1 millis")
      expect(yield* reasonOf(waiting)).toBe("WaitExceeded")
      expect((yield* bulkhead.metrics).waiting).toBe(0)
    }))

  it.scoped("waits no longer than the ambient deadline, and starts nothing after it", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "1 minute" })
      const holder = yield* holding(bulkhead)
      const instant = yield* Deadline.after("1 second")
      const bare = Effect.provideService(bulkhead.withPermit(Effect.void), Deadline, instant)
      const waiting = yield* Effect.fork(bare)
      yield* TestClock.adjust("1 second")
      expect(yield* reasonOf(waiting)).toBe("DeadlineTooClose")
      yield* holder.end
      expect((yield* Effect.flip(bare)).reason).toBe("DeadlineTooClose")
      expect((yield* bulkhead.metrics).available).toBe(1)
    }))

  it.scoped("a wait of nothing rejects at once", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: 0 })
      yield* holding(bulkhead)
      expect((yield* Effect.flip(bulkhead.withPermit(Effect.void))).reason).toBe("WaitExceeded")
    }))

  it.scoped("asking whether a call would be let in reserves nothing", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 0 })
      yield* Effect.repeatN(bulkhead.wouldAdmit, 10)
      expect(yield* bulkhead.available).toBe(1)
      const holder = yield* holding(bulkhead)
      expect(yield* bulkhead.wouldAdmit).toBe(false)
      yield* holder.end
      expect(yield* bulkhead.wouldAdmit).toBe(true)
    }))

  it.scoped("holds a permit for the length of a scope", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
      yield* Effect.scoped(Effect.zipRight(bulkhead.acquire, Effect.tap(bulkhead.available, (n) => expect(n).toBe(0))))
      yield* Effect.exit(Effect.scoped(Effect.zipRight(bulkhead.acquire, Effect.fail("no"))))
      expect(yield* bulkhead.metrics).toMatchObject({ active: 0, succeeded: 1, failed: 1 })
    }))

  it.scoped("gives the permit back however the call ends", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
      yield* Effect.exit(bulkhead.withPermit(Effect.fail("no")))
      yield* Effect.exit(bulkhead.withPermit(Effect.die("bug")))
      const interrupted = yield* holding(bulkhead)
      yield* Fiber.interrupt(interrupted.fiber)
      expect(yield* bulkhead.metrics).toMatchObject({ active: 0, failed: 2, ignored: 1, running: 0 })
    }))
})

describe("several permits", () => {
  it.scoped("are taken together, and nobody passes a call that waits for many", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 4 })
      const log: Array<string> = []
      const holder = yield* holding(bulkhead, 2)
      const big = yield* noting(bulkhead, log, "big", 4)
      const small = yield* Effect.forEach(["a", "b", "c"], (name) => noting(bulkhead, log, name))
      expect(log).toEqual([])
      yield* holder.end
      yield* Fiber.join(big)
      yield* Fiber.joinAll(small)
      expect(log).toEqual(["big", "a", "b", "c"])
      expect(yield* bulkhead.available).toBe(4)
    }))

  it.scoped("more than there are is refused at once", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 2 })
      expect((yield* Effect.flip(bulkhead.withPermitsBy(3)(Effect.void))).reason).toBe("TooManyPermits")
    }))

  it.scoped("nonsense is a defect that says so", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      for (const permits of [0, -1, 1.5, NaN]) {
        expect(() => bulkhead.withPermitsBy(permits)).toThrow(/Bulkhead "b": option permits must be an integer/)
      }
      const exit = yield* Effect.exit(bulkhead.resize(0))
      expect(Exit.isFailure(exit) && String(exit.cause)).toContain("maxConcurrent")
    }))
})

describe("order", () => {
  const served = (order: "fifo" | "lifo" | "adaptive", stand: Duration.DurationInput) =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "1 minute", order })
      const log: Array<string> = []
      const holder = yield* holding(bulkhead)
      const waiting = yield* Effect.forEach(["a", "b", "c"], (name) => noting(bulkhead, log, name))
      yield* TestClock.adjust(stand)
      yield* holder.end
      yield* Fiber.joinAll(waiting)
      return log
    })

  it.scoped("serves the oldest first", () =>
    Effect.map(served("fifo", "10 seconds"), (log) => expect(log).toEqual(["a", "b", "c"])))
  it.scoped("serves the newest first", () =>
    Effect.map(served("lifo", 0), (log) => expect(log).toEqual(["c", "b", "a"])))
  it.scoped("adaptive: the oldest first while the queue drains", () =>
    Effect.map(served("adaptive", "99 millis"), (log) => expect(log).toEqual(["a", "b", "c"])))
  it.scoped("adaptive: the newest first once the queue stands", () =>
    Effect.map(served("adaptive", "100 millis"), (log) => expect(log).toEqual(["c", "b", "a"])))

  it.scoped("a more important call pushes the newest of the least important out of a full queue", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 2, maxWait: "1 minute" })
      const log: Array<string> = []
      const holder = yield* holding(bulkhead)
      const call = (name: string, level: Priority.Level) =>
        Effect.tap(
          Effect.fork(bulkhead.withPermit(Effect.sync(() => log.push(name))).pipe(Priority.within(level))),
          () => settle
        )
      const normal = yield* call("normal", "normal")
      const low = yield* call("low", "low")
      const equal = yield* call("another low", "low")
      expect(yield* reasonOf(equal)).toBe("QueueFull")
      const critical = yield* call("critical", "critical")
      expect(yield* reasonOf(low)).toBe("QueueFull")
      yield* holder.end
      yield* Fiber.joinAll([normal, critical])
      expect(log).toEqual(["critical", "normal"])
    }))

  it.scoped("the most important is next, and a newcomer passes only those that matter less", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 3, maxWait: "1 minute" })
      const log: Array<string> = []
      const call = (name: string, level: Priority.Level, permits = 1) =>
        Effect.tap(
          Effect.fork(
            bulkhead.withPermitsBy(permits)(Effect.sync(() => log.push(name))).pipe(Priority.within(level))
          ),
          () => settle
        )
      const holder = yield* holding(bulkhead)
      // One is held, two are free, and it takes three to go on.
      const waiting = [
        yield* call("low", "low"),
        yield* call("big", "normal", 3),
        yield* call("normal", "normal"),
        yield* call("another low", "low"),
        yield* call("high", "high")
      ]
      expect(log).toEqual(["low", "high"])
      expect(yield* bulkhead.wouldAdmit.pipe(Priority.within("critical"))).toBe(true)
      yield* holder.end
      yield* Fiber.joinAll(waiting)
      expect(log).toEqual(["low", "high", "big", "normal", "another low"])
    }))

  it.scoped("a call that matters little waits for maxWait at most, however many pass", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "1 second" })
      const stream = Effect.sleep("100 millis").pipe(bulkhead.withPermit, Priority.within("high"), Effect.forever)
      yield* Effect.forkScoped(stream)
      yield* Effect.forkScoped(stream)
      yield* settle
      const low = yield* Effect.fork(bulkhead.withPermit(Effect.void).pipe(Priority.within("low")))
      yield* TestClock.adjust("1 second")
      expect(yield* reasonOf(low)).toBe("WaitExceeded")
    }))
})

describe("resize", () => {
  it.scoped("growing lets waiting calls in", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
      const holders = yield* Effect.forEach([1, 2, 3], () => holding(bulkhead))
      yield* bulkhead.resize(3)
      yield* settle
      expect(yield* bulkhead.metrics).toMatchObject({ active: 3, waiting: 0, limit: 3 })
      for (const holder of holders) yield* holder.end
    }))

  it.scoped("shrinking waits for nobody", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 3 })
      const holders = yield* Effect.forEach([1, 2, 3], () => holding(bulkhead))
      yield* bulkhead.resize(1)
      expect(yield* bulkhead.metrics).toMatchObject({ active: 3, limit: 1, available: 0 })
      const waiting = yield* Effect.fork(bulkhead.withPermit(Effect.void))
      yield* holders[0]!.end
      yield* holders[1]!.end
      expect((yield* bulkhead.metrics).waiting).toBe(1)
      yield* holders[2]!.end
      yield* Fiber.join(waiting)
    }))

  it.scoped("a waiting call that can never be served any more is told so", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 3 })
      yield* holding(bulkhead)
      const waiting = yield* Effect.fork(bulkhead.withPermitsBy(3)(Effect.void))
      yield* settle
      yield* bulkhead.resize(2)
      expect(yield* reasonOf(waiting)).toBe("TooManyPermits")
    }))
})

describe("what a busy bulkhead does", () => {
  it.scoped("a permit that is handed over after the deadline starts nothing, however late the timer rings", () =>
    Effect.gen(function*() {
      const { adjust, clock } = makeManualClock()
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "1 minute" })
      const gate = yield* Deferred.make<void>()
      const holder = yield* Effect.fork(Effect.withClock(bulkhead.withPermit(Deferred.await(gate)), clock))
      yield* settle
      let started = false
      const waiting = yield* Effect.sync(() => {
        started = true
      }).pipe(
        bulkhead.withPermit,
        Effect.provideService(Deadline, { at: 1_000_000_000n, origin: "own" as const }),
        Effect.withClock(clock),
        Effect.fork
      )
      yield* settle
      // The holder ends and the deadline passes in one step, the holder first.
      yield* Effect.flatMap(Deferred.succeed(gate, void 0), () => Effect.sync(() => adjust("2 seconds")))
      expect(yield* reasonOf(waiting)).toBe("DeadlineTooClose")
      yield* Fiber.join(holder)
      expect(started).toBe(false)
      expect(yield* bulkhead.metrics).toMatchObject({ active: 0, waiting: 0, admitted: 1, rejected: 1 })
    }))

  it.scoped("taking it again inside itself waits for itself, and is turned away in the end", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
      const call = yield* Effect.fork(bulkhead.withPermit(bulkhead.withPermit(Effect.void)))
      yield* TestClock.adjust("1 second")
      expect(yield* reasonOf(call)).toBe("WaitExceeded")
      expect(yield* bulkhead.available).toBe(1)
    }))

  it.scoped("those behind a call for many permits are served when it goes away", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 3, maxQueued: 2, maxWait: "1 minute" })
      const log: Array<string> = []
      yield* holding(bulkhead, 1)
      const big = yield* Effect.fork(bulkhead.withPermitsBy(3)(Effect.void))
      yield* settle
      const small = yield* noting(bulkhead, log, "small")
      expect(log).toEqual([])
      yield* Fiber.interrupt(big)
      yield* Fiber.join(small)
      expect(log).toEqual(["small"])
    }))

  it.scoped("adaptive: a queue with one place stands, although its place changes hands", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({
        name: "b",
        maxConcurrent: 1,
        maxQueued: 1,
        maxWait: "1 minute",
        order: "adaptive"
      })
      yield* holding(bulkhead)
      const call = Effect.tap(Effect.fork(bulkhead.withPermit(Effect.void)), () => settle)
      const first = yield* call
      yield* TestClock.adjust("100 millis")
      const second = yield* call
      expect(yield* reasonOf(first)).toBe("QueueFull")
      yield* call
      expect(yield* reasonOf(second)).toBe("QueueFull")
    }))

  it.scoped("the newest first: a newcomer that fits does not wait for one that needs many", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 3, maxWait: "1 minute", order: "lifo" })
      yield* holding(bulkhead, 1)
      const big = yield* Effect.fork(bulkhead.withPermitsBy(3)(Effect.void))
      yield* settle
      yield* bulkhead.withPermit(Effect.void)
      expect(Option.isNone(yield* Fiber.poll(big))).toBe(true)
    }))

  it.scoped("the hint knows who would push whom out of a full queue", () =>
    Effect.gen(function*() {
      for (const order of ["fifo", "lifo"] as const) {
        const bulkhead = yield* Bulkhead.make({
          name: order,
          maxConcurrent: 1,
          maxQueued: 1,
          maxWait: "1 minute",
          order
        })
        yield* holding(bulkhead)
        expect(yield* bulkhead.wouldAdmit).toBe(true)
        yield* Effect.fork(bulkhead.withPermit(Effect.void))
        yield* settle
        expect(yield* bulkhead.wouldAdmit).toBe(order === "lifo")
        expect(yield* bulkhead.wouldAdmit.pipe(Priority.within("high"))).toBe(true)
        expect(yield* bulkhead.wouldAdmit.pipe(Priority.within("low"))).toBe(false)
        expect((yield* bulkhead.metrics).waiting).toBe(1)
      }
    }))

  it.scoped("a waiter that is interrupted with a permit in its hand leaves the gauge where it belongs", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "gauged", maxConcurrent: 1 })
      const gauge = (name: string) =>
        Effect.map(
          Metric.snapshot,
          (pairs) =>
            pairs.flatMap(({ metricKey, metricState }) =>
              metricKey.name === `resilience.bulkhead.${name}` &&
                metricKey.tags.some(({ value }) => value === "gauged") &&
                MetricState.isGaugeState(metricState)
                ? [metricState.value]
                : []
            )
        )
      const gate = yield* Deferred.make<void>()
      let waiter: Fiber.RuntimeFiber<void, unknown> | undefined = undefined
      const holder = yield* Effect.fork(Effect.ensuring(
        bulkhead.withPermit(Deferred.await(gate)),
        Effect.sync(() => waiter?.unsafeInterruptAsFork(FiberId.none))
      ))
      yield* settle
      waiter = yield* Effect.fork(bulkhead.withPermit(Effect.void))
      yield* settle
      expect([yield* gauge("limit"), yield* gauge("in_use"), yield* gauge("queue.depth"), yield* gauge("queue.limit")])
        .toEqual([[1], [1], [1], [10]])
      yield* Deferred.succeed(gate, void 0)
      yield* Fiber.await(holder)
      expect(Exit.isInterrupted(yield* Fiber.await(waiter))).toBe(true)
      expect([yield* gauge("in_use"), yield* gauge("queue.depth")]).toEqual([[0], [0]])
      expect(yield* bulkhead.metrics).toMatchObject({ active: 0, canceled: 1, admitted: 1, offered: 1 })
    }))

  it.scoped("tells how long a call waited and held, and who was turned away", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 1 })
      const queue = yield* bulkhead.subscribe
      const holder = yield* holding(bulkhead)
      const waiting = yield* Effect.fork(bulkhead.withPermit(Effect.void))
      yield* settle
      yield* Effect.exit(bulkhead.withPermit(Effect.void))
      yield* TestClock.adjust("300 millis")
      yield* holder.end
      yield* Fiber.join(waiting)
      yield* bulkhead.resize(4)
      const events = yield* Queue.takeN(queue, 6)
      expect([...events]).toMatchObject([
        { _tag: "PermitAcquired", callId: 1, active: 1, waiting: 0, waited: Duration.zero },
        { _tag: "Rejected", callId: 2, reason: "QueueFull", active: 1, waiting: 1 },
        { _tag: "PermitReleased", callId: 1, active: 1, waiting: 0, held: Duration.millis(300) },
        { _tag: "PermitAcquired", callId: 3, active: 1, waiting: 0, waited: Duration.millis(300) },
        { _tag: "PermitReleased", callId: 3, active: 0, waiting: 0, held: Duration.zero },
        { _tag: "Resized", from: 1, to: 4 }
      ])
    }))

  it.effect("an operator resizes it, and is told what is wrong with nonsense", () =>
    Effect.gen(function*() {
      const registry = yield* Registry
      const bulkhead = yield* Bulkhead
      yield* registry.act("Bulkhead", "default", "resize", 2)
      expect((yield* bulkhead.metrics).limit).toBe(2)
      for (const input of [0, 1.5, "2", undefined]) {
        expect(String(yield* Effect.flip(registry.act("Bulkhead", "default", "resize", input)))).toMatch(/integer/)
      }
    }).pipe(Effect.provide(Layer.provideMerge(Bulkhead.Live, Registry.Live))))
})

describe("a fair bulkhead", () => {
  const make = (options: Bulkhead.Options) =>
    Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "1 minute", fair: true, ...options })
  const calling = (bulkhead: Bulkhead.Service, log: Array<string>, keys: ReadonlyArray<string>) =>
    Effect.forEach(keys, (key) =>
      Effect.tap(
        Effect.fork(bulkhead.withPermitBy({ key })(Effect.sync(() => log.push(key)))),
        () => settle
      ))

  it.scoped("a noisy key waits for itself, and makes room in a full queue", () =>
    Effect.gen(function*() {
      const bulkhead = yield* make({ maxQueued: 4 })
      const log: Array<string> = []
      const holder = yield* holding(bulkhead)
      const calls = yield* calling(bulkhead, log, ["noisy", "noisy", "noisy", "noisy", "quiet"])
      expect(yield* reasonOf(calls[3]!)).toBe("QueueFull")
      yield* holder.end
      yield* Fiber.awaitAll(calls)
      expect(log).toEqual(["noisy", "quiet", "noisy", "noisy"])
      expect(yield* bulkhead.metrics).toMatchObject({ active: 0, waiting: 0, admitted: 5, rejected: 1 })
    }))

  it.scoped("a permit of a scope is of its key's share", () =>
    Effect.gen(function*() {
      const bulkhead = yield* make({ maxConcurrent: 2 })
      const log: Array<string> = []
      const hold = (key: string) =>
        Effect.tap(
          Effect.fork(Effect.scoped(
            Effect.zipRight(bulkhead.acquireBy({ key, permits: 2 }), Effect.sync(() => log.push(key)))
          )),
          () => settle
        )
      const scope = yield* Scope.make()
      yield* Scope.extend(bulkhead.acquireBy({ key: "noisy", permits: 2 }), scope)
      expect(yield* bulkhead.available).toBe(0)
      const calls = yield* Effect.forEach(["noisy", "noisy", "quiet"], hold)
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.joinAll(calls)
      expect(log).toEqual(["noisy", "quiet", "noisy"])
      expect(yield* bulkhead.metrics).toMatchObject({ active: 0, admitted: 4, succeeded: 4 })
      const plain = yield* Bulkhead.make({ name: "b" })
      const exit = yield* Effect.exit(plain.acquireBy({ key: "k" }))
      expect(Exit.isFailure(exit) && String(exit.cause)).toContain(`option key must be absent`)
    }))

  it.scoped("keys have weights, which are asked for once for each guard", () =>
    Effect.gen(function*() {
      const bulkhead = yield* make({ fair: { weight: (key) => key === "big" ? 3 : 1 } })
      const log: Array<string> = []
      const holder = yield* holding(bulkhead)
      const calls = yield* calling(bulkhead, log, ["small", "small", "big", "big", "big", "big", "small"])
      yield* holder.end
      yield* Fiber.awaitAll(calls)
      expect(log).toEqual(["small", "big", "big", "big", "small", "big", "small"])
    }))

  it.scoped("takes several permits of a key's share, and tells whose call it is", () =>
    Effect.gen(function*() {
      const bulkhead = yield* make({ maxConcurrent: 4 })
      const queue = yield* bulkhead.subscribe
      yield* bulkhead.withPermitBy({ key: "k", permits: 3 })(
        Effect.tap(bulkhead.available, (free) => expect(free).toBe(1))
      )
      expect((yield* Effect.flip(bulkhead.withPermitBy({ key: "k", permits: 5 })(Effect.void))).reason).toBe(
        "TooManyPermits"
      )
      yield* bulkhead.withPermitBy({})(Effect.void)
      const events = yield* Queue.takeN(queue, 5)
      expect([...events].map((event) => [event._tag, event.key])).toEqual([
        ["PermitAcquired", "k"],
        ["PermitReleased", "k"],
        ["Rejected", "k"],
        ["PermitAcquired", undefined],
        ["PermitReleased", undefined]
      ])
    }))

  it.scoped("nonsense is a bug that says so", () =>
    Effect.gen(function*() {
      const plain = yield* Bulkhead.make({ name: "b" })
      expect(() => plain.withPermitBy({ key: "k" })).toThrow(
        `Bulkhead "b": option key must be absent, because the option fair is not set, but is "k"`
      )
      expect(yield* plain.withPermitBy({ permits: 2 })(plain.available)).toBe(8)
      expect(() => plain.withPermitBy({ permits: 0 })).toThrow(/option permits must be an integer/)
      for (const weight of [0, -1, NaN, Infinity, 1000, "2"]) {
        const bulkhead = yield* make({ fair: { weight: () => weight as number } })
        expect(() => bulkhead.withPermitBy({ key: "k" })).toThrow(
          /Bulkhead "b": option fair.weight must be a number from 0.01 to 100 of each key, but is/
        )
      }
      const throwing = yield* make({
        fair: {
          weight: () => {
            throw new Error("no plan")
          }
        }
      })
      expect(() => throwing.withPermitBy({ key: "k" })).toThrow(
        `Bulkhead "b": the function given as fair.weight threw: Error: no plan`
      )
    }))

  it.scoped("is no option of a keyed one, whose keys have limits of their own", () =>
    Effect.gen(function*() {
      class Own extends Bulkhead.Keyed<Own>()("own", { fair: true } as Bulkhead.PoolOptions) {}
      const exit = yield* Effect.exit(Layer.build(Own.Live))
      expect(Exit.isFailure(exit) && String(exit.cause)).toContain(`has no option "fair"; there are: maxConcurrent`)
    }))
})

describe("a keyed bulkhead", () => {
  class Tenants extends Bulkhead.Keyed<Tenants>()("tenants", {
    maxConcurrent: 1,
    maxQueued: 0,
    maxKeys: 2,
    idleAfter: "1 minute"
  }) {}

  it.effect("has a pool per key, never forgets a busy one, and forgets an idle one", () =>
    Effect.gen(function*() {
      const at = (key: string) => Tenants.withPermitBy({ key })
      const busy = yield* Effect.fork(at("a")(Effect.never))
      yield* settle
      expect((yield* Effect.flip(at("a")(Effect.void))).reason).toBe("QueueFull")
      yield* at("b")(Effect.void)
      yield* at("c")(Effect.void)
      expect(yield* Tenants.metrics).toMatchObject({ keys: 2, evicted: 1, busy: [{ key: "a", active: 1 }] })
      const busyToo = yield* Effect.fork(at("c")(Effect.never))
      yield* settle
      expect((yield* Effect.flip(at("d")(Effect.void))).reason).toBe("TooManyKeys")
      yield* Fiber.interrupt(busyToo)
      yield* TestClock.adjust("2 minutes")
      expect((yield* Tenants.metrics).keys).toBe(1)
      yield* Fiber.interrupt(busy)
      yield* TestClock.adjust("2 minutes")
      expect((yield* Tenants.metrics).keys).toBe(0)
    }).pipe(Effect.provide(Tenants.Live)))

  it.effect("adds up the calls of all its keys, those of forgotten ones too", () =>
    Effect.gen(function*() {
      const at = (key: string) => Tenants.withPermitBy({ key })
      expect(yield* Tenants.metrics).toMatchObject({ offered: 0, admitted: 0, rejected: 0, running: 0 })
      yield* at("a")(Effect.void)
      yield* Effect.exit(at("b")(Effect.fail("no")))
      const busy = yield* Effect.fork(at("c")(Effect.never)) // a goes
      yield* settle
      yield* Effect.exit(at("c")(Effect.void)) // full
      const busyToo = yield* Effect.fork(at("b")(Effect.never))
      yield* settle
      yield* Effect.exit(at("d")(Effect.void)) // no room for the key
      const calls = { offered: 6, admitted: 4, rejected: 2, succeeded: 1, failed: 1, ignored: 0, running: 2 }
      expect(yield* Tenants.metrics).toMatchObject({ ...calls, keys: 2, evicted: 1 })
      yield* Fiber.interruptAll([busy, busyToo])
      yield* TestClock.adjust("2 minutes")
      expect(yield* Tenants.metrics).toMatchObject({ ...calls, keys: 0, ignored: 2, running: 0 })
    }).pipe(Effect.provide(Tenants.Live)))

  it.effect("adds up the calls that left the line before their turn", () =>
    Effect.gen(function*() {
      const at = Tenants.withPermitBy({ key: "a" })
      const busy = yield* Effect.fork(at(Effect.never))
      const waiting = yield* Effect.fork(at(Effect.void))
      yield* settle
      yield* Fiber.interrupt(waiting)
      expect(yield* Tenants.metrics).toMatchObject({ offered: 1, admitted: 1, rejected: 0, canceled: 1, running: 1 })
      yield* Fiber.interrupt(busy)
    }).pipe(Effect.provide(Tenants.layer({ maxQueued: 1 }))))

  it.scoped("tells of a call that found every key busy, or lets it through and says so", () =>
    Effect.gen(function*() {
      for (const onFull of ["reject", "admit"] as const) {
        const context = yield* Layer.build(Tenants.layer({ maxKeys: 1, onFull }))
        yield* Effect.gen(function*() {
          const queue = yield* Tenants.subscribe
          yield* Effect.fork(Tenants.withPermitBy({ key: "a" })(Effect.never))
          yield* settle
          const other = yield* Effect.either(Tenants.withPermitBy({ key: "b" })(Effect.succeed("in")))
          expect(yield* Queue.take(queue)).toMatchObject({ _tag: "PermitAcquired", key: "a", active: 1 })
          const told = yield* Queue.take(queue)
          if (onFull === "reject") {
            expect(other).toMatchObject({ _tag: "Left", left: { reason: "TooManyKeys" } })
            expect(told).toMatchObject({ _tag: "Rejected", key: "b", reason: "TooManyKeys" })
            expect(yield* Tenants.metrics).toMatchObject({ rejected: 1, unguarded: 0 })
          } else {
            expect(other).toMatchObject({ _tag: "Right", right: "in" })
            expect(told).toMatchObject({ _tag: "InternalError", source: "Keys" })
            expect((yield* Tenants.metrics).unguarded).toBe(1)
          }
        }).pipe(Effect.provide(context))
      }
    }))

  it.scoped("has options per key, and several permits of a key", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(
        Tenants.layer({ optionsFor: (key) => (key === "big" ? { maxConcurrent: 5 } : {}) })
      )
      yield* Effect.gen(function*() {
        yield* Tenants.withPermitBy({ key: "big", permits: 5 })(Effect.void)
        const error = yield* Effect.flip(Tenants.withPermitBy({ key: "small", permits: 5 })(Effect.void))
        expect(error.reason).toBe("TooManyPermits")
        expect(Option.map(yield* Tenants.metricsOf("big"), ({ limit }) => limit)).toEqual(Option.some(5))
        expect(Option.map(yield* Tenants.metricsOf("small"), ({ rejected }) => rejected)).toEqual(Option.some(1))
        expect(yield* Tenants.metricsOf("unknown")).toEqual(Option.none())
      }).pipe(Effect.provide(context))
    }))

  it.live(
    "one key never runs more than it may, although its pool is forgotten between look-up and entry",
    () =>
      Effect.gen(function*() {
        let most = 0
        // Somewhere in this range the first yield falls between the look-up and the taking of the permit.
        for (let budget = 10; budget < 120; budget++) {
          const context = yield* Layer.build(Tenants.layer({ maxKeys: 1 }))
          let running = 0
          const call = (key: string) =>
            Effect.exit(
              Tenants.withPermitBy({ key })(Effect.suspend(() => {
                if (key === "a") most = Math.max(most, ++running)
                return key === "a" ? Effect.never : Effect.void
              }))
            ).pipe(Effect.provide(context))
          yield* call("b")
          const slow = yield* Effect.fork(Effect.withMaxOpsBeforeYield(call("a"), budget))
          const others = yield* Effect.fork(
            Effect.withMaxOpsBeforeYield(Effect.zipRight(call("b"), call("a")), 100_000)
          )
          yield* Effect.repeatN(Effect.yieldNow(), 20)
          yield* Fiber.interruptAll([slow, others])
        }
        expect(most).toBe(1)
      }).pipe(Effect.scoped),
    30_000
  )
})

describe("faults of others", () => {
  it.scoped("W-B1: an outer timeout does not kill a slot", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 3 })
      for (let i = 0; i < 3; i++) {
        const call = yield* Effect.fork(Effect.timeout(bulkhead.withPermit(Effect.never), "1 second"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.await(call)
      }
      expect(yield* bulkhead.available).toBe(3)
    }))

  it.scoped("W-B2: a listener that dies or hangs keeps no slot", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
      yield* bulkhead.on("PermitAcquired", () => Effect.die("listener"))
      yield* bulkhead.on("PermitAcquired", () => Effect.never)
      yield* Effect.repeatN(bulkhead.withPermit(Effect.void), 9)
      expect(yield* bulkhead.metrics).toMatchObject({ active: 0, succeeded: 10 })
    }))

  it.scoped("W-B3: the scoped form rejects like the guard", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 0 })
      const queue = yield* bulkhead.subscribe
      yield* holding(bulkhead)
      const error = yield* Effect.flip(Effect.scoped(bulkhead.acquire))
      expect(error).toMatchObject({ instance: "b", reason: "QueueFull" })
      yield* Queue.take(queue)
      expect(yield* Queue.take(queue)).toMatchObject({ _tag: "Rejected", reason: "QueueFull" })
    }))

  it.scoped("W-B4: every call is counted once", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 1, maxWait: "1 second" })
      const holder = yield* holding(bulkhead)
      const waiting = yield* Effect.fork(Effect.exit(bulkhead.withPermit(Effect.void)))
      yield* settle
      yield* Effect.exit(Effect.scoped(bulkhead.acquire))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(waiting)
      yield* holder.end
      const m = yield* bulkhead.metrics
      expect(m).toMatchObject({ offered: 3, admitted: 1, rejected: 2, canceled: 0 })
      expect(m.admitted).toBe(m.succeeded + m.failed + m.ignored + m.running)
      expect(m.rejectionRate).toBeCloseTo(2 / 3)
    }))

  it.scoped("W-B5: a full queue and a wait that took too long are told apart", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 1, maxWait: "1 second" })
      yield* holding(bulkhead)
      const waiting = yield* Effect.fork(bulkhead.withPermit(Effect.void))
      yield* settle
      expect((yield* Effect.flip(bulkhead.withPermit(Effect.void))).reason).toBe("QueueFull")
      yield* TestClock.adjust("1 second")
      expect(yield* reasonOf(waiting)).toBe("WaitExceeded")
    }))

  it.scoped("W-B6: a failed call tells that its permit is back", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      const queue = yield* bulkhead.subscribe
      yield* Effect.exit(bulkhead.withPermit(Effect.fail("no")))
      const acquired = yield* Queue.take(queue)
      const released = yield* Queue.take(queue)
      expect([acquired._tag, released._tag]).toEqual(["PermitAcquired", "PermitReleased"])
      expect(acquired).toHaveProperty("callId", (released as { readonly callId?: number }).callId)
      expect((yield* bulkhead.metrics).failed).toBe(1)
    }))

  it.scoped("W-B7: utilization is a ratio and the average wait is over admitted calls", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 2, maxQueued: 1, maxWait: "1 minute" })
      const holders = yield* Effect.forEach([1, 2], () => holding(bulkhead))
      expect((yield* bulkhead.metrics).utilization).toBe(1)
      const waiting = yield* Effect.fork(bulkhead.withPermit(Effect.void))
      yield* settle
      yield* Effect.exit(bulkhead.withPermit(Effect.void))
      yield* TestClock.adjust("3 seconds")
      for (const holder of holders) yield* holder.end
      yield* Fiber.join(waiting)
      const { averageWait, totalWait } = yield* bulkhead.metrics
      expect([Duration.toSeconds(totalWait), Duration.toSeconds(averageWait)]).toEqual([3, 1])
    }))

  it("W-B8: one instance serves several runtimes", async () => {
    const bulkhead = await Effect.runPromise(Effect.scoped(Bulkhead.make({ name: "b", maxConcurrent: 1 })))
    const call = bulkhead.withPermit(Effect.promise(() => Promise.resolve(1)))
    expect(await Promise.all([Effect.runPromise(call), Effect.runPromise(call), Effect.runPromise(call)])).toEqual([
      1,
      1,
      1
    ])
  })

  it.scoped("CK2: a call in the queue is not pushed out by a newcomer", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 1 })
      const log: Array<string> = []
      const holder = yield* holding(bulkhead)
      const waiting = yield* noting(bulkhead, log, "waiting")
      yield* Effect.fork(holder.end)
      const newcomer = yield* noting(bulkhead, log, "newcomer")
      yield* Fiber.join(waiting)
      yield* Fiber.await(newcomer)
      expect(log[0]).toBe("waiting")
    }))

  it.scoped("CK7: an interrupted waiter leaves its place in the queue at once", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 1 })
      yield* holding(bulkhead)
      const waiting = yield* Effect.fork(bulkhead.withPermit(Effect.void))
      yield* settle
      yield* Fiber.interrupt(waiting)
      expect(yield* bulkhead.metrics).toMatchObject({ waiting: 0, canceled: 1, rejected: 0 })
    }))

  it.scoped("OP4: a call that times out keeps its permit until it has really ended", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 0 })
      const body = Effect.uninterruptible(Effect.sleep("3 seconds"))
      const call = yield* Effect.fork(Effect.timeout(bulkhead.withPermit(body), "1 second"))
      yield* TestClock.adjust("2 seconds")
      expect((yield* Effect.flip(bulkhead.withPermit(Effect.void))).reason).toBe("QueueFull")
      yield* TestClock.adjust("1 second")
      yield* Fiber.await(call)
      expect(yield* bulkhead.available).toBe(1)
    }))

  it.scoped("style 4.5: a fiber that takes again and again does not keep a waiter out", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
      let rounds = 0
      const hog = yield* Effect.fork(Effect.forever(
        Effect.zipRight(Effect.sync(() => rounds++), bulkhead.withPermit(Effect.yieldNow()))
      ))
      yield* settle
      const before = rounds
      yield* bulkhead.withPermit(Effect.void)
      expect(rounds - before).toBeLessThan(5)
      yield* Fiber.interrupt(hog)
    }))

  const bigAndSmall = (
    permits: (n: number) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, R>
  ) =>
    Effect.gen(function*() {
      const log: Array<string> = []
      const call = (name: string, n: number) =>
        Effect.fork(
          permits(n)(Effect.zipRight(
            Effect.sync(() => log.push(name)),
            Effect.repeatN(Effect.yieldNow(), 5)
          ))
        )
      const calls = [yield* call("first", 1), yield* call("first", 1)]
      yield* settle
      calls.push(yield* call("big", 4))
      for (let i = 0; i < 12; i++) {
        yield* settle
        calls.push(yield* call("small", 1))
      }
      yield* Fiber.awaitAll(calls)
      return log.indexOf("big")
    })

  it.scoped("semaphore W12: a call for many permits is not kept waiting by small ones that come later", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 4, maxQueued: 20 })
      expect(yield* bigAndSmall((n) => bulkhead.withPermitsBy(n))).toBe(2)
      // What this is about: Effect's own semaphore lets them pass.
      const semaphore = yield* Effect.makeSemaphore(4)
      expect(yield* bigAndSmall((n) => semaphore.withPermits(n))).toBeGreaterThan(4)
    }))
})
