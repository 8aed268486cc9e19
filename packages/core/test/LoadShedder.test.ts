import {
  Deadline,
  LoadShedder,
  LoadShedError,
  Priority,
  Registry,
  ResilienceError,
  SystemLoad
} from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Option, Queue, Scope, TestClock } from "effect"

const settle = Effect.repeatN(Effect.yieldNow(), 6)

/** A call that is in flight until it is told to end. */
const holding = (guard: LoadShedder.Service["withShedding"]) =>
  Effect.gen(function*() {
    const gate = yield* Deferred.make<void>()
    const fiber = yield* Effect.fork(guard(Deferred.await(gate)))
    yield* settle
    return { fiber, end: Effect.zipRight(Deferred.succeed(gate, void 0), settle) }
  })

const fill = (shedder: LoadShedder.Service, n: number) =>
  Effect.forEach(Array.from({ length: n }), () => holding(shedder.withShedding))

const reasonOf = <A, R>(effect: Effect.Effect<A, LoadShedError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)

const drain = (queue: Queue.Dequeue<LoadShedder.Event>) =>
  Effect.zipRight(settle, Effect.map(Queue.takeAll(queue), (events) => [...events]))

/** Samples that a test sets, taken at once. */
const sampled = (sample: SystemLoad.Sample, times = 1) =>
  Effect.zipRight(SystemLoad.set(sample), Effect.repeatN(TestClock.adjust("200 millis"), times - 1))

/** A shedder that reads a load which the test sets. */
const withLoad = <A, E>(
  options: LoadShedder.Options,
  test: (shedder: LoadShedder.Service) => Effect.Effect<A, E, TestServices>
) =>
  Effect.gen(function*() {
    const shedder = yield* LoadShedder.make({ name: "s", ...options })
    yield* settle
    return yield* test(shedder)
  }).pipe(Effect.scoped, Effect.provide(SystemLoad.layerTest()))
type TestServices = Effect.Effect.Context<ReturnType<typeof sampled>> | Scope.Scope

