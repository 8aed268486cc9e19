import { CircuitBreaker, RateLimiter, ResilienceLive } from "@effect-resilience/core"
import {
  RedisCircuitBreaker,
  RedisConnection,
  RedisEventStream,
  RedisFleet,
  RedisRateLimiterStore
} from "@effect-resilience/redis"
import { RedisIdempotencyStore, RedisStaleStore } from "@effect-resilience/redis/http"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Stream } from "effect"
import { ask } from "./utils/ask.js"
import { bulkheadOf, connect, eventually, forget, hold, stateOf } from "./utils/bulkheads.js"
import { emit, numbers, onlyChanges, quiet, range } from "./utils/events.js"
import { canStart, Server } from "./utils/server.js"
import { until } from "./utils/until.js"

const set = (server: Server, name: string, value: string) =>
  Effect.promise(() => ask(server.port, "config", "set", name, value))

/** It takes no more, until it is emptied. */
const fill = (server: Server) => set(server, "maxmemory", "1")
const empty = (server: Server) => set(server, "maxmemory", "0")

/** It makes room by all that the services have there. */
const evict = (server: Server, policy: string) =>
  Effect.gen(function*() {
    yield* set(server, "maxmemory-policy", policy)
    yield* fill(server)
    yield* Effect.promise(() => until("all is evicted", async () => await ask(server.port, "dbsize") === 0))
    yield* empty(server)
    expect(String(yield* Effect.promise(() => ask(server.port, "info", "stats")))).toMatch(/evicted_keys:[1-9]/)
  })

const limiterOf = (redis: RedisConnection.Service, options: Partial<RateLimiter.Options> = {}) =>
  Effect.gen(function*() {
    const store = yield* RedisRateLimiterStore.make({ deniedFor: 0 })
    const limiter = yield* RateLimiter.make({ name: `l-${options.onStoreError}`, rate: "1/minute", ...options, store })
    return Effect.map(limiter.consume(), ({ allowed }) => allowed)
  }).pipe(Effect.provideService(RedisConnection, redis))

/** A circuit as a process has it. */
const member = (server: Server) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      RedisCircuitBreaker.layer({ reportEvery: "50 millis" }).pipe(
        Layer.provide(RedisConnection.layer({ server: server.url, commandTimeout: "1 second" }))
      )
    )
    const breaker = yield* Effect.provide(
      CircuitBreaker.make({ name: "p", openDuration: "600 millis", halfOpenMaxCalls: 2, successThreshold: 2 }),
      context
    )
    const shared = Effect.map(breaker.metrics, ({ shared }) => shared)
    yield* eventually("it knows the fleet", Effect.map(shared, (shared) => shared !== undefined && shared.epoch >= 0))
    const isNow = (state: CircuitBreaker.State) => Effect.map(breaker.state, (now) => now === state)
    return {
      breaker,
      shared,
      trip: Effect.repeatN(Effect.exit(breaker.withBreaker(Effect.fail("no"))), 4),
      succeed: Effect.exit(breaker.withBreaker(Effect.void)),
      isNow,
      is: (state: CircuitBreaker.State) => eventually(state, isNow(state))
    }
  })

/** Events and the fleet, as a process has them. */
const observed = (server: Server, label: string) =>
  Layer.merge(
    RedisEventStream.layer({ label, flushInterval: "5 millis", filter: onlyChanges }),
    RedisFleet.layer({ label, interval: "100 millis", expireAfter: "2 seconds" })
  ).pipe(
    Layer.provideMerge(ResilienceLive),
    Layer.provideMerge(RedisConnection.layer({ server: server.url, commandTimeout: "1 second" })),
    Layer.provideMerge(quiet)
  )

const labels = Effect.map(Effect.orDie(RedisFleet.processes()), (all) => all.map(({ label }) => label).sort().join())

const followed = Effect.gen(function*() {
  const told: Array<RedisEventStream.Element> = []
  yield* RedisEventStream.follow({ from: "start" }).pipe(
    Stream.runForEach((element) => Effect.sync(() => told.push(element))),
    Effect.forkScoped
  )
  return told
})

const owner = { key: "k", token: "t", fingerprint: "f" }
const lease = Duration.minutes(1)
const response = { status: 201, headers: {}, cookies: [], body: new Uint8Array() }

