import { Deadline, RateLimiter } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Queue, Scope, TestClock } from "effect"
import { Plan } from "../src/internal/rate/plan.js"
import { parseRates } from "../src/internal/rate/rate.js"
import { RateTable } from "../src/internal/rate/table.js"
import { currentClock } from "../src/internal/time.js"

const settle = Effect.repeatN(Effect.yieldNow(), 10)

const internalErrors = (queue: Queue.Dequeue<RateLimiter.Event>) =>
  Effect.map(
    Effect.zipRight(settle, Queue.takeAll(queue)),
    (events) => [...events].filter(({ _tag }) => _tag === "InternalError").length
  )

describe("a limiter that is gone", () => {
  it.effect("leaves nobody waiting", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const limiter = yield* Scope.extend(
        RateLimiter.make({ name: "gone", rate: "1/minute", mode: "wait", maxWait: "1 hour" }),
        scope
      )
      yield* limiter.withLimit(Effect.void)
      const waiters = [
        yield* Effect.fork(Effect.flip(limiter.withLimit(Effect.void))),
        yield* Effect.fork(Effect.flip(limiter.withLimit(Effect.void)))
      ]
      yield* settle
      expect((yield* limiter.metrics).waiting).toBe(2)
      yield* Scope.close(scope, Exit.void)
      yield* settle
      for (const waiter of waiters) {
        expect(Option.map(yield* Fiber.poll(waiter), Exit.isSuccess)).toEqual(Option.some(true))
        expect(yield* Fiber.join(waiter)).toMatchObject({ _tag: "RateLimitExceededError", reason: "WaitExceeded" })
      }
      const late = yield* Effect.fork(Effect.flip(limiter.withLimit(Effect.void)))
      yield* settle
      expect(Option.isSome(yield* Fiber.poll(late))).toBe(true)
      expect((yield* limiter.metrics).waiting).toBe(0)
    }))
})

describe("a reservation", () => {
  it.scoped("for a time to come counts as one that waits, over all keys, until its time or until it is given back", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "held", rate: "1/second", maxWaiters: 3 })
      const reserve = (key: string) => limiter.reserve({ key, maxWait: "1 hour" })
      yield* reserve("a")
      yield* reserve("b")
      const first = yield* reserve("a")
      yield* reserve("a")
      yield* reserve("b")
      expect(yield* Effect.flip(reserve("b"))).toMatchObject({ reason: "QueueFull" })
      // What may be used at once is no wait.
      expect(Duration.toMillis((yield* reserve("c")).delay)).toBe(0)
      expect(yield* first.cancel).toBe(true)
      yield* reserve("c")
      expect(yield* Effect.flip(reserve("c"))).toMatchObject({ reason: "QueueFull" })
      yield* TestClock.adjust("1500 millis")
      for (let i = 0; i < 3; i++) yield* reserve("d")
      expect(yield* Effect.flip(reserve("b"))).toMatchObject({ reason: "QueueFull" })
    }))

  it.scoped("is refused where its time comes at the deadline or after it", () =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "dead", rate: "1/second" })
      const reserve = limiter.reserve({ maxWait: "1 minute" })
      yield* limiter.consume()
      expect(yield* Effect.flip(reserve.pipe(Deadline.within("500 millis")))).toMatchObject({
        reason: "DeadlineTooClose"
      })
      expect(yield* Effect.flip(reserve.pipe(Deadline.within("1 second")))).toMatchObject({
        reason: "DeadlineTooClose"
      })
      // Nothing was taken by those.
      expect(Duration.toMillis((yield* reserve.pipe(Deadline.within("2 seconds"))).delay)).toBe(1000)
    }))
})

describe("a full table", () => {
  const full = (options: Partial<RateLimiter.Options> = {}) =>
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.make({ name: "full", rate: "5/day", maxKeys: 1, ...options })
      yield* limiter.consume({ key: "live" })
      return { limiter, queue: yield* limiter.subscribe }
    })

  it.scoped("with onFull admit reserves without a count, and consumes, and tells so once a minute", () =>
    Effect.gen(function*() {
      const { limiter, queue } = yield* full({ onFull: "admit" })
      const reserved = yield* limiter.reserve({ key: "new" })
      expect(reserved).toMatchObject({ delay: Duration.zero, decision: { allowed: true, remaining: 0 } })
      expect(yield* reserved.cancel).toBe(false)
      expect(yield* internalErrors(queue)).toBe(1)
      expect(yield* limiter.consume({ key: "new" })).toMatchObject({ allowed: true, remaining: 0 })
      expect(yield* internalErrors(queue)).toBe(0)
      yield* TestClock.adjust("1 minute")
      yield* limiter.consume({ key: "new" })
      expect(yield* internalErrors(queue)).toBe(1)
      expect(yield* limiter.metrics).toMatchObject({ keys: 1, unguarded: 3, allowed: 4 })
    }))

  it.scoped("says that nothing remains for a new key", () =>
    Effect.gen(function*() {
      const { limiter } = yield* full()
      const error = { reason: "TooManyKeys", limit: 5, remaining: 0 }
      expect(yield* Effect.flip(limiter.reserve({ key: "new" }))).toMatchObject(error)
      expect(yield* Effect.flip(limiter.withLimitBy({ key: "new" })(Effect.void))).toMatchObject(error)
      const decision = { allowed: false, limit: 5, remaining: 0, retryAfter: Duration.infinity }
      expect(yield* limiter.consume({ key: "new" })).toMatchObject(decision)
      expect(yield* limiter.peek("new")).toMatchObject(decision)
    }))

  it.scoped("tells that a penalty of a new key is lost, once a minute", () =>
    Effect.gen(function*() {
      const { limiter, queue } = yield* full()
      yield* limiter.penalty({ key: "live" })
      yield* limiter.drain("live")
      yield* limiter.drain("live")
      expect(yield* internalErrors(queue)).toBe(0)
      yield* limiter.penalty({ key: "new" })
      yield* limiter.drain("new")
      expect(yield* internalErrors(queue)).toBe(1)
      yield* TestClock.adjust("1 minute")
      yield* limiter.drain("new")
      expect(yield* internalErrors(queue)).toBe(1)
    }))

  it.effect("is not searched whole for a new key, and finds in the end what may go", () =>
    Effect.sync(() => {
      const keys = 100_000
      const clock = currentClock()
      const table = new RateTable(keys)
      const plan = new Plan("gcra", parseRates("1/hour", "gcra"))
      const short = new Plan("gcra", parseRates("1/second", "gcra"))
      const second = 1_000_000_000n
      for (let i = 0; i < keys; i++) table.take(`key ${i}`, i === keys - 1 ? short : plan, 1, 0n, clock)
      let looks = 0
      for (;;) {
        looks++
        const at = table.take("new", plan, 1, 2n * second, clock)
        if (at !== undefined) break
        expect(looks).toBeLessThan(keys)
      }
      expect(looks).toBeGreaterThan(100)
      expect(table.keys).toBe(keys)
      // Once a round has found none it is known when the next one can go.
      expect(table.take("newer", plan, 1, 3n * second, clock)).toBeUndefined()
      for (let i = 0; i < 2 * keys / 64; i++) table.take("newer", plan, 1, 3n * second, clock)
      expect(table.take("newer", plan, 1, 3600n * second, clock)).toBe(3600n * second)
      table.close()
    }))
})
