import type { InternalError } from "@effect-resilience/core"
import { EventBus, Registry, ResilienceLive } from "@effect-resilience/core"
import { HttpResilience, IdempotencyStore, StaleStore } from "@effect-resilience/http"
import { RedisConnection } from "@effect-resilience/redis"
import { RedisIdempotencyStore, RedisStaleStore } from "@effect-resilience/redis/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import type { Scope } from "effect"
import { Deferred, Duration, Effect, Layer, Option } from "effect"
import { inject } from "vitest"
import { fetchNode, serveNode } from "../../http/test/utils/servers.js"
import { connect, freshPrefix } from "./utils/connected.js"
import { scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"

const url = String(inject("redisUrl"))
/** How long the machine may keep one waiting: among all tests it is busy. */
const lag = scale(1000, 150)

const hasRedis = inject("redisUrl") !== undefined

const response = { status: 201, headers: { a: "b" }, cookies: ["c=d"], body: new Uint8Array([0, 255]) }
const owner = { key: "k", token: "t", fingerprint: "f" }
const lease = Duration.minutes(1)
const ttl = Duration.hours(24)
const entry = { vary: [], response, maxAge: 60, age: 0 }

const storesOf = (redis: RedisConnection.Service) =>
  Effect.provideService(
    Effect.all({ idempotency: RedisIdempotencyStore.make(), stale: RedisStaleStore.make() }),
    RedisConnection,
    redis
  )

/** Both stores on one connection. */
const makeStores = Effect.gen(function*() {
  const redis = yield* connect(url)
  const keys = Effect.map(redis.command("keys", `${redis.prefix}*:{redis:*`), (keys) => keys as ReadonlyArray<string>)
  return { redis, keys, ...yield* storesOf(redis) }
})

describe.skipIf(!hasRedis)("what is in Redis", () => {
  it.scopedLive("RS1: every key ends with what it is for, and has a hash tag", () =>
    Effect.gen(function*() {
      const { idempotency, keys, redis, stale } = yield* makeStores
      const pttl = Effect.flatMap(
        Effect.map(keys, (keys) => keys[0]),
        (key) => redis.command("pttl", String(key))
      )
      const near = (millis: number) => [millis - 5000, millis + 1]
      const within = (reply: unknown, millis: number) => {
        expect(Number(reply)).toBeGreaterThan(near(millis)[0] ?? 0)
        expect(Number(reply)).toBeLessThanOrEqual(near(millis)[1] ?? 0)
      }
      yield* idempotency.begin({ ...owner, lease })
      within(yield* pttl, 60_000)
      expect(yield* keys).toEqual([`${redis.prefix}idempotency:{redis:k}`])
      yield* idempotency.complete({ ...owner, response, ttl })
      within(yield* pttl, 86_400_000)
      yield* redis.command("del", ...(yield* keys))
      // Kept without having been begun, and for ever.
      yield* idempotency.complete({ ...owner, response, ttl: Duration.infinity })
      within(yield* pttl, 100 * 365 * 86_400_000)
      yield* redis.command("del", ...(yield* keys))
      yield* stale.put("GET /a?who=me", entry, Duration.minutes(1))
      within(yield* pttl, 60_000)
      // It tells nothing of what was asked for.
      expect((yield* keys)[0]).toMatch(/:stale:\{redis:[\w-]{43}\}$/)
    }))

  it.scopedLive("a lease and a time to live are over in real time, by the server's clock", () =>
    Effect.gen(function*() {
      const { idempotency, keys, stale } = yield* makeStores
      yield* idempotency.begin({ ...owner, lease: Duration.millis(80) })
      yield* stale.put("a", entry, Duration.millis(80))
      expect(yield* keys).toHaveLength(2)
      yield* Effect.sleep("100 millis")
      expect(yield* keys).toHaveLength(0)
      expect((yield* idempotency.begin({ ...owner, token: "u", lease }))._tag).toBe("New")
      expect(yield* stale.get("a")).toEqual(Option.none())
    }))

  it.scopedLive("each operation is one round trip", () =>
    Effect.gen(function*() {
      const { idempotency, redis, stale } = yield* makeStores
      const calls = Effect.map(
        redis.command("info", "commandstats"),
        (text) => Number(/cmdstat_evalsha:calls=(\d+)/.exec(String(text))?.[1] ?? 0)
      )
      // The beats of all connections are scripts, too: the least of some rounds is without any.
      const round = Effect.gen(function*() {
        const before = yield* calls
        yield* idempotency.begin({ ...owner, lease })
        yield* idempotency.complete({ ...owner, response, ttl })
        yield* idempotency.begin({ ...owner, token: "u", lease })
        yield* idempotency.release(owner)
        yield* stale.put("a", entry, lease)
        yield* stale.get("a")
        return (yield* calls) - before
      })
      expect(Math.min(...yield* Effect.replicateEffect(round, 10))).toBe(6)
    }))

  it.scopedLive("stores of one name share their keys, of another they do not", () =>
    Effect.gen(function*() {
      const redis = yield* connect(url)
      const named = (name: string) =>
        Effect.provideService(RedisIdempotencyStore.make({ name }), RedisConnection, redis)
      const [first, same, other] = yield* Effect.all([named("a"), named("a"), named("b")])
      yield* first.begin({ ...owner, lease })
      expect((yield* same.begin({ ...owner, token: "u", lease }))._tag).toBe("InFlight")
      expect((yield* other.begin({ ...owner, token: "u", lease }))._tag).toBe("New")
    }))
})

describe.skipIf(!hasRedis)("what cannot be read or is too large", () => {
  /** Both stores as layers, and what is told of them. */
  const watched = (options: { readonly maxBytes?: number }) =>
    Effect.gen(function*() {
      const redis = yield* connect(url)
      const layer = Layer.mergeAll(RedisIdempotencyStore.layer(options), RedisStaleStore.layer(options)).pipe(
        Layer.provide(Layer.succeed(RedisConnection, redis)),
        Layer.provideMerge(ResilienceLive)
      )
      return { redis, context: yield* Layer.build(layer) }
    })

  it.scopedLive("RS8: a response in another form was given: it is not repeated, and its request is not carried out", () =>
    Effect.gen(function*() {
      const { idempotency, keys, redis } = yield* makeStores
      for (const other of ["2{\"whatever\":true}", "1{\"status\":\"no\"}", "1{", ""]) {
        yield* idempotency.begin({ ...owner, lease })
        yield* idempotency.complete({ ...owner, response, ttl })
        yield* redis.command("hset", String((yield* keys)[0]), "r", other)
        expect(yield* idempotency.begin({ ...owner, token: "u", lease })).toMatchObject({
          _tag: "Done",
          fingerprint: "f",
          response: { body: null }
        })
      }
    }))

  it.scopedLive("an entry in another form is none", () =>
    Effect.gen(function*() {
      const { keys, redis, stale } = yield* makeStores
      for (const other of ["2{\"whatever\":true}", "1{\"vary\":1}", "1{", ""]) {
        yield* stale.put("a", entry, lease)
        yield* redis.command("hset", String((yield* keys)[0]), "e", other)
        expect(yield* stale.get("a")).toEqual(Option.none())
      }
      yield* stale.put("a", entry, lease)
      expect(Option.isSome(yield* stale.get("a"))).toBe(true)
    }))

  it.scopedLive("a response above maxBytes is known to have been given, and that is told", () =>
    Effect.gen(function*() {
      const { context } = yield* watched({ maxBytes: 1000 })
      yield* Effect.gen(function*() {
        const store = yield* IdempotencyStore
        const told = yield* Deferred.make<InternalError>()
        yield* EventBus.on("InternalError", (event) => Deferred.succeed(told, event))
        const large = { ...response, headers: { long: "x".repeat(2000) }, body: new Uint8Array(3000) }
        expect(yield* store.complete({ ...owner, response: large, ttl })).toBe(true)
        expect(yield* store.begin({ ...owner, token: "u", lease })).toMatchObject({
          _tag: "Done",
          response: { status: 201, body: null }
        })
        const { error, instance, pattern } = yield* Deferred.await(told)
        expect([pattern, instance]).toEqual(["IdempotencyStore", "redis"])
        expect(String(error)).toMatch(/takes \d{4} bytes, and maxBytes is 1000/)
        // A thousand bytes are not too many.
        yield* store.complete({ ...owner, key: "l", response, ttl })
        expect(yield* store.begin({ ...owner, key: "l", lease })).toMatchObject({ response })
      }).pipe(Effect.provide(context))
    }))

  it.scopedLive("an entry above maxBytes is not kept, and what was there is gone", () =>
    Effect.gen(function*() {
      const { context } = yield* watched({ maxBytes: 1000 })
      const store = yield* Effect.provide(StaleStore, context)
      yield* store.put("a", entry, lease)
      const large = { ...entry, response: { ...response, body: new Uint8Array(3000) } }
      const error = yield* Effect.flip(store.put("a", large, lease))
      expect(error.message).toMatch(/^StaleStore: put failed: an entry takes \d{4} bytes, and maxBytes is 1000$/)
      expect(yield* store.get("a")).toEqual(Option.none())
    }))

  it.scopedLive("operators see the store, and what it did", () =>
    Effect.gen(function*() {
      const { context } = yield* watched({})
      const snapshot = yield* Effect.gen(function*() {
        const store = yield* IdempotencyStore
        yield* store.begin({ ...owner, lease })
        yield* store.begin({ ...owner, token: "u", lease })
        yield* store.begin({ ...owner, token: "u", fingerprint: "g", lease })
        yield* store.complete({ ...owner, response, ttl })
        yield* store.begin({ ...owner, token: "u", lease })
        return yield* Registry.snapshot
      }).pipe(Effect.provide(context))
      expect(snapshot.instances).toMatchObject([{
        pattern: "IdempotencyStore",
        instance: "redis",
        metrics: { offered: 4, admitted: 1, conflicts: 1, mismatches: 1, replayed: 1, storeErrors: 0 }
      }])
    }))

  it.scopedLive("a bad option is refused by name", () =>
    Effect.gen(function*() {
      const redis = yield* connect(url)
      for (
        const [make, what] of [
          [
            RedisIdempotencyStore.make({ name: "a}b" }),
            "option name must be a string of 1 to 100 characters without braces"
          ],
          [RedisStaleStore.make({ name: "{a" }), "option name must be a string of 1 to 100 characters without braces"],
          [RedisIdempotencyStore.make({ maxBytes: -1 }), "RedisIdempotencyStore \"redis\": option maxBytes"],
          [RedisStaleStore.make({ name: "" }), "RedisStaleStore \"\": option name"],
          [RedisStaleStore.make({ ttl: 1 } as never), "RedisStaleStore \"redis\": has no option \"ttl\""]
        ] as const
      ) {
        const made = Effect.provideService(
          make as Effect.Effect<unknown, never, RedisConnection | Scope.Scope>,
          RedisConnection,
          redis
        )
        const message = yield* Effect.catchAllDefect(made, (defect) => Effect.succeed((defect as Error).message))
        expect(message).toContain(what)
      }
    }))
})

describe.skipIf(!canStart)("a Redis in trouble", () => {
  const all = (
    { idempotency, stale }: Effect.Effect.Success<ReturnType<typeof storesOf>>
  ): ReadonlyArray<Effect.Effect<unknown, { readonly operation: string; readonly reason?: string | undefined }>> => [
    idempotency.begin({ ...owner, lease }),
    idempotency.complete({ ...owner, response, ttl }),
    idempotency.release(owner),
    stale.put("a", entry, lease),
    stale.get("a")
  ]
  /** What each operation fails with, and the longest that one took. */
  const failures = (stores: Effect.Effect.Success<ReturnType<typeof storesOf>>) =>
    Effect.gen(function*() {
      const told: Array<string> = []
      let longest = 0
      for (const operation of all(stores)) {
        const started = performance.now()
        const error = yield* Effect.flip(operation)
        longest = Math.max(longest, performance.now() - started)
        told.push([error.operation, error.reason].filter((word) => word !== undefined).join(" "))
      }
      return { told, longest }
    })

  it.scopedLive("RS4: one that hangs: each operation fails within its deadline, and does nothing later", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* connect(server.url, { commandTimeout: "100 millis" })
      const stores = yield* storesOf(redis)
      yield* stores.idempotency.begin({ ...owner, key: "other", lease })
      server.pause()
      const { longest, told } = yield* failures(stores)
      server.resume()
      for (const [n, what] of ["begin", "complete", "release", "put", "get"].entries()) {
        expect(told[n]).toMatch(new RegExp(`^${what}( Timeout| Unavailable)?$`))
      }
      expect(told[0]).toBe("begin Timeout")
      expect(longest).toBeLessThan(100 + lag)
      const names = Effect.repeat(
        Effect.zipLeft(Effect.option(redis.command("keys", `${redis.prefix}*:{redis:*`)), Effect.sleep("20 millis")),
        { until: Option.isSome }
      )
      expect(yield* names).toEqual(Option.some([`${redis.prefix}idempotency:{redis:other}`]))
    }))

  it.scopedLive("one that is gone: each operation fails at once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const stores = yield* storesOf(yield* connect(server.url))
      yield* Effect.promise(() => server.kill())
      const { longest, told } = yield* failures(stores)
      expect(told).toEqual([
        "begin Unavailable",
        "complete Unavailable",
        "release Unavailable",
        "put Unavailable",
        "get Unavailable"
      ])
      expect(longest).toBeLessThan(100 + lag)
    }))

  it.scopedLive("one that hangs: pages are served as without a store, what was kept is served by another process", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const prefix = freshPrefix()
      let isDown = false
      const app = HttpRouter.empty.pipe(
        HttpRouter.get(
          "/page",
          Effect.suspend(() =>
            isDown ? Effect.fail("down") : HttpServerResponse.text("page", { headers: { "cache-control": "public" } })
          )
        ),
        HttpResilience.staleIfError({ name: "pages", timeout: "250 millis" })
      )
      const open = Effect.gen(function*() {
        const redis = yield* connect(server.url, { prefix, commandTimeout: "100 millis" })
        const context = yield* Layer.build(HttpResilience.Live.pipe(
          Layer.provide(RedisStaleStore.layer()),
          Layer.provide(Layer.succeed(RedisConnection, redis))
        ))
        const { url } = yield* Effect.provide(serveNode(app), context)
        const get = Effect.promise(async () => {
          const started = performance.now()
          const answer = await fetchNode(`${url}/page`, { headers: { host: "shop" } })
          return { status: answer?.status, headers: answer?.headers, took: performance.now() - started }
        })
        return { redis, get }
      })
      const [one, other] = yield* Effect.all([open, open])
      // A machine that is busy may not be in time at first.
      const keptByOne = Effect.zipRight(
        Effect.suspend(() => {
          isDown = false
          return one.get
        }),
        Effect.suspend(() => {
          isDown = true
          return other.get
        })
      )
      const stale = yield* Effect.repeat(keptByOne, { until: ({ status }) => status === 200 })
      expect(stale.headers?.["cache-status"]).toContain("stale-if-error")
      server.pause()
      for (const [down, status] of [[true, 500], [false, 200]] as const) {
        isDown = down
        const answer = yield* other.get
        expect(answer.status).toBe(status)
        expect(answer.took).toBeLessThan(250 + lag)
      }
      server.resume()
      isDown = true
      yield* Effect.repeat(Effect.zipLeft(other.get, Effect.sleep("20 millis")), {
        until: ({ status }) => status === 200
      })
    }))

  it.scopedLive("RS7: one that is full: it says so, and what is in flight stays in flight", () =>
    Effect.gen(function*() {
      const server = yield* Server.start(["--maxmemory-policy", "noeviction"])
      const redis = yield* connect(server.url)
      const { idempotency, stale } = yield* storesOf(redis)
      yield* idempotency.begin({ ...owner, lease })
      yield* redis.command("config", "set", "maxmemory", "1")
      expect(yield* Effect.flip(idempotency.begin({ ...owner, lease }))).toMatchObject({ reason: "Full" })
      expect(yield* Effect.flip(idempotency.complete({ ...owner, response, ttl }))).toMatchObject({ reason: "Full" })
      expect((yield* Effect.flip(stale.put("a", entry, lease))).detail).toContain("OutOfMemory")
      // Reading and letting go need no memory.
      expect((yield* idempotency.begin({ ...owner, token: "u", lease }))._tag).toBe("InFlight")
      expect(yield* stale.get("a")).toEqual(Option.none())
      expect(yield* idempotency.release(owner)).toBe(true)
    }))
})
