import { HttpResilience } from "@effect-resilience/http"
import { HttpClient, HttpLayerRouter, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"

const limited = HttpResilience.rateLimit({ name: "limited", rate: "1/minute" })
const Limited = HttpLayerRouter.add("GET", "/limited", HttpServerResponse.text("limited"))
const Free = HttpLayerRouter.add("GET", "/free", HttpServerResponse.text("free"))

const serve = <E, R>(routes: Layer.Layer<never, E, R>) =>
  HttpLayerRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provide(HttpResilience.Live),
    Layer.provideMerge(NodeHttpServer.layerTest)
  )

const statuses = (...paths: ReadonlyArray<string>) =>
  Effect.forEach(paths, (path) => Effect.map(HttpClient.get(path), ({ status }) => status))

describe("HttpResilience in a HttpLayerRouter", () => {
  it.scopedLive("stands around the routes it is provided to, and no others", () =>
    Effect.gen(function*() {
      expect(yield* statuses("/limited", "/limited", "/free", "/free")).toEqual([200, 429, 200, 200])
    }).pipe(Effect.provide(serve(Layer.mergeAll(
      Limited.pipe(Layer.provide(HttpResilience.layerRouter(limited).layer)),
      Free
    )))))

  it.scopedLive("stands around all routes", () =>
    Effect.gen(function*() {
      expect(yield* statuses("/limited", "/free")).toEqual([200, 429])
    }).pipe(Effect.provide(serve(Layer.mergeAll(
      Limited,
      Free,
      HttpResilience.layerRouter(limited, { global: true })
    )))))
})
