import { HttpResilience, PrometheusMetrics } from "@effect-resilience/http"
import { middleware } from "@effect-resilience/http/connect"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { valueOf } from "./utils/prometheus.js"
import { fetchNode, serveWeb } from "./utils/servers.js"

const rejections = "resilience_rejections_total"

/** What the registry of the process has of these policies: each has a name of its own. */
const countsOf = (resilience_name: string) =>
  Effect.map(PrometheusMetrics.text(), (text) => ({
    unenforced: valueOf(text, rejections, { resilience_name, enforced: "false" }),
    enforced: valueOf(text, rejections, { resilience_name, enforced: "true" }),
    callsRejected: valueOf(text, "resilience_calls_total", { resilience_name, outcome: "rejected" })
  }))

/** One request that fails, and is held until the others have their answers where `held` says so. */
const statuses = (policy: HttpResilience.Middleware, held: boolean) =>
  Effect.gen(function*() {
    const entered = yield* Deferred.make<void>()
    const gate = yield* Deferred.make<void>()
    const handler = yield* serveWeb(HttpRouter.empty.pipe(
      HttpRouter.get(
        "/first",
        Effect.zipRight(
          Deferred.succeed(entered, undefined),
          Effect.as(Deferred.await(gate), HttpServerResponse.empty({ status: 500 }))
        )
      ),
      HttpRouter.get("/", HttpServerResponse.text("hello")),
      policy
    ))
    const get = (path: string) =>
      Effect.map(Effect.promise(() => handler(new Request(`http://x.test${path}`))), ({ status }) => status)
    const first = yield* Effect.fork(get("/first"))
    yield* Deferred.await(entered)
    if (!held) yield* Deferred.succeed(gate, undefined)
    if (!held) yield* Fiber.join(first)
    const found = yield* Effect.forEach([1, 2, 3], () => get("/"))
    yield* Deferred.succeed(gate, undefined)
    yield* Fiber.join(first)
    return found
  }).pipe(Effect.scoped, Effect.provide(HttpResilience.Live))

type Part = (name: string, dryRun: boolean) => HttpResilience.Middleware

const full: Record<string, Part> = {
  bulkhead: (name, dryRun) => HttpResilience.bulkhead({ name, dryRun, maxConcurrent: 1, maxQueued: 0 }),
  loadShedder: (name, dryRun) => HttpResilience.loadShedder({ name, dryRun, maxInFlight: 1, maxQueueDepth: 0 }),
  backpressure: (name, dryRun) =>
    HttpResilience.backpressure({ name, dryRun, maxPending: 1, highWaterMark: 1, lowWaterMark: 0, maxWait: 0 }),
  adaptiveConcurrency: (name, dryRun) =>
    HttpResilience.adaptiveConcurrency({ name, dryRun, initialLimit: 1, maxLimit: 1, maxQueued: 0 })
}
const spent: Record<string, Part> = {
  circuitBreaker: (name, dryRun) => HttpResilience.circuitBreaker({ name, dryRun, consecutiveFailures: 1 }),
  rateLimit: (name, dryRun) => HttpResilience.rateLimit({ name, dryRun, rate: "1/minute", onMissingKey: "shared" })
}
const parts = [
  ...Object.entries(full).map(([part, of]) => ({ part, of, held: true })),
  ...Object.entries(spent).map(([part, of]) => ({ part, of, held: false }))
]

