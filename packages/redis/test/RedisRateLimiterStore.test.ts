import type { RateLimiterStore } from "@effect-resilience/core"
import { RateLimiter, RateLimiterStoreError } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore, RedisUnavailableError } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Clock, Duration, Effect, FastCheck as fc, Fiber, Layer, Logger } from "effect"
import { randomUUID } from "node:crypto"
import { vi } from "vitest"
import { ask } from "./utils/ask.js"
import { atFixedTime } from "./utils/fixedClock.js"
import { algorithms, connect, fixedStore, requestOf, run, storeOf, url } from "./utils/rateStore.js"
import { scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"
import { patient } from "./utils/storeLaws.js"
import { until } from "./utils/until.js"

const micros = (duration: Duration.Duration) => Math.round(Duration.toMillis(duration) * 1000)

/** Asks until it is denied. */
const exhaust = (store: RateLimiterStore.Service, request: RateLimiterStore.Request) =>
  Effect.gen(function*() {
    let granted = 0
    for (;;) {
      const decision = yield* store.decide(request)
      if (decision.granted === 0) return { granted, denied: decision }
      granted += decision.granted
    }
  })

describe.skipIf(url === undefined)("RedisRateLimiterStore", () => {
  it.scopedLive("is one limit for all processes, by the layer of the limiter alone", () =>
    Effect.gen(function*() {
      class Api extends RateLimiter.Tag<Api>()(`api-${run}`, { rate: "7/hour" }) {}
      const process = Api.layerStore().pipe(
        Layer.provide(RedisRateLimiterStore.Live),
        Layer.provide(RedisConnection.layer({ server: String(url), prefix: `${run}:`, ...patient }))
      )
      const count = Effect.provide(
        Effect.map(Effect.all(Array.from({ length: 5 }, () => Api.consume())), (all) =>
          all.filter(({ allowed }) => allowed).length),
        process
      )
      const counts = yield* Effect.all([count, count, count], { concurrency: "unbounded" })
      expect(counts.reduce((sum, one) =>
        sum + one, 0)).toBe(7)
    }))

  it.scopedLive("RL27: lets in at retryAfter exactly, and not a microsecond sooner", () =>
    Effect.gen(function*() {
      const { store, time } = yield* fixedStore
      const rates = [
        { limit: 3, window: "1 second" },
        { limit: 1, window: "7 millis" },
        { limit: 7, window: "1 minute" },
        { limit: 1_000_000, window: "1 second", burst: 3 },
        { limit: 3_000_000, window: "1 second", burst: 2 }
      ] as const
      for (const algorithm of algorithms) {
        for (const rate of rates) {
          if (rate.limit > 10 && algorithm !== "gcra") continue
          const request = requestOf(algorithm, rate)
          yield* exhaust(store, request)
          for (let i = 0; i < 5; i++) {
            const { denied } = yield* exhaust(store, request)
            expect(micros(denied.wait)).toBeGreaterThan(0)
            time.micros += micros(denied.wait) - 1
            expect((yield* store.decide(request)).granted).toBe(0)
            time.micros += 1
            expect((yield* store.decide(request)).granted).toBe(1)
          }
        }
      }
    }))

  it.scopedLive("RL22: keeps to rates whose calls are no whole number of microseconds apart", () =>
    Effect.gen(function*() {
      const { store, time } = yield* fixedStore
      for (
        const { count, rate } of [
          { rate: { limit: 3, window: "1 second", burst: 1 }, count: 300 },
          { rate: { limit: 7, window: "1 second", burst: 1 }, count: 700 },
          { rate: { limit: 3_000_000, window: "1 second", burst: 1 }, count: 300 }
        ] as const
      ) {
        const request = requestOf("gcra", rate)
        const began = time.micros
        // As soon as it may, each time.
        for (let i = 0; i < count; i++) {
          const { denied } = yield* exhaust(store, request)
          time.micros += micros(denied.wait)
        }
        expect((time.micros - began) / 1e6 * rate.limit).toBeGreaterThanOrEqual(count - 1)
        // Later by less than a microsecond for each, and no error adds up.
        const { granted } = yield* exhaust(store, request)
        expect(granted).toBeGreaterThanOrEqual(1)
      }
    }))

  it.scopedLive("refuses a log that is too long, and rates that no number can hold", () =>
    Effect.gen(function*() {
      const { store } = yield* fixedStore
      const fail = (request: RateLimiterStore.Request) =>
        Effect.map(Effect.flip(store.decide(request)), ({ message }) => message)
      expect(yield* fail(requestOf("sliding-log", { limit: 10_001, window: "1 day" }))).toBe(
        `the rate 10001/1d is too large for "sliding-log", which remembers each call: at most 10000 ("gcra" has no bound)`
      )
      expect(yield* fail(requestOf("gcra", { limit: 1, window: "1 day", burst: 20_000 }))).toBe(
        "the rate 1/1d (burst 20000) takes longer than 35 years to be whole again: a store cannot keep it"
      )
      expect(
        yield* Effect.flip(
          RateLimiter.make({ name: "long", rate: "10001/day", algorithm: "sliding-log", store }).pipe(
            Effect.catchAllDefect(Effect.fail)
          )
        )
      ).toMatchObject({ message: expect.stringContaining("at most 10000") })
    }))

  it.scopedLive("RL28: gives back what an interrupted waiter reserved: nothing is lost when all of them leave", () =>
    Effect.gen(function*() {
      for (const algorithm of algorithms) {
        const { store, time } = yield* fixedStore
        const limiter = yield* RateLimiter.make({
          name: `leave-${algorithm}-${run}`,
          rate: "5/hour",
          algorithm,
          mode: "wait",
          maxWait: "10 hours",
          store
        })
        yield* Effect.repeatN(limiter.withLimit(Effect.void), 4)
        const before = yield* limiter.peek()
        for (const order of ["first", "last"] as const) {
          const waiters = []
          for (let i = 1; i <= 12; i++) {
            waiters.push(yield* Effect.fork(limiter.withLimit(Effect.void)))
            yield* Effect.promise(() => until("it waits", () => Effect.runSync(limiter.metrics).waiting === i))
          }
          for (const waiter of order === "first" ? waiters : waiters.reverse()) yield* Fiber.interrupt(waiter)
          expect((yield* limiter.metrics).waiting).toBe(0)
          expect(yield* limiter.peek()).toEqual(before)
        }
        time.micros += 5 * 3_600_000_000
        expect((yield* limiter.peek()).remaining).toBe(5)
      }
    }))

  it.scopedLive(
    "does not let in more than the rate when reservations are given back in any order",
    () =>
      Effect.gen(function*() {
        const redis = yield* connect
        const step = fc.record({
          what: fc.constantFrom("reserve", "reserve", "cancel", "take"),
          which: fc.nat(20),
          cost: fc.integer({ min: 1, max: 3 }),
          gap: fc.constantFrom(0, 1, 5, 10, 30)
        })
        // The second of two that wait keeps its time when the first leaves: what was given back is not there at that time.
        const at = (gap: number, what: "reserve" | "cancel" | "take") => ({ what, which: 0, cost: 3, gap })
        const passing = [at(0, "take"), at(0, "reserve"), at(0, "reserve"), at(0, "cancel"), at(60, "take")]
        const property = fc.asyncProperty(
          fc.integer({ min: 3, max: 6 }),
          fc.array(step, { minLength: 5, maxLength: 30 }),
          (burst, steps) =>
            Effect.gen(function*() {
              let now = 1_800_000_000_000_000
              const store = yield* storeOf(atFixedTime(redis, () => now))
              // One call in ten microseconds.
              const request = requestOf("gcra", { limit: 1, window: "10 micros", burst })
              const admitted: Array<{ readonly at: number; readonly cost: number }> = []
              const reserved: Array<
                {
                  readonly at: number
                  readonly request: RateLimiterStore.Request
                  readonly decision: RateLimiterStore.Decision
                }
              > = []
              for (const { cost, gap, what, which } of steps) {
                now += gap
                if (what === "cancel") {
                  const [place] = reserved.splice(which % Math.max(1, reserved.length), 1)
                  if (place === undefined) continue
                  const back = yield* store.refund(place.request, place.decision)
                  expect(back).toBe(place.at > now || place.at === now)
                  if (!back) admitted.push({ at: place.at, cost: place.decision.granted })
                  continue
                }
                const own = {
                  ...request,
                  cost,
                  ...(what === "reserve" ? { mode: "reserve" as const, maxWait: Duration.hours(1) } : {})
                }
                const decision = yield* store.decide(own)
                if (decision.granted === 0) continue
                const wait = micros(decision.wait)
                if (wait > 0) reserved.push({ at: now + wait, request: own, decision })
                else admitted.push({ at: now, cost })
              }
              for (const { at, decision } of reserved) admitted.push({ at, cost: decision.granted })
              admitted.sort((a, b) => a.at - b.at)
              for (let i = 0; i < admitted.length; i++) {
                let sum = 0
                for (let j = i; j < admitted.length; j++) {
                  sum += admitted[j]?.cost ?? 0
                  const span = (admitted[j]?.at ?? 0) - (admitted[i]?.at ?? 0)
                  expect(sum).toBeLessThanOrEqual(burst + span / 10)
                }
              }
            }).pipe(Effect.scoped, Effect.runPromise)
        )
        yield* Effect.promise(() => fc.assert(property, { numRuns: scale(50, 2000), examples: [[3, passing]] }))
      }),
    120_000
  )

  it.scopedLive("RL25: does not ask what time it is here", () =>
    Effect.gen(function*() {
      const shifted = (hours: number): Clock.Clock => {
        const clock = Clock.make()
        const more = hours * 3_600_000
        return {
          ...clock,
          unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + more,
          unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos() + BigInt(more) * 1_000_000n
        }
      }
      const redis = yield* connect
      for (const algorithm of algorithms) {
        const request = requestOf(algorithm, { limit: 6, window: "1 hour" })
        let granted = 0
        const waits: Array<number> = []
        vi.useFakeTimers({ toFake: ["Date"] })
        try {
          for (let i = 0; i < 12; i++) {
            const hours = i % 2 === 0 ? 1 : -1
            vi.setSystemTime(1_800_000_000_000 + hours * 3_600_000)
            const store = yield* storeOf(redis)
            const decision = yield* Effect.withClock(store.decide(request), shifted(hours))
            granted += decision.granted
            if (decision.granted === 0) waits.push(Duration.toMillis(decision.wait))
          }
        } finally {
          vi.useRealTimers()
        }
        expect(granted).toBe(6)
        expect(Math.max(...waits) - Math.min(...waits)).toBeLessThan(2000)
        expect(Math.min(...waits)).toBeGreaterThan(0)
        expect(Math.max(...waits)).toBeLessThanOrEqual(2 * 3_600_000)
      }
    }))

  it.scopedLive("RL26: denies for no longer than it takes to be whole again when the server's clock goes back", () =>
    Effect.gen(function*() {
      const { store, time } = yield* fixedStore
      for (const algorithm of algorithms) {
        for (const states of ["used up", "fined", "reserved", "with another rate"] as const) {
          const request = requestOf(algorithm, { limit: 5, window: "1 second" })
          yield* exhaust(store, request)
          if (states === "fined") yield* store.adjust(request, 100)
          if (states === "reserved") {
            expect((yield* store.decide({ ...request, mode: "reserve", maxWait: Duration.seconds(5) })).granted).toBe(1)
          }
          if (states === "with another rate") {
            const other = { ...request, rates: [{ limit: 9, window: Duration.seconds(1), burst: 9 }] }
            yield* exhaust(store, other)
          }
          time.micros -= 10_000_000
          const { denied, granted } = yield* exhaust(store, request)
          expect(granted).toBeLessThanOrEqual(5)
          // Two windows of the clock, or the burst.
          expect(micros(denied.wait)).toBeLessThanOrEqual(2_000_000)
          expect(micros(denied.resetAfter)).toBeLessThanOrEqual(2_000_000)
          time.micros += micros(denied.wait)
          expect((yield* store.decide(request)).granted).toBe(1)
          time.micros += 2_000_000
          expect((yield* exhaust(store, request)).granted).toBe(5)
          // Forward: what is new is no more than the burst.
          time.micros += 10_000_000
          expect((yield* exhaust(store, request)).granted).toBe(5)
        }
      }
    }))
})

describe.skipIf(!canStart)("RedisRateLimiterStore, by a server of its own", () => {
  it.scopedLive("RL23: leaves no key behind, and none without a time to live", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const total = scale(1500, 20_000)
      const prefix = `${run}:`
      const rates = [{ limit: 3, window: Duration.millis(150), burst: 3 }, {
        limit: 5,
        window: Duration.millis(300),
        burst: 5
      }]
      const unlimited: Array<string> = []
      const look = async () => {
        const keys = await ask(server.port, "keys", `${prefix}*`) as ReadonlyArray<string>
        const script = "local t = {} for i, k in ipairs(KEYS) do t[i] = redis.call('PTTL', k) end return t"
        for (let at = 0; at < keys.length; at += 1000) {
          const part = keys.slice(at, at + 1000)
          const ttls = await ask(server.port, "eval", script, part.length, ...part) as ReadonlyArray<number>
          unlimited.push(...part.filter((_, i) => ttls[i] === -1))
        }
        return keys.length
      }
      yield* Effect.scoped(Effect.gen(function*() {
        const store = yield* storeOf(yield* RedisConnection.make({ server: server.url, prefix, ...patient }))
        let most = 0
        yield* Effect.forEach(
          Array.from({ length: total }),
          (_, i) =>
            Effect.gen(function*() {
              const target = {
                instance: "keys",
                key: randomUUID(),
                algorithm: algorithms[i % algorithms.length] ?? "gcra",
                rates: i % 3 === 0 ? rates : rates.slice(0, 1)
              }
              const request = { ...target, cost: 1 + i % 2, maxWait: Duration.seconds(1), mode: "reserve" as const }
              yield* store.decide({ ...request, mode: "all" })
              const reserved = yield* store.decide({ ...request, cost: 3 })
              if (i % 2 === 0) yield* store.refund(request, reserved)
              if (i % 5 === 0) yield* store.adjust(target, i % 7 - 3)
              if (i % 11 === 0) yield* store.drain(target)
              if (i % 300 === 0) most = Math.max(most, yield* Effect.promise(look))
            }),
          { concurrency: 64, discard: true }
        )
        expect(most).toBeGreaterThan(0)
        yield* Effect.promise(() => until("its keys are gone", async () => await look() <= 1, 15_000))
      }))
      expect(unlimited).toEqual([])
      yield* Effect.promise(() =>
        until("nothing is left, the sign of life of this process neither", async () =>
          await ask(server.port, "dbsize") === 0, 15_000)
      )
    }), 60_000)

  it.scopedLive("RL29: fails with what the server says when it has no memory or is a replica, through the limiter", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* RedisConnection.make({ server: server.url, ...patient })
      const store = yield* storeOf(redis)
      const limiter = yield* RateLimiter.make({ name: "refused", rate: "5/minute", store })
      expect((yield* limiter.consume()).allowed).toBe(true)
      const reason = Effect.map(Effect.flip(limiter.consume()), (error) => {
        expect(error).toBeInstanceOf(RateLimiterStoreError)
        expect(error.cause).toBeInstanceOf(RedisUnavailableError)
        return (error.cause as RedisUnavailableError).reason
      })
      yield* Effect.promise(() => ask(server.port, "config", "set", "maxmemory", "1"))
      expect(yield* reason).toBe("OutOfMemory")
      yield* Effect.promise(() => ask(server.port, "config", "set", "maxmemory", "0"))
      expect((yield* limiter.consume()).allowed).toBe(true)
      yield* Effect.promise(() => ask(server.port, "replicaof", "127.0.0.1", 1))
      expect(yield* reason).toBe("ReadOnly")
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, Logger.none))))
})
