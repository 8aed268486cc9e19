import {
  Bulkhead,
  classify,
  Deadline,
  DeadlineExceededError,
  Fallback,
  Retry,
  Timeout,
  TimeoutExceededError
} from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, FiberRef, Option, Queue, Scope, TestClock } from "effect"

/** The same suite under the live clock, in milliseconds, and under `TestClock`, which is adjusted. */
const clocks = [
  { name: "live clock", test: it.scopedLive, pass: (duration: Duration.DurationInput) => Effect.sleep(duration) },
  { name: "TestClock", test: it.scoped, pass: (duration: Duration.DurationInput) => TestClock.adjust(duration) }
]

for (const { name, pass, test } of clocks) {
  describe(`timeout under the ${name}`, () => {
    test("a call that ends in time keeps its value", () =>
      Effect.gen(function*() {
        const timeout = yield* Timeout.make({ name: "t", duration: "2 seconds" })
        expect(yield* timeout.withTimeout(Effect.succeed(1))).toBe(1)
        expect(yield* Effect.flip(timeout.withTimeout(Effect.fail("mine")))).toBe("mine")
        expect(yield* timeout.metrics).toMatchObject({ succeeded: 1, failed: 1, timedOut: 0, running: 0 })
      }))

    test("a call that does not is interrupted, and its finalizers are waited for", () =>
      Effect.gen(function*() {
        const timeout = yield* Timeout.make({ name: "t", duration: "30 millis" })
        let closed = false
        const body = Effect.onInterrupt(Effect.never, () =>
          Effect.zipRight(
            Effect.yieldNow(),
            Effect.sync(() => {
              closed = true
            })
          ))
        const call = yield* Effect.fork(Effect.flip(timeout.withTimeout(body)))
        yield* Effect.yieldNow()
        yield* pass("40 millis")
        const error = yield* Fiber.join(call)
        expect(error).toBeInstanceOf(TimeoutExceededError)
        expect(error).toMatchObject({ pattern: "Timeout", instance: "t", reason: "LimitExceeded" })
        expect(closed).toBe(true)
        expect(yield* timeout.metrics).toMatchObject({ timedOut: 1, failed: 1, running: 0 })
      }))

    test("disconnect: answers on time around work that cannot be interrupted", () =>
      Effect.gen(function*() {
        const timeout = yield* Timeout.make({ name: "t", duration: "20 millis", disconnect: true })
        const done = yield* Deferred.make<string>()
        const body = Effect.uninterruptible(Effect.zipRight(Effect.sleep("60 millis"), Deferred.succeed(done, "late")))
        const call = yield* Effect.fork(Effect.flip(timeout.withTimeout(body)))
        yield* Effect.yieldNow()
        yield* pass("30 millis")
        const error = yield* Fiber.join(call)
        expect(error).toBeInstanceOf(TimeoutExceededError)
        expect(Option.isNone(yield* Deferred.poll(done))).toBe(true)
        yield* pass("60 millis")
        expect(yield* Deferred.await(done)).toBe("late")
      }))

    test("interrupting the caller interrupts the call and leaves no timer", () =>
      Effect.gen(function*() {
        const before = process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length
        let interrupted = 0
        const body = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
        const call = yield* Effect.fork(body.pipe(Timeout.within("1 hour")))
        for (let i = 0; i < 5; i++) yield* Effect.yieldNow()
        yield* Fiber.interrupt(call)
        expect(interrupted).toBe(1)
        expect(process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length).toBeLessThanOrEqual(before)
      }))

    test("what runs inside sees the tightened deadline, the caller does not", () =>
      Effect.gen(function*() {
        const inside = yield* Deadline.remaining.pipe(Timeout.within("2 seconds"))
        expect(Duration.toMillis(Option.getOrThrow(inside))).toBeGreaterThan(1500)
        expect(Duration.toMillis(Option.getOrThrow(inside))).toBeLessThanOrEqual(2000)
        expect(yield* Deadline.remaining).toEqual(Option.none())
      }))

    test("FiberRefs set inside reach the caller", () =>
      Effect.gen(function*() {
        const ref = yield* FiberRef.make(0)
        yield* FiberRef.set(ref, 1).pipe(Timeout.within("1 second"))
        expect(yield* FiberRef.get(ref)).toBe(1)
        yield* Effect.exit(Effect.zipRight(FiberRef.set(ref, 2), Effect.fail("no")).pipe(Timeout.within("1 second")))
        expect(yield* FiberRef.get(ref)).toBe(2)
      }))

    test("where the ambient deadline comes first, only the deadline fails", () =>
      Effect.gen(function*() {
        const timeout = yield* Timeout.make({ name: "t", duration: "1 minute" })
        const call = yield* Effect.fork(
          Effect.flip(timeout.withTimeout(Effect.never).pipe(Deadline.within("20 millis")))
        )
        yield* Effect.yieldNow()
        yield* pass("30 millis")
        expect(yield* Fiber.join(call)).toBeInstanceOf(DeadlineExceededError)
        expect(yield* timeout.metrics).toMatchObject({ timedOut: 0, ignored: 1, running: 0 })
      }))

    test("where the timeout comes first, only the timeout fails", () =>
      Effect.gen(function*() {
        const call = yield* Effect.fork(
          Effect.flip(Effect.never.pipe(Timeout.within("20 millis"), Deadline.within("1 minute")))
        )
        yield* Effect.yieldNow()
        yield* pass("30 millis")
        expect(yield* Fiber.join(call)).toBeInstanceOf(TimeoutExceededError)
      }))

    test("one deadline around two calls in a row", () =>
      Effect.gen(function*() {
        let second = false
        const two = Effect.zipRight(
          Effect.sleep("20 millis"),
          Effect.zipRight(
            Effect.sleep("1 minute"),
            Effect.sync(() => {
              second = true
            })
          )
        )
        const call = yield* Effect.fork(Effect.flip(two.pipe(Deadline.within("50 millis"))))
        yield* Effect.yieldNow()
        yield* pass("20 millis")
        yield* pass("40 millis")
        expect(yield* Fiber.join(call)).toMatchObject({ reason: "Exceeded", origin: "own" })
        expect(second).toBe(false)
      }))

    test("one value shared by two fibers", () =>
      Effect.gen(function*() {
        const instant = yield* Deadline.after("30 millis")
        const fibers = yield* Effect.forEach([1, 2], () =>
          Effect.fork(Effect.flip(Effect.never.pipe(Deadline.at(instant)))))
        yield* Effect.yieldNow()
        yield* pass("40 millis")
        for (const fiber of fibers) {
          expect(yield* Fiber.join(fiber)).toBeInstanceOf(DeadlineExceededError)
        }
        let ran = false
        const late = yield* Effect.flip(
          Effect.sync(() => {
            ran = true
          }).pipe(Deadline.at(instant))
        )
        expect([late.reason, ran]).toEqual(["Expired", false])
      }))

    test("a deadline only gets tighter", () =>
      Effect.gen(function*() {
        const left = yield* Deadline.remaining.pipe(Deadline.within("1 hour"), Deadline.within("2 seconds"))
        expect(Duration.toMillis(Option.getOrThrow(left))).toBeLessThanOrEqual(2000)
      }))
  })
}

