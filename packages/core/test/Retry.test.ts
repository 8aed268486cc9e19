import {
  Bulkhead,
  BulkheadFullError,
  classifyWith,
  Deadline,
  OptionThrewError,
  Registry,
  Retry,
  RetryBudget,
  RetryResultRejectedError,
  TimeoutExceededError
} from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Config,
  ConfigProvider,
  Context,
  Data,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Metric,
  Option,
  Random,
  Schedule,
  Schema,
  TestClock
} from "effect"

class Busy extends Data.TaggedError("Busy")<{
  readonly retryAfter?: Duration.Duration | Option.Option<Duration.Duration>
}> {}
class NotFound extends Data.TaggedError("NotFound")<{}> {}

/** A dependency that answers by the number of the call, and remembers when it was called and as which attempt. */
const dependency = <A, E, R>(answer: (call: number) => Effect.Effect<A, E, R>) => {
  const calls: Array<number> = []
  const attempts: Array<number> = []
  const effect = Effect.flatMap(Effect.zip(Clock.currentTimeMillis, Retry.attempt), ([millis, attempt]) => {
    calls.push(millis)
    attempts.push(attempt)
    return answer(calls.length)
  })
  return { calls, attempts, effect }
}

const failing = <E>(error: E) => dependency(() => Effect.fail(error))

/** Fails so often, then succeeds. */
const flaky = <E>(failures: number, error: E) =>
  dependency((call) => call <= failures ? Effect.fail(error) : Effect.succeed(call))

/** The exit of a call while time passes. */
const settle = <A, E, R>(effect: Effect.Effect<A, E, R>, time: Duration.DurationInput = "1 hour") =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    yield* TestClock.adjust(time)
    const exit = yield* Fiber.poll(fiber)
    if (Option.isNone(exit)) yield* Fiber.interrupt(fiber)
    return Option.getOrElse(exit, () => Exit.die("still running"))
  })

const errorOf = <A, E>(exit: Exit.Exit<A, E>): E | undefined =>
  Exit.isFailure(exit) ? Option.getOrUndefined(Cause.failureOption(exit.cause)) : undefined

const plain = { jitter: "none", budget: false } as const

/** Attempts that a retry with these options makes at this failure. */
const attemptsAt = (failure: Effect.Effect<unknown, unknown>, options: Retry.Options) =>
  Effect.scoped(Effect.gen(function*() {
    const retry = yield* Retry.make({ name: "r", ...plain, ...options })
    const { calls, effect } = dependency(() => failure)
    yield* settle(retry.withRetry(effect))
    return calls.length
  }))

const node = (code: string) => Object.assign(new Error(code), { code })

