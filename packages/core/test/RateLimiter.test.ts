import {
  Deadline,
  RateLimiter,
  RateLimiterStore,
  RateLimiterStoreError,
  RateLimitExceededError,
  Registry
} from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  type Clock,
  Context,
  Duration,
  Effect,
  Exit,
  Fiber,
  FiberId,
  Layer,
  Metric,
  MetricState,
  Option,
  Queue,
  Schema,
  TestClock
} from "effect"
import * as util from "node:util"
import { laws } from "./RateLimiter.laws.js"
import { makeManualClock } from "./utils/clock.js"

const settle = Effect.repeatN(Effect.yieldNow(), 10)

const allowed = (limiter: RateLimiter.Service, times: number, args?: RateLimiter.Args) =>
  Effect.map(
    Effect.forEach(Array.from({ length: times }), () => limiter.consume(args)),
    (decisions) => decisions.filter((decision) => decision.allowed).length
  )

describe("laws, in memory", () => {
  laws({ make: RateLimiter.make, advance: TestClock.adjust })
})

describe("laws, by a store", () => {
  laws({
    make: (options) =>
      Effect.flatMap(RateLimiterStore.makeMemory(), (store) => RateLimiter.make({ ...options, store })),
    advance: TestClock.adjust
  })
})

describe("the guard", () => {
  it.scoped("fails with what the caller needs to come back, and does not name the key", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "api", rate: "1/10 seconds" })
      const call = Effect.succeed("ran").pipe(limiter.withLimitBy({ key: "203.0.113.9" }))
      expect(yield* call).toBe("ran")
      yield* TestClock.adjust("4 seconds")
      const error = yield* Effect.flip(call)
      expect(error).toBeInstanceOf(RateLimitExceededError)
      expect(error).toMatchObject({
        pattern: "RateLimiter",
        instance: "api",
        reason: "Exceeded",
        retryAfter: Option.some(Duration.seconds(6)),
        limit: 1,
        remaining: 0
      })
      expect(error.message).toBe(`RateLimiter "api" did not let the call in (Exceeded): 0 of 1 left`)
      expect(error.stack).not.toContain("limiter.ts")
      expect(yield* limiter.metrics).toMatchObject({ keys: 1, checks: 2, allowed: 1, rejected: 1, evicted: 0 })
    }))

  it.scoped("a rejection is what the constructor of its class makes", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "api", rate: "1/10 seconds" })
      yield* limiter.consume()
      const error = yield* limiter.withLimit(Effect.void).pipe(
        Effect.catchTag("RateLimiterStoreError", Effect.die),
        Effect.flip
      )
      const { instance, limit, reason, remaining, retryAfter } = error
      const made = new RateLimitExceededError({ instance, limit, reason, remaining, retryAfter })
      const { stack, ...properties } = Object.getOwnPropertyDescriptors(made)
      expect(Object.getOwnPropertyDescriptors(error)).toMatchObject(properties)
      expect(stack?.value?.split("\n")[0]).toBe(error.stack)
      expect(util.types.isNativeError(error)).toBe(true)
      expect(String(error)).toBe(String(made))
      expect(JSON.parse(JSON.stringify(error))).toEqual(JSON.parse(JSON.stringify(made)))
      expect(Schema.encodeSync(RateLimitExceededError)(error)).toEqual(Schema.encodeSync(RateLimitExceededError)(made))
    }))

  it.scoped("counts nonsense costs as bugs", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "r", rate: "5/second" })
      for (const cost of [0, -1, 1.5, NaN, Infinity]) {
        const exit = yield* Effect.exit(limiter.consume({ cost }))
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("option cost must be an integer")
      }
      const exit = yield* Effect.exit(limiter.consume({ rate: "5/fortnight" }))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(`option rate must be a rate such as`)
    }))

  it.scoped("takes nothing but a string for a key, and nothing but an object for arguments", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "r", rate: "2/minute" })
      const message = (effect: () => Effect.Effect<unknown, unknown>) =>
        Effect.map(
          Effect.exit(Effect.suspend(effect)),
          (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "taken"
        )
      for (const key of [1, {}, null] as Array<unknown> as Array<never>) {
        for (
          const call of [
            () => limiter.consume({ key }),
            () => limiter.check({ key }),
            () => limiter.reserve({ key }),
            () => limiter.withLimitBy({ key })(Effect.void),
            () => limiter.peek(key),
            () => limiter.reset(key),
            () => limiter.drain(key),
            () => limiter.penalty({ key }),
            () => limiter.reward({ key })
          ]
        ) expect(yield* message(call)).toContain(`RateLimiter "r": option key must be a string, but is`)
      }
      const args = "free-1" as never
      for (const call of [limiter.consume, limiter.check, limiter.reserve, limiter.penalty, limiter.reward]) {
        expect(yield* message(() => call(args))).toContain(`option args must be { key, cost, rate }, but is "free-1"`)
      }
      expect(yield* message(() => limiter.withLimitBy(args)(Effect.void))).toContain("option args must be")
      expect(yield* limiter.metrics).toMatchObject({ keys: 0, checks: 0 })
      // No key, undefined and the empty string are one share.
      yield* limiter.consume({ key: "" })
      yield* limiter.consume({ key: undefined })
      expect(yield* limiter.consume()).toMatchObject({ allowed: false })
    }))

  it.scoped("names the function for rates where its answer is none", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "r", rate: "2/minute", rateFor: () => "5/fortnight" })
      const exit = yield* Effect.exit(limiter.consume({ key: "x" }))
      expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
      const message = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
      expect(message).toContain(`RateLimiter "r": option rateFor must give a rate such as`)
      expect(message).toContain(`or undefined, but gave "5/fortnight"`)
    }))

  it.scoped("has a rate for each caller", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({
        name: "r",
        rate: "2/minute",
        rateFor: (key) => key.startsWith("premium") ? "5/minute" : undefined
      })
      expect(yield* allowed(limiter, 9, { key: "free 1" })).toBe(2)
      expect(yield* allowed(limiter, 9, { key: "premium 1" })).toBe(5)
    }))

  it.scoped("dies by name when the function for rates throws", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({
        name: "r",
        rate: "2/minute",
        rateFor: () => {
          throw new Error("no such user")
        }
      })
      const exit = yield* Effect.exit(limiter.withLimitBy({ key: "x" })(Effect.void))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("rateFor")
    }))

  it.scoped("is exact above a thousand a second and over months", () =>
    Effect.gen(function*() {
      const { adjust, clock } = makeManualClock()
      for (const limit of [900, 1700]) {
        const fast = yield* RateLimiter.make({ name: "fast", rate: `${limit}/second`, burst: 2 })
        let passed = 0
        yield* Effect.withClock(
          Effect.gen(function*() {
            for (let i = 0; i < 2 * limit; i++) {
              if ((yield* fast.consume()).allowed) passed++
              adjust(Duration.nanos(500_000_000n / BigInt(limit)))
            }
          }),
          clock
        )
        expect(passed).toBeGreaterThanOrEqual(limit - 1)
        expect(passed).toBeLessThanOrEqual(limit + 2)
      }
      const slow = yield* RateLimiter.make({ name: "slow", rate: "2/90 days", algorithm: "fixed-window" })
      yield* Effect.withClock(
        Effect.gen(function*() {
          expect(yield* allowed(slow, 5, { key: "a" })).toBe(2)
          adjust("30 days")
          yield* settle
          expect(yield* allowed(slow, 5, { key: "a" })).toBe(0)
        }),
        clock
      )
    }))

  it.scoped("changes its limit at run time: what was used stays used", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "r", rate: "10/minute" })
      const queue = yield* limiter.subscribe
      expect(yield* allowed(limiter, 4)).toBe(4)
      yield* limiter.setRate("6/minute")
      expect((yield* limiter.peek()).remaining).toBe(2)
      yield* settle
      const events = [...(yield* Queue.takeAll(queue))]
      expect(events.find(({ _tag }) => _tag === "LimitChanged")).toMatchObject({ from: "10/1m", to: "6/1m" })
    }))
})

