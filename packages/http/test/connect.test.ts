import type { Bulkhead, CircuitBreaker } from "@effect-resilience/core"
import { Registry, ResilienceLive } from "@effect-resilience/core"
import { Drain, HttpResilience } from "@effect-resilience/http"
import { middleware } from "@effect-resilience/http/connect"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger, Schedule } from "effect"
import { AsyncLocalStorage } from "node:async_hooks"
import { Agent, createServer, type RequestListener } from "node:http"
import type { AddressInfo } from "node:net"
import { connect } from "node:net"
import { fetchNode } from "./utils/servers.js"

/*
 * Routes that are not of the platform: what a request takes is back when its response is sent or its client is gone.
 */

const bulkhead = { maxConcurrent: 1, maxQueued: 1, maxWait: "10 seconds" } as const

/** The port of a server, for as long as the scope is open. */
const listen = (listener: RequestListener) =>
  Effect.gen(function*() {
    const server = createServer(listener)
    yield* Effect.acquireRelease(
      Effect.async<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        })
    )
    return (server.address() as AddressInfo).port
  })

const sendTo = (port: number) => (path: string, init?: Parameters<typeof fetchNode>[1]) =>
  Effect.promise(() => fetchNode(`http://127.0.0.1:${port}${path}`, init))

/** A server whose handler is protected. */
const serve = (options: HttpResilience.AdmissionOptions | HttpResilience.Middleware, handler: RequestListener) =>
  Effect.gen(function*() {
    const protect = yield* middleware(options)
    return sendTo(yield* listen((request, response) => protect(request, response, () => handler(request, response))))
  })

const metricsOf = <M>(pattern: string, instance = "api") =>
  Effect.map(
    Registry.snapshot,
    ({ instances }) => instances.find((found) => found.pattern === pattern && found.instance === instance)?.metrics as M
  )
const permits = metricsOf<Bulkhead.Metrics>("Bulkhead")
const until = (isSo: (metrics: Bulkhead.Metrics) => boolean) =>
  permits.pipe(
    Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: isSo }),
    Effect.timeout("5 seconds"),
    Effect.orDie
  )
const allBack = until(({ active, waiting }) => active === 0 && waiting === 0)

const Live = HttpResilience.Live.pipe(
  Layer.provideMerge(Drain.layer({ delay: 0, limit: 0 })),
  Layer.provideMerge(ResilienceLive)
)

