import type { Bulkhead } from "@effect-resilience/core"
import { Deadline, Registry, ResilienceLive, SystemLoad } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Option, Schedule, Stream } from "effect"
import * as net from "node:net"
import { fetchNode, serveNode, serveWeb } from "./utils/servers.js"

/** A machine that is not busy, whatever runs beside the tests. */
const idle = { eventLoopDelay: "1 minute" } as const
const Live = HttpResilience.Live.pipe(
  Layer.provide(SystemLoad.layerTest({ cpu: 0, memory: 0 })),
  Layer.provideMerge(ResilienceLive)
)

/** What each instance holds that holds anything. */
const held = Effect.map(
  Registry.snapshot,
  ({ instances }) =>
    Object.fromEntries(instances.flatMap(({ instance, metrics, pattern }) => {
      const { active, pending, running } = metrics as Record<string, unknown>
      const count = active ?? pending ?? running
      return typeof count === "number" && count > 0 && pattern !== "Timeout" ? [[`${pattern} ${instance}`, count]] : []
    }))
)
/** Waits until that is held and nothing else. */
const holds = (expected: Record<string, number>) =>
  held.pipe(
    Effect.repeat({
      schedule: Schedule.spaced("5 millis"),
      until: (found) => JSON.stringify(found) === JSON.stringify(expected)
    }),
    Effect.timeout("5 seconds"),
    Effect.orDie
  )

const one = { maxConcurrent: 1, maxQueued: 0 } as const
/** As many as there are events for, and then none. */
const events = (contentType: string) =>
  HttpServerResponse.stream(Stream.concat(Stream.make(new Uint8Array(8)), Stream.never), { contentType })