describe("waiting", () => {
  const waiting = (options: Partial<RateLimiter.Options> = {}) =>
    RateLimiter.make({ name: "w", rate: "1/second", mode: "wait", maxWait: "10 seconds", ...options })

  it.scoped("an interrupted waiter gives its share to those behind it, exactly", () =>
    Effect.gen(function*() {
      const limiter = yield* waiting({ rate: { limit: 1, window: "1 second", burst: 5 } })
      const order: Array<string> = []
      const call = (name: string, cost: number) =>
        Effect.tap(Effect.fork(Effect.sync(() => order.push(name)).pipe(limiter.withLimitBy({ cost }))), () => settle)
      yield* limiter.penalty({ cost: 5 })
      const big = yield* call("big", 5)
      yield* call("next", 1)
      yield* call("last", 1)
      yield* TestClock.adjust("900 millis")
      expect(order).toEqual([])
      yield* Fiber.interrupt(big)
      yield* TestClock.adjust("100 millis")
      expect(order).toEqual(["next"])
      yield* TestClock.adjust("1 second")
      expect(order).toEqual(["next", "last"])
      expect(yield* limiter.metrics).toMatchObject({ waiting: 0, canceled: 1, allowed: 2, rejected: 0, checks: 2 })
    }))

  it.scoped("nobody passes those who wait, however little they ask for", () =>
    Effect.gen(function*() {
      const limiter = yield* waiting({ rate: { limit: 1, window: "1 second", burst: 3 } })
      yield* limiter.penalty({ cost: 3 })
      const big = yield* Effect.fork(limiter.withLimitBy({ cost: 3 })(Effect.void))
      yield* settle
      yield* TestClock.adjust("2 seconds")
      expect((yield* limiter.consume()).allowed).toBe(false)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(big)
    }))

  it.scoped("fails at once when the deadline comes before the turn", () =>
    Effect.gen(function*() {
      const limiter = yield* waiting()
      yield* limiter.withLimit(Effect.void)
      const error = yield* Effect.flip(limiter.withLimit(Effect.void).pipe(Deadline.within("500 millis")))
      expect(error).toMatchObject({ _tag: "RateLimitExceededError", reason: "DeadlineTooClose" })
      const fiber = yield* Effect.fork(limiter.withLimit(Effect.succeed("ran")).pipe(Deadline.within("2 seconds")))
      yield* settle
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(fiber)).toBe("ran")
    }))

  it.scoped("bounds those who wait", () =>
    Effect.gen(function*() {
      const limiter = yield* waiting({ maxWaiters: 1 })
      yield* limiter.withLimit(Effect.void)
      yield* Effect.fork(limiter.withLimit(Effect.void))
      yield* settle
      expect(yield* Effect.flip(limiter.withLimit(Effect.void))).toMatchObject({ reason: "QueueFull" })
    }))

  it.scoped("a penalty pushes turns back, and those that come too late fail at once", () =>
    Effect.gen(function*() {
      const limiter = yield* waiting({ maxWait: "2 seconds" })
      yield* limiter.withLimit(Effect.void)
      const fiber = yield* Effect.fork(limiter.withLimit(Effect.void))
      yield* settle
      yield* limiter.penalty({ cost: 5 })
      expect(yield* Effect.flip(Fiber.join(fiber))).toMatchObject({ reason: "WaitExceeded" })
      expect((yield* limiter.metrics).waiting).toBe(0)
    }))

  it.scoped("those who wait follow a new rate", () =>
    Effect.gen(function*() {
      const limiter = yield* waiting({ rate: "1/minute", maxWait: "1 hour" })
      yield* limiter.withLimit(Effect.void)
      const fiber = yield* Effect.fork(limiter.withLimit(Effect.succeed("ran")))
      yield* settle
      yield* limiter.setRate("1/second")
      yield* TestClock.adjust("1 second")
      expect(Option.isSome(yield* Fiber.poll(fiber))).toBe(true)
    }))
})

