import {
  Bulkhead,
  CircuitBreaker,
  CircuitOpenError,
  classifyWith,
  OptionThrewError,
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
  Schedule,
  Schema,
  TestClock
} from "effect"

const fail = Effect.fail("down")
const ok = Effect.succeed("up")

const times = (n: number, effect: Effect.Effect<unknown, unknown>) => Effect.repeatN(Effect.exit(effect), n - 1)

/** An open breaker, with one probe that decides, unless told otherwise. */
const opened = (options: CircuitBreaker.Options = {}) =>
  Effect.gen(function*() {
    const breaker = yield* CircuitBreaker.make({
      name: "b",
      consecutiveFailures: 1,
      openDuration: "5 seconds",
      halfOpenMaxCalls: 1,
      successThreshold: 1,
      ...options
    })
    yield* Effect.exit(breaker.withBreaker(fail))
    expect(yield* breaker.state).toBe("Open")
    return breaker
  })

/** A call that waits inside the breaker until it is told how to end. */
const running = (breaker: CircuitBreaker.Service) =>
  Effect.gen(function*() {
    const gate = yield* Deferred.make<string, string>()
    const fiber = yield* Effect.fork(breaker.withBreaker(Deferred.await(gate)))
    yield* Effect.yieldNow()
    yield* Effect.yieldNow()
    return { fiber, gate }
  })

const rejection = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.flip(effect), (error) => {
    expect(error).toBeInstanceOf(CircuitOpenError)
    return error as unknown as CircuitOpenError
  })

describe("a closed circuit", () => {
  it.scoped("opens after so many failures in a row", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      yield* times(4, breaker.withBreaker(fail))
      yield* breaker.withBreaker(ok)
      yield* times(4, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Closed")
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("opens at the failure rate, once the window holds enough calls", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: false })
      for (let i = 0; i < 9; i++) {
        yield* breaker.withBreaker(ok)
        yield* times(1, breaker.withBreaker(fail))
      }
      yield* breaker.withBreaker(ok)
      expect(yield* breaker.state).toBe("Closed")
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("opens when the window becomes long enough, whatever its last call was", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: false, minimumCalls: 4 })
      yield* times(1, breaker.withBreaker(fail))
      yield* breaker.withBreaker(ok)
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Closed")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
      expect(yield* breaker.state).toBe("Open")
      expect((yield* rejection(breaker.withBreaker(ok))).cause).toBe("down")
    }))

  it.scoped("opens at exactly the rate, whatever its digits are", () =>
    Effect.gen(function*() {
      for (const percent of [7, 14, 28, 29, 55, 56, 57, 58]) {
        const breaker = yield* CircuitBreaker.make({
          name: "b",
          consecutiveFailures: false,
          failureRate: percent / 100,
          window: { count: 100 },
          minimumCalls: 100
        })
        yield* times(100 - percent, breaker.withBreaker(ok))
        yield* times(percent - 1, breaker.withBreaker(fail))
        expect(yield* breaker.state).toBe("Closed")
        yield* times(1, breaker.withBreaker(fail))
        expect(yield* breaker.state, `${percent} %`).toBe("Open")
      }
    }))

  it.scoped("counts over the last calls where the window is a count", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: false,
        window: { count: 4 } // the default of minimumCalls is more than that
      })
      yield* times(1, breaker.withBreaker(fail))
      yield* times(4, breaker.withBreaker(ok))
      yield* times(1, breaker.withBreaker(fail))
      expect((yield* breaker.metrics).window).toEqual({ calls: 4, failures: 1, slow: 0 })
      expect(yield* breaker.state).toBe("Closed")
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("opens when calls are slow, though they succeed", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        minimumCalls: 2,
        slowCallDuration: "1 second",
        slowCallRate: 0.5
      })
      const slow = yield* Effect.fork(times(2, breaker.withBreaker(Effect.delay(ok, "2 seconds"))))
      yield* TestClock.adjust("4 seconds")
      yield* Fiber.join(slow)
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("opens when the window becomes long enough by a call that is fast", () =>
    Effect.gen(function*() {
      for (const last of [ok, fail]) {
        const breaker = yield* CircuitBreaker.make({
          name: "b",
          minimumCalls: 3,
          slowCallDuration: "1 second",
          slowCallRate: 0.5
        })
        const slow = yield* Effect.fork(times(2, breaker.withBreaker(Effect.delay(ok, "2 seconds"))))
        yield* TestClock.adjust("4 seconds")
        yield* Fiber.join(slow)
        expect(yield* breaker.state).toBe("Closed")
        yield* times(1, breaker.withBreaker(last))
        expect(yield* breaker.state).toBe("Open")
      }
    }))

  it.scoped("opens while slow calls are still in flight", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", minimumCalls: 3, slowCallDuration: "1 second" })
      for (let i = 0; i < 3; i++) yield* Effect.fork(breaker.withBreaker(Effect.never))
      yield* TestClock.adjust("2 seconds")
      const error = yield* rejection(breaker.withBreaker(ok))
      expect(error.reason).toBe("Open")
    }))

  it.scoped("counts a call as slow that is interrupted after the slow duration", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", minimumCalls: 1, slowCallDuration: "1 second" })
      const call = yield* Effect.fork(breaker.withBreaker(Effect.never))
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.interrupt(call)
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("a call that is interrupted in time counts as nothing", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", minimumCalls: 1, slowCallDuration: "1 second" })
      const call = yield* Effect.fork(breaker.withBreaker(Effect.never))
      yield* TestClock.adjust("500 millis")
      yield* Fiber.interrupt(call)
      expect(yield* breaker.state).toBe("Closed")
      expect(yield* breaker.metrics).toMatchObject({ ignored: 1, running: 0, window: { calls: 0 } })
    }))

  it.scoped("opens at once for the time that the server names", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        openOn: (exit) =>
          Exit.isFailure(exit) && Option.contains(Cause.failureOption(exit.cause), "busy")
            ? Option.some("42 seconds")
            : Option.none()
      })
      yield* times(1, breaker.withBreaker(Effect.fail("busy")))
      const error = yield* rejection(breaker.withBreaker(ok))
      expect(error.retryAfter).toEqual(Option.some(Duration.seconds(42)))
      yield* TestClock.adjust("42 seconds")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
    }))

  it.scoped("opens for good where the server names no end", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", openOn: () => Option.some(Duration.infinity) })
      yield* times(1, breaker.withBreaker(fail))
      yield* TestClock.adjust("1 day")
      expect((yield* rejection(breaker.withBreaker(ok))).retryAfter).toEqual(Option.none())
      expect((yield* breaker.metrics).openFor).toEqual(Option.some(Duration.infinity))
    }))

  it.scoped("reads a value as a failure where it is told to", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: 2,
        classify: classifyWith({ failureWhen: (value) => value === 503 })
      })
      yield* times(2, breaker.withBreaker(Effect.succeed(503)))
      expect(yield* breaker.state).toBe("Open")
      expect((yield* rejection(breaker.withBreaker(ok))).cause).toBe(503)
    }))

  it.scoped("reads one call's exit by a function that knows its types", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      yield* Effect.succeed({ status: 500 }).pipe(breaker.withBreakerBy({
        classify: (exit) => Exit.isSuccess(exit) && exit.value.status >= 500 ? "failure" : "success"
      }))
      expect(yield* breaker.state).toBe("Open")
    }))
})

