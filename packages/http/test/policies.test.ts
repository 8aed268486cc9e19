import { RateLimiterStore, ResilienceLive } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, FiberRef, Layer, Option } from "effect"
import type { Engine } from "../src/internal/engine.js"
import { makePolicies } from "../src/internal/policies.js"
import { runtimes } from "./utils/servers.js"

/*
 * A policy is made by the first request that comes to it, and belongs to the layer all the same: of that request it knows
 * nothing and keeps nothing.
 */

const asked = () => Effect.dieMessage("the store was asked")

class Here extends Context.Tag("test/Here")<Here, string>() {}

describe("what a policy is made of", () => {
  it.scoped("is what is around the layer, and not what is around its first request", () =>
    Effect.gen(function*() {
      const local = yield* FiberRef.make("nobody's")
      const where = (here: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        effect.pipe(Effect.locally(local, here), Effect.provideService(Here, here))
      const policies = yield* where("the layer's")(makePolicies((name) => new Error(name)))
      const seen = yield* Effect.cached(Effect.zip(FiberRef.get(local), Effect.serviceOption(Here)))
      const unused: Engine = yield* Effect.succeed({} as never)
      const plan = { site: "here", engine: Effect.as(seen, unused), around: () => Effect.die("unused") }
      yield* policies.engine({ name: "api" }, plan).pipe(where("the request's"))
      expect(yield* seen).toEqual(["the layer's", Option.some("the layer's")])
    }))

  for (const [on, serve] of Object.entries(runtimes)) {
    it.scopedLive(`has no store that stands around an app alone, ${on}`, () =>
      Effect.gen(function*() {
        const app = HttpRouter.empty.pipe(
          HttpRouter.get("/", HttpServerResponse.text("hello")),
          HttpResilience.rateLimit({ name: "api", rate: "10/minute", key: () => Option.some("anybody") }),
          Effect.provideService(RateLimiterStore, new Proxy({} as RateLimiterStore.Service, { get: () => asked }))
        )
        const send = yield* serve(app)
        expect((yield* send("/", { method: "GET" })).status).toBe(200)
      }).pipe(Effect.provide(HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive)))))
  }
})
