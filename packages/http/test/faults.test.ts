import type { Bulkhead, CircuitBreaker, LoadShedder } from "@effect-resilience/core"
import { Registry, ResilienceLive } from "@effect-resilience/core"
import { ClientIp, HttpResilience } from "@effect-resilience/http"
import type { HttpApp } from "@effect/platform"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { NodeHttpClient } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, Schedule, TestClock } from "effect"
import { backend } from "./utils/backend.js"
import { quick, resilient, services } from "./utils/client.js"
import type { Answer } from "./utils/servers.js"
import { fetchNode, serveNode } from "./utils/servers.js"

/*
 * The faults of aioresilience's integrations for web frameworks, over real sockets.
 */

const silent = Logger.replace(Logger.defaultLogger, Logger.none)
const live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive), Layer.provideMerge(silent))

const metricsOf = <M>(pattern: string) =>
  Effect.map(
    Registry.snapshot,
    ({ instances }) => instances.find((one) => one.pattern === pattern)?.metrics as M | undefined
  )

const serving = <E, R>(app: HttpApp.Default<E, R>) =>
  Effect.map(serveNode(app), ({ url }) => (path = "/", options: Parameters<typeof fetchNode>[1] = {}) =>
    Effect.flatMap(
      Effect.promise(() => fetchNode(url + path, options)),
      (answer): Effect.Effect<Answer> => answer === undefined ? Effect.die("no answer") : Effect.succeed(answer)
    ))

const bodyOf = ({ body }: Answer): Record<string, unknown> => JSON.parse(body)

/** A handler that waits for its gate, and knows how many were in it, and at once. */
const makeGated = Effect.gen(function*() {
  const gate = yield* Deferred.make<void>()
  const entered = yield* Deferred.make<void>()
  const count = { runs: 0, running: 0, most: 0 }
  const handler: HttpApp.Default = Effect.acquireUseRelease(
    Effect.sync(() => {
      count.runs++
      count.most = Math.max(count.most, ++count.running)
    }),
    () =>
      Effect.zipRight(
        Deferred.succeed(entered, undefined),
        Effect.as(Effect.interruptible(Deferred.await(gate)), HttpServerResponse.text("done"))
      ),
    () => Effect.sync(() => count.running--)
  )
  return { handler, count, entered: Deferred.await(entered), open: Deferred.succeed(gate, undefined) }
})

