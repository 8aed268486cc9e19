import { Backpressure, BackpressureError, Deadline, Registry } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Chunk,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Metric,
  MetricState,
  Option,
  Queue,
  Scope,
  Stream,
  TestClock
} from "effect"

const settle = Effect.repeatN(Effect.yieldNow(), 4)

/** An item that stays in process until it is told to end. */
const holding = (guard: Backpressure.Service["withBackpressure"]) =>
  Effect.gen(function*() {
    const gate = yield* Deferred.make<void>()
    const fiber = yield* Effect.fork(guard(Deferred.await(gate)))
    yield* settle
    return { fiber, end: Effect.zipRight(Deferred.succeed(gate, void 0), settle) }
  })

const fill = (pressure: Backpressure.Service, n: number) =>
  Effect.forEach(Array.from({ length: n }), () => holding(pressure.withBackpressure))

const reasonOf = <A>(fiber: Fiber.Fiber<A, BackpressureError>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), ({ reason }) => reason)

const tags = (queue: Queue.Dequeue<Backpressure.Event>) =>
  Effect.zipRight(settle, Effect.map(Queue.takeAll(queue), (events) => [...events].map(({ _tag }) => _tag)))

const marks = { maxPending: 6, highWaterMark: 4, lowWaterMark: 1 }

describe("the marks", () => {
  it.scoped("newcomers wait above the high mark, and come in at the low one", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...marks })
      const queue = yield* pressure.subscribe
      const items = yield* fill(pressure, 4)
      expect(yield* pressure.state).toBe("high")
      const late = yield* fill(pressure, 2)
      expect(yield* pressure.metrics).toMatchObject({ pending: 4, waiting: 2, state: "high", peak: 4 })
      yield* items[0]!.end
      yield* items[1]!.end
      expect(yield* pressure.metrics).toMatchObject({ pending: 2, waiting: 2, state: "high" })
      yield* items[2]!.end
      expect(yield* pressure.metrics).toMatchObject({ pending: 3, waiting: 0, state: "low" })
      yield* Effect.forEach([items[3]!, ...late], ({ end }) => end)
      expect(yield* pressure.metrics).toMatchObject({
        pending: 0,
        offered: 6,
        admitted: 6,
        succeeded: 6,
        running: 0,
        rejected: 0
      })
      expect(yield* tags(queue)).toEqual(["HighWaterReached", "LowWaterReached"])
    }))

  it.scoped("a mark that is not given lies where the defaults lie", () =>
    Effect.gen(function*() {
      const of = (options: Backpressure.Options) =>
        Effect.map(
          Effect.flatMap(Backpressure.make({ name: "b", ...options }), ({ metrics }) => metrics),
          ({ highWaterMark, limit, lowWaterMark }) => [limit, highWaterMark, lowWaterMark]
        )
      expect(yield* of({})).toEqual([1000, 800, 200])
      expect(yield* of({ maxPending: 10 })).toEqual([10, 8, 2])
      expect(yield* of({ maxPending: 1 })).toEqual([1, 1, 0])
      expect(yield* of({ highWaterMark: 40 })).toEqual([1000, 40, 10])
    }))

  it.scoped("equal marks hold one item back for each that leaves", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 4, highWaterMark: 2, lowWaterMark: 2 })
      const items = yield* fill(pressure, 4)
      expect(yield* pressure.metrics).toMatchObject({ pending: 2, waiting: 2 })
      yield* items[0]!.end
      expect(yield* pressure.metrics).toMatchObject({ pending: 2, waiting: 1, state: "high" })
    }))
})