describe("timeout", () => {
  it.scoped("a limit of zero or less is none; a limit of its own replaces the instance's", () =>
    Effect.gen(function*() {
      const timeout = yield* Timeout.make({ name: "t", duration: "1 second" })
      const call = yield* Effect.fork(Effect.all([
        Effect.exit(timeout.withTimeoutBy(0)(Effect.as(Effect.sleep("5 seconds"), "no limit"))),
        Effect.exit(timeout.withTimeoutBy(-1)(Effect.as(Effect.sleep("5 seconds"), "no limit"))),
        Effect.exit(timeout.withTimeoutBy("3 seconds")(Effect.never))
      ], { concurrency: "unbounded" }))
      yield* TestClock.adjust("5 seconds")
      const [zero, negative, own] = yield* Fiber.join(call)
      expect([zero, negative]).toEqual([Exit.succeed("no limit"), Exit.succeed("no limit")])
      expect(Exit.isFailure(own) && Cause.squash(own.cause)).toMatchObject({ limit: Duration.seconds(3) })
      expect(() => timeout.withTimeoutBy(NaN)).toThrow(/Timeout "t": option duration/)
    }))

  it.scoped("a timer that cannot be set as such waits its full time", () =>
    Effect.gen(function*() {
      const call = yield* Effect.fork(Effect.flip(Effect.never.pipe(Timeout.within("60 days"))))
      yield* TestClock.adjust("59 days")
      expect(Option.isNone(yield* Fiber.poll(call))).toBe(true)
      yield* TestClock.adjust("1 day")
      expect(yield* Fiber.join(call)).toBeInstanceOf(TimeoutExceededError)
    }))

  it.scopedLive("limits beyond what a JavaScript timer can hold do not fire at once", () =>
    Effect.gen(function*() {
      const call = yield* Effect.fork(Effect.never.pipe(Timeout.within("60 days")))
      yield* Effect.sleep("20 millis")
      expect(Option.isNone(yield* Fiber.poll(call))).toBe(true)
      yield* Fiber.interrupt(call)
    }))

  it.scoped("tells who ended a call", () =>
    Effect.gen(function*() {
      const timeout = yield* Timeout.make({ name: "t", duration: "1 second" })
      const queue = yield* timeout.subscribe
      yield* timeout.withTimeout(Effect.succeed(1))
      const own = yield* Effect.fork(Effect.exit(timeout.withTimeout(Effect.never)))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(own)
      const outer = yield* Effect.fork(
        Effect.exit(timeout.withTimeout(Effect.never).pipe(Deadline.within("500 millis")))
      )
      yield* TestClock.adjust("500 millis")
      yield* Fiber.join(outer)
      expect([yield* Queue.take(queue), yield* Queue.take(queue), yield* Queue.take(queue)]).toMatchObject([
        { _tag: "CompletedInTime", limit: Duration.seconds(1) },
        { _tag: "TimedOut", by: "ownLimit", elapsed: Duration.seconds(1) },
        { _tag: "TimedOut", by: "deadline", elapsed: Duration.millis(500) }
      ])
    }))
})

