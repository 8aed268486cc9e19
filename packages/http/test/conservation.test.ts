import type { Bulkhead } from "@effect-resilience/core"
import { Registry, ResilienceLive } from "@effect-resilience/core"
import { Drain, HttpResilience, Idempotency, IdempotencyStore, StaleStore } from "@effect-resilience/http"
import type { HttpApp } from "@effect/platform"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Schedule, Stream } from "effect"
import { connect } from "node:net"
import { Readable } from "node:stream"
import { fetchNode, runtimes, serveNode, serveWeb } from "./utils/servers.js"

/*
 * A permit is held until the response is sent, whatever the response is and whenever the client goes, and then it is
 * free: on the server of Node and on the handler of the web.
 */

const chunk = new Uint8Array(1024)
/** Streams until somebody opens the gate, or for ever. */
const makeRoutes = Effect.gen(function*() {
  const started = yield* Deferred.make<void>()
  const gate = yield* Deferred.make<void>()
  const enter = Deferred.succeed(started, undefined)
  const gated = Stream.concat(Stream.make(chunk), Stream.drain(Stream.fromEffect(Deferred.await(gate))))
  const router = HttpRouter.empty.pipe(
    HttpRouter.all("/text", HttpServerResponse.text("hello", { headers: { "cache-control": "public" } })),
    HttpRouter.all("/bytes", Effect.succeed(HttpServerResponse.uint8Array(new Uint8Array(60 * 1024 * 1024)))),
    HttpRouter.all("/raw", Effect.sync(() => HttpServerResponse.raw(Readable.from([chunk, chunk])))),
    HttpRouter.all("/empty", HttpServerResponse.empty()),
    HttpRouter.all("/fail", Effect.fail("boom")),
    HttpRouter.all("/die", Effect.die("boom")),
    HttpRouter.all("/stream", Effect.succeed(HttpServerResponse.stream(Stream.make(chunk, chunk, chunk)))),
    HttpRouter.all("/stream-gated", Effect.as(enter, HttpServerResponse.stream(gated))),
    HttpRouter.all(
      "/stream-die",
      Effect.succeed(HttpServerResponse.stream(Stream.concat(Stream.make(chunk), Stream.die("boom"))))
    ),
    HttpRouter.all("/slow", Effect.zipRight(enter, Effect.as(Deferred.await(gate), HttpServerResponse.text("slow"))))
  )
  return { router, started, gate, open: Deferred.succeed(gate, undefined) }
})

const bulkhead = { maxConcurrent: 1, maxQueued: 1, maxWait: "10 seconds" } as const

const makeRouter = Effect.map(makeRoutes, (made) => ({
  ...made,
  router: made.router.pipe(HttpResilience.bulkhead({ name: "api", ...bulkhead }))
}))

const permits = Effect.map(Registry.snapshot, ({ instances }) => {
  const found = instances.find(({ pattern }) => pattern === "Bulkhead")
  return found?.metrics as Bulkhead.Metrics | undefined
})
/** Waits until no permit is held and nobody waits; a test that never gets there times out. */
const allBack = permits.pipe(
  Effect.repeat({
    schedule: Schedule.spaced("5 millis"),
    until: (metrics) => metrics !== undefined && metrics.active === 0 && metrics.waiting === 0
  }),
  Effect.timeout("5 seconds"),
  Effect.orDie
)
const held = Effect.map(permits, (metrics) => metrics?.active ?? 0)
const waiting = permits.pipe(
  Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (metrics) => (metrics?.waiting ?? 0) > 0 }),
  Effect.timeout("5 seconds"),
  Effect.orDie
)

const live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))

const paths = ["/text", "/bytes", "/raw", "/empty", "/fail", "/die", "/stream", "/stream-die", "/none"] as const