describe("rejections", () => {
  it.scopedLive("W-H1, W-H22: a full bulkhead answers with a typed 503, and says why where that is wanted", () =>
    Effect.gen(function*() {
      const { entered, handler, open } = yield* makeGated
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get("/", handler),
        HttpResilience.bulkhead({ name: "api", maxConcurrent: 1, maxQueued: 0, detail: "full" })
      ))
      const first = yield* Effect.fork(get())
      yield* entered
      const second = yield* get()
      expect([second.status, second.headers["content-type"]]).toEqual([503, "application/problem+json"])
      expect(second.headers["retry-after"]).toMatch(/^[12]$/)
      expect(bodyOf(second)).toMatchObject({
        _tag: "ServiceUnavailable",
        status: 503,
        pattern: "Bulkhead",
        reason: "QueueFull",
        detail: expect.stringContaining("1 active")
      })
      yield* open
      expect((yield* Fiber.join(first)).body).toBe("done")
    }).pipe(Effect.provide(live)))

  const one = { maxConcurrent: 1, maxQueued: 0 }
  const full = {
    rateLimit: HttpResilience.rateLimit({ name: "api", rate: "1/hour" }),
    bulkhead: HttpResilience.bulkhead({ name: "api", ...one }),
    loadShedder: HttpResilience.loadShedder({ name: "api", maxInFlight: 1, maxQueueDepth: 0 }),
    adaptiveConcurrency: HttpResilience.adaptiveConcurrency({
      name: "api",
      initialLimit: 1,
      maxLimit: 1,
      maxQueued: 0
    }),
    backpressure: HttpResilience.backpressure({
      name: "api",
      maxPending: 1,
      highWaterMark: 1,
      lowWaterMark: 0,
      maxWait: "10 millis"
    })
  }
  for (const [pattern, policy] of Object.entries(full)) {
    it.scopedLive(`W-H21: that of ${pattern} is a document like the others`, () =>
      Effect.gen(function*() {
        const { entered, handler, open } = yield* makeGated
        const get = yield* serving(HttpRouter.empty.pipe(HttpRouter.get("/", handler), policy))
        const first = yield* Effect.fork(get())
        yield* entered
        const answer = yield* get()
        const status = pattern === "rateLimit" ? 429 : 503
        expect(answer.status).toBe(status)
        expect(answer.headers).toMatchObject({
          "content-type": "application/problem+json",
          "cache-control": "no-store",
          "retry-after": expect.stringMatching(/^\d+$/)
        })
        expect(bodyOf(answer)).toMatchObject({
          _tag: pattern === "rateLimit" ? "TooManyRequests" : "ServiceUnavailable",
          status,
          type: expect.any(String),
          title: expect.any(String)
        })
        yield* open
        yield* Fiber.join(first)
      }).pipe(Effect.provide(live)))
  }

  it.scopedLive("W-H7: nobody is told what the service failed of", () =>
    Effect.gen(function*() {
      const secret = "postgres://app:hunter2@db"
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get("/fail", Effect.fail(new Error(secret))),
        HttpRouter.get("/die", Effect.die(new Error(secret))),
        HttpResilience.standard({
          name: "api",
          detail: "full",
          circuitBreaker: { consecutiveFailures: 2 },
          bulkhead: one
        })
      ))
      const answers = yield* Effect.forEach(["/fail", "/die", "/fail"], (path) => get(path))
      // The third one found the circuit open.
      expect(answers.map(({ status }) => status)).toEqual([500, 500, 503])
      for (const answer of answers) expect(JSON.stringify(answer)).not.toContain("hunter2")
    }).pipe(Effect.provide(live)))

  it.scoped("W-H16: Retry-After is the time that is left, in whole seconds and never 0", () =>
    Effect.gen(function*() {
      const failing = HttpServerResponse.empty({ status: 500 })
      const policy = { consecutiveFailures: 1, openDuration: "10 seconds" } as const
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.mountApp("/a", failing.pipe(HttpResilience.circuitBreaker({ name: "a", ...policy }))),
        HttpRouter.mountApp(
          "/b",
          failing.pipe(HttpResilience.circuitBreaker({ name: "b", ...policy, retryAfter: "1 minute" }))
        )
      ))
      const wait = (path: string) =>
        Effect.map(get(path), ({ headers, status }) => [status, Number(headers["retry-after"])] as const)
      yield* get("/a")
      yield* get("/b")
      // The first one after the circuit opened is told the same as any other, and what the options say is a floor.
      const [status, whole] = yield* wait("/a")
      expect([status, whole >= 10 && whole <= 12]).toEqual([503, true])
      const [, floor] = yield* wait("/b")
      expect(floor >= 60 && floor <= 67).toBe(true)
      yield* TestClock.adjust("7500 millis")
      expect((yield* wait("/a"))[1]).toBeGreaterThanOrEqual(3)
      expect((yield* wait("/a"))[1]).toBeLessThanOrEqual(4)
      yield* TestClock.adjust("2400 millis")
      expect((yield* wait("/a"))[1]).toBeGreaterThanOrEqual(1)
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H17: the state of a circuit is a word", () =>
    Effect.gen(function*() {
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.empty({ status: 500 })),
        HttpResilience.circuitBreaker({ name: "api", consecutiveFailures: 1, detail: "full" })
      ))
      yield* get()
      const body = bodyOf(yield* get())
      expect(body).toMatchObject({ pattern: "CircuitBreaker", reason: "Open" })
      expect(String(body["detail"])).toMatch(/\bopen\b/i)
    }).pipe(Effect.provide(live)))
})

