import {
  BulkheadFullError,
  CircuitOpenError,
  Deadline,
  Priority,
  RateLimiterStore,
  RateLimitExceededError,
  Registry,
  ResilienceLive,
  SystemLoad
} from "@effect-resilience/core"
import { ClientIp, HttpResilience, RateLimitDecision, TooManyRequests } from "@effect-resilience/http"
import type { HttpApp } from "@effect/platform"
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiClient,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpClient,
  HttpMiddleware,
  HttpRouter,
  HttpServer,
  HttpServerResponse,
  OpenApi
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Logger, Option, Schema } from "effect"
import { Agent } from "node:http"
import { eventually } from "./utils/client.js"
import { fetchNode, serveNode, serveWeb } from "./utils/servers.js"

const serve = <E, R>(app: HttpApp.Default<E, R>) => HttpServer.serveEffect(app)

const Live = Layer.mergeAll(NodeHttpServer.layerTest, HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive)))

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
    }).pipe(Effect.provide(Live)))

  it.scopedLive("counts in the store that its layer finds", () =>
    Effect.gen(function*() {
      const key = ClientIp.keyOf(ClientIp.fromSocket)
      const app = (name: string) =>
        HttpRouter.empty.pipe(
          HttpRouter.get("/", HttpServerResponse.text("hello")),
          HttpResilience.rateLimit({ name, rate: "2/minute", key })
        )
      // Two processes with one store: what the one let through is gone for the other.
      const store = yield* RateLimiterStore.makeMemory()
      const process = Effect.map(
        Layer.build(HttpResilience.Live.pipe(Layer.provide(Layer.succeed(RateLimiterStore, store)))),
        (context) => Effect.map(serveNode(Effect.provide(app("api"), context)), ({ url }) => url)
      ).pipe(Effect.flatten)
      const [one, two] = yield* Effect.all([process, process])
      const statuses = []
      for (const url of [one, two, one, two]) statuses.push((yield* Effect.promise(() => fetchNode(url)))?.status)
      expect(statuses).toEqual([200, 200, 429, 429])
    }))

  it.scopedLive("a store that fails is our fault, or is done without", () =>
    Effect.gen(function*() {
      const down = () => Effect.fail(new Error("down"))
      const Down = Layer.succeed(RateLimiterStore, {
        decide: down,
        refund: down,
        adjust: down,
        drain: down,
        reset: down
      })
      const limited = (onStoreError: "fail" | "open") =>
        HttpResilience.rateLimit({ name: onStoreError, rate: "2/minute", onStoreError })
      const router = HttpRouter.empty.pipe(
        HttpRouter.get("/fail", HttpServerResponse.text("hello").pipe(limited("fail"))),
        HttpRouter.get("/open", HttpServerResponse.text("hello").pipe(limited("open")))
      )
      const context = yield* Layer.build(HttpResilience.Live.pipe(Layer.provide(Down)))
      const { url } = yield* serveNode(Effect.provide(router, context))
      const status = (path: string) => Effect.map(Effect.promise(() => fetchNode(url + path)), (_) => _?.status)
      expect(yield* Effect.all([status("/fail"), status("/open")])).toEqual([503, 200])
    }))

  it.scopedLive("HT4: a handler that cannot be interrupted is left behind in time", () =>
    Effect.gen(function*() {
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.as(Effect.uninterruptible(Effect.sleep(2000)), HttpServerResponse.text("late"))),
        HttpResilience.timeout({ name: "api", duration: "50 millis" })
      ))
      const before = Date.now()
      const answer = yield* HttpClient.get("/")
      expect(answer.status).toBe(504)
      expect(Date.now() - before).toBeLessThan(1500)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a path that is excluded has all the time it takes", () =>
    Effect.gen(function*() {
      const slow = Effect.as(Effect.sleep(200), HttpServerResponse.text("at last"))
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get("/slow", slow),
        HttpRouter.get("/other", slow),
        HttpResilience.standard({ name: "api", timeout: "50 millis", exclude: ["/slow"] })
      ))
      expect((yield* HttpClient.get("/slow")).status).toBe(200)
      expect((yield* HttpClient.get("/other")).status).toBe(504)
    }).pipe(Effect.provide(Live)))

  const busy = { sampleEvery: "1 millis" } as const
  for (
    const [says, sample, loadShedder, status] of [
      ["a full processor turns nobody away", { cpu: 1 }, busy, 200],
      ["a full processor turns away where its threshold is given", { cpu: 1 }, { ...busy, cpu: 0.85 }, 503],
      ["an event loop that is late all the time turns away", { eventLoopDelay: Duration.millis(11) }, busy, 503]
    ] as const
  ) {
    it.scopedLive(says, () =>
      Effect.gen(function*() {
        let samples = 0
        const load = Layer.succeed(SystemLoad, {
          sample: Effect.sync(() => {
            samples++
            return sample
          })
        })
        const app = HttpRouter.empty.pipe(
          HttpRouter.get("/", HttpServerResponse.text("hello")),
          HttpResilience.standard({ name: "api", loadShedder })
        )
        yield* Effect.provide(serve(app), yield* Layer.build(HttpResilience.Live.pipe(Layer.provide(load))))
        yield* HttpClient.get("/")
        yield* eventually(Effect.sync(() => samples > 20))
        expect((yield* HttpClient.get("/")).status).toBe(status)
      }).pipe(Effect.provide(NodeHttpServer.layerTest)))
  }

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
    }).pipe(Effect.provide(Live)))

  it.scopedLive("tells the handler what was found out", () =>
    Effect.gen(function*() {
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get(
          "/",
          Effect.gen(function*() {
            const ip = yield* ClientIp
            const decision = yield* RateLimitDecision
            const priority = yield* Priority
            return yield* HttpServerResponse.json({
              ip: Option.getOrNull(ip),
              left: Option.map(decision, ({ remaining }) => remaining).pipe(Option.getOrNull),
              priority
            })
          })
        ),
        HttpResilience.standard({
          name: "api",
          clientIp: ClientIp.fromForwardedFor({ trusted: ClientIp.privateRanges }),
          rateLimit: { rate: "5/minute" }
        })
      ))
      const ask = (headers: Record<string, string>) => Effect.flatMap(HttpClient.get("/", { headers }), (_) => _.json)
      expect(yield* ask({ "x-forwarded-for": "1.1.1.1, 198.51.100.7", "x-priority": "low" })).toEqual({
        ip: "198.51.100.7",
        left: 4,
        priority: "low"
      })
      // Another client has its own share; nobody may raise itself.
      expect(yield* ask({ "x-forwarded-for": "198.51.100.8", "x-priority": "critical" })).toEqual({
        ip: "198.51.100.8",
        left: 4,
        priority: "normal"
      })
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a handler reads the peer of the socket as ClientIp where nothing is said, or what a policy around found", () =>
    Effect.gen(function*() {
      const ip = Effect.map(ClientIp, (ip) => HttpServerResponse.text(Option.getOrElse(ip, () => "nobody")))
      const inner = HttpResilience.timeout({ name: "inner" })
      const forwarded = ClientIp.fromForwardedFor({ trusted: ClientIp.privateRanges })
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get("/", inner(ip)),
        HttpRouter.get("/forwarded", HttpResilience.standard({ name: "outer", clientIp: forwarded })(inner(ip)))
      ))
      const ask = (path: string) =>
        Effect.flatMap(HttpClient.get(path, { headers: { "x-forwarded-for": "198.51.100.7" } }), (_) => _.text)
      expect(yield* ask("/")).toBe("127.0.0.1")
      expect(yield* ask("/forwarded")).toBe("198.51.100.7")
    }).pipe(Effect.provide(Live)))

  it.scopedLive("warns once where a client has no address and no key", () =>
    Effect.gen(function*() {
      const warnings: Array<string> = []
      const logger = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ message }) => {
          warnings.push(String(message))
        })
      )
      const handler = yield* Effect.provide(
        serveWeb(HttpResilience.rateLimit({ name: "keyless", rate: "1/minute" })(HttpServerResponse.text("hello"))),
        logger
      )
      for (const _ of [1, 2]) {
        expect((yield* Effect.promise(() => handler(new Request("http://a.test/")))).status).toBe(429)
      }
      expect(warnings).toEqual([
        "HttpResilience \"keyless\": a request has no key, and is turned away. Its server does not tell the address of a " +
        "client: set `clientIp`, or the `key` of the rate limit"
      ])
    }).pipe(Effect.provide(Live)))

  it.scopedLive("an error of core that nobody handles has its status", () =>
    Effect.gen(function*() {
      const full = new BulkheadFullError({
        instance: "db",
        reason: "QueueFull",
        active: 1,
        waiting: 0,
        retryAfter: Option.none()
      })
      const open = new CircuitOpenError({
        state: "Open",
        instance: "db",
        reason: "Open",
        retryAfter: Option.some(Duration.seconds(30))
      })
      const paced = new RateLimitExceededError({
        instance: "stripe-prod",
        reason: "Exceeded",
        retryAfter: Option.some(Duration.seconds(5)),
        limit: 10,
        remaining: 0
      })
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get("/paced", Effect.fail(paced)),
        HttpRouter.get("/full", Effect.fail(full)),
        HttpRouter.get("/open", Effect.fail(open)),
        HttpRouter.get("/died", Effect.die(full))
      ))
      const answer = yield* HttpClient.get("/full")
      expect([answer.status, answer.headers["retry-after"]]).toEqual([503, expect.stringMatching(/^[12]$/)])
      expect(yield* answer.json).toEqual({
        _tag: "ServiceUnavailable",
        type: "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        title: "Request cannot be satisfied due to temporary server capacity constraints",
        status: 503
      })
      const circuit = yield* HttpClient.get("/open")
      expect([circuit.status, Number(circuit.headers["retry-after"]) >= 30]).toEqual([503, true])
      // It may be a limiter of calls that go out: nothing that this client did, nor should know of.
      const limited = yield* HttpClient.get("/paced")
      expect([limited.status, Number(limited.headers["retry-after"]) >= 5]).toEqual([503, true])
      expect(yield* limited.json).toEqual({
        _tag: "ServiceUnavailable",
        type: "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        title: "Request cannot be satisfied due to temporary server capacity constraints",
        status: 503
      })
    }).pipe(Effect.provide(Live)))

  it.scopedLive("HT21: a caller's own deadline is a 504, and no failure of the service", () =>
    Effect.gen(function*() {
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.never),
        HttpResilience.standard({
          name: "api",
          loadShedder: false,
          circuitBreaker: { consecutiveFailures: 1 }
        })
      ))
      for (let i = 0; i < 3; i++) {
        expect((yield* HttpClient.get("/", { headers: { "grpc-timeout": "20m" } })).status).toBe(504)
      }
      expect((yield* HttpClient.get("/", { headers: { "x-request-timeout-ms": "0" } })).status).toBe(504)
      const { instances } = yield* Registry.snapshot
      expect(instances.find(({ pattern }) => pattern === "CircuitBreaker")?.metrics).toMatchObject({
        failed: 0,
        ignored: 3
      })
    }).pipe(Effect.provide(Live)))

  it.scopedLive("HT7: closes a connection whose body it will not read", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.post("/", HttpServerResponse.text("ok")),
        HttpResilience.rateLimit({ name: "api", rate: "1/minute" })
      ))
      const agent = new Agent({ keepAlive: true })
      yield* Effect.addFinalizer(() => Effect.sync(() => agent.destroy()))
      const post = (size: number) =>
        Effect.promise(() => fetchNode(url, { method: "POST", agent, body: new Uint8Array(size) }))
      yield* post(1)
      const small = yield* post(1)
      const large = yield* post(100_000)
      expect([small?.status, small?.headers.connection]).toEqual([429, "keep-alive"])
      expect([large?.status, large?.headers.connection]).toEqual([429, "close"])
    }).pipe(Effect.provide(Live)))

  it.scopedLive("HT8, HT9: CORS stands on rejections too", () =>
    Effect.gen(function*() {
      yield* serve(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        HttpResilience.rateLimit({ name: "api", rate: "1/minute" }),
        HttpMiddleware.cors({ exposedHeaders: HttpResilience.exposedHeaders })
      ))
      const get = HttpClient.get("/", { headers: { origin: "https://example.com" } })
      yield* get
      const { headers, status } = yield* get
      expect(status).toBe(429)
      expect(headers).toMatchObject({
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "Retry-After,RateLimit,RateLimit-Policy"
      })
    }).pipe(Effect.provide(Live)))

  describe("in an HttpApi", () => {
    class Protected extends HttpApiMiddleware.Tag<Protected>()("Protected", {
      failure: HttpResilience.Failure,
      provides: RateLimitDecision
    }) {}
    const api = HttpApi.make("api").add(
      HttpApiGroup.make("things").add(
        HttpApiEndpoint.get("one", "/one").addSuccess(Schema.Number).middleware(Protected)
      )
    )
    const group = HttpApiBuilder.group(
      api,
      "things",
      (handlers) =>
        handlers.handle(
          "one",
          () => Effect.map(RateLimitDecision, Option.match({ onNone: () => -1, onSome: (_) => _.remaining }))
        )
    )
    const protectedLive = Layer.effect(
      Protected,
      HttpResilience.apiMiddlewareWithDecision({ name: "api", rateLimit: { rate: "1/minute" } })
    )
    const served = HttpApiBuilder.serve().pipe(
      Layer.provide(HttpApiBuilder.api(api)),
      Layer.provide(group),
      Layer.provide(protectedLive)
    )

    it.scopedLive("HT17: a rejection is a typed failure of the derived client, with its headers on the wire", () =>
      Effect.gen(function*() {
        yield* Layer.build(served)
        const client = yield* HttpApiClient.make(api)
        expect(yield* client.things.one()).toBe(0)
        const error = yield* Effect.flip(client.things.one())
        expect(error).toBeInstanceOf(TooManyRequests)
        const raw = yield* HttpClient.get("/one")
        expect(raw.status).toBe(429)
        expect(raw.headers).toMatchObject({
          "content-type": "application/problem+json",
          "cache-control": "no-store",
          "ratelimit-policy": "\"api\";q=1;w=60"
        })
        expect(Number(raw.headers["retry-after"])).toBeGreaterThan(50)
      }).pipe(Effect.provide(Live)))

    it.scopedLive("stands around all of it", () =>
      Effect.gen(function*() {
        const around = HttpApiBuilder.middleware(
          HttpResilience.middlewareEffect(HttpResilience.rateLimit({ name: "all", rate: "1/minute" }))
        )
        const free = Layer.effect(Protected, Effect.succeed(Effect.succeedNone))
        yield* Layer.build(
          HttpApiBuilder.serve().pipe(
            Layer.provide(around),
            Layer.provide(HttpApiBuilder.api(api)),
            Layer.provide(group),
            Layer.provide(free)
          )
        )
        expect((yield* HttpClient.get("/one")).status).toBe(200)
        expect((yield* HttpClient.get("/one")).status).toBe(429)
      }).pipe(Effect.provide(Live)))

    class Limited extends HttpApiMiddleware.Tag<Limited>()("Limited", { failure: HttpResilience.Failure }) {}
    const found = HttpApi.make("found").add(
      HttpApiGroup.make("found").add(
        HttpApiEndpoint.get("all", "/found").addSuccess(Schema.Unknown).middleware(Limited)
      )
    )
    it.scopedLive("tells the handler what was found out", () =>
      Effect.gen(function*() {
        const clientIp = ClientIp.fromForwardedFor({ trusted: ClientIp.privateRanges })
        yield* Layer.build(
          HttpApiBuilder.serve().pipe(
            Layer.provide(HttpApiBuilder.api(found)),
            Layer.provide(HttpApiBuilder.group(found, "found", (handlers) =>
              handlers.handle("all", () =>
                Effect.gen(function*() {
                  const deadline = yield* Deadline
                  return {
                    ip: Option.getOrNull(yield* ClientIp),
                    priority: yield* Priority,
                    left: Option.map(yield* RateLimitDecision, ({ remaining }) => remaining).pipe(Option.getOrNull),
                    deadline: deadline?.origin,
                    // A core pattern heeds the deadline: it gives up in time.
                    waits: yield* Effect.exit(Deadline.within("10 seconds")(Effect.never)).pipe(
                      Effect.map(({ _tag }) => _tag)
                    )
                  }
                })))),
            Layer.provide(Layer.effect(
              Limited,
              HttpResilience.apiMiddleware({ name: "found", clientIp, rateLimit: { rate: "5/minute" } })
            ))
          )
        )
        const headers = { "x-forwarded-for": "198.51.100.7", "x-priority": "low", "x-request-timeout-ms": "200" }
        const { json } = yield* HttpClient.get("/found", { headers })
        expect(yield* json).toEqual({
          ip: "198.51.100.7",
          priority: "low",
          left: 4,
          deadline: "caller",
          waits: "Failure"
        })
      }).pipe(Effect.provide(Live)))

    it("has no status that is no typed failure", () => {
      expect(() => HttpResilience.apiMiddleware({ name: "typed", rateLimit: { rate: "1/minute", status: 403 } }))
        .toThrow(/"typed".*rateLimit\.status.*403/)
    })

    it("stands in OpenAPI", () => {
      const responses = OpenApi.fromApi(api).paths["/one"]?.get?.responses
      expect(Object.keys(responses ?? {})).toEqual(expect.arrayContaining(["200", "429", "503", "504"]))
      expect(responses?.[429]?.content).toHaveProperty("application/problem+json")
    })
  })
})