describe("in flight", () => {
  it.scoped("calls are let in up to the limit, then wait, then are shed", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 2, maxQueueDepth: 1 })
      const calls = yield* fill(shedder, 3)
      expect(yield* shedder.metrics).toMatchObject({ active: 2, waiting: 1, level: "critical", load: 1 })
      const error = yield* Effect.flip(shedder.withShedding(Effect.void))
      expect(error).toBeInstanceOf(LoadShedError)
      expect(ResilienceError.isRejection(error)).toBe(true)
      expect(error).toMatchObject({
        pattern: "LoadShedder",
        instance: "s",
        reason: "Queue",
        priority: "normal",
        active: 2,
        pressure: 1,
        retryAfter: Option.none()
      })
      expect(error.message).toBe(`LoadShedder "s" shed a normal call (Queue): 2 in flight, pressure 1.00`)
      yield* Effect.forEach(calls, ({ end }) => end)
      expect(yield* shedder.metrics).toMatchObject({
        active: 0,
        peak: 2,
        offered: 4,
        admitted: 3,
        succeeded: 3,
        rejected: 1,
        shed: { Queue: 1, InFlight: 0 },
        level: "normal"
      })
    }))

  it.scoped("InFlight: nobody may wait, the share of the class is used up, or the call is too dear", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 10, maxQueueDepth: 0 })
      yield* fill(shedder, 5)
      expect(yield* reasonOf(shedder.withSheddingBy({ priority: "sheddable" })(Effect.void))).toBe("InFlight")
      yield* shedder.withSheddingBy({ priority: "low" })(Effect.void)
      yield* fill(shedder, 3)
      expect(yield* reasonOf(shedder.withSheddingBy({ priority: "low" })(Effect.void))).toBe("InFlight")
      expect(yield* reasonOf(shedder.withSheddingBy({ cost: 3 })(Effect.void))).toBe("InFlight")
      yield* shedder.withSheddingBy({ cost: 2 })(Effect.void)
      yield* fill(shedder, 2)
      expect(yield* reasonOf(shedder.withShedding(Effect.void).pipe(Priority.within("critical")))).toBe("InFlight")
    }))

  it.scoped("a class has the share that it is given", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 10, shares: { low: 0.2, sheddable: 0 } })
      expect(yield* reasonOf(shedder.withSheddingBy({ priority: "sheddable" })(Effect.void))).toBe("InFlight")
      const low = shedder.withSheddingBy({ priority: "low" })
      yield* holding(low)
      yield* holding(low)
      expect(yield* reasonOf(low(Effect.void))).toBe("InFlight")
      expect(yield* shedder.withShedding(Effect.succeed(1))).toBe(1)
    }))

  it.scoped("a class that has a share is let in while nothing is in flight, however small the limit", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 1, shares: { sheddable: 0 } })
      const low = shedder.withSheddingBy({ priority: "low" })
      expect(yield* low(Effect.succeed("in"))).toBe("in")
      expect(yield* reasonOf(shedder.withSheddingBy({ priority: "sheddable" })(Effect.void))).toBe("InFlight")
      yield* fill(shedder, 1)
      expect(yield* reasonOf(low(Effect.void))).toBe("InFlight")
    }))

  it.scoped("Queue: the turn did not come in time, a tenth of that once the line stands", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 1 })
      yield* fill(shedder, 1)
      const first = yield* holding(shedder.withShedding)
      yield* TestClock.adjust("99 millis")
      const second = yield* holding(shedder.withShedding)
      yield* TestClock.adjust("1 millis")
      expect(yield* reasonOf(Fiber.join(first.fiber))).toBe("Queue")
      // The second keeps the line standing: whoever comes now waits for 10 ms.
      const third = yield* holding(shedder.withShedding)
      yield* TestClock.adjust("9 millis")
      expect(yield* shedder.metrics).toMatchObject({ waiting: 2 })
      yield* TestClock.adjust("1 millis")
      expect(yield* reasonOf(Fiber.join(third.fiber))).toBe("Queue")
      yield* TestClock.adjust("89 millis")
      expect(yield* reasonOf(Fiber.join(second.fiber))).toBe("Queue")
      expect(yield* shedder.metrics).toMatchObject({ waiting: 0, active: 1, shed: { Queue: 3 } })
    }))

  it.scoped("Queue: nothing starts after the ambient deadline, and no wait is longer", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 1 })
      const at = Effect.provideService(Deadline, { at: 50_000_000n, origin: "caller" as const })
      const call = yield* fill(shedder, 1)
      const waiting = yield* Effect.fork(at(shedder.withShedding(Effect.void)))
      yield* settle
      yield* TestClock.adjust("50 millis")
      expect(yield* reasonOf(Fiber.join(waiting))).toBe("Queue")
      yield* call[0]!.end
      expect(yield* reasonOf(at(shedder.withShedding(Effect.void)))).toBe("Queue")
    }))

  it.scoped("an important call takes the place of one that waits", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 1, maxQueueDepth: 1 })
      const call = yield* fill(shedder, 1)
      const normal = yield* holding(shedder.withShedding)
      const high = yield* Effect.fork(shedder.withSheddingBy({ priority: "high" })(Effect.succeed("in")))
      yield* settle
      expect(yield* reasonOf(Fiber.join(normal.fiber))).toBe("Queue")
      yield* call[0]!.end
      expect(yield* Fiber.join(high)).toBe("in")
    }))

  it.scoped("a call of a scope is in flight until that closes", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 2 })
      const scopes = yield* Effect.forEach([1, 2], () => Scope.make())
      yield* Effect.forEach(scopes, (scope) => Scope.extend(shedder.acquire, scope))
      expect((yield* shedder.metrics).active).toBe(2)
      yield* Scope.close(scopes[0]!, Exit.void)
      yield* Scope.close(scopes[1]!, Exit.fail("no"))
      expect(yield* shedder.metrics).toMatchObject({ active: 0, succeeded: 1, failed: 1 })
    }))

  it.scoped("a call of a scope is what it says", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 10, shares: { low: 0.5, sheddable: 0.5 } })
      const scope = yield* Scope.make()
      yield* Scope.extend(shedder.acquireBy({ cost: 4, priority: "low" }), scope)
      expect((yield* shedder.metrics).active).toBe(4)
      const dear = Effect.flip(Effect.scoped(shedder.acquireBy({ cost: 2, priority: "low" })))
      expect(yield* dear).toMatchObject({ reason: "InFlight", priority: "low" })
      yield* Scope.close(scope, Exit.void)
      expect((yield* shedder.metrics).active).toBe(0)
      const exit = yield* Effect.exit(shedder.acquireBy({ cost: 0 }))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(`option cost must be an integer of at least 1`)
    }))

  it.scoped("a hint says whether a call would be let in", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 2, maxQueueDepth: 1 })
      const low = shedder.wouldAdmit.pipe(Priority.within("low"))
      expect(yield* Effect.all([shedder.wouldAdmit, low])).toEqual([true, true])
      yield* fill(shedder, 2)
      expect(yield* Effect.all([shedder.wouldAdmit, low])).toEqual([true, false])
      yield* fill(shedder, 1)
      expect(yield* shedder.wouldAdmit).toBe(false)
      expect(yield* shedder.wouldAdmit.pipe(Priority.within("high"))).toBe(true)
    }))

  it.scoped("what a call says of itself must make sense", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s" })
      for (
        const [call, field] of [[{ cost: 0 }, "cost"], [{ cost: NaN }, "cost"], [{ priority: "urgent" }, "priority"], [{
          cohort: 1
        }, "cohort"]] as const
      ) {
        const exit = yield* Effect.exit(Effect.suspend(() => shedder.withSheddingBy(call as never)(Effect.void)))
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(`LoadShedder "s": option ${field} must be`)
      }
    }))
})

