import { HttpResilience } from "@effect-resilience/http"
import { type Handler, middleware } from "@effect-resilience/http/connect"
import { HttpLayerRouter, HttpServerResponse } from "@effect/platform"
import { type Effect, Layer } from "effect"
import { describe, expect, it } from "tstyche"

const policy = HttpResilience.standard({ name: "api" })

describe("HttpResilience", () => {
  it("in a HttpLayerRouter is a layer that requires HttpResilience, and nothing of a request", () => {
    expect(HttpResilience.layerRouter(policy).layer).type.toBe<Layer.Layer<never, never, HttpResilience>>()
    expect(HttpResilience.layerRouter(policy, { global: true })).type.toBe<
      Layer.Layer<never, never, HttpResilience | HttpLayerRouter.HttpRouter>
    >()
  })

  it("in a HttpLayerRouter goes with the middleware of others", () => {
    const cors = HttpLayerRouter.middleware((app) => app)
    expect(HttpResilience.layerRouter(policy).combine(cors).layer).type.toBe<
      Layer.Layer<never, never, HttpResilience>
    >()
    const routes = HttpLayerRouter.add("GET", "/", HttpServerResponse.text("hello"))
    expect(Layer.provide(routes, HttpResilience.layerRouter(policy).layer)).type.toBe<
      Layer.Layer<never, never, HttpResilience | HttpLayerRouter.HttpRouter>
    >()
  })

  it("on endpoints takes options, or a policy that there is", () => {
    type Given = HttpResilience.AdmissionOptions | HttpResilience.Middleware
    expect(HttpResilience.apiMiddleware).type.toBeAssignableTo<(given: Given) => unknown>()
    expect(HttpResilience.apiMiddlewareWithDecision).type.toBeAssignableTo<(given: Given) => unknown>()
    expect(middleware).type.toBeAssignableTo<(given: Given) => unknown>()
    expect(middleware(policy)).type.toBe<Effect.Effect<Handler, never, HttpResilience>>()
  })
})
