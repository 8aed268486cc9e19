import { BulkheadFullError, Registry, ResilienceLive } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpClient,
  HttpRouter,
  HttpServerResponse
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, Option } from "effect"
import { runtimes, serveWeb } from "./utils/servers.js"

const anybody = () => Option.some("anybody")

const outer = (name: string) =>
  HttpResilience.standard({
    name,
    exclude: [],
    circuitBreaker: { consecutiveFailures: 3 },
    adaptiveConcurrency: { initialLimit: 50 },
    rateLimit: { rate: "900/hour", key: anybody }
  })

/** How breaker and limit around judged the requests. */
const judged = Effect.map(Registry.snapshot, ({ instances }) =>
  Object.fromEntries(
    ["CircuitBreaker", "AdaptiveConcurrency"].map((pattern) => {
      const { failed, ignored, succeeded } = instances.find((one) =>
        one.pattern === pattern && one.instance === "server"
      )
        ?.metrics as { failed: number; ignored: number; succeeded: number }
      return [pattern, { failed, ignored, succeeded }]
    })
  ))
const both = (judgement: { failed: number; ignored: number; succeeded: number }) => ({
  CircuitBreaker: judgement,
  AdaptiveConcurrency: judgement
})

const full = new BulkheadFullError({
  instance: "db",
  reason: "QueueFull",
  active: 1,
  waiting: 0,
  retryAfter: Option.none()
})

const Live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))

