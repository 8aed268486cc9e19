import {
  AdaptiveConcurrency,
  Bulkhead,
  classifyWith,
  ConcurrencyLimitError,
  Deadline,
  Limit,
  OptionThrewError,
  Priority,
  Registry,
  ResilienceError,
  Timeout
} from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  MetricState,
  Option,
  Queue,
  TestClock
} from "effect"

const settle = Effect.repeatN(Effect.yieldNow(), 3)

/** A call that holds its permit until it is told to end. */
const holding = (limiter: AdaptiveConcurrency.Service) =>
  Effect.gen(function*() {
    const gate = yield* Deferred.make<void, string>()
    const fiber = yield* Effect.fork(limiter.withPermit(Deferred.await(gate)))
    yield* settle
    return {
      fiber,
      end: Effect.zipRight(Deferred.succeed(gate, void 0), Fiber.await(fiber)),
      fail: Effect.zipRight(Deferred.fail(gate, "no"), Fiber.await(fiber))
    }
  })

const reasonOf = <A, E>(fiber: Fiber.Fiber<A, E>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), (error) => {
    expect(error).toBeInstanceOf(ConcurrencyLimitError)
    return (error as unknown as ConcurrencyLimitError).reason
  })

/** An algorithm that writes down what it is told, and whose limit the test sets. */
const scripted = (first: number) => {
  const told: Array<string> = []
  const script = { limit: first }
  const say = (what: string) => (n: number, at: Limit.Moment & { readonly latency?: number }) => {
    told.push(
      [what, `${at.inFlight}`, ...(what === "sample" || what === "drop" ? [`${at.latency} ms`] : [])].join(" ")
    )
    return n + 1
  }
  const algorithm: Limit<number> = {
    name: "scripted",
    initial: 0,
    limit: () => script.limit,
    onAdmit: say("admit"),
    onReject: say("reject"),
    onSample: say("sample"),
    onDrop: say("drop"),
    onIgnore: say("ignore"),
    inspect: () => ({ reason: "script", baseline: 50, elasticity: 0.5 })
  }
  return { algorithm, script, told }
}

