import {
  Bulkhead,
  CircuitBreaker,
  CircuitOpenError,
  classify,
  EventBus,
  EventLog,
  Fallback,
  Priority,
  Registry,
  Resilience,
  ResilienceError,
  ResilienceEvent,
  ResilienceLive,
  Retry,
  Timeout
} from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Arbitrary,
  Cause,
  Duration,
  Effect,
  Exit,
  FastCheck as fc,
  Fiber,
  HashMap,
  Layer,
  Logger,
  LogLevel,
  Metric,
  MetricState,
  Option,
  Queue,
  Ref,
  Schema,
  Stream,
  TestClock
} from "effect"
import { Hub } from "../src/internal/hub.js"

const settle = Effect.repeatN(Effect.yieldNow(), 5)
const fail = Effect.fail("down")

class Payments extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 1 }) {}
class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 2 }) {}
const patterns = Layer.mergeAll(Payments.Live, Reports.Live, Retry.Live, Timeout.Live, Fallback.Live)
const app = patterns.pipe(Layer.provideMerge(ResilienceLive))

describe("events", () => {
  it.effect("a subscription is registered when subscribe returns", () =>
    Effect.scoped(Effect.gen(function*() {
      const queue = yield* Payments.subscribe
      yield* Effect.exit(Payments.withBreaker(fail))
      expect((yield* Queue.take(queue))._tag).toBe("CallFailed")
    })).pipe(Effect.provide(app)))

  it.effect("all instances reach the bus, each in the order of its transitions", () =>
    Effect.scoped(Effect.gen(function*() {
      const queue = yield* EventBus.subscribe
      yield* Effect.exit(fail.pipe(Reports.withPermit, Payments.withBreaker))
      yield* settle
      const events = [...(yield* Queue.takeAll(queue))]
      const of = (pattern: string) => events.filter((event) => event.pattern === pattern).map((event) => event._tag)
      expect(of("Bulkhead")).toEqual(["PermitAcquired", "PermitReleased"])
      expect(of("CircuitBreaker")).toEqual(["CallFailed", "StateChanged"])
    })).pipe(Effect.provide(app)))

  it.effect("a handler for one tag sees only that, a handler for all sees all", () =>
    Effect.scoped(Effect.gen(function*() {
      const one = yield* Ref.make<ReadonlyArray<string>>([])
      const all = yield* Ref.make<ReadonlyArray<string>>([])
      yield* Payments.on("StateChanged", (event) => Ref.update(one, (log) => [...log, event.to]))
      yield* Payments.on("*", (event) => Ref.update(all, (log) => [...log, event._tag]))
      yield* Effect.exit(Payments.withBreaker(fail))
      yield* settle
      expect(yield* Ref.get(one)).toEqual(["Open"])
      expect(yield* Ref.get(all)).toEqual(["CallFailed", "StateChanged"])
    })).pipe(Effect.provide(app)))

  it.effect("a stream of events begins when it is run", () =>
    Effect.gen(function*() {
      const first = yield* Effect.fork(Stream.runHead(Payments.events))
      yield* settle
      yield* Effect.exit(Payments.withBreaker(fail))
      expect(Option.map(yield* Fiber.join(first), ({ _tag }) => _tag)).toEqual(Option.some("CallFailed"))
    }).pipe(Effect.provide(app)))

  it.effect("as a layer", () =>
    Effect.gen(function*() {
      const seen = yield* Ref.make(0)
      const watching = Payments.onLayer("StateChanged", () => Ref.update(seen, (n) => n + 1))
      const program = Effect.zipRight(Effect.exit(Payments.withBreaker(fail)), settle)
      yield* Effect.provide(program, Layer.provideMerge(watching, app))
      expect(yield* Ref.get(seen)).toBe(1)
    }))

  it.effect("nobody listening: no event is built", () =>
    Effect.scoped(Effect.gen(function*() {
      const bus = yield* EventBus
      const hub = bus.hub as Hub<ResilienceEvent>
      for (let i = 0; i < 100; i++) {
        yield* Effect.exit(fail.pipe(Timeout.withTimeout, Reports.withPermit, Payments.withBreaker))
      }
      expect(hub.published).toBe(0)
      yield* Effect.scoped(Effect.zipRight(EventBus.subscribe, Effect.exit(Payments.withBreaker(fail))))
      const published = hub.published
      expect(published).toBeGreaterThan(0)
      yield* Effect.exit(Payments.withBreaker(fail))
      expect(hub.published).toBe(published)
      expect(yield* bus.subscribers).toBe(0)
    })).pipe(Effect.provide(app)))

  it.effect("a subscriber that takes nothing loses its own oldest events, counts them, and costs nobody else any", () =>
    Effect.scoped(Effect.gen(function*() {
      const sleeping = yield* Reports.subscribe
      let heard = 0
      yield* Reports.on("*", () => Effect.sync(() => heard++))
      for (let i = 0; i < 500; i++) {
        yield* Reports.withPermit(Effect.void)
        yield* settle
      }
      yield* settle
      expect(heard).toBe(1000)
      expect(yield* sleeping.dropped).toBe(1000 - 256)
      expect((yield* Queue.takeAll(sleeping)).length).toBe(256)
    })).pipe(Effect.provide(app)))

  it.effect("a subscriber that dies is reported and goes on, and nobody else notices", () =>
    Effect.scoped(Effect.gen(function*() {
      const seen: Array<string> = []
      yield* Reports.on("PermitAcquired", () => Effect.die("listener"))
      yield* Reports.on("*", (event) => Effect.sync(() => seen.push(event._tag)))
      expect(yield* Reports.withPermit(Effect.succeed(1))).toBe(1)
      expect(yield* Reports.withPermit(Effect.succeed(2))).toBe(2)
      yield* settle
      expect(seen.filter((tag) => tag === "InternalError")).toHaveLength(2)
      expect(seen.filter((tag) => tag === "PermitReleased")).toHaveLength(2)
    })).pipe(Effect.provide(app), Effect.provide(Logger.remove(Logger.defaultLogger))))

  it.scoped("what one burst exceeds is dropped and counted, never waited for", () =>
    Effect.gen(function*() {
      const hub = yield* Hub.make<number>(4)
      yield* hub.subscribe
      for (let i = 0; i < 10; i++) hub.unsafeOffer(i)
      expect([hub.published, hub.dropped]).toEqual([10, 6])
    }))

  it("every event survives the wire", () => {
    const encode = Schema.encodeSync(ResilienceEvent)
    const decode = Schema.decodeUnknownSync(ResilienceEvent)
    fc.assert(
      fc.property(Arbitrary.make(Schema.typeSchema(ResilienceEvent)), (event) => {
        const wire = JSON.parse(JSON.stringify(encode(event)))
        const { _tag, instance, pattern } = decode(wire)
        expect({ _tag, instance, pattern }).toEqual({
          _tag: event._tag,
          instance: event.instance,
          pattern: event.pattern
        })
      }),
      { numRuns: 1000 }
    )
  })
})