describe("what is retried", () => {
  it.effect("a call that succeeds at once is run once", () =>
    Effect.gen(function*() {
      const { attempts, effect } = flaky(0, "no")
      expect(yield* effect.pipe(Retry.using(plain))).toBe(1)
      expect(attempts).toEqual([1])
    }))

  it.effect("by default there are three attempts at doubling delays, and the last error survives as it is", () =>
    Effect.gen(function*() {
      const errors: Array<Busy> = []
      const { calls, effect } = dependency(() => {
        const error = new Busy({})
        errors.push(error)
        return Effect.fail(error)
      })
      const exit = yield* settle(effect.pipe(Retry.using(plain)))
      expect(calls).toEqual([0, 100, 300])
      expect(errorOf(exit)).toBe(errors[2])
    }))

  it.effect("a retry that succeeds gives its value", () =>
    Effect.gen(function*() {
      const { calls, effect } = flaky(2, new Busy({}))
      expect(yield* settle(effect.pipe(Retry.using(plain)))).toEqual(Exit.succeed(3))
      expect(calls).toEqual([0, 100, 300])
    }))

  it.effect("the number of the attempt can be read inside, and is 1 outside any retry", () =>
    Effect.gen(function*() {
      const { attempts, effect } = failing(new Busy({}))
      yield* settle(effect.pipe(Retry.using({ ...plain, maxAttempts: 4 })))
      expect(attempts).toEqual([1, 2, 3, 4])
      expect(yield* Retry.attempt).toBe(1)
    }))

  it.effect("retryOn names errors by tag, by tag and reason, and by the code of what caused them", () =>
    Effect.gen(function*() {
      const busy = Effect.fail(new Busy({}))
      expect(yield* attemptsAt(busy, { retryOn: ["Busy"] })).toBe(3)
      expect(yield* attemptsAt(busy, { retryOn: ["NotFound"] })).toBe(1)
      const transport = Effect.fail({ _tag: "RequestError", reason: "Transport" })
      expect(yield* attemptsAt(transport, { retryOn: ["RequestError.Transport"] })).toBe(3)
      expect(yield* attemptsAt(transport, { retryOn: ["RequestError.InvalidUrl"] })).toBe(1)
      const reset = Effect.fail(new Error("fetch failed", { cause: node("ECONNRESET") }))
      expect(yield* attemptsAt(reset, { retryOn: ["ECONNRESET"] })).toBe(3)
      expect(yield* attemptsAt(reset, { retryOn: ["ECONNREFUSED"] })).toBe(1)
      expect(yield* attemptsAt(busy, { retryOn: (exit) => Cause.isFailure(exit.cause) })).toBe(3)
      expect(yield* attemptsAt(busy, { retryOn: () => false })).toBe(1)
    }))

  it.effect("abortOn wins over retryOn", () =>
    Effect.gen(function*() {
      const busy = Effect.fail(new Busy({}))
      expect(yield* attemptsAt(busy, { abortOn: ["Busy"] })).toBe(1)
      expect(yield* attemptsAt(busy, { retryOn: ["Busy"], abortOn: ["Busy"] })).toBe(1)
      expect(yield* attemptsAt(busy, { retryOn: ["Busy"], abortOn: () => true })).toBe(1)
      expect(yield* attemptsAt(busy, { retryOn: ["Busy"], abortOn: ["NotFound"] })).toBe(3)
    }))

  it.effect("W-R3: a defect, an interruption and the rejections of our own patterns are not retried", () =>
    Effect.gen(function*() {
      const rejection = yield* Effect.scoped(Effect.gen(function*() {
        const bulkhead = yield* Bulkhead.make({ name: "b", maxConcurrent: 1 })
        return yield* Effect.flip(Effect.void.pipe(bulkhead.withPermitsBy(2)))
      }))
      expect(rejection).toBeInstanceOf(BulkheadFullError)
      expect(yield* attemptsAt(Effect.die("bug"), {})).toBe(1)
      expect(yield* attemptsAt(Effect.interrupt, {})).toBe(1)
      expect(yield* attemptsAt(Effect.interrupt, { retryOn: () => true })).toBe(1)
      expect(yield* attemptsAt(Effect.fail(rejection), {})).toBe(1)
      expect(yield* attemptsAt(Effect.fail(rejection), { retryOn: ["Busy"] })).toBe(1)
      expect(yield* attemptsAt(Effect.fail(rejection), { retryOn: ["BulkheadFullError"] })).toBe(3)
      expect(yield* attemptsAt(Effect.fail(rejection), { retryOn: ["BulkheadFullError.TooManyPermits"] })).toBe(3)
      expect(yield* attemptsAt(Effect.die("bug"), { retryOn: () => true })).toBe(3)
      const both = Effect.failCause(Cause.parallel(Cause.fail(new Busy({})), Cause.die("bug")))
      expect(yield* attemptsAt(both, {})).toBe(1)
      expect(yield* attemptsAt(both, { retryOn: ["Busy"] })).toBe(1)
    }))

  it.effect("a failure that interrupted its siblings is a failure, and is retried", () =>
    Effect.gen(function*() {
      const all = Effect.all([Effect.never, Effect.zipRight(Effect.yieldNow(), Effect.fail(new Busy({})))], {
        concurrency: "unbounded"
      })
      expect(yield* attemptsAt(all, {})).toBe(3)
    }))

  it.effect("what classify ignores is not retried", () =>
    Effect.gen(function*() {
      const classify = classifyWith({ ignoreTags: ["NotFound"] })
      expect(yield* attemptsAt(Effect.fail(new NotFound()), { classify })).toBe(1)
      expect(yield* attemptsAt(Effect.fail(new Busy({})), { classify })).toBe(3)
    }))

  it.effect("a value that classify calls a failure is retried, and given back when the attempts are used up", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({
        name: "r",
        ...plain,
        classify: classifyWith({ failureWhen: (value) => value === 503 })
      })
      const { calls, effect } = dependency(() => Effect.succeed(503))
      expect(yield* settle(retry.withRetry(effect))).toEqual(Exit.succeed(503))
      expect(calls.length).toBe(3)
      expect(yield* retry.metrics).toMatchObject({ succeeded: 0, failed: 1, failedExhausted: 1 })
    }).pipe(Effect.scoped))

  it.effect("presets.network retries what the network did, and nothing else", () =>
    Effect.gen(function*() {
      const { network } = Retry.presets
      const timeout = new TimeoutExceededError({
        instance: "t",
        reason: "LimitExceeded",
        limit: Duration.seconds(1),
        elapsed: Duration.seconds(1),
        retryAfter: Option.none()
      })
      for (
        const error of [node("ECONNRESET"), node("EAI_AGAIN"), timeout, { _tag: "RequestError", reason: "Transport" }]
      ) {
        expect(yield* attemptsAt(Effect.fail(error), network)).toBe(4)
      }
      for (const error of [new Busy({}), node("ENOENT"), { _tag: "RequestError", reason: "InvalidUrl" }]) {
        expect(yield* attemptsAt(Effect.fail(error), network)).toBe(1)
      }
    }))
})

describe("values that are failures", () => {
  const poor = dependency((call) => Effect.succeed(call * 10))

  it.effect("W-R1: a value that is refused to the end is an error that carries it, not a success", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "search", ...plain })
      const exit = yield* settle(poor.effect.pipe(retry.withRetryBy({ retryOnResult: (n) => n < 100 })))
      const error = errorOf(exit)
      expect(error).toBeInstanceOf(RetryResultRejectedError)
      expect(error).toMatchObject({ pattern: "Retry", instance: "search", reason: "ResultRejected", attempts: 3 })
      expect(error?.value).toBe(30)
      expect(error?.message).toBe(`Retry "search": no acceptable result in 3 attempts`)
      expect(yield* retry.metrics).toMatchObject({ succeeded: 0, failed: 1, failedExhausted: 1 })
    }).pipe(Effect.scoped))

  it.effect("W-R2: a retry because of a value has the events of one because of an error", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "search", ...plain })
      const events = yield* retry.subscribe
      yield* settle(
        dependency(() => Effect.succeed("poor")).effect.pipe(retry.withRetryBy({ retryOnResult: () => true }))
      )
      const seen = [...yield* events.takeAll]
      expect(seen.map(({ _tag }) => _tag)).toEqual(["RetryScheduled", "RetryScheduled", "RetryExhausted"])
      expect(seen[0]).toMatchObject({ attempt: 1, error: { _tag: "RetryResultRejectedError", value: "poor" } })
    }).pipe(Effect.scoped))

  it.effect("a value that gets better is given back", () =>
    Effect.gen(function*() {
      const { calls, effect } = dependency((call) => Effect.succeed(call * 10))
      const exit = yield* settle(effect.pipe(Retry.using({ ...plain, retryOnResult: (n) => n < 20 })))
      expect(exit).toEqual(Exit.succeed(20))
      expect(calls.length).toBe(2)
    }))

  it.effect("W-R9: a predicate that throws is a named defect, not a silent yes", () =>
    Effect.gen(function*() {
      const boom = () => {
        throw new Error("boom")
      }
      const of = (options: Retry.ByOptions<number, Busy>, effect: Effect.Effect<number, Busy>) =>
        Effect.gen(function*() {
          const retry = yield* Retry.make({ name: "r", ...plain })
          const exit = yield* settle(effect.pipe(retry.withRetryBy(options)))
          expect(yield* retry.metrics).toMatchObject({ running: 0, failed: 1 })
          const defect = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.dieOption(exit.cause)) : undefined
          expect(defect).toBeInstanceOf(OptionThrewError)
          return defect instanceof OptionThrewError ? defect.option : undefined
        }).pipe(Effect.scoped)
      const busy = Effect.fail(new Busy({}))
      expect(yield* of({ retryOnResult: boom }, Effect.succeed(1))).toBe("retryOnResult")
      expect(yield* of({ retryOn: boom }, busy)).toBe("retryOn")
      expect(yield* of({ abortOn: boom }, busy)).toBe("abortOn")
      expect(yield* of({ classify: boom }, busy)).toBe("classify")
      expect(yield* of({ delayFrom: boom }, busy)).toBe("delayFrom")
      expect(yield* of({ delayFrom: () => ({ after: NaN }) }, busy)).toBe("delayFrom")
    }))

  it("the error crosses the wire without the value", () => {
    const exit = Effect.runSyncExit(
      Effect.succeed("secret").pipe(Retry.using({ maxAttempts: 1, retryOnResult: () => true }))
    )
    const error = errorOf(exit)
    const wire = JSON.stringify(Schema.encodeSync(RetryResultRejectedError)(error ?? expect.unreachable()))
    expect(wire).not.toContain("secret")
    expect(Schema.decodeSync(Schema.parseJson(RetryResultRejectedError))(wire)).toBeInstanceOf(RetryResultRejectedError)
  })
})

