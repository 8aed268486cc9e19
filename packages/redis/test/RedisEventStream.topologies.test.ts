import { CircuitBreaker, Fleet, ResilienceLive } from "@effect-resilience/core"
import { RedisConnection, RedisEventStream, RedisFleet } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option, Ref, Schedule, Stream } from "effect"
import { ClusterServers } from "./utils/cluster.js"
import { emit, numbers, quiet, range, until } from "./utils/events.js"
import { Proxy } from "./utils/proxy.js"
import { Sentinels } from "./utils/sentinel.js"
import { canStart, Server } from "./utils/server.js"

const live = (server: RedisConnection.Server, label: string) =>
  Layer.merge(
    RedisFleet.layer({ label, interval: "100 millis", expireAfter: "5 seconds" }),
    RedisEventStream.layer({ label, flushInterval: "5 millis", filter: (event) => event._tag === "StateChanged" })
  ).pipe(
    Layer.provideMerge(ResilienceLive),
    // A machine that is busy.
    Layer.provideMerge(RedisConnection.layer({ server, commandTimeout: "2 seconds", connectTimeout: "10 seconds" })),
    Layer.provideMerge(quiet)
  )
const followed = Effect.gen(function*() {
  const told = yield* Ref.make<ReadonlyArray<RedisEventStream.Element>>([])
  yield* RedisEventStream.follow({ from: "start" }).pipe(
    Stream.runForEachChunk((chunk) => Ref.update(told, (all) => [...all, ...chunk])),
    Effect.forkScoped
  )
  return Ref.get(told)
})

describe.skipIf(!canStart)("events and fleet", () => {
  it.scopedLive("on a cluster: events are followed, and processes see each other", () =>
    Effect.gen(function*() {
      const cluster = yield* ClusterServers.start()
      const other = yield* Layer.build(live(cluster.options, "other"))
      yield* Effect.gen(function*() {
        const told = yield* followed
        yield* CircuitBreaker.make({ name: "payments" })
        yield* emit(1, 300)
        yield* Effect.provide(emit(301, 600), other)
        yield* until(Effect.map(told, (elements) => elements.length >= 600))
        expect([...numbers(yield* told)].sort((a, b) => a - b)).toEqual(range(1, 600))
        yield* until(
          Effect.map(Fleet.view, ({ processes }) => processes.map(({ label }) => label).join() === "own,other")
        )
        expect((yield* Effect.provide(Fleet.view, other)).problem).toEqual(Option.none())
      }).pipe(Effect.provide(live(cluster.options, "own")))
    }), 30_000)

  it.scopedLive(
    "through a failover: events wait and arrive, the follower goes on with the new master",
    () =>
      Effect.gen(function*() {
        const sentinels = yield* Sentinels.start()
        yield* Effect.gen(function*() {
          const told = yield* followed
          yield* emit(1, 100)
          yield* until(Effect.map(told, (elements) => elements.length === 100))
          const master = yield* Effect.promise(() => sentinels.master())
          yield* Effect.sleep("300 millis")
          yield* Effect.promise(() => master.kill())
          for (let n = 101; n <= 1000; n += 100) yield* emit(n, n + 99)
          // The sentinels of a busy machine take their time to agree.
          yield* Effect.retry(
            Effect.flatMap(
              told,
              (elements) => numbers(elements).at(-1) === 1000 ? Effect.void : Effect.fail("not yet")
            ),
            Schedule.spaced("10 millis")
          )
          // The replica had what was written before: nothing is lost, nothing is there twice.
          expect(numbers(yield* told)).toEqual(range(1, 1000))
        }).pipe(Effect.provide(live(sentinels.options, "own")))
      }),
    30_000
  )

  it.scopedLive(
    "through a connection that swallows all: it is taken for dead, and the rest arrives once it is healed",
    () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const proxy = yield* Proxy.start(server.port)
        const own = yield* Layer.build(live({ _tag: "Standalone", url: server.url }, "own"))
        yield* Effect.gen(function*() {
          const told = yield* followed
          yield* Effect.provide(emit(1, 10), own)
          yield* until(Effect.map(told, (elements) => elements.length === 10))
          proxy.mode = { _tag: "blackHole" }
          yield* Effect.provide(emit(11, 20), own)
          const before = proxy.accepted
          yield* until(Effect.sync(() => proxy.accepted > before + 1))
          proxy.mode = { _tag: "pass" }
          yield* until(Effect.map(told, (elements) => elements.length === 20))
          expect(numbers(yield* told)).toEqual(range(1, 20))
        }).pipe(Effect.provide(RedisConnection.layer({ server: { _tag: "Standalone", url: proxy.url } })))
      }),
    30_000
  )
})