describe.skipIf(!canStart)("a server that refuses what needs memory", () => {
  it.scopedLive("RN19: is not down for that, counts who shares it, and passes messages on", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* connect(server.url, { downAfter: 1 })
      yield* fill(server)
      expect(yield* Effect.flip(redis.command("set", "k", "v"))).toMatchObject({ reason: "OutOfMemory" })
      expect(yield* redis.command("get", "k")).toBe(null)
      yield* eventually("it is degraded", Effect.map(redis.health, ({ status }) => status === "degraded"))
      const heard: Array<string> = []
      yield* redis.subscribe("c", { onMessage: (text) => void heard.push(text), onGap: () => {} })
      yield* redis.command("publish", "c", "hello")
      yield* eventually("the message is here", Effect.sync(() => heard.includes("hello")))
      yield* connect(server.url)
      yield* eventually("the other is counted", Effect.map(redis.processes, (count) => count === 2))
    }))

  it.scopedLive("RN19: a rate limiter does as onStoreError says, and denies what is used up", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* connect(server.url)
      const [used, failing, open, closed, local] = yield* Effect.all([
        limiterOf(redis),
        limiterOf(redis, { onStoreError: "fail" }),
        limiterOf(redis, { onStoreError: "open" }),
        limiterOf(redis, { onStoreError: "closed" }),
        limiterOf(redis, { onStoreError: "local" })
      ])
      expect(yield* used).toBe(true)
      yield* fill(server)
      expect(yield* used).toBe(false)
      expect(yield* Effect.flip(failing)).toMatchObject({
        _tag: "RateLimiterStoreError",
        cause: { reason: "OutOfMemory" }
      })
      expect(yield* Effect.replicateEffect(open, 2)).toEqual([true, true])
      expect(yield* closed).toBe(false)
      expect(yield* Effect.replicateEffect(local, 2)).toEqual([true, false])
    }).pipe(Effect.provide(quiet)))

  it.scopedLive("RN19: a bulkhead goes on and keeps its limit; a strict one begins after the wait for its lease", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      yield* fill(server)
      const a = yield* bulkheadOf(server.url, { name: "b", maxConcurrent: 2 }, { lease: 400 })
      const b = yield* bulkheadOf(server.url, { name: "b", maxConcurrent: 2, maxWait: 100 }, { lease: 400 })
      const calls = [yield* hold(a), yield* hold(a)]
      expect(yield* Effect.flip(b.withPermit(Effect.void))).toMatchObject({ reason: "WaitExceeded" })
      // Two leases, and a half: they are renewed.
      yield* Effect.sleep("1 second")
      expect(yield* Effect.flip(b.withPermit(Effect.void))).toMatchObject({ reason: "WaitExceeded" })
      for (const { end, fiber } of calls) {
        yield* end
        expect(Exit.isSuccess(yield* Fiber.await(fiber))).toBe(true)
      }
      yield* eventually("they are given back", Effect.isSuccess(b.withPermit(Effect.void)))
      const strict = yield* bulkheadOf(server.url, { name: "s", maxConcurrent: 2 }, { lease: 400, strict: true })
      const began = performance.now()
      yield* strict.withPermit(Effect.void)
      expect(performance.now() - began).toBeGreaterThan(390)
    }))

  it.scopedLive("RN19: an operator resizes a bulkhead in all processes, and permits that were forgotten are regained", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* connect(server.url)
      yield* fill(server)
      const a = yield* bulkheadOf(server.url, { name: "b", maxConcurrent: 1 }, { lease: 400 })
      const b = yield* bulkheadOf(server.url, { name: "b", maxConcurrent: 1, maxWait: 100 }, { lease: 400 })
      const used = (count: number) => Effect.map(stateOf(redis, "b"), ({ used }) => used === count)
      const first = yield* hold(a)
      expect(yield* Effect.flip(b.withPermit(Effect.void))).toMatchObject({ reason: "WaitExceeded" })
      yield* a.resize(2)
      yield* eventually("there is another permit", Effect.isSuccess(hold(b)))
      yield* eventually("both are used", used(2))
      yield* forget(redis, "b")
      yield* eventually("both are known again", used(2))
      yield* first.end
      expect(Exit.isSuccess(yield* Fiber.await(first.fiber))).toBe(true)
    }))

  it.scopedLive("RN19: circuits that are closed open and close by themselves", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const [a, b, c] = yield* Effect.all([member(server), member(server), member(server)])
      yield* fill(server)
      yield* Effect.all([a.trip, b.trip, c.succeed])
      yield* eventually(
        "what it could not tell is counted",
        Effect.map(c.shared, (shared) => Number(shared?.dropped) > 0)
      )
      yield* a.is("Open")
      yield* b.is("Open")
      yield* c.is("Closed")
      yield* eventually("its own probe closes it", Effect.zipRight(a.succeed, a.isNow("Closed")))
    }))

  it.scopedLive("RN19: a fleet that is open has one set of probes, and closes; an operator still acts on all of it", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const [a, b, c] = yield* Effect.all([member(server), member(server), member(server)])
      yield* Effect.all([a.trip, b.trip])
      yield* c.is("Open")
      yield* fill(server)
      const late = yield* member(server)
      yield* late.is("Open")
      const all = [a, b, c, late]

      const gate = yield* Deferred.make<void>()
      let probes = 0
      const probe = Effect.zipRight(Effect.sync(() => probes++), Deferred.await(gate))
      const send = Effect.forEach(all, ({ breaker }) => Effect.fork(breaker.withBreaker(probe)), { discard: true })
      const views = Effect.forEach(all, ({ shared }) => shared)
      yield* eventually(
        "all have called, and heard that it is half-open",
        Effect.map(Effect.zipRight(send, views), (all) => all.every((view) => view?.state === "HalfOpen"))
      )
      expect(probes).toBe(2)
      yield* Deferred.succeed(gate, void 0)
      for (const { is } of all) yield* is("Closed")
      expect((yield* views).map((view) => view?.state)).toEqual(Array(4).fill("Closed"))
      expect(probes).toBe(2)

      yield* a.breaker.forceOpen()
      for (const { is } of all) yield* is("ForcedOpen")
      yield* late.breaker.reset
      for (const { is } of all) yield* is("Closed")
      expect(yield* Effect.promise(() => ask(server.port, "config", "get", "maxmemory"))).toContain("1")
    }))

  it.scopedLive("RN19: events wait for room, and nothing of them is lost", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      yield* Effect.gen(function*() {
        const told = yield* followed
        yield* emit(1, 10)
        yield* eventually("they are told", Effect.sync(() => numbers(told).length === 10))
        yield* fill(server)
        yield* emit(11, 20)
        yield* eventually(
          "they wait",
          Effect.map(RedisEventStream.metrics, ({ failing, waiting }) => failing && waiting > 0)
        )
        expect(numbers(told).length).toBe(10)
        yield* empty(server)
        yield* eventually("they are told", Effect.sync(() => numbers(told).length === 20))
        expect(numbers(told)).toEqual(range(1, 20))
      }).pipe(Effect.provide(observed(server, "own")))
    }))
})