describe("the chain", () => {
  it.scopedLive("W-H2: a full bulkhead lets nobody in, and does not grow by those it turned away", () =>
    Effect.gen(function*() {
      const policy = HttpResilience.standard({ name: "api", bulkhead: { maxConcurrent: 1, maxQueued: 0 } })
      let current = yield* makeGated
      const get = yield* serving(
        HttpRouter.empty.pipe(HttpRouter.get("/", Effect.suspend(() => current.handler)), policy)
      )
      for (let round = 0; round < 2; round++) {
        current = yield* makeGated
        const first = yield* Effect.fork(get())
        yield* current.entered
        const others = yield* Effect.forEach(Array.from({ length: 9 }), () => get(), { concurrency: 9 })
        expect(others.map(({ status }) => status)).toEqual(others.map(() => 503))
        yield* current.open
        yield* Fiber.join(first)
        expect(current.count).toEqual({ runs: 1, running: 0, most: 1 })
      }
    }).pipe(Effect.provide(live)))

  it.scoped("W-H3, W-H15, W-H18: what handlers answer opens a circuit, and one probe is let through", () =>
    Effect.gen(function*() {
      const { count, entered, handler, open } = yield* makeGated
      let isDown = true
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get(
          "/",
          Effect.suspend(() => isDown ? HttpServerResponse.text("down", { status: 502 }) : handler)
        ),
        HttpResilience.standard({
          name: "api",
          circuitBreaker: {
            consecutiveFailures: 3,
            openDuration: "10 seconds",
            halfOpenMaxCalls: 1,
            successThreshold: 1
          }
        })
      ))
      const statuses = (answers: ReadonlyArray<Answer>) => answers.map(({ status }) => status)
      expect(statuses(yield* Effect.forEach([1, 2, 3, 4], () => get()))).toEqual([502, 502, 502, 503])
      expect(yield* metricsOf<CircuitBreaker.Metrics>("CircuitBreaker")).toMatchObject({ failed: 3, rejected: 1 })
      isDown = false
      yield* TestClock.adjust("11 seconds")
      const probe = yield* Effect.fork(get())
      yield* entered
      const herd = yield* Effect.forEach(Array.from({ length: 50 }), () => get(), { concurrency: 25 })
      expect(new Set(statuses(herd))).toEqual(new Set([503]))
      yield* open
      expect((yield* Fiber.join(probe)).status).toBe(200)
      expect(count.runs).toBe(1)
      expect((yield* get()).status).toBe(200)
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H6: an answer of the handler is the answer, also when it is a failure", () =>
    Effect.gen(function*() {
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get(
          "/",
          HttpServerResponse.text("back at noon", { status: 503, headers: { "retry-after": "77", "x-own": "1" } })
        ),
        HttpResilience.standard({ name: "api", circuitBreaker: { consecutiveFailures: 2 } })
      ))
      // The second one opens the circuit.
      for (let i = 0; i < 2; i++) {
        const { body, headers, status } = yield* get()
        expect([status, body, headers["retry-after"], headers["x-own"]]).toEqual([503, "back at noon", "77", "1"])
      }
      expect((yield* get()).headers).not.toHaveProperty("x-own")
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H8: a 404 and a redirect are answers, returned or failed with", () =>
    Effect.gen(function*() {
      const login = HttpServerResponse.empty({ status: 302, headers: { location: "/login" } })
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get("/redirect", login),
        HttpRouter.get("/failed", Effect.fail(login)),
        HttpRouter.get("/404", HttpServerResponse.text("no such thing", { status: 404 })),
        HttpResilience.standard({
          name: "api",
          circuitBreaker: { consecutiveFailures: 1 },
          bulkhead: { maxConcurrent: 1 },
          fallback: { respond: HttpServerResponse.text("fallback"), on: ["Failure", "ServerError", "AtCapacity"] }
        })
      ))
      for (const path of ["/redirect", "/failed"]) {
        const { headers, status } = yield* get(path)
        expect([path, status, headers.location]).toEqual([path, 302, "/login"])
      }
      expect(yield* get("/404")).toMatchObject({ status: 404, body: "no such thing" })
      expect((yield* get("/nowhere")).status).toBe(404)
      const metrics = yield* metricsOf<CircuitBreaker.Metrics>("CircuitBreaker")
      expect(metrics).toMatchObject({ state: "Closed", failed: 0, succeeded: 4 })
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H12: time that runs out is a 504, and a timeout of the handler's own is its own", () =>
    Effect.gen(function*() {
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get("/never", Effect.never),
        HttpRouter.get("/own", Effect.timeout(Effect.never, "1 millis")),
        HttpResilience.timeout({ name: "api", duration: "50 millis" })
      ))
      expect(bodyOf(yield* get("/never"))).toMatchObject({ _tag: "GatewayTimeout", status: 504 })
      expect((yield* get("/own")).status).toBe(500)
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H13: an option does what it says, and one that there is not is refused", () =>
    Effect.gen(function*() {
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get("/", Effect.never),
        HttpResilience.standard({ name: "api", timeout: { duration: "20 millis", status: 599, message: "Too late" } })
      ))
      const answer = yield* get()
      expect([answer.status, bodyOf(answer)["title"]]).toEqual([599, "Too late"])
      const misspelt: any = { name: "api", timeuot: "1 second" }
      expect(() => HttpResilience.standard(misspelt)).toThrow("HttpResilience \"api\": has no option \"timeuot\"")
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H14: a request whose client goes before there is a response holds nothing", () =>
    Effect.gen(function*() {
      const { entered, handler } = yield* makeGated
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", handler),
        HttpResilience.standard({ name: "api", bulkhead: { maxConcurrent: 3 }, backpressure: { maxPending: 3 } })
      ))
      yield* Effect.promise(() =>
        fetchNode(url, { onSent: (request) => Effect.runFork(Effect.andThen(entered, () => request.destroy())) })
      )
      const held = Effect.gen(function*() {
        const shedder = yield* metricsOf<LoadShedder.Metrics>("LoadShedder")
        const bulkhead = yield* metricsOf<Bulkhead.Metrics>("Bulkhead")
        return [shedder?.active, bulkhead?.active]
      })
      yield* Effect.repeat(held, {
        schedule: Schedule.spaced("5 millis"),
        until: (counts) => counts.every((count) => count === 0)
      }).pipe(Effect.timeout("5 seconds"), Effect.orDie)
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H19: what is excluded is said by patterns, of every part, and can be nothing", () =>
    Effect.gen(function*() {
      const router = HttpRouter.empty.pipe(
        HttpRouter.get("/health", HttpServerResponse.text("ok")),
        HttpRouter.get("/ops/status/deep", Effect.as(Effect.sleep("60 millis"), HttpServerResponse.text("ok"))),
        HttpRouter.get("/ops/status", Effect.fail("boom"))
      )
      const rate = { rateLimit: { rate: "1/hour" }, timeout: "20 millis" } as const
      const fallback = { respond: HttpServerResponse.text("fallback") }
      const some = yield* serving(
        router.pipe(HttpResilience.standard({ name: "some", ...rate, fallback, exclude: ["/ops/**"] }))
      )
      for (let i = 0; i < 2; i++) {
        expect((yield* some("/ops/status/deep")).body).toBe("ok")
        expect((yield* some("/ops/status")).status).toBe(500)
      }
      expect((yield* some("/health")).status).toBe(200)
      expect((yield* some("/health")).status).toBe(429)
      const none = yield* serving(router.pipe(HttpResilience.standard({ name: "none", ...rate, exclude: [] })))
      expect((yield* none("/health")).status).toBe(200)
      expect((yield* none("/health")).status).toBe(429)
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H20: a fallback has its own status, says that it is one, and answers for a 500 where it is to", () =>
    Effect.gen(function*() {
      const router = HttpRouter.empty.pipe(
        HttpRouter.get("/fail", Effect.fail("boom")),
        HttpRouter.get("/500", HttpServerResponse.text("mine", { status: 500 }))
      )
      const respond = HttpServerResponse.text("fallback", { status: 203 })
      const plain = yield* serving(router.pipe(HttpResilience.fallback({ name: "plain", respond })))
      const also = yield* serving(
        router.pipe(HttpResilience.fallback({ name: "also", respond, on: ["Failure", "ServerError"] }))
      )
      const marked = { status: 203, headers: { "cache-status": "resilience; hit; detail=\"fallback\"" } }
      expect(yield* plain("/fail")).toMatchObject(marked)
      expect(yield* plain("/500")).toMatchObject({ status: 500, body: "mine" })
      expect(yield* also("/500")).toMatchObject(marked)
    }).pipe(Effect.provide(live)))
})

describe("who a client is", () => {
  it.scopedLive("W-H4: who writes X-Forwarded-For anew for each request is one client all the same", () =>
    Effect.gen(function*() {
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        HttpResilience.rateLimit({ name: "api", rate: "5/hour" })
      ))
      const statuses = yield* Effect.forEach(Array.from({ length: 50 }, (_, i) => i), (i) =>
        Effect.map(
          get("/", { headers: { "x-forwarded-for": `198.51.100.${i}`, "x-real-ip": `198.51.100.${i}` } }),
          ({ status }) => status
        ))
      expect(statuses.filter((status) => status === 200)).toHaveLength(5)
    }).pipe(Effect.provide(live)))

  it.scopedLive("W-H5: an address has a key, however a trusted proxy writes it, and garbage has that of the proxy", () =>
    Effect.gen(function*() {
      const get = yield* serving(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        HttpResilience.rateLimit({
          name: "api",
          rate: "1/hour",
          clientIp: ClientIp.fromForwardedFor({ trusted: ["127.0.0.0/8"] })
        })
      ))
      const from = (address: string) =>
        Effect.map(get("/", { headers: { "x-forwarded-for": address } }), ({ status }) => status)
      expect(yield* from("198.51.100.7:4711")).toBe(200)
      expect(yield* from(" 198.51.100.7 ")).toBe(429)
      expect(yield* from("[2001:db8::1]:443")).toBe(200)
      expect(yield* from("2001:db8::2")).toBe(429)
      expect(yield* from("2001:db8:0:1::1")).toBe(200)
      expect(yield* from(", ")).toBe(200)
      expect(yield* from("unknown")).toBe(429)
    }).pipe(Effect.provide(live)))
})

describe("retries", () => {
  it.scopedLive("W-H10: neither what the caller did wrong is sent again, nor what may not be sent twice", () =>
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, { path }) => {
        response.writeHead(Number(path.slice(1)), { "x-own": "1" }).end("as it was")
      })
      const client = yield* resilient({ name: "api", retry: { ...quick, budget: false }, circuitBreaker: false })
      const missing = yield* client.get(`${url}/404`)
      expect([missing.status, missing.headers["x-own"], yield* missing.text]).toEqual([404, "1", "as it was"])
      yield* client.post(`${url}/503`)
      expect(seen.map(({ method, path }) => `${method} ${path}`)).toEqual(["GET /404", "POST /503"])
      // And the last answer of what is sent again is the answer.
      const last = yield* client.get(`${url}/503`)
      expect([last.status, last.headers["x-own"], yield* last.text]).toEqual([503, "1", "as it was"])
      expect(seen).toHaveLength(5)
    }).pipe(Effect.provide(Layer.merge(NodeHttpClient.layerUndici, services))))
})
