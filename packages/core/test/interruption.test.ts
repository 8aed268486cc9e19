import {
  AdaptiveConcurrency,
  Bulkhead,
  CircuitBreaker,
  Limit,
  Priority,
  RateLimiter,
  RateLimiterStore,
  Retry,
  RetryBudget,
  Timeout
} from "@effect-resilience/core"
import { describe } from "@effect/vitest"
import { Deferred, Duration, Effect, Ref, Schedule } from "effect"
import { DeadlineTag, Region } from "../src/internal/ambient.js"
import type { Subject } from "./utils/sweep.js"
import { caught, whole } from "./utils/sweepTests.js"

const bulkhead = (options: Bulkhead.Options, guard: (b: Bulkhead.Service) => Subject["with"]) =>
  Effect.map(Effect.scoped(Bulkhead.make({ name: "b", maxWait: "1 minute", ...options })), (b): Subject => ({
    with: guard(b),
    whole: Effect.map(
      b.metrics,
      ({ active, admitted, failed, ignored, running, succeeded, waiting }) =>
        active === 0 && waiting === 0 && running === 0 && admitted === succeeded + failed + ignored
    )
  }))

describe("bulkhead", () => {
  whole("gives every permit back", bulkhead({ maxConcurrent: 1 }, (b) => b.withPermit))
  whole("gives several permits back", bulkhead({ maxConcurrent: 2 }, (b) => b.withPermitsBy(2)))
  whole(
    "gives the permit of a scope back",
    bulkhead({ maxConcurrent: 1 }, (b) => (effect) => Effect.scoped(Effect.zipRight(b.acquire, effect)))
  )
  whole(
    "gives the permits of a scope and of a key back",
    bulkhead(
      { maxConcurrent: 2, fair: { weight: () => 2 } },
      (b) => (effect) => Effect.scoped(Effect.zipRight(b.acquireBy({ key: "k", permits: 2 }), effect))
    )
  )
  whole(
    "gives the permit back while somebody listens",
    Effect.tap(
      bulkhead(
        { maxConcurrent: 1 },
        (b) => (effect) => Effect.scoped(Effect.zipRight(b.subscribe, b.withPermit(effect)))
      ),
      () => Effect.void
    )
  )
  whole("gives the permit back of a call that ends by itself", bulkhead({ maxConcurrent: 1 }, (b) => b.withPermit), {
    body: Effect.yieldNow()
  })
  whole(
    "gives the permit of the newest waiter back",
    bulkhead({ maxConcurrent: 1, order: "lifo" }, (b) => b.withPermit)
  )

  whole(
    "gives the permit of a key back",
    bulkhead({ maxConcurrent: 1, fair: true }, (b) => (effect) => effect.pipe(b.withPermitBy({ key: "k" })))
  )
  whole(
    "gives the permits of a key back, whose calls weigh more, while somebody listens",
    bulkhead(
      { maxConcurrent: 2, fair: { weight: () => 2 } },
      (b) => (effect) => Effect.scoped(Effect.zipRight(b.subscribe, b.withPermitBy({ key: "k", permits: 2 })(effect)))
    )
  )
  whole(
    "gives the permit of an important call back",
    bulkhead({ maxConcurrent: 1 }, (b) => (effect) => b.withPermit(effect).pipe(Priority.within("high")))
  )

  caught(
    "a guard that installs its release too late",
    Effect.sync(() => {
      let active = 0
      return {
        with: (effect) =>
          Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(
              restore(Effect.asVoid(Effect.sync(() => active++))),
              () => Effect.ensuring(restore(effect), Effect.sync(() => active--))
            )
          ),
        whole: Effect.sync(() => active === 0)
      } satisfies Subject
    })
  )

  caught(
    "a queue whose interrupted waiter forgets the permit it was handed",
    Effect.sync(() => {
      let taken = 0
      const line = new Set<Deferred.Deferred<void>>()
      const release = Effect.suspend(() => {
        for (const next of line) {
          line.delete(next)
          return Effect.asVoid(Deferred.succeed(next, void 0))
        }
        taken--
        return Effect.void
      })
      return {
        with: (effect) =>
          Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(
              Effect.suspend(() => {
                if (taken === 0) {
                  taken++
                  return Effect.void
                }
                return Effect.flatMap(Deferred.make<void>(), (waiter) => {
                  line.add(waiter)
                  return Effect.onInterrupt(
                    restore(Deferred.await(waiter)),
                    () => Effect.sync(() => line.delete(waiter))
                  )
                })
              }),
              () => Effect.ensuring(restore(effect), release)
            )
          ),
        whole: Effect.sync(() => taken === 0 && line.size === 0)
      } satisfies Subject
    })
  )
})

const limiter = (
  options: AdaptiveConcurrency.Options,
  guard: (limiter: AdaptiveConcurrency.Service) => Subject["with"]
) =>
  Effect.map(
    Effect.scoped(
      AdaptiveConcurrency.make({ name: "a", maxWait: "1 minute", algorithm: Limit.fixed(1), ...options })
    ),
    (one): Subject => ({
      with: guard(one),
      whole: Effect.map(
        one.metrics,
        ({ active, admitted, failed, ignored, running, succeeded, waiting }) =>
          active === 0 && waiting === 0 && running === 0 && admitted === succeeded + failed + ignored
      )
    })
  )

