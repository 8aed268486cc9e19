import { ResilienceLive } from "@effect-resilience/core"
import { HttpResilience, HttpServerMetrics, PrometheusMetrics } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schedule, Stream } from "effect"
import { valueOf } from "./utils/prometheus.js"
import { fetchNode, serveNode, serveWeb } from "./utils/servers.js"
import { sweep } from "./utils/sweep.js"

const duration = "http_server_request_duration_seconds_count"
const active = "http_server_active_requests"

/** What was added to a sample since `before`: the registry is that of the process. */
const since = (before: string) => (name: string, labels: Record<string, string> = {}) =>
  Effect.map(PrometheusMetrics.text(), (now) => valueOf(now, name, labels) - valueOf(before, name, labels))

const eventually = <A>(effect: Effect.Effect<A>, expected: A) =>
  effect.pipe(
    Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: (value) => value === expected }),
    Effect.timeout("5 seconds"),
    Effect.orDie
  )

const makeRouter = Effect.gen(function*() {
  const started = yield* Deferred.make<void>()
  const gate = yield* Deferred.make<void>()
  const router = HttpRouter.empty.pipe(
    HttpRouter.get("/users/:id", HttpServerResponse.text("a user")),
    HttpRouter.get("/boom", Effect.die("boom")),
    HttpRouter.get("/slow", Effect.zipRight(Deferred.succeed(started, undefined), Effect.never)),
    HttpRouter.get(
      "/stream",
      Effect.succeed(HttpServerResponse.stream(
        Stream.concat(Stream.make(new Uint8Array(9)), Stream.drain(Stream.fromEffect(Deferred.await(gate))))
      ))
    ),
    HttpRouter.post("/users", HttpServerResponse.empty())
  )
  return { router, started, gate }
})

const get = (url: string, options?: Parameters<typeof fetchNode>[1]) => Effect.promise(() => fetchNode(url, options))

