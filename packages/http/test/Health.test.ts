import { Bulkhead, CircuitBreaker, Registry, ResilienceLive } from "@effect-resilience/core"
import { Drain, Health, HttpResilience } from "@effect-resilience/http"
import { HttpLayerRouter, HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, TestClock } from "effect"
import { fetchNode, serveNode, serveWeb } from "./utils/servers.js"

class Payments extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 1 }) {}
class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 4 }) {}
class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts", { consecutiveFailures: 1 }) {}

const patterns = Layer.mergeAll(Payments.Live, Hosts.Live, Reports.Live, HttpResilience.Live).pipe(
  Layer.provideMerge(ResilienceLive)
)

const ask = (handler: (request: Request) => Promise<Response>, path: string) =>
  Effect.promise(async () => {
    const response = await handler(new Request(`http://x.test${path}`))
    return { status: response.status, headers: response.headers, body: JSON.parse(await response.text()) }
  })

const serve = <R = never>(checks?: Health.Checks<R>, options?: Health.Options) =>
  serveWeb(HttpRouter.empty.pipe(Health.route(checks, options)))

describe("/health", () => {
  it.scoped("an open circuit is told, and changes nothing", () =>
    Effect.gen(function*() {
      yield* Effect.exit(Payments.withBreaker(Effect.fail("the password is hunter2")))
      const handler = yield* serve({}, { detail: "full" })
      const { body, headers, status } = yield* ask(handler, "/health")
      expect(status).toBe(200)
      expect(headers.get("content-type")).toBe("application/health+json")
      expect(headers.get("cache-control")).toBe("no-store")
      expect(body.status).toBe("pass")
      expect(body.instances).toContainEqual(
        expect.objectContaining({ pattern: "CircuitBreaker", instance: "payments", state: "Open", failed: 1 })
      )
      expect(body.instances).toContainEqual(
        expect.objectContaining({ pattern: "Bulkhead", instance: "reports", limit: 4, active: 0 })
      )
      // Neither what failed, nor where it is written.
      expect(JSON.stringify(body)).not.toMatch(/hunter2|\.test\.ts|site/)
      expect((yield* ask(handler, "/ready")).status).toBe(200)
    }).pipe(Effect.provide(patterns)))

  it.scoped("of a keyed instance the calls of all keys are told, and how many keys are open, but no key", () =>
    Effect.gen(function*() {
      const call = (key: string) => Hosts.withBreakerBy({ key })
      for (let n = 0; n < 3; n++) yield* Effect.exit(call("secret.test")(Effect.fail("down")))
      yield* call("other.test")(Effect.void)
      const { body } = yield* ask(yield* serve({}, { detail: "full" }), "/health")
      expect(body.instances).toContainEqual(
        expect.objectContaining({
          instance: "hosts",
          keys: 2,
          open: 1,
          offered: 4,
          admitted: 2,
          rejected: 2,
          failed: 1
        })
      )
      expect(JSON.stringify(body)).not.toContain("secret")
    }).pipe(Effect.provide(patterns)))

  it.scoped("an instance that cannot be read does not make the service unhealthy", () =>
    Effect.gen(function*() {
      const registry = yield* Registry
      yield* registry.register({
        pattern: "CircuitBreaker",
        instance: "broken",
        site: "here",
        snapshot: Effect.die("boom"),
        actions: {}
      })
      const { body, status } = yield* ask(yield* serve({}, { detail: "full" }), "/health")
      expect(status).toBe(200)
      expect(body).toEqual({ status: "pass" })
    }).pipe(Effect.provide(ResilienceLive), Effect.provide(Logger.remove(Logger.defaultLogger))))

  it.scoped("names no instance to a stranger: without asking for details there is the status", () =>
    Effect.gen(function*() {
      const handler = yield* serve()
      expect((yield* ask(handler, "/health")).body).toEqual({ status: "pass" })
      expect((yield* ask(handler, "/ready")).body).toEqual({ status: "pass", phase: "Serving" })
    }).pipe(Effect.provide(patterns)))

  it.scoped("without a registry there is the status", () =>
    Effect.gen(function*() {
      expect((yield* ask(yield* serve({}, { detail: "full" }), "/health")).body).toEqual({ status: "pass" })
    }))

  it.scopedLive("is served, and ready, while everything else is turned away", () =>
    Effect.gen(function*() {
      const entered = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get(
          "/",
          Effect.zipRight(
            Deferred.succeed(entered, undefined),
            Effect.as(Deferred.await(gate), HttpServerResponse.text(""))
          )
        ),
        Health.route(),
        HttpResilience.standard({
          name: "full",
          bulkhead: { maxConcurrent: 1, maxQueued: 0 },
          rateLimit: { rate: "1/hour" }
        })
      ))
      const get = (path: string) => Effect.promise(() => fetchNode(url + path))
      const hanging = yield* Effect.fork(get("/"))
      yield* Deferred.await(entered)
      expect((yield* get("/"))?.status).toBeGreaterThanOrEqual(429)
      for (const path of ["/health", "/ready", "/health?verbose"]) {
        expect((yield* get(path))?.status).toBe(200)
      }
      yield* Deferred.succeed(gate, undefined)
      expect((yield* hanging)?.status).toBe(200)
    }).pipe(Effect.provide(patterns)))
})