describe("keys", () => {
  it.scoped(
    "a million that are idle go: after ten minutes there is no key, no timer and no fiber",
    () =>
      Effect.gen(function*() {
        const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length
        const before = timers()
        const limiter = yield* RateLimiter.make({ name: "k", rate: "10/second", maxKeys: 1_000_000 })
        for (let i = 0; i < 1_000_000; i++) yield* limiter.consume({ key: `user ${i}` })
        // The bound holds: all are live, and one more finds no room.
        expect((yield* limiter.consume({ key: "one more" })).allowed).toBe(false)
        expect(yield* limiter.metrics).toMatchObject({ keys: 1_000_000, evicted: 0 })
        yield* TestClock.adjust("10 minutes")
        expect(yield* limiter.metrics).toMatchObject({ keys: 0, evicted: 1_000_000 })
        expect(yield* TestClock.sleeps()).toHaveLength(0)
        expect(timers()).toBeLessThanOrEqual(before)
      }),
    120_000
  )

  it.scoped("with onFull admit a new one passes uncounted, and that is told", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "k", rate: "1/day", maxKeys: 1, onFull: "admit" })
      const queue = yield* limiter.subscribe
      yield* limiter.consume({ key: "a" })
      expect(yield* limiter.withLimitBy({ key: "b" })(Effect.succeed("ran"))).toBe("ran")
      yield* settle
      expect([...(yield* Queue.takeAll(queue))].map(({ _tag }) => _tag)).toContain("InternalError")
      expect(yield* limiter.metrics).toMatchObject({ keys: 1, unguarded: 1 })
    }))

  it.scoped("are hidden in events, unless they are wanted", () =>
    Effect.gen(function*() {
      for (const revealKey of [false, true]) {
        const limiter = yield* RateLimiter.make({ name: "k", rate: "1/day", revealKey })
        const queue = yield* limiter.subscribe
        yield* limiter.consume({ key: "secret" })
        yield* limiter.consume({ key: "secret" })
        yield* settle
        const events = [...(yield* Queue.takeAll(queue))]
        expect(events).toMatchObject([
          { _tag: "Allowed", rate: "1/1d", remaining: 0 },
          { _tag: "Exceeded", reason: "Exceeded", retryAfter: Duration.days(1) }
        ])
        expect(events.every((event) => event.key === (revealKey ? "secret" : "<redacted>"))).toBe(true)
      }
    }))
})