/** Asks for an upgrade; the status line of what comes back, and the socket. */
const upgrade = (port: number, path: string, fields = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade") =>
  Effect.acquireRelease(
    Effect.async<{ readonly status: number; readonly socket: net.Socket }>((resume) => {
      const socket = net.connect(port, "127.0.0.1")
      socket.on("error", () => {})
      socket.once("data", (data) => resume(Effect.succeed({ status: Number(String(data).split(" ")[1]), socket })))
      const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
      socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n${fields}\r\n${key}\r\n\r\n`)
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )
const socketRoute = HttpRouter.get(
  "/socket",
  Effect.gen(function*() {
    const socket = yield* HttpServerRequest.upgrade
    yield* Effect.ignore(socket.run(() => Effect.void))
    return HttpServerResponse.empty()
  })
)

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

describe("an upgrade", () => {
  it.scopedLive("is in the bulkhead of the long-lived, and holds nothing else, under a mount too", () =>
    Effect.gen(function*() {
      const router = HttpRouter.empty.pipe(
        HttpRouter.mount("/mounted", HttpRouter.empty.pipe(socketRoute)),
        HttpRouter.get("/", HttpServerResponse.text("hello"))
      )
      const { port, url } = yield* serveNode(
        router.pipe(
          HttpResilience.standard({ name: "api", loadShedder: idle, bulkhead: one, longLived: one, circuitBreaker: {} })
        )
      )
      const first = yield* upgrade(port, "/mounted/socket")
      expect(first.status).toBe(101)
      yield* holds({ "Bulkhead api-long-lived": 1 })
      expect((yield* Effect.promise(() => fetchNode(url)))?.status).toBe(200)
      expect((yield* upgrade(port, "/mounted/socket")).status).toBe(503)
      first.socket.destroy()
      yield* holds({})
      expect((yield* upgrade(port, "/mounted/socket")).status).toBe(101)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("has no timeout once it is taken", () =>
    Effect.gen(function*() {
      const { port } = yield* serveNode(HttpRouter.empty.pipe(
        socketRoute,
        HttpResilience.standard({ name: "api", loadShedder: idle, timeout: "50 millis" })
      ))
      const { socket, status } = yield* upgrade(port, "/socket")
      expect(status).toBe(101)
      const closed = Effect.async<void>((resume) => {
        socket.once("close", () => resume(Effect.void))
      })
      expect((yield* Effect.timeoutOption(closed, "200 millis"))._tag).toBe("None")
      socket.destroy()
      yield* holds({})
    }).pipe(Effect.provide(Live)))

  it.scopedLive("has no deadline of its caller once it is taken", () =>
    Effect.gen(function*() {
      const { port } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get(
          "/socket",
          Effect.gen(function*() {
            const socket = yield* HttpServerRequest.upgrade
            seen.push(yield* Deadline.current)
            yield* Effect.ignore(socket.run(() => Effect.void))
            return HttpServerResponse.empty()
          })
        ),
        HttpRouter.get("/slow", Effect.never),
        HttpResilience.standard({ name: "api", loadShedder: idle })
      ))
      const seen: Array<Option.Option<Deadline.Instant>> = []
      const fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nX-Request-Timeout-Ms: 100"
      expect((yield* upgrade(port, "/slow", fields)).status).toBe(504)
      const { socket, status } = yield* upgrade(port, "/socket", fields)
      expect(status).toBe(101)
      const ended = Effect.async<void>((resume) => {
        for (const event of ["close", "data"]) socket.once(event, () => resume(Effect.void))
      })
      expect((yield* Effect.timeoutOption(ended, "300 millis"))._tag).toBe("None")
      expect(seen).toEqual([Option.none()])
      yield* holds({ "Bulkhead api-long-lived": 1 })
      socket.destroy()
      yield* holds({})
    }).pipe(Effect.provide(Live)))

  it.scopedLive("that is refused is refused again, and counts once", () =>
    Effect.gen(function*() {
      const { port } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get(
          "/socket",
          Effect.gen(function*() {
            const socket = yield* Effect.retry(HttpServerRequest.upgrade, { times: 1 })
            yield* Effect.ignore(socket.run(() => Effect.void))
            return HttpServerResponse.empty()
          })
        ),
        HttpResilience.standard({ name: "api", loadShedder: idle, longLived: one })
      ))
      expect((yield* upgrade(port, "/socket")).status).toBe(101)
      expect((yield* upgrade(port, "/socket")).status).toBe(503)
      const { instances } = yield* Registry.snapshot
      const pool = instances.find(({ instance }) => instance === "api-long-lived")
      expect(pool?.metrics).toMatchObject({ active: 1, rejected: 1 })
    }).pipe(Effect.provide(Live)))

  it.scopedLive("is a probe of a circuit until it is taken, and no longer", () =>
    Effect.gen(function*() {
      let isDown = true
      const { port, url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.suspend(() => isDown ? Effect.die("down") : HttpServerResponse.text("up"))),
        socketRoute,
        HttpResilience.circuitBreaker({
          name: "api",
          consecutiveFailures: 1,
          openDuration: "1 second",
          halfOpenMaxCalls: 2,
          successThreshold: 2
        })
      ))
      const get = Effect.map(Effect.promise(() => fetchNode(url)), (answer) => answer?.status)
      yield* get
      expect(yield* get).toBe(503)
      isDown = false
      const probe = Effect.map(upgrade(port, "/socket"), ({ status }) => status)
      yield* Effect.repeat(probe, { schedule: Schedule.spaced("50 millis"), until: (status) => status === 101 })
      expect(yield* probe).toBe(101)
      expect(yield* get).toBe(200)
    }).pipe(Effect.provide(Live)))
})

describe("another answer", () => {
  const asked = (respond: () => void) => ({
    respond: () =>
      Effect.sync(() => {
        respond()
        return HttpServerResponse.text("other")
      })
  })

  it.scopedLive("is what comes of a failure, whatever protocol the client would rather speak", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.fail("down")),
        HttpResilience.fallback({ name: "api", ...asked(() => {}) })
      ))
      const headers = { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAMAAABk" }
      const answer = yield* Effect.promise(() => fetchNode(url, { headers }))
      expect(answer).toMatchObject({ status: 200, body: "other" })
    }).pipe(Effect.provide(Live)))

  it.scopedLive("is for an upgrade that is refused, and none that is taken", () =>
    Effect.gen(function*() {
      let count = 0
      const { port } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get(
          "/socket",
          Effect.gen(function*() {
            const socket = yield* HttpServerRequest.upgrade
            yield* Effect.ignore(socket.run(() => Effect.void))
            return yield* Effect.die("the socket is closed")
          })
        ),
        HttpResilience.standard({ name: "api", loadShedder: idle, longLived: one, fallback: asked(() => count++) })
      ))
      const taken = yield* upgrade(port, "/socket")
      expect(taken.status).toBe(101)
      expect((yield* upgrade(port, "/socket")).status).toBe(200)
      expect(count).toBe(1)
      taken.socket.destroy()
      yield* holds({})
      expect(count).toBe(1)
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