describe("delays", () => {
  it.effect("any Schedule: its delays, its end, and the error as its input", () =>
    Effect.gen(function*() {
      const inputs: Array<unknown> = []
      const { calls, effect } = failing(new Busy({}))
      const schedule = Schedule.fibonacci("10 millis").pipe(
        Schedule.intersect(Schedule.recurs(4)),
        Schedule.tapInput((input: Busy) => Effect.sync(() => inputs.push(input._tag)))
      )
      yield* settle(effect.pipe(Retry.using({ ...plain, maxAttempts: Infinity, schedule })))
      expect(calls).toEqual([0, 10, 20, 40, 70])
      expect(new Set(inputs)).toEqual(new Set(["Busy"]))
    }))

  it.effect("a Schedule of an instance takes what it needs from the layer's context", () =>
    Effect.gen(function*() {
      class Pace extends Context.Tag("Pace")<Pace, Duration.Duration>() {}
      const schedule = Schedule.forever.pipe(Schedule.addDelayEffect(() => Pace))
      class Paced extends Retry.Tag<Paced>()("paced", { ...plain, schedule }) {}
      const { calls, effect } = failing(new Busy({}))
      yield* settle(
        effect.pipe(
          Paced.withRetry,
          Effect.provide(Layer.provide(Paced.Live, Layer.succeed(Pace, Duration.seconds(7))))
        )
      )
      expect(calls).toEqual([0, 7000, 14_000])
    }))

  it.effect("the options and the equal hand-written Schedule retry at the same times", () =>
    Effect.gen(function*() {
      const pairs = [
        [{}, Schedule.exponential("100 millis")],
        [
          { factor: 3, maxDelay: "500 millis" },
          Schedule.exponential("100 millis", 3).pipe(
            Schedule.modifyDelay((_, delay) => Duration.min(delay, Duration.millis(500)))
          )
        ],
        [{ strategy: "linear" }, Schedule.linear("100 millis")],
        [{ strategy: "constant", initialDelay: "30 millis" }, Schedule.spaced("30 millis")]
      ] as const
      for (const [options, schedule] of pairs) {
        const byOptions = failing(new Busy({}))
        const byHand = failing(new Busy({}))
        const byEffect = failing(new Busy({}))
        yield* settle(Effect.all([
          Effect.exit(byOptions.effect.pipe(Retry.using({ ...plain, maxAttempts: 6, ...options }))),
          Effect.exit(byHand.effect.pipe(Retry.using({ ...plain, maxAttempts: 6, schedule }))),
          Effect.exit(Effect.retry(byEffect.effect, Retry.schedule({ jitter: "none", maxAttempts: 6, ...options })))
        ], { concurrency: "unbounded" }))
        expect(byOptions.calls.length).toBe(6)
        expect(byHand.calls).toEqual(byOptions.calls)
        expect(byEffect.calls).toEqual(byOptions.calls)
      }
    }))

  it.effect("jitter comes from the Random service: a seed repeats it", () =>
    Effect.gen(function*() {
      const run = (seed: string) =>
        Effect.gen(function*() {
          const start = yield* Clock.currentTimeMillis
          const { calls, effect } = failing(new Busy({}))
          yield* settle(
            effect.pipe(Retry.using({ budget: false, maxAttempts: 5 }), Effect.withRandom(Random.make(seed)))
          )
          return calls.map((at) => Math.round(at - start))
        })
      expect(yield* run("a")).toEqual(yield* run("a"))
      expect(yield* run("a")).not.toEqual(yield* run("b"))
    }))

  it.effect("an error with a strategy of its own follows it, and the others the rest", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({
        name: "r",
        ...plain,
        strategies: { Busy: { maxAttempts: 5, strategy: "constant", initialDelay: "1 second" } }
      })
      const busy = failing(new Busy({}))
      yield* settle(retry.withRetry(busy.effect))
      expect(busy.calls).toEqual([0, 1000, 2000, 3000, 4000])
      const start = yield* Clock.currentTimeMillis
      const missing = failing(new NotFound())
      yield* settle(retry.withRetry(missing.effect))
      expect(missing.calls.map((at) => at - start)).toEqual([0, 100, 300])
    }).pipe(Effect.scoped))

  it.effect("W-R11: an event names the attempts of the error's own strategy, and the instance by its name", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "search", ...plain, strategies: { Busy: { maxAttempts: 5 } } })
      const events = yield* retry.subscribe
      yield* settle(retry.withRetry(failing(new Busy({})).effect))
      yield* settle(retry.withRetry(failing(new NotFound()).effect))
      const scheduled = [...yield* events.takeAll].filter((event) => event._tag === "RetryScheduled")
      expect(scheduled.map((event) => [event.instance, event.maxAttempts])).toEqual([
        ...Array.from({ length: 4 }, () => ["search", 5]),
        ...Array.from({ length: 2 }, () => ["search", 3])
      ])
    }).pipe(Effect.scoped))

  it.effect("W-R7: the caller's options are not written to", () =>
    Effect.gen(function*() {
      const strategies = Object.freeze({ Busy: Object.freeze({ maxAttempts: 2 }) })
      const options = Object.freeze({ ...plain, retryOn: Object.freeze(["Busy"]), strategies })
      expect(yield* attemptsAt(Effect.fail(new Busy({})), options)).toBe(2)
      expect(options).toEqual({ ...plain, retryOn: ["Busy"], strategies: { Busy: { maxAttempts: 2 } } })
    }))

  it.effect("onRetry: between an attempt and the delay of the next, and not after the last", () =>
    Effect.gen(function*() {
      const told: Array<readonly [number, unknown]> = []
      const { calls, effect } = dependency((call) => call < 3 ? Effect.succeed(`refused ${call}`) : Effect.fail("down"))
      const exit = yield* settle(Effect.scoped(Effect.flatMap(
        Retry.make({
          ...plain,
          name: "r",
          classify: () => "failure",
          onRetry: (exit) =>
            Effect.map(Clock.currentTimeMillis, (time) => {
              told.push([time, Exit.isSuccess(exit) ? exit.value : exit])
            })
        }),
        (retry) => retry.withRetry(effect)
      )))
      expect(calls).toEqual([0, 100, 300])
      expect(told).toEqual([[0, "refused 1"], [100, "refused 2"]])
      expect(Exit.isFailure(exit)).toBe(true)
    }))

  it.effect("onRetry that throws or dies ends the call, and gives the token back", () =>
    Effect.gen(function*() {
      for (const onRetry of [() => expect.unreachable(), () => Effect.die("boom")]) {
        const retry = yield* Retry.make({ name: "r", ...plain, budget: { maxTokens: 5 }, onRetry })
        const exit = yield* settle(retry.withRetry(Effect.fail(new Busy({}))))
        expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
        expect(yield* retry.metrics).toMatchObject({
          running: 0,
          failed: 1,
          budgetAvailable: Option.some(5)
        })
      }
    }).pipe(Effect.scoped))

  it.effect("delayFrom: its own delay, the default, or no more", () =>
    Effect.gen(function*() {
      const seen: Array<number> = []
      const { calls, effect } = failing(new Busy({}))
      const exit = yield* settle(effect.pipe(Retry.using({
        ...plain,
        maxAttempts: 9,
        delayFrom: (_exit, attempt) => {
          seen.push(attempt)
          return attempt === 1 ? { after: "5 seconds" } : attempt === 4 ? "stop" : "default"
        }
      })))
      expect(calls).toEqual([0, 5000, 5200, 5600])
      expect(seen).toEqual([1, 2, 3, 4])
      expect(errorOf(exit)).toBeInstanceOf(Busy)
    }))

  it.effect("W-R8: the retryAfter of an error is honoured, as a Duration and as an Option", () =>
    Effect.gen(function*() {
      for (const retryAfter of [Duration.seconds(7), Option.some(Duration.seconds(7))]) {
        const start = yield* Clock.currentTimeMillis
        const { calls, effect } = failing(new Busy({ retryAfter }))
        yield* settle(effect.pipe(Retry.using(plain)))
        expect(calls.map((at) => at - start)).toEqual([0, 7000, 14_000])
      }
      const start = yield* Clock.currentTimeMillis
      const { calls, effect } = failing(new Busy({ retryAfter: Option.none() }))
      yield* settle(effect.pipe(Retry.using(plain)))
      expect(calls.map((at) => at - start)).toEqual([0, 100, 300])
    }))

  // failsafe-go spreads the server's delay too, to both sides.
  it.effect("nobody comes back before the Retry-After that the server named, whatever the jitter", () =>
    Effect.gen(function*() {
      for (const jitter of ["full", "equal", 1] as const) {
        for (let seed = 0; seed < 20; seed++) {
          const start = yield* Clock.currentTimeMillis
          const { calls, effect } = failing(new Busy({ retryAfter: Duration.seconds(2) }))
          yield* settle(
            effect.pipe(
              Retry.using({ jitter, budget: false, maxAttempts: 2 }),
              Effect.withRandom(Random.make(seed))
            ),
            "2 seconds"
          )
          expect(calls.map((at) => at - start)).toEqual([0, 2000])
        }
      }
    }))

  it.effect("a delay that is named beyond maxDelay ends the retries at once instead of being cut", () =>
    Effect.gen(function*() {
      const error = new Busy({ retryAfter: Duration.minutes(1) })
      const retry = yield* Retry.make({ name: "r", ...plain })
      const events = yield* retry.subscribe
      expect(errorOf(yield* settle(retry.withRetry(failing(error).effect), 0))).toBe(error)
      const after = failing(new Busy({}))
      yield* settle(after.effect.pipe(retry.withRetryBy({ delayFrom: () => ({ after: "31 seconds" }) })), 0)
      expect(after.calls.length).toBe(1)
      expect([...yield* events.takeAll]).toMatchObject([
        { _tag: "RetryExhausted", reason: "Duration", attempts: 1 },
        { _tag: "RetryExhausted", reason: "Duration", attempts: 1 }
      ])
    }).pipe(Effect.scoped))

  it.effect("an error with a strategy of its own may name a delay up to the maxDelay of that strategy", () =>
    Effect.gen(function*() {
      const attempts = (maxDelay: Duration.DurationInput, named: Duration.DurationInput) =>
        Effect.gen(function*() {
          const strategies = { Busy: { initialDelay: 0, maxDelay } }
          const byError = failing(new Busy({ retryAfter: Duration.decode(named) }))
          yield* settle(byError.effect.pipe(Retry.using({ ...plain, strategies })))
          const byOption = failing(new Busy({}))
          const delayFrom = () => ({ after: named })
          yield* settle(byOption.effect.pipe(Retry.using({ ...plain, strategies, delayFrom })))
          return [byError.calls.length, byOption.calls.length]
        })
      expect(yield* attempts("2 minutes", "1 minute")).toEqual([3, 3])
      expect(yield* attempts("1 second", "20 seconds")).toEqual([1, 1])
    }))

  it.effect("a Schedule that ends the retries does so even where errors name the delays", () =>
    Effect.gen(function*() {
      const { calls, effect } = failing(new Busy({ retryAfter: Duration.seconds(1) }))
      yield* settle(effect.pipe(Retry.using({ ...plain, maxAttempts: Infinity, schedule: Schedule.recurs(2) })))
      expect(calls).toEqual([0, 1000, 2000])
    }))

  it.live("sleeps no less than it says under the live clock", () =>
    Effect.gen(function*() {
      const times: Array<bigint> = []
      const effect = Effect.zipRight(
        Effect.map(Clock.currentTimeNanos, (nanos) => times.push(nanos)),
        Effect.fail(new Busy({ retryAfter: Duration.millis(7.5) }))
      )
      yield* Effect.exit(effect.pipe(Retry.using({ ...plain, maxAttempts: 5 })))
      expect(times.length).toBe(5)
      for (let i = 1; i < times.length; i++) {
        expect(Number((times[i] ?? 0n) - (times[i - 1] ?? 0n))).toBeGreaterThanOrEqual(7_500_000)
      }
    }))
})

