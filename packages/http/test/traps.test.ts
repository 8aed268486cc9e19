import type { Bulkhead, CircuitBreaker } from "@effect-resilience/core"
import { Priority, Registry, ResilienceLive } from "@effect-resilience/core"
import { ClientIp, HttpResilience } from "@effect-resilience/http"
import { HttpApp, HttpMiddleware, HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Logger, Option, Schedule, Stream } from "effect"
import * as http from "node:http"
import { connect } from "node:net"
import { backend, transports } from "./utils/backend.js"
import { isWhole, quick, resilient, services } from "./utils/client.js"
import { fetchNode, serveNode, serveWeb } from "./utils/servers.js"

/*
 * What HTTP and the life of a request in @effect/platform have in store for whoever wraps a server or a client, over real
 * sockets.
 */

const silent = Logger.replace(Logger.defaultLogger, Logger.none)
const live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive), Layer.provideMerge(silent))

const metricsOf = <M>(pattern: string) =>
  Effect.map(
    Registry.snapshot,
    ({ instances }) => instances.find((one) => one.pattern === pattern)?.metrics as M | undefined
  )

/** Waits until something is so; a test that never gets there times out. */
const until = <A, R>(effect: Effect.Effect<A, never, R>, is: (value: A) => boolean) =>
  Effect.repeat(effect, { schedule: Schedule.spaced("5 millis"), until: is }).pipe(
    Effect.timeout("5 seconds"),
    Effect.orDie
  )

const get = (url: string, options?: Parameters<typeof fetchNode>[1]) => Effect.promise(() => fetchNode(url, options))

/** Sends bytes as they are, and returns all that comes back. */
const raw = (port: number, lines: ReadonlyArray<string>) =>
  Effect.promise(() =>
    new Promise<string>((resolve) => {
      let text = ""
      const socket = connect(port, "127.0.0.1", () => socket.end([...lines, "", ""].join("\r\n")))
      socket.on("data", (data) => text += data.toString())
      socket.on("close", () => resolve(text))
    })
  )

const cors = HttpMiddleware.cors({ exposedHeaders: HttpResilience.exposedHeaders })
const fromElsewhere = { headers: { origin: "https://example.com" } }