describe("adaptive concurrency", () => {
  whole("gives every permit back", limiter({}, (one) => one.withPermit))
  whole(
    "gives the permit of a key back",
    limiter({ fair: true }, (one) => (effect) => effect.pipe(one.withPermitBy({ key: "k" })))
  )
  whole(
    "gives the permit of a key back that has a weight",
    limiter(
      { fair: { weight: () => 0.5 }, order: "lifo" },
      (one) => (effect) => effect.pipe(one.withPermitBy({ key: "k" }))
    )
  )
  whole(
    "gives the permit back that a call with its own classification held",
    limiter({}, (one) => (effect) => effect.pipe(one.withPermitBy({ classify: () => "failure" })))
  )
  whole(
    "gives the permit of a scope back",
    limiter({}, (one) => (effect) => Effect.scoped(Effect.zipRight(one.acquire, effect)))
  )
  whole(
    "gives the permit of a scope and of a key back",
    limiter(
      { fair: true },
      (one) => (effect) => Effect.scoped(Effect.zipRight(one.acquireBy({ key: "k" }), effect))
    )
  )
  whole(
    "gives the permit back that is settled by hand",
    limiter(
      {},
      (one) => (effect) =>
        Effect.scoped(Effect.flatMap(one.acquire, ({ settle }) => Effect.ensuring(effect, settle("success"))))
    )
  )
  whole(
    "gives the permit back of a call that ends by itself while the limit is learned",
    limiter({ algorithm: Limit.aimd({ initialLimit: 1, minLimit: 1, maxLimit: 2 }) }, (one) => one.withPermit),
    { body: Effect.yieldNow() }
  )

  caught(
    "a permit whose scope is told of it one step too late",
    Effect.sync(() => {
      let active = 0
      return {
        with: (effect) =>
          Effect.scoped(Effect.zipRight(
            Effect.flatMap(
              Effect.sync(() => active++),
              () => Effect.addFinalizer(() => Effect.sync(() => active--))
            ),
            effect
          )),
        whole: Effect.sync(() => active === 0)
      } satisfies Subject
    })
  )
})

/** A half-open breaker: whatever the interruption hits, all probe slots must be there afterwards. */
const probing = (guard: (b: CircuitBreaker.Service) => Subject["with"], options: CircuitBreaker.Options = {}) =>
  Effect.map(
    Effect.scoped(CircuitBreaker.make({
      name: "b",
      halfOpenMaxCalls: 1,
      successThreshold: 1,
      initial: { state: "HalfOpen" },
      ...options
    })),
    (b): Subject => ({
      with: guard(b),
      whole: Effect.map(
        Effect.zip(b.metrics, b.wouldAdmit),
        ([{ admitted, failed, ignored, running, succeeded }, free]) =>
          running === 0 && free && admitted === succeeded + failed + ignored
      )
    })
  )

describe("circuit breaker", () => {
  whole("gives every probe back", probing((b) => b.withBreaker))
  whole(
    "gives the probe of a scope back",
    probing((b) => (effect) => Effect.scoped(Effect.zipRight(b.acquire, effect)))
  )
  whole(
    "gives a typed probe back",
    probing((b) => (effect) => effect.pipe(b.withBreakerBy({ classify: () => "success" })))
  )
  whole(
    "loses no call where slow ones count",
    probing((b) => b.withBreaker, { initial: { state: "Closed" }, slowCallDuration: "1 minute" })
  )
  whole(
    "takes the first probe of an open circuit and gives it back",
    probing((b) => b.withBreaker, { initial: { state: "Open", left: Duration.zero } })
  )

  caught(
    "a probe that is taken one step before the mask",
    Effect.sync(() => {
      let out = 0
      return {
        with: (effect) =>
          Effect.flatMap(
            Effect.sync(() => out++),
            () => Effect.uninterruptibleMask((restore) => Effect.ensuring(restore(effect), Effect.sync(() => out--)))
          ),
        whole: Effect.sync(() => out === 0)
      } satisfies Subject
    })
  )
})