describe("a store", () => {
  const broken: RateLimiterStore.Service = {
    decide: () => Effect.fail(new Error("connection refused")),
    refund: () => Effect.fail(new Error("connection refused")),
    adjust: () => Effect.fail(new Error("connection refused")),
    drain: () => Effect.fail(new Error("connection refused")),
    reset: () => Effect.fail(new Error("connection refused"))
  }
  const rate = "2/minute"

  it.scoped("is asked by layerStore, and shared by all who ask it", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Tag<Api>()("api", { rate: "3/minute" }) {}
      const store = yield* Layer.build(RateLimiterStore.layerMemory())
      const one = Context.get(yield* Layer.build(Layer.provide(Api.layerStore(), Layer.succeedContext(store))), Api)
      const two = Context.get(
        yield* Layer.build(Layer.provide(Api.layerStore({ mode: "wait" }), Layer.succeedContext(store))),
        Api
      )
      expect(yield* allowed(one, 2)).toBe(2)
      expect(yield* allowed(two, 5)).toBe(1)
    }))

  it.scoped("that fails fails the call, by a type of its own", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "s", rate, store: broken })
      const error = yield* Effect.flip(limiter.withLimit(Effect.void))
      expect(error).toBeInstanceOf(RateLimiterStoreError)
      expect(error).toMatchObject({ instance: "s", reason: "StoreFailed", cause: { message: "connection refused" } })
      expect(yield* Effect.flip(limiter.consume())).toBeInstanceOf(RateLimiterStoreError)
      expect((yield* limiter.metrics).storeErrors).toBe(2)
    }))

  it.scoped("W-L8: that hangs is given up in time, and each policy is loud", () =>
    Effect.gen(function*() {
      const hanging: RateLimiterStore.Service = { ...broken, decide: () => Effect.never }
      const run = (onStoreError: "fail" | "open" | "closed" | "local") =>
        Effect.gen(function*() {
          const limiter = yield* RateLimiter.make({ name: "s", rate, store: hanging, onStoreError })
          const queue = yield* limiter.subscribe
          const results: Array<string> = []
          for (let i = 0; i < 3; i++) {
            const fiber = yield* Effect.fork(Effect.either(limiter.withLimit(Effect.void)))
            yield* settle
            yield* TestClock.adjust("1 second")
            const result = yield* Fiber.join(fiber)
            results.push(result._tag === "Right" ? "ran" : result.left.reason)
          }
          yield* settle
          const told = [...(yield* Queue.takeAll(queue))].filter(({ _tag }) => _tag === "InternalError")
          expect(told).toMatchObject([{ source: "Store" }])
          expect((yield* limiter.metrics).storeErrors).toBe(3)
          return results
        })
      expect(yield* run("fail")).toEqual(["StoreFailed", "StoreFailed", "StoreFailed"])
      expect(yield* run("open")).toEqual(["ran", "ran", "ran"])
      expect(yield* run("closed")).toEqual(["StoreUnavailable", "StoreUnavailable", "StoreUnavailable"])
      expect(yield* run("local")).toEqual(["ran", "ran", "Exceeded"])
    }))

  it.scoped("gets back what a waiter that was interrupted had reserved", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory()
      const limiter = yield* RateLimiter.make({
        name: "s",
        rate: "1/second",
        mode: "wait",
        maxWait: "5 seconds",
        store
      })
      yield* limiter.withLimit(Effect.void)
      const fiber = yield* Effect.fork(limiter.withLimit(Effect.void))
      yield* settle
      expect((yield* limiter.metrics).waiting).toBe(1)
      yield* Fiber.interrupt(fiber)
      expect(yield* limiter.metrics).toMatchObject({ waiting: 0, canceled: 1 })
      expect(Duration.toMillis((yield* limiter.reserve()).delay)).toBe(1000)
    }))
})