describe("HttpServerMetrics", () => {
  it.scopedLive("requests by method, route and status, whoever turned them away", () =>
    Effect.gen(function*() {
      const before = yield* PrometheusMetrics.text()
      const added = since(before)
      const { router } = yield* makeRouter
      const { url } = yield* serveNode(router.pipe(
        HttpResilience.rateLimit({ name: "measured", rate: "4/hour" }),
        HttpServerMetrics.middleware()
      ))
      yield* get(`${url}/users/1`)
      yield* get(`${url}/users/2`)
      yield* get(`${url}/boom`)
      yield* get(`${url}/nowhere/at/all`)
      expect((yield* get(`${url}/users/3`))?.status).toBe(429)
      yield* eventually(added(duration), 5)
      const route = { http_route: "/users/:id", http_request_method: "GET", url_scheme: "http" }
      expect(yield* added(duration, { ...route, http_response_status_code: "200" })).toBe(2)
      expect(yield* added(duration, { http_response_status_code: "500", error_type: "500", http_route: "/boom" })).toBe(
        1
      )
      expect(yield* added(duration, { http_response_status_code: "404" })).toBe(1)
      expect(yield* added(duration, { http_response_status_code: "429" })).toBe(1)
      expect(yield* added(active)).toBe(0)
      const now = yield* PrometheusMetrics.text()
      expect(now).not.toContain("nowhere")
      expect(now).toContain("http_server_request_duration_seconds_bucket{")
    }).pipe(Effect.provide(HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive)))))

  it.scopedLive("inside a router the route is known without a span", () =>
    Effect.gen(function*() {
      const added = since(yield* PrometheusMetrics.text())
      const { router } = yield* makeRouter
      const { url } = yield* serveNode(HttpRouter.use(router, HttpServerMetrics.middleware()))
      yield* get(`${url}/users/1`)
      yield* eventually(added(duration, { http_route: "/users/:id" }), 1)
    }).pipe(Effect.withTracerEnabled(false)))

  it.scopedLive("methods that nobody knows are one, and HEAD is counted as itself", () =>
    Effect.gen(function*() {
      const added = since(yield* PrometheusMetrics.text())
      const { router } = yield* makeRouter
      const { url } = yield* serveNode(HttpServerMetrics.middleware()(router))
      yield* get(`${url}/users/1`, { method: "HEAD" })
      for (const method of ["PROPFIND", "PURGE"]) yield* get(`${url}/users/1`, { method })
      yield* eventually(added(duration, { http_request_method: "_OTHER" }), 2)
      yield* eventually(added(duration, { http_request_method: "HEAD", http_route: "/users/:id" }), 1)
    }))

  it.scopedLive("a request is active until its body is sent, or its client gone", () =>
    Effect.gen(function*() {
      const added = since(yield* PrometheusMetrics.text())
      const { gate, router, started } = yield* makeRouter
      const { url } = yield* serveNode(HttpServerMetrics.middleware()(router))
      const whole = yield* Effect.fork(get(`${url}/stream`))
      yield* eventually(added(active), 1)
      yield* Effect.fork(get(`${url}/slow`, {
        onSent: (request) => void Effect.runPromise(Deferred.await(started)).then(() => request.destroy())
      }))
      yield* eventually(added(duration, { http_response_status_code: "499", http_route: "/slow" }), 1)
      expect(yield* added(active)).toBe(1)
      expect(yield* added(duration, { http_route: "/stream" })).toBe(0)
      yield* Deferred.succeed(gate, undefined)
      yield* whole
      yield* eventually(added(active), 0)
      expect(yield* added(duration, { http_route: "/stream", http_response_status_code: "200" })).toBe(1)
    }))

  it.scopedLive("on the web a client that goes in a stream, and a HEAD on one, are over", () =>
    Effect.gen(function*() {
      const added = since(yield* PrometheusMetrics.text())
      const { router } = yield* makeRouter
      const handler = yield* serveWeb(HttpServerMetrics.middleware()(router))
      const abort = new AbortController()
      yield* Effect.promise(() => handler(new Request("https://x.test/stream", { signal: abort.signal })))
      expect(yield* added(active)).toBe(1)
      abort.abort()
      yield* eventually(added(active), 0)
      yield* Effect.promise(() => handler(new Request("https://x.test/stream", { method: "HEAD" })))
      yield* eventually(added(duration, { http_request_method: "HEAD", url_scheme: "https" }), 1)
      expect(yield* added(active)).toBe(0)
    }))

  it.scopedLive("HT20: beyond its cap it counts together", () =>
    Effect.gen(function*() {
      const added = since(yield* PrometheusMetrics.text())
      const { router } = yield* makeRouter
      const { url } = yield* serveNode(HttpServerMetrics.middleware({ maxSeries: 1 })(router))
      yield* get(`${url}/users/1`)
      yield* eventually(added(duration, { http_route: "/users/:id" }), 1)
      yield* get(`${url}/boom`)
      yield* get(`${url}/nowhere`)
      yield* eventually(added(duration, { otel_metric_overflow: "true" }), 2)
      expect(yield* added(duration)).toBe(3)
    }))

  it.effect("a request that is interrupted anywhere is counted down again", () =>
    Effect.gen(function*() {
      const added = since(yield* PrometheusMetrics.text())
      const request = HttpServerRequest.fromWeb(new Request("http://x.test/"))
      const { leaks, runs } = yield* sweep(Effect.succeed({
        with: <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<any, E, any> =>
          Effect.scoped(HttpServerMetrics.middleware()(Effect.as(effect, HttpServerResponse.empty()))).pipe(
            Effect.provideService(HttpServerRequest.HttpServerRequest, request)
          ),
        whole: Effect.map(added(active), (count) => count === 0)
      }))
      expect(runs).toBeGreaterThan(500)
      expect(leaks).toEqual([])
      expect(yield* added(duration)).toBeGreaterThan(0)
    }))
})
