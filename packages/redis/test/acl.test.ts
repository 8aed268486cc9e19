import { CircuitBreaker, RateLimiter, ResilienceLive } from "@effect-resilience/core"
import {
  RedisBulkhead,
  RedisCircuitBreaker,
  RedisConnection,
  RedisEventStream,
  RedisFleet,
  RedisRateLimiterStore
} from "@effect-resilience/redis"
import { RedisIdempotencyStore, RedisStaleStore } from "@effect-resilience/redis/http"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Stream } from "effect"
import { readFileSync } from "node:fs"
import { ask } from "./utils/ask.js"
import { emit, onlyChanges, quiet } from "./utils/events.js"
import { canStart, Server } from "./utils/server.js"
import { eventually } from "./utils/until.js"

const page = readFileSync(new URL("../../../docs/redis-connection.md", import.meta.url), "utf8")
const documented = (/ACL SETUSER ([^`]+)/.exec(page)?.[1] ?? "").trim().split(/\s+/)

/** Where a connection breaks or is idle, somebody no longer listens, or an event is not dealt with. */
const seldom = ["ping", "script|load", "unsubscribe", "xrange", "xclaim"]

const lease = Duration.minutes(1)
const response = { status: 201, headers: {}, cookies: [], body: new Uint8Array() }
const owner = { key: "k", token: "t", fingerprint: "f" }

/** All that the services do, as far as it needs rights. */
const useAll = Effect.gen(function*() {
  const store = yield* RedisRateLimiterStore.make()
  const limiter = yield* RateLimiter.make({ name: "l", rate: "10/minute", store })
  yield* limiter.consume()
  yield* limiter.peek()
  yield* limiter.reset()

  for (const strict of [false, true]) {
    const bulkhead = yield* RedisBulkhead.make({ name: `b${strict}`, maxConcurrent: 1, maxWait: "5 seconds" }, {
      strict,
      lease: 400
    })
    yield* bulkhead.withPermit(Effect.void)
  }

  const breaker = yield* CircuitBreaker.make({ name: "p", openDuration: "300 millis" }).pipe(
    Effect.provide(yield* Layer.build(RedisCircuitBreaker.layer({ quorum: 1, reportEvery: "50 millis" })))
  )
  yield* Effect.repeatN(Effect.exit(breaker.withBreaker(Effect.fail("no"))), 9)
  yield* eventually("it is closed again", Effect.isSuccess(breaker.withBreaker(Effect.void)))

  const idempotency = yield* RedisIdempotencyStore.make()
  yield* idempotency.begin({ ...owner, lease })
  yield* idempotency.complete({ ...owner, response, ttl: lease })
  const stale = yield* RedisStaleStore.make()
  yield* stale.put("s", { vary: [], response, maxAge: 60, age: 0 }, lease)
  yield* stale.get("s")

  const consumed: Array<unknown> = []
  const followed: Array<unknown> = []
  const consumer = { group: "g", consumer: "c", from: "start" as const }
  yield* Effect.forkScoped(RedisEventStream.consume(consumer, (one) => Effect.sync(() => void consumed.push(one))))
  yield* Effect.forkScoped(
    Stream.runForEach(RedisEventStream.follow({ from: "start" }), (one) => Effect.sync(() => void followed.push(one)))
  )
  yield* emit(1, 3)
  yield* eventually("they are consumed", Effect.sync(() => consumed.length >= 3 && followed.length >= 3))
  yield* RedisFleet.processes()
})

describe.skipIf(!canStart)("the rights of a user", () => {
  it.scopedLive("RN24: those of the page are enough for all services, and none is given for nothing", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      yield* Effect.promise(() => ask(server.port, "acl", "setuser", ...documented))
      const as = { _tag: "Standalone", url: `${server.url}/1`, username: "shop", password: "secret" } as const
      const services = Layer.merge(
        RedisEventStream.layer({ label: "own", flushInterval: "5 millis", filter: onlyChanges }),
        RedisFleet.layer({ label: "own", interval: "100 millis" })
      ).pipe(
        Layer.provideMerge(ResilienceLive),
        Layer.provideMerge(RedisConnection.layer({ server: as, prefix: "shop:", commandTimeout: "1 second" })),
        Layer.provideMerge(quiet)
      )
      yield* Effect.scoped(Effect.provide(useAll, services))
      const log = (yield* Effect.promise(() => ask(server.port, "acl", "log"))) as ReadonlyArray<ReadonlyArray<unknown>>
      const lacking = log.map((entry) => String(entry[7])).filter((name) => !name.startsWith("client"))
      expect(lacking).toEqual([])
      const used = String(yield* Effect.promise(() => ask(server.port, "info", "commandstats")))
      const given = documented.filter((rule) => rule.startsWith("+")).map((rule) => rule.slice(1))
      expect(given.length).toBeGreaterThan(30)
      const unused = given.filter((name) => !new RegExp(`cmdstat_${name.replace("|", ".")}[:|]`).test(used))
      expect(unused.filter((name) => !seldom.includes(name))).toEqual([])
    }))
})