describe("limits", () => {
  it.effect("W-R6: thousands of attempts end with the caller's own error", () =>
    Effect.gen(function*() {
      const { attempts, effect } = failing(new Busy({}))
      const guard = Retry.using({ budget: false, initialDelay: 0, maxAttempts: 20_000 })
      expect(yield* Effect.flip(effect.pipe(guard))).toBeInstanceOf(Busy)
      expect(attempts.length).toBe(20_000)
      expect(attempts.at(-1)).toBe(20_000)
      const overflowing = failing(new Busy({}))
      const saturating = Retry.using({
        ...plain,
        factor: 1000,
        maxDelay: "1 millis",
        initialDelay: "1 millis",
        maxAttempts: 1100
      })
      expect(errorOf(yield* settle(overflowing.effect.pipe(saturating), "2 seconds"))).toBeInstanceOf(Busy)
      expect(overflowing.calls.at(-1)).toBe(1099)
    }), 60_000)

  it.effect("maxDuration: no retry begins later, and the caller need not wait to learn it", () =>
    Effect.gen(function*() {
      const { calls, effect } = failing(new Busy({}))
      const retry = yield* Retry.make({ name: "r", ...plain, maxAttempts: 9, maxDuration: "700 millis" })
      const events = yield* retry.subscribe
      const exit = yield* settle(retry.withRetry(effect), "300 millis")
      expect(calls).toEqual([0, 100, 300])
      expect(errorOf(exit)).toBeInstanceOf(Busy)
      expect([...yield* events.takeAll].at(-1)).toMatchObject({
        _tag: "RetryExhausted",
        reason: "Duration",
        attempts: 3
      })
    }).pipe(Effect.scoped))

  it.effect("maxDuration counts the time of the first attempt", () =>
    Effect.gen(function*() {
      const { calls, effect } = dependency(() => Effect.zipRight(Effect.sleep("1 second"), Effect.fail(new Busy({}))))
      yield* settle(effect.pipe(Retry.using({ ...plain, maxDuration: "1050 millis" })))
      expect(calls).toEqual([0])
    }))

  it.effect("W-R8: a sleep that would reach the ambient deadline ends at once with the real last error", () =>
    Effect.gen(function*() {
      const { calls, effect } = failing(new Busy({}))
      const retry = yield* Retry.make({ name: "r", ...plain, maxAttempts: 9 })
      const events = yield* retry.subscribe
      const exit = yield* settle(retry.withRetry(effect).pipe(Deadline.within("700 millis")), "300 millis")
      expect(calls).toEqual([0, 100, 300])
      expect(errorOf(exit)).toBeInstanceOf(Busy)
      expect([...yield* events.takeAll].at(-1)).toMatchObject({
        _tag: "RetryExhausted",
        reason: "Deadline",
        attempts: 3
      })
    }).pipe(Effect.scoped))

  it.effect("a Retry-After beyond the deadline ends at once", () =>
    Effect.gen(function*() {
      const { calls, effect } = failing(new Busy({ retryAfter: Duration.seconds(5) }))
      const exit = yield* settle(effect.pipe(Retry.using(plain), Deadline.within("5 seconds")), 0)
      expect(calls).toEqual([0])
      expect(errorOf(exit)).toBeInstanceOf(Busy)
    }))
})

