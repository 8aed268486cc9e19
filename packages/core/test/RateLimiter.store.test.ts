import { Deadline, RateLimiter, RateLimiterStore, RateLimiterStoreError, Registry } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Logger, Option, TestClock } from "effect"

const settle = Effect.repeatN(Effect.yieldNow(), 10)

/** A store in memory, some of which is replaced. */
const storeWith = (
  change: (store: RateLimiterStore.Service) => Partial<RateLimiterStore.Service>,
  options?: RateLimiterStore.Options
) => Effect.map(RateLimiterStore.makeMemory(options), (store) => ({ ...store, ...change(store) }))

/** How an effect ended, `undefined` where it has not within the time. */
const within = <A, E>(fiber: Fiber.Fiber<A, E>, span: "999 millis" | "1 second" | "1 millis") =>
  TestClock.adjust(span).pipe(
    Effect.zipRight(settle),
    Effect.zipRight(Fiber.poll(fiber)),
    Effect.map(Option.getOrUndefined)
  )

describe("a store that hangs", () => {
  const hangs = { never: Effect.never, "uninterruptible never": Effect.uninterruptible(Effect.never) }
  for (const [name, hang] of Object.entries(hangs)) {
    it.scoped(`holds up the interruption of a waiter for its timeout at most (${name})`, () =>
      Effect.gen(function*() {
        const store = yield* storeWith(() => ({ refund: () => hang }))
        const limiter = yield* RateLimiter.make({ name: "s", rate: "1/minute", mode: "wait", maxWait: "1 hour", store })
        yield* limiter.withLimit(Effect.void)
        const waiter = yield* Effect.fork(limiter.withLimit(Effect.void))
        yield* settle
        const interruption = yield* Effect.fork(Fiber.interrupt(waiter))
        yield* settle
        expect(yield* within(interruption, "999 millis")).toBeUndefined()
        const exit = yield* within(interruption, "1 millis")
        expect(exit && Exit.isSuccess(exit) && Exit.isInterrupted(exit.value)).toBe(true)
        expect(yield* limiter.metrics).toMatchObject({ waiting: 0, canceled: 1, storeErrors: 1 })
      }))

    it.scoped(`is given up in time by a caller that cannot be interrupted (${name})`, () =>
      Effect.gen(function*() {
        const store = yield* storeWith(() => ({ decide: () => hang }))
        const limiter = yield* RateLimiter.make({ name: "s", rate: "1/minute", store })
        for (const ask of [limiter.withLimit(Effect.void), limiter.consume(), limiter.reserve()]) {
          const fiber = yield* Effect.fork(Effect.uninterruptible(Effect.flip(ask)))
          yield* settle
          const exit = yield* within(fiber, "1 second")
          expect(exit && Exit.isSuccess(exit) && exit.value).toBeInstanceOf(RateLimiterStoreError)
        }
      }))

    it.scoped(`lets a caller go that is interrupted meanwhile (${name})`, () =>
      Effect.gen(function*() {
        const store = yield* storeWith(() => ({ decide: () => hang }))
        const limiter = yield* RateLimiter.make({ name: "s", rate: "1/minute", onStoreError: "open", store })
        const fiber = yield* Effect.fork(limiter.withLimit(Effect.void))
        yield* settle
        const interruption = yield* Effect.fork(Fiber.interrupt(fiber))
        yield* settle
        const exit = Option.getOrUndefined(yield* Fiber.poll(interruption))
        expect(exit && Exit.isSuccess(exit) && Exit.isInterrupted(exit.value)).toBe(true)
        expect(yield* limiter.metrics).toMatchObject({ allowed: 0, rejected: 0, storeErrors: 0 })
      }))
  }
})

describe("a store that ends its answer by an interruption", () => {
  it.scoped("has failed: the caller goes on as onStoreError says", () =>
    Effect.gen(function*() {
      const store = yield* storeWith(() => ({ decide: () => Effect.interrupt }))
      const run = (onStoreError: "fail" | "open" | "closed" | "local") =>
        Effect.gen(function*() {
          const limiter = yield* RateLimiter.make({ name: "s", rate: "1/minute", onStoreError, store })
          const exit = yield* Effect.exit(limiter.withLimit(Effect.succeed("ran")))
          expect(yield* limiter.metrics).toMatchObject({ storeErrors: 1 })
          return Exit.match(exit, {
            onSuccess: (ran) => ran,
            onFailure: (cause) =>
              Option.match(Cause.failureOption(cause), { onNone: () => cause._tag, onSome: ({ reason }) => reason })
          })
        })
      expect(yield* run("fail")).toBe("StoreFailed")
      expect(yield* run("open")).toBe("ran")
      expect(yield* run("closed")).toBe("StoreUnavailable")
      expect(yield* run("local")).toBe("ran")
    }))
})

