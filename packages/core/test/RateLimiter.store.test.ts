import { RateLimiter, RateLimiterStore, RateLimiterStoreError } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option, TestClock } from "effect"

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
