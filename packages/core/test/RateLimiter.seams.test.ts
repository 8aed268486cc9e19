import { RateLimiter, RateLimiterStore } from "@effect-resilience/core"
import { consumeAtOnce } from "@effect-resilience/core/extension"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, TestClock } from "effect"

const settle = Effect.repeatN(Effect.yieldNow(), 10)

const fiberId = Effect.map(Effect.fiberId, String)

/** A store in memory that notes what it is asked for. */
const noting = (more: Partial<RateLimiterStore.Service> = {}) =>
  Effect.map(RateLimiterStore.makeMemory(), (store) => {
    const asked: Array<string> = []
    const fibers: Array<string> = []
    return {
      asked,
      fibers,
      store: {
        ...store,
        ...more,
        decide: (request: RateLimiterStore.Request) =>
          Effect.flatMap(fiberId, (id) => {
            asked.push(request.mode)
            fibers.push(id)
            return (more.decide ?? store.decide)(request)
          })
      } satisfies RateLimiterStore.Service
    }
  })

describe("a store that settles by itself", () => {
  const fibersOf = (settlesWithin: Duration.Duration | undefined) =>
    Effect.gen(function*() {
      const { fibers, store } = yield* noting({ settlesWithin })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "5/minute", storeTimeout: "100 millis", store })
      yield* limiter.consume()
      yield* limiter.withLimit(Effect.void)
      yield* limiter.reserve()
      return { own: yield* fiberId, fibers: new Set(fibers) }
    })

  it.scoped("is asked by the caller's own fiber, and every other by a fiber that can be left behind", () =>
    Effect.gen(function*() {
      const trusted = yield* fibersOf(Duration.millis(100))
      expect([...trusted.fibers]).toEqual([trusted.own])
      for (const settlesWithin of [undefined, Duration.millis(101)]) {
        const watched = yield* fibersOf(settlesWithin)
        expect(watched.fibers.size).toBe(3)
        expect(watched.fibers.has(watched.own)).toBe(false)
      }
    }))

  it.scoped("is interrupted with its caller, who is gone at once", () =>
    Effect.gen(function*() {
      let interrupted = 0
      const { store } = yield* noting({
        settlesWithin: Duration.millis(100),
        decide: () => Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "5/minute", store })
      for (const ask of [limiter.consume(), limiter.withLimit(Effect.void), limiter.reserve()]) {
        const fiber = yield* Effect.fork(ask)
        yield* settle
        expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
      }
      expect(interrupted).toBe(3)
      expect(yield* limiter.metrics).toMatchObject({ allowed: 0, rejected: 0, storeErrors: 0 })
    }))

  it.scoped("may fail, and throw, as every other", () =>
    Effect.gen(function*() {
      const fails: ReadonlyArray<() => Effect.Effect<never, Error>> = [
        () => Effect.fail(new Error("refused")),
        () => Effect.die(new Error("a bug")),
        () => {
          throw new Error("a worse bug")
        }
      ]
      for (const decide of fails) {
        const store = { ...(yield* RateLimiterStore.makeMemory()), settlesWithin: Duration.millis(1), decide }
        const limiter = yield* RateLimiter.make({ name: "s", rate: "5/minute", store })
        expect(yield* Effect.flip(limiter.consume())).toMatchObject({ reason: "StoreFailed" })
        expect(yield* limiter.metrics).toMatchObject({ rejected: 1, storeErrors: 1 })
      }
    }))
})

