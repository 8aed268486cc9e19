import {
  AdaptiveConcurrency,
  Backpressure,
  Bulkhead,
  CircuitBreaker,
  Fallback,
  LoadShedder,
  Priority,
  RateLimiter,
  Retry,
  RetryBudget,
  Timeout
} from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Config, ConfigError, ConfigProvider, Duration, Effect, Exit, Layer, Schedule, type Scope } from "effect"
import { merge } from "../src/internal/options.js"
import { optionTables } from "../src/internal/optionTables.js"

/** Bad values of each option. An option without cases fails the test below. */
const integers = [0, -1, 1.5, NaN, -Infinity, "3", {}, null]
const durations = [-1, NaN, "soon", "-5 seconds", {}, true, null]
const functions = [1, "f", {}, null]
const fair = [1, "yes", { weight: 2 }, { weights: () => 1 }, [], null]
const bad: {
  readonly [P in keyof typeof optionTables]: { readonly [K in keyof (typeof optionTables)[P]]: ReadonlyArray<unknown> }
} = {
  AdaptiveConcurrency: {
    algorithm: ["random", 1, {}, { name: "x" }, null],
    initialLimit: [...integers, Infinity],
    minLimit: [...integers, Infinity],
    maxLimit: [...integers, Infinity],
    maxQueued: [-1, 1.5, NaN, Infinity, "3", null],
    maxWait: durations,
    order: ["random", 1, null],
    fair,
    classify: functions
  },
  Backpressure: {
    maxPending: [...integers, Infinity],
    highWaterMark: [0, -1, 1.5, NaN, -Infinity, "3", {}, null, Infinity, 1001],
    lowWaterMark: [-1, 1.5, NaN, -Infinity, "3", {}, null, Infinity, 801],
    maxWait: durations,
    maxWaiters: [-1, 1.5, NaN, Infinity, "3", null]
  },
  Bulkhead: {
    maxConcurrent: [...integers, Infinity],
    maxQueued: [-1, 1.5, NaN, Infinity, "3", null],
    maxWait: durations,
    order: ["random", 1, null],
    fair
  },
  CircuitBreaker: {
    consecutiveFailures: [...integers, Infinity, true],
    failureRate: [0, -0.1, 1.1, NaN, Infinity, "0.5", null],
    minimumCalls: [...integers, Infinity],
    window: [
      { count: 0 },
      { count: 1.5 },
      { count: NaN },
      { duration: 0 },
      { duration: NaN },
      { duration: Infinity },
      {},
      5,
      null
    ],
    slowCallDuration: [...durations, 0, Infinity],
    slowCallRate: [0, -0.1, 1.1, NaN, "0.5", null],
    openDuration: [...durations, 0],
    halfOpenMaxCalls: [...integers, Infinity],
    successThreshold: [...integers, Infinity, 4],
    halfOpenTimeout: [...durations, 0],
    rampUp: [...durations, 0, Infinity],
    openOn: functions,
    classify: functions,
    initial: [{ state: "Ajar" }, { state: "Open", left: "5 seconds" }, { state: "Closed", opens: -1 }, 1, null]
  },
  Fallback: { catchDefects: [1, "yes", null] },
  LoadShedder: {
    maxInFlight: [...integers, Infinity],
    maxQueueDepth: [-1, 1.5, NaN, Infinity, "3", null],
    maxQueueWait: [...durations, 0, Infinity],
    shares: [
      { low: -0.1 },
      { low: 1.1 },
      { low: NaN },
      { low: "1" },
      { urgent: 1 },
      { low: 0.4 },
      { high: 0.9 },
      1,
      "low",
      null
    ],
    cpu: [0, -0.1, 1.1, NaN, Infinity, "0.5", null, true],
    memory: [0, -0.1, 1.1, NaN, Infinity, "0.5", null],
    eventLoopDelay: [...durations, 0, Infinity],
    recoverAt: [0, -0.1, 1.1, NaN, Infinity, "0.5", null],
    sampleEvery: [...durations, 0, Infinity]
  },
  RateLimiter: {
    rate: [
      ...["", "10", "1.5/second", "-1/second", "0/second", "1_0/second", "10/Second", "10/fortnight", "10/0 seconds"],
      ...["10/second/2", "/second", "10/", "ten/second", "\u0661\u0660/second", "10 per second", "9007199254740993/s"],
      ...[{ limit: 0, window: "1 second" }, { limit: 1.5, window: "1 second" }, { limit: NaN, window: "1 second" }],
      ...[{ limit: 1, window: 0 }, { limit: 1, window: -1 }, { limit: 1, window: Infinity }, { limit: 1 }],
      ...[{ limit: 1, window: "1 second", burst: 0 }, { limit: 1, window: "1 second", bursts: 1 }],
      ...[[], ["10/second", "x"], 10, null, {}]
    ],
    algorithm: ["leaky", 1, null],
    burst: [...integers.filter((value) => value !== "3"), Infinity],
    mode: ["block", 1, null],
    maxWait: durations,
    maxWaiters: [...integers, Infinity],
    rateFor: functions,
    maxKeys: [...integers, Infinity],
    onFull: ["x", 1, null],
    revealKey: [1, "yes", null],
    onStoreError: ["throw", 1, null],
    storeTimeout: [...durations, 0, Infinity]
  },
  Retry: {
    maxAttempts: integers,
    strategy: ["random", 1, null],
    initialDelay: [...durations, "1 minute"],
    factor: [0.5, 0, NaN, Infinity, "2", null],
    maxDelay: [...durations, "1 millis"],
    jitter: [-0.1, 1.1, NaN, "some", null],
    schedule: [1, "x", {}, null],
    maxDuration: [...durations, 0, Infinity],
    retryOn: [1, "Tag", [1], null],
    abortOn: [1, "Tag", [1], null],
    strategies: [1, "x", { Busy: { maxAttempts: 0 } }, { Busy: { initialDelay: NaN } }, { Busy: { typo: 1 } }, null],
    delayFrom: functions,
    onRetry: functions,
    classify: functions,
    budget: [true, 1, "x", { maxTokens: NaN }, { typo: 1 }, null]
  },
  RetryBudget: {
    tokensPerSuccess: [-1, NaN, Infinity, "1", null],
    maxTokens: [-1, NaN, Infinity, "1", null],
    minPerSecond: [-1, NaN, Infinity, "1", null]
  },
  Timeout: {
    duration: [...durations, 0],
    disconnect: [1, "yes", null]
  }
}