describe.skipIf(!canStart)("a server that evicts keys", () => {
  // All keys have an end, so those of the volatile policies are no safer.
  for (const policy of ["allkeys-lru", "volatile-ttl"]) {
    it.scopedLive(`RN20: by ${policy}: what was used, kept and in flight is forgotten`, () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const redis = yield* connect(server.url)
        const used = yield* limiterOf(redis)
        const [idempotency, stale] = yield* Effect.all([RedisIdempotencyStore.make(), RedisStaleStore.make()]).pipe(
          Effect.provideService(RedisConnection, redis)
        )
        expect(yield* Effect.replicateEffect(used, 2)).toEqual([true, false])
        yield* idempotency.begin({ ...owner, lease })
        yield* stale.put("s", { vary: [], response, maxAge: 60, age: 0 }, lease)
        yield* evict(server, policy)
        expect(yield* used).toBe(true)
        expect((yield* idempotency.begin({ ...owner, token: "other", lease }))._tag).toBe("New")
        expect(yield* stale.get("s")).toEqual(Option.none())
      }))
  }

  it.scopedLive("RN20: permits are free twice until their holder renews them, and are lost where others have them", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* connect(server.url)
      const two = (name: string, lease: number) =>
        Effect.all([
          bulkheadOf(server.url, { name, maxConcurrent: 1 }, { lease }),
          bulkheadOf(server.url, { name, maxConcurrent: 1, maxWait: 150 }, { lease })
        ])
      // Nobody else asks before it renews.
      const [a, b] = yield* two("kept", 1500)
      yield* hold(a)
      yield* evict(server, "allkeys-lru")
      yield* eventually("it is its own again", Effect.map(stateOf(redis, "kept"), ({ used }) => used === 1))
      expect(yield* Effect.flip(b.withPermit(Effect.void))).toMatchObject({ reason: "WaitExceeded" })
      // Another asks before that: it renews every second, and where it was first all is evicted again.
      const [c, d] = yield* two("lost", 5000)
      const first = yield* hold(c)
      const second = yield* Effect.retry(Effect.zipRight(evict(server, "allkeys-lru"), hold(d)), { times: 20 })
      expect(yield* Effect.flip(Fiber.join(first.fiber))).toMatchObject({ reason: "LeaseLost" })
      yield* second.end
      expect(Exit.isSuccess(yield* Fiber.await(second.fiber))).toBe(true)
    }))

  it.scopedLive("RN20: a circuit that is open stays so, and those who opened it say so again", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const [a, b, c] = yield* Effect.all([member(server), member(server), member(server)])
      yield* Effect.all([a.trip, b.trip])
      yield* c.is("Open")
      const before = Number((yield* c.shared)?.epoch)
      yield* evict(server, "allkeys-lru")
      yield* eventually("it is told anew", Effect.map(c.shared, (shared) => Number(shared?.epoch) > before))
      yield* c.is("Open")
    }))

  it.scopedLive("RN20: a follower is told that it missed events, and the fleet is there again at its next word", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      yield* Layer.build(observed(server, "other"))
      yield* Effect.gen(function*() {
        const told = yield* followed
        yield* emit(1, 10)
        yield* eventually("they are told", Effect.sync(() => numbers(told).length === 10))
        yield* eventually("both are there", Effect.map(labels, (all) => all === "other,own"))
        yield* evict(server, "allkeys-lru")
        yield* emit(11, 20)
        yield* eventually("they are told", Effect.sync(() => numbers(told).length === 20))
        expect(told.filter(({ _tag }) => _tag === "Gap")).toHaveLength(1)
        expect(told.findIndex(({ _tag }) => _tag === "Gap")).toBe(10)
        yield* eventually("both are there again", Effect.map(labels, (all) => all === "other,own"))
      }).pipe(Effect.provide(observed(server, "own")))
    }))
})