describe("connect", () => {
  const handlers: Record<string, RequestListener> = {
    "/text": (_, response) => response.end("hello"),
    "/empty": (_, response) => response.writeHead(204).end(),
    "/error": (_, response) => response.writeHead(500).end("boom"),
    "/destroy": (_, response) => response.destroy(),
    "/chunks": (_, response) => {
      response.write("a")
      setImmediate(() => response.end("b"))
    }
  }
  for (const method of ["GET", "HEAD", "POST"]) {
    for (const [path, handler] of Object.entries(handlers)) {
      it.scopedLive(`${method} ${path} gives its permit back`, () =>
        Effect.gen(function*() {
          const send = yield* serve({ name: "api", bulkhead }, handler)
          yield* send(path, { method })
          yield* allBack
          yield* send(path, { method })
          yield* allBack
          expect((yield* permits).admitted).toBe(2)
        }).pipe(Effect.provide(Live)))
    }
  }

  it.scopedLive("a permit is held until the response is sent", () =>
    Effect.gen(function*() {
      let end = () => {}
      const send = yield* serve({ name: "api", bulkhead }, (_, response) => {
        response.write("a")
        end = () => response.end()
      })
      const first = yield* Effect.fork(send("/"))
      yield* until(({ active }) => active === 1)
      yield* Effect.fork(send("/"))
      yield* until(({ waiting }) => waiting === 1)
      expect((yield* send("/"))?.status).toBe(503)
      end()
      expect((yield* Fiber.join(first))?.status).toBe(200)
      yield* until(({ active, waiting }) => active === 1 && waiting === 0)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("one that an inner policy turns away is no failure", () =>
    Effect.gen(function*() {
      const inner = yield* middleware({ name: "inner", rateLimit: { rate: "1/minute", status: 503 } })
      const send = yield* serve(
        { name: "api", circuitBreaker: {} },
        (request, response) => inner(request, response, () => response.end("hello"))
      )
      const statuses = []
      for (let i = 0; i < 3; i++) statuses.push((yield* send("/"))?.status)
      expect(statuses).toEqual([200, 503, 503])
      const breaker = metricsOf<CircuitBreaker.Metrics>("CircuitBreaker")
      yield* breaker.pipe(
        Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: ({ ignored }) => ignored === 2 }),
        Effect.timeout("5 seconds"),
        Effect.orDie
      )
      expect((yield* breaker).failed).toBe(0)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a client that goes while its handler runs, and one that goes while it waits", () =>
    Effect.gen(function*() {
      let handled = 0
      const send = yield* serve({ name: "api", bulkhead }, () => {
        handled++
      })
      const goes = (seen: Effect.Effect<unknown>) =>
        send("/", { onSent: (request) => Effect.runFork(Effect.andThen(seen, () => request.destroy())) })
      const gone = yield* Deferred.make<void>()
      const first = yield* Effect.fork(goes(Deferred.await(gone)))
      const registry = yield* Effect.context<Registry>()
      yield* until(({ active }) => active === 1)
      yield* goes(Effect.provide(until(({ waiting }) => waiting === 1), registry))
      yield* until(({ waiting }) => waiting === 0)
      expect((yield* permits).active).toBe(1)
      yield* Deferred.succeed(gone, undefined)
      yield* Fiber.join(first)
      yield* allBack
      expect(handled).toBe(1)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a client that goes in the middle of a body, of which a breaker learns nothing", () =>
    Effect.gen(function*() {
      const send = yield* serve({ name: "api", bulkhead, circuitBreaker: {} }, (_, response) => response.write("a"))
      yield* send("/", { onHead: (_, request) => request.destroy() })
      yield* allBack
      expect(yield* metricsOf<CircuitBreaker.Metrics>("CircuitBreaker")).toMatchObject({ ignored: 1, failed: 0 })
    }).pipe(Effect.provide(Live)))

  it.scopedLive("handlers that fail open the circuit", () =>
    Effect.gen(function*() {
      const send = yield* serve(
        { name: "api", circuitBreaker: { consecutiveFailures: 2 } },
        (_, response) => response.writeHead(500).end()
      )
      const statuses = []
      for (let i = 0; i < 3; i++) {
        statuses.push((yield* send("/"))?.status)
        yield* metricsOf<CircuitBreaker.Metrics>("CircuitBreaker").pipe(
          Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: ({ running }) => running === 0 })
        )
      }
      expect(statuses).toEqual([500, 500, 503])
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a limit is told on every response, and by address", () =>
    Effect.gen(function*() {
      const send = yield* serve(
        { name: "api", rateLimit: { rate: "1/minute" } },
        (_, response) => response.end("hello")
      )
      const first = yield* send("/")
      expect(first).toMatchObject({ status: 200, body: "hello", headers: { ratelimit: "\"api\";r=0;t=60" } })
      const second = yield* send("/")
      expect(second?.status).toBe(429)
      expect(second?.headers).toMatchObject({
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        "ratelimit-policy": "\"api\";q=1;w=60"
      })
      expect(JSON.parse(second?.body ?? "")).toMatchObject({ _tag: "TooManyRequests", status: 429 })
      expect((yield* send("/health"))?.status).toBe(200)
      const large = yield* send("/", {
        method: "POST",
        headers: { "content-length": 100_000 },
        body: "a".repeat(100_000)
      })
      // Either it read the answer, or its connection was closed on it.
      expect(large?.headers.connection ?? "close").toBe("close")
    }).pipe(Effect.provide(Live)))

  const stream = "text/event-stream"
  const heads: Record<string, RequestListener> = {
    "a field that was set": (_, response) => void response.setHeader("Content-Type", stream).write("data: 1\n\n"),
    "fields of a head": (_, response) => void response.writeHead(200, { "content-type": stream }).write("data: 1\n\n"),
    "a list of fields": (_, response) =>
      void response.writeHead(200, "OK", ["Content-Type", stream]).write("data: 1\n\n"),
    "a head with nothing behind it": (_, response) => void response.setHeader("content-type", stream).flushHeaders()
  }
  const longLived = metricsOf<Bulkhead.Metrics>("Bulkhead", "api-long-lived")
  for (const [by, handler] of Object.entries(heads)) {
    it.scopedLive(`a stream of events, by ${by}, moves to the bulkhead of those that stay`, () =>
      Effect.gen(function*() {
        const send = yield* serve({ name: "api", bulkhead, circuitBreaker: {} }, handler)
        const leave = yield* Deferred.make<void>()
        const gone = yield* Effect.fork(
          send("/", {
            onHead: (_, request) => Effect.runFork(Effect.andThen(Deferred.await(leave), () => request.destroy()))
          })
        )
        yield* Effect.repeat(longLived, { schedule: Schedule.spaced("5 millis"), until: ({ active }) => active === 1 })
        yield* allBack
        expect(yield* metricsOf<CircuitBreaker.Metrics>("CircuitBreaker")).toMatchObject({ succeeded: 1, running: 0 })
        yield* Deferred.succeed(leave, undefined)
        yield* Fiber.join(gone)
        yield* Effect.repeat(longLived, { schedule: Schedule.spaced("5 millis"), until: ({ active }) => active === 0 })
        expect((yield* permits).admitted).toBe(1)
      }).pipe(Effect.provide(Live)))
  }

  it.scopedLive("a stream of events that finds no room keeps what it has, and so does one that is an error", () =>
    Effect.gen(function*() {
      const send = yield* serve(
        { name: "api", bulkhead: { maxConcurrent: 3 }, longLived: { maxConcurrent: 1, maxQueued: 0 } },
        (request, response) =>
          void response.writeHead(request.url === "/error" ? 500 : 200, { "content-type": stream }).write("data: 1\n\n")
      )
      const statuses = []
      for (const path of ["/", "/", "/error"]) {
        statuses.push(
          yield* Effect.async<number | undefined>((resume) => {
            Effect.runFork(send(path, { onHead: ({ statusCode }) => resume(Effect.succeed(statusCode)) }))
          })
        )
      }
      expect(statuses).toEqual([200, 200, 500])
      expect([(yield* permits).active, (yield* longLived).active]).toEqual([2, 1])
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a client that goes while a handler before is at work holds nothing", () =>
    Effect.gen(function*() {
      const protect = yield* middleware({ name: "api", bulkhead })
      const gone = yield* Deferred.make<void>()
      let handled = 0
      let leave = () => {}
      const port = yield* listen((request, response) => {
        const goOn = () =>
          protect(request, response, () => {
            handled++
            response.end("hello")
          })
        if (request.url !== "/slow") return goOn()
        // Such as one that looks up a session.
        response.once("close", () => {
          goOn()
          Effect.runSync(Deferred.succeed(gone, undefined))
        })
        leave()
      })
      const send = sendTo(port)
      yield* send("/slow", {
        onSent: (request) => {
          leave = () => void request.destroy()
        }
      })
      yield* Deferred.await(gone)
      expect((yield* send("/"))?.status).toBe(200)
      yield* allBack
      expect(handled).toBe(1)
      expect((yield* permits).admitted).toBe(1)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("what a handler before has answered goes on, and holds nothing", () =>
    Effect.gen(function*() {
      const protect = yield* middleware({ name: "api", bulkhead })
      const went = yield* Deferred.make<void>()
      const port = yield* listen((request, response) => {
        if (request.url === "/") return protect(request, response, () => response.end("hello"))
        response.writeHead(408).end("late")
        response.once("close", () =>
          protect(request, response, () => void Effect.runSync(Deferred.succeed(went, undefined))))
      })
      const send = sendTo(port)
      expect((yield* send("/late"))?.status).toBe(408)
      yield* Deferred.await(went)
      expect((yield* send("/"))?.status).toBe(200)
      yield* allBack
      expect((yield* permits).admitted).toBe(1)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a request that is answered while it waits goes on all the same", () =>
    Effect.gen(function*() {
      const protect = yield* middleware({ name: "api", bulkhead, rateLimit: { rate: "10/minute" } })
      let end = () => {}
      let answerEarly = () => {}
      const port = yield* listen((request, response) => {
        if (request.url === "/two") answerEarly = () => void response.write("a")
        protect(request, response, () => {
          if (request.url === "/one") end = () => response.end()
          else response.end("b")
        })
      })
      const send = sendTo(port)
      const one = yield* Effect.fork(send("/one"))
      yield* until(({ active }) => active === 1)
      const two = yield* Effect.fork(send("/two"))
      yield* until(({ waiting }) => waiting === 1)
      answerEarly()
      end()
      yield* Fiber.join(one)
      expect((yield* Fiber.join(two))?.body).toBe("ab")
      yield* allBack
    }).pipe(Effect.provide(Live)))

  it.scopedLive("two requests at once by one connection hold nothing when it goes", () =>
    Effect.gen(function*() {
      // Node tells only the first of them that its client is gone.
      const protect = yield* middleware({ name: "api", bulkhead: { maxConcurrent: 2 } })
      const port = yield* listen((request, response) => protect(request, response, () => {}))
      const socket = connect(port, "127.0.0.1")
      socket.write("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
      yield* until(({ active }) => active === 2)
      socket.destroy()
      yield* allBack
    }).pipe(Effect.provide(Live)))

  it.scopedLive("who waited goes on in its own asynchronous context", () =>
    Effect.gen(function*() {
      const storage = new AsyncLocalStorage<string>()
      const seen: Array<string | undefined> = []
      let end = () => {}
      const protect = yield* middleware({ name: "api", bulkhead })
      const send = sendTo(
        yield* listen((request, response) =>
          storage.run(request.url ?? "", () =>
            protect(request, response, () => {
              seen.push(storage.getStore())
              if (request.url === "/one") end = () => response.end()
              else response.end()
            }))
        )
      )
      const one = yield* Effect.fork(send("/one"))
      yield* until(({ active }) => active === 1)
      const two = yield* Effect.fork(send("/two"))
      yield* until(({ waiting }) => waiting === 1)
      end()
      yield* Fiber.join(one)
      yield* Fiber.join(two)
      expect(seen).toEqual(["/one", "/two"])
      yield* allBack
    }).pipe(Effect.provide(Live)))

  it.scopedLive("many requests of one connection leave nothing behind", () =>
    Effect.gen(function*() {
      const send = yield* serve({ name: "api", bulkhead }, (_, response) => response.end("hello"))
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      yield* Effect.addFinalizer(() => Effect.sync(() => agent.destroy()))
      for (let i = 0; i < 50; i++) expect((yield* send("/", { agent }))?.status).toBe(200)
      yield* allBack
      expect(yield* permits).toMatchObject({ admitted: 50, rejected: 0 })
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a policy is taken as its options are", () =>
    Effect.gen(function*() {
      const limit = HttpResilience.rateLimit({ name: "api", rate: "1/minute" })
      const one = yield* serve(limit, (_, response) => response.end("hello"))
      const other = yield* serve(limit, (_, response) => response.end("hello"))
      expect((yield* one("/"))?.status).toBe(200)
      expect((yield* other("/"))?.status).toBe(429)
    }).pipe(Effect.provide(Live)))

  it.scopedLive("a policy that breaks lets nobody in, and leaves nobody without an answer", () =>
    Effect.gen(function*() {
      const send = yield* serve({
        name: "api",
        bulkhead,
        loadShedder: false,
        rateLimit: {
          rate: "1/minute",
          key: () => {
            throw new Error("a key that breaks")
          }
        }
      }, (_, response) => response.end("hello"))
      expect(yield* send("/")).toMatchObject({ status: 500, body: "" })
      yield* allBack
    }).pipe(Effect.provide([Live, Logger.replace(Logger.defaultLogger, Logger.none)])))

  it.scopedLive("while the server goes down nobody is let in", () =>
    Effect.gen(function*() {
      const send = yield* serve({ name: "api" }, (_, response) => response.end("hello"))
      expect((yield* send("/"))?.status).toBe(200)
      yield* Drain.drain
      const answer = yield* send("/")
      expect(answer?.status).toBe(503)
      expect(answer?.headers.connection).toBe("close")
    }).pipe(Effect.provide(Live)))
})