describe("interruption", () => {
  it.effect("CK5: an interrupted sleep ends at once and starts no attempt", () =>
    Effect.gen(function*() {
      const { calls, effect } = failing(new Busy({}))
      const fiber = yield* Effect.fork(effect.pipe(Retry.using({ ...plain, initialDelay: "20 seconds" })))
      yield* TestClock.adjust("1 second")
      const exit = yield* Fiber.interrupt(fiber)
      expect(Exit.isInterrupted(exit)).toBe(true)
      yield* TestClock.adjust("1 hour")
      expect(calls).toEqual([0])
    }))

  it.effect("an interrupted attempt is not retried", () =>
    Effect.gen(function*() {
      const { calls, effect } = dependency((call) => call === 2 ? Effect.never : Effect.fail(new Busy({})))
      const fiber = yield* Effect.fork(effect.pipe(Retry.using(plain)))
      yield* TestClock.adjust("1 second")
      expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
      yield* TestClock.adjust("1 hour")
      expect(calls).toEqual([0, 100])
    }))

  it.live("an interrupted sleep leaves no timer", () =>
    Effect.gen(function*() {
      const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length
      const before = timers()
      const fiber = yield* Effect.fork(
        Effect.fail("x").pipe(Retry.using({ initialDelay: "1 hour", maxDelay: "1 hour", jitter: "none" }))
      )
      for (let i = 0; i < 10; i++) yield* Effect.yieldNow()
      expect(timers()).toBe(before + 1)
      yield* Fiber.interrupt(fiber)
      expect(timers()).toBe(before)
    }))

  it.effect("a schedule of the user that hangs can be interrupted", () =>
    Effect.gen(function*() {
      const schedule = Schedule.forever.pipe(Schedule.tapInput(() => Effect.never))
      const fiber = yield* Effect.fork(Effect.fail("x").pipe(Retry.using({ ...plain, schedule })))
      for (let i = 0; i < 10; i++) yield* Effect.yieldNow()
      expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
    }))

  it.effect("inside an uninterruptible region attempts stay uninterruptible", () =>
    Effect.gen(function*() {
      const done = yield* Deferred.make<void>()
      const { effect } = dependency((call) =>
        call === 1
          ? Effect.fail(new Busy({}))
          : Effect.zipRight(Effect.sleep("1 second"), Deferred.succeed(done, void 0))
      )
      const fiber = yield* Effect.fork(Effect.uninterruptible(effect.pipe(Retry.using(plain))))
      yield* TestClock.adjust("200 millis")
      yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("5 seconds")
      expect(yield* Deferred.isDone(done)).toBe(true)
    }))
})