describe("admission", () => {
  it.scoped("lets so many in, has twice as many wait, and turns the rest away", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm: Limit.fixed(2) })
      const holders = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => holding(limiter))
      const error = yield* Effect.flip(limiter.withPermit(Effect.void))
      expect(error).toMatchObject({
        pattern: "AdaptiveConcurrency",
        instance: "a",
        reason: "QueueFull",
        limit: 2,
        active: 2,
        waiting: 4
      })
      expect(String(error)).toContain("2 of 2 active, 4 waiting")
      expect(ResilienceError.isRejection(error)).toBe(true)
      expect((error as Error).stack?.split("\n").length).toBe(1)
      expect(yield* limiter.wouldAdmit).toBe(false)
      for (const { end } of holders) yield* end
      expect(yield* limiter.wouldAdmit).toBe(true)
      expect(yield* limiter.metrics).toMatchObject({
        limit: 2,
        active: 0,
        peak: 2,
        queueLimit: 4,
        offered: 7,
        admitted: 6,
        succeeded: 6,
        rejected: 1,
        running: 0
      })
    }))

  it.scoped("turns a waiting call away after 100 ms, or at its deadline", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm: Limit.fixed(1) })
      yield* holding(limiter)
      const waiting = yield* Effect.fork(limiter.withPermit(Effect.void))
      const hasty = yield* Effect.fork(
        Effect.provideService(limiter.withPermit(Effect.void), Deadline, yield* Deadline.after("50 millis"))
      )
      yield* TestClock.adjust("50 millis")
      expect(yield* reasonOf(hasty)).toBe("DeadlineTooClose")
      yield* TestClock.adjust("49 millis")
      expect(Option.isNone(yield* Fiber.poll(waiting))).toBe(true)
      yield* TestClock.adjust("1 millis")
      expect(yield* reasonOf(waiting)).toBe("WaitExceeded")
    }))

  it.scoped("a call with less time left than an idle server takes does not wait, and does not start after a wait", () =>
    Effect.gen(function*() {
      const { algorithm } = scripted(1)
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm, maxWait: "1 minute" })
      const holder = yield* holding(limiter)
      const within = (millis: number) =>
        Effect.flatMap(
          Deadline.after(Duration.millis(millis)),
          (instant) => Effect.provideService(limiter.withPermit(Effect.void), Deadline, instant)
        )
      const late = yield* Effect.flip(within(49))
      expect((late as ConcurrencyLimitError).reason).toBe("DeadlineTooClose")
      const waiting = yield* Effect.fork(within(80))
      yield* TestClock.adjust("40 millis")
      yield* holder.end
      expect(yield* reasonOf(waiting)).toBe("DeadlineTooClose")
      expect(yield* limiter.metrics).toMatchObject({ active: 0, waiting: 0, admitted: 1, rejected: 2 })
    }))

  it.scoped("the long average of gradient2 turns nobody away: it is no idle server's latency", () =>
    Effect.gen(function*() {
      const algorithm = Limit.gradient2({ initialLimit: 1, minLimit: 1, maxLimit: 1, windowTime: 0, windowSamples: 1 })
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm, maxWait: "1 minute" })
      for (let n = 0; n < 3; n++) yield* limiter.withPermit(TestClock.adjust("1 second"))
      expect((yield* limiter.state).baseline).toBeUndefined()
      const holder = yield* holding(limiter)
      const instant = yield* Deadline.after("500 millis")
      const waiting = yield* Effect.fork(Effect.provideService(limiter.withPermit(Effect.void), Deadline, instant))
      yield* settle
      expect((yield* limiter.metrics).waiting).toBe(1)
      yield* holder.end
      yield* Fiber.join(waiting)
    }))

  it.scoped("starts nothing after the deadline; no queue and no wait reject at once", () =>
    Effect.gen(function*() {
      const make = (options: AdaptiveConcurrency.Options) =>
        AdaptiveConcurrency.make({ name: "a", algorithm: Limit.fixed(1), ...options })
      const one = yield* make({ maxQueued: 0 })
      const instant = yield* Deadline.after(0)
      const late = yield* Effect.flip(Effect.provideService(one.withPermit(Effect.void), Deadline, instant))
      expect(late.reason).toBe("DeadlineTooClose")
      yield* holding(one)
      expect((yield* Effect.flip(one.withPermit(Effect.void))).reason).toBe("QueueFull")
      const two = yield* make({ maxWait: 0 })
      yield* holding(two)
      expect((yield* Effect.flip(two.withPermit(Effect.void))).reason).toBe("WaitExceeded")
      expect(yield* two.wouldAdmit).toBe(false)
    }))

  it.scoped("the newest goes first once the queue stands, and a more important call pushes out the least", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm: Limit.fixed(1), maxWait: "1 minute" })
      const log: Array<string> = []
      const holder = yield* holding(limiter)
      const call = (name: string, level: Priority.Level) =>
        Effect.tap(
          Effect.fork(limiter.withPermit(Effect.sync(() => log.push(name))).pipe(Priority.within(level))),
          () => settle
        )
      const low = yield* call("low", "low")
      const first = yield* call("first", "normal")
      const second = yield* call("second", "high")
      expect(yield* reasonOf(low)).toBe("QueueFull")
      yield* TestClock.adjust("100 millis")
      yield* holder.end
      yield* Fiber.joinAll([first, second])
      expect(log).toEqual(["second", "first"])
    }))
})

