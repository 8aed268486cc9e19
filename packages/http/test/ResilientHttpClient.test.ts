import {
  BulkheadFullError,
  CircuitOpenError,
  Deadline,
  Priority,
  RateLimitExceededError,
  Retry,
  SharedCircuits,
  TimeoutExceededError
} from "@effect-resilience/core"
import { Idempotency, IdempotencyStore, ResilientHttpClient, TwoClientsError } from "@effect-resilience/http"
import {
  HttpApi,
  HttpApiClient,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpClient,
  HttpClientRequest,
  HttpClientResponse,
  HttpRouter,
  HttpServerResponse
} from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Layer, Logger, Option, Schema, Stream, TestClock, Tracer } from "effect"
import type { Seen } from "./utils/backend.js"
import { backend, transports } from "./utils/backend.js"
import { eventually, isWhole, quick, resilient, services, snapshot } from "./utils/client.js"
import { serveNode } from "./utils/servers.js"

const Live = Layer.merge(transports.node, services)

const live = <A, E>(name: string, body: Effect.Effect<A, E, any>) =>
  it.scopedLive(name, () => body.pipe(Effect.provide(Live)) as Effect.Effect<A, E>)

/** Milliseconds between the first two requests. */
const pause = ([first, second]: ReadonlyArray<Seen>) => (second?.at ?? NaN) - (first?.at ?? NaN)

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([took, value]) => [Duration.toMillis(took), value] as const)