describe("waiting by a store", () => {
  it.scoped("maxWaiters bounds those who wait, also those that asked at once", () =>
    Effect.gen(function*() {
      const store = yield* storeWith(({ decide }) => ({
        decide: (request) => Effect.delay(decide(request), "10 millis")
      }))
      const limiter = yield* RateLimiter.make({
        name: "s",
        rate: "1/minute",
        mode: "wait",
        maxWait: "1 hour",
        maxWaiters: 3,
        store
      })
      yield* Effect.fork(limiter.withLimit(Effect.void))
      yield* settle
      yield* TestClock.adjust("10 millis")
      const calls = yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => Effect.fork(Effect.flip(limiter.withLimit(Effect.void)))
      )
      yield* settle
      yield* TestClock.adjust("10 millis")
      yield* settle
      expect(yield* limiter.metrics).toMatchObject({ allowed: 1, waiting: 3, rejected: 97 })
      const ended = yield* Effect.forEach(calls, Fiber.poll)
      const reasons = ended.flatMap(Option.toArray).flatMap((exit) => Exit.isSuccess(exit) ? [exit.value.reason] : [])
      expect(reasons).toEqual(Array.from({ length: 97 }, () => "QueueFull"))
      yield* TestClock.adjust("3 minutes")
      yield* settle
      expect(yield* limiter.metrics).toMatchObject({ allowed: 4, waiting: 0, rejected: 97 })
    }))

  it.scoped("a call that need not wait passes, however many do", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory()
      const limiter = yield* RateLimiter.make({
        name: "s",
        rate: "1/minute",
        mode: "wait",
        maxWait: "1 hour",
        maxWaiters: 1,
        store
      })
      yield* limiter.withLimitBy({ key: "a" })(Effect.void)
      yield* Effect.fork(limiter.withLimitBy({ key: "a" })(Effect.void))
      yield* settle
      expect(yield* Effect.flip(limiter.withLimitBy({ key: "a" })(Effect.void))).toMatchObject({ reason: "QueueFull" })
      expect(yield* limiter.withLimitBy({ key: "b" })(Effect.succeed("ran"))).toBe("ran")
      expect((yield* limiter.metrics).waiting).toBe(1)
    }))
})

describe("a reservation by a store", () => {
  it.scoped("is not for a time after the deadline of its caller", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory()
      const limiter = yield* RateLimiter.make({ name: "s", rate: "1/minute", store })
      yield* limiter.consume()
      const before = (deadline: Duration.DurationInput, maxWait: Duration.DurationInput) =>
        limiter.reserve({ maxWait }).pipe(
          Effect.match({ onSuccess: ({ delay }) => Duration.toMillis(delay), onFailure: ({ reason }) => reason }),
          Deadline.within(deadline)
        )
      expect(yield* before("59 seconds", "1 hour")).toBe("DeadlineTooClose")
      // Nothing starts at a deadline.
      expect(yield* before("1 minute", "1 hour")).toBe("DeadlineTooClose")
      expect(yield* before("1 hour", "59 seconds")).toBe("WaitExceeded")
      expect(yield* before("58 seconds", "59 seconds")).toBe("WaitExceeded")
      // Nothing of that was kept.
      expect(yield* before("61 seconds", "1 hour")).toBe(60_000)
      expect(yield* limiter.metrics).toMatchObject({ allowed: 2, rejected: 4 })
    }))
})

describe("onFull admit", () => {
  const stores = {
    "in memory": Effect.succeed({}),
    "by a store": Effect.map(RateLimiterStore.makeMemory({ maxKeys: 1 }), (store) => ({ store }))
  }
  const full = { "in memory": "all 1 keys are live", "by a store": "all keys of the store are live" }
  for (const where of ["in memory", "by a store"] as const) {
    it.scoped(`counts each call that goes unguarded, and tells once a minute (${where})`, () => {
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => warnings.push(String(message)))
      return Effect.gen(function*() {
        const options = { rate: "1/day", maxKeys: 1, onFull: "admit", ...yield* stores[where] } as const
        const limiter = yield* RateLimiter.make({ name: "k", ...options })
        yield* limiter.consume({ key: "a" })
        for (let i = 0; i < 50; i++) {
          expect((yield* limiter.consume({ key: `user ${i}` })).allowed).toBe(true)
          expect(yield* limiter.withLimitBy({ key: `user ${i}` })(Effect.succeed("ran"))).toBe("ran")
          // A question lets nothing through.
          expect((yield* limiter.check({ key: `user ${i}` })).allowed).toBe(true)
        }
        expect(yield* limiter.metrics).toMatchObject({ allowed: 101, unguarded: 100 })
        expect(warnings).toHaveLength(1)
        yield* TestClock.adjust("1 minute")
        yield* limiter.consume({ key: "b" })
        expect(warnings).toHaveLength(2)
        expect(warnings[1]).toContain(full[where])
        expect(warnings[1]).toContain("101 so far")
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    })
  }
})

describe("onFull and a reservation by a store", () => {
  it.scoped("admit hands out one that no store knows of, and reject refuses it", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory({ maxKeys: 1 })
      const admitting = yield* RateLimiter.make({ name: "admit", rate: "1/day", onFull: "admit", store })
      const rejecting = yield* RateLimiter.make({ name: "reject", rate: "1/day", store })
      yield* admitting.consume({ key: "a" })
      const { cancel, decision, delay } = yield* admitting.reserve({ key: "b" })
      expect([Duration.toMillis(delay), decision.allowed, yield* cancel]).toEqual([0, true, false])
      expect(yield* admitting.metrics).toMatchObject({ allowed: 2, unguarded: 1 })
      expect(yield* Effect.flip(rejecting.reserve({ key: "b" }))).toMatchObject({ reason: "TooManyKeys" })
      expect(yield* rejecting.metrics).toMatchObject({ rejected: 1, unguarded: 0 })
    }))
})