describe("an open circuit", () => {
  it.scoped("rejects with the time left and with what opened it", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* TestClock.adjust("2 seconds")
      const error = yield* rejection(breaker.withBreaker(ok))
      expect(error).toMatchObject({ pattern: "CircuitBreaker", instance: "b", state: "Open", reason: "Open" })
      expect(error.retryAfter).toEqual(Option.some(Duration.seconds(3)))
      expect(error.cause).toBe("down")
      expect(JSON.stringify(yield* Schema.encode(CircuitOpenError)(error))).not.toContain("down")
    }))

  it.scoped("lets a probe through when its time is over", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* TestClock.adjust("5 seconds")
      const { fiber, gate } = yield* running(breaker)
      expect(yield* breaker.state).toBe("HalfOpen")
      expect((yield* rejection(breaker.withBreaker(ok))).reason).toBe("HalfOpenFull")
      yield* Deferred.succeed(gate, "up")
      yield* Fiber.join(fiber)
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("stays open for the delays of a schedule, and keeps the last", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({
        openDuration: Schedule.fromDelays("1 second", "3 seconds")
      })
      for (const seconds of [1, 3, 3, 3]) {
        expect((yield* breaker.metrics).openFor).toEqual(Option.some(Duration.seconds(seconds)))
        yield* TestClock.adjust(Duration.seconds(seconds))
        yield* Effect.exit(breaker.withBreaker(fail))
        expect(yield* breaker.state).toBe("Open")
      }
    }))

  it.scoped("doubles its open time by default, within ten per cent, up to a minute", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: 1,
        halfOpenMaxCalls: 1,
        successThreshold: 1
      })
      yield* Effect.exit(breaker.withBreaker(fail))
      for (const seconds of [5, 10, 20, 40, 60, 60]) {
        const left = Duration.toSeconds(Option.getOrThrow((yield* breaker.metrics).openFor))
        expect(left).toBeGreaterThanOrEqual(seconds * 0.9)
        expect(left).toBeLessThanOrEqual(seconds * 1.1)
        yield* TestClock.adjust(Duration.seconds(left + 0.001))
        yield* Effect.exit(breaker.withBreaker(fail))
      }
    }))

  it.scoped("starts its open times anew after a quiet window", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ openDuration: Schedule.fromDelays("1 second", "30 seconds") })
      yield* TestClock.adjust("1 second")
      yield* breaker.withBreaker(ok)
      yield* TestClock.adjust("31 seconds")
      yield* Effect.exit(breaker.withBreaker(fail))
      expect((yield* breaker.metrics).openFor).toEqual(Option.some(Duration.seconds(1)))
    }))
})

describe("a schedule of open times", () => {
  /** Doubles from a second; from the second step on it does what `then` says first. */
  const schedule = (then: Effect.Effect<void>) => {
    let steps = 0
    return Schedule.exponential("1 second").pipe(
      Schedule.mapEffect((delay) => Effect.as(Effect.suspend(() => ++steps > 1 ? then : Effect.void), delay))
    )
  }
  const probed = (breaker: CircuitBreaker.Service) =>
    Effect.gen(function*() {
      const left = Option.getOrThrow((yield* breaker.metrics).openFor)
      yield* TestClock.adjust(left)
      expect(yield* Effect.flip(breaker.withBreaker(fail))).toBe("down")
      expect(yield* breaker.state).toBe("Open")
    })

  it.scoped("that waits keeps no caller waiting", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const breaker = yield* opened({ openDuration: schedule(Deferred.await(gate)) })
      yield* probed(breaker)
      expect((yield* breaker.metrics).openFor).toEqual(Option.some(Duration.seconds(1))) // the last time known
      yield* breaker.reset
      yield* Deferred.succeed(gate, void 0)
      yield* Effect.exit(breaker.withBreaker(fail))
      for (let turn = 0; turn < 5; turn++) yield* Effect.yieldNow()
      yield* probed(breaker)
      expect((yield* breaker.metrics).openFor).toEqual(Option.some(Duration.seconds(2)))
    }))

  it.scoped("that dies is reported, and takes no call's own error", () =>
    Effect.gen(function*() {
      let broken = true
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: 1,
        halfOpenMaxCalls: 1,
        successThreshold: 1,
        openDuration: schedule(Effect.suspend(() => broken ? Effect.die("schedule bug") : Effect.void))
      })
      const reported: Array<string> = []
      yield* breaker.on("InternalError", ({ error, source }) =>
        Effect.sync(() => reported.push(`${source}: ${String(error)}`)))
      expect(yield* Effect.flip(breaker.withBreaker(fail))).toBe("down")
      yield* probed(breaker)
      expect((yield* breaker.metrics).openFor).toEqual(Option.some(Duration.seconds(1)))
      for (let turn = 0; turn < 5; turn++) {
        yield* Effect.yieldNow()
      }
      expect(reported).toHaveLength(2)
      expect(reported[0]).toContain("Option: Error: the schedule given as openDuration failed")
      expect(reported[0]).toContain("schedule bug")
      broken = false
      yield* probed(breaker)
      yield* probed(breaker)
      expect(Duration.toSeconds(Option.getOrThrow((yield* breaker.metrics).openFor))).toBeGreaterThan(1)
    }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger))))

  it.scoped("is stepped no more when the breaker is gone", () =>
    Effect.gen(function*() {
      let interrupted = false
      yield* Effect.scoped(Effect.gen(function*() {
        yield* opened({
          openDuration: schedule(Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted = true)))
        })
        for (let turn = 0; turn < 5; turn++) yield* Effect.yieldNow()
      }))
      expect(interrupted).toBe(true)
    }))
})