for (const [runtime, serve] of Object.entries(runtimes)) {
  describe(`a policy inside of another, ${runtime}`, () => {
    const bulkheads = {
      "a rejection": HttpResilience.bulkhead({ name: "route", maxConcurrent: 1, maxQueued: 0 }),
      "a rejection in a form of one's own": HttpResilience.bulkhead({
        name: "route",
        maxConcurrent: 1,
        maxQueued: 0,
        render: () => HttpServerResponse.empty({ status: 500 })
      }),
      "a fallback in the place of a rejection": HttpResilience.standard({
        name: "route",
        loadShedder: false,
        adaptiveConcurrency: false,
        bulkhead: { maxConcurrent: 1, maxQueued: 0 },
        fallback: { respond: HttpServerResponse.text("sorry", { status: 500 }) }
      })
    }
    for (const [what, bulkhead] of Object.entries(bulkheads)) {
      it.scopedLive(`${what} is no failure of the server`, () =>
        Effect.gen(function*() {
          const entered = yield* Deferred.make<void>()
          const gate = yield* Deferred.make<void>()
          const hold = Effect.zipRight(
            Deferred.succeed(entered, undefined),
            Effect.as(Deferred.await(gate), HttpServerResponse.text("done"))
          )
          const send = yield* serve(HttpRouter.empty.pipe(
            HttpRouter.get("/", hold),
            HttpRouter.use(bulkhead),
            outer("server")
          ))
          const get = send("/", { method: "GET" })
          const first = yield* Effect.fork(get)
          yield* Deferred.await(entered)
          const answers = yield* Effect.forEach(Array.from({ length: 100 }), () => get)
          expect(answers.every(({ status }) => status >= 500)).toBe(true)
          yield* Deferred.succeed(gate, undefined)
          // The circuit is closed: the next one is let in.
          expect((yield* Fiber.join(first)).status).toBe(200)
          expect((yield* get).status).toBe(200)
          expect(yield* judged).toEqual(both({ failed: 0, ignored: 100, succeeded: 2 }))
        }).pipe(Effect.provide(Live)))
    }

    it.scopedLive("a rejection of core that nobody handles is no failure of the server", () =>
      Effect.gen(function*() {
        const send = yield* serve(HttpRouter.empty.pipe(HttpRouter.get("/", Effect.fail(full)), outer("server")))
        for (const _ of [1, 2, 3, 4]) expect((yield* send("/", { method: "GET" })).status).toBe(503)
        expect(yield* judged).toEqual(both({ failed: 0, ignored: 4, succeeded: 0 }))
      }).pipe(Effect.provide(Live)))

    it.scopedLive("what handlers answer with the same status is a failure, and so is one that takes too long", () =>
      Effect.gen(function*() {
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.get("/503", HttpServerResponse.empty({ status: 503 })),
          HttpRouter.get(
            "/slow",
            HttpResilience.timeout({ name: "route", duration: "10 millis" })(Effect.never)
          ),
          outer("server")
        ))
        expect((yield* send("/503", { method: "GET" })).status).toBe(503)
        expect((yield* send("/slow", { method: "GET" })).status).toBe(504)
        expect(yield* judged).toEqual(both({ failed: 2, ignored: 0, succeeded: 0 }))
      }).pipe(Effect.provide(Live)))

    it.scopedLive("limits of both are told, by whoever answers", () =>
      Effect.gen(function*() {
        const limit = (name: string, rate: string, older: ReadonlyArray<"draft-10" | "draft-6">) =>
          HttpResilience.rateLimit({ name, rate: rate as "1/hour", key: anybody, rateLimitHeaders: older })
        const both = ["draft-10", "draft-6"] as const
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.get("/", HttpServerResponse.text("hello")),
          limit("inner", "2/hour", both),
          limit("outer", "100/hour", both)
        ))
        const get = Effect.map(send("/", { method: "GET" }), ({ headers, status }) => ({
          status,
          policies: headers["ratelimit-policy"],
          left: String(headers["ratelimit"]).match(/r=\d+/g),
          least: [headers["ratelimit-limit"], headers["ratelimit-remaining"]]
        }))
        const policies = "\"outer\";q=100;w=3600, \"inner\";q=2;w=3600"
        expect(yield* get).toEqual({ status: 200, policies, left: ["r=99", "r=1"], least: ["2", "1"] })
        yield* get
        expect(yield* get).toEqual({ status: 429, policies, left: ["r=97", "r=0"], least: ["2", "0"] })
      }).pipe(Effect.provide(Live)))

    for (const untold of ["inner", "outer"]) {
      it.scopedLive(`a limit of which nothing is to be told is told by nobody: the ${untold}`, () =>
        Effect.gen(function*() {
          const limit = (name: string) =>
            HttpResilience.rateLimit({
              name,
              rate: "1/hour",
              key: anybody,
              rateLimitHeaders: name === untold ? [] : undefined
            })
          const send = yield* serve(HttpRouter.empty.pipe(
            HttpRouter.get("/", HttpServerResponse.text("hello")),
            limit("inner"),
            limit("outer")
          ))
          const told = `"${untold === "inner" ? "outer" : "inner"}";q=1;w=3600`
          const get = Effect.map(send("/", { method: "GET" }), ({ headers, status }) => [
            status,
            headers["ratelimit-policy"]
          ])
          expect(yield* get).toEqual([200, told])
          // The outer one turns it away: of the inner there is nothing to know.
          expect(yield* get).toEqual([429, untold === "inner" ? told : undefined])
        }).pipe(Effect.provide(Live)))
    }

    const enders = {
      "its timeout": HttpResilience.timeout({ name: "outer", duration: "10 millis" }),
      "its fallback after a timeout": HttpResilience.standard({
        name: "outer",
        timeout: "10 millis",
        fallback: { respond: HttpServerResponse.text("sorry", { status: 504 }), on: ["Timeout"] }
      })
    }
    for (const [what, ender] of Object.entries(enders)) {
      it.scopedLive(`limits of the inner one are told by the outer one that ends it: ${what}`, () =>
        Effect.gen(function*() {
          const send = yield* serve(HttpRouter.empty.pipe(
            HttpRouter.get("/", Effect.never),
            HttpResilience.rateLimit({ name: "inner", rate: "2/hour", key: anybody }),
            ender
          ))
          const { headers, status } = yield* send("/", { method: "GET" })
          expect([status, headers["ratelimit-policy"]]).toEqual([504, "\"inner\";q=2;w=3600"])
          expect(headers["ratelimit"]).toMatch(/^"inner";r=1;t=\d+$/)
        }).pipe(Effect.provide(Live)))
    }

    it.scopedLive("one policy at two places is told once, as it was last", () =>
      Effect.gen(function*() {
        const limit = HttpResilience.rateLimit({ name: "api", rate: "3/hour", key: anybody })
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.get("/", HttpServerResponse.text("hello")),
          HttpRouter.use(limit),
          limit
        ))
        const get = Effect.map(send("/", { method: "GET" }), ({ headers, status }) => [status, headers["ratelimit"]])
        expect(yield* get).toEqual([200, expect.stringMatching(/^"api";r=1;t=\d+$/)])
        expect(yield* get).toEqual([429, expect.stringMatching(/^"api";r=0;t=\d+$/)])
      }).pipe(Effect.provide(Live)))

    it.scopedLive("who was turned away and answered all the same is a success", () =>
      Effect.gen(function*() {
        const app = Effect.catchAll(Effect.fail(full), () => HttpServerResponse.text("from the cache"))
        const send = yield* serve(HttpRouter.empty.pipe(HttpRouter.get("/", app), outer("server")))
        yield* send("/", { method: "GET" })
        expect(yield* judged).toEqual(both({ failed: 0, ignored: 0, succeeded: 1 }))
      }).pipe(Effect.provide(Live)))
  })
}