type Make = (options: never) => Effect.Effect<unknown, never, Scope.Scope>
type LayerConfig = (config: never) => Layer.Layer<never, ConfigError.ConfigError>
const makers: {
  readonly [P in keyof typeof optionTables]: { readonly make: Make; readonly layerConfig: LayerConfig }
} = {
  AdaptiveConcurrency: AdaptiveConcurrency as never,
  Backpressure: Backpressure as never,
  Bulkhead: Bulkhead as never,
  CircuitBreaker: CircuitBreaker as never,
  Fallback: Fallback as never,
  LoadShedder: LoadShedder as never,
  RateLimiter: RateLimiter as never,
  Retry: Retry as never,
  RetryBudget: RetryBudget as never,
  Timeout: Timeout as never
}

for (const [pattern, fields] of Object.entries(optionTables)) {
  const { layerConfig, make } = makers[pattern as keyof typeof makers]
  const required = pattern === "RateLimiter" ? { rate: "1/second" } : {}
  const cases = bad[pattern as keyof typeof bad] as Readonly<Record<string, ReadonlyArray<unknown>>>

  describe(pattern, () => {
    it.scoped("is made with its defaults", () => make({ name: "x", ...required } as never))

    it("has bad values for each of its options, and no others", () => {
      expect(Object.keys(cases).sort()).toEqual(Object.keys(fields).sort())
    })

    for (const [field, values] of Object.entries(cases)) {
      it.effect(`refuses bad values of ${field}`, () =>
        Effect.gen(function*() {
          for (const value of values) {
            const exit = yield* Effect.exit(Effect.scoped(make({ name: "x", ...required, [field]: value } as never)))
            const message = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : `was taken: ${String(value)}`
            expect(message).toMatch(new RegExp(`${pattern} "x[^"]*": (option \\w+ must be |has no option ")`))
            expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)

            const layer = layerConfig({ [field]: Config.succeed(value) } as never)
            const failed = yield* Effect.exit(Effect.scoped(Layer.build(layer)))
            const error = Exit.isFailure(failed) ? Cause.squash(failed.cause) : undefined
            expect(ConfigError.isConfigError(error), `${field} = ${String(value)}`).toBe(true)
            expect(String((error as { readonly message?: string }).message)).toContain(`${pattern} "default`)
          }
        }))
    }

    it.effect("refuses an option that it does not have, and a name that is none", () =>
      Effect.gen(function*() {
        const message = (options: object) =>
          Effect.map(Effect.exit(Effect.scoped(make(options as never))), (exit) =>
            Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "taken")
        expect(yield* message({ name: "x", tresholds: 1 })).toContain(
          `${pattern} "x": has no option "tresholds"; there are: `
        )
        expect(yield* message({ name: "  " })).toContain("option name must be a non-empty string")
      }))
  })
}