describe("registry", () => {
  it.effect("layers side by side do not see each other; ResilienceLive outermost does it", () =>
    Effect.gen(function*() {
      const count = Effect.map(Registry.snapshot, ({ instances }) => instances.length)
      const needs = Effect.zipLeft(count, Payments.state)
      expect(yield* Effect.provide(needs, Layer.mergeAll(Payments.Live, ResilienceLive))).toBe(0)
      expect(yield* Effect.provide(needs, Payments.Live.pipe(Layer.provideMerge(ResilienceLive)))).toBe(1)
    }))

  it.effect("shows how many instances it cannot see, and how to wire them", () =>
    Effect.gen(function*() {
      const read = Effect.zipLeft(Registry.snapshot, Payments.state)
      const before = (yield* Effect.provide(Registry.snapshot, ResilienceLive)).unregistered
      const { hint, unregistered } = yield* Effect.provide(read, Layer.mergeAll(Payments.Live, ResilienceLive))
      expect(unregistered).toBe(before + 1)
      expect(hint).toContain("Layer.provideMerge(ResilienceLive)")
      expect((yield* Effect.provide(Registry.snapshot, ResilienceLive)).unregistered).toBe(before)
    }))

  it.effect("a second live instance of one name is reported with both places", () => {
    const logged: Array<string> = []
    const logger = Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => logged.push(String(message))))
    return Effect.gen(function*() {
      yield* Effect.scoped(
        Effect.zip(Bulkhead.make({ name: "twin" }), Bulkhead.make({ name: "twin" })).pipe(
          Effect.zipRight(Registry.snapshot),
          Effect.tap(({ duplicates }) => expect(duplicates).toEqual([{ pattern: "Bulkhead", instance: "twin" }]))
        )
      )
      expect(logged).toHaveLength(1)
      expect(logged[0]!.match(/house\.test\.ts/g)).toHaveLength(2)
    }).pipe(Effect.provide(ResilienceLive), Effect.provide(logger))
  })
})

