import {
  AdaptiveConcurrency,
  Backpressure,
  Bulkhead,
  BulkheadFullError,
  CircuitBreaker,
  CircuitOpenError,
  Deadline,
  DeadlineExceededError,
  EventBus,
  EventLog,
  Fallback,
  FallbackFailedError,
  Limit,
  LoadShedder,
  RateLimiter,
  Registry,
  Resilience,
  ResilienceEvent,
  ResilienceLive,
  Retry,
  RetryResultRejectedError,
  SharedCircuits,
  Timeout,
  TimeoutExceededError
} from "@effect-resilience/core"
import { publish } from "@effect-resilience/core/extension"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Config,
  ConfigProvider,
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  LogLevel,
  Option,
  Queue,
  Random,
  Schema,
  SchemaAST,
  Scope,
  Stream,
  TestClock
} from "effect"
import { inspect } from "node:util"
import { resilienceFields } from "../src/Resilience.js"
import { makeManualClock } from "./utils/clock.js"
import { lentBulkhead } from "./utils/lender.js"
import { MemoryFleet } from "./utils/memoryFleet.js"

const settle = Effect.repeatN(Effect.yieldNow(), 5)
const fail = Effect.fail("down")

/** Collects what is logged. */
const logs = () => {
  const lines: Array<string> = []
  const layer = Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ cause, logLevel, message }) => {
      const text = (Array.isArray(message) ? message : [message]).map(String).join(" ")
      lines.push(`${logLevel.label} ${text}${Cause.isEmpty(cause) ? "" : ` | ${Cause.pretty(cause)}`}`)
    })
  )
  return { lines, layer }
}