describe("a half-open circuit", () => {
  it.scoped("closes as soon as enough probes succeeded", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ halfOpenMaxCalls: 3, successThreshold: 2 })
      yield* TestClock.adjust("5 seconds")
      const hanging = yield* running(breaker)
      yield* breaker.withBreaker(ok)
      expect(yield* breaker.state).toBe("HalfOpen")
      yield* breaker.withBreaker(ok)
      expect(yield* breaker.state).toBe("Closed")
      yield* Fiber.interrupt(hanging.fiber)
    }))

  it.scoped("opens as soon as too many probes failed", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ halfOpenMaxCalls: 3, successThreshold: 2 })
      yield* TestClock.adjust("5 seconds")
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("HalfOpen")
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("a probe that is interrupted gives its slot back and decides nothing", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* TestClock.adjust("5 seconds")
      const { fiber } = yield* running(breaker)
      yield* Fiber.interrupt(fiber)
      expect(yield* breaker.state).toBe("HalfOpen")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("a probe that an inner pattern rejects gives its slot back and decides nothing", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 0 })
      yield* TestClock.adjust("5 seconds")
      const holder = yield* Effect.fork(bulkhead.withPermit(Effect.never))
      yield* Effect.yieldNow()
      yield* times(3, Effect.succeed(1).pipe(bulkhead.withPermit, breaker.withBreaker))
      expect(yield* breaker.state).toBe("HalfOpen")
      yield* Fiber.interrupt(holder)
      yield* Effect.succeed(1).pipe(bulkhead.withPermit, breaker.withBreaker)
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("opens again when a probe hangs", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ halfOpenTimeout: "10 seconds" })
      yield* TestClock.adjust("5 seconds")
      yield* running(breaker)
      yield* TestClock.adjust("10 seconds")
      expect((yield* rejection(breaker.withBreaker(ok))).reason).toBe("Open")
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("closes under little traffic too: nothing hangs while no probe is out", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ halfOpenMaxCalls: 3, successThreshold: 2, halfOpenTimeout: "10 seconds" })
      yield* TestClock.adjust("1 minute")
      yield* breaker.withBreaker(ok)
      yield* TestClock.adjust("1 minute")
      const probe = yield* running(breaker) // the time of this probe begins now
      yield* TestClock.adjust("9 seconds")
      expect(yield* breaker.wouldAdmit).toBe(true)
      yield* Deferred.succeed(probe.gate, "up")
      yield* Fiber.join(probe.fiber)
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("opens again when a probe that hung ends at last", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ halfOpenTimeout: "10 seconds" })
      yield* TestClock.adjust("5 seconds")
      const { fiber, gate } = yield* running(breaker)
      yield* TestClock.adjust("10 seconds")
      yield* Deferred.succeed(gate, "up")
      expect(yield* Fiber.join(fiber)).toBe("up")
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("stays half-open while probes come and go that say nothing: none of them hangs", () =>
    Effect.gen(function*() {
      const half = yield* CircuitBreaker.make({
        name: "half",
        halfOpenTimeout: "10 seconds",
        classify: () => "ignored",
        initial: { state: "HalfOpen" }
      })
      for (let i = 0; i < 25; i++) {
        // each overlaps with the next
        yield* Effect.fork(half.withBreaker(Effect.sleep("800 millis")))
        yield* TestClock.adjust("500 millis")
        expect(yield* half.state).toBe("HalfOpen")
      }
      expect((yield* half.metrics).rejected).toBe(0)
    }))

  it.scoped("a probe that hung and is interrupted decides nothing", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ halfOpenTimeout: "10 seconds" })
      yield* TestClock.adjust("5 seconds")
      const { fiber } = yield* running(breaker)
      yield* TestClock.adjust("11 seconds")
      yield* Fiber.interrupt(fiber)
      expect(yield* breaker.state).toBe("HalfOpen")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("judges by the oldest probe that is still out", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ halfOpenMaxCalls: 3, successThreshold: 2, halfOpenTimeout: "10 seconds" })
      yield* TestClock.adjust("5 seconds")
      const first = yield* running(breaker)
      yield* TestClock.adjust("8 seconds")
      yield* running(breaker)
      yield* Fiber.interrupt(first.fiber)
      yield* TestClock.adjust("9 seconds")
      expect(yield* breaker.wouldAdmit).toBe(true)
      yield* TestClock.adjust("1 second")
      expect(yield* breaker.wouldAdmit).toBe(false)
      expect((yield* rejection(breaker.withBreaker(ok))).reason).toBe("Open")
    }))

  it.scoped("admits a growing share of the traffic after closing, where a ramp is set", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ rampUp: "10 seconds" })
      yield* TestClock.adjust("5 seconds")
      yield* breaker.withBreaker(ok)
      const share = Effect.gen(function*() {
        let admitted = 0
        for (let i = 0; i < 1000; i++) if (Exit.isSuccess(yield* Effect.exit(breaker.withBreaker(ok)))) admitted++
        return admitted / 1000
      })
      yield* TestClock.adjust("1 second")
      expect(yield* share).toBeCloseTo(0.1, 1)
      yield* TestClock.adjust("4 seconds")
      expect(yield* share).toBeCloseTo(0.5, 1)
      const error = yield* rejection(Effect.forever(breaker.withBreaker(ok)))
      expect(error.reason).toBe("RampUp")
      yield* TestClock.adjust("5 seconds")
      expect(yield* share).toBe(1)
    }))
})

describe("operators", () => {
  it.scoped("force a circuit open until they reset it", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      yield* breaker.forceOpen()
      yield* TestClock.adjust("1 day")
      const error = yield* rejection(breaker.withBreaker(ok))
      expect(error).toMatchObject({ reason: "ForcedOpen", state: "ForcedOpen", retryAfter: Option.none() })
      yield* breaker.reset
      expect(yield* breaker.withBreaker(ok)).toBe("up")
    }))

  it.scoped("change nothing that is so already: a reset of a closed circuit is told, and no change of state", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      const queue = yield* breaker.subscribe
      yield* times(4, breaker.withBreaker(fail))
      yield* breaker.reset
      yield* times(4, breaker.withBreaker(fail)) // what it knew is forgotten all the same
      expect(yield* breaker.state).toBe("Closed")
      yield* breaker.disable
      const told: Array<string> = []
      while (told.at(-1) !== "StateChanged") told.push((yield* queue.take)._tag)
      expect(told.filter((tag) => tag !== "CallFailed")).toEqual(["Reset", "StateChanged"])
    }))

  it.scoped("force a circuit open for a time", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      yield* breaker.forceOpen("1 minute")
      expect((yield* rejection(breaker.withBreaker(ok))).retryAfter).toEqual(Option.some(Duration.minutes(1)))
      yield* TestClock.adjust("1 minute")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("cannot force a circuit open for a time that is none", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      for (const bad of [NaN, -5, 0, "soon", "-1 seconds", {}, null]) {
        const exit = yield* Effect.exit(breaker.forceOpen(bad as never))
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(
          `CircuitBreaker "b": option forceOpen must be a duration above 0 ms`
        )
        expect(yield* breaker.state).toBe("Closed")
      }
      yield* breaker.forceOpen(Duration.infinity)
      expect(yield* breaker.state).toBe("ForcedOpen")
    }))

  it.scoped("disable a circuit: it lets everything through and never opens", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* breaker.disable
      yield* times(50, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Disabled")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
    }))

  it.scoped("measure only: what would have opened the circuit is reported, once each", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 5 })
      const reported: Array<string> = []
      yield* breaker.on("WouldHaveTripped", (event) => Effect.sync(() => reported.push(event.cause)))
      yield* breaker.metricsOnly
      yield* times(12, breaker.withBreaker(fail))
      yield* Effect.yieldNow()
      yield* Effect.yieldNow()
      expect(yield* breaker.state).toBe("MetricsOnly")
      expect(yield* breaker.metrics).toMatchObject({ wouldHaveTripped: 2, failed: 12, rejected: 0 })
      expect(reported).toEqual(["ConsecutiveFailures", "ConsecutiveFailures"])
    }))

  it.scoped("reset forgets", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      yield* times(4, breaker.withBreaker(fail))
      yield* breaker.reset
      yield* times(4, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Closed")
    }))
})

