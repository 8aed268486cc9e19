import { CircuitBreaker, ResilienceLive } from "@effect-resilience/core"
import { RedisConnection, RedisEventStream } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Exit, Fiber, Layer, Logger, Ref, Scope, Stream } from "effect"
import { Redis } from "ioredis"
import { readdirSync } from "node:fs"
import { emit, numbers, onlyChanges, quiet, range, until } from "./utils/events.js"
import { scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"

const to = (server: Server) => RedisConnection.layer({ server: { _tag: "Standalone", url: server.url } })

const loud = (server: Server, options: RedisEventStream.Options = {}) =>
  RedisEventStream.layer({ flushInterval: "5 millis", filter: onlyChanges, ...options }).pipe(
    Layer.provideMerge(ResilienceLive),
    Layer.provideMerge(to(server))
  )
const publishing = (server: Server, options?: RedisEventStream.Options) =>
  Layer.provideMerge(loud(server, options), quiet)

/** Everything that a follower was told, for as long as the scope is open. */
const followed = (from: RedisEventStream.From) =>
  Effect.gen(function*() {
    const told = yield* Ref.make<ReadonlyArray<RedisEventStream.Element>>([])
    yield* RedisEventStream.follow({ from }).pipe(
      Stream.runForEachChunk((chunk) => Ref.update(told, (all) => [...all, ...chunk])),
      Effect.forkScoped
    )
    return Ref.get(told)
  })

/** A connection that is not under test. */
const observer = (server: Server) =>
  Effect.acquireRelease(
    Effect.sync(() => new Redis(server.url).on("error", () => {})),
    (redis) => Effect.sync(() => redis.disconnect())
  )
const clientsOf = (redis: Redis) =>
  Effect.promise(async () => String(await redis.client("LIST")).trim().split("\n").length)
const published = (count: number) =>
  until(Effect.map(RedisEventStream.metrics, (metrics) => metrics.published === count))
const isAt = (told: Effect.Effect<ReadonlyArray<RedisEventStream.Element>>, last: number) =>
  until(Effect.map(told, (elements) => numbers(elements).at(-1) === last))

describe.skipIf(!canStart)("the stream of events, when Redis fails", () => {
  it.scopedLive("RE1: many events go in few round trips", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* observer(server)
      yield* Effect.gen(function*() {
        for (let n = 1; n <= 4000; n += 1000) {
          yield* emit(n, n + 999)
          yield* published(n + 999)
        }
        const stats = yield* Effect.promise(() => redis.info("commandstats"))
        const calls = Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1])
        // Four for a thousand, and those of the heartbeat.
        expect(calls).toBeGreaterThan(0)
        expect(calls).toBeLessThan(60)
      }).pipe(Effect.provide(publishing(server)))
    }))

  it.scopedLive("RE1: a pause of the server loses nothing, repeats nothing and holds no call up", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      yield* Effect.gen(function*() {
        const told = yield* followed("start")
        yield* emit(1, 100)
        yield* isAt(told, 100)
        // Some are on their way when it stops, and are sent again.
        yield* emit(101, 400)
        server.pause()
        const breaker = yield* CircuitBreaker.make({ name: "payments" })
        // Ten thousand calls. If any waited for Redis, they would not end within the time of this test.
        for (let n = 401; n <= 1400; n += 100) {
          yield* emit(n, n + 99)
          yield* Effect.repeatN(breaker.withBreaker(Effect.void), 999)
          yield* Effect.sleep("150 millis")
        }
        expect((yield* RedisEventStream.metrics).failing).toBe(true)
        server.resume()
        yield* isAt(told, 1400)
        const elements = yield* told
        expect(numbers(elements)).toEqual(range(1, 1400))
        expect(elements).toHaveLength(1400)
        expect(yield* RedisEventStream.metrics).toMatchObject({ dropped: 0, failing: false })
      }).pipe(Effect.provide(publishing(server)))
    }))

  it.scopedLive("RE3: while the server is dead the newest wait, and a follower goes on when it is back", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const logs: Array<string> = []
      const logger = Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => logs.push(String(message))))
      yield* Effect.gen(function*() {
        const told = yield* followed("start")
        yield* emit(1, 50)
        yield* isAt(told, 50)
        yield* Effect.promise(() => server.kill())
        yield* emit(51, 60)
        yield* until(Effect.map(RedisEventStream.metrics, ({ failing }) => failing))
        for (let n = 101; n <= 1000; n += 100) yield* emit(n, n + 99)
        // What was sent, and the report that it cannot be published.
        yield* until(Effect.map(RedisEventStream.metrics, ({ dropped, waiting }) => dropped + waiting === 911))
        // What the queue holds, and a batch that was on its way.
        const { waiting } = yield* RedisEventStream.metrics
        expect(waiting).toBeGreaterThanOrEqual(200)
        expect(waiting).toBeLessThanOrEqual(211)
        yield* Effect.promise(() => server.start())
        yield* isAt(told, 1000)
        const elements = yield* told
        // The server kept nothing: its stream began anew.
        expect(elements.filter(({ _tag }) => _tag === "Gap")).toMatchObject([{ lost: undefined }])
        expect(elements[50]?._tag).toBe("Gap")
        expect(numbers(elements).slice(0, 50)).toEqual(range(1, 50))
        expect(numbers(elements).slice(-200)).toEqual(range(801, 1000))
        expect(new Set(numbers(elements)).size).toBe(numbers(elements).length)
        expect(logs.filter((text) => text.includes("events wait, the last 200"))).toHaveLength(1)
        expect(logs.filter((text) => /published again, \d+ were dropped/.test(text))).toHaveLength(1)
      }).pipe(Effect.provide(Layer.provideMerge(
        loud(server, { queue: 200, filter: RedisEventStream.everything }),
        logger
      )))
    }))

  it.scopedLive("RE6: a stream that is emptied is a gap, and goes on", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* observer(server)
      yield* Effect.gen(function*() {
        const told = yield* followed("start")
        yield* emit(1, 10)
        yield* isAt(told, 10)
        yield* Effect.promise(() => redis.flushall())
        yield* emit(11, 20)
        yield* isAt(told, 20)
        const elements = yield* told
        expect(numbers(elements)).toEqual(range(1, 20))
        expect(elements.map(({ _tag }, i) => _tag === "Gap" ? i : -1).filter((i) => i >= 0)).toEqual([10])
      }).pipe(Effect.provide(publishing(server)))
    }))

  it.scopedLive("RE2: a connection that is cut again and again loses nothing and repeats nothing", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* observer(server)
      yield* Effect.gen(function*() {
        const told = yield* followed("start")
        for (let n = 1; n <= 1000; n += 100) {
          yield* emit(n, n + 99)
          yield* Effect.sleep("10 millis")
          yield* Effect.promise(() => redis.client("KILL", "TYPE", "normal", "SKIPME", "yes"))
        }
        yield* isAt(told, 1000)
        const elements = yield* told
        expect(numbers(elements)).toEqual(range(1, 1000))
        expect(elements).toHaveLength(1000)
      }).pipe(Effect.provide(publishing(server)))
    }))

  it.scopedLive("RE6: a stream whose end fell back behind a follower is followed from there", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* observer(server)
      yield* Effect.gen(function*() {
        const told = yield* followed("99999999999999-0")
        yield* until(Effect.map(told, (elements) => elements.length === 1))
        yield* Effect.sleep("100 millis")
        yield* emit(1, 3)
        yield* isAt(told, 3)
        expect((yield* told)[0]).toEqual({ _tag: "Gap", after: "99999999999999-0", before: undefined, lost: undefined })
        expect(yield* Effect.promise(() => redis.xlen("resilience:e:{events}"))).toBe(3)
      }).pipe(Effect.provide(publishing(server)))
    }))

  const ends = (name: string, disturb: (server: Server) => void) =>
    it.scopedLive(`RE8: a follower and a publisher end at once while ${name}`, () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const scope = yield* Scope.make()
        yield* Effect.gen(function*() {
          const context = yield* Effect.context<RedisConnection | RedisEventStream>()
          const told = yield* followed("start")
          yield* emit(1, 1)
          yield* isAt(told, 1)
          yield* Effect.sync(() => disturb(server))
          yield* emit(2, 2)
          yield* Effect.sleep("50 millis")
          return context
        }).pipe(
          Effect.provide(yield* Layer.buildWithScope(publishing(server), scope)),
          Effect.provideService(Scope.Scope, scope)
        )
        const began = performance.now()
        yield* Scope.close(scope, Exit.void)
        expect(performance.now() - began).toBeLessThan(1000)
      }))
  ends("it waits for news", () => {})
  ends("the server is paused", (server) => server.pause())
  ends("the server is dead", (server) => void server.kill())

  it.scopedLive("RE9: a follower that is interrupted anywhere leaves no connection behind", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* observer(server)
      yield* Effect.gen(function*() {
        yield* emit(1, 20)
        yield* published(20)
        const before = yield* clientsOf(redis)
        const reached = { none: 0, some: 0 }
        for (let steps = 0; steps < scale(40, 200); steps++) {
          for (const budget of [10, 14]) {
            let seen = 0
            const follower = yield* Effect.fork(
              RedisEventStream.follow({ from: "start" }).pipe(
                Stream.runForEach(() => Effect.sync(() => seen++)),
                Effect.withMaxOpsBeforeYield(budget)
              )
            )
            for (let n = 0; n < steps * 3; n++) yield* Effect.yieldNow()
            if (steps % 8 === 7) yield* Effect.sleep(`${steps} millis`)
            yield* Fiber.interrupt(follower)
            if (seen === 0) reached.none++
            else reached.some++
          }
        }
        // It was met before its first entry, and in the middle.
        expect(reached.none).toBeGreaterThan(0)
        expect(reached.some).toBeGreaterThan(0)
        yield* until(Effect.map(clientsOf(redis), (clients) => clients === before))
      }).pipe(Effect.provide(publishing(server)))
    }))

  it.scopedLive("RE7: followers that come and go miss nothing between them", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      yield* Effect.gen(function*() {
        const done = yield* Deferred.make<void>()
        const count = scale(2000, 20_000)
        const writing = yield* Effect.fork(Effect.gen(function*() {
          for (let n = 1; n <= count; n += 100) {
            yield* emit(n, n + 99)
            yield* Effect.sleep("5 millis")
          }
          yield* Deferred.succeed(done, void 0)
        }))
        let from: RedisEventStream.From = "start"
        let all: ReadonlyArray<number> = []
        // Each deals with some, says the id of the last, and ends.
        for (let size = 1; all.length < count; size = size * 7 % 101 + 1) {
          const some: ReadonlyArray<RedisEventStream.Element> = Chunk.toReadonlyArray(
            yield* RedisEventStream.follow({ from }).pipe(
              Stream.take(Math.min(size, count - all.length)),
              Stream.runCollect
            )
          )
          all = [...all, ...numbers(some)]
          const last: RedisEventStream.Element | undefined = some.at(-1)
          if (last?._tag === "Event") from = last.id
        }
        expect(all).toEqual(range(1, count))
        yield* Fiber.join(writing)
      }).pipe(Effect.provide(publishing(server, { maxLength: 100_000 })))
    }))

  it.scopedLive(
    "pauses and cuts at random, for a while: all arrives once, and nothing grows",
    () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const redis = yield* observer(server)
        const seed = Date.now() % 100_000
        let state = seed
        const random = (below: number) => (state = state * 1_103_515_245 % 2_147_483_647) % below
        yield* Effect.gen(function*() {
          const told = yield* followed("start")
          yield* emit(1, 1)
          yield* isAt(told, 1)
          const before = { clients: yield* clientsOf(redis), files: readdirSync("/proc/self/fd").length }
          const end = performance.now() + scale(2000, 60_000)
          let last = 1
          while (performance.now() < end) {
            const fault = random(3)
            if (fault === 0) server.pause()
            if (fault === 1) yield* Effect.promise(() => redis.client("KILL", "TYPE", "normal", "SKIPME", "yes"))
            const count = 100 * (1 + random(10))
            yield* emit(last + 1, last + count)
            last += count
            yield* Effect.sleep(random(250))
            if (fault === 0) server.resume()
            yield* until(Effect.map(RedisEventStream.metrics, ({ waiting }) => waiting < 2000))
          }
          yield* isAt(told, last)
          expect(numbers(yield* told), `seed ${seed}`).toEqual(range(1, last))
          // The last batch may be there before its publisher hears of it, or has to send it again.
          yield* until(Effect.map(RedisEventStream.metrics, ({ waiting }) => waiting === 0))
          expect(yield* RedisEventStream.metrics).toMatchObject({ published: last, dropped: 0 })
          yield* until(Effect.map(clientsOf(redis), (clients) => clients === before.clients))
          yield* until(Effect.sync(() => readdirSync("/proc/self/fd").length <= before.files))
        }).pipe(Effect.provide(publishing(server, { maxLength: 1_000_000 })))
      }),
    90_000
  )

  it.scopedLive("RE14: a consumer asks rarely where its group cannot be made, and fails where it may not", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* observer(server)
      const asked = Effect.promise(async () =>
        Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info("commandstats"))?.[1] ?? 0)
      )
      const dealt = yield* Ref.make(0)
      yield* Effect.gen(function*() {
        yield* until(Effect.map(asked, (calls) => calls > 0))
        yield* Effect.promise(() => redis.config("SET", "maxmemory", "1"))
        const consuming = yield* Effect.fork(
          RedisEventStream.consume({ group: "mail", from: "start" }, () => Ref.update(dealt, (n) => n + 1))
        )
        const before = yield* asked
        yield* Effect.sleep("500 millis")
        expect((yield* asked) - before).toBeLessThan(20)
        // It goes on as soon as there is room.
        yield* Effect.promise(() => redis.config("SET", "maxmemory", "0"))
        yield* emit(1, 3)
        yield* until(Effect.map(dealt, (n) => n === 3))
        yield* Fiber.interrupt(consuming)
      }).pipe(Effect.provide(publishing(server)))

      yield* Effect.promise(() =>
        redis.acl("SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-xgroup|create") as Promise<unknown>
      )
      const limited = RedisConnection.layer({
        server: { _tag: "Standalone", url: server.url.replace("//", "//reader:secret@") }
      })
      const failed = yield* RedisEventStream.consume({ group: "other" }, () => Effect.void).pipe(
        Effect.flip,
        Effect.timeout("5 seconds"),
        Effect.provide(Layer.provideMerge(limited, quiet))
      )
      expect(failed).toMatchObject({ _tag: "RedisUnavailableError", reason: "Denied" })
    }))
})