describe("rejections", () => {
  it.scoped("Full: there is no place left to wait", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 2, highWaterMark: 1, lowWaterMark: 0 })
      const queue = yield* pressure.subscribe
      yield* fill(pressure, 2)
      const error = yield* Effect.flip(pressure.withBackpressure(Effect.void))
      expect(error).toBeInstanceOf(BackpressureError)
      expect(error).toMatchObject({
        pattern: "Backpressure",
        instance: "b",
        reason: "Full",
        pending: 1,
        waiting: 1,
        retryAfter: Option.none()
      })
      expect(error.message).toBe(`Backpressure "b" did not let the item in (Full): 1 pending, 1 waiting`)
      expect(yield* tags(queue)).toEqual(["HighWaterReached", "Rejected"])
    }))

  it.scoped("Full: nobody may wait, or as many wait as may", () =>
    Effect.gen(function*() {
      const none = yield* Backpressure.make({ name: "b", ...marks, maxWaiters: 0 })
      yield* fill(none, 4)
      expect((yield* Effect.flip(none.withBackpressure(Effect.void))).reason).toBe("Full")
      const one = yield* Backpressure.make({ name: "b", ...marks, maxWaiters: 1 })
      yield* fill(one, 5)
      expect((yield* Effect.flip(one.withBackpressure(Effect.void))).reason).toBe("Full")
    }))

  it.scoped("WaitExceeded: the low mark was not reached in time", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...marks })
      yield* fill(pressure, 4)
      const usual = yield* Effect.fork(pressure.withBackpressure(Effect.void))
      const own = yield* Effect.fork(pressure.withBackpressureBy({ maxWait: "1 second" })(Effect.void))
      yield* settle
      yield* TestClock.adjust("999 millis")
      expect(yield* pressure.metrics).toMatchObject({ waiting: 2, rejected: 0 })
      yield* TestClock.adjust("1 millis")
      expect(yield* reasonOf(own)).toBe("WaitExceeded")
      yield* TestClock.adjust("4 seconds")
      expect(yield* reasonOf(usual)).toBe("WaitExceeded")
      const impatient = pressure.withBackpressureBy({ maxWait: 0 })(Effect.void)
      expect((yield* Effect.flip(impatient)).reason).toBe("WaitExceeded")
      expect(yield* pressure.metrics).toMatchObject({ waiting: 0, pending: 4, rejected: 3 })
    }))

  it.scoped("DeadlineTooClose: the ambient deadline came first, or had passed", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...marks })
      const at = Effect.provideService(Deadline, { at: 2_000_000_000n, origin: "caller" as const })
      yield* fill(pressure, 4)
      const waiting = yield* Effect.fork(at(pressure.withBackpressure(Effect.void)))
      yield* settle
      yield* TestClock.adjust("2 seconds")
      expect(yield* reasonOf(waiting)).toBe("DeadlineTooClose")
      expect((yield* Effect.flip(at(pressure.withBackpressure(Effect.void)))).reason).toBe("DeadlineTooClose")
      expect((yield* pressure.metrics).waiting).toBe(0)
    }))

  it.scoped("a wait that is none is a bug of the caller", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b" })
      const exit = yield* Effect.exit(Effect.suspend(() => pressure.withBackpressureBy({ maxWait: NaN })(Effect.void)))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(`Backpressure "b": option maxWait must be`)
    }))
})

describe("options", () => {
  it.scoped("that contradict each other are refused", () =>
    Effect.gen(function*() {
      const make = (options: Backpressure.Options) =>
        Effect.map(
          Effect.exit(Backpressure.make({ name: "x", ...options })),
          (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "taken"
        )
      expect(yield* make({ maxPending: 10, highWaterMark: 11 })).toContain(
        `Backpressure "x": option highWaterMark must be at most maxPending (10), but is 11`
      )
      expect(yield* make({ highWaterMark: 5, lowWaterMark: 6 })).toContain(
        `Backpressure "x": option lowWaterMark must be at most highWaterMark (5), but is 6`
      )
      expect(yield* make({ maxPending: 5, highWaterMark: 5, lowWaterMark: 5 })).toBe("taken")
    }))
})

describe("items whose processing ends elsewhere", () => {
  it.scoped("are in process until their scope closes, and settled by its exit", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...marks })
      const scopes = yield* Effect.forEach([1, 2, 3], () => Scope.make())
      yield* Effect.forEach(scopes, (scope) => Scope.extend(pressure.acquire, scope))
      expect((yield* pressure.metrics).pending).toBe(3)
      const exits = [Exit.void, Exit.fail("no"), Exit.interrupt(yield* Effect.fiberId)]
      yield* Effect.forEach(scopes, (scope, i) => Scope.close(scope, exits[i]!))
      expect(yield* pressure.metrics).toMatchObject({ pending: 0, succeeded: 1, failed: 1, ignored: 1, running: 0 })
    }))
})