describe("fair", () => {
  it.scoped("a noisy key waits for itself", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({
        name: "a",
        algorithm: Limit.fixed(2),
        maxWait: "1 minute",
        fair: true
      })
      const log: Array<string> = []
      const call = (key: string) =>
        Effect.tap(
          Effect.fork(
            limiter.withPermitBy({ key })(Effect.tap(Effect.sleep("10 millis"), () => Effect.sync(() => log.push(key))))
          ),
          () => settle
        )
      const noisy = yield* Effect.forEach(Array.from({ length: 6 }), () => call("noisy"))
      const quiet = yield* Effect.forEach(["quiet", "calm"], call)
      yield* Effect.repeatN(TestClock.adjust("10 millis"), 5)
      // Two ran before the others came, and of each two that follow one is not of the noisy key.
      expect([0, 2, 4].map((i) => log.slice(i, i + 2).sort())).toEqual([
        ["noisy", "noisy"],
        ["noisy", "quiet"],
        ["calm", "noisy"]
      ])
      expect(Exit.isSuccess(yield* Fiber.await(quiet[0]!))).toBe(true)
      // Both had a place in a full queue: it was made by the newest of the longest line.
      expect(yield* reasonOf(noisy[5]!)).toBe("QueueFull")
      expect(yield* limiter.metrics).toMatchObject({ active: 0, waiting: 0, admitted: 6, rejected: 2 })
    }))

  it.scoped("keys have weights", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({
        name: "a",
        algorithm: Limit.fixed(1),
        maxQueued: 10,
        maxWait: "1 minute",
        fair: { weight: (key) => key === "big" ? 2 : 1 }
      })
      const log: Array<string> = []
      const holder = yield* holding(limiter)
      const calls = yield* Effect.forEach(["small", "small", "big", "big", "big"], (key) =>
        Effect.tap(
          Effect.fork(limiter.withPermitBy({ key })(Effect.sync(() => log.push(key)))),
          () => settle
        ))
      yield* holder.end
      yield* Fiber.joinAll(calls)
      expect(log).toEqual(["small", "big", "big", "small", "big"])
    }))

  it.scoped("a permit of a scope is of its key's share, and is read by its own classification", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({
        name: "a",
        algorithm: Limit.fixed(1),
        maxQueued: 10,
        maxWait: "1 minute",
        fair: true
      })
      const log: Array<string> = []
      const holder = yield* holding(limiter)
      const calls = yield* Effect.forEach(["noisy", "noisy", "noisy", "quiet"], (key) =>
        Effect.tap(
          Effect.fork(Effect.scoped(Effect.zipRight(
            limiter.acquireBy({ key, classify: () => key === "quiet" ? "failure" : "success" }),
            Effect.sync(() => log.push(key))
          ))),
          () => settle
        ))
      yield* holder.end
      yield* Fiber.joinAll(calls)
      expect(log.indexOf("quiet")).toBeLessThan(2)
      expect(yield* limiter.metrics).toMatchObject({ active: 0, waiting: 0, succeeded: 4, failed: 1 })
      const plain = yield* AdaptiveConcurrency.make({ name: "a" })
      const exit = yield* Effect.exit(Effect.scoped(plain.acquireBy({ key: "k" })))
      expect(Exit.isFailure(exit) && String(exit.cause)).toContain(`option key must be absent`)
    }))

  it.scoped("is an option: a key without it is a bug that says so", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({ name: "a" })
      expect(() => limiter.withPermitBy({ key: "k" })).toThrow(
        `AdaptiveConcurrency "a": option key must be absent, because the option fair is not set, but is "k"`
      )
      expect(yield* limiter.withPermitBy({})(Effect.succeed(1))).toBe(1)
    }))
})