describe("event log", () => {
  const collect = () => {
    const records: Array<{ readonly level: string; readonly message: string; readonly annotations: object }> = []
    const logger = Logger.make(({ annotations, logLevel, message }) => {
      records.push({
        level: logLevel.label,
        message: String(message),
        annotations: Object.fromEntries(HashMap.toEntries(annotations))
      })
    })
    return { records, layer: Logger.replace(Logger.defaultLogger, logger) }
  }
  const breaks = Effect.zipRight(Effect.exit(Payments.withBreaker(fail)), settle)

  it.effect("one record per event, at the event's level", () => {
    const { layer, records } = collect()
    return Effect.gen(function*() {
      const log = EventLog.layer({ annotations: { service: "shop" } })
      yield* Effect.provide(breaks, Layer.provideMerge(log, app))
      expect(records).toMatchObject([{
        level: "WARN",
        message: `CircuitBreaker "payments": StateChanged`,
        annotations: { "resilience.name": "payments", to: "Open", service: "shop" }
      }])
    }).pipe(Effect.provide(layer), Logger.withMinimumLogLevel(LogLevel.Info))
  })

  it.effect("leaves out what the filter leaves out, and takes another level", () => {
    const { layer, records } = collect()
    return Effect.gen(function*() {
      const log = EventLog.layer({ filter: (event) => event._tag === "CallFailed", level: LogLevel.Error })
      yield* Effect.provide(breaks, Layer.provideMerge(log, app))
      expect(records.map(({ level, message }) => [level, message])).toEqual([
        ["ERROR", `CircuitBreaker "payments": CallFailed`]
      ])
    }).pipe(Effect.provide(layer))
  })

  it.effect("feeds another logger, and writes what is queued when it closes", () => {
    const { layer } = collect()
    return Effect.gen(function*() {
      const seen: Array<readonly [string, unknown]> = []
      const sink = EventLog.layerSink((record, cause) =>
        Effect.sync(() => {
          seen.push([record.event._tag, Option.getOrUndefined(Cause.failureOption(cause))])
          if (seen.length === 1) throw new Error("sink")
        })
      )
      yield* Effect.provide(Effect.exit(Payments.withBreaker(fail)), Layer.provideMerge(sink, app))
      expect(seen).toEqual([
        ["CallFailed", "down"],
        ["StateChanged", undefined],
        ["InternalError", new Error("sink")]
      ])
    }).pipe(Effect.provide(layer))
  })

  it.effect("without it nothing is logged", () => {
    const { layer, records } = collect()
    return Effect.gen(function*() {
      yield* Effect.provide(breaks, app)
      expect(records).toEqual([])
    }).pipe(Effect.provide(layer), Logger.withMinimumLogLevel(LogLevel.All))
  })
})

describe("metrics", () => {
  const value = (name: string, tags: Record<string, string>) =>
    Effect.map(Metric.snapshot, (pairs) => {
      const pair = [...pairs].find(({ metricKey }) =>
        metricKey.name === name &&
        Object.entries(tags).every(([key, value]) =>
          [...metricKey.tags].some((tag) => tag.key === key && tag.value === value)
        )
      )
      const state = pair?.metricState
      return MetricState.isCounterState(state)
        ? Number(state.count)
        : MetricState.isGaugeState(state)
        ? Number(state.value)
        : undefined
    })

  it.scoped("count calls by outcome, rejections by reason, and show the state, per instance", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "metered", consecutiveFailures: 2 })
      const tags = { "resilience.pattern": "CircuitBreaker", "resilience.name": "metered" }
      yield* breaker.withBreaker(Effect.void)
      for (let i = 0; i < 5; i++) yield* Effect.exit(breaker.withBreaker(fail))
      expect(yield* value("resilience.calls", { ...tags, outcome: "success" })).toBe(1)
      expect(yield* value("resilience.calls", { ...tags, outcome: "failure" })).toBe(2)
      expect(yield* value("resilience.calls", { ...tags, outcome: "rejected" })).toBe(3)
      expect(yield* value("resilience.rejections", { ...tags, reason: "open" })).toBe(3)
      expect(yield* value("resilience.circuit_breaker.state", { ...tags, state: "open" })).toBe(1)
      expect(yield* value("resilience.circuit_breaker.state", { ...tags, state: "closed" })).toBe(0)
      const cause = "consecutive_failures"
      expect(yield* value("resilience.circuit_breaker.transitions", { ...tags, from: "closed", to: "open", cause }))
        .toBe(1)
    }))

  it.scoped("show limit, use and queue of a bulkhead", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "metered", maxConcurrent: 3 })
      const tags = { "resilience.pattern": "Bulkhead", "resilience.name": "metered" }
      const call = yield* Effect.fork(bulkhead.withPermit(Effect.never))
      yield* settle
      expect(yield* value("resilience.bulkhead.limit", tags)).toBe(3)
      expect(yield* value("resilience.bulkhead.in_use", tags)).toBe(1)
      yield* Fiber.interrupt(call)
      expect(yield* value("resilience.bulkhead.in_use", tags)).toBe(0)
    }))

  it.scoped("a key is never a label", () =>
    Effect.gen(function*() {
      class Keys extends CircuitBreaker.Keyed<Keys>()("labelled") {}
      yield* Effect.provide(Keys.withBreakerBy({ key: "customer-4711" })(Effect.void), Keys.Live)
      const labels = [...(yield* Metric.snapshot)].flatMap(({ metricKey }) =>
        [...metricKey.tags].map(({ value }) => value)
      )
      expect(labels).toContain("labelled")
      expect(labels.some((label) => label.includes("4711"))).toBe(false)
    }))
})