describe("acquire", () => {
  it.scoped("settles by the exit of the scope", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      yield* Effect.exit(Effect.scoped(Effect.zipRight(breaker.acquire, fail)))
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("settles by hand, once", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      yield* Effect.exit(Effect.scoped(Effect.gen(function*() {
        const permit = yield* breaker.acquire
        yield* permit.settle("success")
        yield* permit.settle("failure")
        return yield* fail
      })))
      expect(yield* breaker.state).toBe("Closed")
      expect(yield* breaker.metrics).toMatchObject({ admitted: 1, succeeded: 1, failed: 0, running: 0 })
    }))

  it.scoped("a probe that is held by a scope is given back with it", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* TestClock.adjust("5 seconds")
      yield* Effect.scoped(Effect.gen(function*() {
        yield* breaker.acquire
        expect(yield* breaker.wouldAdmit).toBe(false)
      }))
      expect(yield* breaker.state).toBe("Closed")
    }))
})

/** A snapshot as another process gets it. */
const overTheWire = (breaker: CircuitBreaker.Service) =>
  Effect.gen(function*() {
    const wire = yield* Effect.flatMap(breaker.snapshot, Schema.encode(CircuitBreaker.Snapshot))
    return yield* Schema.decodeUnknown(CircuitBreaker.Snapshot)(JSON.parse(JSON.stringify(wire)))
  })

/** The gauge of a state, if it was ever set. */
const gauge = (name: string, state: string) =>
  Effect.map(Metric.snapshot, (pairs) =>
    pairs.flatMap(({ metricKey, metricState }) => {
      const labels = metricKey.tags.map(({ value }) => value)
      return metricKey.name === "resilience.circuit_breaker.state" && labels.includes(name) &&
          labels.includes(state) && MetricState.isGaugeState(metricState)
        ? [Number(metricState.value)]
        : []
    }))

describe("snapshots", () => {
  it.scoped("a circuit goes on in another process where it stood", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* TestClock.adjust("2 seconds")
      const initial = yield* overTheWire(breaker)
      yield* TestClock.adjust("1 day")
      const other = yield* CircuitBreaker.make({ name: "other", halfOpenMaxCalls: 1, successThreshold: 1, initial })
      expect((yield* rejection(other.withBreaker(ok))).retryAfter).toEqual(Option.some(Duration.seconds(3)))
      yield* TestClock.adjust("3 seconds")
      expect(yield* other.withBreaker(ok)).toBe("up")
    }))

  it.scoped("a window keeps its calls and their ages", () =>
    Effect.gen(function*() {
      const options = { consecutiveFailures: false, minimumCalls: 10 } as const
      const breaker = yield* CircuitBreaker.make({ name: "b", ...options })
      yield* times(5, breaker.withBreaker(fail))
      yield* TestClock.adjust("20 seconds")
      yield* times(4, breaker.withBreaker(fail))
      const other = yield* CircuitBreaker.make({ name: "other", ...options, initial: yield* breaker.snapshot })
      expect((yield* other.metrics).window).toEqual({ calls: 9, failures: 9, slow: 0 })
      yield* TestClock.adjust("15 seconds")
      expect((yield* other.metrics).window.calls).toBe(4)
    }))

  it.scoped("a ramp goes on where it stood", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({ rampUp: "10 seconds" })
      yield* TestClock.adjust("5 seconds")
      yield* breaker.withBreaker(ok)
      yield* TestClock.adjust("3 seconds")
      const initial = yield* overTheWire(breaker)
      expect(initial.rampLeft).toEqual(Duration.seconds(7))
      yield* TestClock.adjust("1 day")
      const other = yield* CircuitBreaker.make({ name: "other", rampUp: "10 seconds", initial })
      const share = Effect.gen(function*() {
        let admitted = 0
        for (let i = 0; i < 1000; i++) if (Exit.isSuccess(yield* Effect.exit(other.withBreaker(ok)))) admitted++
        return admitted / 1000
      })
      expect(yield* share).toBeCloseTo(0.3, 1)
      yield* TestClock.adjust("4 seconds")
      expect(yield* share).toBeCloseTo(0.7, 1)
      yield* TestClock.adjust("3 seconds")
      expect(yield* share).toBe(1)
      expect((yield* other.snapshot).rampLeft).toBe(undefined)
      // where no ramp is wanted, none is taken over
      const plain = yield* CircuitBreaker.make({ name: "plain", initial })
      yield* times(100, plain.withBreaker(ok))
      expect(yield* plain.metrics).toMatchObject({ rejected: 0 })
      expect((yield* plain.snapshot).rampLeft).toBe(undefined)
    }))

  it.scoped("a circuit that is open without end stays so", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", openOn: () => Option.some(Duration.infinity) })
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* Effect.flatMap(breaker.snapshot, Schema.encode(CircuitBreaker.Snapshot))).toMatchObject({
        state: "Open",
        left: null
      })
      const other = yield* CircuitBreaker.make({ name: "other", initial: yield* overTheWire(breaker) })
      yield* TestClock.adjust("1 day")
      expect((yield* rejection(other.withBreaker(ok))).reason).toBe("Open")
      expect((yield* other.metrics).openFor).toEqual(Option.some(Duration.infinity))
    }))

  it.scoped("an open circuit that does not say how long is open for its first time", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        openDuration: "5 seconds",
        initial: { state: "Open" }
      })
      expect((yield* rejection(breaker.withBreaker(ok))).retryAfter).toEqual(Option.some(Duration.seconds(5)))
      yield* TestClock.adjust("5 seconds")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
    }))

  it.scoped("the gauge of the state begins with the state given, and counts the open circuits of a keyed breaker", () =>
    Effect.gen(function*() {
      class Hosts extends CircuitBreaker.Keyed<Hosts>()("gauged hosts", { consecutiveFailures: 1 }) {}
      const breaker = yield* CircuitBreaker.make({ name: "gauged", initial: { state: "ForcedOpen" } })
      expect(yield* gauge("gauged", "forced_open")).toEqual([1])
      yield* breaker.reset
      expect(yield* gauge("gauged", "forced_open")).toEqual([0])
      expect(yield* gauge("gauged", "closed")).toEqual([1])
      yield* Effect.gen(function*() {
        for (const key of ["a", "b"]) yield* Effect.exit(Hosts.withBreakerBy({ key })(fail))
        yield* Hosts.withBreakerBy({ key: "c" })(ok)
        expect(yield* gauge("gauged hosts", "open")).toEqual([2])
        expect((yield* gauge("gauged hosts", "closed")).filter((n) => n !== 0)).toEqual([])
      }).pipe(Effect.provide(Hosts.Live))
    }))

  it.scoped("starts in a given state", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", initial: { state: "ForcedOpen" } })
      expect((yield* rejection(breaker.withBreaker(ok))).reason).toBe("ForcedOpen")
    }))
})