describe("what the algorithm is told", () => {
  it.scoped("is who comes in, who has to wait or go, and how each call ends", () =>
    Effect.gen(function*() {
      const { algorithm, told } = scripted(1)
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm, maxQueued: 1 })
      const first = yield* holding(limiter)
      const second = yield* holding(limiter)
      yield* Effect.exit(limiter.withPermit(Effect.void).pipe(Priority.within("low")))
      yield* TestClock.adjust("30 millis")
      yield* first.end
      yield* settle
      yield* TestClock.adjust("20 millis")
      yield* second.fail
      const third = yield* holding(limiter)
      yield* Fiber.interrupt(third.fiber)
      expect(told).toEqual([
        "admit 1",
        "reject 1",
        "reject 1",
        "sample 0 30 ms",
        "admit 1",
        "drop 0 20 ms",
        "admit 1",
        "ignore 0"
      ])
    }))

  it.scoped("a timeout inside is a loss; what our own patterns turn away and what the caller gives up is nothing", () =>
    Effect.gen(function*() {
      const { algorithm, told } = scripted(5)
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm })
      const full = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 0 })
      yield* Effect.fork(full.withPermit(Effect.never))
      yield* settle
      const run = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.gen(function*() {
          told.length = 0
          const fiber = yield* Effect.fork(effect)
          yield* TestClock.adjust("1 second")
          yield* Fiber.await(fiber)
          return told[1]
        })
      expect(yield* run(limiter.withPermit(Effect.never.pipe(Timeout.within("200 millis"))))).toBe("drop 0 200 ms")
      expect(yield* run(limiter.withPermit(full.withPermit(Effect.void)))).toBe("ignore 0")
      expect(yield* run(limiter.withPermit(Effect.never).pipe(Effect.timeout("100 millis"), Effect.exit))).toBe(
        "ignore 0"
      )
      expect(yield* run(limiter.withPermit(Effect.die("bug")))).toBe("drop 0 0 ms")
      expect(yield* run(limiter.withPermitBy({ classify: () => "success" })(Effect.fail("an answer")))).toBe(
        "sample 0 0 ms"
      )
    }))

  it.scoped("a permit is settled by the end of its scope, or once by hand", () =>
    Effect.gen(function*() {
      const { algorithm, told } = scripted(5)
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm })
      yield* Effect.scoped(Effect.flatMap(limiter.acquire, () => TestClock.adjust("7 millis")))
      yield* Effect.exit(Effect.scoped(Effect.zipRight(limiter.acquire, Effect.fail("no"))))
      yield* Effect.scoped(Effect.gen(function*() {
        const permit = yield* limiter.acquire
        yield* permit.settle("failure")
        yield* permit.settle("success")
        expect((yield* limiter.state).active).toBe(0)
      }))
      expect(told.filter((line) => !line.startsWith("admit"))).toEqual(["sample 0 7 ms", "drop 0 0 ms", "drop 0 0 ms"])
      expect(yield* limiter.metrics).toMatchObject({ succeeded: 1, failed: 2, running: 0 })
    }))

  it.scoped("a classify that throws gives the permit back and dies with its name", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({
        name: "a",
        algorithm: Limit.fixed(1),
        classify: () => {
          throw new Error("bug")
        }
      })
      const exit = yield* Effect.exit(limiter.withPermit(Effect.void))
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBeInstanceOf(OptionThrewError)
      const scoped = yield* Effect.exit(Effect.scoped(limiter.acquire))
      expect(Exit.isFailure(scoped) && Cause.squash(scoped.cause)).toBeInstanceOf(OptionThrewError)
      expect(yield* limiter.metrics).toMatchObject({ active: 0, ignored: 2, running: 0 })
    }))

  it.scoped("an algorithm that breaks is told of once, and its last limit stays", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => logged.push(String(message)))
      for (const limit of [NaN, 0, 1.5]) {
        const { algorithm, script } = scripted(3)
        const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm })
        const queue = yield* limiter.subscribe
        yield* limiter.withPermit(Effect.void)
        script.limit = limit
        yield* Effect.repeatN(limiter.withPermit(Effect.void), 3).pipe(
          Effect.provide(Logger.replace(Logger.defaultLogger, logger))
        )
        expect(yield* limiter.state).toMatchObject({ limit: 3, active: 0, reason: "the algorithm broke" })
        yield* settle
        expect([...(yield* Queue.takeAll(queue))]).toMatchObject([{ _tag: "InternalError", source: "Option" }])
        yield* limiter.setLimit(9)
        yield* limiter.withPermit(Effect.void)
        expect((yield* limiter.state).limit).toBe(9)
      }
      expect(logged).toHaveLength(3)
    }))
})

