import { Registry } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { bulkheadOf, connect, eventually, forget, hold, stateOf } from "./utils/bulkheads.js"
import { Proxy } from "./utils/proxy.js"
import { canStart, Server } from "./utils/server.js"
import { WithoutAnswers } from "./utils/withoutAnswers.js"

const url = String(inject("redisUrl"))

describe.skipIf(inject("redisUrl") === undefined)("RedisBulkhead that does not hear Redis for a while", () => {
  it.scopedLive("RB23: gives back what it did not hear that it was given, though who asked for it has gone", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const redis = yield* connect(url)
      const lossy = new WithoutAnswers(redis)
      const b = yield* lossy.provide(RedisBulkhead.make({ name, maxConcurrent: 1 }, { lease: "1 minute" }))
      const gone = yield* Deferred.make<void>()
      lossy.waits = Deferred.await(gone)
      lossy.losing = true
      const caller = yield* Effect.fork(b.withPermit(Effect.void))
      yield* eventually("it was given the permit", Effect.sync(() => lossy.lost === 1))
      expect((yield* stateOf(redis, name)).used).toBe(1)
      lossy.losing = false
      yield* Fiber.interrupt(caller)
      yield* Deferred.succeed(gone, void 0)
      yield* eventually("it is free", Effect.map(stateOf(redis, name), ({ used }) => used === 0))
    }))

  it.scopedLive("RB25: an order that comes while a question is on its way is not forgotten", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const redis = yield* connect(url)
      // The server answers at once; the answer to who keeps nothing comes when it is let through.
      const arrived = yield* Deferred.make<void>()
      let holding = false
      const slow: RedisConnection.Service = Object.assign(Object.create(redis) as RedisConnection.Service, {
        run: (...[script, keys, args]: Parameters<RedisConnection.Service["run"]>) =>
          Effect.tap(
            redis.run(script, keys, args),
            () => holding && args[2] === 0 ? Deferred.await(arrived) : Effect.void
          )
      })
      const of = (redis: RedisConnection.Service) =>
        Effect.provideService(RedisBulkhead.make({ name, maxConcurrent: 10 }), RedisConnection, redis)
      const [a, b] = [yield* of(slow), yield* of(redis)]
      yield* a.withPermit(Effect.void)
      holding = true
      yield* eventually("it gives back", Effect.map(stateOf(redis, name), ({ used }) => used === 0))
      const resized = yield* Effect.fork(a.resize(5))
      yield* Effect.yieldNow()
      holding = false
      yield* Deferred.succeed(arrived, void 0)
      yield* Fiber.join(resized)
      yield* eventually("all have it", Effect.map(b.metrics, ({ limit }) => limit === 5))
    }))

  it.scopedLive("RB25: an operator hears of an answer that comes while the fiber of the operator stands back", () =>
    Effect.gen(function*() {
      const b = yield* bulkheadOf(url, { name: randomUUID(), maxConcurrent: 10 })
      // As soon as it has ordered, it stands back for longer than an answer takes.
      let standsBack = 0
      const slow = {
        shouldYield: () => standsBack === 0 && Effect.runSync(b.metrics).limit === 5 ? standsBack++ : false as const,
        scheduleTask: (task: () => void) => void setTimeout(task, 200)
      }
      yield* b.resize(5).pipe(
        Effect.withScheduler(slow),
        Effect.timeoutFail({ duration: "5 seconds", onTimeout: () => new Error("nobody told it") })
      )
      expect(standsBack).toBe(1)
    }))
})

describe.skipIf(!canStart)("RedisBulkhead that could not reach Redis for a while", () => {
  it.scopedLive("RB26: an operator hears that only this process has the limit, and all have it when Redis is back", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const bulkhead = { name: "b", maxConcurrent: 10 } as const
      const commandTimeout = 2000
      const registry = Context.get(yield* Layer.build(Layer.fresh(Registry.Live)), Registry)
      const here = yield* bulkheadOf(proxy.url, bulkhead, {}, { commandTimeout }).pipe(
        Effect.provideService(Registry, registry)
      )
      const resize = (limit: number) => registry.act("Bulkhead", "b", "resize", limit)
      const there = yield* bulkheadOf(server.url, bulkhead)
      const limits = Effect.map(Effect.all([here.metrics, there.metrics]), (all) => all.map(({ limit }) => limit))
      const are = (...expected: ReadonlyArray<number>) =>
        eventually(`the limits are ${String(expected)}`, Effect.map(limits, (all) => String(all) === String(expected)))
      expect(yield* resize(7)).toBe("fleet")
      yield* are(7, 7)
      const problems: Array<string> = []
      yield* here.on("InternalError", ({ error }) => Effect.sync(() => problems.push(String(error))))
      yield* Effect.promise(() => proxy.close())
      expect(yield* resize(5)).toBe("process")
      expect(yield* limits).toEqual([5, 7])
      const said = "Redis cannot be asked, so the limit of 5 holds in this process alone until it can"
      yield* eventually("it is told", Effect.sync(() => problems.some((problem) => problem.includes(said))))
      yield* Effect.promise(() => proxy.listen())
      yield* are(5, 5)
      // One that is not there any more does not hang.
      server.pause()
      const since = performance.now()
      const given = yield* Effect.fork(resize(4))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(given)
      expect(yield* resize(3)).toBe("process")
      // A question on its way, the order, and the order once more; and a machine that is busy.
      expect(performance.now() - since).toBeLessThan(3 * commandTimeout + 2000)
      server.resume()
      yield* are(3, 3)
    }))

  for (const onStoreError of ["fail", "open"] as const) {
    it.scopedLive(`RB24: who waits waits on when Redis is back and has given the permits to others (${onStoreError})`, () =>
      Effect.gen(function*() {
        const name = "b"
        const server = yield* Server.start()
        const proxy = yield* Proxy.start(server.port)
        const redis = yield* connect(server.url)
        const bulkhead = { name, maxConcurrent: 2, maxQueued: 5, maxWait: "20 seconds" } as const
        const a = yield* bulkheadOf(proxy.url, bulkhead, { lease: "1 minute", onStoreError })
        const b = yield* bulkheadOf(server.url, bulkhead, { lease: "1 minute" })
        const others = [yield* hold(b)]
        const first = yield* hold(a)
        let isHeld = false
        const waiting = yield* Effect.fork(a.withPermit(Effect.sync(() => isHeld)))
        yield* eventually("it waits", Effect.map(a.metrics, ({ waiting }) => waiting === 1))
        const events = yield* a.subscribe
        yield* Effect.promise(() => proxy.close())
        yield* eventually("it has tried to ask", Effect.map(events.size, (size) => size > 0))
        yield* forget(redis, name)
        others.push(yield* hold(b))
        isHeld = true
        yield* Effect.promise(() => proxy.listen())
        expect(yield* Effect.flip(Fiber.join(first.fiber))).toMatchObject({ reason: "LeaseLost" })
        yield* eventually("it is in line", Effect.map(stateOf(redis, name), ({ line }) => line.length === 1))
        isHeld = false
        for (const { end } of others) yield* end
        expect(yield* Fiber.join(waiting)).toBe(false)
      }))
  }
})