describe("retry", () => {
  live(
    "by status: those that may pass, and never more than the attempts",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, { path }) => response.writeHead(Number(path.slice(1))).end("no"))
      const client = yield* resilient({ name: "api", retry: { ...quick, budget: false }, circuitBreaker: false })
      const attempts = (status: number) =>
        Effect.gen(function*() {
          const response = yield* client.get(`${url}/${status}`)
          expect(response.status).toBe(status)
          expect(yield* response.text).toBe("no")
          return seen.filter(({ path }) => path === `/${status}`).length
        })
      for (const status of [408, 425, 429, 500, 502, 503, 504]) expect(yield* attempts(status)).toBe(3)
      for (const status of [200, 400, 404, 409, 501, 505, 511]) expect(yield* attempts(status)).toBe(1)
    })
  )

  live(
    "not where Envoy's own limit answered, or a server pushes back",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, { path }) =>
        response.writeHead(
          503,
          path === "/envoy" ? { "x-envoy-ratelimited": "true" } : { "grpc-retry-pushback-ms": "-1" }
        )
          .end()
      )
      const client = yield* resilient({ name: "api", retry: quick })
      yield* client.get(`${url}/envoy`)
      yield* client.get(`${url}/grpc`)
      expect(seen).toHaveLength(2)
    })
  )

  live(
    "a POST with an Idempotency-Key is retried with the same one; a stream is sent once",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response) => response.writeHead(503).end())
      const client = yield* resilient({ name: "given", retry: quick })
      yield* client.post(url, { headers: { "idempotency-key": "mine" } })
      expect(seen.splice(0).map(({ headers }) => headers["idempotency-key"])).toEqual(["mine", "mine", "mine"])

      const generating = yield* resilient({ name: "generated", retry: { ...quick, idempotencyKey: true } })
      yield* generating.post(url)
      const [key, ...others] = seen.splice(0).map(({ headers }) => headers["idempotency-key"])
      // A string of structured fields, as the draft has it.
      expect(key).toMatch(/^"[0-9a-f-]{36}"$/)
      expect(others).toEqual([key, key])
      yield* generating.post(url)
      expect(seen.splice(0)[0]?.headers["idempotency-key"]).not.toBe(key)

      const body = Stream.make(new TextEncoder().encode("once"))
      yield* client.execute(HttpClientRequest.bodyStream(HttpClientRequest.put(url), body))
      expect(seen.splice(0).map(({ body }) => body)).toEqual(["once"])
    })
  )

  live(
    "our own server takes the Idempotency-Key of our own client",
    Effect.gen(function*() {
      const { url } = yield* serveNode(
        HttpRouter.empty.pipe(
          HttpRouter.post("/", HttpServerResponse.text("paid")),
          Idempotency.middleware({ name: "payments", principal: Idempotency.anybody })
        ).pipe(Effect.provideServiceEffect(IdempotencyStore, IdempotencyStore.makeMemory()))
      )
      const client = yield* resilient({ name: "api", retry: { idempotencyKey: true } })
      const response = yield* client.post(url)
      expect([response.status, yield* response.text]).toEqual([200, "paid"])
    })
  )

  live(
    "Retry-After is kept: in seconds, and as a date by the server's clock",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, { path }, count) => {
        if (count % 2 === 0) {
          response.end()
          return
        }
        const far = Date.UTC(2001, 0, 1)
        const headers = path === "/date"
          ? { date: new Date(far).toUTCString(), "retry-after": new Date(far + 1000).toUTCString() }
          : { "retry-after": "1" }
        response.writeHead(503, headers).end()
      })
      const client = yield* resilient({ name: "api", retry: quick })
      yield* client.get(url)
      expect(pause(seen.splice(0))).toBeGreaterThanOrEqual(999)
      yield* client.get(`${url}/date`)
      expect(pause(seen)).toBeGreaterThanOrEqual(999)
    })
  )

  live(
    "a Retry-After beyond the longest wait, or beyond the deadline, fails now",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, { path }) =>
        response.writeHead(503, { "retry-after": path.slice(1) }).end()
      )
      const client = yield* resilient({
        name: "api",
        retry: { ...quick, maxRetryAfter: "10 seconds" },
        timeout: "8 seconds",
        attemptTimeout: "1 second"
      })
      const [long, response] = yield* timed(client.get(`${url}/11`))
      expect(response.headers["retry-after"]).toBe("11")
      const [late] = yield* timed(client.get(`${url}/9`))
      const [callers] = yield* timed(client.get(`${url}/1`).pipe(Deadline.within("900 millis", { origin: "caller" })))
      expect(Math.max(long, late, callers)).toBeLessThan(800)
      expect(seen).toHaveLength(3)
    })
  )

  live(
    "the load of a failing server grows by no more than the budget",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, _, count) =>
        response.writeHead(count <= 100 ? 200 : 503, { "content-length": 0 }).end()
      )
      const client = yield* resilient({
        name: "api",
        circuitBreaker: false,
        retry: { ...quick, budget: { tokensPerSuccess: 0.1, maxTokens: 10, minPerSecond: 0 } }
      })
      yield* Effect.repeatN(client.get(url), 99)
      expect(seen).toHaveLength(100)
      yield* Effect.forEach(Array.from({ length: 300 }), () => client.get(url), { concurrency: 20 })
      expect(seen).toHaveLength(410)
    })
  )

  live(
    "a retry inside another is reported, once",
    Effect.gen(function*() {
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => warnings.push(String(message)))
      const { url } = yield* backend((response) => response.writeHead(503).end())
      const client = yield* resilient({ name: "inner", retry: quick })
      const status = Effect.flatMap(client.get(url), ({ status }) => Effect.fail(status))
      yield* Effect.exit(Retry.using({ maxAttempts: 4, initialDelay: 0 })(status)).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      expect(warnings).toHaveLength(1)
      expect(warnings[0]).toContain("\"inner\" retries inside another retry")
    })
  )
})