describe("what can be seen", () => {
  it.effect("W-R10: each ending has its own reason", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", jitter: "none", budget: { maxTokens: 0 }, abortOn: ["NotFound"] })
      const events = yield* retry.subscribe
      const busy = failing(new Busy({})).effect
      const by = (options: Retry.ByOptions<never, Busy>) => settle(busy.pipe(retry.withRetryBy(options)))
      yield* by({ maxAttempts: 1 })
      yield* by({ maxDuration: "50 millis" })
      yield* settle(retry.withRetry(busy).pipe(Deadline.within("50 millis")))
      yield* by({})
      yield* settle(retry.withRetry(Effect.fail(new NotFound())))
      const reasons = ["Attempts", "Duration", "Deadline", "Budget", "Aborted"]
      expect([...yield* events.takeAll]).toMatchObject(reasons.map((reason) => ({ _tag: "RetryExhausted", reason })))
      expect((yield* retry.metrics).exhausted).toEqual({ Attempts: 1, Duration: 1, Deadline: 1, Budget: 1, Aborted: 1 })
    }).pipe(Effect.scoped))

  it.effect("events tell of each retry in order, and of the ending, with one call id", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", ...plain })
      const events = yield* retry.subscribe
      const error = new Busy({})
      yield* settle(retry.withRetry(flaky(2, error).effect))
      const seen = [...yield* events.takeAll].map((event) =>
        "delay" in event ? { ...event, delay: Duration.toMillis(event.delay) } : event
      )
      expect(seen).toMatchObject([
        { _tag: "RetryScheduled", callId: 1, attempt: 1, maxAttempts: 3, delay: 100, error },
        { _tag: "RetryScheduled", callId: 1, attempt: 2, maxAttempts: 3, delay: 200, error },
        { _tag: "RetrySucceeded", callId: 1, attempts: 3 }
      ])
      yield* retry.withRetry(Effect.void)
      expect([...yield* events.takeAll]).toEqual([])
    }).pipe(Effect.scoped))

  it.effect("events cross the wire, an endless maxAttempts too", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", ...plain, maxAttempts: Infinity, schedule: Schedule.recurs(1) })
      const events = yield* retry.subscribe
      yield* settle(retry.withRetry(failing(new Busy({})).effect))
      const wire = Schema.parseJson(Retry.Event)
      for (const event of [...yield* events.takeAll]) {
        const back = yield* Schema.decode(wire)(yield* Schema.encode(wire)(event))
        expect(back).toMatchObject({ _tag: event._tag, instance: "r" })
        if (back._tag === "RetryScheduled") expect(back.maxAttempts).toBe(Infinity)
      }
    }).pipe(Effect.scoped))

  it.effect("the snapshot adds up while calls run and after each ending", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", ...plain })
      const sums = Effect.map(retry.metrics, (m) => {
        expect(m.offered).toBe(m.admitted + m.rejected)
        expect(m.admitted).toBe(m.succeeded + m.failed + m.ignored + m.running)
        return m
      })
      yield* retry.withRetry(Effect.void)
      yield* settle(retry.withRetry(flaky(1, new Busy({})).effect))
      yield* settle(retry.withRetry(failing(new Busy({})).effect))
      yield* settle(retry.withRetry(Effect.die("bug")))
      const fiber = yield* Effect.fork(retry.withRetry(failing(new Busy({})).effect))
      yield* Effect.yieldNow()
      expect(yield* sums).toMatchObject({ running: 1, offered: 5 })
      yield* Fiber.interrupt(fiber)
      const last = yield* sums
      expect(Duration.toMillis(last.totalDelay)).toBe(100 + 300 + 100)
      expect(last).toMatchObject({
        offered: 5,
        running: 0,
        succeededFirst: 1,
        succeededRetried: 1,
        failedExhausted: 1,
        failedWithoutRetry: 1,
        ignored: 1,
        retries: 4
      })
    }).pipe(Effect.scoped))

  it.effect("Effect metrics: calls by outcome and by kind, retries and their delays", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "metered", jitter: "none", budget: { maxTokens: 1 } })
      yield* retry.withRetry(Effect.void)
      yield* settle(retry.withRetry(flaky(1, new Busy({ retryAfter: Duration.seconds(1) })).effect))
      yield* settle(retry.withRetry(failing(new Busy({})).effect))
      const all = yield* Metric.snapshot
      const of = (name: string, more: Record<string, string> = {}) =>
        all.filter(({ metricKey }) => {
          const tags = Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value]))
          return metricKey.name === name && tags["resilience.name"] === "metered" &&
            Object.entries(more).every(([key, value]) => tags[key] === value)
        }).map(({ metricState }) => metricState)
      expect(of("resilience.calls", { outcome: "success" })).toMatchObject([{ count: 2 }])
      expect(of("resilience.calls", { outcome: "failure" })).toMatchObject([{ count: 1 }])
      expect(of("resilience.retry.calls", { kind: "success_first" })).toMatchObject([{ count: 1 }])
      expect(of("resilience.retry.calls", { kind: "success_retried" })).toMatchObject([{ count: 1 }])
      expect(of("resilience.retry.calls", { kind: "failed_no_retry" })).toMatchObject([{ count: 1 }])
      expect(of("resilience.retry.attempts")).toMatchObject([{ count: 1 }])
      expect(of("resilience.retry.delay", { source: "retry_after" })).toMatchObject([{ count: 1, sum: 1 }])
      expect(of("resilience.rejections", { reason: "budget_exhausted" })).toMatchObject([{ count: 1 }])
      expect(of("resilience.retry.budget.available")).toMatchObject([{ value: 0.1 }])
    }).pipe(Effect.scoped))
})