describe("a policy inside of another, in an HttpApi", () => {
  class Limited extends HttpApiMiddleware.Tag<Limited>()("Limited", { failure: HttpResilience.Failure }) {}
  const api = HttpApi.make("api").add(
    HttpApiGroup.make("things").add(HttpApiEndpoint.get("one", "/one").middleware(Limited))
  )
  const served = HttpApiBuilder.serve().pipe(
    Layer.provide(HttpApiBuilder.middleware(HttpResilience.middlewareEffect(outer("server")))),
    Layer.provide(HttpApiBuilder.api(api)),
    Layer.provide(HttpApiBuilder.group(api, "things", (handlers) => handlers.handle("one", () => Effect.void))),
    Layer.provide(Layer.effect(
      Limited,
      HttpResilience.apiMiddleware({ name: "endpoint", rateLimit: { rate: "1/minute", status: 503 } })
    )),
    Layer.provideMerge(Layer.merge(NodeHttpServer.layerTest, Live))
  )

  it.scopedLive("a typed rejection is no failure of the server", () =>
    Effect.gen(function*() {
      const get = Effect.map(HttpClient.get("/one"), ({ status }) => status)
      expect(yield* Effect.all([get, get, get, get, get])).toEqual([204, 503, 503, 503, 503])
      expect(yield* judged).toEqual(both({ failed: 0, ignored: 4, succeeded: 1 }))
      const { headers } = yield* HttpClient.get("/one")
      expect(headers["ratelimit-policy"]).toBe("\"server\";q=900;w=3600, \"endpoint\";q=1;w=60")
    }).pipe(Effect.provide(served)))
})