describe("limits", () => {
  live(
    "the total time ends the call, retries included",
    Effect.gen(function*() {
      const { seen, url } = yield* backend(() => {})
      const client = yield* resilient({
        name: "api",
        timeout: "500 millis",
        attemptTimeout: "200 millis",
        retry: { ...quick, maxAttempts: 9 }
      })
      const [took, error] = yield* timed(Effect.flip(client.get(url)))
      expect(error).toBeInstanceOf(TimeoutExceededError)
      expect(took).toBeGreaterThanOrEqual(400)
      expect(took).toBeLessThan(1500)
      expect(seen.length).toBeGreaterThan(1)
      expect(yield* isWhole("api")).toBe(true)
    })
  )

  live(
    "a bulkhead for each authority: one that hangs leaves the others alone",
    Effect.gen(function*() {
      const slow = yield* backend(() => {})
      const well = yield* backend((response) => response.end("well"))
      const client = yield* resilient({ name: "api", retry: false, bulkhead: { maxConcurrent: 1, maxQueued: 0 } })
      const hanging = yield* Effect.fork(client.get(slow.url))
      yield* eventually(Effect.sync(() => slow.seen.length === 1))
      expect(yield* Effect.flip(client.get(slow.url))).toBeInstanceOf(BulkheadFullError)
      expect(yield* Effect.flatMap(client.get(well.url), (response) => response.text)).toBe("well")
      yield* Fiber.interrupt(hanging)
      expect(yield* isWhole("api")).toBe(true)
    })
  )

  live(
    "a circuit for each authority: by statuses of the server's fault, not by those of the client's",
    Effect.gen(function*() {
      const ill = yield* backend((response) => response.writeHead(500).end())
      const well = yield* backend((response) => response.writeHead(404).end())
      const client = yield* resilient({ name: "api", retry: false, circuitBreaker: { minimumCalls: 5 } })
      yield* Effect.repeatN(Effect.zipRight(client.get(ill.url), client.get(well.url)), 4)
      expect(yield* Effect.flip(client.get(ill.url))).toBeInstanceOf(CircuitOpenError)
      expect((yield* client.get(well.url)).status).toBe(404)
      expect(ill.seen).toHaveLength(5)
    })
  )

  live(
    "our own timeouts open the circuit, the impatience of a caller does not",
    Effect.gen(function*() {
      const { url } = yield* backend((response, { path }) => {
        if (path === "/well") response.end()
      })
      const client = yield* resilient({
        name: "api",
        retry: false,
        attemptTimeout: "300 millis",
        circuitBreaker: { minimumCalls: 6 }
      })
      // The first call takes longer than the others, and would be late before it is sent.
      yield* client.get(`${url}/well`)
      const impatient = client.get(url).pipe(Deadline.within("100 millis", { origin: "caller" }), Effect.flip)
      for (let call = 0; call < 10; call++) expect(yield* impatient).toMatchObject({ origin: "caller" })
      expect(yield* snapshot("CircuitBreaker", "api")).toMatchObject({ open: [] })
      for (let call = 0; call < 5; call++) {
        expect(yield* Effect.flip(client.get(url))).toMatchObject({ pattern: "Timeout" })
      }
      expect(yield* snapshot("CircuitBreaker", "api")).toMatchObject({ open: [{ key: url, state: "Open" }] })
    })
  )

  live(
    "a rate for each authority",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response) => response.end())
      const client = yield* resilient({ name: "api", rateLimit: { rate: "2/minute", maxWait: 0 } })
      yield* Effect.repeatN(Effect.flatMap(client.get(url), (response) => response.text), 1)
      expect(yield* Effect.flip(client.get(url))).toBeInstanceOf(RateLimitExceededError)
      expect(seen).toHaveLength(2)
    })
  )

  live(
    "the limit that a server tells of is heeded before it says 429",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, { path }) =>
        response.writeHead(200, {
          "content-length": 0,
          ratelimit: path === "/soon" ? "\"p\";r=0;t=1" : "\"p\";r=0;t=60"
        }).end()
      )
      const client = yield* resilient({ name: "api", heedRateLimit: { maxWait: "2 seconds" } })
      yield* client.get(`${url}/soon`)
      yield* client.get(`${url}/late`)
      expect(pause(seen)).toBeGreaterThanOrEqual(900)
      const error = yield* Effect.flip(client.get(url))
      expect(error).toBeInstanceOf(RateLimitExceededError)
      expect(error).toMatchObject({ instance: "api/paced", reason: "Exceeded" })
      expect(seen).toHaveLength(2)
    })
  )
})

describe("a server that asks for too long a pause is asked again after maxReset", () => {
  const forms = [{ "retry-after": "31536000" }, { ratelimit: `"p";r=0;t=31536000` }, {
    "x-ratelimit-remaining": "0",
    "x-ratelimit-reset": "99999999999"
  }]
  for (const headers of forms) {
    it.effect(JSON.stringify(headers), () =>
      Effect.gen(function*() {
        let sent = 0
        const own = HttpClient.make((request) =>
          Effect.sync(() => {
            const init = ++sent === 1 ? { status: 429, headers } : { status: 200 }
            return HttpClientResponse.fromWeb(request, new Response(null, init))
          })
        )
        const client = ResilientHttpClient.standard({
          name: "api",
          retry: false,
          heedRateLimit: { maxReset: "1 minute" }
        })(
          own
        )
        yield* client.get("http://a.test/")
        yield* TestClock.adjust("59 seconds")
        expect(yield* Effect.flip(client.get("http://a.test/").pipe(Deadline.within("1 second")))).toMatchObject({
          instance: "api/paced"
        })
        yield* TestClock.adjust("1 second")
        expect((yield* client.get("http://a.test/")).status).toBe(200)
        expect(sent).toBe(2)
      }).pipe(Effect.provide(services)))
  }
})