describe("the gate", () => {
  it.scoped("holds a stream up at the high mark, with those who process behind it", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 10, maxWait: Infinity })
      let taken = 0
      let done = 0
      let most = 0
      const handle = Effect.zipRight(Effect.sleep("1 second"), Effect.sync(() => done++))
      const fiber = yield* Stream.range(1, 100).pipe(
        pressure.gate,
        Stream.tap(() => Effect.sync(() => most = Math.max(most, ++taken - done))),
        Stream.mapEffect(() => handle.pipe(pressure.withBackpressure), { concurrency: 50 }),
        Stream.runDrain,
        Effect.fork
      )
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
      expect(done).toBe(100)
      expect(most).toBe(8)
      expect(yield* pressure.metrics).toMatchObject({ peak: 8, admitted: 100, rejected: 0 })
    }))

  it.scoped("an item may wait without an end", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...marks, maxWait: Infinity })
      const items = yield* fill(pressure, 4)
      const late = yield* Effect.fork(pressure.withBackpressure(Effect.succeed("in")))
      yield* TestClock.adjust("400 days")
      expect(yield* pressure.metrics).toMatchObject({ waiting: 1, rejected: 0 })
      yield* Effect.forEach(items, ({ end }) => end)
      expect(yield* Fiber.join(late)).toBe("in")
    }))

  it.scoped("a stream passes elements on only while the state is low", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 10, highWaterMark: 3, lowWaterMark: 1 })
      const queue = yield* Queue.unbounded<number>()
      const scopes: Array<Scope.CloseableScope> = []
      const produced = yield* Stream.range(1, 7).pipe(
        pressure.gate,
        // Accepted here, processed elsewhere.
        Stream.mapEffect((n) =>
          Effect.gen(function*() {
            const scope = yield* Scope.make()
            scopes.push(scope)
            yield* Scope.extend(pressure.acquire, scope)
            yield* Queue.offer(queue, n)
          })
        ),
        Stream.runDrain,
        Effect.fork
      )
      const end = (n: number) =>
        Effect.zipRight(
          Effect.forEach(scopes.splice(0, n), (scope) => Scope.close(scope, Exit.void)),
          Effect.repeatN(Effect.yieldNow(), 50)
        )
      yield* end(0)
      expect(yield* Queue.size(queue)).toBe(3)
      yield* end(1)
      expect(yield* Queue.size(queue)).toBe(3)
      yield* end(1)
      expect(yield* Queue.size(queue)).toBe(5)
      yield* end(3)
      yield* end(2)
      yield* Fiber.join(produced)
      expect(Chunk.toReadonlyArray(yield* Queue.takeAll(queue))).toEqual([1, 2, 3, 4, 5, 6, 7])
      expect(yield* pressure.metrics).toMatchObject({ peak: 3, rejected: 0 })
    }))

  it.scoped("a producer waits before it offers, takes no place, and passes nobody", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 10, highWaterMark: 2, lowWaterMark: 1 })
      yield* pressure.ready
      const items = yield* fill(pressure, 2)
      const caller = yield* holding(pressure.withBackpressure)
      const producer = yield* Effect.fork(pressure.ready)
      const gone = yield* Effect.fork(pressure.ready)
      yield* settle
      yield* Fiber.interrupt(gone)
      expect((yield* pressure.metrics).waiting).toBe(1)
      // The caller was in line, and with it the state is high again.
      yield* items[0]!.end
      expect(Option.isNone(yield* Fiber.poll(producer))).toBe(true)
      yield* items[1]!.end
      yield* Fiber.join(producer)
      yield* caller.end
      expect(yield* pressure.metrics).toMatchObject({ pending: 0, admitted: 3 })
    }))

  const wide = { maxPending: 1000, highWaterMark: 10, lowWaterMark: 0 }
  /** Producers behind the gate, each of which does `then` when it goes on. */
  const behind = (pressure: Backpressure.Service, n: number, then: Effect.Effect<unknown, unknown, Scope.Scope>) =>
    Effect.zipLeft(
      Effect.forEach(
        Array.from({ length: n }),
        () => Effect.forkScoped(Effect.zipRight(pressure.ready, then))
      ),
      settle
    )

  it.scoped("an opening lets as many producers go on as there is room for", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...wide })
      const items = yield* fill(pressure, 10)
      let gone = 0
      yield* behind(pressure, 1000, Effect.zipRight(Effect.sync(() => gone++), pressure.acquire))
      expect(yield* pressure.metrics).toMatchObject({ pending: 10, waiting: 0, producers: 1000 })
      yield* Effect.forEach(items, ({ end }) => end)
      expect(gone).toBe(10)
      expect(yield* pressure.metrics).toMatchObject({
        pending: 10,
        waiting: 0,
        producers: 990,
        state: "high",
        peak: 10
      })
    }))

  it.scoped("those that send nothing hold the others up for 100 ms, and an item that ends lets the next go on", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...wide })
      const items = yield* fill(pressure, 10)
      let gone = 0
      yield* behind(pressure, 35, Effect.sync(() => gone++))
      yield* Effect.forEach(items, ({ end }) => end)
      expect(gone).toBe(10)
      yield* pressure.withBackpressure(Effect.void)
      yield* settle
      expect(gone).toBe(11)
      yield* TestClock.adjust("99 millis")
      expect(gone).toBe(11)
      yield* TestClock.adjust("1 millis")
      expect(gone).toBe(21)
      yield* TestClock.adjust("100 millis")
      expect(gone).toBe(31)
      yield* TestClock.adjust("100 millis")
      expect(gone).toBe(35)
      expect((yield* pressure.metrics).producers).toBe(0)
    }))

  it.scoped("a producer gets its turn where callers fill the room each time", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...wide, maxWait: Infinity })
      const call = pressure.withBackpressure(Effect.sleep("10 millis"))
      yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.forkScoped(Effect.forever(call)))
      yield* settle
      const producer = yield* Effect.fork(pressure.ready)
      yield* TestClock.adjust("50 millis")
      expect(Option.isSome(yield* Fiber.poll(producer))).toBe(true)
      expect((yield* pressure.metrics).peak).toBe(10)
    }))

  it.scoped("producers that wait are bounded", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...marks, maxWaiters: 2 })
      yield* fill(pressure, 4)
      yield* behind(pressure, 2, Effect.void)
      expect(yield* Effect.flip(pressure.ready)).toMatchObject({ reason: "Full", pending: 4, waiting: 0 })
      expect(yield* Effect.flip(Stream.runDrain(pressure.gate(Stream.make(1))))).toMatchObject({ reason: "Full" })
      expect(yield* pressure.metrics).toMatchObject({ producers: 2, rejected: 2, waiting: 0 })
    }))

  class Orders extends Backpressure.Tag<Orders>()("orders", { maxPending: 4 }) {}

  it.effect("is there on the tag, with its types", () =>
    Effect.gen(function*() {
      const stream: Stream.Stream<number, BackpressureError, Orders> = Stream.make(1, 2).pipe(Orders.gate)
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(stream))).toEqual([1, 2])
      yield* Orders.ready
      expect(yield* Effect.succeed(3).pipe(Orders.withBackpressure)).toBe(3)
      expect(yield* Orders.state).toBe("low")
    }).pipe(Effect.provide(Orders.Live)))

  it.effect("is open where there is no backpressure", () =>
    Effect.gen(function*() {
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(Stream.make(1, 2).pipe(Orders.gate)))).toEqual([1, 2])
      yield* Orders.ready
      yield* Effect.scoped(Orders.acquire)
      expect(yield* Effect.succeed(3).pipe(Orders.withBackpressureBy({ maxWait: 0 }))).toBe(3)
      expect(yield* Orders.metrics).toMatchObject({ state: yield* Orders.state, pending: 0 })
    }).pipe(Effect.provide(Orders.layerNoop)))
})