describe("options", () => {
  it("W-X5: no, no nonsense number passes anywhere", () => {
    for (const cases of Object.values(bad)) {
      for (const [field, values] of Object.entries(cases)) expect(values.length, field).toBeGreaterThan(0)
    }
  })

  it("are laid over each other, and undefined does not win", () => {
    expect(merge<{ a?: number | undefined; b?: number }>({ a: 1, b: 2 }, { a: undefined, b: 3 })).toEqual({
      a: 1,
      b: 3
    })
  })

  it.effect("say what is wrong with them", () =>
    Effect.gen(function*() {
      const message = (made: Effect.Effect<unknown, unknown, Scope.Scope>) =>
        Effect.map(
          Effect.exit(Effect.scoped(made)),
          (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "taken"
        )
      const log = { name: "x", rate: "1/second", algorithm: "sliding-log", burst: 5 } as const
      expect(yield* message(RateLimiter.make(log))).toContain(
        `option burst must be absent for "sliding-log", which has no burst ("gcra" and "token-bucket" have), but is 5`
      )
      expect(yield* message(LoadShedder.make({ name: "x", shares: { normal: 0.5 } }))).toContain(
        `(with the defaults they are critical 1, high 1, normal 0.5, low 0.8, sheddable 0.5: normal is below low)`
      )
      const keyed = Effect.flatMap(
        Bulkhead.make({ name: "x" }),
        ({ withPermitBy }) => Effect.suspend(() => withPermitBy({ key: "a" })(Effect.void))
      )
      expect(yield* message(keyed)).toContain(
        `option key must be absent, because the option fair is not set, but is "a"`
      )
      expect(yield* message(Effect.suspend(() => Priority.within("urgent" as never)(Effect.void)))).toContain(
        `Priority "within": option level must be one of critical, high, normal, low, sheddable, but is "urgent"`
      )
    }))

  it.effect("refuse minimumCalls that the window cannot hold", () =>
    Effect.gen(function*() {
      const make = (options: CircuitBreaker.Options) =>
        Effect.map(
          Effect.exit(Effect.scoped(CircuitBreaker.make({ name: "x", ...options }))),
          (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "taken"
        )
      expect(yield* make({ window: { count: 5 }, minimumCalls: 6 })).toContain(
        `CircuitBreaker "x": option minimumCalls must be at most the window's count (5), but is 6`
      )
      expect(yield* make({ window: { count: 5 }, minimumCalls: 5 })).toBe("taken")
      expect(yield* make({ window: { count: 5 } })).toBe("taken")
    }))

  it.effect("come from Config, values and Configs mixed", () =>
    Effect.gen(function*() {
      class Api extends CircuitBreaker.Tag<Api>()("api", { halfOpenMaxCalls: 4 }) {}
      const layer = Api.layerConfig({
        consecutiveFailures: Config.integer("FAILURES"),
        openDuration: "7 seconds",
        window: Config.map(Config.duration("WINDOW"), (duration) => ({ duration })),
        classify: () => "failure"
      }).pipe(Layer.provide(Layer.setConfigProvider(
        ConfigProvider.fromMap(new Map([["FAILURES", "1"], ["WINDOW", "5 seconds"]]))
      )))
      yield* Effect.gen(function*() {
        yield* Api.withBreaker(Effect.void)
        expect((yield* Api.metrics).openFor).toMatchObject({ value: Duration.seconds(7) })
      }).pipe(Effect.provide(layer))
      const whole = Api.layerConfig(Config.succeed({ consecutiveFailures: 1 }))
      yield* Effect.gen(function*() {
        yield* Effect.exit(Api.withBreaker(Effect.fail("no")))
        expect(yield* Api.state).toBe("Open")
      }).pipe(Effect.provide(whole))
      const none = Api.layerConfig({})
      expect(yield* Effect.provide(Api.state, none)).toBe("Closed")
    }))

  it.scoped("of a schedule that never waits are refused", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(CircuitBreaker.make({ name: "x", openDuration: Schedule.forever }))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("whose first delay is above 0")
    }))
})
