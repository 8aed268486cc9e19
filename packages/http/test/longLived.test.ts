import type { Bulkhead } from "@effect-resilience/core"
import { Registry } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Stream } from "effect"
import { fetchNode, serveNode, serveWeb } from "./utils/servers.js"
import { holds, idle, Live, one, upgrade } from "./utils/staying.js"

/** As many as there are events for, and then none. */
const events = (contentType: string) =>
  HttpServerResponse.stream(Stream.concat(Stream.make(new Uint8Array(8)), Stream.never), { contentType })

describe("what a client writes", () => {
  const policies = {
    bulkhead: HttpResilience.bulkhead({ name: "api", ...one }),
    adaptiveConcurrency: HttpResilience.adaptiveConcurrency({
      name: "api",
      initialLimit: 1,
      maxLimit: 1,
      maxQueued: 0
    }),
    standard: HttpResilience.standard({ name: "api", loadShedder: idle, bulkhead: one })
  }
  const words = {
    "Accept: text/event-stream": "Accept: text/event-stream",
    "Upgrade without Connection": "Upgrade: x",
    "an upgrade that nobody takes": "Upgrade: x\r\nConnection: Upgrade"
  }
  for (const [what, fields] of Object.entries(words)) {
    for (const [part, policy] of Object.entries(policies)) {
      it.scopedLive(`${what} gets it past no ${part}`, () =>
        Effect.gen(function*() {
          const entered = yield* Deferred.make<void>()
          const gate = yield* Deferred.make<void>()
          const wait = Effect.zipRight(Deferred.succeed(entered, undefined), Deferred.await(gate))
          const { port, url } = yield* serveNode(
            HttpRouter.empty.pipe(HttpRouter.get("/", Effect.as(wait, HttpServerResponse.text("done"))), policy)
          )
          yield* Effect.forkScoped(Effect.promise(() => fetchNode(url)))
          yield* Deferred.await(entered)
          expect((yield* upgrade(port, "/", fields)).status).toBe(503)
          yield* Deferred.succeed(gate, undefined)
          yield* holds({})
          expect((yield* upgrade(port, "/", fields)).status).toBe(200)
        }).pipe(Effect.provide(Live)))
    }
    it.scopedLive(`${what} gets it past no timeout`, () =>
      Effect.gen(function*() {
        const { port } = yield* serveNode(HttpRouter.empty.pipe(
          HttpRouter.get("/", Effect.never),
          HttpResilience.timeout({ name: "api", duration: "20 millis" })
        ))
        expect((yield* upgrade(port, "/", fields)).status).toBe(504)
      }).pipe(Effect.provide(Live)))
  }
})

