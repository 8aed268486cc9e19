import type { Bulkhead } from "@effect-resilience/core"
import { Registry, ResilienceLive } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import autocannon from "autocannon"
import { Deferred, Effect, Layer, Schedule } from "effect"
import { connect } from "node:net"
import { fetchNode, serveNode } from "./utils/servers.js"

/*
 * Clients that send slowly, not at all, or without end, and those that ask for everything: what they hold, for how long,
 * and that the others are served meanwhile.
 */

const live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))

const router = HttpRouter.empty.pipe(
  HttpRouter.get("/", HttpServerResponse.text("hello")),
  HttpRouter.post(
    "/",
    Effect.flatMap(
      HttpServerRequest.HttpServerRequest,
      (request) => Effect.map(request.text, (text) => HttpServerResponse.text(`got ${text.length}`))
    )
  )
)

const active = Effect.map(Registry.snapshot, ({ instances }) => {
  const found = instances.find(({ instance, pattern }) => pattern === "Bulkhead" && instance === "api")
  return (found?.metrics as Bulkhead.Metrics | undefined)?.active ?? 0
})
const activeIs = (wanted: number) =>
  Effect.repeat(active, { schedule: Schedule.spaced("5 millis"), until: (active) => active === wanted }).pipe(
    Effect.timeout("5 seconds"),
    Effect.orDie
  )

/** A connection that writes what it is told to, and remembers what it hears. */
const open = (port: number, first?: string) =>
  Effect.acquireRelease(
    Effect.gen(function*() {
      const connected = yield* Deferred.make<void>()
      const closed = yield* Deferred.make<void>()
      let heard = ""
      const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
        if (first !== undefined) socket.write(first)
        Deferred.unsafeDone(connected, Effect.void)
      })
      socket.on("data", (data) => {
        heard += data.toString()
      })
      socket.on("end", () => socket.end())
      socket.on("error", () => {})
      socket.on("close", () => Deferred.unsafeDone(closed, Effect.void))
      yield* Deferred.await(connected)
      return { socket, closed: Effect.as(Deferred.await(closed), () => heard).pipe(Effect.map((told) => told())) }
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

const get = (url: string, options?: Parameters<typeof fetchNode>[1]) =>
  Effect.map(Effect.promise(() => fetchNode(url, options)), (answer) => answer?.status)

const one = { maxConcurrent: 1, maxQueued: 0 } as const
const head = (length: number) => `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`

describe("clients that are slow", () => {
  it.scopedLive("a connection that sends nothing, or half a head, holds no permit", () =>
    Effect.gen(function*() {
      const { port, url } = yield* serveNode(router.pipe(HttpResilience.bulkhead({ name: "api", ...one })))
      yield* Effect.replicateEffect(open(port), 20)
      const dribbling = yield* Effect.replicateEffect(open(port, "GET / HTTP/1.1\r\nHost: a\r\nX-A: "), 20)
      expect(yield* get(url)).toBe(200)
      expect(yield* active).toBe(0)
      // A head that comes at last is a request as any other.
      const [last] = dribbling
      last?.socket.end("1\r\nConnection: close\r\n\r\n")
      expect(yield* last?.closed ?? Effect.void).toContain("HTTP/1.1 200 OK")
      yield* activeIs(0)
    }).pipe(Effect.provide(live)))

  it.scopedLive("a body that dribbles holds its permit until the timeout, which answers", () =>
    Effect.gen(function*() {
      const { port, url } = yield* serveNode(router.pipe(
        HttpResilience.standard({ name: "api", bulkhead: one, timeout: "300 millis" })
      ))
      const slow = yield* open(port, `${head(100)}half`)
      yield* activeIs(1)
      expect(yield* get(url)).toBe(503)
      yield* activeIs(0)
      expect(yield* get(url)).toBe(200)
      // The rest of the body does not come to a handler any more.
      slow.socket.end("x".repeat(96))
      expect(yield* slow.closed).toContain("HTTP/1.1 504 Gateway Timeout")
      yield* activeIs(0)
    }).pipe(Effect.provide(live)))

  it.scopedLive("without a timeout of ours a body holds it until that of Node, and a head is ended by Node", () =>
    Effect.gen(function*() {
      const { port, url } = yield* serveNode(
        router.pipe(HttpResilience.bulkhead({ name: "api", ...one })),
        { headersTimeout: 300, requestTimeout: 600, connectionsCheckingInterval: 20 }
      )
      const headless = yield* open(port, "GET / HTTP/1.1\r\nX-A: ")
      const slow = yield* open(port, `${head(100)}half`)
      yield* activeIs(1)
      expect(yield* headless.closed).toContain("HTTP/1.1 408 Request Timeout")
      yield* slow.closed
      yield* activeIs(0)
      expect(yield* get(url)).toBe(200)
    }).pipe(Effect.provide(live)))

  it.scopedLive("a client that closes its side after the request is answered", () =>
    Effect.gen(function*() {
      const { port } = yield* serveNode(router.pipe(HttpResilience.bulkhead({ name: "api", ...one })))
      const early = yield* open(port)
      early.socket.end(`${head(4)}body`)
      expect(yield* early.closed).toContain("got 4")
      yield* activeIs(0)
    }).pipe(Effect.provide(live)))
})

describe("clients that flood", () => {
  it.scopedLive("one with many connections has its rate, and the others have theirs", () =>
    Effect.gen(function*() {
      const { port, url } = yield* serveNode(router.pipe(
        HttpResilience.standard({ name: "api", rateLimit: { rate: { limit: 20, window: "1 hour" } } })
      ))
      // All of 127.0.0.0/8 is this machine.
      const other = (n: number) => get(`http://127.0.0.1:${port}/`, { localAddress: `127.0.0.${2 + n}` })
      const [{ statusCodeStats }, others] = yield* Effect.all([
        Effect.promise(() => autocannon({ url, connections: 50, amount: 1000 })),
        Effect.forEach(Array.from({ length: 60 }), (_, i) => other(i % 3))
      ], { concurrency: "unbounded" })
      expect(statusCodeStats).toMatchObject({ 200: { count: 20 }, 429: { count: 980 } })
      expect(new Set(others)).toEqual(new Set([200]))
      expect(yield* other(0)).toBe(429)
    }).pipe(Effect.provide(live)))

  it.scopedLive("many that close at once, before they are answered, leave nothing behind", () =>
    Effect.gen(function*() {
      const { port, url } = yield* serveNode(router.pipe(
        HttpResilience.standard({ name: "api", bulkhead: { maxConcurrent: 5, maxQueued: 5 } })
      ))
      const sockets = yield* Effect.replicateEffect(open(port, `${head(10)}half`), 50)
      yield* activeIs(5)
      for (const { socket } of sockets) socket.destroy()
      yield* activeIs(0)
      expect(yield* get(url)).toBe(200)
    }).pipe(Effect.provide(live)))

  it.scopedLive("a body without end is cut off when its request is turned away", () =>
    Effect.gen(function*() {
      const { port, url } = yield* serveNode(router.pipe(HttpResilience.rateLimit({ name: "api", rate: "1/hour" })))
      expect(yield* get(url)).toBe(200)
      const endless = yield* open(port, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
      const more = () => {
        if (!endless.socket.destroyed) endless.socket.write(`400\r\n${"x".repeat(1024)}\r\n`, () => setImmediate(more))
      }
      more()
      const heard = yield* endless.closed
      expect(heard).toContain("HTTP/1.1 429 Too Many Requests")
      expect(heard.toLowerCase()).toContain("connection: close")
    }).pipe(Effect.provide(live)))
})