describe("signals", () => {
  for (
    const [reason, over, between] of [
      ["Cpu", { cpu: 0.85 }, { cpu: 0.7 }],
      ["Memory", { memory: 0.9 }, { memory: 0.7 }]
    ] as const
  ) {
    it.effect(`${reason}: sheds from its threshold on, the least important first, until it has recovered`, () =>
      withLoad({}, (shedder) =>
        Effect.gen(function*() {
          const of = (priority: Priority.Level) => shedder.withSheddingBy({ priority, cohort: "a" })(Effect.void)
          yield* sampled(over, 3)
          expect(yield* reasonOf(of("sheddable"))).toBe(reason)
          yield* of("normal")
          yield* sampled(between, 5)
          expect((yield* shedder.metrics).pressure).toBeCloseTo(0.3)
          yield* sampled(over, 5)
          expect((yield* shedder.metrics).pressure).toBeCloseTo(0.8)
          expect(yield* reasonOf(of("normal"))).toBe(reason)
          yield* sampled(over, 5)
          expect(yield* reasonOf(of("high"))).toBe(reason)
          yield* of("critical")
          yield* sampled({}, 21)
          expect(yield* shedder.metrics).toMatchObject({ pressure: 0, level: "normal" })
          yield* of("sheddable")
        })))
  }

  it.effect("Cpu: is not looked at where a process may use all of it", () =>
    withLoad({ cpu: false }, (shedder) =>
      Effect.gen(function*() {
        yield* sampled({ cpu: 1 }, 20)
        yield* shedder.withSheddingBy({ priority: "sheddable" })(Effect.void)
        expect(yield* shedder.metrics).toMatchObject({ pressure: 0, system: { cpu: 1 } })
      })))

  it.effect("EventLoop: each class waits for the loop twice as long as the one below it, at once and with no memory", () =>
    Effect.gen(function*() {
      let lag = 0
      let standing = 4.9
      const load = Layer.succeed(SystemLoad, {
        sample: Effect.sync(() => ({ eventLoopDelay: Duration.millis(standing) })),
        eventLoopLag: () => lag
      })
      const shedder = yield* Effect.provide(LoadShedder.make({ name: "s" }), load)
      const whoPasses = Effect.filter(
        Priority.levels,
        (priority) => Effect.isSuccess(shedder.withSheddingBy({ priority, cohort: "a" })(Effect.void))
      )
      // A pause is no overload, unless it is far too long.
      yield* TestClock.adjust("1 second")
      lag = 49
      expect(yield* whoPasses).toEqual(Priority.levels)
      lag = 50
      expect(yield* whoPasses).toEqual(["critical"])
      standing = 5
      yield* TestClock.adjust("200 millis")
      yield* TestClock.adjust("200 millis")
      const passing: Array<ReadonlyArray<string>> = []
      for (lag of [1, 2.6, 5.1, 10.1, 20.1, 0]) passing.push(yield* whoPasses)
      expect(passing).toEqual([
        Priority.levels,
        ["critical", "high", "normal", "low"],
        ["critical", "high", "normal"],
        ["critical", "high"],
        ["critical"],
        Priority.levels
      ])
      const { level, pressure, shed } = yield* shedder.metrics
      expect(shed).toMatchObject({ EventLoop: 14, Cpu: 0 })
      expect({ level, pressure }).toEqual({ level: "critical", pressure: 1 })
      expect(yield* shedder.wouldAdmit).toBe(true)
      lag = 11
      expect(yield* shedder.wouldAdmit).toBe(false)
      expect(yield* Effect.flip(shedder.withShedding(Effect.void))).toMatchObject({ reason: "EventLoop", pressure: 1 })
      standing = 4.9
      yield* TestClock.adjust("200 millis")
      yield* TestClock.adjust("200 millis")
      yield* shedder.withShedding(Effect.void)
    }).pipe(Effect.scoped))

  it.effect("EventLoop: where nobody tells the lag of this moment, that of the sample counts", () =>
    withLoad({ eventLoopDelay: "50 millis" }, (shedder) =>
      Effect.gen(function*() {
        yield* sampled({ eventLoopDelay: Duration.millis(99) }, 2)
        expect(yield* Effect.isSuccess(shedder.withSheddingBy({ priority: "high" })(Effect.void))).toBe(true)
        expect(yield* reasonOf(shedder.withSheddingBy({ priority: "low" })(Effect.void))).toBe("EventLoop")
        yield* sampled({ eventLoopDelay: Duration.millis(101) })
        expect(yield* reasonOf(shedder.withShedding(Effect.void))).toBe("EventLoop")
        expect((yield* shedder.metrics).pressure).toBeGreaterThan(0.75)
        yield* sampled({}, 20)
        yield* shedder.withSheddingBy({ priority: "sheddable" })(Effect.void)
        expect(yield* shedder.metrics).toMatchObject({ pressure: 0, level: "normal" })
      })))

  it.effect("Signal: one's own is a pressure already", () =>
    withLoad({}, (shedder) =>
      Effect.gen(function*() {
        const of = (priority: Priority.Level) => shedder.withSheddingBy({ priority })(Effect.void)
        yield* sampled({ signal: 0.5 })
        expect(yield* reasonOf(of("low"))).toBe("Signal")
        yield* of("normal")
        yield* sampled({ signal: 7 })
        expect((yield* shedder.metrics).pressure).toBe(1)
        expect(yield* reasonOf(of("high"))).toBe("Signal")
        yield* of("critical")
        yield* sampled({ signal: NaN })
        expect((yield* shedder.metrics).pressure).toBe(0)
      })))

  it.effect("the same caller is shed or not, here and at the next hop", () =>
    withLoad({}, (shedder) =>
      Effect.gen(function*() {
        const next = yield* LoadShedder.make({ name: "next" })
        yield* settle
        yield* sampled({ signal: 0.625 })
        const names = Array.from({ length: 200 }, (_, i) => `user-${i}`)
        const shed = (shedder: LoadShedder.Service) =>
          Effect.filter(names, (cohort) => Effect.isFailure(shedder.withSheddingBy({ cohort })(Effect.void)))
        const first = yield* shed(shedder)
        expect(first.length).toBeGreaterThan(70)
        expect(first.length).toBeLessThan(130)
        expect(yield* shed(shedder)).toEqual(first)
        expect(yield* shed(next)).toEqual(first)
      })))

  it.effect("a caller without a name is shed by chance", () =>
    withLoad({}, (shedder) =>
      Effect.gen(function*() {
        yield* sampled({ signal: 0.625 })
        const calls = yield* Effect.forEach(
          Array.from({ length: 400 }),
          () => Effect.isSuccess(shedder.withShedding(Effect.void))
        )
        const passed = calls.filter((passed) => passed).length
        expect(passed).toBeGreaterThan(140)
        expect(passed).toBeLessThan(260)
        expect(yield* shedder.wouldAdmit).toBe(true)
        expect(yield* shedder.wouldAdmit.pipe(Priority.within("low"))).toBe(false)
      })))

  const collecting = (warnings: Array<unknown>) =>
    Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => warnings.push(message)))

  it.effect("a sampler that fails or hangs is told of once a minute; what it said last holds, and then falls", () => {
    const warnings: Array<unknown> = []
    let sample: Effect.Effect<SystemLoad.Sample> = Effect.succeed({ cpu: 1 })
    const samples = (n: number) => Effect.repeatN(TestClock.adjust("200 millis"), n - 1)
    return Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s" })
      const queue = yield* shedder.subscribe
      yield* samples(3)
      const { pressure } = yield* shedder.metrics
      expect(pressure).toBeGreaterThan(0.25)
      sample = Effect.die("no figures")
      yield* samples(5)
      expect(yield* shedder.metrics).toMatchObject({ pressure, system: { cpu: 1 } })
      yield* samples(1)
      expect((yield* shedder.metrics).pressure).toBeCloseTo(pressure - 0.05)
      expect((yield* shedder.metrics).system).toEqual({})
      yield* samples(10)
      expect((yield* shedder.metrics).pressure).toBe(0)
      expect(warnings).toHaveLength(1)
      sample = Effect.never
      yield* TestClock.adjust("30 seconds")
      expect(warnings).toHaveLength(1)
      yield* TestClock.adjust("30 seconds")
      expect(warnings).toHaveLength(2)
      const told = (yield* drain(queue)).filter(({ _tag }) => _tag === "InternalError")
      expect(told).toMatchObject([{ source: "Sampler", error: "no figures" }, { source: "Sampler" }])
      yield* shedder.withSheddingBy({ priority: "sheddable" })(Effect.void)
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.succeed(SystemLoad, { sample: Effect.suspend(() => sample) })),
      Effect.provide(collecting(warnings))
    )
  })

  it.effect("a threshold that nobody measures is warned of", () => {
    const warnings: Array<unknown> = []
    return Effect.gen(function*() {
      yield* LoadShedder.make({ name: "s", maxInFlight: 5, recoverAt: 0.7 })
      expect(warnings).toEqual([])
      yield* LoadShedder.make({ name: "s", cpu: 0.5, eventLoopDelay: "9 millis" })
      expect(String(warnings)).toContain("cpu, eventLoopDelay given, and no SystemLoad is there to measure it")
      yield* Effect.provide(LoadShedder.make({ name: "s", cpu: 0.5 }), SystemLoad.layerTest())
      expect(warnings).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(collecting(warnings)))
  })
})