describe("an operator", () => {
  it.scoped("resets, drains and changes the rate", () =>
    Effect.gen(function*() {
      const registry = yield* Registry
      const limiter = yield* RateLimiter.make({ name: "o", rate: "2/minute" })
      expect(yield* allowed(limiter, 5, { key: "a" })).toBe(2)
      yield* registry.act("RateLimiter", "o", "reset", "a")
      expect(yield* allowed(limiter, 5, { key: "a" })).toBe(2)
      yield* registry.act("RateLimiter", "o", "drain")
      expect(yield* allowed(limiter, 5)).toBe(0)
      yield* registry.act("RateLimiter", "o", "setRate", "9/minute")
      expect((yield* limiter.metrics).rate).toBe("9/1m")
      expect(yield* Effect.flip(registry.act("RateLimiter", "o", "setRate", "nine"))).toMatchObject({
        message: expect.stringContaining("a rate such as")
      })
    }).pipe(Effect.provide(Registry.Live)))

  it.scoped("sees metrics by instance, and no key among them", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "gauged", rate: "1/minute" })
      yield* limiter.consume({ key: "secret" })
      yield* limiter.consume({ key: "secret" })
      const mine = [...(yield* Metric.snapshot)].filter(({ metricKey }) =>
        metricKey.tags.some(({ key, value }) => key === "resilience.name" && value === "gauged")
      )
      const counted = (result: string) =>
        mine.flatMap(({ metricKey, metricState }) =>
          metricKey.name === "resilience.rate_limiter.decisions" &&
            metricKey.tags.some(({ value }) => value === result) && MetricState.isCounterState(metricState)
            ? [metricState.count]
            : []
        )
      expect([counted("allowed"), counted("rejected")]).toEqual([[1], [1]])
      expect(JSON.stringify(mine)).not.toContain("secret")
    }))
})