describe("subscribers", () => {
  it.effect("a handler of all events that always fails is reported once per event, not for its own reports", () => {
    const { layer, lines } = logs()
    return Effect.scoped(Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      const queue = yield* bulkhead.subscribe
      yield* bulkhead.on("*", () => Effect.fail("listener"))
      yield* bulkhead.withPermit(Effect.void)
      yield* Effect.repeatN(Effect.yieldNow(), 200)
      const tags = [...(yield* Queue.takeAll(queue))].map(({ _tag }) => _tag)
      expect(tags.sort()).toEqual(["InternalError", "InternalError", "PermitAcquired", "PermitReleased"])
      // A warning for each of the four events that it failed on.
      expect(lines).toHaveLength(4)
    })).pipe(Effect.provide(layer))
  })

  it.effect("a handler on the bus that fails is an event too, and is not told of its own reports without end", () => {
    const { layer, lines } = logs()
    return Effect.scoped(Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      const queue = yield* EventBus.subscribe
      yield* EventBus.on("*", () => Effect.die("listener"))
      yield* bulkhead.withPermit(Effect.void)
      yield* Effect.repeatN(Effect.yieldNow(), 200)
      const events = [...(yield* Queue.takeAll(queue))]
      const reports = events.filter(({ _tag }) => _tag === "InternalError")
      expect(events).toHaveLength(4)
      expect(reports).toHaveLength(2)
      expect(reports[0]).toMatchObject({ pattern: "EventBus", source: "Subscriber", error: "listener" })
      // A warning for each of the four events that it failed on.
      expect(lines).toHaveLength(4)
      expect(lines[0]).toContain(`WARN EventBus "default": subscriber failed`)
    })).pipe(Effect.provide(ResilienceLive), Effect.provide(layer))
  })

  it.effect("a handler that throws before it returns an effect is reported, and goes on", () => {
    const { layer, lines } = logs()
    return Effect.scoped(Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      let seen = 0
      yield* bulkhead.on("PermitReleased", (): Effect.Effect<void> => {
        seen++
        throw new Error("listener")
      })
      yield* bulkhead.withPermit(Effect.void)
      yield* bulkhead.withPermit(Effect.void)
      yield* settle
      expect(seen).toBe(2)
      expect(lines).toHaveLength(2)
      expect(lines[0]).toContain(`WARN Bulkhead "b": subscriber failed`)
    })).pipe(Effect.provide(layer))
  })

  it.effect("W-E3: a handler may use the instance that it watches", () =>
    Effect.scoped(Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      const states: Array<string> = []
      yield* breaker.on("StateChanged", ({ to }) =>
        to !== "Open" ? Effect.void : Effect.zipRight(
          Effect.tap(breaker.state, (state) => Effect.sync(() => states.push(state))),
          breaker.reset
        ))
      yield* Effect.exit(breaker.withBreaker(fail))
      yield* settle
      expect(states).toEqual(["Open"])
      expect(yield* breaker.state).toBe("Closed")
    })))

  it("W-E5: an event that does not exist is a type error", () => {
    const watching = (bulkhead: Bulkhead.Service) => [
      // @ts-expect-error there is no such event
      bulkhead.on("SlotAcquired", () => Effect.void),
      // @ts-expect-error nor on the bus
      EventBus.on("SLOT_ACQUIRED", () => Effect.void),
      // @ts-expect-error and an event has no other pattern's fields
      bulkhead.on("Resized", (event) => Effect.succeed(event.retryAfter)),
      bulkhead.on("Resized", (event) => Effect.succeed(event.from))
    ]
    expect(watching).toBeInstanceOf(Function)
  })

  it.effect("W-E7: a subscription ends with its scope, on the instance as on the bus", () =>
    Effect.scoped(Effect.gen(function*() {
      const bus = yield* EventBus
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      yield* Effect.scoped(Effect.gen(function*() {
        yield* EventBus.subscribe
        expect([yield* EventBus.subscribers, yield* EventBus.dropped]).toEqual([1, 0])
      }))
      for (let i = 0; i < 10; i++) {
        yield* Effect.scoped(Effect.all([
          EventBus.subscribe,
          EventBus.on("*", () => Effect.void),
          bulkhead.on("*", () => Effect.never)
        ]))
      }
      expect(yield* EventBus.subscribers).toBe(0)
      yield* bulkhead.withPermit(Effect.void)
      expect(bus.hub.published).toBe(0)
    })).pipe(Effect.provide(EventBus.Live)))

  it.effect("a stream of events ends with its instance, and has first what was queued", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const bulkhead = yield* Scope.extend(Bulkhead.make({ name: "b" }), scope)
      const events = yield* Effect.fork(Stream.runCollect(bulkhead.events))
      const slow = yield* Effect.fork(
        bulkhead.events.pipe(Stream.tap(() => Effect.sleep("1 second")), Stream.runCount)
      )
      yield* settle
      for (let i = 0; i < 50; i++) yield* bulkhead.withPermit(Effect.void)
      // Nobody has yielded: some of it is still in the hub.
      yield* Scope.close(scope, Exit.void)
      expect((yield* Fiber.join(events)).length).toBe(100)
      yield* TestClock.adjust("100 seconds")
      expect(yield* Fiber.join(slow)).toBe(100)
      expect((yield* Stream.runCollect(bulkhead.events)).length).toBe(0)
    }))

  it.effect("a stream of all events ends with the bus", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(EventBus.Live, scope)
      const events = yield* Effect.fork(Effect.provide(Stream.runCollect(EventBus.events), context))
      yield* settle
      yield* Effect.provide(
        Effect.scoped(Effect.flatMap(Bulkhead.make({ name: "b" }), (b) => b.withPermit(Effect.void))),
        context
      )
      yield* Scope.close(scope, Exit.void)
      expect([...(yield* Fiber.join(events))].map(({ _tag }) => _tag)).toEqual(["PermitAcquired", "PermitReleased"])
    }))

  it.scoped("a subscription outlives its instance by what it holds, then whoever takes is interrupted", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const bulkhead = yield* Scope.extend(Bulkhead.make({ name: "b" }), scope)
      const [one, some, empty] = yield* Effect.all([bulkhead.subscribe, bulkhead.subscribe, bulkhead.subscribe])
      yield* bulkhead.withPermit(Effect.void)
      yield* settle
      yield* Queue.takeAll(empty)
      const waiting = yield* Effect.fork(Queue.take(empty))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      expect(Exit.isInterrupted(yield* Fiber.await(waiting))).toBe(true)
      expect([yield* one.isShutdown, yield* one.size]).toEqual([false, 2])
      expect((yield* one)._tag).toBe("PermitAcquired")
      expect((yield* Queue.take(one))._tag).toBe("PermitReleased")
      expect(yield* one.isShutdown).toBe(true)
      expect(Exit.isInterrupted(yield* Fiber.await(yield* Effect.fork(Queue.take(one))))).toBe(true)
      // Fewer than asked for: there will be no more.
      expect((yield* Queue.takeBetween(some, 3, 5)).length).toBe(2)
      expect(yield* some.isShutdown).toBe(true)
    }))

  it.scoped("a handler hears what was queued when its instance ended", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const bulkhead = yield* Scope.extend(Bulkhead.make({ name: "b" }), scope)
      let heard = 0
      yield* bulkhead.on("*", () => Effect.zipRight(Effect.sleep("1 second"), Effect.sync(() => heard++)))
      for (let i = 0; i < 5; i++) yield* bulkhead.withPermit(Effect.void)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("20 seconds")
      expect(heard).toBe(10)
    }))

  it.effect("a bus that ends before the log leaves it what is queued", () =>
    Effect.gen(function*() {
      const [bus, log] = yield* Effect.all([Scope.make(), Scope.make()])
      const context = yield* Layer.buildWithScope(EventBus.Live, bus)
      const written: Array<string> = []
      const sink = EventLog.layerSink(({ event }) => Effect.sync(() => written.push(event._tag)))
      yield* Effect.provide(Layer.buildWithScope(sink, log), context)
      yield* Effect.provide(
        Effect.scoped(Effect.flatMap(Bulkhead.make({ name: "b" }), (b) => b.withPermit(Effect.void))),
        context
      )
      yield* Scope.close(bus, Exit.void)
      yield* settle
      expect(Exit.isSuccess(yield* Effect.exit(Scope.close(log, Exit.void)))).toBe(true)
      expect(written).toEqual(["PermitAcquired", "PermitReleased"])
    }))

  it.effect("W-E8: the events of a call share its id, and calls have different ones", () =>
    Effect.scoped(Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      const queue = yield* bulkhead.subscribe
      yield* TestClock.adjust("1 minute")
      yield* bulkhead.withPermit(TestClock.adjust("3 seconds"))
      yield* bulkhead.withPermit(Effect.void)
      yield* settle
      const events = [...(yield* Queue.takeAll(queue))]
      expect(events.map(({ callId }) => callId)).toEqual([1, 1, 2, 2])
      expect(events.map(({ timestamp }) => timestamp)).toEqual([60_000, 63_000, 63_000, 63_000])
      expect(events[1]).toMatchObject({ held: Duration.seconds(3) })
    })))

  it.effect("a burst that fills a subscription loses the oldest, and the count is exact", () =>
    Effect.scoped(Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b" })
      const queue = yield* bulkhead.subscribe
      // Two events per call, in one go: nobody yields.
      for (let i = 0; i < 150; i++) yield* bulkhead.withPermit(Effect.void)
      yield* settle
      expect(yield* queue.dropped).toBe(300 - 256)
      const events = [...(yield* Queue.takeAll(queue))]
      expect([events.length, events[0]?.callId, events.at(-1)?.callId]).toEqual([256, 23, 150])
    })))

  it.effect("a prompt handler keeps up with calls that make several events a turn, and so does the log", () =>
    Effect.gen(function*() {
      let heard = 0
      let written = 0
      const sink = EventLog.layerSink(() => Effect.sync(() => written++))
      yield* Effect.provide(
        Effect.scoped(Effect.gen(function*() {
          const bulkhead = yield* Bulkhead.make({ name: "b" })
          yield* bulkhead.on("*", () => Effect.sync(() => heard++))
          for (let i = 0; i < 1000; i++) yield* Effect.zipRight(bulkhead.withPermit(Effect.void), Effect.yieldNow())
          yield* settle
        })),
        Layer.provideMerge(sink, ResilienceLive)
      )
      expect([heard, written]).toEqual([2000, 2000])
    }))

  it.effect("a call has the same result with a subscriber that sleeps, dies or is interrupted", () => {
    const { layer } = logs()
    return Effect.scoped(Effect.gen(function*() {
      const handlers = [Effect.void, Effect.never, Effect.die("x"), Effect.interrupt, Effect.fail("x")]
      const seen: Array<string> = []
      for (const [i, handler] of handlers.entries()) {
        const breaker = yield* CircuitBreaker.make({
          name: `b${i}`,
          consecutiveFailures: 2,
          openDuration: "5 seconds"
        })
        const other: Array<string> = []
        yield* breaker.on("*", () => handler)
        yield* breaker.on("CallFailed", ({ error }) => Effect.sync(() => other.push(String(error))))
        yield* breaker.on("StateChanged", ({ to }) => Effect.sync(() => other.push(to)))
        const results: Array<unknown> = []
        for (const call of [Effect.succeed(1), Effect.fail("a"), Effect.fail("b"), Effect.succeed(2)]) {
          results.push(yield* Effect.merge(Effect.mapError(breaker.withBreaker(call), String)))
        }
        yield* settle
        seen.push(JSON.stringify([results, other.sort()]).replaceAll(`b${i}`, "b"))
      }
      expect(new Set(seen).size).toBe(1)
      expect(seen[0]).toContain("Open")
    })).pipe(Effect.provide(layer))
  })
})

