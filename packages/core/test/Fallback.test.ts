import { Fallback, FallbackFailedError } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Either, Exit, Fiber, Option, Queue, Schema } from "effect"

class NotFound {
  readonly _tag = "NotFound"
}
class Down {
  readonly _tag = "Down"
  constructor(readonly status: number) {}
}

const make = (options: Fallback.Options = {}) => Fallback.make({ name: "f", ...options })

describe("fallbacks", () => {
  it.scoped("answer by another effect, which sees the error", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const call = Effect.fail(new Down(503)).pipe(fallback.withFallback((error) => Effect.succeed(error.status)))
      expect(yield* call).toBe(503)
      expect(yield* Effect.succeed(1).pipe(fallback.withFallback(() => Effect.succeed(2)))).toBe(1)
      expect(yield* fallback.metrics).toMatchObject({ primary: 1, fallbacks: 1, succeeded: 2, fallbackRate: 0.5 })
    }))

  it.scoped("fail with the fallback's own error", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      expect(yield* Effect.flip(Effect.fail("a").pipe(fallback.withFallback(() => Effect.fail("b"))))).toBe("b")
      expect(yield* fallback.metrics).toMatchObject({ failed: 1, running: 0 })
    }))

  it.scoped("answer one kind of error and let others pass", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const guard = <A>(effect: Effect.Effect<A, NotFound | Down>) =>
        effect.pipe(fallback.withFallbackTag("NotFound", () => Effect.succeed("none")))
      expect(yield* guard(Effect.fail(new NotFound()))).toBe("none")
      expect(yield* Effect.flip(guard(Effect.fail(new Down(500))))).toEqual(new Down(500))
    }))

  it.scoped("answer a value that is no good", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const call = (value: number) =>
        Effect.succeed(value).pipe(
          fallback.withFallbackResult((value) => value > 1, (value) => Effect.succeed(-value))
        )
      expect([yield* call(1), yield* call(2)]).toEqual([1, -2])
    }))

  it.scoped("interruption never triggers one", () =>
    Effect.gen(function*() {
      const fallback = yield* make({ catchDefects: true })
      let used = 0
      const answer = Effect.sync(() => ++used)
      const calls = [
        Effect.interrupt.pipe(fallback.withFallback(() => answer)),
        Effect.interrupt.pipe(fallback.withFallbackValue(() => ++used)),
        Effect.interrupt.pipe(fallback.chain(answer, 0)),
        Effect.interrupt.pipe(fallback.withFallbackCause(() => answer))
      ]
      for (const call of calls) {
        const exit = yield* Effect.exit(call)
        expect(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)).toBe(true)
      }
      const running = yield* Effect.fork(Effect.never.pipe(fallback.withFallbackValue(() => ++used)))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(running)
      expect(used).toBe(0)
      expect(yield* fallback.metrics).toMatchObject({ running: 0, fallbacks: 0, ignored: 4 })
    }))

  it.scoped("defects pass, unless they are asked for", () =>
    Effect.gen(function*() {
      const plain = yield* make()
      expect(Exit.isFailure(yield* Effect.exit(Effect.die("bug").pipe(plain.withFallbackValue(() => 1))))).toBe(true)
      const catching = yield* make({ catchDefects: true })
      expect(yield* Effect.die("bug").pipe(catching.withFallbackValue(() => 1))).toBe(1)
      expect(yield* Effect.die("bug").pipe(plain.withFallbackCause((cause) => Effect.succeed(Cause.squash(cause)))))
        .toBe("bug")
    }))

  it.scoped("a failure of concurrent work, which interrupts the rest of it, is a failure", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const together = Effect.all([Effect.fail(new Down(503)), Effect.never], { concurrency: "unbounded" })
      const answers = [
        together.pipe(fallback.withFallback((error) => Effect.succeed(error.status))),
        together.pipe(fallback.withFallbackCause((cause) => Effect.succeed(Cause.failureOption(cause)))),
        together.pipe(fallback.withFallbackValue(() => "value")),
        together.pipe(fallback.withFallbackTag("Down", (error) => Effect.succeed(error.status))),
        together.pipe(fallback.chain("last")),
        together.pipe(Fallback.to("one-off"))
      ]
      const seen = yield* Effect.forEach(answers, (call: Effect.Effect<unknown>) => call)
      expect(seen).toEqual([503, Option.some(new Down(503)), "value", 503, "last", "one-off"])
      expect(yield* fallback.metrics).toMatchObject({ fallbacks: 5, failed: 0, ignored: 0 })
    }))

  it.scoped("an interrupted fallback leaves nothing running", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const call = yield* Effect.fork(Effect.fail("no").pipe(fallback.withFallback(() => Effect.never)))
      for (let i = 0; i < 3; i++) yield* Effect.yieldNow()
      expect((yield* fallback.metrics).running).toBe(1)
      yield* Fiber.interrupt(call)
      expect(yield* fallback.metrics).toMatchObject({ running: 0, ignored: 1, failed: 0 })
    }))

  it.effect("to: needs no layer", () =>
    Effect.gen(function*() {
      expect(yield* Effect.fail("no").pipe(Fallback.to(0))).toBe(0)
      expect(yield* Effect.succeed(1).pipe(Fallback.to("none"))).toBe(1)
    }))
})