describe("deadline", () => {
  it.effect("ends what has a later one of its own, also where it is only told", () =>
    Effect.gen(function*() {
      const call = yield* Effect.never.pipe(
        Deadline.within("10 seconds"),
        Effect.provideService(Deadline, { at: 200_000_000n, origin: "caller" as const }),
        Effect.flip,
        Effect.fork
      )
      yield* TestClock.adjust("199 millis")
      expect(call.unsafePoll()).toBeNull()
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(call)).toMatchObject({
        _tag: "DeadlineExceededError",
        reason: "Exceeded",
        origin: "caller"
      })
    }))

  it.effect("one that has passed starts nothing", () =>
    Effect.gen(function*() {
      let ran = false
      const error = yield* Effect.flip(
        Effect.sync(() => {
          ran = true
        }).pipe(Deadline.within(0))
      )
      expect([error.reason, ran]).toEqual(["Expired", false])
    }))

  it.effect("a date is read when the effect starts", () =>
    Effect.gen(function*() {
      yield* TestClock.adjust("10 seconds")
      const left = yield* Deadline.remaining.pipe(Deadline.at(new Date(12_000)))
      expect(left).toEqual(Option.some(Duration.seconds(2)))
      expect((yield* Effect.flip(Effect.void.pipe(Deadline.at(new Date(9_000))))).reason).toBe("Expired")
    }))

  it.effect("whose limit it was decides what it means", () =>
    Effect.gen(function*() {
      const meaning = (origin: "own" | "caller") =>
        Effect.gen(function*() {
          const call = yield* Effect.fork(Effect.exit(Effect.never.pipe(Deadline.within("1 second", { origin }))))
          yield* TestClock.adjust("1 second")
          return classify(yield* Fiber.join(call))
        })
      expect(yield* meaning("own")).toBe("failure")
      expect(yield* meaning("caller")).toBe("ignored")
      expect(classify(yield* Effect.exit(Effect.void.pipe(Deadline.within(0))))).toBe("ignored")
    }))

  it.effect("the caller's deadline keeps its origin where ours is later", () =>
    Effect.gen(function*() {
      const inner = Deadline.current.pipe(Deadline.within("1 hour"), Deadline.within("1 second", { origin: "caller" }))
      expect(Option.map(yield* inner, ({ origin }) => origin)).toEqual(Option.some("caller"))
    }))

  it("nonsense is refused", () => {
    expect(() => Deadline.within(NaN)).toThrow(/Deadline/)
    expect(() => Deadline.within(-5)).toThrow(/Deadline/)
  })
})