describe("nobody listening", () => {
  class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts", { maxKeys: 1, onFull: "admit" }) {}
  class Tenants extends Bulkhead.Keyed<Tenants>()("tenants", { maxConcurrent: 1, maxQueued: 0, maxKeys: 1 }) {}

  const tagsOf = (ast: SchemaAST.AST): Set<string> => {
    if (SchemaAST.isUnion(ast)) return new Set(ast.types.flatMap((type) => [...tagsOf(type)]))
    const tag = SchemaAST.getPropertySignatures(ast).find(({ name }) => name === "_tag")
    return new Set(tag !== undefined && SchemaAST.isLiteral(tag.type) ? [String(tag.type.literal)] : [])
  }

  /** Makes every event there is happen. */
  const everything = Effect.gen(function*() {
    const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 2, openDuration: "5 seconds" })
    const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 0 })
    const retry = yield* Retry.make({ name: "r", maxAttempts: 2, initialDelay: 0 })
    const timeout = yield* Timeout.make({ name: "t", duration: "1 second" })
    const fallback = yield* Fallback.make({ name: "f" })

    const fleet = yield* MemoryFleet.make()
    yield* Effect.provideService(CircuitBreaker.make({ name: "one of a fleet" }), SharedCircuits, fleet)
    yield* fleet.tell("Open", { left: 10 })

    yield* breaker.withBreaker(Effect.void)
    yield* Effect.exit(breaker.withBreaker(Effect.interrupt))
    yield* Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 2)
    yield* TestClock.adjust("5 seconds")
    yield* Effect.repeatN(breaker.withBreaker(Effect.void), 1)
    yield* breaker.metricsOnly
    yield* Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 2)
    yield* breaker.reset

    const held = yield* Effect.fork(bulkhead.withPermit(Effect.never))
    yield* settle
    yield* Effect.exit(bulkhead.withPermit(Effect.void))
    yield* Fiber.interrupt(held)
    yield* bulkhead.resize(2)

    let n = 0
    yield* Effect.suspend(() => n++ === 0 ? fail : Effect.void).pipe(retry.withRetry)
    yield* Effect.exit(retry.withRetry(fail))

    yield* timeout.withTimeout(Effect.void)
    const late = yield* Effect.fork(Effect.exit(timeout.withTimeout(Effect.never)))
    yield* TestClock.adjust("1 second")
    yield* Fiber.join(late)

    yield* fail.pipe(fallback.chain(1))
    yield* Effect.exit(fail.pipe(fallback.chain(fail)))

    const limiter = yield* RateLimiter.make({ name: "l", rate: "1/minute" })
    yield* limiter.withLimit(Effect.void)
    yield* Effect.exit(limiter.withLimit(Effect.void))
    yield* limiter.setRate("2/minute")

    const shedder = yield* LoadShedder.make({ name: "s", maxInFlight: 1, maxQueueDepth: 0 })
    yield* shedder.withShedding(Effect.exit(shedder.withShedding(Effect.void)))

    const pressure = yield* Backpressure.make({ name: "p", maxPending: 1, maxWaiters: 0 })
    yield* pressure.withBackpressure(Effect.exit(pressure.withBackpressure(Effect.void)))

    const concurrency = yield* AdaptiveConcurrency.make({ name: "c", algorithm: Limit.fixed(1), maxQueued: 0 })
    yield* concurrency.withPermit(Effect.exit(concurrency.withPermit(Effect.void)))
    const learning = yield* AdaptiveConcurrency.make({ name: "d" })
    yield* learning.setLimit(7)

    yield* Effect.fork(Tenants.withPermitBy({ key: "a" })(Effect.never))
    yield* settle
    yield* Effect.exit(Tenants.withPermitBy({ key: "b" })(Effect.void))
    yield* Effect.repeatN(Effect.exit(Hosts.withBreakerBy({ key: "a" })(fail)), 9)
    yield* Hosts.withBreakerBy({ key: "b" })(Effect.void)
    yield* publish(yield* EventBus, () => ({
      _tag: "LeaseLost",
      pattern: "Bulkhead",
      instance: "a",
      timestamp: 0,
      active: 1
    }))
    yield* publish(yield* EventBus, () => ({
      _tag: "OperatorAction",
      pattern: "Bulkhead",
      instance: "a",
      timestamp: 0,
      actor: "alice",
      action: "resize",
      input: "3",
      reason: "a test",
      phase: "Applied",
      until: 1
    }))
    yield* settle
  })

  it.effect("no event is built, of all that there are", () =>
    Effect.gen(function*() {
      const bus = yield* EventBus
      yield* Effect.scoped(everything)
      expect(bus.hub.built).toBe(0)

      // Control: with somebody listening, the same calls have every event.
      const tags = new Set<string>()
      yield* TestClock.adjust("1 minute") // that a table is full is told once a minute
      yield* Effect.scoped(Effect.zipRight(
        EventBus.on("*", ({ _tag }) => Effect.sync(() => tags.add(_tag))),
        everything
      ))
      expect(bus.hub.built).toBeGreaterThan(30)
      expect(tags).toEqual(tagsOf(Schema.typeSchema(ResilienceEvent).ast))
    }).pipe(
      Effect.provide(Layer.mergeAll(Hosts.Live, Tenants.Live).pipe(Layer.provideMerge(ResilienceLive))),
      Effect.provide(Logger.remove(Logger.defaultLogger))
    ))
})

