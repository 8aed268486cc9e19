import { RateLimiterStore } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Equal, FastCheck as fc, Runtime } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import type { ManualClock } from "../../core/test/utils/clock.js"
import { makeManualClock } from "../../core/test/utils/clock.js"
import { atFixedTime } from "./utils/fixedClock.js"
import { scale } from "./utils/scale.js"

const url = inject("redisUrl")

const algorithms = ["gcra", "token-bucket", "sliding-window", "sliding-log", "fixed-window"] as const
type Algorithm = typeof algorithms[number]

const isBursty = (algorithm: Algorithm) => algorithm === "gcra" || algorithm === "token-bucket"

/** In microseconds: whole and prime windows, above a million a second, and over months. */
const rateOf = (algorithm: Algorithm, windows: ReadonlyArray<number>): fc.Arbitrary<RateLimiterStore.Rate> =>
  fc.record({
    limit: fc.oneof(fc.integer({ min: 1, max: 7 }), fc.constantFrom(10, 1000)),
    window: fc.constantFrom(...windows),
    burst: fc.integer({ min: 1, max: 9 })
  }).map(({ burst, limit, window }) => ({
    limit,
    window: Duration.nanos(BigInt(window) * 1000n),
    burst: isBursty(algorithm) ? burst : limit
  }))

const anyWindow = (algorithm: Algorithm) => [
  // A reservation is for a whole microsecond, so windows of the clock have to be longer.
  ...(isBursty(algorithm) ? [1, 7, 997] : []),
  1009,
  7000,
  1_000_000,
  60_000_000,
  90 * 86_400_000_000
]
/** Of which each limit makes a whole number of microseconds per call. */
const wholeWindows = [84_000, 1_000_000 * 84, 60_000_000 * 84]
const longWindows = [1_000_000_000 * 84, 60_000_000_000 * 84]

type Change =
  | {
    readonly _tag: "decide"
    readonly mode: RateLimiterStore.Request["mode"]
    readonly cost: number
    readonly wait: number
  }
  | { readonly _tag: "refund" | "cancel" | "drain" | "reset" }
  | { readonly _tag: "adjust"; readonly by: number }

interface Step {
  readonly change: Change
  /** How far time goes on before, in thousandths of the window, and in microseconds. */
  readonly share: number
  readonly micros: number
  readonly plan: number
}

const decides: fc.Arbitrary<Change> = fc.record({
  _tag: fc.constant("decide" as const),
  mode: fc.constantFrom("all", "all", "all", "atMost", "peek", "reserve"),
  cost: fc.integer({ min: 1, max: 4 }),
  wait: fc.constantFrom(0, 500, 1500, 10_000)
})

const stepOf = (...changes: ReadonlyArray<fc.Arbitrary<Change>>): fc.Arbitrary<Step> =>
  fc.record({
    change: fc.oneof({ arbitrary: decides, weight: 8 }, ...changes),
    share: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 400 }), fc.constantFrom(1000, 2000)),
    micros: fc.integer({ min: 1, max: 3 }),
    plan: fc.nat(2)
  })

/** Rates that count each for itself: of the same calls there is one count. */
const distinct = (algorithm: Algorithm) => (rates: ReadonlyArray<RateLimiterStore.Rate>) =>
  rates.filter((rate, i) =>
    i ===
      rates.findIndex(({ limit, window }) =>
        Equal.equals(window, rate.window) && (!isBursty(algorithm) || limit === rate.limit)
      )
  )

const refunds = fc.constantFrom<Change>({ _tag: "refund" }, { _tag: "cancel" }, { _tag: "reset" })
const withoutReservations = (step: Step): Step =>
  step.change._tag === "decide" && step.change.mode === "reserve"
    ? { ...step, change: { ...step.change, mode: "all" } }
    : step

const others = fc.oneof(
  fc.constant<Change>({ _tag: "drain" }),
  fc.integer({ min: -9, max: 9 }).map((by): Change => ({ _tag: "adjust", by }))
)

const micros = (duration: Duration.Duration): number => {
  const nanos = Duration.toNanos(duration)
  // The model's clock has nanoseconds: what is later than a microsecond is by the next one.
  return nanos._tag === "Some" ? Number((nanos.value + 999n) / 1000n) : Infinity
}

/** That a time is right to so many microseconds. */
const near = (time: number, micros: number): unknown =>
  micros === 0 ? time : expect.toSatisfy((other: number) => Math.abs(other - time) <= micros, `${time}`)

const show = ({ granted, limit, remaining, resetAfter, wait, window }: RateLimiterStore.Decision, within = 0) => ({
  granted,
  limit,
  remaining,
  resetAfter: near(micros(resetAfter), within),
  wait: near(micros(wait), within),
  window: micros(window)
})

const startMicros = 1_790_000_000_123_456