/** A fiber that begins in a region and outlives it: the region ends at once. */
const daemonIn = <A, E, E2>(
  work: Effect.Effect<A, E>,
  region: (effect: Effect.Effect<Fiber.RuntimeFiber<A, E>>) => Effect.Effect<Fiber.RuntimeFiber<A, E>, E2>
) => region(Effect.zipLeft(Effect.forkDaemon(work), Effect.yieldNow()))

describe("a fiber that outlives the region it was forked in", () => {
  const regions = [
    { name: "a deadline", region: Deadline.within("100 millis") },
    { name: "a timeout", region: Timeout.within("100 millis") }
  ]
  for (const { name, region } of regions) {
    it.effect(`sees no deadline any more: ${name}`, () =>
      Effect.gen(function*() {
        const before = Deadline.current
        const after = Effect.zipRight(Effect.sleep("1 second"), Deadline.remaining)
        const daemon = yield* daemonIn(Effect.zip(before, after), region)
        yield* TestClock.adjust("1 second")
        const [there, gone] = yield* Fiber.join(daemon)
        expect(Option.isSome(there)).toBe(true)
        expect(gone).toEqual(Option.none())
      }))

    it.effect(`is limited by its own timeout: ${name}`, () =>
      Effect.gen(function*() {
        const daemon = yield* daemonIn(Effect.flip(Effect.never.pipe(Timeout.within("200 millis"))), region)
        yield* TestClock.adjust("199 millis")
        expect(Option.isNone(yield* Fiber.poll(daemon))).toBe(true)
        yield* TestClock.adjust("1 millis")
        expect(yield* Fiber.join(daemon)).toBeInstanceOf(TimeoutExceededError)
      }))

    it.effect(`is limited by its own deadline: ${name}`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const late = Effect.zipRight(Effect.sleep("150 millis"), Effect.never.pipe(Deadline.within("1 second")))
        const worker = yield* region(Effect.forkIn(Effect.flip(late), scope))
        yield* TestClock.adjust("1149 millis")
        expect(Option.isNone(yield* Fiber.poll(worker))).toBe(true)
        yield* TestClock.adjust("1 millis")
        expect(yield* Fiber.join(worker)).toMatchObject({ reason: "Exceeded", origin: "own" })
        yield* Scope.close(scope, Exit.void)
      }))
  }

  it.effect("is limited by its own timeout also where the region waits for work that cannot be interrupted", () =>
    Effect.gen(function*() {
      let daemon: Fiber.RuntimeFiber<TimeoutExceededError, never> | undefined
      const work = Effect.flip(Effect.never.pipe(Timeout.within("200 millis")))
      const stubborn = Effect.zipRight(
        Effect.map(Effect.forkDaemon(work), (fiber) => {
          daemon = fiber
        }),
        Effect.uninterruptible(Effect.sleep("1 hour"))
      )
      const region = yield* Effect.fork(stubborn.pipe(Deadline.within("100 millis")))
      yield* TestClock.adjust("200 millis")
      expect(daemon === undefined ? Option.none() : yield* Fiber.poll(daemon))
        .toMatchObject({ value: { value: { _tag: "TimeoutExceededError" } } })
      yield* TestClock.adjust("1 hour")
      yield* Fiber.await(region)
    }))

  it.effect("still sees an outer region that stands", () =>
    Effect.gen(function*() {
      const left = Effect.zipRight(Effect.sleep("500 millis"), Deadline.remaining)
      const both = Effect.flatMap(
        Effect.forkDaemon(left).pipe(Timeout.within("100 millis")),
        (daemon) => Fiber.join(daemon)
      )
      const call = yield* Effect.fork(both.pipe(Deadline.within("2 seconds")))
      yield* TestClock.adjust("500 millis")
      expect(yield* Fiber.join(call)).toEqual(Option.some(Duration.millis(1500)))
    }))

  it.effect("a value of an instant that others used stands for whoever uses it next", () =>
    Effect.gen(function*() {
      const instant = yield* Deadline.after("1 second")
      yield* Effect.void.pipe(Deadline.at(instant))
      expect(yield* Deadline.remaining.pipe(Deadline.at(instant))).toEqual(Option.some(Duration.seconds(1)))
      const current = yield* Deadline.current.pipe(Deadline.within("1 second"))
      const call = Effect.never.pipe(Deadline.at(Option.getOrThrow(current)), Timeout.within("1 minute"))
      const late = yield* Effect.fork(Effect.flip(call))
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(late)).toBeInstanceOf(DeadlineExceededError)
    }))

  it.scoped("is let into a bulkhead, at once and from the queue", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "1 minute" })
      const region = Deadline.within("100 millis")
      const late = yield* daemonIn(Effect.zipRight(Effect.sleep("1 second"), bulkhead.withPermit(Effect.void)), region)
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.await(late)).toEqual(Exit.void)

      yield* Effect.fork(bulkhead.withPermit(Effect.sleep("1 second")))
      yield* Effect.yieldNow()
      const queued = yield* daemonIn(bulkhead.withPermit(Effect.void), region)
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.await(queued)).toEqual(Exit.void)
    }))

  it.scoped("waits for a bulkhead no longer than its maxWait", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1, maxWait: "1 second" })
      yield* Effect.fork(bulkhead.withPermit(Effect.never))
      yield* Effect.yieldNow()
      const queued = yield* daemonIn(Effect.flip(bulkhead.withPermit(Effect.void)), Deadline.within("100 millis"))
      yield* TestClock.adjust("999 millis")
      expect(Option.isNone(yield* Fiber.poll(queued))).toBe(true)
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(queued)).toMatchObject({ reason: "WaitExceeded" })
    }))

  it.effect("sleeps between its retries", () =>
    Effect.gen(function*() {
      let attempts = 0
      const call = Effect.suspend(() => Effect.fail(++attempts))
      const retried = call.pipe(Retry.using({ initialDelay: "1 second", jitter: "none" }))
      const daemon = yield* daemonIn(
        Effect.flip(Effect.zipRight(Effect.sleep("1 second"), retried)),
        Deadline.within("100 millis")
      )
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(daemon)).toBe(3)
    }))

  it.effect("a finalizer that runs when the deadline has passed is limited by its own timeout", () =>
    Effect.gen(function*() {
      const closing = Effect.exit(Effect.sleep("1 hour").pipe(Timeout.within("1 second", { disconnect: true })))
      const call = yield* Effect.fork(
        Effect.flip(Effect.never.pipe(Effect.ensuring(closing), Deadline.within("100 millis")))
      )
      yield* TestClock.adjust("1100 millis")
      expect(Option.map(yield* Fiber.poll(call), (exit) => exit._tag)).toEqual(Option.some("Success"))
    }))
})