describe("the life of a request", () => {
  it.scopedLive("HT1, HT5: a timeout is a 504, with what limiters and CORS say", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.never),
        HttpResilience.standard({ name: "api", rateLimit: { rate: "9/hour" }, timeout: "30 millis" }),
        cors
      ))
      const answer = yield* get(url, fromElsewhere)
      expect(answer).toMatchObject({
        status: 504,
        headers: {
          "content-type": "application/problem+json",
          "access-control-allow-origin": "*",
          "ratelimit-policy": "\"api\";q=9;w=3600"
        }
      })
      expect(JSON.parse(answer?.body ?? "")).toMatchObject({ _tag: "GatewayTimeout" })
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT5: what a handler says of its response within the timeout stands on it", () =>
    Effect.gen(function*() {
      const saying = HttpApp.appendPreResponseHandler((_, response) =>
        Effect.succeed(HttpServerResponse.setHeader(response, "x-own", "1"))
      )
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.zipRight(saying, HttpServerResponse.text("hello"))),
        HttpResilience.timeout({ name: "api" })
      ))
      expect(yield* get(url)).toMatchObject({ status: 200, headers: { "x-own": "1" } })
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT6: what limiters say stands on every response, whatever came of the handler", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/ok", HttpServerResponse.text("hello")),
        HttpRouter.get("/failed", Effect.fail(HttpServerResponse.text("no", { status: 402 }))),
        HttpRouter.get("/fail", Effect.fail("boom")),
        HttpRouter.get("/die", Effect.die("boom")),
        HttpResilience.standard({ name: "api", rateLimit: { rate: "9/hour" } })
      ))
      for (const [path, status] of Object.entries({ ok: 200, failed: 402, fail: 500, die: 500, none: 404 })) {
        const answer = yield* get(`${url}/${path}`)
        expect([path, answer?.status, answer?.headers["ratelimit-policy"]]).toEqual([
          path,
          status,
          "\"api\";q=9;w=3600"
        ])
      }
    }).pipe(Effect.provide(live)))

  const chunk = new Uint8Array(10)
  const breaking = (stream: Stream.Stream<Uint8Array, unknown>) =>
    HttpRouter.get("/", Effect.succeed(HttpServerResponse.stream(Stream.concat(Stream.make(chunk), stream))))
  for (
    const [what, stream] of Object.entries({
      fails: Stream.fail("boom"),
      dies: Stream.die("boom"),
      "fails late": Stream.fromEffect(Effect.zipRight(Effect.sleep("20 millis"), Effect.fail("boom")))
    })
  ) {
    it.scopedLive(`HT2: a stream that ${what} does not look whole`, () =>
      Effect.gen(function*() {
        const { url } = yield* serveNode(
          HttpRouter.empty.pipe(breaking(stream), HttpResilience.bulkhead({ name: "api", maxConcurrent: 1 }))
        )
        for (let i = 0; i < 2; i++) expect((yield* get(url))?.complete ?? false).toBe(false)
        yield* until(metricsOf<Bulkhead.Metrics>("Bulkhead"), (metrics) => metrics?.active === 0)
      }).pipe(Effect.provide(live)))
  }

  it.scopedLive("HT2: and one that ends is whole, and its connection is kept", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(
        HttpRouter.empty.pipe(breaking(Stream.make(chunk)), HttpResilience.bulkhead({ name: "api", maxConcurrent: 1 }))
      )
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
      yield* Effect.addFinalizer(() => Effect.sync(() => agent.destroy()))
      for (let i = 0; i < 3; i++) {
        const answer = yield* get(url, { agent })
        expect([answer?.complete, answer?.body.length, answer?.headers.connection]).toEqual([true, 20, "keep-alive"])
      }
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT11: a client that goes is no failure of the service", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.zipRight(Deferred.succeed(started, undefined), Effect.never)),
        HttpResilience.standard({ name: "api", circuitBreaker: { consecutiveFailures: 1 } })
      ))
      yield* get(url, {
        onSent: (request) => Effect.runFork(Effect.andThen(Deferred.await(started), () => request.destroy()))
      })
      const breaker = metricsOf<CircuitBreaker.Metrics>("CircuitBreaker")
      yield* until(breaker, (metrics) => metrics?.running === 0)
      expect(yield* breaker).toMatchObject({ state: "Closed", failed: 0, ignored: 1 })
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT12: a HEAD on the route of a GET goes through the chain, and holds nothing", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        HttpResilience.standard({
          name: "api",
          rateLimit: { rate: "3/hour" },
          bulkhead: { maxConcurrent: 1, maxQueued: 0 }
        })
      ))
      const statuses: Array<unknown> = []
      for (let i = 0; i < 4; i++) {
        statuses.push((yield* get(url, { method: "HEAD" }))?.status)
        yield* until(metricsOf<Bulkhead.Metrics>("Bulkhead"), (metrics) => metrics?.active === 0)
      }
      expect(statuses).toEqual([200, 200, 200, 429])
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT13: a HEAD on a route that streams holds nothing on the web, where its scope is never closed", () =>
    Effect.gen(function*() {
      const handler = yield* serveWeb(HttpRouter.empty.pipe(
        breaking(Stream.never),
        HttpResilience.bulkhead({ name: "api", maxConcurrent: 1, maxQueued: 0 })
      ))
      for (let i = 0; i < 3; i++) {
        const { status } = yield* Effect.promise(() => handler(new Request("http://x.test/", { method: "HEAD" })))
        expect(status).toBe(200)
      }
      // What closes a scope, should it come to that, gives back nothing twice.
      expect(yield* metricsOf<Bulkhead.Metrics>("Bulkhead")).toMatchObject({ active: 0, admitted: 3 })
    }).pipe(Effect.provide(live)))
})