describe("one object of options", () => {
  class Limited extends HttpApiMiddleware.Tag<Limited>()("Limited", { failure: HttpResilience.Failure }) {}
  const api = HttpApi.make("api").add(
    HttpApiGroup.make("things").add(HttpApiEndpoint.get("one", "/one").middleware(Limited))
  )
  const options = {
    name: "api",
    rateLimit: { rate: "3/hour", key: anybody },
    timeout: "20 millis",
    fallback: { respond: HttpServerResponse.text("fallback"), on: ["RateLimited"] }
  } as const

  /** A router and an `HttpApi`, with policies of one `HttpResilience`. */
  const both = (aroundRouter: HttpResilience.Middleware, inApi: HttpResilience.Options | HttpResilience.Middleware) =>
    Effect.gen(function*() {
      const context = yield* Effect.context<HttpResilience | Registry>()
      const handler = yield* serveWeb(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        HttpRouter.get("/never", Effect.never),
        aroundRouter
      ))
      const client = yield* Layer.build(
        HttpApiBuilder.serve().pipe(
          Layer.provide(HttpApiBuilder.api(api)),
          Layer.provide(HttpApiBuilder.group(api, "things", (handlers) => handlers.handle("one", () => Effect.void))),
          Layer.provide(Layer.effect(Limited, HttpResilience.apiMiddleware(inApi))),
          Layer.provide(Layer.succeedContext(context)),
          Layer.provideMerge(NodeHttpServer.layerTest)
        )
      )
      return {
        router: (path: string) =>
          Effect.map(Effect.promise(() => handler(new Request(`http://x.test${path}`))), ({ status }) => status),
        api: Effect.map(Effect.provide(HttpClient.get("/one"), client), ({ status }) => status)
      }
    })

  const named = Effect.map(
    Registry.snapshot,
    ({ instances }) => instances.filter(({ instance }) => instance === "api").map(({ pattern }) => pattern).sort()
  )

  const policy = HttpResilience.standard(options)
  for (const [as, inApi] of Object.entries({ options, "the policy itself": policy })) {
    it.scopedLive(`is one policy around a router and in an HttpApi, as ${as}`, () =>
      Effect.gen(function*() {
        const { api, router } = yield* both(policy, inApi)
        expect(yield* api).toBe(204)
        // What cannot be around a handler is not there.
        const shared = ["AdaptiveConcurrency", "LoadShedder", "RateLimiter"]
        expect(yield* named).toEqual(shared)
        expect(yield* router("/")).toBe(200)
        expect(yield* named).toEqual(["Fallback", "Timeout", ...shared].sort())
        expect(yield* router("/never")).toBe(504)
        // The rate is used up, at both places.
        expect(yield* api).toBe(429)
        expect(yield* router("/")).toBe(200)
        const { instances } = yield* Registry.snapshot
        expect(instances.find(({ pattern }) => pattern === "RateLimiter")?.metrics).toMatchObject({
          allowed: 3,
          rejected: 2
        })
      }).pipe(Effect.provide(Live)))
  }

  it.scopedLive("a pattern that stands alone is that pattern alone, there as elsewhere", () =>
    Effect.gen(function*() {
      const limit = HttpResilience.rateLimit({ name: "api", rate: "3/hour", key: anybody })
      const { api, router } = yield* both(limit, limit)
      expect(yield* Effect.replicateEffect(api, 2)).toEqual([204, 204])
      expect(yield* named).toEqual(["RateLimiter"])
      expect(yield* router("/")).toBe(200)
      expect(yield* api).toBe(429)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("and another of its name is refused, wherever it comes", () =>
    Effect.gen(function*() {
      const { api, router } = yield* both(policy, { ...options })
      expect(yield* router("/")).toBe(200)
      expect(yield* api).toBe(500)
      expect(yield* router("/")).toBe(200)
    }).pipe(Effect.provide([Live, Logger.remove(Logger.defaultLogger)])))

  it.scopedLive("which an error in the log tells of once, with both places", () => {
    const errors: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      if (logLevel._tag === "Error") errors.push(String(message))
    })
    return Effect.gen(function*() {
      const { api, router } = yield* both(policy, { ...options })
      yield* router("/")
      expect(yield* Effect.replicateEffect(api, 2)).toEqual([500, 500])
      expect(errors).toHaveLength(1)
      expect(errors[0]).toMatch(
        /"api": there is another middleware[^]*\n {2}first: {2}.*nested\.test\.ts:\d+[^]*\n {2}second: .*nested\.test\.ts:\d+/
      )
    }).pipe(Effect.provide([Live, Logger.replace(Logger.defaultLogger, logger)]))
  })
})