describe("on Node", () => {
  const onNode = Effect.gen(function*() {
    const made = yield* makeRouter
    const { url } = yield* serveNode(made.router)
    return {
      ...made,
      url,
      get: (path: string, options?: Parameters<typeof fetchNode>[1]) =>
        Effect.promise(() => fetchNode(url + path, options))
    }
  })

  for (const method of ["GET", "HEAD"]) {
    for (const path of paths) {
      it.scopedLive(`${method} ${path} gives its permit back`, () =>
        Effect.gen(function*() {
          const { get } = yield* onNode
          yield* get(path, { method })
          yield* allBack
          expect((yield* get("/text"))?.status).toBe(200)
        }).pipe(Effect.provide(live)))
    }
  }

  it.scopedLive("W-H11: a stream holds its permit while it is sent", () =>
    Effect.gen(function*() {
      const { get, open } = yield* onNode
      const head = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        get("/stream-gated", { onHead: () => Effect.runFork(Deferred.succeed(head, undefined)) })
      )
      yield* Deferred.await(head)
      expect(yield* held).toBe(1)
      yield* open
      expect((yield* Fiber.join(fiber))?.body.length).toBe(1024)
      yield* allBack
    }).pipe(Effect.provide(live)))

  it.scopedLive("a client that goes while its handler runs", () =>
    Effect.gen(function*() {
      const { get, started } = yield* onNode
      yield* get("/slow", {
        onSent: (request) => Effect.runFork(Effect.andThen(Deferred.await(started), () => request.destroy()))
      })
      yield* allBack
    }).pipe(Effect.provide(live)))

  it.scopedLive("a client that goes in the middle of a stream", () =>
    Effect.gen(function*() {
      const { get } = yield* onNode
      yield* get("/stream-gated", { onHead: (_, request) => request.destroy() })
      yield* allBack
    }).pipe(Effect.provide(live)))

  it.scopedLive("a client that goes in the middle of 60 MiB", () =>
    Effect.gen(function*() {
      const { get } = yield* onNode
      yield* get("/bytes", { onHead: (response, request) => response.once("data", () => request.destroy()) })
      yield* allBack
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT3: a client that goes while it waits", () =>
    Effect.gen(function*() {
      const { get, open, started } = yield* onNode
      const first = yield* Effect.fork(get("/slow"))
      yield* Deferred.await(started)
      let destroy = () => {}
      const second = yield* Effect.fork(get("/text", {
        onSent: (request) => {
          destroy = () => request.destroy()
        }
      }))
      yield* waiting
      destroy()
      yield* Fiber.join(second)
      // Long before its wait is over.
      yield* permits.pipe(
        Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (metrics) => metrics?.waiting === 0 }),
        Effect.timeout("2 seconds"),
        Effect.orDie
      )
      expect(yield* held).toBe(1)
      yield* open
      expect((yield* Fiber.join(first))?.status).toBe(200)
      yield* allBack
    }).pipe(Effect.provide(live)))
})