class Api extends LoadShedder.Tag<Api>()("api", { maxInFlight: 5, maxQueueDepth: 0 }) {}

describe("observing", () => {
  it.effect("events tell who was let in or shed, and of each level", () =>
    Effect.gen(function*() {
      const queue = yield* Api.subscribe
      yield* Effect.forEach([1, 2, 3, 4, 5], () => Api.acquire)
      yield* Effect.exit(Api.withShedding(Effect.void))
      const events = yield* drain(queue)
      expect(events.map((event) => event._tag === "LevelChanged" ? `${event.from} > ${event.to}` : event._tag)).toEqual(
        [
          "Accepted",
          "Accepted",
          "normal > elevated",
          "Accepted",
          "elevated > high",
          "Accepted",
          "high > critical",
          "Accepted",
          "Shed"
        ]
      )
      expect(events.at(-1)).toMatchObject({ reason: "InFlight", priority: "normal", active: 5, pressure: 1 })
      expect(yield* Api.level).toBe("critical")
      const { instances } = yield* Registry.snapshot
      expect(instances).toMatchObject([{ pattern: "LoadShedder", instance: "api", metrics: { level: "critical" } }])
    }).pipe(Effect.scoped, Effect.provide(Api.Live.pipe(Layer.provideMerge(Registry.Live)))))

  it.effect("everything is let through where there is no shedder", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.forEach([1, 2, 3, 4, 5, 6], () => Api.acquire))
      expect(yield* Effect.succeed(1).pipe(Api.withShedding)).toBe(1)
      expect(yield* Effect.succeed(2).pipe(Api.withSheddingBy({ cost: 9 }))).toBe(2)
      expect(yield* Api.wouldAdmit).toBe(true)
      expect(yield* Api.metrics).toMatchObject({ level: yield* Api.level, active: 0 })
    }).pipe(Effect.provide(Api.layerNoop)))

  it.effect("the sampler ends with its instance, also of one that was built where nothing can be interrupted", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* Effect.uninterruptible(Scope.extend(LoadShedder.make({ name: "api" }), scope))
      yield* TestClock.adjust("1 second")
      const closed = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* settle
      expect(Option.isSome(yield* Fiber.poll(closed))).toBe(true)
    }).pipe(Effect.provide(SystemLoad.layerTest())))

  it.effect("the layer takes the signals of the SystemLoad in its context", () =>
    Effect.gen(function*() {
      yield* settle
      expect((yield* Api.metrics).system).toEqual({ signal: 0.7 })
      expect(yield* reasonOf(Effect.void.pipe(Api.withShedding, Priority.within("low")))).toBe("Signal")
    }).pipe(Effect.provide(Api.Live.pipe(Layer.provide(SystemLoad.layerTest({ signal: 0.7 }))))))
})