describe("what goes wrong inside a scope that acquired", () => {
  it.scoped("is told once", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      const exits = [Effect.die("defect"), Effect.fail("down"), Effect.interrupt].map((end) =>
        Effect.exit(Effect.scoped(Effect.zipRight(breaker.acquire, end)))
      )
      for (const exit of yield* Effect.all(exits)) {
        expect(Exit.isFailure(exit) && exit.cause._tag).not.toBe("Sequential")
      }
      expect(yield* breaker.metrics).toMatchObject({ failed: 2, ignored: 1, running: 0 })
    }))

  it.scoped("a classify that throws is told by the end of the scope", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        classify: () => {
          throw new Error("oops")
        }
      })
      const exit = yield* Effect.exit(Effect.scoped(breaker.acquire))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("classify threw: Error: oops")
      expect(yield* breaker.metrics).toMatchObject({ ignored: 1, running: 0 })
    }))
})

describe("a keyed breaker", () => {
  class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts", {
    consecutiveFailures: 1,
    openDuration: "5 seconds",
    maxKeys: 2,
    idleAfter: "1 minute",
    optionsFor: (key) => key === "patient" ? { consecutiveFailures: 100 } : {}
  }) {}
  const at = (key: string) => Hosts.withBreakerBy({ key })

  it.effect("has a circuit per key", () =>
    Effect.gen(function*() {
      yield* times(1, at("a")(fail) as never)
      expect(yield* at("patient")(ok)).toBe("up")
      expect(yield* Effect.flip(at("a")(ok))).toMatchObject({ reason: "Open" })
      yield* Effect.exit(at("patient")(fail))
      expect(yield* at("patient")(ok)).toBe("up")
    }).pipe(Effect.provide(Hosts.layer({}))) as Effect.Effect<void>)

  it.effect("never forgets an open circuit, and forgets an idle one", () =>
    Effect.gen(function*() {
      yield* Effect.exit(at("a")(fail))
      yield* at("b")(ok)
      yield* at("c")(ok) // b goes: it holds nothing
      expect(yield* Hosts.metrics).toMatchObject({ keys: 2, evicted: 1, open: [{ key: "a", state: "Open" }] })
      yield* Effect.exit(at("c")(fail))
      expect(yield* Effect.flip(at("d")(ok))).toMatchObject({ reason: "TooManyKeys" })
      yield* TestClock.adjust("5 seconds")
      yield* at("c")(ok)
      yield* at("c")(ok)
      yield* TestClock.adjust("2 minutes")
      expect(yield* Hosts.metrics).toMatchObject({ keys: 1, open: [{ key: "a" }] })
    }).pipe(Effect.provide(Hosts.Live)))

  for (const watched of [false, true]) {
    it.scoped(`adds up the calls of all its keys, those of forgotten ones too${watched ? ", while it is watched" : ""}`, () =>
      Effect.gen(function*() {
        if (watched) yield* Hosts.on("*", () => Effect.void)
        expect(yield* Hosts.metrics).toMatchObject({ offered: 0, admitted: 0, rejected: 0, running: 0 })
        yield* Effect.exit(at("a")(fail)) // opens
        yield* Effect.exit(at("a")(ok)) // is turned away
        yield* at("b")(ok)
        yield* Effect.exit(at("c")(Effect.interrupt)) // b goes
        yield* Effect.exit(at("c")(fail))
        yield* Effect.exit(at("d")(ok)) // no room for the key
        const calls = { offered: 6, admitted: 4, rejected: 2, succeeded: 1, failed: 2, ignored: 1, running: 0 }
        expect(yield* Hosts.metrics).toMatchObject({ ...calls, keys: 2, evicted: 1 })
        yield* TestClock.adjust("5 seconds")
        const probe = yield* Effect.fork(at("a")(Effect.never))
        for (let turn = 0; turn < 3; turn++) yield* Effect.yieldNow()
        expect(yield* Hosts.metrics).toMatchObject({ offered: 7, admitted: 5, running: 1 })
        yield* Fiber.interrupt(probe)
        expect(yield* Hosts.metrics).toMatchObject({ offered: 7, admitted: 5, ignored: 2, running: 0 })
      }).pipe(Effect.provide(Hosts.Live)))
  }

  it.effect("lets new keys through unguarded where it is told to, and says so", () =>
    Effect.gen(function*() {
      yield* Effect.exit(at("a")(fail))
      yield* Effect.exit(at("b")(fail))
      expect(yield* at("c")(ok)).toBe("up")
      expect((yield* Hosts.metrics).unguarded).toBe(1)
    }).pipe(Effect.provide(Hosts.layer({ onFull: "admit" }))))
})