describe("errors and outcomes", () => {
  it.effect("ours are told from the user's", () =>
    Effect.gen(function*() {
      yield* Effect.exit(Payments.withBreaker(fail))
      const error = yield* Effect.flip(Payments.withBreaker(Effect.void))
      expect([ResilienceError.is(error), ResilienceError.isRejection(error)]).toEqual([true, true])
      expect([ResilienceError.is(new Error("x")), ResilienceError.is({ _tag: "CircuitOpenError" })]).toEqual([
        false,
        false
      ])
      expect(error).toBeInstanceOf(Error)
      expect((error as CircuitOpenError).name).toBe("CircuitOpenError")
    }).pipe(Effect.provide(app)))

  it.effect("what an exit means by default", () =>
    Effect.gen(function*() {
      const rejected = new CircuitOpenError({ instance: "x", state: "Open", reason: "Open", retryAfter: Option.none() })
      const rows: ReadonlyArray<readonly [Exit.Exit<unknown, unknown>, string]> = [
        [Exit.succeed(1), "success"],
        [Exit.fail("no"), "failure"],
        [Exit.die("bug"), "failure"],
        [yield* Effect.exit(Effect.interrupt), "ignored"],
        [Exit.fail(rejected), "ignored"],
        [Exit.failCause(Cause.parallel(Cause.fail(rejected), Cause.fail("no"))), "failure"],
        [Exit.failCause(Cause.parallel(Cause.fail(rejected), Cause.fail(rejected))), "ignored"],
        [Exit.failCause(Cause.sequential(Cause.fail(rejected), Cause.die("bug"))), "failure"]
      ]
      for (const [exit, outcome] of rows) expect(classify(exit)).toBe(outcome)
    }))

  it.effect("priority is read where it is set, and inherited by what is forked", () =>
    Effect.gen(function*() {
      expect(yield* Priority).toBe("normal")
      const inside = yield* Effect.flatMap(Effect.fork(Priority), Fiber.join).pipe(Priority.within("high"))
      expect(inside).toBe("high")
      expect(yield* Priority).toBe("normal")
      expect([...Priority.levels].sort(Priority.Order)).toEqual([...Priority.levels].reverse())
    }))
})

describe("tags", () => {
  it("a layer is built once: Live is one reference, and layer() is Live", () => {
    expect(Payments.layer()).toBe(Payments.Live)
    expect(Payments.key).toBe("@effect-resilience/CircuitBreaker/payments")
  })

  it.effect("layer(options) lays options over the tag's own, and undefined does not win", () =>
    Effect.gen(function*() {
      const layer = Reports.layer({ maxConcurrent: undefined, maxQueued: 3 })
      expect(yield* Effect.provide(Reports.metrics, layer)).toMatchObject({ limit: 2, queueLimit: 3 })
    }))

  it.effect("layerNoop lets everything through and records nothing", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 9; i++) yield* Effect.exit(Payments.withBreaker(fail))
      expect(yield* Payments.withBreaker(Effect.succeed(1))).toBe(1)
      expect(yield* Payments.metrics).toMatchObject({ offered: 0, rejected: 0 })
    }).pipe(Effect.provide(Payments.layerNoop)))

  it.effect("guards decorate functions", () =>
    Effect.gen(function*() {
      const charge = Effect.fn("charge")(
        function*(id: string, cents: number) {
          return yield* Effect.succeed(`${id}: ${cents}`)
        },
        Timeout.withTimeout,
        Reports.withPermit,
        Payments.withBreaker,
        Retry.withRetry
      )
      expect(yield* charge("a", 5)).toBe("a: 5")
      expect((yield* Reports.metrics).succeeded).toBe(1)
    }).pipe(Effect.provide(app)))
})

