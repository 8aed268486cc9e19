import { Drain, Health, HttpResilience } from "@effect-resilience/http"
import { NodeDrain } from "@effect-resilience/http/node"
import type { HttpApp } from "@effect/platform"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Schedule, Scope, Stream, TestClock } from "effect"
import * as http from "node:http"
import { connect } from "node:net"
import { fetchNode, serveWeb } from "./utils/servers.js"
import { sweep } from "./utils/sweep.js"

const chunk = new Uint8Array(1024)

const makeRouter = Effect.gen(function*() {
  const gate = yield* Deferred.make<void>()
  const started = yield* Deferred.make<void>()
  const enter = Deferred.succeed(started, undefined)
  const router = HttpRouter.empty.pipe(
    HttpRouter.get("/", HttpServerResponse.text("hello")),
    HttpRouter.get("/slow", Effect.zipRight(enter, Effect.as(Deferred.await(gate), HttpServerResponse.text("slow")))),
    HttpRouter.get("/never", Effect.zipRight(enter, Effect.never)),
    HttpRouter.get("/stubborn", Effect.zipRight(enter, Effect.uninterruptible(Effect.never))),
    HttpRouter.get(
      "/stream",
      Effect.as(
        enter,
        HttpServerResponse.stream(
          Stream.concat(Stream.make(chunk), Stream.drain(Stream.fromEffect(Deferred.await(gate))))
        )
      )
    ),
    Health.route()
  )
  return { router, started, open: Deferred.succeed(gate, undefined) }
})

const silent = Logger.remove(Logger.defaultLogger)

/** A server in a scope of its own, and what `SIGTERM` does to it. */
const serve = <E>(app: HttpApp.Default<E>, options: Drain.Options) =>
  Effect.gen(function*() {
    const server = http.createServer()
    const scope = yield* Scope.make()
    const context = yield* Layer.build(
      HttpServer.serve(app).pipe(
        Layer.provideMerge(NodeDrain.layer(() => server, { port: 0, host: "127.0.0.1" }, options))
      )
    ).pipe(Scope.extend(scope))
    const address = server.address()
    const url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
    const phase = Effect.provide(Drain.phase, context)
    return {
      url,
      server,
      drain: Effect.provide(Drain.drain, context),
      get: (path: string, options?: Parameters<typeof fetchNode>[1]) =>
        Effect.promise(() => fetchNode(url + path, options)),
      close: Effect.fork(Scope.close(scope, Exit.void)),
      until: (wanted: Drain.Phase) =>
        phase.pipe(
          Effect.repeat({ schedule: Schedule.spaced("2 millis"), until: (phase) => phase === wanted }),
          Effect.timeout("5 seconds"),
          Effect.orDie
        )
    }
  })

/** A handler that listens as long as its socket is open. */
const listening = Effect.gen(function*() {
  const socket = yield* HttpServerRequest.upgrade
  yield* Effect.ignore(socket.run(() => Effect.void))
  return HttpServerResponse.empty()
})

/** Opens a WebSocket by hand, and says no more, whatever comes; returns when it is open. */
const openDeaf = (url: string) =>
  Effect.flatMap(
    Effect.acquireRelease(
      Effect.sync(() => connect(Number(new URL(url).port), "127.0.0.1")),
      (socket) => Effect.sync(() => socket.destroy())
    ),
    (socket) =>
      Effect.async<string>((resume) => {
        socket.on("error", () => {})
        socket.once("data", (data) => resume(Effect.succeed(data.toString().split("\r\n")[0] ?? "")))
        socket.write([
          "GET /ws HTTP/1.1",
          "Host: localhost",
          "Connection: Upgrade",
          "Upgrade: websocket",
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
          "Sec-WebSocket-Version: 13",
          "",
          ""
        ].join("\r\n"))
      })
  )