describe("observing", () => {
  it.effect("is in the Registry, and in the metrics", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "seen", maxPending: 2, highWaterMark: 1, lowWaterMark: 0 })
      const value = (name: string) =>
        Effect.map(Metric.snapshot, (pairs) => {
          const found = pairs.find(({ metricKey }) =>
            metricKey.name === name && [...metricKey.tags].some((tag) => tag.value === "seen")
          )
          return found !== undefined && MetricState.isGaugeState(found.metricState)
            ? found.metricState.value
            : undefined
        })
      const items = yield* fill(pressure, 2)
      expect(yield* value("resilience.backpressure.active")).toBe(1)
      expect(yield* value("resilience.backpressure.pending")).toBe(1)
      expect(yield* value("resilience.backpressure.waiting")).toBe(1)
      const { instances } = yield* Registry.snapshot
      expect(instances).toMatchObject([{ pattern: "Backpressure", instance: "seen", metrics: { state: "high" } }])
      yield* Effect.forEach(items, ({ end }) => end)
      expect(yield* value("resilience.backpressure.active")).toBe(0)
      expect(yield* value("resilience.backpressure.pending")).toBe(0)
    }).pipe(Effect.scoped, Effect.provide(Registry.Live)))

  it.scoped("an error that waits is told, a defect is a failure, an interruption is ignored", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", ...marks })
      yield* Effect.exit(pressure.withBackpressure(Effect.fail("no")))
      yield* Effect.exit(pressure.withBackpressure(Effect.die("no")))
      yield* Effect.exit(pressure.withBackpressure(Effect.interrupt))
      expect(yield* pressure.metrics).toMatchObject({ failed: 2, ignored: 1, admitted: 3, pending: 0 })
    }))
})