describe("event log", () => {
  const attempt = (options: EventLog.Options, program: Effect.Effect<unknown, never, Scope.Scope>) => {
    const { layer, lines } = logs()
    return Effect.scoped(program).pipe(
      Effect.provide(Layer.provideMerge(EventLog.layer(options), ResilienceLive)),
      Effect.provide(layer),
      Logger.withMinimumLogLevel(LogLevel.All),
      Effect.as(lines)
    )
  }
  const breaks = Effect.gen(function*() {
    const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
    yield* Effect.exit(breaker.withBreaker(Effect.fail(new Error("down"))))
    yield* Effect.exit(breaker.withBreaker(Effect.void))
  })

  it.effect("without it the library is silent", () => {
    const { layer, lines } = logs()
    return Effect.scoped(Effect.zipRight(breaks, settle)).pipe(
      Effect.provide(ResilienceLive),
      Effect.provide(layer),
      Logger.withMinimumLogLevel(LogLevel.All),
      Effect.tap(() => expect(lines).toEqual([]))
    )
  })

  it.effect("has a level per event, and the failure as the cause", () =>
    Effect.gen(function*() {
      const lines = yield* attempt({}, breaks)
      expect(lines.map((line) => line.split("\n")[0])).toEqual([
        expect.stringMatching(/^DEBUG CircuitBreaker "b": CallFailed \| Error: down/),
        `WARN CircuitBreaker "b": StateChanged`,
        `INFO CircuitBreaker "b": CallRejected`
      ])
    }))

  it.effect("a level of None drops the record", () =>
    Effect.gen(function*() {
      const level = (event: { readonly _tag: string }) => event._tag === "StateChanged" ? LogLevel.Error : LogLevel.None
      expect(yield* attempt({ level }, breaks)).toEqual([`ERROR CircuitBreaker "b": StateChanged`])
    }))

  it.effect("a filter that throws is reported and costs only that record", () =>
    Effect.gen(function*() {
      const filter = (event: { readonly _tag: string }) => {
        if (event._tag === "CallFailed") throw new Error("filter")
        return true
      }
      const lines = yield* attempt({ filter }, breaks)
      expect(lines[0]).toContain(`WARN EventLog "default": subscriber failed`)
      expect(lines.slice(1)).toEqual([
        `WARN CircuitBreaker "b": StateChanged`,
        `INFO CircuitBreaker "b": CallRejected`,
        expect.stringMatching(/^WARN EventLog "default": InternalError \| Error: filter/)
      ])
    }))

  it.effect("a sink that fails is an event too, and is not told of its own reports without end", () => {
    const { layer, lines } = logs()
    return Effect.gen(function*() {
      const seen: Array<string> = []
      const sink = EventLog.layerSink(({ message }) => {
        seen.push(message)
        return Effect.fail("disk full")
      })
      yield* Effect.provide(
        Effect.scoped(Effect.gen(function*() {
          const bulkhead = yield* Bulkhead.make({ name: "b" })
          yield* bulkhead.withPermit(Effect.void)
          yield* Effect.repeatN(Effect.yieldNow(), 200)
        })),
        Layer.provideMerge(sink, ResilienceLive)
      )
      const report = `EventLog "default": InternalError`
      expect(seen).toEqual([`Bulkhead "b": PermitAcquired`, `Bulkhead "b": PermitReleased`, report, report])
      expect(lines).toHaveLength(4)
    }).pipe(Effect.provide(layer))
  })

  it.effect("an exhausted fallback shows every failure, in order", () =>
    Effect.gen(function*() {
      const [line] = yield* attempt(
        { filter: ({ _tag }) => _tag === "FallbackExhausted" },
        Effect.gen(function*() {
          const fallback = yield* Fallback.make({ name: "f" })
          const none = Effect.fail("first").pipe(fallback.chain(Effect.fail("second"), Effect.fail("third")))
          yield* Effect.exit(none)
        })
      )
      expect(line).toMatch(/WARN Fallback "f": FallbackExhausted \| [^]*first[^]*second[^]*third/)
    }))

  it.effect("writes all that is queued when it closes, a whole burst of it, and what was being written", () =>
    Effect.gen(function*() {
      const written: Array<number | undefined> = []
      const gate = yield* Deferred.make<void>()
      const sink = EventLog.layerSink(({ event }) =>
        Effect.zipRight(Deferred.await(gate), Effect.sync(() => written.push(event.callId)))
      )
      const burst = Effect.scoped(Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ name: "b" })
        yield* bulkhead.withPermit(Effect.void)
        yield* settle
        for (let i = 0; i < 100; i++) yield* bulkhead.withPermit(Effect.void)
      }))
      const program = yield* Effect.fork(Effect.provide(burst, Layer.provideMerge(sink, ResilienceLive)))
      yield* Effect.repeatN(Effect.yieldNow(), 50)
      expect(written).toEqual([])
      yield* Deferred.succeed(gate, void 0)
      yield* Fiber.join(program)
      expect(written).toEqual(Array.from({ length: 202 }, (_, i) => Math.floor(i / 2) + 1))
    }))

  it.effect("a sink that hangs does not keep the program from ending", () =>
    Effect.gen(function*() {
      const sink = EventLog.layerSink(() => Effect.never)
      const program = yield* Effect.fork(
        Effect.provide(Effect.zipRight(Effect.scoped(breaks), settle), Layer.provideMerge(sink, ResilienceLive))
      )
      yield* TestClock.adjust("4 seconds")
      expect(Option.isNone(yield* Fiber.poll(program))).toBe(true)
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(program)
    }))

  it.effect("writes what is queued also when the program is interrupted", () =>
    Effect.gen(function*() {
      const written: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const sink = EventLog.layerSink(({ event }) =>
        Effect.zipRight(Deferred.await(gate), Effect.sync(() => written.push(event._tag)))
      )
      const program = yield* Effect.fork(Effect.provide(
        Effect.zipRight(Effect.scoped(breaks), Effect.never),
        Layer.provideMerge(sink, ResilienceLive)
      ))
      yield* Effect.repeatN(Effect.yieldNow(), 50)
      const ending = yield* Effect.fork(Fiber.interrupt(program))
      yield* settle
      yield* Deferred.succeed(gate, void 0)
      yield* Fiber.join(ending)
      expect(written).toEqual(["CallFailed", "StateChanged", "CallRejected"])
    }))
})