describe("the faults of others", () => {
  it.scoped("W-L1: a rate that cannot be read lets nothing through", () =>
    Effect.gen(function*() {
      for (const rate of ["10", "", "1.5/second", "10/Second", "10/fortnight", "0/second", "-1/second"]) {
        const exit = yield* Effect.exit(RateLimiter.make({ name: "typo", rate }))
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(
          `RateLimiter "typo": option rate must be a rate such as`
        )
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain(JSON.stringify(rate))
      }
    }))

  it.scoped("W-L2: filling the table resets nobody's quota", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "l", rate: "5/day", maxKeys: 10 })
      let passed = 0
      for (let i = 0; i < 500; i++) {
        if ((yield* limiter.consume({ key: "attacker" })).allowed) passed++
        yield* limiter.consume({ key: `other ${i}` })
      }
      expect(passed).toBe(5)
      expect(yield* Effect.flip(limiter.withLimitBy({ key: "new" })(Effect.void))).toMatchObject({
        reason: "TooManyKeys"
      })
      yield* TestClock.adjust("1 day")
      expect((yield* limiter.consume({ key: "new" })).allowed).toBe(true)
    }))

  it.scoped("W-L3: ten a second are ten in the first second, by the log or by a burst of one", () =>
    Effect.gen(function*() {
      for (const options of [{ algorithm: "sliding-log" }, { burst: 1 }] as const) {
        const limiter = yield* RateLimiter.make({ name: "l", rate: "10/second", ...options })
        let passed = 0
        for (let i = 0; i < 100; i++) {
          if ((yield* limiter.consume()).allowed) passed++
          yield* TestClock.adjust("10 millis")
        }
        expect(passed).toBe(10)
      }
    }))

  it.scoped("W-L4: a rate means the same in memory and by a store", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory()
      for (const algorithm of ["gcra", "sliding-window", "sliding-log", "fixed-window"] as const) {
        const one = yield* RateLimiter.make({ name: algorithm, rate: "7/second", algorithm })
        const two = yield* RateLimiter.make({ name: algorithm, rate: "7/second", algorithm, store })
        for (let i = 0; i < 100; i++) {
          expect(yield* two.consume()).toEqual(yield* one.consume())
          yield* TestClock.adjust("37 millis")
        }
      }
    }))

  it.scoped("W-L5: calls of one and the same moment are all counted", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "l", rate: "10/minute", algorithm: "sliding-log" })
      expect(yield* allowed(limiter, 2000)).toBe(10)
    }))

  it.scoped("W-L6: a caller above the limit gets its share all the same", () =>
    Effect.gen(function*() {
      for (const algorithm of ["gcra", "sliding-window", "sliding-log", "fixed-window"] as const) {
        const limiter = yield* RateLimiter.make({ name: "l", rate: "60/minute", algorithm })
        let passed = 0
        for (let i = 0; i < 600; i++) {
          if ((yield* limiter.consume()).allowed) passed++
          yield* TestClock.adjust("500 millis")
        }
        expect(passed).toBeGreaterThanOrEqual(290)
      }
    }))

  it.effect("W-L7: a step of the wall clock changes nothing", () =>
    Effect.gen(function*() {
      let wall = 0
      const stepped: Clock.Clock = {
        ...makeManualClock().clock,
        unsafeCurrentTimeMillis: () => wall,
        currentTimeMillis: Effect.sync(() => wall)
      }
      yield* Effect.withClock(
        Effect.scoped(Effect.gen(function*() {
          const limiter = yield* RateLimiter.make({ name: "l", rate: "2/minute" })
          expect(yield* allowed(limiter, 5)).toBe(2)
          wall = 3_600_000
          expect(yield* allowed(limiter, 5)).toBe(0)
          wall = -3_600_000
          expect(Duration.toMillis((yield* limiter.peek()).retryAfter)).toBe(30_000)
        })),
        stepped
      )
    }))

  it.scoped("W-L9: a shared limiter has all that one in memory has", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory()
      const memory = yield* RateLimiter.make({ name: "m", rate: "1/second" })
      const shared = yield* RateLimiter.make({ name: "s", rate: "1/second", store })
      expect(Object.keys(shared).sort()).toEqual(Object.keys(memory).sort())
      const queue = yield* shared.subscribe
      yield* shared.consume()
      yield* shared.consume()
      yield* settle
      expect([...(yield* Queue.takeAll(queue))].map(({ _tag }) => _tag)).toEqual(["Allowed", "Exceeded"])
    }))

  it.scoped("W-L10: a decision says what is left and when to come back", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "l", rate: "4/second" })
      yield* limiter.consume()
      expect(yield* limiter.peek()).toEqual({
        allowed: true,
        limit: 4,
        window: Duration.seconds(1),
        remaining: 3,
        retryAfter: Duration.zero,
        resetAfter: Duration.millis(250)
      })
      yield* limiter.consume({ cost: 3 })
      expect((yield* limiter.consume()).retryAfter).toEqual(Duration.millis(250))
    }))

  it.scoped("W-L11: weights, several windows, waiting and counters are there", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "l", rate: ["5/second", "6/minute"], mode: "wait" })
      yield* limiter.withLimitBy({ cost: 5 })(Effect.void)
      const fiber = yield* Effect.fork(limiter.withLimit(Effect.void))
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
      expect(yield* Effect.flip(limiter.withLimit(Effect.void))).toMatchObject({ reason: "WaitExceeded", limit: 6 })
      expect(yield* limiter.metrics).toMatchObject({ checks: 3, allowed: 2, rejected: 1 })
    }))

  it.scoped("W-L12: with nobody listening no event is built, and with somebody none has the key", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "l", rate: "1/second" })
      yield* limiter.consume({ key: "203.0.113.9" })
      const queue = yield* limiter.subscribe
      yield* limiter.consume({ key: "203.0.113.9" })
      yield* settle
      const events = [...(yield* Queue.takeAll(queue))]
      // The call before the subscription was numbered by nobody.
      expect(events).toMatchObject([{ _tag: "Exceeded", callId: 1 }])
      expect(JSON.stringify(events)).not.toContain("203.0.113.9")
    }))
})