describe("a dry run", () => {
  for (const { held, of, part } of parts) {
    it.live(`${part} counts each request once, as let through`, () =>
      Effect.gen(function*() {
        const name = `dry-${part}`
        expect(yield* statuses(of(name, true), held)).toEqual([200, 200, 200])
        expect(yield* countsOf(name)).toEqual({ unenforced: 3, enforced: 0, callsRejected: 0 })
      }))

    it.live(`${part} counts each request once, as turned away, where it is none`, () =>
      Effect.gen(function*() {
        const name = `wet-${part}`
        expect((yield* statuses(of(name, false), held)).every((status) => status >= 429)).toBe(true)
        expect(yield* countsOf(name)).toEqual({ unenforced: 0, enforced: 3, callsRejected: 3 })
      }))
  }

  const late = {
    timeout: (name: string, dryRun: boolean) => HttpResilience.timeout({ name, dryRun, duration: "20 millis" }),
    deadline: (name: string, dryRun: boolean) =>
      HttpResilience.standard({ name, loadShedder: false, adaptiveConcurrency: false, deadline: { dryRun } })
  }
  for (const [part, of] of Object.entries(late)) {
    for (const dryRun of [true, false]) {
      it.live(`${part} ${dryRun ? "counts who is late once, and cuts nobody off" : "cuts off who is late, where it is none"}`, () =>
        Effect.gen(function*() {
          const name = `late-${part}-${dryRun}`
          const handler = yield* serveWeb(HttpRouter.empty.pipe(
            HttpRouter.get("/", HttpServerResponse.text("hello")),
            HttpRouter.get("/slow", Effect.delay(HttpServerResponse.text("hello"), "100 millis")),
            of(name, dryRun)
          ))
          const get = (path: string, limit: string) =>
            Effect.map(
              Effect.promise(() =>
                handler(new Request(`http://x.test${path}`, { headers: { "x-request-timeout-ms": limit } }))
              ),
              ({ status }) => status
            )
          expect(yield* get("/", "5000")).toBe(200)
          expect(yield* get("/slow", "20")).toBe(dryRun ? 200 : 504)
          const { enforced, unenforced } = yield* countsOf(name)
          expect({ enforced, unenforced }).toEqual({ enforced: 0, unenforced: dryRun ? 1 : 0 })
        }).pipe(Effect.scoped, Effect.provide(HttpResilience.Live)))
    }
  }

  it.live("a deadline is over before a request arrives, once counted wherever its policy stands", () =>
    Effect.gen(function*() {
      const options = (name: string): HttpResilience.AdmissionOptions => ({
        name,
        loadShedder: false,
        adaptiveConcurrency: false,
        deadline: { dryRun: true }
      })
      const headers = { "x-request-timeout-ms": "0" }

      const around = yield* serveWeb(HttpResilience.standard(options("over-around"))(HttpServerResponse.text("hello")))
      const { status } = yield* Effect.promise(() => around(new Request("http://x.test/", { headers })))
      expect(status).toBe(200)
      expect(yield* countsOf("over-around")).toMatchObject({ unenforced: 1, enforced: 0 })

      const protect = yield* middleware(options("over-connect"))
      const server = createServer((request, response) => protect(request, response, () => response.end("hello")))
      yield* Effect.acquireRelease(
        Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => server.close())
      )
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      expect((yield* Effect.promise(() => fetchNode(url, { headers })))?.status).toBe(200)
      expect(yield* countsOf("over-connect")).toMatchObject({ unenforced: 1, enforced: 0 })
    }).pipe(Effect.scoped, Effect.provide(HttpResilience.Live)))

  it.live("is not of what is excluded, and neither is a rate", () =>
    Effect.gen(function*() {
      const limited = (name: string, dryRun: boolean) =>
        HttpResilience.rateLimit({
          name,
          dryRun,
          rate: "1/minute",
          onMissingKey: "shared",
          exclude: ["/public/**", "/one/*/two"]
        })
      for (const dryRun of [true, false]) {
        const name = `excluded-${dryRun}`
        const app = limited(name, dryRun)(HttpServerResponse.text("hello"))
        const handler = yield* serveWeb(app)
        const get = (path: string) =>
          Effect.map(Effect.promise(() => handler(new Request(`http://x.test${path}`))), ({ status }) => status)
        for (const path of ["/public/a/b", "/public/a/b", "/one/x/two", "/one/x/two", "/a"]) {
          expect(yield* get(path)).toBe(200)
        }
        // Nothing but the last was counted, and the default paths are excluded no more.
        expect(yield* get("/health")).toBe(dryRun ? 200 : 429)
        expect((yield* countsOf(name))[dryRun ? "unenforced" : "enforced"]).toBe(1)
      }
    }).pipe(Effect.scoped, Effect.provide(HttpResilience.Live)))

  for (const dryRun of [true, false]) {
    it.live(`who has no key counts once, ${dryRun ? "as let through" : "as turned away"}`, () =>
      Effect.gen(function*() {
        const name = `keyless-${dryRun}`
        const handler = yield* serveWeb(
          HttpResilience.rateLimit({ name, dryRun, rate: "1/minute" })(HttpServerResponse.text("hello"))
        )
        const { status } = yield* Effect.promise(() => handler(new Request("http://x.test/")))
        expect(status).toBe(dryRun ? 200 : 429)
        const { enforced, unenforced } = yield* countsOf(name)
        expect({ enforced, unenforced }).toEqual(
          dryRun ? { enforced: 0, unenforced: 1 } : { enforced: 1, unenforced: 0 }
        )
      }).pipe(Effect.scoped, Effect.provide(HttpResilience.Live)))
  }
})