describe("registry", () => {
  it.effect("an action reaches every instance of a name that is there twice", () =>
    Effect.scoped(Effect.gen(function*() {
      const one = yield* Bulkhead.make({ name: "twin" })
      const two = yield* Bulkhead.make({ name: "twin" })
      yield* Registry.act("Bulkhead", "twin", "resize", 3)
      expect([(yield* one.metrics).limit, (yield* two.metrics).limit]).toEqual([3, 3])
    })).pipe(Effect.provide(ResilienceLive), Effect.provide(Logger.remove(Logger.defaultLogger))))

  it.effect("says where each instance was written, those of a chain too", () =>
    Effect.scoped(Effect.gen(function*() {
      yield* Bulkhead.make({ name: "here" })
      yield* Resilience.standard({ name: "chain" })
      class Chain extends Resilience.Tag<Chain>()("tagged") {}
      yield* Layer.build(Chain.layer({ timeout: "1 second" }))
      const { instances } = yield* Registry.snapshot
      expect(instances).toHaveLength(9)
      for (const { site } of instances) expect(site).toContain("observing.test.ts")
    })).pipe(Effect.provide(ResilienceLive)))

  it.effect("W-X7: two registries know nothing of each other", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const [first, second] = yield* Effect.all([
        Layer.buildWithScope(Layer.fresh(ResilienceLive), scope),
        Layer.buildWithScope(Layer.fresh(ResilienceLive), scope)
      ])
      const made = Scope.extend(Bulkhead.make({ name: "b" }), scope)
      yield* Effect.provide(made, first)
      yield* Effect.provide(made, second)
      const names = (context: Context.Context<Registry>) =>
        Effect.map(Effect.provide(Registry.list, context), (list) => list.map(({ instance }) => instance))
      expect([yield* names(first), yield* names(second)]).toEqual([["b"], ["b"]])
      yield* Scope.close(scope, Exit.void)
      expect([yield* names(first), yield* names(second)]).toEqual([[], []])
    }))

  it.effect("an input from outside is never trusted", () =>
    Effect.scoped(Effect.gen(function*() {
      yield* CircuitBreaker.make({ name: "b" })
      yield* Bulkhead.make({ name: "b" })
      const inputs: ReadonlyArray<unknown> = [NaN, -1, Infinity, "", "soon", {}, [], true, () => 1, Symbol("x"), 10n, {
        toString: null
      }]
      for (const { actions, instance, pattern } of (yield* Registry.snapshot).instances) {
        for (const action of [...actions, "constructor", "__proto__", "toString"]) {
          for (const input of inputs) {
            const exit = yield* Effect.exit(Registry.act(pattern, instance, action, input))
            const error = Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : Option.none()
            // Done, or a typed refusal: never a defect.
            expect(Exit.isSuccess(exit) || Option.isSome(error), `${pattern} ${action} ${inspect(input)}`).toBe(true)
          }
        }
      }
    })).pipe(Effect.provide(ResilienceLive)))
})

