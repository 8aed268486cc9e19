import type { RateLimiterStore } from "@effect-resilience/core"
import { RateLimiter } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, FastCheck as fc, Fiber } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { ask } from "./utils/ask.js"
import { ClusterServers } from "./utils/cluster.js"
import { asked as request } from "./utils/rateStore.js"
import { scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"
import { Spied } from "./utils/spied.js"
import { until } from "./utils/until.js"

const url = inject("redisUrl")
const run = randomUUID()
let made = 0

const rates = (limit: number): ReadonlyArray<RateLimiterStore.Rate> => [
  { limit, window: Duration.days(365), burst: limit }
]

const connect = (server: RedisConnection.Server = { _tag: "Standalone", url: String(url) }, commandTimeout = 10_000) =>
  Effect.map(
    Effect.orDie(
      RedisConnection.make({
        server,
        prefix: `${run}-${++made}:`,
        commandTimeout,
        connectTimeout: "10 seconds",
        socketTimeout: "10 seconds"
      })
    ),
    (redis) => new Spied(redis)
  )

const open = (options: RedisRateLimiterStore.Options = {}) =>
  Effect.gen(function*() {
    const spied = yield* connect()
    const store = yield* spied.provide(RedisRateLimiterStore.make(options))
    return { spied, store }
  })

const together = { concurrency: "unbounded" } as const
const times = <A>(n: number, f: (i: number) => A) => Array.from({ length: n }, (_, i) => f(i))

/** Long enough for whoever has been forked to have asked, in the same turn of the event loop. */
const asked = Effect.repeatN(Effect.yieldNow(), 3)

describe.skipIf(url === undefined)("decisions that wait at the same moment", () => {
  it.scopedLive("share a round trip, over all their keys", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open()
      const own = rates(1000)
      const calls = times(1000, (i) => store.decide(request("share", own, { key: `key ${i % 100}` })))
      const decisions = yield* Effect.all(calls, together)
      expect(decisions.every(({ granted }) => granted === 1)).toBe(true)
      expect(spied.calls).toBe(1)
      expect(spied.keys).toEqual([100])
    }))

  it.scopedLive("are decided in their order, each as if it were alone", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open({ deniedFor: 0 })
      const own = rates(100)
      const decisions = yield* Effect.all(times(500, () => store.decide(request("order", own))), together)
      expect(decisions.map(({ granted }) => granted)).toEqual(times(500, (i) => i < 100 ? 1 : 0))
      expect(decisions.map(({ remaining }) => remaining)).toEqual(times(500, (i) => Math.max(0, 99 - i)))
      expect(decisions.slice(0, 100).every(({ wait }) => Duration.toMillis(wait) === 0)).toBe(true)
      expect(decisions.slice(100).every(({ wait }) => Duration.toMinutes(wait) > 14)).toBe(true)
      expect(spied.calls).toBe(1)
    }))

  it.scopedLive(
    "answer as those of a store that asks for each, whatever they ask (property)",
    () =>
      Effect.gen(function*() {
        const { store } = yield* open()
        const { store: twin } = yield* open({ batching: false, deniedFor: 0 })
        const asked = fc.array(
          fc.record({
            key: fc.constantFrom("a", "b", "c"),
            cost: fc.integer({ min: 1, max: 7 }),
            mode: fc.constantFrom("all", "all", "all", "atMost", "peek", "reserve"),
            maxWait: fc.constantFrom(Duration.zero, Duration.days(40))
          }),
          { maxLength: 60 }
        )
        const algorithm = fc.constantFrom("gcra", "sliding-window", "sliding-log", "fixed-window")
        let cases = 0
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(asked, algorithm, fc.integer({ min: 7, max: 30 }), async (calls, algorithm, limit) => {
              const own = rates(limit)
              const instance = `twin ${++cases}`
              const requests = calls.map((call) => request(instance, own, { algorithm, ...call } as never))
              const decide = (store: RateLimiterStore.Service, concurrency: number | "unbounded") =>
                Effect.runPromise(Effect.forEach(requests, store.decide, { concurrency }))
              // Begins with the same hour of the clock for both, but for the one of a thousand that begins at its very end.
              const ours = await decide(store, "unbounded")
              const theirs = await decide(twin, 1)
              const shown = ({ granted, limit, remaining }: RateLimiterStore.Decision) => ({
                granted,
                limit,
                remaining
              })
              expect(ours.map(shown)).toEqual(theirs.map(shown))
              ours.forEach(({ wait }, i) => {
                const other = theirs[i]?.wait ?? Duration.zero
                expect(Math.abs(Duration.toSeconds(wait) - Duration.toSeconds(other))).toBeLessThan(5)
              })
            }),
            { numRuns: scale(40, 400) }
          )
        )
        expect(cases).toBeGreaterThan(10)
      }),
    60_000
  )

  it.scopedLive("RF1: come after those that were sent before them: nobody is decided by a call that has gone", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open()
      const own = rates(1)
      const first = yield* Effect.fork(store.decide(request("late", own)))
      yield* asked
      expect(spied.calls).toBe(1)
      const later = yield* Effect.fork(Effect.all(times(3, () => store.decide(request("late", own))), together))
      expect((yield* Fiber.join(first)).granted).toBe(1)
      expect((yield* Fiber.join(later)).map(({ granted }) => granted)).toEqual([0, 0, 0])
      expect(spied.calls).toBe(2)
    }))

  it.scopedLive("wait for an answer for some milliseconds at most, where the server is far", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open()
      const own = rates(1000)
      spied.hold()
      const fibers: Array<Fiber.Fiber<RateLimiterStore.Decision, Error>> = []
      for (let i = 0; i < 10; i++) {
        fibers.push(yield* Effect.fork(store.decide(request("far", own))))
        yield* asked
      }
      // Two are on their way, the rest wait.
      expect(spied.calls).toBe(2)
      while (spied.calls < 3) yield* Effect.sleep("1 millis")
      spied.release()
      expect((yield* Effect.forEach(fibers, Fiber.join)).every(({ granted }) => granted === 1)).toBe(true)
      expect(spied.calls).toBe(3)
    }))

  it.scopedLive("are no more than some hundreds in one call, and all are answered", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open()
      const own = rates(10)
      const calls = times(3000, (i) => store.decide(request("many", own, { key: `key ${i}` })))
      expect((yield* Effect.all(calls, together)).every(({ remaining }) => remaining === 9)).toBe(true)
      expect(spied.calls).toBe(6)
      expect(Math.max(...spied.keys)).toBe(512)
    }))

  it.scopedLive("fail with the call that they were in, each of them", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open()
      const own = rates(5)
      const log = { algorithm: "sliding-log", key: "broken" } as const
      // Something else is where its list should be: the script fails.
      yield* spied.redis.command("set", `${spied.redis.prefix}rl:{broken:broken}l:${31_536_000_000_000_000n}`, "text")
      const broken = times(50, () => Effect.exit(store.decide(request("broken", own, log))))
      const beside = times(50, (i) => Effect.exit(store.decide(request("broken", own, { key: `key ${i}` }))))
      const exits = yield* Effect.all([...broken, ...beside], together)
      expect(spied.calls).toBe(1)
      expect(exits.every(Exit.isFailure)).toBe(true)
      // Those that come later are none the worse.
      expect((yield* store.decide(request("broken", own))).granted).toBe(1)
    }))

  for (const batching of [true, false]) {
    it.scopedLive(`fail, and count as nothing else, where the answer to them is missing: batching ${batching}`, () =>
      Effect.gen(function*() {
        const { spied } = yield* open()
        const mute: RedisConnection.Service = Object.assign(Object.create(spied.redis) as RedisConnection.Service, {
          unsafeRun: (...[, , , settled]: Parameters<RedisConnection.Service["unsafeRun"]>) => settled(undefined, [])
        })
        const store = yield* Effect.provideService(RedisRateLimiterStore.make({ batching }), RedisConnection, mute)
        const error = yield* Effect.flip(store.decide(request("mute", rates(5))))
        expect(error).toMatchObject({ _tag: "RedisUnavailableError", reason: "Reply", server: expect.any(String) })
        expect(error.message).toContain("there was no answer for it")
      }))
  }
})