describe("what is told", () => {
  live(
    "deadline and priority, to the hosts that are named and to nobody else",
    Effect.gen(function*() {
      const { port, seen, url } = yield* backend((response, _, count) =>
        response.writeHead(count === 1 ? 503 : 200, { "content-length": 0 }).end()
      )
      const client = yield* resilient({
        name: "api",
        retry: { initialDelay: "50 millis" },
        propagate: { hosts: [`LOCALHOST:${port}`], deadline: "grpc-timeout" }
      })
      yield* client.get(`http://localhost:${port}`).pipe(Deadline.within("5 seconds"), Priority.within("low"))
      yield* client.get(url)
      const [first, second, other] = seen.map(({ headers }) => headers)
      const millis = (text: unknown) => Number(/^(\d+)m$/.exec(String(text))?.[1])
      expect(millis(first?.["grpc-timeout"])).toBeLessThanOrEqual(5000)
      expect(millis(second?.["grpc-timeout"])).toBeLessThanOrEqual(millis(first?.["grpc-timeout"]))
      expect(millis(second?.["grpc-timeout"])).toBeGreaterThan(3000)
      expect(first?.["x-priority"]).toBe("low")
      expect(other).not.toHaveProperty("grpc-timeout")
      expect(other).not.toHaveProperty("x-priority")
    })
  )

  live(
    "spans: one for the call, one for each attempt with its number",
    Effect.gen(function*() {
      const spans: Array<Tracer.Span> = []
      const native = yield* Effect.tracer
      const tracer = Tracer.make({
        span: (...args) => {
          const span = native.span(...args)
          spans.push(span)
          return span
        },
        context: (f) => f()
      })
      const { url } = yield* backend((response, _, count) => response.writeHead(count < 3 ? 503 : 200).end())
      const client = yield* resilient({ name: "api", retry: quick })
      yield* Effect.withTracer(client.get(url), tracer)
      const [call, ...attempts] = spans
      expect(call?.name).toBe("resilience.http api")
      expect(Object.fromEntries(call?.attributes ?? [])).toMatchObject({
        "resilience.attempts": 3,
        "resilience.outcome": "200"
      })
      expect(attempts.map(({ name }) => name)).toEqual(Array.from({ length: 3 }, () => "http.client GET"))
      expect(attempts.map(({ attributes }) => attributes.get("http.request.resend_count"))).toEqual([undefined, 1, 2])
      for (const { parent } of attempts) expect(Option.getOrThrow(parent)).toMatchObject({ spanId: call?.spanId })
    })
  )
})