describe("a store that decides at once", () => {
  const left = (granted: number): RateLimiterStore.Decision => ({
    granted,
    limit: 7,
    window: Duration.minutes(1),
    remaining: 3,
    wait: granted > 0 ? Duration.zero : Duration.seconds(5),
    resetAfter: Duration.seconds(9)
  })

  it.scoped("is not asked to decide again, by whichever way it is met", () =>
    Effect.gen(function*() {
      const { asked, store } = yield* noting({ decideAtOnce: ({ key }) => left(key === "denied" ? 0 : 1) })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "7/minute", store })
      expect(yield* limiter.consume()).toMatchObject({ allowed: true, limit: 7, remaining: 3 })
      expect(yield* limiter.check()).toMatchObject({ allowed: true })
      expect(yield* limiter.withLimit(Effect.succeed("ran"))).toBe("ran")
      expect((yield* limiter.reserve()).delay).toEqual(Duration.zero)
      expect(yield* limiter.consume({ key: "denied" })).toMatchObject({
        allowed: false,
        retryAfter: Duration.seconds(5)
      })
      expect(yield* Effect.flip(limiter.withLimitBy({ key: "denied" })(Effect.void))).toMatchObject({
        reason: "Exceeded",
        retryAfter: Option.some(Duration.seconds(5))
      })
      expect(asked).toEqual([])
      expect(yield* limiter.metrics).toMatchObject({ allowed: 3, rejected: 2 })
    }))

  it.scoped("is asked where it cannot, once for each call", () =>
    Effect.gen(function*() {
      const offered: Array<string> = []
      const { asked, store } = yield* noting({
        decideAtOnce: ({ mode }) => {
          offered.push(mode)
          return undefined
        }
      })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "2/minute", store })
      yield* limiter.consume()
      yield* limiter.check()
      yield* limiter.withLimit(Effect.void)
      yield* Effect.flip(limiter.reserve())
      expect(offered).toEqual(["all", "peek", "all", "reserve"])
      expect(asked).toEqual(["all", "peek", "all", "reserve"])
    }))

  it.scoped("has failed where it throws", () =>
    Effect.gen(function*() {
      const { asked, store } = yield* noting({
        decideAtOnce: () => {
          throw new Error("a bug")
        }
      })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "2/minute", store })
      expect(yield* Effect.flip(limiter.consume())).toMatchObject({ reason: "StoreFailed" })
      expect(consumeAtOnce(limiter)?.({})).toBeUndefined()
      expect(asked).toEqual([])
      expect(yield* limiter.metrics).toMatchObject({ rejected: 1, storeErrors: 1 })
    }))

  it.scoped("lets those decide at once who hold a permit themselves, and counts them", () =>
    Effect.gen(function*() {
      const { store } = yield* noting({
        decideAtOnce: ({ key }) => key === "unknown" ? undefined : left(key === "denied" ? 0 : 1)
      })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "7/minute", store })
      const consume = consumeAtOnce(limiter)
      expect(consume?.({})).toMatchObject({ allowed: true, remaining: 3 })
      expect(consume?.({ key: "denied" })).toMatchObject({ allowed: false })
      expect(consume?.({ key: "unknown" })).toBeUndefined()
      expect(consume?.({ cost: 8 })).toBeUndefined()
      expect(yield* limiter.metrics).toMatchObject({ allowed: 1, rejected: 1 })
      const other = yield* RateLimiter.make({ name: "o", rate: "7/minute", store: (yield* noting()).store })
      expect(consumeAtOnce(other)).toBeUndefined()
    }))
})

describe("the rates that a store is told", () => {
  it.scoped("are one list for as long as they are the same, so that a store knows them again", () =>
    Effect.gen(function*() {
      const told: Array<ReadonlyArray<RateLimiterStore.Rate>> = []
      const { store } = yield* noting({
        decideAtOnce: ({ rates }) => {
          told.push(rates)
          return undefined
        }
      })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "7/minute", store })
      yield* limiter.consume()
      yield* limiter.withLimitBy({ key: "a" })(Effect.void)
      yield* limiter.consume({ rate: "5/minute" })
      yield* limiter.consume({ rate: "5/minute" })
      yield* limiter.setRate("6/minute")
      yield* limiter.consume()
      const [own, same, five, fiveAgain, six] = told
      expect(same).toBe(own)
      expect(fiveAgain).toBe(five)
      expect(six).toEqual([{ limit: 6, burst: 6, window: Duration.minutes(1) }])
    }))
})