describe("a call that fails while it is interrupted", () => {
  const bug = new Error("close failed")
  const closingFails = <A>(effect: Effect.Effect<A>) => Effect.ensuring(effect, Effect.die(bug))
  const expire = <A, E>(call: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(Effect.exit(call))
      yield* TestClock.adjust("50 millis")
      return yield* Fiber.join(fiber)
    })

  it.scoped("has timed out, and the error carries what else went wrong", () =>
    Effect.gen(function*() {
      const timeout = yield* Timeout.make({ name: "t", duration: "1 minute" })
      const calls = [
        closingFails(Effect.never).pipe(Timeout.within("50 millis")),
        closingFails(Effect.never).pipe(Deadline.within("50 millis")),
        closingFails(Effect.never).pipe(timeout.withTimeout, Deadline.within("50 millis"))
      ]
      for (const call of calls) {
        const exit = yield* expire<never, TimeoutExceededError | DeadlineExceededError>(call)
        const error = Option.getOrThrow(Cause.failureOption(Exit.isFailure(exit) ? exit.cause : Cause.empty))
        expect(exit).toEqual(Exit.fail(error))
        expect(error._tag).toMatch(/^(Timeout|Deadline)ExceededError$/)
        expect(error.cause).toBe(bug)
        expect(Object.keys(error)).not.toContain("cause")
      }
      const several = yield* expire(closingFails(closingFails(Effect.never)).pipe(Timeout.within("50 millis")))
      expect(Exit.isFailure(several) && Cause.squash(several.cause)).toMatchObject({ cause: { errors: [bug, bug] } })
    }))

  it.effect("counts, is retried and is answered like any other that timed out", () =>
    Effect.gen(function*() {
      let attempts = 0
      const call = Effect.suspend(() => {
        attempts++
        return closingFails(Effect.never)
      })
      const limited = call.pipe(Timeout.within("20 millis"))
      expect(classify(yield* expire(limited))).toBe("failure")
      expect(attempts).toBe(1)
      const retried = limited.pipe(Retry.using({ initialDelay: 0, maxAttempts: 2 }), Fallback.to("answer"))
      expect(yield* expire(retried)).toEqual(Exit.succeed("answer"))
      expect(attempts).toBe(3)
    }))

  it.effect("is not the dependency's fault where the caller set the deadline", () =>
    Effect.gen(function*() {
      const guard = Deadline.within("50 millis", { origin: "caller" })
      expect(classify(yield* expire(closingFails(Effect.never).pipe(guard)))).toBe("ignored")
    }))

  it.effect("keeps its own answer where nothing in it was interrupted", () =>
    Effect.gen(function*() {
      const late = <E>(answer: Effect.Effect<string, E>) =>
        expire(Effect.uninterruptible(
          Effect.zipRight(Effect.sleep("50 millis"), answer).pipe(Timeout.within("20 millis"))
        ))
      expect(yield* late(Effect.succeed("late"))).toEqual(Exit.succeed("late"))
      expect(yield* late(Effect.fail("late"))).toEqual(Exit.fail("late"))
      expect(yield* late(Effect.die(bug))).toEqual(Exit.die(bug))
    }))
})