describe("the standard chain", () => {
  it.scoped("protects a call in one line", () =>
    Effect.gen(function*() {
      const chain = yield* Resilience.standard({
        name: "pay",
        timeout: "1 second",
        retry: { maxAttempts: 2, jitter: "none" },
        circuitBreaker: { consecutiveFailures: 4 }
      })
      let calls = 0
      const hanging = Effect.zipRight(Effect.sync(() => calls++), Effect.never).pipe(chain.protect)
      const first = yield* Effect.fork(Effect.flip(hanging))
      yield* TestClock.adjust("3 seconds")
      expect((yield* Fiber.join(first))._tag).toBe("TimeoutExceededError")
      const second = yield* Effect.fork(Effect.flip(hanging))
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(second)
      expect((yield* Effect.flip(hanging))._tag).toBe("CircuitOpenError")
      expect(calls).toBe(4)
      expect(yield* chain.bulkhead.metrics).toMatchObject({ active: 0 })
    }))

  it.scoped("leaves parts out", () =>
    Effect.gen(function*() {
      const chain = yield* Resilience.standard({
        name: "bare",
        circuitBreaker: false,
        retry: false,
        bulkhead: false,
        timeout: false,
        deadline: "1 second"
      })
      const call = yield* Effect.fork(Effect.flip(chain.protect(Effect.never)))
      yield* TestClock.adjust("1 second")
      expect((yield* Fiber.join(call))._tag).toBe("DeadlineExceededError")
      expect(chain.circuitBreaker).toBe(undefined)
    }))
})