describe("retry budget", () => {
  /** Interrupted at every operation of a retry that waits: a token is spent or back, never lost. */
  whole(
    "a token whose retry did not start is given back",
    Effect.gen(function*() {
      const budget = yield* Effect.scoped(RetryBudget.make({ name: "b", maxTokens: 5, tokensPerSuccess: 0 }))
      const attempts = yield* Ref.make(0)
      const retry = yield* Effect.scoped(Retry.make({
        name: "b",
        budget,
        maxAttempts: Infinity,
        schedule: Schedule.spaced("1 minute")
      }))
      return {
        with: () => retry.withRetry(Effect.zipRight(Ref.update(attempts, (n) => n + 1), Effect.fail("no"))),
        whole: Effect.gen(function*() {
          const { tokens } = yield* budget.metrics
          const { running } = yield* retry.metrics
          // No minute passes here: no retry starts, so every token must be there.
          return tokens === 5 && running === 0 && (yield* Ref.get(attempts)) <= 1
        })
      } as unknown as Subject
    }),
    { contended: [false] }
  )

  caught(
    "a token that is taken before the mask of the sleep",
    Effect.sync(() => {
      let tokens = 5
      return {
        with: () =>
          Effect.flatMap(
            Effect.sync(() => tokens--),
            () => Effect.onInterrupt(Effect.sleep("1 minute"), () => Effect.sync(() => tokens++))
          ),
        whole: Effect.sync(() => tokens === 5)
      } as unknown as Subject
    }),
    [false]
  )
})

/** No share comes back by itself here: what is not there was used by a call that went, or is lost. */
const limiting = (options: RateLimiter.Options, guard: (limiter: RateLimiter.Service) => Subject["with"]) =>
  Effect.gen(function*() {
    const limiter = yield* Effect.scoped(RateLimiter.make({ name: "l", ...options }))
    return {
      with: guard(limiter),
      whole: Effect.gen(function*() {
        const { allowed, waiting } = yield* limiter.metrics
        const { limit, remaining } = yield* limiter.peek()
        return waiting === 0 && limit - remaining === allowed
      }).pipe(Effect.orDie)
    } satisfies Subject
  })

describe("rate limiter", () => {
  whole("a share is used by a call or there", limiting({ rate: "5/1000 days" }, (limiter) => limiter.withLimit))
  for (const algorithm of ["gcra", "sliding-log", "fixed-window", "sliding-window"] as const) {
    whole(
      `a waiter gives its share back (${algorithm})`,
      Effect.gen(function*() {
        const subject = yield* limiting(
          { rate: "1/1000 days", algorithm, mode: "wait", maxWait: Infinity },
          (limiter) => limiter.withLimit
        )
        // The share of this instant is used, so that every victim waits.
        yield* subject.with(Effect.void).pipe(Effect.orDie)
        return subject
      }),
      { contended: [false], budgets: [12, 16] }
    )
  }

  whole(
    "one who asks a store, or waits by it, is counted until it goes, and nothing goes without a share",
    Effect.gen(function*() {
      const limiter = yield* Effect.scoped(Effect.flatMap(
        RateLimiterStore.makeMemory(),
        (store) => RateLimiter.make({ name: "l", rate: "1/1000 days", mode: "wait", maxWait: Infinity, store })
      ))
      let ran = 0
      yield* limiter.withLimit(Effect.sync(() => ran++)).pipe(Effect.orDie)
      return {
        with: (effect) => limiter.withLimit(Effect.zipRight(Effect.sync(() => ran++), effect)),
        whole: Effect.map(limiter.metrics, ({ waiting }) => waiting === 0 && ran === 1)
      } satisfies Subject
    }),
    { contended: [false], budgets: [12, 16] }
  )

  caught(
    "a share whose waiter was charged before the mask",
    Effect.sync(() => {
      let promised = 0
      return {
        with: (effect) =>
          Effect.flatMap(
            Effect.sync(() => promised++),
            () =>
              Effect.onInterrupt(Effect.zipRight(Effect.sleep("1 minute"), effect), () => Effect.sync(() => promised--))
          ),
        whole: Effect.sync(() => promised === 0)
      } satisfies Subject
    }),
    [false]
  )
})

describe("timeout", () => {
  whole(
    "nothing relies on a nearer deadline any more, or a timer would be armed when that one ends",
    Effect.sync(() => {
      const nearer = new Region({ at: 1n, origin: "own" }, undefined)
      const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length
      const before = timers()
      return {
        with: (effect) => effect.pipe(Timeout.within("1 minute"), Effect.provideService(DeadlineTag, nearer)),
        whole: Effect.sync(() => {
          nearer.end()
          return timers() <= before
        })
      } satisfies Subject
    }),
    { contended: [false] }
  )
  const nothingLeft = (disconnect: boolean) =>
    Effect.gen(function*() {
      const timeout = yield* Effect.scoped(Timeout.make({ name: "t", duration: "1 minute", disconnect }))
      let running = 0
      const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length
      const before = timers()
      return {
        with: ((effect) =>
          timeout.withTimeout(Effect.acquireUseRelease(
            Effect.sync(() => running++),
            () => effect,
            () => Effect.sync(() => running--)
          ))) as Subject["with"],
        // What is left behind is interrupted in its turn.
        whole: Effect.zipRight(
          Effect.repeatN(Effect.yieldNow(), disconnect ? 20 : 0),
          Effect.map(timeout.metrics, (metrics) => running === 0 && metrics.running === 0 && timers() <= before)
        )
      }
    })
  whole("nothing runs on, and no timer is left", nothingLeft(false), { contended: [false] })
  whole("nothing runs on that is left to itself, and no timer", nothingLeft(true), { contended: [false] })
})