describe("disconnect", () => {
  it.scoped("a call that ends without a wait has no timer, and its `FiberRef`s reach the caller", () =>
    Effect.gen(function*() {
      const timeout = yield* Timeout.make({ name: "t", duration: "1 second", disconnect: true })
      const ref = FiberRef.unsafeMake(0)
      const call = Effect.zipRight(FiberRef.set(ref, 1), TestClock.sleeps())
      expect(yield* timeout.withTimeout(call)).toHaveLength(0)
      expect(yield* FiberRef.get(ref)).toBe(1)
      expect(yield* Effect.flip(timeout.withTimeout(Effect.fail("mine")))).toBe("mine")
      expect(yield* timeout.metrics).toMatchObject({ succeeded: 1, failed: 1, running: 0 })
    }))
})

describe("disconnect under a deadline that comes first", () => {
  it.scoped("answers at the deadline around work that cannot be interrupted", () =>
    Effect.gen(function*() {
      const timeout = yield* Timeout.make({ name: "t", duration: "300 millis", disconnect: true })
      const work = Effect.uninterruptible(Effect.sleep("1 hour"))
      const calls = yield* Effect.forEach(
        [timeout.withTimeout, Timeout.within("300 millis", { disconnect: true })],
        (guard) => Effect.fork(Effect.flip(work.pipe(guard, Deadline.within("200 millis"))))
      )
      yield* TestClock.adjust("200 millis")
      for (const call of calls) {
        expect(Option.map(yield* Fiber.poll(call), (exit) => exit)).toMatchObject({
          value: { value: { _tag: "DeadlineExceededError" } }
        })
      }
      expect(yield* timeout.metrics).toMatchObject({ timedOut: 0, ignored: 1, running: 0 })
      yield* TestClock.adjust("1 hour")
    }))
})