describe("reasons", () => {
  const rejection = <E, R>(effect: Effect.Effect<unknown, E, R>) => Effect.flip(effect)
  const holding = (bulkhead: Bulkhead.Service) =>
    Effect.zipRight(Effect.fork(bulkhead.withPermit(Effect.never)), settle)

  class TooMany extends CircuitBreaker.Keyed<TooMany>()("many", { maxKeys: 1 }) {}
  class Tenants extends Bulkhead.Keyed<Tenants>()("tenants", { maxKeys: 1 }) {}

  /** How each reason of each error comes about. One that is missing here fails the test. */
  const ways: Record<
    string,
    Record<string, Effect.Effect<{ readonly reason: string } | string, unknown, Scope.Scope>>
  > = {
    CircuitOpenError: {
      Open: Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({ name: "b", initial: { state: "Open", left: Duration.minutes(1) } })
        return yield* rejection(breaker.withBreaker(Effect.void))
      }),
      HalfOpenFull: Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({
          name: "b",
          initial: { state: "HalfOpen" },
          halfOpenMaxCalls: 1,
          successThreshold: 1
        })
        yield* Effect.fork(breaker.withBreaker(Effect.never))
        yield* settle
        return yield* rejection(breaker.withBreaker(Effect.void))
      }),
      RampUp: Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({
          name: "b",
          initial: { state: "HalfOpen" },
          halfOpenMaxCalls: 1,
          successThreshold: 1,
          rampUp: "1 hour"
        })
        yield* breaker.withBreaker(Effect.void)
        return yield* rejection(Effect.repeatN(breaker.withBreaker(Effect.void), 1000))
      }).pipe(Effect.withRandom(Random.make("ramp"))),
      ForcedOpen: Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({ name: "b", initial: { state: "ForcedOpen" } })
        return yield* rejection(breaker.withBreaker(Effect.void))
      }),
      TooManyKeys: Effect.gen(function*() {
        yield* Effect.exit(Effect.repeatN(Effect.exit(TooMany.withBreakerBy({ key: "a" })(fail)), 9))
        return yield* rejection(TooMany.withBreakerBy({ key: "b" })(Effect.void))
      }).pipe(Effect.provide(TooMany.Live))
    },
    BulkheadFullError: {
      QueueFull: Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 0 })
        yield* holding(bulkhead)
        return yield* rejection(bulkhead.withPermit(Effect.void))
      }),
      WaitExceeded: Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
        yield* holding(bulkhead)
        const waiting = yield* Effect.fork(rejection(bulkhead.withPermit(Effect.void)))
        yield* TestClock.adjust("1 second")
        return yield* Fiber.join(waiting)
      }),
      DeadlineTooClose: Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "1 minute" })
        yield* holding(bulkhead)
        const waiting = yield* Effect.fork(
          rejection(bulkhead.withPermit(Effect.void)).pipe(
            Deadline.within("1 second"),
            Effect.merge
          )
        )
        yield* TestClock.adjust("1 second")
        return (yield* Fiber.join(waiting)) as { readonly reason: string }
      }),
      TooManyPermits: Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
        return yield* rejection(bulkhead.withPermitsBy(2)(Effect.void))
      }),
      StoreUnavailable: Effect.gen(function*() {
        const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b" }))
        borrower.lend({ limit: 0, hoped: 0, shut: "StoreUnavailable" })
        return yield* rejection(bulkhead.withPermit(Effect.void))
      }),
      LeaseLost: Effect.gen(function*() {
        const { borrower, bulkhead } = yield* lentBulkhead(Bulkhead.make({ name: "b" }), () => "LeaseLost")
        borrower.lend({ limit: 1, hoped: 0, shut: undefined })
        return yield* rejection(bulkhead.withPermit(Effect.void))
      }),
      TooManyKeys: Effect.gen(function*() {
        yield* Effect.fork(Tenants.withPermitBy({ key: "a" })(Effect.never))
        yield* settle
        return yield* rejection(Tenants.withPermitBy({ key: "b" })(Effect.void))
      }).pipe(Effect.provide(Tenants.Live))
    },
    DeadlineExceededError: {
      Expired: rejection(Effect.void.pipe(Deadline.within("0 seconds"))),
      Exceeded: Effect.gen(function*() {
        const call = yield* Effect.fork(rejection(Effect.never.pipe(Deadline.within("1 second"))))
        yield* TestClock.adjust("1 second")
        return yield* Fiber.join(call)
      })
    },
    TimeoutExceededError: {
      LimitExceeded: Effect.gen(function*() {
        const call = yield* Effect.fork(rejection(Effect.never.pipe(Timeout.within("1 second"))))
        yield* TestClock.adjust("1 second")
        return yield* Fiber.join(call)
      })
    },
    FallbackFailedError: {
      AllFailed: Effect.gen(function*() {
        const fallback = yield* Fallback.make({ name: "f" })
        return yield* rejection(fail.pipe(fallback.chain(fail)))
      })
    },
    RetryResultRejectedError: {
      ResultRejected: Effect.gen(function*() {
        const retry = yield* Retry.make({ name: "r", maxAttempts: 1 })
        return yield* rejection(
          Effect.succeed(503).pipe(retry.withRetryBy({ retryOnResult: (status: number) => status === 503 }))
        )
      })
    }
  }

  const errors = [
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExceededError,
    FallbackFailedError,
    RetryResultRejectedError,
    TimeoutExceededError
  ]
  for (const error of errors) {
    const name = error._tag
    it.effect(`W-X2: every reason of ${name} comes about`, () =>
      Effect.gen(function*() {
        expect(Object.keys(ways[name] ?? {}).sort()).toEqual([...error.fields.reason.literals].sort())
        for (const [reason, way] of Object.entries(ways[name] ?? {})) {
          const got = yield* Effect.scoped(way)
          expect(got).toBeInstanceOf(error)
          expect(got).toMatchObject({ _tag: name, reason })
        }
      }))
  }
})