describe("a keyed breaker that forgets a circuit with a call in flight", () => {
  const keyed = <const Name extends string>(name: Name, options: CircuitBreaker.Options = {}) => {
    class Hosts extends CircuitBreaker.Keyed<Hosts>()(name, {
      consecutiveFailures: 1,
      openDuration: "5 seconds",
      halfOpenMaxCalls: 1,
      successThreshold: 1,
      maxKeys: 1,
      ...options
    }) {}
    const at = (key: string) => Hosts.withBreakerBy({ key })
    const inFlight = (key: string) =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<string, string>()
        const fiber = yield* Effect.fork(Effect.exit(at(key)(Deferred.await(gate))))
        for (let turn = 0; turn < 3; turn++) yield* Effect.yieldNow()
        return {
          fail: Effect.zipRight(Deferred.fail(gate, "down"), Fiber.join(fiber)),
          succeed: Effect.zipRight(Deferred.succeed(gate, "up"), Fiber.join(fiber))
        }
      })
    return { Hosts, at, inFlight }
  }

  it.effect("puts it back when the call opens it", () => {
    const { Hosts, at, inFlight } = keyed("comes back")
    return Effect.gen(function*() {
      const call = yield* inFlight("a")
      yield* at("b")(ok)
      expect(yield* Hosts.metricsOf("a")).toEqual(Option.none())
      yield* call.fail
      expect((yield* Hosts.metrics).open).toEqual([{ key: "a", state: "Open" }])
      expect(yield* gauge("comes back", "open")).toEqual([1])
      expect(yield* Effect.flip(at("a")(ok))).toMatchObject({ reason: "Open", cause: "down" })
      yield* TestClock.adjust("5 seconds")
      yield* at("a")(ok)
      expect(yield* gauge("comes back", "open")).toEqual([0])
      expect(yield* gauge("comes back", "half_open")).toEqual([0])
    }).pipe(Effect.provide(Hosts.Live))
  })

  it.effect("gives the result to the circuit that took its place", () => {
    const { Hosts, at, inFlight } = keyed("heir", { consecutiveFailures: 2 })
    return Effect.gen(function*() {
      const calls = [yield* inFlight("a"), yield* inFlight("a"), yield* inFlight("a")] as const
      yield* at("b")(ok)
      yield* at("a")(ok)
      yield* calls[0].succeed
      expect(Option.getOrThrow(yield* Hosts.metricsOf("a"))).toMatchObject({ succeeded: 2, failed: 0 })
      yield* calls[1].fail
      yield* calls[2].fail
      expect((yield* Hosts.metrics).open).toEqual([{ key: "a", state: "Open" }])
      expect(yield* gauge("heir", "open")).toEqual([1])
      expect(Option.getOrThrow(yield* Hosts.metricsOf("a"))).toMatchObject({ admitted: 4, failed: 2, running: 0 })
      expect(yield* Hosts.metrics).toMatchObject({ offered: 5, admitted: 5, succeeded: 3, failed: 2, running: 0 })
    }).pipe(Effect.provide(Hosts.Live))
  })

  it.effect("changes nothing when that circuit has been open since", () => {
    const { Hosts, at, inFlight } = keyed("late")
    return Effect.gen(function*() {
      const call = yield* inFlight("a")
      yield* at("b")(ok)
      yield* Effect.exit(at("a")(fail))
      yield* TestClock.adjust("5 seconds")
      yield* at("a")(ok)
      yield* call.fail
      expect((yield* Hosts.metrics).open).toEqual([])
      expect(yield* gauge("late", "open")).toEqual([0])
    }).pipe(Effect.provide(Hosts.Live))
  })

  it.effect("moves no gauge and tells nothing where there is no room for it", () => {
    const { Hosts, at, inFlight } = keyed("no room")
    return Effect.gen(function*() {
      const call = yield* inFlight("a")
      yield* Effect.exit(at("b")(fail))
      const told: Array<string | undefined> = []
      yield* Hosts.on("StateChanged", (event) => Effect.sync(() => told.push(event.key)))
      yield* call.fail
      for (let turn = 0; turn < 5; turn++) yield* Effect.yieldNow()
      expect((yield* Hosts.metrics).open).toEqual([{ key: "b", state: "Open" }])
      expect(yield* gauge("no room", "open")).toEqual([1])
      expect(told).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(Hosts.Live))
  })

  it.effect("counts a circuit once that two calls make at the same time", () => {
    const { Hosts, at } = keyed("made twice", {
      initial: { state: "ForcedOpen" },
      openDuration: Schedule.mapEffect(Schedule.spaced("5 seconds"), () => Effect.yieldNow())
    })
    return Effect.gen(function*() {
      yield* Effect.all([Effect.exit(at("a")(ok)), Effect.exit(at("a")(ok))], { concurrency: 2 })
      expect(yield* gauge("made twice", "forced_open")).toEqual([1])
    }).pipe(Effect.provide(Hosts.Live))
  })

  it.effect("forgets a circuit whose ramp is over", () => {
    const { Hosts, at } = keyed("ramped", { rampUp: "10 seconds" })
    return Effect.gen(function*() {
      yield* Effect.exit(at("a")(fail))
      yield* TestClock.adjust("5 seconds")
      yield* at("a")(ok)
      expect(yield* Effect.flip(at("b")(ok))).toMatchObject({ reason: "TooManyKeys" })
      yield* TestClock.adjust("10 seconds")
      expect(yield* at("b")(ok)).toBe("up")
    }).pipe(Effect.provide(Hosts.Live))
  })
})