describe("faults of others", () => {
  it.scoped("W-S1: a listener that dies or hangs keeps nothing in flight", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 2, maxQueueDepth: 0 })
      yield* shedder.on("Accepted", () => Effect.never)
      yield* shedder.on("*", () => Effect.die("no"))
      for (let n = 0; n < 4; n++) {
        const call = yield* holding(shedder.withShedding)
        yield* Fiber.interrupt(call.fiber)
      }
      expect(yield* shedder.metrics).toMatchObject({ active: 0, admitted: 4, ignored: 4 })
    }))

  it.scoped("W-S2: a call that is interrupted while it ends is not in flight any more", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 2 })
      const calls = yield* fill(shedder, 2)
      yield* Effect.forEach(calls, ({ end, fiber }) => Effect.zip(end, Fiber.interrupt(fiber), { concurrent: true }), {
        concurrency: "unbounded"
      })
      expect(yield* shedder.metrics).toMatchObject({ active: 0, running: 0, admitted: 2 })
    }))

  it.scoped("W-S3: a slow listener holds nobody up, and may make calls itself", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 100 })
      let heard = 0
      yield* shedder.on("Accepted", () =>
        Effect.gen(function*() {
          if (heard++ === 0) yield* shedder.withShedding(Effect.void)
          yield* Effect.sleep("20 millis")
        }))
      yield* Effect.forEach(Array.from({ length: 50 }), () => shedder.withShedding(Effect.void))
      yield* settle
      // No time has passed.
      expect(yield* shedder.metrics).toMatchObject({ succeeded: 51, active: 0 })
    }))

  it.scoped("W-S4: the line is a real one, and without one calls are let in all the same", () =>
    Effect.gen(function*() {
      const none = yield* LoadShedder.make({ name: "none", maxInFlight: 1, maxQueueDepth: 0 })
      expect(yield* none.withShedding(Effect.succeed(1))).toBe(1)
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 1, maxQueueDepth: 2 })
      yield* fill(shedder, 3)
      expect(yield* shedder.metrics).toMatchObject({ active: 1, waiting: 2, queueLimit: 2 })
      expect(yield* reasonOf(shedder.withShedding(Effect.void))).toBe("Queue")
    }))

  it.effect("W-S5: each class is shed before the next more important one", () =>
    withLoad({}, (shedder) =>
      Effect.gen(function*() {
        const passing = Effect.filter(
          Priority.levels,
          (priority) => Effect.isSuccess(shedder.withSheddingBy({ priority })(Effect.void))
        )
        for (const [signal, expected] of [[0, 5], [0.25, 4], [0.5, 3], [0.75, 2], [1, 1]] as const) {
          yield* sampled({ signal })
          expect(yield* passing).toEqual(Priority.levels.slice(0, expected))
        }
      })))

  it.effect("W-S6: a call never waits for a sample", () => {
    let samples = 0
    const slow = Layer.succeed(SystemLoad, {
      sample: Effect.zipRight(Effect.sync(() => samples++), Effect.as(Effect.sleep("100 millis"), { cpu: 1 }))
    })
    return Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s" })
      yield* settle
      yield* Effect.forEach(Array.from({ length: 100 }), () => shedder.withShedding(Effect.void))
      expect(samples).toBe(1)
      expect(yield* shedder.metrics).toMatchObject({ succeeded: 100, pressure: 0 })
    }).pipe(Effect.scoped, Effect.provide(slow))
  })

  it.effect("W-S7: importance comes from the context, not from what a client sends", () =>
    withLoad({}, (shedder) =>
      Effect.gen(function*() {
        yield* sampled({ signal: 0.9 })
        // A header is only that: nobody reads it unless the server puts it into the context.
        const handler = (_headers: Record<string, string>) => shedder.withShedding(Effect.void)
        const normal = handler({ "x-priority": "critical" })
        expect(yield* reasonOf(normal)).toBe("Signal")
        yield* normal.pipe(Priority.within("critical"))
      })))

  it.effect("W-S8: shedding by the system has the same events and errors as shedding by what is in flight", () =>
    withLoad({}, (shedder) =>
      Effect.gen(function*() {
        const queue = yield* shedder.subscribe
        yield* sampled({ cpu: 1 }, 11)
        const error = yield* Effect.flip(shedder.withShedding(Effect.void))
        expect(error).toMatchObject({ _tag: "LoadShedError", reason: "Cpu", instance: "s" })
        const events = yield* drain(queue)
        expect(events.map(({ _tag }) => _tag)).toEqual(["LevelChanged", "LevelChanged", "LevelChanged", "Shed"])
        expect(events.at(-1)).toMatchObject({ reason: "Cpu", priority: "normal" })
      })))

  it.scoped("W-S9: only a call that was let in can leave, and only once", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 1, maxQueueDepth: 0 })
      const scope = yield* Scope.make()
      yield* Scope.extend(shedder.acquire, scope)
      expect(Object.keys(shedder)).not.toContain("release")
      yield* Scope.close(scope, Exit.void)
      yield* Scope.close(scope, Exit.void)
      const call = yield* fill(shedder, 1)
      yield* Scope.close(scope, Exit.void)
      expect(yield* reasonOf(shedder.withShedding(Effect.void))).toBe("InFlight")
      yield* call[0]!.end
      expect((yield* shedder.metrics).active).toBe(0)
    }))

  it.effect("W-S10: shedding sets in gradually, ends below where it began, and is counted by reason", () =>
    withLoad({}, (shedder) =>
      Effect.gen(function*() {
        const names = Array.from({ length: 100 }, (_, i) => `user-${i}`)
        const shed = Effect.map(
          Effect.filter(
            names,
            (cohort) => Effect.isFailure(shedder.withSheddingBy({ cohort, priority: "sheddable" })(Effect.void))
          ),
          ({ length }) => length
        )
        const counts: Array<number> = []
        for (const cpu of [0.84, 0.85, 0.85, 0.7, 0.67, 0.67, 0.67, 0.67]) {
          yield* sampled({ cpu })
          counts.push(yield* shed)
        }
        expect(counts[0]).toBe(0)
        expect(counts[1]).toBeGreaterThan(20)
        expect(counts[1]).toBeLessThan(60)
        expect(counts[2]).toBeGreaterThan(60)
        expect(counts[3]).toBe(counts[2])
        expect(counts[4]).toBeLessThan(counts[3]!)
        expect(counts.at(-1)).toBe(0)
        const { rejected, shed: by } = yield* shedder.metrics
        expect(by).toEqual({ InFlight: 0, Queue: 0, Cpu: rejected, Memory: 0, EventLoop: 0, Signal: 0 })
      })))
})