describe("on the web", () => {
  const onWeb = Effect.gen(function*() {
    const made = yield* makeRouter
    const handler = yield* serveWeb(made.router)
    const get = (path: string, init?: RequestInit) =>
      Effect.promise(() => handler(new Request(`http://localhost${path}`, init)))
    return { ...made, get }
  })

  for (const method of ["GET", "HEAD"]) {
    for (const path of [...paths, "/stream-gated"]) {
      if (method === "GET" && path === "/stream-gated") continue
      it.scopedLive(`${method} ${path} gives its permit back`, () =>
        Effect.gen(function*() {
          const { get } = yield* onWeb
          const response = yield* get(path, { method })
          yield* Effect.ignore(Effect.tryPromise(() => response.arrayBuffer()))
          yield* allBack
        }).pipe(Effect.provide(live)))
    }
  }

  it.scopedLive("a stream holds its permit while it is read", () =>
    Effect.gen(function*() {
      const { get, open } = yield* onWeb
      const response = yield* get("/stream-gated")
      expect(yield* held).toBe(1)
      yield* open
      expect((yield* Effect.promise(() => response.arrayBuffer())).byteLength).toBe(1024)
      yield* allBack
    }).pipe(Effect.provide(live)))

  it.scopedLive("a body that is cancelled", () =>
    Effect.gen(function*() {
      const { get } = yield* onWeb
      const response = yield* get("/stream-gated")
      yield* Effect.promise(async () => {
        const reader = response.body?.getReader()
        await reader?.read()
        await reader?.cancel()
      })
      yield* allBack
    }).pipe(Effect.provide(live)))

  it.scopedLive("a client that goes while its handler runs", () =>
    Effect.gen(function*() {
      const { get, started } = yield* onWeb
      const controller = new AbortController()
      yield* Effect.fork(Effect.andThen(Deferred.await(started), () => controller.abort()))
      yield* get("/slow", { signal: controller.signal })
      yield* allBack
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT14: a client that goes, of a body that nobody cancels", () =>
    Effect.gen(function*() {
      const { get } = yield* onWeb
      const controller = new AbortController()
      const response = yield* get("/stream-gated", { signal: controller.signal })
      yield* Effect.promise(() => Promise.resolve(response.body?.getReader().read()))
      expect(yield* held).toBe(1)
      controller.abort()
      yield* allBack
    }).pipe(Effect.provide(live)))
})

describe("with idempotency keys, stale responses and a fallback", () => {
  const key = { "idempotency-key": "\"a\"" }

  /** The fallback opens `asked`, and answers when the gate is open. */
  const guarded = Effect.gen(function*() {
    const made = yield* makeRoutes
    const asked = yield* Deferred.make<void>()
    const store = yield* IdempotencyStore.makeMemory()
    const router = made.router.pipe(
      Idempotency.middleware({ name: "api", principal: Idempotency.anybody }),
      HttpResilience.standard({
        name: "api",
        loadShedder: false,
        longLived: false,
        adaptiveConcurrency: false,
        bulkhead,
        staleIfError: {},
        fallback: {
          respond: (request) =>
            request.url === "/die"
              ? Effect.zipRight(
                Deferred.succeed(asked, undefined),
                Effect.as(Deferred.await(made.gate), HttpServerResponse.text("fallback"))
              )
              : HttpServerResponse.text("fallback")
        }
      }),
      Effect.provideService(IdempotencyStore, store)
    )
    const settled = store.metrics.pipe(
      Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: ({ inFlight }) => inFlight === 0 }),
      Effect.timeout("5 seconds"),
      Effect.orDie
    )
    return { ...made, router, asked, allBack: Effect.zipRight(allBack, settled) }
  })

  for (const [where, serve] of Object.entries(runtimes)) {
    for (const path of paths.filter((path) => path !== "/die")) {
      it.scopedLive(`${path} gives its permit back, the first time and again, ${where}`, () =>
        Effect.gen(function*() {
          const { allBack, router } = yield* guarded
          const send = yield* serve(router)
          for (const method of ["POST", "POST", "GET", "GET"]) {
            // A stream that dies breaks off.
            yield* Effect.exit(send(path, { method, headers: key }))
            yield* allBack
          }
          expect((yield* send("/text", { method: "GET" })).status).toBe(200)
        }).pipe(Effect.provide(live)))
    }

    it.scopedLive(`a fallback holds the permit while it is asked, ${where}`, () =>
      Effect.gen(function*() {
        const { allBack, asked, open, router } = yield* guarded
        const send = yield* serve(router)
        const fiber = yield* Effect.fork(send("/die", { headers: key }))
        yield* Deferred.await(asked)
        expect(yield* held).toBe(1)
        yield* open
        expect((yield* Fiber.join(fiber)).body).toBe("fallback")
        yield* allBack
      }).pipe(Effect.provide(live)))
  }

  for (const path of ["/slow", "/die"] as const) {
    it.scopedLive(`a client that goes while ${path === "/slow" ? "its handler runs" : "its fallback is asked"}`, () =>
      Effect.gen(function*() {
        const { allBack, asked, open, router, started } = yield* guarded
        const { url } = yield* serveNode(router)
        yield* Effect.promise(() =>
          fetchNode(url + path, {
            method: "POST",
            headers: key,
            onSent: (request) =>
              Effect.runFork(
                Effect.andThen(Deferred.await(path === "/slow" ? started : asked), () => request.destroy())
              )
          })
        )
        if (path === "/die") yield* open
        yield* allBack
      }).pipe(Effect.provide(live)))
  }

  it.scopedLive("a client that goes in the middle of its body", () =>
    Effect.gen(function*() {
      const { allBack, router } = yield* guarded
      const { port, url } = yield* serveNode(router)
      const socket = connect(port, "127.0.0.1")
      socket.write("POST /text HTTP/1.1\r\nHost: a\r\nIdempotency-Key: \"a\"\r\nContent-Length: 100\r\n\r\nhalf")
      yield* held.pipe(
        Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (held) => held === 1 }),
        Effect.timeout("5 seconds"),
        Effect.orDie
      )
      socket.destroy()
      yield* allBack
      expect((yield* Effect.promise(() => fetchNode(`${url}/text`)))?.status).toBe(200)
    }).pipe(Effect.provide(live)))
})