describe.skipIf(url === undefined)("a process that stands still", () => {
  it.scopedLive("sends nothing of what had its time before", () =>
    Effect.gen(function*() {
      const spied = yield* connect(undefined, 300)
      const store = yield* spied.provide(RedisRateLimiterStore.make())
      const decide = store.decide(request("still", rates(100)))
      spied.hold()
      const busy = yield* Effect.forEach(times(2, (i) => i), () => Effect.zipLeft(Effect.fork(decide), asked))
      const waiting = yield* Effect.fork(decide)
      yield* asked
      expect(spied.calls).toBe(2)
      for (const since = performance.now(); performance.now() - since < 350;);
      expect(yield* Effect.flip(Fiber.join(waiting))).toMatchObject({
        reason: "Timeout",
        server: expect.any(String),
        detail: "its time was over before it was sent"
      })
      expect(spied.calls).toBe(2)
      spied.release()
      yield* Effect.forEach(busy, Fiber.await)
    }))
})

describe.skipIf(url === undefined)("a caller that is interrupted", () => {
  const limit = 100_000

  it.scopedLive("RF2: before its call was sent is left out: it is not charged", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open({ deniedFor: 0 })
      const own = rates(limit)
      spied.hold()
      const busy = yield* Effect.forEach(times(2, (i) => i), () =>
        Effect.zipLeft(Effect.fork(store.decide(request("before", own))), asked))
      expect(spied.calls).toBe(2)
      const waiting = yield* Effect.forEach(
        times(10, (i) =>
          i),
        () => Effect.fork(store.decide(request("before", own)))
      )
      yield* asked
      expect(spied.calls).toBe(2)
      yield* Fiber.interruptAll(waiting.slice(0, 7))
      spied.release()
      const all = yield* Effect.forEach([...busy, ...waiting.slice(7)], Fiber.join)
      expect(all.every(({ granted }) => granted === 1)).toBe(true)
      expect((yield* store.decide(request("before", own, { mode: "peek" }))).remaining).toBe(limit - 5)
    }))

  it.scopedLive("before its call was sent is not charged though it has still something to do, unless it waits all the same", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open()
      const own = rates(limit)
      const decide = store.decide(request("busy", own))
      const gate = yield* Deferred.make<void>()
      spied.hold()
      const first = yield* Effect.forEach(times(2, (i) => i), () => Effect.zipLeft(Effect.fork(decide), asked))
      expect(spied.calls).toBe(2)
      const finalizing = yield* Effect.forkAll(times(3, () => Effect.ensuring(decide, Deferred.await(gate))))
      let answer: RateLimiterStore.Decision | undefined
      const waiting = yield* Effect.fork(Effect.uninterruptible(Effect.map(decide, (decision) => answer = decision)))
      yield* asked
      yield* Fiber.interruptFork(finalizing)
      yield* Fiber.interruptFork(waiting)
      yield* asked
      spied.release()
      yield* Effect.forEach(first, Fiber.join)
      yield* Fiber.await(waiting)
      yield* Deferred.succeed(gate, void 0)
      yield* Fiber.await(finalizing)
      expect(answer?.granted).toBe(1)
      expect((yield* store.decide(request("busy", own, { mode: "peek" }))).remaining).toBe(limit - 3)
    }))

  it.scopedLive(
    "at any operation loses no token: what the server charged is what was sent",
    () =>
      Effect.gen(function*() {
        const { spied, store } = yield* open({ deniedFor: 0 })
        // Nothing watches over a store that settles in time: this is what runs in production.
        const storeTimeout = Duration.seconds(20)
        expect(store.settlesWithin).toSatisfy(Duration.lessThanOrEqualTo(storeTimeout))
        const limiter = yield* RateLimiter.make({
          name: "sweep",
          rate: { limit, window: "10000 days" },
          storeTimeout,
          store
        })
        let done = 0
        let sentThenGone = 0
        let leftOut = 0
        const steps = scale(12, 40)
        for (const budget of [12, 17]) {
          for (let phase = 0; phase <= budget; phase++) {
            for (let step = 0; step <= steps; step++) {
              const before = spied.calls
              const victim = yield* Effect.fork(
                Effect.withMaxOpsBeforeYield(
                  Effect.zipRight(Effect.repeatN(Effect.void, phase), limiter.withLimit(Effect.succeed("ran"))),
                  budget
                )
              )
              yield* Effect.repeatN(
                step % 3 === 2
                  ? Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
                  : Effect.yieldNow(),
                step
              )
              const exit = yield* Fiber.interrupt(victim)
              const sent = spied.calls - before
              expect(sent).toBeLessThanOrEqual(1)
              if (Exit.isSuccess(exit)) {
                expect(sent).toBe(1)
                done++
              } else if (sent === 1) sentThenGone++
              else leftOut++
            }
          }
        }
        const { remaining } = yield* limiter.peek()
        expect(limit - remaining).toBe(done + sentThenGone)
        // The sweep has met all three.
        expect(Math.min(done, sentThenGone, leftOut)).toBeGreaterThan(0)
      }),
    60_000
  )
})