describe("a chain", () => {
  it.scoped("tries effects, functions of the failures and values in order", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const seen: Array<ReadonlyArray<unknown>> = []
      const call = Effect.fail("call").pipe(fallback.chain(
        Effect.fail("first"),
        (failures) => {
          seen.push(failures)
          return Effect.fail("second")
        },
        () => "third",
        "never"
      ))
      expect(yield* call).toBe("third")
      expect(seen).toEqual([["call", "first"]])
    }))

  it.scoped("goes on after a step whose concurrent work failed", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const together = (error: string) => Effect.all([Effect.fail(error), Effect.never], { concurrency: "unbounded" })
      expect(yield* Effect.fail("call").pipe(fallback.chain(together("a"), "value"))).toBe("value")
      const error = yield* Effect.flip(Effect.fail("call").pipe(fallback.chain(together("a"), together("b"))))
      expect(error.failures).toEqual(["call", "a", "b"])
    }))

  it.scoped("a step that dies ends it with its defect, unless defects are asked for", () =>
    Effect.gen(function*() {
      const bug = new Error("bug")
      const throwing = (): number => {
        throw bug
      }
      const call = Effect.fail("call")
      const plain = yield* make()
      for (
        const steps of [plain.chain(throwing), plain.chain(Effect.die(bug), "value"), plain.chain(throwing, "value")]
      ) {
        expect(yield* Effect.exit(call.pipe(steps))).toEqual(Exit.die(bug))
      }
      expect(yield* plain.metrics).toMatchObject({ failed: 3, fallbacks: 0, running: 0 })
      const catching = yield* make({ catchDefects: true })
      expect(yield* call.pipe(catching.chain(throwing, "value"))).toBe("value")
      const error = yield* Effect.flip(call.pipe(catching.chain(throwing, Effect.fail("b"))))
      expect(error.failures).toEqual(["call", bug, "b"])
    }))

  it.scoped("gives each step, each event and its error failures that stay as they are", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const queue = yield* fallback.subscribe
      const kept: Array<ReadonlyArray<unknown>> = []
      const keep = (failures: ReadonlyArray<unknown>) => {
        kept.push(failures)
        return Effect.fail(kept.length)
      }
      const error = yield* Effect.flip(Effect.fail("call").pipe(fallback.chain(keep, keep)))
      const event = yield* Queue.take(queue)
      expect(kept).toEqual([["call"], ["call", 1]])
      expect(error.failures).toEqual(["call", 1, 2])
      expect(event._tag === "FallbackExhausted" && event.errors).toEqual(error.failures)
      expect(event._tag === "FallbackExhausted" && event.errors).not.toBe(error.failures)
    }))

  it.scoped("runs an Option or an Either as the effect that it is", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const call = Effect.fail("call")
      expect(yield* call.pipe(fallback.chain(Option.none(), () => Either.right(1)))).toBe(1)
      expect(yield* call.pipe(fallback.chain(Effect.succeed(Option.none())))).toEqual(Option.none())
    }))

  it.scoped("holds every failure in order when all fail", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const queue = yield* fallback.subscribe
      const error = yield* Effect.flip(Effect.fail("call").pipe(fallback.chain(Effect.fail("a"), Effect.fail("b"))))
      expect(error).toBeInstanceOf(FallbackFailedError)
      expect(error.failures).toEqual(["call", "a", "b"])
      expect(yield* Queue.take(queue)).toMatchObject({ _tag: "FallbackExhausted", errors: ["call", "a", "b"] })
      const wire = yield* Schema.encode(FallbackFailedError)(error)
      expect(wire).toEqual({
        _tag: "FallbackFailedError",
        pattern: "Fallback",
        instance: "f",
        reason: "AllFailed",
        attempts: 3
      })
    }))
})