describe("faults of others", () => {
  it.scoped("W-T1: a timeout of the call itself is not mistaken for ours", () =>
    Effect.gen(function*() {
      const outer = yield* Timeout.make({ name: "outer", duration: "30 seconds" })
      const inner = yield* Timeout.make({ name: "inner", duration: "1 second" })
      const call = yield* Effect.fork(Effect.flip(Effect.never.pipe(inner.withTimeout, outer.withTimeout)))
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(call)).toMatchObject({ instance: "inner" })
      expect(yield* outer.metrics).toMatchObject({ timedOut: 0, failed: 1 })
      const own = new Cause.TimeoutException("theirs")
      expect(yield* Effect.flip(Effect.fail(own).pipe(outer.withTimeout))).toBe(own)
    }))

  it.scoped("W-T2: work that timed out does not run on", () =>
    Effect.gen(function*() {
      let ticks = 0
      const body = Effect.forever(Effect.zipRight(Effect.sync(() => ticks++), Effect.sleep("100 millis")))
      const call = yield* Effect.fork(Effect.exit(body.pipe(Timeout.within("1 second"))))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(call)
      const before = ticks
      yield* TestClock.adjust("10 seconds")
      expect(ticks).toBe(before)
    }))

  it.scoped("W-T3: a call that fails is counted", () =>
    Effect.gen(function*() {
      const timeout = yield* Timeout.make({ name: "t" })
      yield* Effect.exit(timeout.withTimeout(Effect.fail("no")))
      yield* Effect.exit(timeout.withTimeout(Effect.die("bug")))
      yield* Effect.exit(timeout.withTimeout(Effect.interrupt))
      expect(yield* timeout.metrics).toMatchObject({ admitted: 3, failed: 2, ignored: 1, running: 0 })
    }))

  it.effect("W-T4: nested calls see the deadline, and it is the nearest one", () =>
    Effect.gen(function*() {
      const nested = Deadline.remaining.pipe(Timeout.within("10 seconds"), Deadline.within("3 seconds"))
      expect(yield* nested).toEqual(Option.some(Duration.seconds(3)))
    }))

  it.effect("W-T5: a value of nothing is not mistaken for a timeout", () =>
    Effect.gen(function*() {
      expect(yield* Effect.succeed(null).pipe(Timeout.within("1 second"))).toBe(null)
      expect(yield* Effect.void.pipe(Timeout.within("1 second"))).toBe(undefined)
    }))

  it.effect("W-T6: the form for one call works as it is documented", () =>
    Effect.gen(function*() {
      expect(yield* Effect.succeed("answer").pipe(Timeout.within("5 seconds"))).toBe("answer")
    }))

  it.scoped("OP5: the timeout of one call leaves other calls alone", () =>
    Effect.gen(function*() {
      const timeout = yield* Timeout.make({ name: "t", duration: "1 second" })
      const slow = yield* Effect.fork(Effect.exit(timeout.withTimeout(Effect.never)))
      yield* TestClock.adjust("900 millis")
      const healthy = yield* Effect.fork(timeout.withTimeout(Effect.as(Effect.sleep("500 millis"), "fine")))
      yield* TestClock.adjust("500 millis")
      expect(Exit.isFailure(yield* Fiber.join(slow))).toBe(true)
      expect(yield* Fiber.join(healthy)).toBe("fine")
    }))
})