describe("a limit that changes", () => {
  it.scoped("lets waiting calls in, and is told with its reason", () =>
    Effect.gen(function*() {
      const { algorithm, script } = scripted(1)
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm, maxQueued: 10 })
      const queue = yield* limiter.subscribe
      const holders = yield* Effect.forEach([1, 2, 3, 4], () => holding(limiter))
      script.limit = 3
      yield* holders[0]!.end
      yield* settle
      expect(yield* limiter.state).toEqual({
        algorithm: "scripted",
        limit: 3,
        active: 3,
        waiting: 0,
        reason: "script",
        baseline: Duration.millis(50),
        elasticity: 0.5
      })
      script.limit = 1
      yield* holders[1]!.end
      expect(yield* limiter.state).toMatchObject({ limit: 1, active: 2 })
      yield* Effect.forEach(Array.from({ length: 10 }), () => Effect.fork(limiter.withPermit(Effect.void)))
      yield* settle
      expect((yield* Effect.flip(limiter.withPermit(Effect.void))).reason).toBe("QueueFull")
      expect([...(yield* Queue.takeN(queue, 3))]).toMatchObject([
        { _tag: "LimitChanged", from: 1, to: 3, reason: "script" },
        { _tag: "LimitChanged", from: 3, to: 1, reason: "script" },
        { _tag: "Rejected", limit: 1, active: 2, reason: "QueueFull" }
      ])
    }))

  it.effect("by an operator: the algorithm goes on from there, and nonsense is refused", () =>
    Effect.gen(function*() {
      const registry = yield* Registry
      const limiter = yield* AdaptiveConcurrency
      const queue = yield* limiter.subscribe
      yield* registry.act("AdaptiveConcurrency", "default", "setLimit", 7)
      expect(yield* limiter.state).toMatchObject({ algorithm: "knee", limit: 7, reason: "operator" })
      yield* AdaptiveConcurrency.setLimit(5000)
      expect((yield* limiter.state).limit).toBe(1000)
      expect([...(yield* Queue.takeN(queue, 2))]).toMatchObject([
        { from: 20, to: 7, reason: "operator" },
        { from: 7, to: 1000, reason: "operator" }
      ])
      for (const input of [0, 1.5, "2", undefined]) {
        const error = yield* Effect.flip(registry.act("AdaptiveConcurrency", "default", "setLimit", input))
        expect(String(error)).toMatch(/integer/)
      }
      const exit = yield* Effect.exit(limiter.setLimit(0))
      expect(Exit.isFailure(exit) && String(exit.cause)).toContain(
        `AdaptiveConcurrency "default": option limit must be`
      )
      const { instances } = yield* registry.snapshot
      expect(instances).toMatchObject([{ pattern: "AdaptiveConcurrency", metrics: { limit: 1000, offered: 0 } }])
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(AdaptiveConcurrency.Live, Registry.Live))))

  it.scoped("by an operator, where the algorithm cannot take it: it holds until the algorithm has another", () =>
    Effect.gen(function*() {
      const { algorithm, script } = scripted(4)
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm })
      yield* limiter.setLimit(9)
      yield* limiter.withPermit(Effect.void)
      expect((yield* limiter.state).limit).toBe(9)
      script.limit = 5
      yield* limiter.withPermit(Effect.void)
      expect((yield* limiter.state).limit).toBe(5)
    }))

  it.scoped("shows in the gauges", () =>
    Effect.gen(function*() {
      const { algorithm } = scripted(4)
      const limiter = yield* AdaptiveConcurrency.make({ name: "gauged", algorithm })
      const holder = yield* holding(limiter)
      const gauge = (name: string) =>
        Effect.map(Metric.snapshot, (pairs) =>
          pairs.flatMap(({ metricKey, metricState }) =>
            metricKey.name === `resilience.adaptive.${name}` &&
              metricKey.tags.some(({ value }) =>
                value === "gauged"
              ) && MetricState.isGaugeState(metricState)
              ? [metricState.value]
              : []
          ))
      expect([yield* gauge("limit"), yield* gauge("in_flight")]).toEqual([[4], [1]])
      yield* holder.end
      expect([yield* gauge("in_flight"), yield* gauge("baseline"), yield* gauge("elasticity")]).toEqual([
        [0],
        [0.05],
        [0.5]
      ])
    }))
})