describe.skipIf(!canStart)("a server that does not answer", () => {
  it.scopedLive("RF2: fails all that wait in their time, and does nothing when it wakes", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const spied = yield* connect({ _tag: "Standalone", url: server.url }, 300)
      const store = yield* spied.provide(RedisRateLimiterStore.make())
      const own = rates(100_000)
      yield* store.decide(request("paused", own))
      // Until the server's time is known: it has heard of this process, and answered what came after that.
      yield* Effect.promise(() =>
        until("it has had a sign of life", async () => await ask(server.port, "dbsize") === 2)
      )
      yield* spied.redis.command("ping")
      server.pause()
      const since = performance.now()
      const calls = Effect.all(times(200, () => Effect.exit(store.decide(request("paused", own)))), together)
      const fibers = yield* Effect.forEach(
        times(5, (i) => i),
        () => Effect.zipLeft(Effect.fork(calls), Effect.sleep("5 millis"))
      )
      const exits = (yield* Effect.forEach(fibers, Fiber.join)).flat()
      expect(exits.every(Exit.isFailure)).toBe(true)
      expect(performance.now() - since).toBeLessThan(3000)
      server.resume()
      const peek = store.decide(request("paused", own, { mode: "peek" }))
      const { remaining } = yield* Effect.retry(Effect.delay(peek, "20 millis"), { times: 200 })
      expect(remaining).toBe(100_000 - 1)
    }), 20_000)
})

describe.skipIf(!canStart)("in a cluster", () => {
  it.scopedLive(
    "share a round trip with those of their slot, and are decided in their order",
    () =>
      Effect.gen(function*() {
        const cluster = yield* ClusterServers.start()
        const spied = yield* connect(cluster.options)
        const store = yield* spied.provide(RedisRateLimiterStore.make())
        const own = rates(10)
        const calls = times(300, (i) => store.decide(request("cluster", own, { key: `key ${i % 10}` })))
        const decisions = yield* Effect.all(calls, together)
        expect(decisions.map(({ granted }) => granted)).toEqual(times(300, (i) => i < 100 ? 1 : 0))
        expect(spied.calls).toBe(10)
      }),
    30_000
  )
})
