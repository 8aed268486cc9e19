import { Bulkhead, CircuitBreaker, Registry, ResilienceLive } from "@effect-resilience/core"
import type { HttpFallback } from "@effect-resilience/http"
import { HttpResilience } from "@effect-resilience/http"
import type { HttpApp } from "@effect/platform"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Fiber, Layer, Option, Ref, Schedule, Stream } from "effect"
import { Readable } from "node:stream"
import { runtimes } from "./utils/servers.js"

const live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))

/** Tells why it was asked. */
const telling: HttpFallback.Options["respond"] = (_, { cause, reason, status }) =>
  HttpServerResponse.json({ reason, status, failed: !Cause.isEmpty(cause) })

const told = (reason: HttpFallback.Reason, status: number, failed = true) => JSON.stringify({ reason, status, failed })

const anybody = () => Option.some("anybody")

for (const [where, serve] of Object.entries(runtimes)) {
  describe(where, () => {
    it.scopedLive("answers what failed, and leaves what is an answer", () =>
      Effect.gen(function*() {
        const route = (path: `/${string}`, app: HttpApp.Default<unknown, never>) => HttpRouter.all(path, app)
        const send = yield* serve(HttpRouter.empty.pipe(
          route("/ok", HttpServerResponse.text("ok")),
          route("/404", HttpServerResponse.text("none", { status: 404 })),
          route("/fail", Effect.fail("boom")),
          route("/die", Effect.die("boom")),
          route("/500", HttpServerResponse.empty({ status: 500 })),
          route("/503-body", HttpServerResponse.text("mine", { status: 503 })),
          route("/interrupt", Effect.interrupt),
          route("/health", Effect.fail("boom")),
          HttpResilience.fallback({ name: "api", respond: telling })
        ))
        const body = (path: string) => Effect.map(send(path, { method: "GET" }), ({ body, status }) => [status, body])
        expect(yield* body("/ok")).toEqual([200, "ok"])
        expect(yield* body("/404")).toEqual([404, "none"])
        expect(yield* body("/none")).toEqual([404, ""])
        expect(yield* body("/fail")).toEqual([200, told("Failure", 500)])
        expect(yield* body("/die")).toEqual([200, told("Failure", 500)])
        expect(yield* body("/500")).toEqual([200, told("Failure", 500, false)])
        expect(yield* body("/503-body")).toEqual([503, "mine"])
        expect(yield* body("/interrupt")).toEqual([503, ""])
        expect(yield* body("/health")).toEqual([500, ""])
        expect((yield* send("/ok", { method: "GET" })).headers).not.toHaveProperty("cache-status")
        expect((yield* send("/fail", { method: "GET" })).headers).toMatchObject({
          "cache-status": "resilience; hit; detail=\"fallback\""
        })
      }).pipe(Effect.provide(live)))

    it.scopedLive("gives up the raw body of a response that another is sent for", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const cancelled: Array<string> = []
        const bodyOf = (path: string) => new ReadableStream({ cancel: () => void cancelled.push(path) })
        const readable = new Readable({
          read: () => {},
          destroy: (_, done) => done(void cancelled.push("/node") as never)
        })
        const raw = (path: `/${string}`, body: () => unknown, options: HttpServerResponse.Options) =>
          HttpRouter.get(path, Effect.sync(() => HttpServerResponse.raw(body(), options)))
        const send = yield* serve(HttpRouter.empty.pipe(
          raw("/stream", () => bodyOf("/stream"), { status: 500 }),
          raw("/response", () => new Response(bodyOf("/response")), { status: 500 }),
          raw("/node", () => readable, { status: 500 }),
          raw("/events", () => bodyOf("/events"), { contentType: "text/event-stream" }),
          HttpRouter.get(
            "/stays",
            HttpServerResponse.stream(Stream.drain(Stream.fromEffect(Deferred.await(gate))), {
              contentType: "text/event-stream"
            })
          ),
          HttpResilience.standard({
            name: "api",
            longLived: { maxConcurrent: 1, maxQueued: 0 },
            fallback: { respond: HttpServerResponse.text("other"), on: ["ServerError"] }
          })
        ))
        const paths = ["/stream", "/response", "/node"]
        for (const path of paths) expect((yield* send(path, { method: "GET" })).body).toBe("other")
        expect(cancelled).toEqual(paths)
        const staying = yield* Effect.fork(send("/stays", { method: "GET" }))
        const stays = Effect.map(Registry.snapshot, ({ instances }) =>
          instances.find(({ instance }) => instance === "api-long-lived")?.metrics as Bulkhead.Metrics)
        yield* Effect.repeat(stays, {
          schedule: Schedule.spaced("5 millis"),
          until: ({ active }) =>
            active === 1
        })
        expect((yield* send("/events", { method: "GET" })).status).toBe(503)
        expect(cancelled).toEqual([...paths, "/events"])
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(staying)
      }).pipe(Effect.provide(live)))

    it.scopedLive("answers a full bulkhead, an open circuit and a timeout, but not a rate that is exceeded", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const entered = yield* Deferred.make<void>()
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.get(
            "/wait",
            Effect.zipRight(
              Deferred.succeed(entered, undefined),
              Effect.as(Deferred.await(gate), HttpServerResponse.text("done"))
            )
          ),
          HttpResilience.bulkhead({ name: "bulkhead", maxConcurrent: 1, maxQueued: 0 }),
          HttpResilience.fallback({ name: "one", respond: telling })
        ))
        const first = yield* Effect.fork(send("/wait", { method: "GET" }))
        yield* Deferred.await(entered)
        // The inner middleware answered by itself, with a body.
        expect((yield* send("/wait", { method: "GET" })).status).toBe(503)
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(first)

        const second = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.get("/never", Effect.never),
          HttpRouter.get("/", HttpServerResponse.text("ok")),
          HttpResilience.standard({
            name: "two",
            timeout: "30 millis",
            rateLimit: { rate: "3/minute", key: anybody },
            circuitBreaker: { consecutiveFailures: 1 },
            fallback: { respond: telling }
          })
        ))
        const timedOut = yield* second("/never", { method: "GET" })
        expect([timedOut.status, timedOut.body]).toEqual([200, told("Timeout", 504)])
        // The breaker has seen the failure that the client has not.
        const open = yield* second("/", { method: "GET" })
        expect([open.status, open.body]).toEqual([200, told("CircuitOpen", 503)])
        expect(open.headers["ratelimit"]).toContain("r=1")
        yield* second("/", { method: "GET" })
        const limited = yield* second("/", { method: "GET" })
        expect(limited.status).toBe(429)
        const { instances } = yield* Registry.snapshot
        expect(instances.find(({ pattern }) => pattern === "CircuitBreaker")?.metrics).toMatchObject({ failed: 1 })
      }).pipe(Effect.provide(live)))

    it.scopedLive("answers what a client of the handler turned down", () =>
      Effect.gen(function*() {
        const breaker = yield* CircuitBreaker.make({ name: "db", consecutiveFailures: 1 })
        const bulkhead = yield* Bulkhead.make({ name: "db", maxConcurrent: 1, maxQueued: 0 })
        yield* Effect.exit(breaker.withBreaker(Effect.fail("boom")))
        yield* Effect.fork(bulkhead.withPermit(Effect.never))
        yield* Effect.yieldNow()
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.get("/open", breaker.withBreaker(HttpServerResponse.text("ok"))),
          HttpRouter.get("/full", bulkhead.withPermit(HttpServerResponse.text("ok"))),
          HttpResilience.fallback({ name: "api", respond: telling })
        ))
        expect((yield* send("/open", { method: "GET" })).body).toBe(told("CircuitOpen", 503))
        expect((yield* send("/full", { method: "GET" })).body).toBe(told("AtCapacity", 503))
      }).pipe(Effect.provide(live)))

    it.scopedLive("what it answers is configured", () =>
      Effect.gen(function*() {
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.get("/body", HttpServerResponse.text("mine", { status: 502 })),
          HttpRouter.get("/fail", Effect.fail("boom")),
          HttpRouter.get("/", HttpServerResponse.text("ok")),
          HttpResilience.standard({
            name: "api",
            rateLimit: { rate: "3/minute", key: anybody },
            fallback: {
              respond: HttpServerResponse.text("instead", { status: 203 }),
              on: ["ServerError", "RateLimited"],
              mark: false
            }
          })
        ))
        const body = yield* send("/body", { method: "GET" })
        expect([body.status, body.body]).toEqual([203, "instead"])
        expect(body.headers).not.toHaveProperty("cache-status")
        expect((yield* send("/fail", { method: "GET" })).status).toBe(500)
        expect((yield* send("/", { method: "GET" })).status).toBe(200)
        const limited = yield* send("/", { method: "GET" })
        expect([limited.status, limited.body]).toEqual([203, "instead"])
        expect(limited.headers["ratelimit"]).toContain("r=0")
        expect(limited.headers).not.toHaveProperty("retry-after")
      }).pipe(Effect.provide(live)))

    it.scopedLive("one that fails, dies or takes too long leaves the answer as it was", () =>
      Effect.gen(function*() {
        const asked = yield* Ref.make(0)
        for (
          const [name, respond] of Object.entries({
            fails: () => Effect.fail("no"),
            dies: () => Effect.die("no"),
            throws: () => {
              throw new Error("no")
            },
            hangs: () => Effect.never
          })
        ) {
          const send = yield* serve(HttpRouter.empty.pipe(
            HttpRouter.get("/", Effect.fail("boom")),
            HttpResilience.fallback({
              name,
              respond: () => Effect.zipRight(Ref.update(asked, (n) => n + 1), Effect.suspend(respond)),
              timeout: "30 millis"
            })
          ))
          expect((yield* send("/", { method: "GET" })).status).toBe(500)
        }
        expect(yield* Ref.get(asked)).toBe(4)
      }).pipe(Effect.provide(live)))
  })
}

describe("options", () => {
  it("are told by explain, outermost first", () => {
    const lines = HttpResilience.explain({ name: "api", staleIfError: {}, fallback: { respond: telling } }).split("\n")
    expect(lines[1]).toMatch(/^ 1\. fallback .*answers where there is no answer \(on \["CircuitOpen",/)
    expect(lines[2]).toMatch(/^ 2\. stale if error .*the last good response to a GET \(staleIfError 1d, on \[/)
    expect(lines[3]).toMatch(/^ 3\. deadline/)
  })

  it("bad ones are refused by name", () => {
    expect(() => HttpResilience.fallback({ name: "api" } as never)).toThrow(
      "HttpResilience.fallback \"api\": option respond must be a response or a function"
    )
    expect(() => HttpResilience.fallback({ name: "api", respond: telling, on: ["Other" as never] })).toThrow(
      "option on"
    )
    expect(() => HttpResilience.fallback({ name: "api", respond: telling, timeout: -1 })).toThrow("option timeout")
    expect(() => HttpResilience.staleIfError({ name: "api", staleIfError: NaN })).toThrow("option staleIfError")
    expect(() => HttpResilience.staleIfError({ name: "api", maxBodySize: 0.5 })).toThrow("option maxBodySize")
  })
})
