import type { Bulkhead } from "@effect-resilience/core"
import { Registry, ResilienceLive } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Schedule, Stream } from "effect"
import { fetchNode, serveNode, serveWeb } from "./utils/servers.js"

/*
 * A permit is held until the response is sent, whatever the response is and whenever the client goes, and then it is
 * free: on the server of Node and on the handler of the web.
 */

const chunk = new Uint8Array(1024)
/** Streams until somebody opens the gate, or for ever. */
const makeRouter = Effect.gen(function*() {
  const started = yield* Deferred.make<void>()
  const gate = yield* Deferred.make<void>()
  const enter = Deferred.succeed(started, undefined)
  const gated = Stream.concat(Stream.make(chunk), Stream.drain(Stream.fromEffect(Deferred.await(gate))))
  const router = HttpRouter.empty.pipe(
    HttpRouter.get("/text", HttpServerResponse.text("hello")),
    HttpRouter.get("/bytes", Effect.succeed(HttpServerResponse.uint8Array(new Uint8Array(60 * 1024 * 1024)))),
    HttpRouter.get("/empty", HttpServerResponse.empty()),
    HttpRouter.get("/fail", Effect.fail("boom")),
    HttpRouter.get("/die", Effect.die("boom")),
    HttpRouter.get("/stream", Effect.succeed(HttpServerResponse.stream(Stream.make(chunk, chunk, chunk)))),
    HttpRouter.get("/stream-gated", Effect.as(enter, HttpServerResponse.stream(gated))),
    HttpRouter.get(
      "/stream-die",
      Effect.succeed(HttpServerResponse.stream(Stream.concat(Stream.make(chunk), Stream.die("boom"))))
    ),
    HttpRouter.get("/slow", Effect.zipRight(enter, Effect.as(Deferred.await(gate), HttpServerResponse.text("slow")))),
    HttpResilience.bulkhead({ name: "api", maxConcurrent: 1, maxQueued: 1, maxWait: "10 seconds" })
  )
  return { router, started, gate, open: Deferred.succeed(gate, undefined) }
})

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

const paths = ["/text", "/bytes", "/empty", "/fail", "/die", "/stream", "/stream-die", "/none"] as const

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

  it.scopedLive("a stream holds its permit while it is sent", () =>
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

  it.scopedLive("a client that goes while it waits", () =>
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
      yield* permits.pipe(
        Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (metrics) => metrics?.waiting === 0 })
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

  it.scopedLive("a client that goes, of a body that nobody cancels", () =>
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