describe("instances", () => {
  class Search extends Retry.Tag<Search>()("search", { ...plain, maxAttempts: 2 }) {}

  it.effect("Live, layer and layerConfig build the instance; an explicit undefined changes nothing", () =>
    Effect.gen(function*() {
      const attempts = (layer: Layer.Layer<Search, unknown>) =>
        Effect.gen(function*() {
          const { calls, effect } = failing(new Busy({}))
          yield* settle(effect.pipe(Search.withRetry, Effect.provide(layer)))
          return calls.length
        })
      expect(yield* attempts(Search.Live)).toBe(2)
      expect(yield* attempts(Search.layer({ maxAttempts: 4 }))).toBe(4)
      expect(yield* attempts(Search.layer({ maxAttempts: undefined }))).toBe(2)
      expect(yield* attempts(Search.layerNoop)).toBe(1)
      expect(Search.layer()).toBe(Search.Live)
      const config = Search.layerConfig({
        maxAttempts: Config.integer("ATTEMPTS"),
        jitter: Config.succeed("none" as Retry.Jitter)
      })
      const from = (attempts: string) =>
        Layer.provide(config, Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["ATTEMPTS", attempts]]))))
      expect(yield* attempts(from("5"))).toBe(5)
      const bad = yield* Effect.exit(Effect.scoped(Layer.build(from("0"))))
      expect(Exit.isFailure(bad) && Cause.pretty(bad.cause)).toContain("maxAttempts")
    }))

  it.effect("what withRetryBy does not say is as the instance has it", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", ...plain, maxAttempts: 2, retryOn: ["Busy"] })
      const run = (options: Retry.ByOptions<never, Busy>) =>
        Effect.gen(function*() {
          const start = yield* Clock.currentTimeMillis
          const { calls, effect } = failing(new Busy({}))
          yield* settle(effect.pipe(retry.withRetryBy(options)))
          return calls.map((at) => at - start)
        })
      expect(yield* run({})).toEqual([0, 100])
      expect(yield* run({ initialDelay: "1 second" })).toEqual([0, 1000])
      expect(yield* run({ maxAttempts: 3 })).toEqual([0, 100, 300])
      expect(yield* run({ retryOn: () => false })).toEqual([0])
    }).pipe(Effect.scoped))

  it.effect("a growth given for one call replaces the schedule of the instance", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", ...plain, schedule: Schedule.spaced("5 seconds") })
      const { calls, effect } = failing(new Busy({}))
      yield* settle(effect.pipe(retry.withRetryBy({ strategy: "linear" })))
      expect(calls).toEqual([0, 100, 300])
    }).pipe(Effect.scoped))

  const bad: ReadonlyArray<readonly [keyof Retry.Options, unknown]> = [
    ["maxAttempts", 0],
    ["maxAttempts", 1.5],
    ["maxAttempts", NaN],
    ["strategy", "random"],
    ["initialDelay", -1],
    ["initialDelay", Infinity],
    ["factor", 0.5],
    ["factor", NaN],
    ["factor", Infinity],
    ["maxDelay", "50 millis"],
    ["maxDelay", NaN],
    ["jitter", 1.1],
    ["jitter", "some"],
    ["schedule", "1 second"],
    ["maxDuration", 0],
    ["retryOn", "Busy"],
    ["retryOn", [1]],
    ["abortOn", {}],
    ["strategies", []],
    ["delayFrom", 1],
    ["classify", "all"],
    ["budget", true]
  ]
  for (const [field, value] of bad) {
    it.effect(`W-R4: ${field} ${String(value)} dies at construction, naming the field and the value`, () =>
      Effect.gen(function*() {
        const options: any = { name: "r", [field]: value }
        const defect = yield* Effect.scoped(Retry.make(options)).pipe(Effect.catchAllDefect(Effect.succeed))
        expect(defect).toMatchObject({ _tag: "InvalidOptionError", pattern: "Retry", instance: "r", field })
        expect(() => Retry.using({ [field]: value } as any)).toThrow(`option ${field}`)
      }))
  }

  it.effect("bad values inside strategies and budget, and options that do not exist, die too", () =>
    Effect.gen(function*() {
      const defect = (options: any) =>
        Effect.scoped(Retry.make({ name: "r", ...options })).pipe(Effect.catchAllDefect(Effect.succeed))
      expect(yield* defect({ strategies: { Busy: { maxAttempts: 0 } } })).toMatchObject({
        instance: "r/Busy",
        field: "maxAttempts"
      })
      expect(yield* defect({ budget: { maxTokens: -1 } })).toMatchObject({ instance: "r/budget", field: "maxTokens" })
      expect(yield* defect({ retries: 3 })).toMatchObject({ pattern: "Retry", field: "retries" })
      expect(() => Retry.using({ retryOnResult: 1 } as any)).toThrow("retryOnResult")
    }))

  it.effect("the registry lists it, and its operator may fill the budget", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "listed", jitter: "none", budget: { maxTokens: 2 } })
      yield* settle(retry.withRetry(failing(new Busy({})).effect))
      expect((yield* retry.metrics).budgetAvailable).toEqual(Option.some(0))
      expect((yield* Registry.list).map(({ instance, pattern }) => [pattern, instance])).toEqual([["Retry", "listed"]])
      yield* Registry.act("Retry", "listed", "resetBudget")
      expect((yield* retry.metrics).budgetAvailable).toEqual(Option.some(2))
    }).pipe(Effect.scoped, Effect.provide(Registry.Live)))
})