describe("a client that goes, of an app that its going does not stop", () => {
  /** Sends a request whose client goes when `started` is, and returns when the server knows. */
  const leaving = {
    "on Node": <E, R>(app: HttpApp.Default<E, R>, started: Deferred.Deferred<void>) =>
      Effect.gen(function*() {
        const { server, url } = yield* serveNode(app)
        const closed = yield* Deferred.make<void>()
        server.once("connection", (socket) => {
          socket.once("close", () => Effect.runFork(Deferred.succeed(closed, undefined)))
        })
        const send = (init: { readonly method: string; readonly headers?: Record<string, string> }) =>
          Effect.promise(() =>
            fetchNode(`${url}/slow`, {
              ...init,
              onSent: (request) => Effect.runFork(Effect.andThen(Deferred.await(started), () => request.destroy()))
            })
          )
        return {
          leave: (method: string, headers = {}) => Effect.zipRight(send({ method, headers }), Deferred.await(closed)),
          get: Effect.promise(async () => (await fetchNode(`${url}/slow`))?.status)
        }
      }),
    "on the web": <E, R>(app: HttpApp.Default<E, R>, started: Deferred.Deferred<void>) =>
      Effect.map(serveWeb(app), (handler) => ({
        leave: (method: string, headers = {}) =>
          Effect.suspend(() => {
            const controller = new AbortController()
            void handler(new Request("http://localhost/slow", { method, headers, signal: controller.signal }))
            return Effect.andThen(Deferred.await(started), () => controller.abort())
          }),
        get: Effect.promise(async () => (await handler(new Request("http://localhost/slow"))).status)
      }))
  }
  const one = HttpResilience.bulkhead({ name: "api", maxConcurrent: 1, maxQueued: 0 })
  const standard = (options: Partial<HttpResilience.Options>) =>
    HttpResilience.standard({
      name: "api",
      loadShedder: false,
      longLived: false,
      adaptiveConcurrency: false,
      bulkhead: { maxConcurrent: 1, maxQueued: 0 },
      ...options
    })
  const makeSlow = Effect.gen(function*() {
    const started = yield* Deferred.make<void>()
    const gate = yield* Deferred.make<void>()
    const wait = Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(gate))
    const slow = Effect.as(wait, HttpServerResponse.text("slow"))
    return { started, wait, slow, open: Deferred.succeed(gate, undefined) }
  })
  type Slow = Effect.Effect<HttpServerResponse.HttpServerResponse>
  const route = (slow: Slow) => HttpRouter.all(HttpRouter.empty, "/slow", slow, { uninterruptible: true })

  const apps: Record<string, (slow: Slow) => HttpApp.Default<unknown, any>> = {
    "a bare app": one,
    "a route that cannot be interrupted": (slow) => one(route(slow)),
    "a route that cannot be interrupted, without a timeout": (slow) => standard({ timeout: false })(route(slow)),
    "a handler that finishes for its key": (slow) =>
      Effect.flatMap(IdempotencyStore.makeMemory(), (store) =>
        HttpRouter.empty.pipe(
          HttpRouter.all("/slow", slow),
          Idempotency.middleware({ name: "api", principal: Idempotency.anybody, onInterrupt: "finish" }),
          one,
          Effect.provideService(IdempotencyStore, store)
        ))
  }

  for (const [where, serve] of Object.entries(leaving)) {
    for (const [what, make] of Object.entries(apps)) {
      it.scopedLive(`${what} holds its permit until it ends, ${where}`, () =>
        Effect.gen(function*() {
          const { open, slow, started } = yield* makeSlow
          const { get, leave } = yield* serve(make(slow), started)
          yield* leave("POST", { "idempotency-key": "\"a\"" })
          expect(yield* get).toBe(503)
          expect(yield* held).toBe(1)
          yield* open
          yield* allBack
          expect(yield* get).toBe(200)
        }).pipe(Effect.provide(live)))
    }

    it.scopedLive(`a response that is being kept, ${where}`, () =>
      Effect.flatMap(makeSlow, ({ open, started, wait }) => {
        const store = Layer.succeed(StaleStore, {
          get: () => Effect.succeedNone,
          put: () => Effect.uninterruptible(wait)
        })
        const app = HttpRouter.empty.pipe(
          HttpRouter.get("/slow", HttpServerResponse.text("fast", { headers: { "cache-control": "public" } })),
          standard({ staleIfError: { timeout: "10 seconds" } })
        )
        return Effect.gen(function*() {
          const { leave } = yield* serve(app, started)
          yield* leave("GET")
          yield* open
          yield* allBack
        }).pipe(Effect.provide(Layer.provide(live, store)))
      }))

    it.scopedLive(`a policy whose app was left behind by another, ${where}`, () =>
      Effect.gen(function*() {
        const { open, slow, started } = yield* makeSlow
        const asked = yield* Deferred.make<void>()
        const app = route(slow).pipe(
          one,
          HttpResilience.standard({
            name: "around",
            longLived: false,
            timeout: "20 millis",
            fallback: { respond: () => Effect.zipRight(Deferred.succeed(asked, undefined), Effect.never) }
          })
        )
        const { leave } = yield* serve(app, asked)
        yield* leave("GET")
        yield* Deferred.await(started)
        yield* open
        yield* allBack
      }).pipe(Effect.provide(live)))

    it.scopedLive(`HT24: a drain counts it until it ends, ${where}`, () =>
      Effect.gen(function*() {
        const { open, slow, started } = yield* makeSlow
        const { inFlight } = yield* Drain
        const { leave } = yield* serve(Drain.middleware(slow), started)
        yield* leave("GET")
        expect(yield* inFlight).toBe(1)
        yield* open
        yield* inFlight.pipe(
          Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (inFlight) => inFlight === 0 }),
          Effect.timeout("5 seconds"),
          Effect.orDie
        )
      }).pipe(Effect.provide(Drain.Live)))
  }

  it.scopedLive("one who sent two requests at once, by one connection", () =>
    Effect.gen(function*() {
      const { open, slow } = yield* makeSlow
      const two = HttpResilience.bulkhead({ name: "api", maxConcurrent: 2, maxQueued: 0 })
      const { port } = yield* serveNode(HttpRouter.all(HttpRouter.empty, "/slow", slow).pipe(two))
      const socket = connect(port, "127.0.0.1")
      const request = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
      socket.write(request + request)
      yield* held.pipe(
        Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (held) => held === 2 }),
        Effect.timeout("5 seconds"),
        Effect.orDie
      )
      socket.destroy()
      yield* held.pipe(
        Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (held) => held < 2 }),
        Effect.timeout("5 seconds"),
        Effect.orDie
      )
      yield* open
      yield* allBack
    }).pipe(Effect.provide(live)))
})