describe("the standard chain", () => {
  it.effect("W-X5: refuses bad options and unknown ones, by name", () =>
    Effect.gen(function*() {
      const message = (options: object) =>
        Effect.map(
          Effect.exit(Effect.scoped(Resilience.standard({ name: "pay", ...options } as Resilience.Options))),
          (exit) => Exit.isFailure(exit) && Cause.isDie(exit.cause) ? Cause.pretty(exit.cause) : "taken"
        )
      const bad: { readonly [K in keyof typeof resilienceFields]: ReadonlyArray<unknown> } = {
        deadline: [0, -1, NaN, "soon", true, null],
        timeout: [0, -1, NaN, "soon", true, null],
        retry: [true, 1, "x", null],
        circuitBreaker: [true, 1, "x", null],
        bulkhead: [true, 1, "x", null]
      }
      expect(Object.keys(bad).sort()).toEqual(Object.keys(resilienceFields).sort())
      for (const [field, values] of Object.entries(bad)) {
        for (const value of values) {
          expect(yield* message({ [field]: value })).toContain(`Resilience "pay": option ${field} must be`)
        }
      }
      expect(yield* message({ circuitbreaker: {} })).toContain(
        `Resilience "pay": has no option "circuitbreaker"; there are: `
      )
      expect(yield* message({ retry: { maxAttempts: 0 } })).toContain(`Retry "pay": option maxAttempts`)
      expect(yield* message({ timeout: { duration: 0 } })).toContain(`Timeout "pay": option duration`)
      expect(yield* message({ deadline: { duration: 0 } })).toContain(`Deadline "pay": option duration`)
      expect(yield* message({ deadline: { disconect: true } })).toContain(`Deadline "pay": has no option "disconect"`)
    }))

  class Orders extends Resilience.Tag<Orders>()("orders", {
    bulkhead: false,
    timeout: { duration: "1 second", disconnect: true },
    circuitBreaker: { consecutiveFailures: 2, openDuration: "1 minute" },
    retry: { maxAttempts: 1 }
  }) {}
  const failTwice = Effect.repeatN(Effect.exit(fail.pipe(Orders.protect)), 1)

  it.effect("as a tag: one line for the class, one for the call", () =>
    Effect.gen(function*() {
      yield* failTwice
      expect((yield* Effect.flip(Effect.void.pipe(Orders.protect)))._tag).toBe("CircuitOpenError")
      const orders = yield* Orders
      expect(yield* orders.circuitBreaker.state).toBe("Open")
      expect(orders.bulkhead).toBe(undefined)
      expect("onLayer" in Orders).toBe(false)
    }).pipe(Effect.provide(Orders.Live)))

  it.effect("layers of a tag change the options of its parts, each for itself", () =>
    Effect.gen(function*() {
      expect(Orders.layer()).toBe(Orders.Live)
      const read = Effect.gen(function*() {
        const { circuitBreaker, timeout } = yield* Orders
        yield* failTwice
        return [yield* circuitBreaker.state, Duration.toSeconds((yield* timeout.metrics).limit)]
      })
      expect(yield* Effect.provide(read, Orders.layer({ circuitBreaker: { consecutiveFailures: 3 } }))).toEqual([
        "Closed",
        1
      ])
      expect(yield* Effect.provide(read, Orders.layer({ timeout: "3 seconds" }))).toEqual(["Open", 3])
      // What the tag set beside it stands.
      const stubborn = Effect.uninterruptible(Effect.sleep("1 hour")).pipe(Orders.protect)
      const call = yield* Effect.fork(Effect.provide(Effect.flip(stubborn), Orders.layer({ timeout: "3 seconds" })))
      yield* TestClock.adjust("3 seconds")
      expect((yield* Fiber.join(call))._tag).toBe("TimeoutExceededError")
    }))

  it.effect("options of a tag come from Config, and a bad one fails its layer", () =>
    Effect.gen(function*() {
      const layer = Orders.layerConfig({
        circuitBreaker: { consecutiveFailures: Config.integer("FAILURES") },
        timeout: Config.duration("TIMEOUT")
      })
      const attempt = (failures: string, timeout: string) =>
        Effect.scoped(Layer.build(layer)).pipe(
          Effect.map((context) => Context.get(context, Orders)),
          Effect.flatMap((orders) => orders.timeout.metrics),
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["FAILURES", failures], ["TIMEOUT", timeout]])))
        )
      expect(Duration.toSeconds((yield* attempt("5", "4 seconds")).limit)).toBe(4)
      expect(String(yield* Effect.flip(attempt("0", "4 seconds")))).toContain(
        `CircuitBreaker "orders": option consecutiveFailures must be`
      )
      expect(String(yield* Effect.flip(attempt("5", "0 seconds")))).toContain(`"orders": option`)
    }))

  it.effect("a noop of a tag lets everything through, with its parts", () =>
    Effect.gen(function*() {
      yield* Effect.repeatN(failTwice, 5)
      expect(yield* Effect.succeed(1).pipe(Orders.protect)).toBe(1)
      const orders = yield* Orders
      expect(yield* orders.circuitBreaker.metrics).toMatchObject({ offered: 0 })
      expect(orders.bulkhead).toBe(undefined)
    }).pipe(Effect.provide(Orders.layerNoop)))

  it.scoped("a deadline answers on time around what cannot be interrupted, where it is told to disconnect", () =>
    Effect.gen(function*() {
      const chain = yield* Resilience.standard({
        name: "all",
        deadline: { duration: "2 seconds", disconnect: true },
        timeout: false
      })
      const stubborn = Effect.uninterruptible(Effect.sleep("1 hour"))
      const call = yield* Effect.fork(Effect.flip(chain.protect(stubborn)))
      yield* TestClock.adjust("2 seconds")
      expect((yield* Fiber.join(call))._tag).toBe("DeadlineExceededError")
      yield* TestClock.adjust("1 hour")
      expect(yield* chain.bulkhead.metrics).toMatchObject({ active: 0, running: 0 })
    }))

  it.scoped("its types have exactly what its parts add", () =>
    Effect.gen(function*() {
      const all = yield* Resilience.standard({ name: "all" })
      const full: Effect.Effect<
        number,
        "down" | DeadlineExceededError | CircuitOpenError | BulkheadFullError | TimeoutExceededError
      > = all.protect(Effect.as(Effect.void as Effect.Effect<void, "down">, 1))
      expect(yield* full).toBe(1)
      const none = yield* Resilience.standard({
        name: "none",
        deadline: false,
        retry: false,
        circuitBreaker: false,
        bulkhead: false,
        timeout: false
      })
      const bare: Effect.Effect<number, "down"> = none.protect(Effect.as(Effect.void as Effect.Effect<void, "down">, 1))
      expect(yield* bare).toBe(1)
      const absent: undefined = none.bulkhead
      expect(absent).toBe(undefined)
    }))

  it.effect("W-G4: its parts stand in the order of the design", () =>
    Effect.scoped(Effect.gen(function*() {
      const queue = yield* EventBus.subscribe
      const chain = yield* Resilience.standard({ name: "all", retry: { maxAttempts: 2, initialDelay: 0 } })
      yield* Effect.exit(chain.protect(fail))
      yield* settle
      const tags = [...(yield* Queue.takeAll(queue))].map(({ _tag }) => _tag)
      const attempt = ["PermitAcquired", "CompletedInTime", "PermitReleased", "CallFailed"]
      expect(tags).toEqual([...attempt, "RetryScheduled", ...attempt, "RetryExhausted"])
    })).pipe(Effect.provide(ResilienceLive)))

  it.scoped("an open circuit is not retried and takes no permit", () =>
    Effect.gen(function*() {
      const chain = yield* Resilience.standard({ name: "all", circuitBreaker: { initial: { state: "ForcedOpen" } } })
      expect((yield* Effect.flip(chain.protect(Effect.void)))._tag).toBe("CircuitOpenError")
      expect((yield* chain.bulkhead.metrics).offered).toBe(0)
      expect((yield* chain.circuitBreaker.metrics).rejected).toBe(1)
    }))

  it.scoped("the deadline cuts a chain of retries", () =>
    Effect.gen(function*() {
      const chain = yield* Resilience.standard({
        name: "all",
        deadline: "3500 millis",
        timeout: "1 second",
        retry: { maxAttempts: Infinity, strategy: "constant", initialDelay: "1 second", jitter: "none" }
      })
      const call = yield* Effect.fork(Effect.flip(chain.protect(Effect.never)))
      yield* TestClock.adjust("10 seconds")
      // The sleep that would pass the deadline does not begin: the last real error comes at once.
      expect((yield* Fiber.join(call))._tag).toBe("TimeoutExceededError")
      expect(yield* chain.bulkhead.metrics).toMatchObject({ active: 0, running: 0 })
    }))
})