describe("faults of others", () => {
  it.scoped("W-F1: there is no fallback that turns every error into nothing", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const exit = yield* Effect.exit(Effect.fail("no").pipe(fallback.withFallback((error) => Effect.fail(error))))
      expect(exit).toEqual(Exit.fail("no"))
    }))

  it.scoped("W-F2: one caller's answer is not another's", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const call = Effect.fail("no").pipe(fallback.withFallbackValue((): Array<number> => []))
      ;(yield* call).push(1)
      expect(yield* call).toEqual([])
    }))

  it.scoped("W-F3: a fallback that is an effect is run, whatever the call's arguments", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const f = Effect.fn("f")(function*(_a: number, _b: string) {
        return yield* Effect.fail("no")
      }, fallback.withFallback(() => Effect.succeed("ran")))
      expect(yield* f(1, "x")).toBe("ran")
    }))

  it.scoped("W-F4: a fallback sees the error that caused it", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      expect(yield* Effect.fail(new Down(418)).pipe(fallback.withFallback((e) => Effect.succeed(e.status)))).toBe(418)
    }))

  it.scoped("W-F5: a chain tells each step and loses no error", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const queue = yield* fallback.subscribe
      yield* Effect.fail("call").pipe(fallback.chain(Effect.fail("a"), "value"))
      expect(yield* Queue.take(queue)).toMatchObject({ _tag: "FallbackUsed", step: 2, error: "a" })
    }))

  it.scoped("W-F6: falsy values are answers, and events carry no answers", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const queue = yield* fallback.subscribe
      for (const value of [0, "", false, null, undefined, []]) {
        expect(yield* Effect.fail("no").pipe(fallback.chain(value))).toBe(value)
        expect(Object.keys(yield* Queue.take(queue))).not.toContain("value")
      }
    }))

  it.scoped("W-F7: every call is counted once", () =>
    Effect.gen(function*() {
      const fallback = yield* make()
      const guard = fallback.withFallbackTag<NotFound | Down, "NotFound", number, never, never>("NotFound", () =>
        Effect.succeed(0))
      yield* Effect.exit(guard(Effect.succeed(1)))
      yield* Effect.exit(guard(Effect.fail(new NotFound())))
      yield* Effect.exit(guard(Effect.fail(new Down(1))))
      yield* Effect.exit(guard(Effect.die("bug")))
      const m = yield* fallback.metrics
      expect(m).toMatchObject({ offered: 4, primary: 1, fallbacks: 1, failed: 2 })
      expect(m.admitted).toBe(m.succeeded + m.failed + m.ignored + m.running)
    }))
})