describe("/ready", () => {
  it.scoped("fails by the checks of the user, names them, and tells the log why", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ cause, message }) => void logged.push(`${String(message)} ${String(cause)}`))
      const handler = yield* serve({
        database: Effect.void,
        queue: Effect.fail("amqp://user:secret@host"),
        flag: Effect.succeed(false),
        dead: Effect.die("boom")
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      const { body, status } = yield* ask(handler, "/ready")
      expect(status).toBe(503)
      expect(body).toEqual({
        status: "fail",
        phase: "Serving",
        checks: { database: "pass", queue: "fail", flag: "fail", dead: "fail" }
      })
      expect(logged.some((line) => line.includes("\"queue\"") && line.includes("secret"))).toBe(true)
      expect((yield* ask(handler, "/health")).status).toBe(200)
    }))

  it.scoped("a check that takes too long has failed, even one that cannot be interrupted", () =>
    Effect.gen(function*() {
      const handler = yield* serve({ slow: Effect.uninterruptible(Effect.never) }).pipe(
        Effect.provide(Logger.remove(Logger.defaultLogger))
      )
      const asked = yield* Effect.fork(ask(handler, "/ready"))
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(asked)).toMatchObject({ status: 503, body: { checks: { slow: "fail" } } })
    }))

  it.scoped("fails while the service drains, before anything else does", () =>
    Effect.gen(function*() {
      const handler = yield* serveWeb(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("\"hello\"")),
        Health.route(),
        Drain.middleware
      ))
      expect((yield* ask(handler, "/ready")).status).toBe(200)
      yield* Effect.fork(Drain.drain)
      yield* TestClock.adjust("4 seconds")
      expect(yield* ask(handler, "/ready")).toMatchObject({ status: 503, body: { status: "fail", phase: "Leaving" } })
      expect((yield* ask(handler, "/health")).status).toBe(200)
      expect((yield* ask(handler, "/")).status).toBe(200)
      yield* TestClock.adjust("2 seconds")
      expect((yield* ask(handler, "/")).status).toBe(503)
      expect((yield* ask(handler, "/health")).status).toBe(200)
    }).pipe(Effect.provide(Drain.Live)))

  it.scopedLive("in an HttpLayerRouter", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(yield* HttpLayerRouter.toHttpEffect(Health.layer({ no: Effect.fail("no") })))
      expect((yield* Effect.promise(() => fetchNode(`${url}/health`)))?.status).toBe(200)
      expect((yield* Effect.promise(() => fetchNode(`${url}/ready`)))?.status).toBe(503)
    }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger))))

  it("bad options are refused by name", () => {
    expect(() => Health.ready({}, { checkTimeout: 0 })).toThrow("Health \"health\": option checkTimeout must be")
  })
})