describe("the budget of a retry", () => {
  it.effect("an exhausted budget gives the real last error at once", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", jitter: "none", budget: { maxTokens: 1 } })
      const error = new Busy({})
      const { calls, effect } = failing(error)
      expect(errorOf(yield* settle(retry.withRetry(effect), "100 millis"))).toBe(error)
      expect(calls).toEqual([0, 100])
    }).pipe(Effect.scoped))

  // failsafe-go and others ask the budget after the sleep: 1,000 sleeping retries are then let through at once.
  it.effect("the budget is charged before the sleep, so a crowd that sleeps has paid", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", jitter: "none", budget: { maxTokens: 5 } })
      const { calls, effect } = failing(new Busy({}))
      const crowd = yield* Effect.fork(
        Effect.forEach(Array.from({ length: 100 }), () => Effect.exit(retry.withRetry(effect)), {
          concurrency: "unbounded"
        })
      )
      for (let i = 0; i < 50; i++) yield* Effect.yieldNow()
      expect(yield* retry.metrics).toMatchObject({ running: 5, exhausted: { Budget: 95 }, retries: 5 })
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(crowd)
      expect(calls.length).toBe(105)
    }).pipe(Effect.scoped))

  it.effect("what is reserved for a sleep that is interrupted is given back once, and later that of an attempt is not", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ name: "b", maxTokens: 3 })
      const retry = yield* Retry.make({ name: "r", jitter: "none", budget })
      const asleep = yield* Effect.fork(retry.withRetry(failing(new Busy({})).effect))
      for (let i = 0; i < 10; i++) yield* Effect.yieldNow()
      expect(yield* budget.metrics).toMatchObject({ tokens: 2, granted: 1 })
      yield* Fiber.interrupt(asleep)
      expect(yield* budget.metrics).toMatchObject({ tokens: 3, refunded: 1 })
      const hanging = dependency((call) => call === 1 ? Effect.fail(new Busy({})) : Effect.never)
      const running = yield* Effect.fork(retry.withRetry(hanging.effect))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(running)
      expect(yield* budget.metrics).toMatchObject({ tokens: 2, granted: 2, refunded: 1 })
    }).pipe(Effect.scoped))

  it.effect("ten successes pay for one retry", () =>
    Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", jitter: "none", maxAttempts: 2, budget: { maxTokens: 1 } })
      const attempt = Effect.gen(function*() {
        const { calls, effect } = failing(new Busy({}))
        yield* settle(retry.withRetry(effect))
        return calls.length
      })
      expect(yield* attempt).toBe(2)
      expect(yield* attempt).toBe(1)
      for (let i = 0; i < 9; i++) yield* retry.withRetry(Effect.void)
      expect(yield* attempt).toBe(1)
      yield* retry.withRetry(Effect.void)
      expect(yield* attempt).toBe(2)
    }).pipe(Effect.scoped))

  it.effect("what classify does not call a success earns nothing", () =>
    Effect.gen(function*() {
      const budget = yield* RetryBudget.make({ name: "b", maxTokens: 1, tokensPerSuccess: 1 })
      yield* budget.withdraw
      const classify = () => "ignored" as const
      const retry = yield* Retry.make({ name: "r", budget, classify })
      yield* retry.withRetry(Effect.void)
      expect(yield* budget.available).toBe(0)
      yield* Effect.void.pipe(retry.withRetryBy({ classify: () => "success" }))
      expect(yield* budget.available).toBe(1)
    }).pipe(Effect.scoped))

  it.effect("a one-off retry has a budget as long as its guard is one value", () =>
    Effect.gen(function*() {
      const guard = Retry.using({ jitter: "none", budget: { maxTokens: 1 } })
      const { calls, effect } = failing(new Busy({}))
      yield* settle(effect.pipe(guard))
      yield* settle(effect.pipe(guard))
      expect(calls.length).toBe(3)
      const own = Retry.using({ jitter: "none", maxAttempts: 60, strategy: "constant", initialDelay: "1 second" })
      const other = failing(new Busy({}))
      yield* settle(other.effect.pipe(own))
      expect(other.calls.length).toBe(51)
    }))
})