describe("a stream of events", () => {
  const router = HttpRouter.empty.pipe(
    HttpRouter.get("/events", Effect.succeed(events("text/event-stream; charset=utf-8"))),
    HttpRouter.get("/failing", Effect.succeed(HttpServerResponse.setStatus(events("text/event-stream"), 500))),
    HttpRouter.get("/bytes", Effect.succeed(events("application/octet-stream"))),
    HttpRouter.get("/", HttpServerResponse.text("hello"))
  )
  const standard = HttpResilience.standard({
    name: "api",
    loadShedder: { ...idle, maxInFlight: 1, maxQueueDepth: 0 },
    backpressure: { maxPending: 1, highWaterMark: 1, lowWaterMark: 0, maxWait: 0 },
    bulkhead: one,
    longLived: one,
    adaptiveConcurrency: { initialLimit: 1, maxLimit: 1, maxQueued: 0 },
    circuitBreaker: {}
  })
  const onWeb = (policy: HttpResilience.Middleware) =>
    Effect.map(serveWeb(policy(router)), (handler) => (path: string) => {
      const controller = new AbortController()
      return Effect.promise(async () => {
        const { status } = await handler(new Request(`http://localhost${path}`, { signal: controller.signal }))
        return { status, go: Effect.sync(() => controller.abort()) }
      })
    })

  it.scopedLive("is in the bulkhead of the long-lived, and holds nothing else", () =>
    Effect.gen(function*() {
      const get = yield* onWeb(standard)
      const first = yield* get("/events")
      expect(first.status).toBe(200)
      yield* holds({ "Bulkhead api-long-lived": 1 })
      expect((yield* get("/")).status).toBe(200)
      expect((yield* get("/events")).status).toBe(503)
      yield* holds({ "Bulkhead api-long-lived": 1 })
      yield* first.go
      yield* holds({})
      expect((yield* get("/events")).status).toBe(200)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("another stream stays where it is", () =>
    Effect.gen(function*() {
      const get = yield* onWeb(
        HttpResilience.standard({ name: "api", loadShedder: idle, adaptiveConcurrency: false, bulkhead: one })
      )
      const first = yield* get("/bytes")
      yield* holds({ "LoadShedder api": 1, "Bulkhead api": 1 })
      expect((yield* get("/")).status).toBe(503)
      yield* first.go
      yield* holds({})
    }).pipe(Effect.provide(Live)))

  const alone = {
    loadShedder: HttpResilience.loadShedder({ ...idle, name: "api", maxInFlight: 1, maxQueueDepth: 0 }),
    backpressure: HttpResilience.backpressure({
      name: "api",
      maxPending: 1,
      highWaterMark: 1,
      lowWaterMark: 0,
      maxWait: 0
    }),
    adaptiveConcurrency: HttpResilience.adaptiveConcurrency({ name: "api", initialLimit: 1, maxLimit: 1, maxQueued: 0 })
  }
  for (const [part, policy] of Object.entries(alone)) {
    it.scopedLive(`does not fill a ${part}`, () =>
      Effect.gen(function*() {
        const get = yield* onWeb(policy)
        expect((yield* get("/events")).status).toBe(200)
        yield* holds({})
        expect((yield* get("/")).status).toBe(200)
      }).pipe(Effect.provide(Live)))
  }

  it.scopedLive("is held by a bulkhead that has no other beside it", () =>
    Effect.gen(function*() {
      const get = yield* onWeb(HttpResilience.bulkhead({ name: "api", ...one }))
      const first = yield* get("/events")
      yield* holds({ "Bulkhead api": 1 })
      expect((yield* get("/")).status).toBe(503)
      yield* first.go
      yield* holds({})
    }).pipe(Effect.provide(Live)))

  it.scopedLive("is held by the only bulkhead, and by nothing else", () =>
    Effect.gen(function*() {
      const get = yield* onWeb(
        HttpResilience.standard({
          name: "api",
          loadShedder: { ...idle, maxInFlight: 1, maxQueueDepth: 0 },
          backpressure: { maxPending: 1, highWaterMark: 1, lowWaterMark: 0, maxWait: 0 },
          bulkhead: { maxConcurrent: 2, maxQueued: 0 },
          longLived: false,
          adaptiveConcurrency: { initialLimit: 1, maxLimit: 1, maxQueued: 0 }
        })
      )
      const first = yield* get("/events")
      yield* holds({ "Bulkhead api": 1 })
      expect((yield* get("/")).status).toBe(200)
      const second = yield* get("/events")
      yield* holds({ "Bulkhead api": 2 })
      expect((yield* get("/")).status).toBe(503)
      yield* first.go
      yield* second.go
      yield* holds({})
    }).pipe(Effect.provide(Live)))

  it.scopedLive("that tells of a failure is one, and stays nowhere", () =>
    Effect.gen(function*() {
      const get = yield* onWeb(standard)
      const failing = yield* get("/failing")
      expect(failing.status).toBe(500)
      const { instances } = yield* Registry.snapshot
      const breaker = instances.find(({ pattern }) => pattern === "CircuitBreaker")
      expect(breaker?.metrics).toMatchObject({ succeeded: 0, failed: 1, running: 0 })
      const pool = instances.find(({ instance }) => instance === "api-long-lived")
      expect((pool?.metrics as Bulkhead.Metrics).active).toBe(0)
      yield* failing.go
      yield* holds({})
    }).pipe(Effect.provide(Live)))

  it.scopedLive("that is turned away for want of room is no failure", () =>
    Effect.gen(function*() {
      const get = yield* onWeb(standard)
      yield* get("/events")
      for (const _ of [1, 2, 3]) yield* get("/events")
      const { instances } = yield* Registry.snapshot
      const breaker = instances.find(({ pattern }) => pattern === "CircuitBreaker")
      expect(breaker?.metrics).toMatchObject({ succeeded: 1, failed: 0, ignored: 3, running: 0 })
      const pool = instances.find(({ instance }) => instance === "api-long-lived")
      expect((pool?.metrics as Bulkhead.Metrics).rejected).toBe(3)
    }).pipe(Effect.provide(Live)))
})

it.scopedLive("what the options say stays for long is in no other bulkhead, and fills no shedder", () =>
  Effect.gen(function*() {
    const entered = yield* Deferred.make<void>()
    const poll = Effect.zipRight(Deferred.succeed(entered, undefined), Effect.never)
    const { url } = yield* serveNode(HttpRouter.empty.pipe(
      HttpRouter.get("/poll", poll),
      HttpRouter.get("/", HttpServerResponse.text("hello")),
      HttpResilience.standard({
        name: "api",
        isLongLived: ({ path }) => path === "/poll",
        loadShedder: { ...idle, maxInFlight: 1, maxQueueDepth: 0 },
        bulkhead: one
      })
    ))
    let leave = () => {}
    const onSent = (request: { destroy: () => void }) => {
      leave = () => request.destroy()
    }
    yield* Effect.forkScoped(Effect.promise(() => fetchNode(`${url}/poll`, { onSent })))
    yield* Deferred.await(entered)
    yield* holds({ "Bulkhead api-long-lived": 1 })
    expect((yield* Effect.promise(() => fetchNode(url)))?.status).toBe(200)
    leave()
    yield* holds({})
  }).pipe(Effect.provide(Live)))
