import { ClientIp, HttpResilience } from "@effect-resilience/http"
import type { HttpApp } from "@effect/platform"
import { HttpClient, HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"

const serve = <E, R>(app: HttpApp.Default<E, R>) => HttpServer.serveEffect(app)

describe("HttpResilience", () => {
  it.scopedLive("turns away above the rate, with headers", () =>
    Effect.gen(function*() {
      const router = HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        HttpResilience.standard({
          name: "api",
          rateLimit: { rate: "2/minute", key: ClientIp.keyOf(ClientIp.fromSocket) }
        })
      )
      yield* serve(router)
      const one = yield* HttpClient.get("/")
      expect(one.status).toBe(200)
      expect(one.headers).toMatchObject({ ratelimit: "\"api\";r=1;t=30", "ratelimit-policy": "\"api\";q=2;w=60" })
      yield* HttpClient.get("/")
      const three = yield* HttpClient.get("/")
      expect(three.status).toBe(429)
      expect(three.headers["content-type"]).toBe("application/problem+json")
      expect(three.headers["cache-control"]).toBe("no-store")
      expect(Number(three.headers["retry-after"])).toBeGreaterThanOrEqual(29)
      expect(yield* three.json).toMatchObject({ _tag: "TooManyRequests", status: 429, "violated-policies": ["api"] })
    }).pipe(Effect.provide(Layer.mergeAll(NodeHttpServer.layerTest, HttpResilience.Live))))

  it.scopedLive("a handler that cannot be interrupted is left behind in time", () =>
    Effect.gen(function*() {
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.as(Effect.uninterruptible(Effect.sleep(2000)), HttpServerResponse.text("late"))),
        HttpResilience.timeout({ name: "api", duration: "50 millis" })
      ))
      const before = Date.now()
      const answer = yield* HttpClient.get("/")
      expect(answer.status).toBe(504)
      expect(Date.now() - before).toBeLessThan(1500)
    }).pipe(Effect.provide(Layer.mergeAll(NodeHttpServer.layerTest, HttpResilience.Live))))

  it.scopedLive("a full bulkhead turns away", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const entered = yield* Deferred.make<void>()
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get(
          "/",
          Effect.zipRight(
            Deferred.succeed(entered, undefined),
            Effect.as(Deferred.await(gate), HttpServerResponse.text("done"))
          )
        ),
        HttpResilience.bulkhead({ name: "api", maxConcurrent: 1, maxQueued: 0 })
      ))
      const first = yield* Effect.fork(HttpClient.get("/"))
      yield* Deferred.await(entered)
      const second = yield* HttpClient.get("/")
      expect(second.status).toBe(503)
      yield* Deferred.succeed(gate, undefined)
      expect((yield* Fiber.join(first)).status).toBe(200)
      expect((yield* HttpClient.get("/")).status).toBe(200)
    }).pipe(Effect.provide(Layer.mergeAll(NodeHttpServer.layerTest, HttpResilience.Live))))
})