describe("header fields", () => {
  it.scopedLive("HT10: of a field that comes twice the last counts", () =>
    Effect.gen(function*() {
      const { port } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.map(Priority, (priority) => HttpServerResponse.text(`is ${priority}`))),
        HttpResilience.standard({
          name: "api",
          priority: { trust: () => true },
          rateLimit: { rate: "1/hour" },
          clientIp: ClientIp.fromHeader("x-real-ip", { onlyFrom: ["127.0.0.1"] })
        })
      ))
      const ask = (...lines: ReadonlyArray<string>) =>
        raw(port, ["GET / HTTP/1.1", "Host: a", "Connection: close", ...lines])
      expect(yield* ask("X-Priority: critical", "X-Priority: low", "X-Real-IP: 5.5.5.5", "X-Real-IP: 6.6.6.6"))
        .toContain("is low")
      expect(yield* ask("X-Real-IP: 7.7.7.7", "X-Real-IP: 6.6.6.6")).toMatch(/^HTTP\/1\.1 429 /)
      expect(yield* ask("X-Real-IP: 6.6.6.6", "X-Real-IP: 7.7.7.7")).toMatch(/^HTTP\/1\.1 200 /)
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT15: a listener for both kinds of addresses tells its clients of IPv4 apart", () =>
    Effect.gen(function*() {
      const server = http.createServer()
      const context = yield* Layer.build(NodeHttpServer.layer(() => server, { port: 0, host: "::" }))
      const app = HttpRouter.empty.pipe(
        HttpRouter.get(
          "/",
          Effect.map(ClientIp, (ip) => HttpServerResponse.text(Option.getOrElse(ip, () => "nobody")))
        ),
        HttpResilience.rateLimit({ name: "api", rate: "1/hour", clientIp: ClientIp.fromSocket })
      )
      yield* Effect.provide(HttpServer.serveEffect(app), context)
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      // All of 127.0.0.0/8 is this machine.
      const from = (localAddress: string) => get(`http://127.0.0.1:${port}/`, { localAddress })
      expect((yield* from("127.0.0.1"))?.body).toBe("127.0.0.1")
      expect((yield* from("127.0.0.1"))?.status).toBe(429)
      expect((yield* from("127.0.0.2"))?.body).toBe("127.0.0.2")
    }).pipe(Effect.provide(live)))

  it.scopedLive("HT16: of those by whom a request was forwarded the left-most is not believed", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        HttpResilience.rateLimit({
          name: "api",
          rate: "1/hour",
          clientIp: ClientIp.fromForwardedFor({ trusted: ["127.0.0.0/8"] })
        })
      ))
      const statuses = yield* Effect.forEach([1, 2, 3], (i) =>
        Effect.map(
          get(url, { headers: { "x-forwarded-for": `203.0.113.${i}, 198.51.100.7` } }),
          (answer) => answer?.status
        ))
      expect(statuses).toEqual([200, 429, 429])
    }).pipe(Effect.provide(live)))
})

describe("a client", () => {
  for (const [transport, layer] of Object.entries(transports)) {
    it.scopedLive(`HT18: an attempt that failed does not keep the only connection from the next, by ${transport}`, () =>
      Effect.gen(function*() {
        const { seen, url } = yield* backend((response, _, count) => {
          response.writeHead(count === 3 ? 200 : 503)
          response.end(count === 3 ? "ok" : Buffer.alloc(4 * 1024 * 1024))
        })
        const client = yield* resilient({ name: "api", retry: { ...quick, budget: false }, circuitBreaker: false })
        const text = yield* Effect.flatMap(client.get(url), (response) => response.text).pipe(
          Effect.timeout("4 seconds")
        )
        expect([text, seen.length]).toEqual(["ok", 3])
        expect(yield* isWhole("api")).toBe(true)
      }).pipe(Effect.provide(Layer.merge(layer, services))))

    it.scopedLive(`HT19: a POST is sent once, and Retry-After is waited for, by ${transport}`, () =>
      Effect.gen(function*() {
        const { seen, url } = yield* backend((response, { path }, count) => {
          if (path === "/reset") response.destroy()
          else if (count === 2) response.writeHead(503, { "retry-after": "1" }).end()
          else response.end("ok")
        })
        const client = yield* resilient({ name: "api", retry: quick, circuitBreaker: false })
        yield* Effect.exit(client.post(`${url}/reset`))
        expect(seen).toHaveLength(1)
        expect((yield* client.get(url)).status).toBe(200)
        const [, first, second] = seen
        expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(990)
      }).pipe(Effect.provide(Layer.merge(layer, services))))
  }
})