describe("faults of others", () => {
  it.scoped("W-E1: a slow listener adds nothing to a call, and cancelling the call loses no event", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      yield* bulkhead.on("*", () => Effect.sleep("1 hour"))
      const queue = yield* bulkhead.subscribe
      const before = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      expect(yield* bulkhead.withPermit(Effect.succeed(1))).toBe(1)
      expect(yield* Effect.clockWith((clock) => clock.currentTimeMillis)).toBe(before)
      const call = yield* Effect.fork(bulkhead.withPermit(Effect.never))
      yield* settle
      yield* Fiber.interrupt(call)
      yield* settle
      expect((yield* Queue.takeAll(queue)).length).toBe(4)
    }))

  it.scoped("W-E2: a listener that is interrupted does not interrupt the call", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      yield* bulkhead.on("PermitAcquired", () => Effect.interrupt)
      expect(yield* bulkhead.withPermit(Effect.succeed(1))).toBe(1)
      yield* settle
      expect(yield* bulkhead.withPermit(Effect.succeed(2))).toBe(2)
    }))

  it.scoped("W-E3: a listener that waits for ever holds nothing that calls need", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      yield* breaker.on("*", () => Effect.never)
      yield* Effect.exit(breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Open")
      yield* breaker.reset
      expect(yield* breaker.withBreaker(Effect.succeed(1))).toBe(1)
    }))

  it.scoped("W-E4: a synchronous listener just runs", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      let heard = 0
      yield* bulkhead.on("PermitAcquired", () => Effect.sync(() => heard++))
      yield* bulkhead.withPermit(Effect.void)
      yield* settle
      expect(heard).toBe(1)
    }))

  it.effect("W-E5, W-E6: a listener on the bus is found by the name of the event", () =>
    Effect.scoped(Effect.gen(function*() {
      const names: Array<string> = []
      yield* EventBus.on("StateChanged", (event) => Effect.sync(() => names.push(event.instance)))
      yield* Effect.exit(Payments.withBreaker(fail))
      yield* settle
      expect(names).toEqual(["payments"])
    })).pipe(Effect.provide(app)))

  it.effect("W-E7: when the last listener is gone nothing is paid for events any more", () =>
    Effect.scoped(Effect.gen(function*() {
      const bus = yield* EventBus
      yield* Effect.scoped(Effect.zipRight(EventBus.on("*", () => Effect.void), Reports.withPermit(Effect.void)))
      const { published } = bus.hub as Hub<ResilienceEvent>
      yield* Reports.withPermit(Effect.void)
      expect((bus.hub as Hub<ResilienceEvent>).published).toBe(published)
    })).pipe(Effect.provide(app)))

  it.scoped("W-E8: events have a stable name, a call id, the span and the error itself", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "stable" })
      const queue = yield* breaker.subscribe
      const error = new Error("down")
      yield* Effect.exit(breaker.withBreaker(Effect.fail(error)).pipe(Effect.withSpan("call")))
      const event = yield* Queue.take(queue)
      expect(event).toMatchObject({ _tag: "CallFailed", instance: "stable", callId: 1, error, duration: Duration.zero })
      expect(event).toHaveProperty("traceId", expect.any(String))
    }))

  it.scoped("W-E9: events are a stream", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      const three = yield* Effect.fork(Stream.runCollect(Stream.take(bulkhead.events, 3)))
      yield* settle
      yield* Effect.repeatN(bulkhead.withPermit(Effect.void), 1)
      expect((yield* Fiber.join(three)).length).toBe(3)
    }))

  it.effect("W-X1: mapping an error of ours is plain, typed mapping", () =>
    Effect.gen(function*() {
      yield* Effect.exit(Payments.withBreaker(fail))
      const mapped = Payments.withBreaker(Effect.void).pipe(
        Effect.catchTag("CircuitOpenError", (error) => Effect.fail(`closed for ${error.instance}`))
      )
      expect(yield* Effect.flip(mapped)).toBe("closed for payments")
    }).pipe(Effect.provide(app)))

  it.scoped("W-X2: every reason of a rejection can be had", () =>
    Effect.gen(function*() {
      // Those of the breaker and the bulkhead have tests of their own; here: none is left over.
      const reasons = ["Open", "HalfOpenFull", "RampUp", "ForcedOpen", "TooManyKeys"]
      expect(CircuitOpenError.fields.reason.literals).toEqual(reasons)
    }))

  it.effect("W-X3: a failing listener is seen where nobody logs events", () => {
    const logged: Array<string> = []
    const logger = Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ logLevel, message }) => {
        logged.push(`${logLevel.label} ${String(message)}`)
      })
    )
    return Effect.scoped(Effect.gen(function*() {
      yield* Reports.on("PermitAcquired", () => Effect.fail("listener"))
      yield* Reports.withPermit(Effect.void)
      yield* settle
      expect(logged.some((line) => line.startsWith("WARN") && line.includes(`Bulkhead "reports"`))).toBe(true)
    })).pipe(Effect.provide(app), Effect.provide(logger))
  })

  it.effect("W-X4: the library logs through the program's own logger", () => {
    const logged: Array<unknown> = []
    const logger = Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => logged.push(message)))
    return Effect.provide(
      Effect.zipRight(Effect.exit(Payments.withBreaker(fail)), settle),
      Layer.provideMerge(EventLog.layer({ level: LogLevel.Info }), app)
    ).pipe(Effect.provide(logger), Effect.tap(() => expect(logged.length).toBeGreaterThan(0)))
  })

  it("W-X6: a module and what it exports do not shadow each other", async () => {
    const module = await import("@effect-resilience/core/Retry")
    expect(module.Retry).toBe(Retry)
  })

  it.effect("W-X7: what is registered ends with its scope", () =>
    Effect.gen(function*() {
      for (let i = 0; i < 50; i++) yield* Effect.scoped(Bulkhead.make({ name: `b${i}` }))
      expect(yield* Registry.list).toHaveLength(0)
    }).pipe(Effect.provide(ResilienceLive)))

  it.scoped("W-G4, W-G5: patterns compose by pipe, and every held thing is held by one skeleton", () =>
    Effect.gen(function*() {
      const chain = yield* Resilience.standard({ name: "all" })
      expect(yield* Effect.succeed(1).pipe(chain.protect)).toBe(1)
      for (const part of [chain.bulkhead, chain.circuitBreaker, chain.retry, chain.timeout]) {
        const { admitted, failed, ignored, running, succeeded } = yield* part.metrics
        expect(admitted).toBe(succeeded + failed + ignored + running)
      }
    }))

  it.effect("W-G6: one line gives a snapshot of everything", () =>
    Effect.gen(function*() {
      expect((yield* Registry.snapshot).instances).toHaveLength(5)
    }).pipe(Effect.provide(app)))
})