describe("faults of others", () => {
  it.scoped("W-P1: newcomers below the high mark do not pass those who wait", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 100, highWaterMark: 10, lowWaterMark: 2 })
      const items = yield* fill(pressure, 10)
      const first = yield* holding(pressure.withBackpressure)
      yield* Effect.forEach(items.slice(0, 5), ({ end }) => end)
      // Five in process, the high mark is ten: a newcomer waits all the same, and behind the first.
      const second = yield* holding(pressure.withBackpressure)
      expect(yield* pressure.metrics).toMatchObject({ pending: 5, waiting: 2 })
      yield* Effect.forEach(items.slice(5, 8), ({ end }) => end)
      expect(yield* pressure.metrics).toMatchObject({ pending: 4, waiting: 0 })
      yield* first.end
      yield* second.end
    }))

  it.scoped("W-P2: at the low mark as many come in as there is room for below the high one", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 1000, highWaterMark: 10, lowWaterMark: 2 })
      const items = yield* fill(pressure, 510)
      expect(yield* pressure.metrics).toMatchObject({ pending: 10, waiting: 500 })
      yield* Effect.forEach(items.slice(0, 8), ({ end }) => end)
      expect(yield* pressure.metrics).toMatchObject({ pending: 10, waiting: 492, peak: 10, state: "high" })
    }))

  it.scoped("W-P3: those who wait are bounded, and counted in the hard limit", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 3, highWaterMark: 1, lowWaterMark: 0 })
      yield* fill(pressure, 1)
      const fibers = yield* Effect.forEach(
        Array.from({ length: 5000 }),
        () => Effect.fork(Effect.exit(pressure.withBackpressure(Effect.void)))
      )
      yield* settle
      expect(yield* pressure.metrics).toMatchObject({ pending: 1, waiting: 2, rejected: 4998 })
      yield* Fiber.interruptAll(fibers)
      expect(yield* pressure.metrics).toMatchObject({ pending: 1, waiting: 0, canceled: 2 })
    }))

  it.scoped("W-P4: marks that never could be reached are refused", () =>
    Effect.gen(function*() {
      for (
        const options of [{ lowWaterMark: -1 }, { highWaterMark: 0 }, { maxPending: 0 }, {
          highWaterMark: 2,
          lowWaterMark: 3
        }]
      ) {
        const exit = yield* Effect.exit(Backpressure.make({ name: "b", ...options }))
        expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
      }
    }))

  it.scoped("W-P5: a listener that dies or hangs keeps no place", () =>
    Effect.gen(function*() {
      const pressure = yield* Backpressure.make({ name: "b", maxPending: 2, highWaterMark: 1, lowWaterMark: 0 })
      yield* pressure.on("HighWaterReached", () => Effect.never)
      yield* pressure.on("*", () => Effect.die("no"))
      for (let n = 0; n < 3; n++) {
        const item = yield* holding(pressure.withBackpressure)
        yield* Fiber.interrupt(item.fiber)
      }
      expect(yield* pressure.metrics).toMatchObject({ pending: 0, state: "low", ignored: 3 })
    }))

  it.effect("W-P6: the longest wait is an option, and state and rejections are told", () =>
    Effect.gen(function*() {
      const queue = yield* Backpressure.subscribe
      yield* Backpressure.acquire
      const waiting = yield* Effect.fork(Backpressure.withBackpressure(Effect.void))
      yield* settle
      yield* TestClock.adjust("50 millis")
      expect(yield* reasonOf(waiting)).toBe("WaitExceeded")
      expect(yield* tags(queue)).toEqual(["HighWaterReached", "Rejected"])
    }).pipe(
      Effect.scoped,
      Effect.provide(Backpressure.layer({ maxWait: "50 millis", highWaterMark: 1, lowWaterMark: 0 })),
      Effect.provide(Layer.empty)
    ))
})