describe("on Node", () => {
  it.scopedLive(
    "a WebSocket whose peer does not answer holds it up no longer than the limit",
    () =>
      Effect.gen(function*() {
        const app = HttpRouter.empty.pipe(HttpRouter.get("/ws", listening))
        const { close, url } = yield* serve(app, { delay: 0, limit: "100 millis" })
        expect(yield* openDeaf(url)).toBe("HTTP/1.1 101 Switching Protocols")
        const [elapsed] = yield* Effect.timed(Effect.flatMap(close, Fiber.join))
        // The limit, and the second in which what is interrupted may still end.
        expect(Duration.toMillis(elapsed)).toBeLessThan(3000)
      }).pipe(Effect.timeout("8 seconds"), Effect.provide(silent)),
    10_000
  )

  it.scopedLive("a request that comes before there is a handler is told to come again", () =>
    Effect.gen(function*() {
      const server = http.createServer()
      const context = yield* Layer.build(NodeDrain.layer(() => server, { port: 0, host: "127.0.0.1" }, { delay: 0 }))
      const address = server.address()
      const url = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
      const get = Effect.promise(() => fetchNode(url, { agent: new http.Agent({ keepAlive: true }) }))
      const early = yield* get
      expect(early).toMatchObject({
        status: 503,
        headers: {
          "connection": "close",
          "cache-control": "no-store",
          "content-type": "application/problem+json",
          "retry-after": "1"
        }
      })
      expect(JSON.parse(early?.body ?? "")).toMatchObject({ _tag: "ServiceUnavailable", status: 503 })
      expect(yield* openDeaf(url)).toBe("HTTP/1.1 503 Service Unavailable")

      const { router } = yield* makeRouter
      yield* Effect.provide(Layer.build(HttpServer.serve(router)), context)
      expect(yield* get).toMatchObject({ status: 200, body: "hello", headers: { connection: "keep-alive" } })
    }).pipe(Effect.timeout("4 seconds")))

  it.scopedLive("readiness turns first, then new requests are refused, then those under way are done", () =>
    Effect.gen(function*() {
      const { open, router, started } = yield* makeRouter
      const { close, get, server, until, url } = yield* serve(router, { delay: "300 millis", limit: "10 seconds" })
      const slow = yield* Effect.fork(get("/slow"))
      yield* Deferred.await(started)
      expect((yield* get("/ready"))?.status).toBe(200)
      expect((yield* get("/", { agent: new http.Agent({ keepAlive: true }) }))?.headers.connection).toBe("keep-alive")

      const closed = yield* close
      yield* until("Leaving")
      expect((yield* get("/ready"))?.status).toBe(503)
      const still = yield* get("/", { agent: new http.Agent({ keepAlive: true }) })
      expect(still).toMatchObject({ status: 200, body: "hello", headers: { connection: "close" } })

      yield* until("Refusing")
      const refused = yield* get("/", { agent: new http.Agent({ keepAlive: true }) })
      expect(refused).toMatchObject({
        status: 503,
        headers: { "connection": "close", "cache-control": "no-store", "content-type": "application/problem+json" }
      })
      expect(Number(refused?.headers["retry-after"])).toBeGreaterThanOrEqual(1)
      expect(Number(refused?.headers["retry-after"])).toBeLessThanOrEqual(2)
      expect(JSON.parse(refused?.body ?? "")).toEqual({
        _tag: "ServiceUnavailable",
        type: "about:blank",
        title: "Service Unavailable",
        status: 503
      })
      expect((yield* get("/health"))?.status).toBe(200)
      expect((yield* get("/ready"))?.status).toBe(503)

      yield* open
      expect(yield* slow).toMatchObject({ status: 200, body: "slow", headers: { connection: "close" } })
      yield* closed
      expect(server.listening).toBe(false)
      expect(yield* Effect.promise(() => fetchNode(url))).toBe(undefined)
    }))

  it.scopedLive("connections that are kept alive end by themselves, or with the server", () =>
    Effect.gen(function*() {
      const { router } = yield* makeRouter
      const { close, get, server, until } = yield* serve(router, { delay: "300 millis", limit: "10 seconds" })
      const connections = Effect.async<number>((resume) =>
        void server.getConnections((_, count) => resume(Effect.succeed(count)))
      )
      const agent = () => new http.Agent({ keepAlive: true, maxSockets: 1 })
      const [busy, idle] = [agent(), agent()]
      yield* get("/", { agent: busy })
      yield* get("/", { agent: busy })
      yield* get("/", { agent: idle })
      expect(yield* connections).toBe(2)
      const closed = yield* close
      yield* until("Leaving")
      // This one is told, and is gone before anybody is refused.
      yield* get("/", { agent: busy })
      yield* Effect.repeat(connections, { schedule: Schedule.spaced("2 millis"), until: (count) => count === 1 })
      // The other never asks again, and does not hold the server up.
      yield* closed
      expect(yield* connections).toBe(0)
    }))

  it.scopedLive("HT2: at the limit a handler is interrupted, and its client told; a body is broken off", () =>
    Effect.gen(function*() {
      const { router } = yield* makeRouter
      const { close, drain, get } = yield* serve(router, { delay: 0, limit: "200 millis" })
      const never = yield* Effect.fork(get("/never"))
      const head = yield* Deferred.make<void>()
      const stream = yield* Effect.fork(get("/stream", {
        onHead: (response) => response.once("data", () => Effect.runSync(Deferred.succeed(head, undefined)))
      }))
      yield* Deferred.await(head)
      const closed = yield* close
      expect(yield* never).toMatchObject({ status: 503, headers: { connection: "close" } })
      expect((yield* never)?.headers["retry-after"]).toMatch(/^[12]$/)
      expect(yield* stream).toMatchObject({ status: 200, complete: false })
      yield* closed
      expect(yield* drain).toMatchObject({ interrupted: 2, abandoned: 0 })
    }).pipe(Effect.provide(silent)))

  it.scopedLive("what cannot be interrupted is left behind", () =>
    Effect.gen(function*() {
      const { router, started } = yield* makeRouter
      const { close, drain, get, server } = yield* serve(router, { delay: 0, limit: 0 })
      const stubborn = yield* Effect.fork(get("/stubborn"))
      yield* Deferred.await(started)
      yield* yield* close
      expect(server.listening).toBe(false)
      expect(yield* stubborn).toBe(undefined)
      const { abandoned, elapsed, interrupted } = yield* drain
      expect({ abandoned, interrupted }).toEqual({ abandoned: 1, interrupted: 1 })
      expect(Duration.toMillis(elapsed)).toBeLessThan(5000)
    }).pipe(Effect.provide(silent)))

  it.scopedLive("a client that goes while the server drains holds nothing up", () =>
    Effect.gen(function*() {
      const { router } = yield* makeRouter
      const { close, drain, get, until } = yield* serve(router, { delay: 0, limit: "10 seconds" })
      const gone = yield* Deferred.make<http.ClientRequest>()
      yield* Effect.fork(get("/stream", {
        onHead: (_, request) => Effect.runSync(Deferred.succeed(gone, request))
      }))
      const request = yield* Deferred.await(gone)
      const closed = yield* close
      yield* until("Refusing")
      request.destroy()
      yield* closed
      expect(yield* drain).toMatchObject({ interrupted: 0, abandoned: 0 })
    }))
})

