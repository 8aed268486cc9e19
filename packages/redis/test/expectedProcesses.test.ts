import { Bulkhead, RateLimiter } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Ref } from "effect"
import { canStart, freePort, Server } from "./utils/server.js"
import { eventually } from "./utils/until.js"

class Search extends RateLimiter.Tag<Search>()("search", { rate: "8/hour", onStoreError: "local" }) {}
class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 8 }) {}

/** How many of nine calls are let in, by the limiter and by the bulkhead. */
const letIn = Effect.gen(function*() {
  const searches = yield* Effect.replicateEffect(Effect.exit(Search.withLimit(Effect.void)), 9)
  const atOnce = yield* Ref.make({ now: 0, most: 0 })
  const report = Effect.acquireUseRelease(
    Ref.update(atOnce, ({ most, now }) => ({ now: now + 1, most: Math.max(most, now + 1) })),
    () => Effect.sleep("50 millis"),
    () => Ref.update(atOnce, ({ most, now }) => ({ now: now - 1, most }))
  )
  yield* Effect.all(Array.from({ length: 9 }, () => Effect.exit(Reports.withPermit(report))), {
    concurrency: "unbounded"
  })
  return { searches: searches.filter(Exit.isSuccess).length, reports: (yield* Ref.get(atOnce)).most }
})

const without = (port: number, expectedProcesses?: number) =>
  Layer.mergeAll(
    Search.layerStore().pipe(Layer.provide(RedisRateLimiterStore.layer())),
    RedisBulkhead.layer(Reports, { onStoreError: "local" })
  ).pipe(Layer.provideMerge(RedisConnection.layer({
    server: `redis://127.0.0.1:${port}`,
    connectTimeout: "100 millis",
    startup: "degrade",
    expectedProcesses
  })))

describe.skipIf(!canStart)("a process that starts while Redis is away", () => {
  it.scopedLive("RN26: takes its part of the limits, by the processes that are expected, and by those that are heard of later", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      expect(yield* Effect.provide(letIn, without(port, 4))).toEqual({ searches: 2, reports: 2 })
      yield* Effect.gen(function*() {
        const redis = yield* RedisConnection
        expect(yield* redis.processes).toBe(4)
        yield* Server.start([], port)
        yield* eventually("it is heard how many there are", Effect.map(redis.processes, (count) => count === 1))
      }).pipe(Effect.provide(without(port, 4)))
    }))

  it.scopedLive("takes all of it where it expects nobody else", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      expect(yield* Effect.provide(letIn, without(port))).toEqual({ searches: 8, reports: 8 })
    }))
})
