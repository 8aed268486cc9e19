import type { RateLimiterStore } from "@effect-resilience/core"
import type { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import calculateSlot from "cluster-key-slot"
import { Duration, Effect, FastCheck as fc } from "effect"
import { randomUUID } from "node:crypto"
import { base, batch, decisionOf, decode, encode, keysOf, repliesOf } from "../src/internal/rate/codec.js"
import { Plans } from "../src/internal/rate/plan.js"
import { decideScript } from "../src/internal/rate/scripts.js"
import { atFixedTime } from "./utils/fixedClock.js"
import { algorithms, connect, fixedStore, requestOf, url } from "./utils/rateStore.js"
import { scale } from "./utils/scale.js"

/** What a decision says, but for the time until all is as before. */
const facts = ({ granted, limit, remaining, wait, window }: RateLimiterStore.Decision) => ({
  granted,
  limit,
  remaining,
  wait,
  window
})

describe.skipIf(url === undefined)("what is said to the script and back", () => {
  it.scopedLive("decides for many entries in one call as for one after another", () =>
    Effect.gen(function*() {
      const redis = yield* connect
      const plans = new Plans()
      const one = fc.record({
        algorithm: fc.constantFrom(...algorithms),
        key: fc.nat(3),
        rates: fc.constantFrom(
          [{ limit: 5, window: Duration.minutes(1), burst: 5 }],
          [{ limit: 7, window: Duration.seconds(7), burst: 7 }, { limit: 9, window: Duration.hours(1), burst: 9 }]
        ),
        mode: fc.constantFrom("all", "atMost", "peek", "reserve"),
        cost: fc.integer({ min: 1, max: 3 }),
        callers: fc.integer({ min: 1, max: 4 })
      })
      const property = fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 20 }), async (all) => {
        const fixed = atFixedTime(redis, () => 1_800_000_000_000_000)
        const decide = async (instance: string, together: boolean) => {
          const entries = all.map(({ callers, key, ...own }) => {
            const request = {
              ...own,
              instance,
              key: `k${key}`,
              maxWait: Duration.minutes(1)
            } as RateLimiterStore.Request
            const plan = plans.of(request)
            return encode(keysOf("many:", plan, request), plan, request, together || callers > 1 ? callers : undefined)
          })
          const calls = together ? [entries] : entries.map((entry) => [entry])
          const replies: Array<RedisConnection.Reply> = []
          for (const call of calls) {
            replies.push(...repliesOf(await Effect.runPromise(fixed.run(decideScript, ...batch(call)))))
          }
          expect(replies).toHaveLength(entries.length)
          return entries.map((entry, i) => {
            const { reservation: _, ...verdict } = decode(entry, replies[i] ?? 0)
            return verdict
          })
        }
        const [a, b] = [randomUUID(), randomUUID()]
        expect(await decide(a, true)).toEqual(await decide(b, false))
      })
      yield* Effect.promise(() => fc.assert(property, { numRuns: scale(50, 1000) }))
    }), 120_000)

  it.scopedLive("tells each of several callers of one entry what it would have been told alone", () =>
    Effect.gen(function*() {
      const redis = yield* connect
      const { store } = yield* fixedStore
      const plans = new Plans()
      for (const algorithm of algorithms) {
        const request = requestOf(algorithm, { limit: 7, window: "1 minute" }, { cost: 2 })
        const plan = plans.of(request)
        const entry = encode(keysOf(redis.prefix, plan, request), plan, request, 5)
        const fixed = atFixedTime(redis, () => 1_800_000_000_000_000 + 1000)
        const [reply = 0] = repliesOf(yield* fixed.run(decideScript, ...batch([entry])))
        const verdict = decode(entry, reply)
        const alone = { ...request, key: randomUUID() }
        for (let i = 0; i < 5; i++) {
          expect(facts(decisionOf(entry, verdict, i))).toEqual(facts(yield* store.decide(alone)))
        }
      }
    }))

  it.effect("says what is decided alike once, however many callers each entry has", () =>
    Effect.sync(() => {
      const request = requestOf("gcra", { limit: 5, window: "1 minute" })
      const plan = new Plans().of(request)
      const [keys, args] = batch([1, 3, 1, 2].map((times) => encode([`k${times}`], plan, request, times)))
      expect(keys).toEqual(["k1", "k3", "k1", "k2"])
      expect(args).toEqual(["n", ...args.slice(1, 5), 4, 1, 3, 1, 2])
    }))

  it.effect("keeps no words for each wait that somebody has left", () =>
    Effect.sync(() => {
      const request = requestOf("gcra", { limit: 5, window: "1 minute" }, { mode: "reserve" })
      const plan = new Plans().of(request)
      for (let i = 1; i <= 100; i++) {
        const { head } = encode([], plan, { ...request, maxWait: Duration.millis(i) })
        expect(head.after).toEqual([1000 * i])
        expect(encode([], plan, { ...request, maxWait: Duration.millis(i) }).head).toBe(head)
      }
      expect(plan.heads.size).toBe(1)
    }))

  it.effect("RL24: has all keys of a target in one slot, whatever it is called", () =>
    Effect.sync(() => {
      const plans = new Plans()
      fc.assert(
        fc.property(
          fc.oneof(fc.string(), fc.constantFrom("}", "{", "{}", "a:b", "%", "%3a", "")),
          fc.oneof(fc.string(), fc.constantFrom("}", "{", "{}", "b:c", "}{", "")),
          fc.constantFrom(...algorithms),
          (instance, key, algorithm) => {
            const rates = [1, 2, 3].map((limit) => ({ limit, window: Duration.seconds(limit), burst: limit }))
            const target = { instance, key, algorithm, rates }
            const keys = [...keysOf("p:", plans.of(target), target), `${base("p:", target)}d`]
            expect(new Set(keys.map((key) => calculateSlot(key))).size).toBe(1)
            // By its tag alone: what stands before it does not count.
            expect(calculateSlot(keys[0] ?? "")).toBe(
              calculateSlot(keysOf("another:", plans.of(target), target)[0] ?? "")
            )
          }
        )
      )
      const nameOf = (instance: string, key: string) => base("p:", { instance, key, algorithm: "gcra", rates: [] })
      expect(nameOf("a:b", "c")).not.toBe(nameOf("a", "b:c"))
      expect(nameOf("a%3ab", "c")).not.toBe(nameOf("a:b", "c"))
      expect(nameOf("a", "}")).not.toBe(nameOf("a", "%7d"))
    }))
})