describe("the share of a process", () => {
  const refused = () => Effect.fail(new Error("connection refused"))
  const broken = { decide: refused, refund: refused, adjust: refused, drain: refused, reset: refused }
  const admitted = (limiter: RateLimiter.Service, args?: RateLimiter.Args) =>
    Effect.map(
      Effect.forEach(Array.from({ length: 50 }), () => limiter.consume(args)),
      (decisions) => decisions.filter(({ allowed }) => allowed).length
    )
  const local = (processes: (() => number) | undefined, rate: RateLimiter.Rates = "10/minute") =>
    RateLimiter.make({ name: "s", rate, onStoreError: "local", store: { ...broken, processes } })

  it.scoped("is the whole where the store does not know how many there are, or says what is no number", () =>
    Effect.gen(function*() {
      for (const told of [undefined, () => 1, () => 0, () => NaN, () => -3]) {
        expect(yield* admitted(yield* local(told))).toBe(10)
      }
    }))

  it.scoped("is an equal part of the rate, rounded down, and at least 1", () =>
    Effect.gen(function*() {
      for (const [processes, part] of [[2, 5], [3, 3], [4, 2], [10, 1], [11, 1], [1000, 1], [2.9, 5]] as const) {
        expect(yield* admitted(yield* local(() => processes))).toBe(part)
      }
      const burst = yield* local(() => 4, { limit: 100, window: "1 minute", burst: 20 })
      expect(yield* admitted(burst)).toBe(5)
      expect(yield* admitted(yield* local(() => 4), { key: "a", rate: "40/minute" })).toBe(10)
    }))

  it.scoped("follows the number of processes, and what was used stays used", () =>
    Effect.gen(function*() {
      let processes = 5
      const limiter = yield* local(() => processes)
      expect(yield* admitted(limiter)).toBe(2)
      processes = 2
      expect(yield* admitted(limiter)).toBe(3)
      processes = 5
      expect(yield* admitted(limiter)).toBe(0)
      yield* TestClock.adjust("1 minute")
      expect(yield* admitted(limiter)).toBe(2)
    }))

  it.scoped("refuses what costs more than it ever has, until the store is back", () =>
    Effect.gen(function*() {
      const limiter = yield* local(() => 4)
      expect(yield* limiter.consume({ cost: 3 })).toMatchObject({ allowed: false })
      expect(yield* Effect.flip(limiter.withLimitBy({ cost: 3 })(Effect.void))).toMatchObject({
        reason: "StoreUnavailable"
      })
      expect(yield* Effect.flip(limiter.reserve({ cost: 3 }))).toMatchObject({ reason: "StoreUnavailable" })
      expect(yield* Effect.flip(limiter.reserve({ cost: 11 }))).toMatchObject({ reason: "CostTooHigh" })
      expect(yield* limiter.consume({ cost: 2 })).toMatchObject({ allowed: true })
    }))

  it.scoped("is what a call waits for, too", () =>
    Effect.gen(function*() {
      const store = { ...broken, processes: () => 6 }
      const limiter = yield* RateLimiter.make({
        name: "s",
        rate: "60/minute",
        burst: 1,
        mode: "wait",
        maxWait: "1 minute",
        onStoreError: "local",
        store
      })
      yield* limiter.withLimit(Effect.void)
      const fiber = yield* Effect.fork(limiter.withLimit(Effect.succeed("ran")))
      yield* settle
      yield* TestClock.adjust("5999 millis")
      yield* settle
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(fiber)).toBe("ran")
    }))
})

describe("the store in memory, full", () => {
  it.scoped("says that it could not keep a penalty and a drain of a new key", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory({ maxKeys: 1 })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "1/day", store })
      yield* limiter.consume({ key: "a" })
      yield* limiter.penalty({ key: "a", cost: 1 })
      yield* limiter.drain("a")
      expect(yield* Effect.flip(limiter.penalty({ key: "b", cost: 1 }))).toMatchObject({ reason: "StoreFailed" })
      expect(yield* Effect.flip(limiter.drain("b"))).toMatchObject({ reason: "StoreFailed" })
      // There is nothing to give back to it.
      yield* limiter.reward({ key: "b", cost: 1 })
      yield* limiter.reset("b")
      expect(yield* limiter.metrics).toMatchObject({ storeErrors: 2 })
    }))

  it.scoped("grants so many reservations for a time to come, and those of now in any case", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory({ maxReservations: 2 })
      const limiter = yield* RateLimiter.make({ name: "s", rate: "1/minute", maxWait: "1 hour", store })
      const reserve = (key: string) => limiter.reserve({ key })
      yield* reserve("a")
      const first = yield* reserve("a")
      yield* reserve("a")
      expect(yield* Effect.flip(reserve("a"))).toMatchObject({ reason: "QueueFull" })
      yield* reserve("b")
      expect(yield* Effect.flip(reserve("b"))).toMatchObject({ reason: "QueueFull" })
      expect(yield* first.cancel).toBe(true)
      yield* reserve("b")
      expect(yield* Effect.flip(reserve("b"))).toMatchObject({ reason: "QueueFull" })
      yield* TestClock.adjust("5 minutes")
      yield* reserve("a")
      yield* reserve("a")
    }))
})
