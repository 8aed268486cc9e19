import { RedisBulkhead } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
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
})

describe.skipIf(!canStart)("RedisBulkhead that could not reach Redis for a while", () => {
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
