import type { AdaptiveConcurrency, Bulkhead, LoadShedder } from "@effect-resilience/core"
import { Registry, ResilienceLive } from "@effect-resilience/core"
import { NodeSystemLoad } from "@effect-resilience/core/node"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import autocannon from "autocannon"
import { Effect, Layer, Option, Schedule, Stream } from "effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { fetchNode, serveNode } from "./utils/servers.js"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")
const heap = Effect.sync(() => {
  for (let i = 0; i < 3; i++) collect()
  return process.memoryUsage().heapUsed
})

const chunk = new Uint8Array(1024)
const chunks = Stream.repeat(Stream.make(chunk), Schedule.addDelay(Schedule.recurs(5), () => "1 millis"))

const app = HttpRouter.empty.pipe(
  HttpRouter.get("/", Effect.as(Effect.sleep("2 millis"), HttpServerResponse.text("hello"))),
  HttpRouter.get("/slow", Effect.as(Effect.sleep("300 millis"), HttpServerResponse.text("slow"))),
  HttpRouter.get("/stream", Effect.sync(() => HttpServerResponse.stream(chunks))),
  HttpRouter.get("/never", Effect.sync(() => HttpServerResponse.stream(Stream.concat(chunks, Stream.never)))),
  HttpRouter.get("/events", Effect.sync(() => HttpServerResponse.stream(chunks, { contentType: "text/event-stream" }))),
  HttpRouter.get("/fail", Effect.fail("down")),
  HttpRouter.get("/die", Effect.die("bug")),
  HttpRouter.post(
    "/echo",
    Effect.flatMap(
      HttpServerRequest.HttpServerRequest,
      (request) => Effect.map(request.text, (text) => HttpServerResponse.text(text))
    )
  ),
  HttpResilience.standard({
    name: "api",
    rateLimit: {
      rate: "100000/second",
      key: ({ method }) => Option.some(method),
      rateFor: ({ method }) => method === "POST" ? "5/second" : "100000/second"
    },
    backpressure: { maxPending: 40, highWaterMark: 30, lowWaterMark: 10, maxWait: "50 millis" },
    bulkhead: { maxConcurrent: 20, maxQueued: 5, maxWait: "50 millis" },
    circuitBreaker: { consecutiveFailures: false, failureRate: 0.99 },
    timeout: "250 millis",
    staleIfError: {}
  })
)

const live = HttpResilience.Live.pipe(Layer.provideMerge(Layer.merge(ResilienceLive, NodeSystemLoad.Live)))

interface Counts {
  readonly offered: number
  readonly admitted: number
  readonly rejected: number
  readonly succeeded: number
  readonly failed: number
  readonly ignored: number
  readonly running: number
}
type Metrics = Counts & Partial<Bulkhead.Metrics & AdaptiveConcurrency.Metrics & LoadShedder.Metrics>

/** What each instance counts, by pattern and name. */
const everything = Effect.map(
  Registry.snapshot,
  ({ instances }) =>
    instances.flatMap(({ instance, metrics, pattern }): ReadonlyArray<[string, Metrics]> =>
      metrics === undefined ? [] : [[`${pattern} ${instance}`, metrics as unknown as Metrics]]
    )
)
const isIdle = ([, { active = 0, running = 0, waiting = 0 }]: readonly [string, Metrics]) =>
  active === 0 && running === 0 && waiting === 0
/** Who still holds something; nobody in the end, or the test times out. */
const allBack = everything.pipe(
  Effect.map((all) => all.filter((one) => !isIdle(one))),
  Effect.repeat({ schedule: Schedule.spaced("10 millis"), until: (busy) => busy.length === 0 }),
  Effect.timeout("10 seconds"),
  Effect.orDie
)

const perPhase = 1500
const paths = ["/", "/", "/stream", "/fail", "/", "/events", "/die", "/", "/slow"]

/** Clients of all sorts at once. Returns what they were answered. */
const phase = (url: string) =>
  Effect.gen(function*() {
    const requests = [...paths.map((path) => ({ path })), { method: "POST", path: "/echo", body: "x".repeat(2000) }]
    const cannons = [
      { connections: 40, amount: perPhase / 2, requests },
      // Who gives up in the middle of a stream.
      { connections: 10, amount: 20, timeout: 1, requests: [{ path: "/never" }] },
      // Who comes anew after some.
      { connections: 10, amount: perPhase / 2, reconnectRate: 5, requests }
    ]
    const gone = paths.concat(paths, paths, paths).map((path) => () =>
      fetchNode(url + path, { onHead: (_, request) => request.destroy() })
    )
    const left = paths.concat(paths, paths, paths).map((path) => () =>
      fetchNode(url + path, { onSent: (request) => void setImmediate(() => request.destroy()) })
    )
    const [results] = yield* Effect.all([
      Effect.forEach(cannons, (cannon) => Effect.promise(() => autocannon({ url, ...cannon })), {
        concurrency: "unbounded"
      }),
      Effect.forEach([...gone, ...left], (ask) => Effect.promise(ask), { concurrency: 10 })
    ], { concurrency: "unbounded" })
    yield* allBack
    const count = (status: number) =>
      results.reduce((sum, { statusCodeStats }) => sum + (statusCodeStats[status]?.count ?? 0), 0)
    return { heap: yield* heap, timeouts: results.reduce((sum, { timeouts }) => sum + timeouts, 0), count }
  })

describe("under load", () => {
  it.scopedLive("every permit comes back, all is counted, and the heap is flat", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(app)
      const first = yield* phase(url)
      const before = yield* phase(url)
      const after = yield* phase(url)

      // It was a load: there is somebody of every sort.
      const sum = (of: (one: typeof after) => number) => of(first) + of(before) + of(after)
      for (const status of [200, 429, 500, 503]) {
        expect([status, sum(({ count }) => count(status))]).not.toEqual([status, 0])
      }
      expect(sum(({ timeouts }) => timeouts)).toBeGreaterThan(0)

      const all = yield* everything
      expect(all.map(([name]) => name).sort()).toEqual([
        "AdaptiveConcurrency api",
        "Backpressure api",
        "Bulkhead api",
        "Bulkhead api-long-lived",
        "CircuitBreaker api",
        "Fallback api-stale",
        "LoadShedder api",
        "RateLimiter api",
        "StaleStore api",
        "Timeout api"
      ])
      for (const [name, { admitted, failed, ignored, offered, rejected, succeeded }] of all) {
        if (name.startsWith("RateLimiter") || name.startsWith("StaleStore")) continue
        expect([name, offered]).toEqual([name, admitted + rejected])
        expect([name, admitted]).toEqual([name, succeeded + failed + ignored])
      }
      // What a request left behind would be kilobytes.
      expect((after.heap - before.heap) / perPhase).toBeLessThan(1000)
    }).pipe(Effect.provide(live)), 120_000)
})