describe("options", () => {
  it.scoped("name the algorithm and its bounds", () =>
    Effect.gen(function*() {
      for (const algorithm of ["knee", "gradient2", "vegas", "aimd", "successRate"] as const) {
        const limiter = yield* AdaptiveConcurrency.make({ name: algorithm, algorithm, initialLimit: 30, maxLimit: 40 })
        expect(yield* limiter.state).toMatchObject({ algorithm, limit: 30 })
        yield* limiter.setLimit(50)
        expect((yield* limiter.state).limit).toBe(40)
      }
    }))

  it.scoped("refuse bounds that contradict each other, or beside a Limit that has its own", () =>
    Effect.gen(function*() {
      const message = (options: AdaptiveConcurrency.Options) =>
        Effect.map(
          Effect.exit(AdaptiveConcurrency.make({ name: "a", ...options })),
          (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "taken"
        )
      expect(yield* message({ minLimit: 5, maxLimit: 4 })).toContain(
        `AdaptiveConcurrency "a": option maxLimit must be at least minLimit (5), but is 4`
      )
      expect(yield* message({ algorithm: Limit.knee(), maxLimit: 4 })).toContain(
        "option maxLimit must be absent beside"
      )
    }))

  it.effect("layerNoop lets everything through", () =>
    Effect.gen(function*() {
      yield* AdaptiveConcurrency.withPermit(Effect.void)
      yield* Effect.scoped(Effect.flatMap(AdaptiveConcurrency.acquire, ({ settle }) => settle("failure")))
      yield* AdaptiveConcurrency.setLimit(1)
      expect(yield* AdaptiveConcurrency.wouldAdmit).toBe(true)
      expect((yield* AdaptiveConcurrency.metrics).limit).toBe(Infinity)
      expect((yield* AdaptiveConcurrency.state).algorithm).toBe("none")
    }).pipe(Effect.provide(AdaptiveConcurrency.layerNoop)))
})

describe("faults of others", () => {
  const successRate = (options: Limit.SuccessRateOptions) =>
    AdaptiveConcurrency.make({ name: "a", algorithm: Limit.successRate(options), maxQueued: 0 })

  it.scoped("W-A1: the limit does not grow while it is not used", () =>
    Effect.gen(function*() {
      for (const algorithm of ["knee", "gradient2", "vegas", "aimd", "successRate"] as const) {
        const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm })
        const call = Effect.zipRight(TestClock.adjust("10 millis"), Effect.void)
        yield* Effect.repeatN(limiter.withPermit(call), 500)
        expect((yield* limiter.state).limit, algorithm).toBe(20)
      }
    }))

  it.scoped("W-A2: latency alone brings the limit down", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({
        name: "a",
        algorithm: Limit.vegas({ windowTime: 0, windowSamples: 1 })
      })
      const batch = (millis: number) =>
        Effect.gen(function*() {
          const calls = yield* Effect.forEach(
            Array.from({ length: 20 }),
            () => Effect.fork(Effect.exit(limiter.withPermit(Effect.sleep(Duration.millis(millis)))))
          )
          yield* TestClock.adjust(Duration.millis(millis))
          yield* TestClock.adjust(Duration.millis(millis))
          yield* Fiber.joinAll(calls)
        })
      yield* limiter.withPermit(TestClock.adjust("10 millis"))
      yield* batch(200)
      expect((yield* limiter.state).limit).toBeLessThan(20)
      expect((yield* limiter.metrics).failed).toBe(0)
    }))

  it.scoped("W-A3: one incident is one decrease, however many calls it takes with it", () =>
    Effect.gen(function*() {
      const limiter = yield* successRate({ initialLimit: 1000, maxLimit: 1000, measurementWindow: 10 })
      yield* TestClock.adjust("1 second")
      const gate = yield* Deferred.make<void, string>()
      const calls = yield* Effect.forEach(
        Array.from({ length: 1000 }),
        () => Effect.fork(Effect.exit(limiter.withPermit(Deferred.await(gate))))
      )
      yield* settle
      expect((yield* limiter.state).active).toBe(1000)
      yield* TestClock.adjust("1 second")
      yield* Deferred.fail(gate, "down")
      yield* Fiber.joinAll(calls)
      expect((yield* limiter.state).limit).toBe(900)
    }))

  it.scoped("W-A4: interruptions and what is the caller's own error do not shrink the limit", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({
        name: "a",
        algorithm: Limit.successRate({ measurementWindow: 1 }),
        classify: classifyWith({ successTags: ["NotFound"] })
      })
      for (let i = 0; i < 100; i++) {
        yield* TestClock.adjust("1 millis")
        yield* Effect.exit(limiter.withPermit(Effect.fail({ _tag: "NotFound" })))
        const { fiber } = yield* holding(limiter)
        yield* Fiber.interrupt(fiber)
      }
      expect(yield* limiter.metrics).toMatchObject({ limit: 20, succeeded: 100, ignored: 100, failed: 0 })
    }))

  it.scoped("W-A5: a returned error status is a failure wherever the classification says so", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({
        name: "a",
        algorithm: "aimd",
        classify: classifyWith({ failureWhen: (value) => (value as { status: number }).status >= 500 })
      })
      yield* TestClock.adjust("1 second")
      yield* limiter.withPermit(Effect.succeed({ status: 503 }))
      expect(yield* limiter.metrics).toMatchObject({ limit: 18, failed: 1 })
    }))

  it.scoped("W-A7: whoever is turned away gets a typed error with a reason, and is counted and told of", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm: Limit.fixed(1), maxQueued: 0 })
      const queue = yield* limiter.subscribe
      yield* holding(limiter)
      const result = yield* limiter.withPermit(Effect.void).pipe(
        Effect.catchTag("ConcurrencyLimitError", ({ reason }) => Effect.succeed(reason))
      )
      expect(result).toBe("QueueFull")
      expect((yield* limiter.metrics).rejected).toBe(1)
      expect(yield* Queue.take(queue)).toMatchObject({ _tag: "Rejected", reason: "QueueFull", limit: 1, active: 1 })
    }))

  it.scoped("W-A8: nothing is recorded for a call that was not let in, and the limit is a whole number", () =>
    Effect.gen(function*() {
      const { algorithm, told } = scripted(1)
      const strict = yield* AdaptiveConcurrency.make({ name: "a", algorithm, maxQueued: 0 })
      yield* holding(strict)
      yield* Effect.exit(strict.withPermit(Effect.void))
      yield* Effect.exit(Effect.scoped(strict.acquire))
      expect(told).toEqual(["admit 1", "reject 1", "reject 1"])
      const limiter = yield* AdaptiveConcurrency.make({
        name: "b",
        algorithm: Limit.aimd({ initialLimit: 1, minLimit: 1, increaseRate: 0.4 })
      })
      for (let i = 0; i < 10; i++) {
        yield* limiter.withPermit(Effect.void)
        expect(Number.isInteger((yield* limiter.state).limit)).toBe(true)
      }
    }))

  it.scoped("W-A9: a permit that is taken by hand comes back when its caller is cut off", () =>
    Effect.gen(function*() {
      const limiter = yield* AdaptiveConcurrency.make({ name: "a", algorithm: Limit.fixed(2) })
      for (let i = 0; i < 3; i++) {
        const call = yield* Effect.fork(
          Effect.timeout(Effect.scoped(Effect.zipRight(limiter.acquire, Effect.never)), "1 second")
        )
        yield* TestClock.adjust("1 second")
        yield* Fiber.await(call)
      }
      expect(yield* limiter.metrics).toMatchObject({ active: 0, admitted: 3, ignored: 3 })
    }))
})