describe("layers", () => {
  it.effect("a default of a hundred a second, others of their own, and none for tests", () =>
    Effect.gen(function*() {
      class Search extends RateLimiter.Tag<Search>()("search", { rate: "2/second" }) {}
      const burst = Effect.forEach(Array.from({ length: 150 }), () => Effect.either(RateLimiter.withLimit(Effect.void)))
      const ran = yield* Effect.provide(burst, RateLimiter.Live)
      expect(ran.filter(({ _tag }) => _tag === "Right")).toHaveLength(100)
      const twice = Effect.all([Search.consume(), Search.consume(), Search.consume()])
      const last = <A>(all: ReadonlyArray<A>) => all.at(-1)
      expect(last(yield* Effect.provide(twice, Search.Live))).toMatchObject({ allowed: false })
      expect(last(yield* Effect.provide(twice, Search.layer({ rate: "3/second" })))).toMatchObject({ allowed: true })
      expect(last(yield* Effect.provide(twice, Search.layerNoop))).toMatchObject({ allowed: true })
    }))

  it.effect("an instance that is gone has left no timer", () =>
    Effect.gen(function*() {
      const { clock, sleepers } = makeManualClock()
      const fiber = yield* Effect.scoped(Effect.gen(function*() {
        const limiter = yield* RateLimiter.make({ name: "gone", rate: "1/minute", mode: "wait", maxWait: "1 hour" })
        yield* limiter.withLimit(Effect.void)
        const fiber = yield* Effect.fork(limiter.withLimit(Effect.void))
        yield* settle
        yield* Fiber.interruptAsFork(fiber, FiberId.none)
        yield* settle
        expect(sleepers()).toBe(1)
        return fiber
      })).pipe(Effect.withClock(clock))
      yield* Fiber.await(fiber)
      yield* settle
      expect(sleepers()).toBe(0)
    }))
})