describe("forms", () => {
  const Api = HttpApi.make("Api").add(
    HttpApiGroup.make("things").add(HttpApiEndpoint.get("one", "/one").addSuccess(Schema.Struct({ id: Schema.Number })))
  )

  live(
    "transformClient of HttpApiClient",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, _, count) =>
        response.writeHead(count === 1 ? 503 : 200, { "content-type": "application/json" }).end(`{"id":1}`)
      )
      const client = yield* HttpApiClient.make(Api, {
        baseUrl: url,
        transformClient: yield* ResilientHttpClient.transform({ name: "api", retry: quick })
      })
      expect(yield* client.things.one()).toEqual({ id: 1 })
      expect(seen).toHaveLength(2)
    })
  )

  live(
    "as a layer, whose errors are those that clients know, and are not retried again",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response) => response.writeHead(500).end())
      const layer = ResilientHttpClient.layer({ name: "api", retry: false, circuitBreaker: { minimumCalls: 2 } })
      yield* Effect.gen(function*() {
        const client = (yield* HttpClient.HttpClient).pipe(HttpClient.mapRequest(HttpClientRequest.prependUrl(url)))
        yield* Effect.repeatN(client.get("/"), 1)
        const error = yield* Effect.flip(client.get("/"))
        expect(error).toMatchObject({ _tag: "RequestError", reason: "Transport", retryable: false })
        expect(error.cause).toBeInstanceOf(CircuitOpenError)
        expect(error.message).toContain("Circuit breaker \"api\"")
        const outer = ResilientHttpClient.standard({ name: "outer", retry: quick })(client)
        expect(yield* Effect.flip(outer.get("/"))).toMatchObject({ retryable: false })
        expect(yield* snapshot("Retry", "outer")).toMatchObject({ retries: 0 })
        expect(seen).toHaveLength(2)
      }).pipe(Effect.provide(layer))
    })
  )

  live(
    "whose circuits join a fleet, one for each authority",
    Effect.gen(function*() {
      const { url } = yield* backend((response) => response.end())
      const joined: Array<SharedCircuits.Circuit> = []
      const fleet: SharedCircuits.Service = {
        join: (circuit) => {
          joined.push(circuit)
          return undefined
        }
      }
      const layer = ResilientHttpClient.layer({ name: "api" }).pipe(Layer.provide(Layer.succeed(SharedCircuits, fleet)))
      yield* Effect.flatMap(HttpClient.HttpClient, (client) => client.get(url)).pipe(Effect.provide(layer))
      expect(joined.map(({ instance, key }) => [instance, key])).toEqual([["api", new URL(url).origin]])
    })
  )

  live(
    "the client's own requests are made ready once, and its statuses are read",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, _, count) => response.writeHead(count < 3 ? 503 : 200).end("ok"))
      const own = (yield* HttpClient.HttpClient).pipe(
        HttpClient.filterStatusOk,
        HttpClient.mapRequest(HttpClientRequest.prependUrl(`${url}/base`))
      )
      const client = ResilientHttpClient.standard({ name: "api", retry: quick })(own)
      expect(yield* Effect.flatMap(client.get("/path"), (response) => response.text)).toBe("ok")
      expect(seen.map(({ path }) => path)).toEqual(["/base/path", "/base/path", "/base/path"])
      expect(yield* isWhole("api")).toBe(true)
    })
  )

  live(
    "two clients of one name are a mistake; one client twice has one state",
    Effect.gen(function*() {
      const { url } = yield* backend((response) => response.writeHead(500).end())
      const options = { name: "api", retry: false, circuitBreaker: { minimumCalls: 2 } } as const
      const [one, two] = [yield* resilient(options), yield* resilient(options)]
      yield* one.get(url)
      yield* two.get(url)
      expect(yield* Effect.flip(one.get(url))).toBeInstanceOf(CircuitOpenError)
      const exit = yield* Effect.exit(Effect.flatMap(resilient({ ...options }), (client) => client.get(url)))
      expect(Exit.isFailure(exit) && Option.getOrThrow(Cause.dieOption(exit.cause))).toBeInstanceOf(TwoClientsError)
    })
  )
})

describe("options that contradict each other are refused", () => {
  const cases: ReadonlyArray<readonly [Omit<ResilientHttpClient.Options, "name">, string]> = [
    [
      { timeout: "5 seconds", attemptTimeout: "10 seconds" },
      "ResilientHttpClient \"api\": option attemptTimeout must be at most timeout (5s), but is 10s"
    ],
    [
      { attemptTimeout: "10 seconds", circuitBreaker: { window: { duration: "15 seconds" } } },
      "option circuitBreaker.window must be at least twice attemptTimeout (20s)"
    ],
    [
      { timeout: "30 seconds", bulkhead: { maxWait: "31 seconds" } },
      "option bulkhead.maxWait must be at most timeout (30s), but is 31s"
    ],
    [
      { timeout: "30 seconds", retry: { initialDelay: "31 seconds", maxDelay: "1 minute" } },
      "option retry.initialDelay must be at most timeout (30s)"
    ],
    [
      { retry: { initialDelay: "6 seconds", maxDelay: "5 seconds" } },
      "option retry.maxDelay must be at least retry.initialDelay (6s), but is 5s"
    ],
    [
      { retry: { statuses: [200] } },
      "ResilientHttpClient \"api/retry\": option statuses must be a list of statuses from 400 to 599, but is [200]"
    ],
    [{ attemptTimeout: -1 }, "option attemptTimeout must be a duration above 0 ms, but is -1"],
    [{ maxAuthorities: 0.5 }, "option maxAuthorities must be an integer of at least 1, but is 0.5"]
  ]
  for (const [options, message] of cases) {
    it(message, () => expect(() => ResilientHttpClient.standard({ name: "api", ...options })).toThrow(message))
  }
  it("and one that does not exist", () => {
    const options: any = { name: "api", timeuot: 1 }
    expect(() => ResilientHttpClient.standard(options)).toThrow("has no option \"timeuot\"")
  })
})