describe("faults of others", () => {
  it.scoped("W-C1: a slow listener does not let a herd of probes through", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* breaker.on("StateChanged", () => Effect.never)
      yield* TestClock.adjust("5 seconds")
      const probes: Array<Fiber.RuntimeFiber<string, unknown>> = []
      for (let i = 0; i < 50; i++) probes.push((yield* running(breaker)).fiber)
      expect(yield* breaker.metrics).toMatchObject({ running: 1, rejected: 49 })
      yield* Fiber.interruptAll(probes)
    }))

  it.scoped("W-C2: asking whether a call would be admitted reserves nothing and moves no state", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      expect(yield* breaker.wouldAdmit).toBe(false)
      yield* TestClock.adjust("5 seconds")
      yield* Effect.repeatN(breaker.wouldAdmit, 100)
      expect(yield* breaker.wouldAdmit).toBe(true)
      expect(yield* breaker.state).toBe("Open")
      const { fiber } = yield* running(breaker)
      expect(yield* breaker.wouldAdmit).toBe(false)
      yield* Fiber.interrupt(fiber)
    }))

  it.scoped("W-C3: a probe that never returns does not wedge the circuit", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* TestClock.adjust("5 seconds")
      yield* running(breaker)
      yield* TestClock.adjust("10 seconds")
      yield* Effect.exit(breaker.withBreaker(ok))
      yield* TestClock.adjust("1 minute")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("W-C4, OP1: a success from before the trip does not close a half-open circuit", () =>
    Effect.gen(function*() {
      for (const held of [{}, { slowCallDuration: "1 hour" }] as const) {
        const breaker = yield* CircuitBreaker.make({
          name: "b",
          consecutiveFailures: 1,
          openDuration: "5 seconds",
          halfOpenMaxCalls: 1,
          successThreshold: 1,
          ...held
        })
        const early = yield* running(breaker)
        yield* times(1, breaker.withBreaker(fail))
        yield* TestClock.adjust("5 seconds")
        const probe = yield* running(breaker)
        yield* Deferred.succeed(early.gate, "late")
        yield* Fiber.join(early.fiber)
        expect(yield* breaker.state).toBe("HalfOpen")
        yield* Fiber.interrupt(probe.fiber)
      }
    }))

  it.scoped("W-C5: a probe of an earlier half-open period does not close a later one", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* TestClock.adjust("5 seconds")
      const old = yield* running(breaker)
      yield* TestClock.adjust("10 seconds")
      yield* Effect.exit(breaker.withBreaker(ok)) // gives way: open again
      yield* TestClock.adjust("5 seconds")
      const probe = yield* running(breaker)
      expect(yield* breaker.state).toBe("HalfOpen")
      yield* Deferred.succeed(old.gate, "late")
      yield* Fiber.join(old.fiber)
      expect(yield* breaker.state).toBe("HalfOpen")
      expect(yield* breaker.wouldAdmit).toBe(false) // its slot is not given back twice either
      yield* Fiber.interrupt(probe.fiber)
    }))

  it.scoped("W-C6: a call is run, not merely built, before it counts as a success", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      let runs = 0
      const call = breaker.withBreaker(Effect.sync(() => ++runs))
      expect(runs).toBe(0)
      yield* Effect.repeatN(call, 9)
      expect(runs).toBe(10)
      expect((yield* breaker.metrics).succeeded).toBe(10)
    }))

  it.scoped("W-C7: one guard serves effects of every kind in any order", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      const calls = [
        Effect.promise(() => Promise.resolve(1)),
        Effect.sync(() => 2),
        Effect.suspend(() => Effect.succeed(3))
      ]
      for (const order of [calls, [...calls].reverse()]) {
        expect((yield* Effect.forEach(order, (call) => breaker.withBreaker(call))).sort()).toEqual([1, 2, 3])
      }
    }))

  it.scoped("W-C8: guarding many different effects leaves nothing behind", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", slowCallDuration: "1 second" })
      for (let i = 0; i < 20_000; i++) yield* breaker.withBreaker(Effect.succeed(i))
      expect(yield* breaker.metrics).toMatchObject({ running: 0, succeeded: 20_000 })
    }))

  it.scoped("W-C9: a call that took no probe slot gives none back", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: 1,
        openDuration: "5 seconds",
        halfOpenMaxCalls: 1,
        successThreshold: 1
      })
      const early = yield* running(breaker)
      yield* times(1, breaker.withBreaker(fail))
      yield* TestClock.adjust("5 seconds")
      const probe = yield* running(breaker)
      yield* Deferred.fail(early.gate, "late")
      yield* Fiber.await(early.fiber)
      expect(yield* breaker.wouldAdmit).toBe(false)
      yield* Fiber.interrupt(probe.fiber)
    }))

  it.scoped("W-C10: successes while the circuit is open are no credit for closing it", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1, openDuration: "5 seconds" })
      const early = yield* running(breaker)
      yield* times(1, breaker.withBreaker(fail))
      yield* Deferred.succeed(early.gate, "late")
      yield* Fiber.join(early.fiber)
      yield* TestClock.adjust("5 seconds")
      yield* breaker.withBreaker(ok)
      expect(yield* breaker.state).toBe("HalfOpen") // two are needed
    }))

  it.scoped("W-C11: late failures do not keep an open circuit open", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: 1,
        openDuration: "5 seconds",
        halfOpenMaxCalls: 1,
        successThreshold: 1
      })
      const early = yield* running(breaker)
      yield* times(1, breaker.withBreaker(fail))
      yield* TestClock.adjust("4 seconds")
      yield* Deferred.fail(early.gate, "late")
      yield* Fiber.await(early.fiber)
      yield* TestClock.adjust("1 second")
      expect(yield* breaker.withBreaker(ok)).toBe("up")
    }))

  it.scoped("W-C12, CK6: a step of the wall clock changes nothing", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      const real = yield* Effect.clock
      const stepped = (millis: number) => ({
        ...real,
        unsafeCurrentTimeMillis: () => real.unsafeCurrentTimeMillis() + millis,
        unsafeCurrentTimeNanos: () => real.unsafeCurrentTimeNanos()
      })
      const ahead = stepped(3_600_000) as never
      expect((yield* Effect.withClock(rejection(breaker.withBreaker(ok)), ahead)).reason).toBe("Open")
      yield* TestClock.adjust("5 seconds")
      expect(yield* Effect.withClock(breaker.withBreaker(ok), stepped(-3_600_000) as never)).toBe("up")
    }))

  it.scoped("W-C13: four failures in five open a circuit although none are five in a row", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      let rejected = false
      for (let i = 0; i < 100 && !rejected; i++) {
        const exit = yield* Effect.exit(breaker.withBreaker<string, string, never>(i % 5 === 4 ? ok : fail))
        rejected = Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof CircuitOpenError
      }
      expect(rejected).toBe(true)
    }))

  it.scoped("W-C14: a listener that uses the breaker does not lock it up", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      const seen = yield* Deferred.make<string>()
      yield* breaker.on("StateChanged", () =>
        Effect.flatMap(Effect.zip(breaker.state, breaker.wouldAdmit), ([state]) => Deferred.succeed(seen, state)))
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* Deferred.await(seen)).toBe("Open")
    }))

  it.scoped("W-C15: a listener added after the first call sees the very next event", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      yield* breaker.withBreaker(ok)
      const queue = yield* breaker.subscribe
      yield* times(1, breaker.withBreaker(fail))
      const tags = [(yield* queue.take)._tag, (yield* queue.take)._tag]
      expect(tags).toEqual(["CallFailed", "StateChanged"])
    }))

  it.scoped("W-C16: rejections are counted and told", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      const queue = yield* breaker.subscribe
      yield* times(5, breaker.withBreaker(ok))
      expect(yield* breaker.metrics).toMatchObject({ offered: 6, admitted: 1, rejected: 5 })
      expect(yield* queue.take).toMatchObject({ _tag: "CallRejected", reason: "Open", retryAfter: Duration.seconds(5) })
    }))

  it.scoped("W-C16: a call that finds every key live is counted and told too", () =>
    Effect.gen(function*() {
      class Hosts extends CircuitBreaker.Keyed<Hosts>()("full", { consecutiveFailures: 1, maxKeys: 1 }) {}
      yield* Effect.gen(function*() {
        yield* Effect.exit(Hosts.withBreakerBy({ key: "a" })(fail))
        const queue = yield* Hosts.subscribe
        expect(yield* Effect.flip(Hosts.withBreakerBy({ key: "b" })(ok))).toMatchObject({ reason: "TooManyKeys" })
        expect(yield* queue.take).toMatchObject({
          _tag: "CallRejected",
          instance: "full",
          key: "b",
          callId: 1,
          reason: "TooManyKeys"
        })
        expect(yield* Hosts.metrics).toMatchObject({ keys: 1, rejected: 1, unguarded: 0 })
      }).pipe(Effect.provide(Hosts.Live))
    }))

  it.scoped("W-C17: the one classification is honoured everywhere", () =>
    Effect.gen(function*() {
      class NotFound {
        readonly _tag = "NotFound"
      }
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: 1,
        openDuration: "5 seconds",
        halfOpenMaxCalls: 1,
        successThreshold: 1,
        classify: classifyWith({ ignoreTags: ["NotFound"] })
      })
      yield* times(10, breaker.withBreaker(Effect.fail(new NotFound())))
      expect(yield* breaker.state).toBe("Closed")
      yield* times(1, breaker.withBreaker(fail))
      yield* TestClock.adjust("5 seconds")
      yield* times(1, breaker.withBreaker(Effect.fail(new NotFound())))
      expect(yield* breaker.state).toBe("HalfOpen")
    }))

  it.scoped("W-C18: rejections of our own patterns do not open the circuit", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 0 })
      yield* Effect.fork(bulkhead.withPermit(Effect.never))
      yield* Effect.yieldNow()
      yield* times(10, ok.pipe(bulkhead.withPermit, breaker.withBreaker))
      expect(yield* breaker.state).toBe("Closed")
      expect(yield* breaker.metrics).toMatchObject({ ignored: 10, failed: 0 })
    }))

  it.scoped("W-C19: one opening is told once", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 3 })
      const queue = yield* breaker.subscribe
      const calls = yield* Effect.forEach(Array.from({ length: 10 }), () => running(breaker))
      for (const { gate } of calls) yield* Deferred.fail(gate, "down")
      for (const { fiber } of calls) yield* Fiber.await(fiber)
      yield* Effect.yieldNow()
      yield* Effect.yieldNow()
      const events = [...(yield* queue.takeAll)]
      expect(events.filter((event) => event._tag === "StateChanged")).toHaveLength(1)
      expect(events.filter((event) => event._tag === "CallFailed" && event.tripped)).toHaveLength(1)
    }))

  it.scoped("W-C20: a timeout inside the breaker is a typed failure that counts", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1 })
      const call = yield* Effect.fork(Effect.flip(Effect.never.pipe(Timeout.within("1 second"), breaker.withBreaker)))
      yield* TestClock.adjust("1 second")
      expect((yield* Fiber.join(call))._tag).toBe("TimeoutExceededError")
      expect(yield* breaker.state).toBe("Open")
    }))

  it.scoped("W-C22: a misspelt option is refused by name", () =>
    Effect.gen(function*() {
      const misspelt = { name: "b", failureTreshold: 1 } as CircuitBreaker.Options & { readonly name: string }
      const exit = yield* Effect.exit(CircuitBreaker.make(misspelt))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("failureTreshold")
    }))

  it.scoped("W-C23: a rejection says why at the moment of the decision", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      const rejected = yield* rejection(breaker.withBreaker(ok))
      yield* breaker.reset
      expect(rejected).toMatchObject({ state: "Open", reason: "Open" })
      expect(rejected.message).toContain("Open")
    }))

  it.scoped("W-C24: an empty window has no failure rate", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      expect((yield* breaker.metrics).failureRate).toEqual(Option.none())
      yield* times(1, breaker.withBreaker(fail))
      expect((yield* breaker.metrics).failureRate).toEqual(Option.some(1))
      yield* TestClock.adjust("1 minute")
      expect((yield* breaker.metrics).failureRate).toEqual(Option.none())
    }))

  it.scoped("CK1: failures of an hour ago do not open the circuit", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: false,
        minimumCalls: 5,
        window: { duration: "5 seconds" }
      })
      yield* times(4, breaker.withBreaker(fail))
      yield* TestClock.adjust("1 hour")
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Closed")
      expect((yield* breaker.metrics).window.calls).toBe(1)
    }))

  it.scoped("CK3: a failure from before the trip does not end a running probe's verdict", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "b",
        consecutiveFailures: 1,
        openDuration: "5 seconds",
        halfOpenMaxCalls: 1,
        successThreshold: 1
      })
      const early = yield* running(breaker)
      yield* times(1, breaker.withBreaker(fail))
      yield* TestClock.adjust("5 seconds")
      const probe = yield* running(breaker)
      yield* Deferred.fail(early.gate, "late")
      yield* Fiber.await(early.fiber)
      expect(yield* breaker.state).toBe("HalfOpen")
      yield* Deferred.succeed(probe.gate, "up")
      yield* Fiber.join(probe.fiber)
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("CK4: callers beyond the probes fail at once instead of waiting", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* TestClock.adjust("5 seconds")
      const probe = yield* running(breaker)
      const waiting = yield* running(breaker)
      expect(Option.isSome(yield* Fiber.poll(waiting.fiber))).toBe(true)
      yield* Fiber.interrupt(probe.fiber)
    }))

  it.scoped("OP2: rejected calls are not in the failure rate", () =>
    Effect.gen(function*() {
      const breaker = yield* opened()
      yield* times(99, breaker.withBreaker(ok))
      expect(yield* breaker.metrics).toMatchObject({ failed: 1, rejected: 99, admitted: 1 })
    }))

  it.scoped("OP3: one failed call does not open a fresh breaker", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b" })
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("OP6: an ignored error does not close a half-open circuit", () =>
    Effect.gen(function*() {
      const breaker = yield* opened({
        classify: (exit) =>
          Exit.isFailure(exit) && Cause.squash(exit.cause) === "mine"
            ? "ignored"
            : Exit.isFailure(exit)
            ? "failure"
            : "success"
      })
      yield* TestClock.adjust("5 seconds")
      yield* times(3, breaker.withBreaker(Effect.fail("mine")))
      expect(yield* breaker.state).toBe("HalfOpen")
    }))

  it.scoped("OP8: a breaker has no timers", () =>
    Effect.gen(function*() {
      const before = process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length
      for (let i = 0; i < 100; i++) yield* opened({ slowCallDuration: "1 second" })
      expect(process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length).toBe(before)
    }))

  it.effect("style 4.1: a layer provided at the call site builds a new breaker per call", () =>
    Effect.gen(function*() {
      class Payments extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 2 }) {}
      const wrong = fail.pipe(Payments.withBreaker, Effect.provide(Payments.Live), Effect.flip)
      for (let i = 0; i < 10; i++) expect(yield* wrong).toBe("down")
      const right = Effect.gen(function*() {
        yield* times(2, fail.pipe(Payments.withBreaker) as never)
        return yield* Effect.flip(fail.pipe(Payments.withBreaker))
      })
      expect(yield* Effect.provide(right, Payments.Live)).toBeInstanceOf(CircuitOpenError)
    }))
})