describe("keys in a store", () => {
  it.scoped("are not among the metrics, but for those that are counted in this process", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory()
      const about = (onStoreError: "fail" | "open" | "closed" | "local") =>
        Effect.gen(function*() {
          const limiter = yield* RateLimiter.make({ name: "s", rate: "1/day", maxKeys: 3, onStoreError, store })
          yield* limiter.consume({ key: "a" })
          const { evicted, keys, maxKeys } = yield* limiter.metrics
          return { evicted, keys, maxKeys }
        })
      const unknown = { evicted: undefined, keys: undefined, maxKeys: undefined }
      expect(yield* about("fail")).toEqual(unknown)
      expect(yield* about("open")).toEqual(unknown)
      expect(yield* about("closed")).toEqual(unknown)
      expect(yield* about("local")).toEqual({ evicted: 0, keys: 0, maxKeys: 3 })
    }))
})

describe("without the store", () => {
  const refused = () => Effect.fail(new Error("connection refused"))
  const broken = { decide: refused, refund: refused, adjust: refused, drain: refused, reset: refused }

  it.scoped("with onStoreError local a penalty, a reward and a drain count in this process", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "s", rate: "5/minute", onStoreError: "local", store: broken })
      yield* limiter.penalty({ key: "a", cost: 3 })
      expect((yield* limiter.peek("a")).remaining).toBe(2)
      yield* limiter.reward({ key: "a", cost: 1 })
      expect((yield* limiter.peek("a")).remaining).toBe(3)
      yield* limiter.drain("a")
      expect((yield* limiter.peek("a")).remaining).toBe(0)
      expect((yield* limiter.peek("b")).remaining).toBe(5)
    }))

  it.scoped("what it does then is told to operators, where there is a store", () =>
    Effect.gen(function*() {
      yield* RateLimiter.make({ name: "shared", rate: "5/minute", onStoreError: "open", store: broken })
      yield* RateLimiter.make({ name: "own", rate: "5/minute" })
      const { instances } = yield* Registry.snapshot
      expect(instances.map(({ instance, settings }) => [instance, settings])).toEqual([
        ["shared", { onStoreError: "open" }],
        ["own", undefined]
      ])
    }).pipe(Effect.provide(Registry.Live)))

  it.scoped("reset fails in every mode, for what the key has used is still in the store", () =>
    Effect.gen(function*() {
      for (const onStoreError of ["fail", "open", "closed", "local"] as const) {
        const limiter = yield* RateLimiter.make({ name: "s", rate: "5/minute", onStoreError, store: broken })
        expect(yield* Effect.flip(limiter.reset("a"))).toBeInstanceOf(RateLimiterStoreError)
      }
    }))

  it.scoped("reset forgets what was counted in this process, whether or not the store is there", () =>
    Effect.gen(function*() {
      let away = true
      const store = yield* storeWith((store) => ({
        decide: (request) => away ? refused() : store.decide(request),
        reset: (target) => away ? refused() : store.reset(target)
      }))
      const limiter = yield* RateLimiter.make({ name: "s", rate: "1/minute", onStoreError: "local", store })
      expect((yield* limiter.consume()).allowed).toBe(true)
      yield* Effect.flip(limiter.reset())
      expect((yield* limiter.consume()).allowed).toBe(true)
      away = false
      yield* limiter.reset()
      away = true
      expect((yield* limiter.consume()).allowed).toBe(true)
      expect((yield* limiter.consume()).allowed).toBe(false)
    }))
})

describe("a call that waits for what a store reserved", () => {
  it.scopedLive("begins at its time and not before, by the clock of the machine", () =>
    Effect.gen(function*() {
      // Fractions of a millisecond, which no timer has.
      const wait = Duration.nanos(2_900_001n)
      let due = 0
      const store = yield* storeWith((memory) => ({
        decide: (request) =>
          Effect.map(memory.decide(request), (decision) => {
            due = performance.now() + Duration.toMillis(wait)
            return { ...decision, wait }
          })
      }))
      const limiter = yield* RateLimiter.make({ name: "s", rate: "1000/minute", mode: "wait", store })
      const early: Array<number> = []
      for (let i = 0; i < 50; i++) {
        const left = yield* limiter.withLimit(Effect.sync(() => due - performance.now()))
        if (left > 0) early.push(left)
      }
      expect(early).toEqual([])
    }))
})
