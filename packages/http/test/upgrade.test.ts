import { Deadline, Registry } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpRouter,
  HttpServerRequest,
  HttpServerResponse
} from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option, Schedule, Schema } from "effect"
import { fetchNode, serveNode } from "./utils/servers.js"
import { holds, idle, Live, one, socketRoute, upgrade } from "./utils/staying.js"

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

describe("an upgrade in an HttpApi", () => {
  class Protect extends HttpApiMiddleware.Tag<Protect>()("Protect", { failure: HttpResilience.Failure }) {}
  const endpoint = HttpApiEndpoint.get("socket", "/socket").addSuccess(Schema.Void)
  const api = HttpApi.make("api").add(HttpApiGroup.make("all").add(endpoint).middleware(Protect))

  it.scopedLive("is in the bulkhead of the long-lived, without a deadline, or is told that there is no room", () =>
    Effect.gen(function*() {
      const seen: Array<Option.Option<Deadline.Instant>> = []
      const group = HttpApiBuilder.group(
        api,
        "all",
        (handlers) =>
          handlers.handleRaw("socket", ({ request }) =>
            Effect.gen(function*() {
              const socket = yield* request.upgrade
              seen.push(yield* Deadline.current)
              yield* Effect.ignore(socket.run(() => Effect.void))
              return HttpServerResponse.empty()
            }).pipe(Effect.orDie))
      )
      const options = { name: "api", loadShedder: idle, bulkhead: one, longLived: one, circuitBreaker: {} }
      const layer = HttpApiBuilder.api(api).pipe(
        Layer.provide(group),
        Layer.provide(Layer.effect(Protect, HttpResilience.apiMiddleware(options))),
        Layer.merge(HttpApiBuilder.Router.Live),
        Layer.merge(HttpApiBuilder.Middleware.layer)
      )
      const { port } = yield* serveNode(yield* Effect.provide(HttpApiBuilder.httpApp, layer))
      const fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nX-Request-Timeout-Ms: 5000"
      const first = yield* upgrade(port, "/socket", fields)
      expect(first.status).toBe(101)
      yield* holds({ "Bulkhead api-long-lived": 1 })
      expect(seen).toEqual([Option.none()])
      expect((yield* upgrade(port, "/socket", fields)).status).toBe(503)
      const { instances } = yield* Registry.snapshot
      const breaker = instances.find(({ pattern }) => pattern === "CircuitBreaker")
      expect(breaker?.metrics).toMatchObject({ succeeded: 1, failed: 0, ignored: 1, running: 0 })
      first.socket.destroy()
      yield* holds({})
    }).pipe(Effect.provide(Live)))
})
