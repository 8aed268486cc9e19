import type { RateLimiter } from "@effect-resilience/core"
import { expect, it } from "@effect/vitest"
import type { Scope, TestServices } from "effect"
import { Duration, Effect, Fiber } from "effect"
import { algorithms, isBursty } from "../src/internal/rate/rate.js"

type Options = RateLimiter.Options & { readonly name: string }

/**
 * What every rate limiter does, wherever it keeps its counts. `advance` moves the time of the store: `TestClock.adjust`
 * for one in memory, real time for one that is elsewhere. Names are used once, so a store need not be emptied between.
 */
export const laws = (subject: {
  readonly make: (options: Options) => Effect.Effect<RateLimiter.Service, never, Scope.Scope>
  readonly advance: (span: Duration.DurationInput) => Effect.Effect<void>
}): void => {
  const { advance } = subject
  let made = 0
  const make = (options: RateLimiter.Options) => subject.make({ name: `law-${++made}`, ...options })
  const law = (name: string, effect: Effect.Effect<void, unknown, Scope.Scope | TestServices.TestServices>) =>
    it.scoped(name, () => effect)
  /** Begins where a window of the clock does, so that all of a test is in one. */
  const settle = advance("1 second")
  const count = (limiter: RateLimiter.Service, times: number, args?: RateLimiter.Args) =>
    Effect.map(
      Effect.forEach(Array.from({ length: times }), () => limiter.consume(args), { concurrency: "unbounded" }),
      (decisions) => decisions.filter(({ allowed }) => allowed).length
    )

  for (const algorithm of algorithms) {
    law(
      `${algorithm}: lets the limit in and no more, and tells when to come back`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "5/second", algorithm })
        yield* settle
        for (let left = 4; left >= 0; left--) {
          const { allowed, limit, remaining, resetAfter, retryAfter } = yield* limiter.consume()
          expect({ allowed, limit, remaining }).toEqual({ allowed: true, limit: 5, remaining: left })
          expect(Duration.toMillis(retryAfter)).toBe(0)
          expect(Duration.toMillis(resetAfter)).toBeGreaterThan(0)
        }
        const { allowed, remaining, retryAfter } = yield* limiter.consume()
        expect({ allowed, remaining }).toEqual({ allowed: false, remaining: 0 })
        expect(Duration.toMillis(retryAfter)).toBeGreaterThan(0)
        yield* advance(retryAfter)
        expect((yield* limiter.consume()).allowed).toBe(true)
      })
    )

    law(
      `${algorithm}: is as good as new after resetAfter`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "4/second", algorithm })
        yield* settle
        expect(yield* count(limiter, 9)).toBe(4)
        yield* advance((yield* limiter.peek()).resetAfter)
        expect((yield* limiter.peek()).remaining).toBe(4)
        expect(yield* count(limiter, 9)).toBe(4)
      })
    )

    law(
      `${algorithm}: a denied call costs nothing, nor does a question`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "3/second", algorithm })
        yield* settle
        expect(yield* count(limiter, 3)).toBe(3)
        const { retryAfter } = yield* limiter.peek()
        expect(yield* count(limiter, 50)).toBe(0)
        yield* Effect.forEach(Array.from({ length: 50 }), () => limiter.check(), { concurrency: "unbounded" })
        yield* advance(retryAfter)
        expect((yield* limiter.check()).allowed).toBe(true)
        expect((yield* limiter.consume()).allowed).toBe(true)
      })
    )

    law(
      `${algorithm}: takes a cost whole or not at all, and refuses one above the limit for ever`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "5/second", algorithm })
        yield* settle
        expect(yield* limiter.consume({ cost: 3 })).toMatchObject({ allowed: true, remaining: 2 })
        expect(yield* limiter.consume({ cost: 3 })).toMatchObject({ allowed: false, remaining: 2 })
        expect(yield* limiter.consume({ cost: 6 })).toMatchObject({ allowed: false, retryAfter: Duration.infinity })
        expect(yield* limiter.consume({ cost: 2 })).toMatchObject({ allowed: true, remaining: 0 })
        expect(yield* Effect.flip(limiter.withLimitBy({ cost: 6 })(Effect.void))).toMatchObject({
          reason: "CostTooHigh",
          retryAfter: { _tag: "None" }
        })
      })
    )

    law(
      `${algorithm}: charges two rates both or none`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: ["2/second", "3/minute"], algorithm })
        yield* advance("1 minute")
        expect(yield* count(limiter, 10)).toBe(2)
        yield* advance("2 seconds")
        // The minute was not charged for the eight that the second turned away.
        expect(yield* count(limiter, 10)).toBe(1)
        expect(yield* limiter.peek()).toMatchObject({ allowed: false, limit: 3, remaining: 0 })
      })
    )

    law(
      `${algorithm}: tells of several rates about the one that has least left, and of it alone`,
      Effect.gen(function*() {
        const short = yield* make({ rate: ["3/second", "100/hour"], algorithm })
        const long = yield* make({ rate: ["5/second", "3/hour"], algorithm })
        const even = yield* make({ rate: ["3/second", "3/hour"], algorithm })
        yield* settle
        const about = ({ limit, remaining, resetAfter, window }: RateLimiter.Decision) => {
          // Windows of the clock and of two counters are over at a border: of an hour, at any time within it.
          expect(Duration.toMillis(resetAfter)).toBeLessThanOrEqual(2 * Duration.toMillis(window))
          return { limit, remaining, window: Duration.toMillis(window) }
        }
        expect(yield* count(short, 2)).toBe(2)
        expect(about(yield* short.consume())).toEqual({ limit: 3, remaining: 0, window: 1000 })
        expect(about(yield* short.peek())).toEqual({ limit: 3, remaining: 0, window: 1000 })
        expect(yield* count(long, 2)).toBe(2)
        expect(about(yield* long.consume())).toEqual({ limit: 3, remaining: 0, window: 3_600_000 })
        // Both are used up: the one that takes longest is what a caller has to know.
        expect(yield* count(even, 2)).toBe(2)
        expect(about(yield* even.consume())).toEqual({ limit: 3, remaining: 0, window: 3_600_000 })
        const reserved = yield* make({ rate: ["3/second", "100/hour"], algorithm })
        expect(about((yield* reserved.reserve({ cost: 3 })).decision)).toMatchObject({ limit: 3, window: 1000 })
      })
    )

    law(
      `${algorithm}: keeps keys apart`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "2/second", algorithm })
        yield* settle
        expect(yield* count(limiter, 5, { key: "a" })).toBe(2)
        expect(yield* count(limiter, 5, { key: "b" })).toBe(2)
        yield* limiter.reset("a")
        expect(yield* count(limiter, 5, { key: "a" })).toBe(2)
        expect(yield* count(limiter, 5, { key: "b" })).toBe(0)
      })
    )

    law(
      `${algorithm}: takes penalties, gives rewards and drains`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "5/minute", algorithm })
        yield* advance("1 minute")
        yield* limiter.penalty({ cost: 3 })
        expect((yield* limiter.peek()).remaining).toBe(2)
        yield* limiter.reward({ cost: 2 })
        expect((yield* limiter.peek()).remaining).toBe(4)
        yield* limiter.reward({ cost: 100 })
        expect((yield* limiter.peek()).remaining).toBe(5)
        yield* limiter.drain()
        expect((yield* limiter.peek()).remaining).toBe(0)
        yield* limiter.reward({ cost: 1 })
        yield* limiter.drain()
        expect((yield* limiter.peek()).remaining).toBe(1)
      })
    )

    law(
      `${algorithm}: what a key has used counts under another rate`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "5/minute", algorithm })
        yield* advance("1 minute")
        expect(yield* count(limiter, 3, { key: "a" })).toBe(3)
        expect(yield* count(limiter, 20, { key: "a", rate: "10/minute" })).toBe(7)
      })
    )

    law(
      `${algorithm}: keeps the quota of a window that a call in between does not name`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: ["10/second", "100/hour"], algorithm })
        yield* advance("1 hour")
        let passed = 0
        for (let second = 0; second < 22; second++) {
          passed += yield* count(limiter, 5, { key: "a" })
          yield* limiter.consume({ key: "a", rate: "5/second" })
          yield* advance("1 second")
        }
        expect(passed).toBeGreaterThanOrEqual(100)
        // In so few seconds a hundred an hour gives no more.
        expect(passed).toBeLessThanOrEqual(100)
      })
    )

    law(
      `${algorithm}: a key has used in one tier what it used in another, there and back`,
      Effect.gen(function*() {
        let tier = "10/day"
        const limiter = yield* make({ rate: "1/day", algorithm, rateFor: () => tier })
        yield* advance("1 day")
        expect(yield* count(limiter, 20, { key: "a" })).toBe(10)
        tier = "10000/day"
        expect((yield* limiter.consume({ key: "a" })).allowed).toBe(true)
        tier = "20/minute"
        expect(yield* count(limiter, 30, { key: "a" })).toBe(20)
        yield* advance("2 minutes")
        tier = "10/day"
        expect(yield* count(limiter, 20, { key: "a" })).toBe(0)
      })
    )

    law(
      `${algorithm}: a key is not turned away in a short window for what it used in a long one`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: ["1000/hour", "10/second"], algorithm })
        yield* advance("1 hour")
        for (let second = 0; second < 8; second++) {
          expect(yield* count(limiter, 10)).toBe(10)
          yield* advance("2 seconds")
        }
        expect((yield* limiter.consume({ rate: "10/second" })).allowed).toBe(true)
      })
    )

    law(
      `${algorithm}: a key is where it was when the rate of the instance is changed and changed back`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "20/day", algorithm })
        yield* advance("1 day")
        expect(yield* count(limiter, 30)).toBe(20)
        yield* limiter.setRate("40/minute")
        expect(yield* count(limiter, 50)).toBe(40)
        yield* advance("5 minutes")
        yield* limiter.setRate("20/day")
        expect(yield* count(limiter, 5)).toBe(0)
        yield* limiter.reset()
        expect((yield* limiter.peek()).remaining).toBe(20)
      })
    )

    law(
      `${algorithm}: reserves for a time to come, and takes it back`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "2/second", algorithm })
        yield* settle
        expect(yield* count(limiter, 2)).toBe(2)
        const first = yield* limiter.reserve({ maxWait: "3 seconds" })
        const delay = Duration.toMillis(first.delay)
        expect(delay).toBeGreaterThan(0)
        expect(delay).toBeLessThanOrEqual(1500)
        expect(yield* Effect.flip(limiter.reserve({ cost: 2, maxWait: "10 millis" }))).toMatchObject({
          reason: "WaitExceeded"
        })
        expect(yield* first.cancel).toBe(true)
        expect(yield* first.cancel).toBe(false)
        const second = yield* limiter.reserve({ maxWait: "3 seconds" })
        expect(Duration.toMillis(second.delay)).toBeLessThanOrEqual(delay)
        yield* advance("4 seconds")
        expect(yield* second.cancel).toBe(false)
      })
    )

    law(
      `${algorithm}: lets calls wait in their order, and fails at once those that would wait too long`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "2/second", algorithm, mode: "wait", maxWait: "2500 millis" })
        yield* settle
        const order: Array<number> = []
        const call = (n: number) => Effect.sync(() => order.push(n)).pipe(limiter.withLimit)
        yield* call(0)
        yield* call(1)
        const fibers = []
        for (const n of [2, 3]) {
          fibers.push(yield* Effect.fork(call(n)))
          yield* Effect.yieldNow()
        }
        const late = yield* Effect.flip(
          Effect.forEach([4, 5, 6, 7, 8, 9], call, { discard: true, concurrency: "unbounded" })
        )
        expect(late).toMatchObject({ reason: "WaitExceeded", instance: limiter.name })
        expect(order).toEqual([0, 1])
        yield* advance("3 seconds")
        yield* Fiber.joinAll(fibers)
        // Windows let several in at one moment, which has no order by a store.
        const first = order.slice(0, 4)
        expect(isBursty(algorithm) ? first : first.sort()).toEqual([0, 1, 2, 3])
      })
    )
  }

  for (const algorithm of algorithms.filter(isBursty)) {
    law(
      `${algorithm}: holds its burst, and keeps to its rate between`,
      Effect.gen(function*() {
        const limiter = yield* make({ rate: "10/second", algorithm, burst: 2 })
        yield* settle
        expect(yield* count(limiter, 10)).toBe(2)
        yield* advance("100 millis")
        expect(yield* count(limiter, 10)).toBe(1)
        yield* advance("10 seconds")
        expect(yield* count(limiter, 10)).toBe(2)
      })
    )
  }
}