describe("functions of the user that throw", () => {
  it.scoped("give the probe back first, and are named by the defect", () =>
    Effect.gen(function*() {
      let angry = false
      const breaker = yield* opened({
        classify: (exit) => {
          if (angry) throw new Error("oops")
          return Exit.isFailure(exit) ? "failure" : "success"
        }
      })
      yield* TestClock.adjust("5 seconds")
      angry = true
      const exit = yield* Effect.exit(breaker.withBreaker(ok))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("classify threw: Error: oops")
      angry = false
      expect(yield* breaker.withBreaker(ok)).toBe("up")
      expect(yield* breaker.state).toBe("Closed")
    }))

  it.scoped("openOn too", () =>
    Effect.gen(function*() {
      let angry = false
      const breaker = yield* opened({
        openOn: () => {
          if (angry) throw new Error("oops")
          return Option.none()
        }
      })
      yield* TestClock.adjust("5 seconds")
      angry = true
      const exit = yield* Effect.exit(breaker.withBreaker(ok))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("openOn threw: Error: oops")
      expect(yield* breaker.metrics).toMatchObject({ state: "HalfOpen", running: 0, ignored: 1 })
      angry = false
      expect(yield* breaker.withBreaker(ok)).toBe("up")
    }))
})

describe("an openOn that names no time", () => {
  for (const bad of [NaN, -5, "soon", "-1 seconds", {}, null]) {
    it.scoped(`as ${String(bad)}, is named by the defect and opens nothing`, () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({ name: "b", openOn: () => Option.some(bad as never) })
        const exit = yield* Effect.exit(breaker.withBreaker(fail))
        const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        expect(defect).toBeInstanceOf(OptionThrewError)
        expect(String(defect)).toContain(`"b": the function given as openOn threw: Error: it must give a duration`)
        expect(yield* breaker.metrics).toMatchObject({ state: "Closed", running: 0, ignored: 1 })
      }))
  }

  it.scoped("a server that names no wait at all is probed by the next call", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", openOn: () => Option.some(0) })
      yield* times(1, breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("Open")
      expect(yield* breaker.wouldAdmit).toBe(true)
    }))
})

it.effect("two named breakers are apart at run time", () =>
  Effect.gen(function*() {
    class A extends CircuitBreaker.Tag<A>()("a", { consecutiveFailures: 1 }) {}
    class B extends CircuitBreaker.Tag<B>()("b", { consecutiveFailures: 1 }) {}
    const program = Effect.gen(function*() {
      yield* Effect.exit(A.withBreaker(fail))
      expect(yield* A.state).toBe("Open")
      expect(yield* B.withBreaker(ok)).toBe("up")
    })
    yield* Effect.provide(program, Layer.mergeAll(A.Live, B.Live))
  }))