describe("Drain", () => {
  const ask = (handler: (request: Request) => Promise<Response>, path: string) =>
    Effect.promise(() => handler(new Request(`http://x.test${path}`)))

  it.scoped("takes the time it is given, and no more than it needs", () =>
    Effect.gen(function*() {
      const { open, router, started } = yield* makeRouter
      const handler = yield* serveWeb(router.pipe(Drain.middleware))
      const slow = handler(new Request("http://x.test/slow"))
      yield* Deferred.await(started)
      const done = yield* Effect.fork(Drain.drain)
      yield* TestClock.adjust("4999 millis")
      expect(yield* Drain.phase).toBe("Leaving")
      yield* TestClock.adjust("1 millis")
      expect(yield* Drain.phase).toBe("Refusing")
      yield* TestClock.adjust("19 seconds")
      expect(yield* Drain.phase).toBe("Refusing")
      yield* open
      expect((yield* Effect.promise(() => slow)).status).toBe(200)
      expect(yield* Fiber.join(done)).toEqual({ interrupted: 0, abandoned: 0, elapsed: Duration.seconds(24) })
      expect(yield* Drain.phase).toBe("Drained")
      expect((yield* ask(handler, "/")).status).toBe(503)
    }).pipe(Effect.provide(Drain.Live)))

  it.scoped("says in the log that it has begun and how long it may take, and that it is over", () => {
    const told: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void told.push(`${logLevel.label} ${String(message)}`))
    return Effect.gen(function*() {
      const { open, router, started } = yield* makeRouter
      const handler = yield* serveWeb(router.pipe(Drain.middleware))
      void handler(new Request("http://x.test/slow"))
      yield* Deferred.await(started)
      const done = yield* Effect.fork(Drain.drain)
      yield* TestClock.adjust("1 second")
      expect(told).toEqual(["INFO Draining: 1 in flight, new ones refused after 5s, all interrupted after 25s"])
      yield* TestClock.adjust("9 seconds")
      yield* open
      yield* Fiber.join(done)
      yield* Drain.drain
      expect(told.slice(1)).toEqual(["INFO Drained in 10000 ms"])
    }).pipe(Effect.provide([Drain.Live, Logger.replace(Logger.defaultLogger, logger)]))
  })

  it.scoped("there is one drain, whoever asks, and it outlives who asked", () =>
    Effect.gen(function*() {
      const { router, started } = yield* makeRouter
      const drain = yield* Drain
      const handler = yield* serveWeb(HttpRouter.empty.pipe(
        HttpRouter.mount("/", router),
        HttpRouter.post("/admin/drain", Effect.as(drain.drain, HttpServerResponse.text("drained"))),
        Drain.middleware
      ))
      // Who asks is a request under way itself, and is told with the others.
      const admin = handler(new Request("http://x.test/admin/drain", { method: "POST" }))
      const never = handler(new Request("http://x.test/never"))
      yield* Deferred.await(started)
      const waiting = yield* Effect.fork(Drain.drain)
      yield* TestClock.adjust("5 seconds")
      const impatient = yield* Effect.fork(Drain.drain)
      yield* Fiber.interrupt(impatient)
      yield* TestClock.adjust("20 seconds")
      expect((yield* Effect.promise(() => admin)).status).toBe(503)
      expect((yield* Effect.promise(() => never)).status).toBe(503)
      expect(yield* Fiber.join(waiting)).toMatchObject({ interrupted: 2 })
      expect(yield* Drain.drain).toMatchObject({ interrupted: 2 })
    }).pipe(Effect.provide(Drain.Live), Effect.provide(silent)))

  it.scoped("excluded paths are served to the end, and nobody waits for them", () =>
    Effect.gen(function*() {
      const { router, started } = yield* makeRouter
      const handler = yield* serveWeb(router.pipe(Drain.middleware))
      void handler(new Request("http://x.test/never"))
      yield* Deferred.await(started)
      const done = yield* Effect.fork(Drain.drain)
      yield* TestClock.adjust("5 seconds")
      expect(yield* Fiber.join(done)).toEqual({ interrupted: 0, abandoned: 0, elapsed: Duration.seconds(5) })
      expect((yield* ask(handler, "/")).status).toBe(200)
      expect((yield* ask(handler, "/slow")).status).toBe(503)
    }).pipe(Effect.provide(Drain.layer({ exclude: ["/", "/never"] }))))

  it.scoped("the chain of the patterns knows it too, first of all", () =>
    Effect.gen(function*() {
      const { router } = yield* makeRouter
      const handler = yield* serveWeb(
        router.pipe(HttpResilience.standard({ name: "api", rateLimit: { rate: "1/hour" } }))
      )
      expect((yield* ask(handler, "/")).status).toBe(429)
      yield* Drain.drain
      const refused = yield* ask(handler, "/")
      expect(refused.status).toBe(503)
      expect(Object.fromEntries(refused.headers)).toMatchObject({ "connection": "close", "cache-control": "no-store" })
      expect(refused.headers.get("retry-after")).toMatch(/^[12]$/)
      expect((yield* ask(handler, "/health")).status).toBe(200)
    }).pipe(Effect.provide(HttpResilience.Live.pipe(Layer.provideMerge(Drain.layer({ delay: 0 }))))))

  const request = HttpServerRequest.fromWeb(new Request("http://x.test/"))

  it.effect("no request is lost or counted twice, wherever it is interrupted", () =>
    Effect.gen(function*() {
      const drain = yield* Drain
      const { leaks, runs } = yield* sweep(
        Effect.succeed({
          with: <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<any, E, any> =>
            Effect.scoped(drain.guard(Effect.as(effect, HttpServerResponse.empty()), () => {})).pipe(
              Effect.provideService(HttpServerRequest.HttpServerRequest, request)
            ),
          whole: Effect.map(drain.inFlight, (count) => count === 0)
        })
      )
      expect(runs).toBeGreaterThan(500)
      expect(leaks).toEqual([])
    }).pipe(Effect.provide(Drain.Live)))

  it.effect("and the sweep finds one that is", () =>
    Effect.gen(function*() {
      const { leaks } = yield* sweep(
        Effect.sync(() => {
          let count = 0
          return {
            with: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
              Effect.flatMap(Effect.sync(() => count++), () => Effect.ensuring(effect, Effect.sync(() => count--))),
            whole: Effect.sync(() => count === 0)
          }
        })
      )
      expect(leaks.length).toBeGreaterThan(0)
    }))

  it("bad options are refused by name", () => {
    expect(() => Effect.runSync(Effect.scoped(Layer.build(Drain.layer({ limit: -1 }))))).toThrow(
      "Drain \"server\": option limit must be"
    )
  })
})