describe("faults of peers", () => {
  it.effect("OP9: a failing call costs no more when the window holds a hundred thousand calls", () =>
    Effect.gen(function*() {
      const costOf = (calls: number) =>
        Effect.scoped(Effect.gen(function*() {
          const breaker = yield* CircuitBreaker.make({
            name: "b",
            consecutiveFailures: false,
            minimumCalls: 1_000_000,
            window: { duration: "1 hour" }
          })
          const failing = Effect.ignore(breaker.withBreaker(fail))
          yield* Effect.repeatN(failing, calls)
          expect((yield* breaker.metrics).window.failures).toBe(calls + 1)
          const start = performance.now()
          yield* Effect.repeatN(failing, 2000)
          return performance.now() - start
        }))
      yield* costOf(2000)
      const few = yield* costOf(2000)
      const many = yield* costOf(100_000)
      // Recomputing over all of them would be fifty times dearer; the margin is for a busy machine.
      expect(many / few).toBeLessThan(10)
    }))

  it.effect("OP10: an open circuit lets a probe through when its time is over, although no timer ever ran", () =>
    Effect.gen(function*() {
      const manual = makeManualClock()
      const clock = { ...manual.clock, sleep: () => Effect.never }
      yield* Effect.scoped(Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1, openDuration: "5 seconds" })
        yield* Effect.exit(breaker.withBreaker(fail))
        manual.adjust("4999 millis")
        expect((yield* Effect.flip(breaker.withBreaker(Effect.void)))._tag).toBe("CircuitOpenError")
        manual.adjust("1 millis")
        expect(yield* breaker.withBreaker(Effect.succeed(1))).toBe(1)
        expect(manual.sleepers()).toBe(0)
      })).pipe(Effect.withClock(clock))
    }))
})

describe("where nothing can be interrupted", () => {
  it.scoped("a subscription and a handler end with their scope all the same", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "payments" })
      const scope = yield* Scope.make()
      yield* Effect.uninterruptible(Scope.extend(breaker.on("*", () => Effect.void), scope))
      yield* breaker.withBreaker(Effect.void)
      const closed = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* Effect.repeatN(Effect.yieldNow(), 20)
      expect(Option.isSome(yield* Fiber.poll(closed))).toBe(true)
    }))
})