describe.skipIf(url === undefined)("the scripts decide as the algorithms of core", () => {
  const run = randomUUID()
  let used = 0

  /** Runs the same on both, and compares each answer. */
  const compare = (
    clock: ManualClock,
    algorithm: Algorithm,
    plans: ReadonlyArray<ReadonlyArray<RateLimiterStore.Rate>>,
    steps: ReadonlyArray<Step>,
    within: number
  ) =>
    Effect.gen(function*() {
      const redis = yield* RedisConnection
      let now = startMicros
      clock.adjust(Duration.nanos(BigInt(now) * 1000n))
      const own = atFixedTime(redis, () => now)
      const store = yield* Effect.provideService(RedisRateLimiterStore.make({ deniedFor: 0 }), RedisConnection, own)
      const model = yield* RateLimiterStore.makeMemory()
      const key = String(used++)
      const taken: Array<
        {
          readonly request: RateLimiterStore.Request
          readonly ours: RateLimiterStore.Decision
          readonly theirs: RateLimiterStore.Decision
        }
      > = []
      const reserved: typeof taken = []
      /** The time of the last reservation: while it is to come, what a key has left depends on the store. */
      let pending = 0
      let drained = false
      const pace = micros(plans[0]?.[0]?.window ?? Duration.zero)
      for (const { change, micros: more, plan, share } of steps) {
        const step = Math.floor(pace * share / 1000) + more
        now += step
        if (now === pending) now++
        clock.adjust(Duration.nanos(BigInt(now) * 1000n - clock.clock.unsafeCurrentTimeNanos()))
        const rates = plans[plan % plans.length] ?? []
        const target = { instance: run, key, algorithm, rates }
        const cap = Math.min(...rates.map(({ burst }) => burst))
        if (change._tag === "decide") {
          const request = {
            ...target,
            cost: Math.min(cap, change.cost),
            mode: change.mode,
            maxWait: Duration.nanos(BigInt(Math.floor(pace * change.wait / 1000)) * 1000n)
          }
          // What is denied leaves nothing behind: the model remembers under which rates it was asked.
          const asked = yield* model.decide({
            ...request,
            mode: "peek",
            cost: change.mode === "atMost" ? 1 : request.cost
          })
          const theirs = asked.granted === 0 && change.mode !== "reserve" ? asked : yield* model.decide(request)
          const ours = yield* store.decide(request)
          const of = { request, ours, theirs }
          if (change.mode === "reserve" && theirs.granted > 0) {
            expect({ granted: ours.granted, wait: micros(ours.wait) }).toEqual({
              granted: theirs.granted,
              wait: micros(theirs.wait)
            })
            if (micros(theirs.wait) > 0) {
              reserved.push(of)
              pending = now + micros(theirs.wait)
            }
            continue
          }
          if (pending >= now) {
            expect({ granted: ours.granted, wait: micros(ours.wait) }).toEqual({
              granted: theirs.granted,
              wait: near(micros(theirs.wait), within)
            })
          } else expect(show(ours)).toEqual(show(theirs, within))
          if (theirs.granted > 0 && (change.mode === "all" || change.mode === "atMost")) taken.push(of)
          continue
        }
        if (change._tag === "cancel") {
          const last = reserved.pop()
          if (last === undefined) continue
          expect(yield* store.refund(last.request, last.ours)).toBe(yield* model.refund(last.request, last.theirs))
          expect(yield* store.refund(last.request, last.ours)).toBe(false)
          pending = reserved.length === 0 ? 0 : pending
          continue
        }
        // Behind the back of reservations: told in a test of its own.
        if (pending >= now) continue
        switch (change._tag) {
          case "refund": {
            const last = taken.pop()
            if (last === undefined) break
            expect(yield* store.refund(last.request, last.ours)).toBe(yield* model.refund(last.request, last.theirs))
            break
          }
          case "adjust":
            yield* store.adjust(target, change.by)
            yield* model.adjust(target, change.by)
            break
          case "drain":
            // The model forgets that it was drained as soon as a key is as good as new.
            if (drained) break
            drained = true
            yield* store.drain(target)
            yield* model.drain(target)
            break
          case "reset":
            taken.length = 0
            yield* store.reset(target)
            yield* model.reset(target)
        }
      }
    }).pipe(Effect.withClock(clock.clock), Effect.scoped)

  const property = (
    algorithm: Algorithm,
    plans: fc.Arbitrary<ReadonlyArray<ReadonlyArray<RateLimiterStore.Rate>>>,
    step: fc.Arbitrary<Step>,
    within = 0
  ) =>
    Effect.gen(function*() {
      const redis = yield* RedisConnection.make({
        server: { _tag: "Standalone", url: String(url) },
        prefix: `${run}:`,
        commandTimeout: "10 seconds",
        socketTimeout: "10 seconds"
      })
      const runtime = yield* Effect.runtime<never>()
      yield* Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(plans, fc.array(step, { minLength: 1, maxLength: 30 }), (plans, steps) =>
            Runtime.runPromise(runtime)(
              Effect.provideService(compare(makeManualClock(), algorithm, plans, steps, within), RedisConnection, redis)
            )),
          { numRuns: scale(30, 1500) }
        )
      )
    })

  describe.each(algorithms)("%s", (algorithm) => {
    it.scopedLive("with one rate, of any window", () =>
      property(
        algorithm,
        rateOf(algorithm, anyWindow(algorithm)).map((rate) => [[rate]]),
        // Of the time of a reservation the model keeps whole nanoseconds.
        stepOf(refunds, others).map((step) => isBursty(algorithm) ? withoutReservations(step) : step)
      ), 200_000)

    it.scopedLive("with several rates, and reservations", () =>
      property(
        algorithm,
        fc.array(rateOf(algorithm, wholeWindows), { minLength: 1, maxLength: 3 })
          .map(distinct(algorithm)).map((rates) => [rates]),
        stepOf(refunds, others)
      ), 200_000)

    it.scopedLive("with rates that change from call to call", () =>
      property(
        algorithm,
        fc.array(
          fc.array(rateOf(algorithm, isBursty(algorithm) ? longWindows : wholeWindows), {
            minLength: 1,
            maxLength: 2
          }).map(distinct(algorithm)),
          { minLength: 2, maxLength: 3 }
        ),
        // A call under another rate may pass those that wait, by spacing and by the log: no bound needs their order.
        stepOf(refunds).map((step) =>
          isBursty(algorithm) || algorithm === "sliding-log" ? withoutReservations(step) : step
        ),
        // What is owed under one rate is rounded to parts of the other, of nanoseconds there, of microseconds here.
        isBursty(algorithm) ? 50 : 0
      ), 200_000)
  })
})
