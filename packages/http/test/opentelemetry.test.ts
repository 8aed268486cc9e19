import { Bulkhead, CircuitBreaker, ResilienceLive } from "@effect-resilience/core"
import { HttpServerMetrics } from "@effect-resilience/http"
import { Metrics, Resource } from "@effect/opentelemetry"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import type { MetricData } from "@opentelemetry/sdk-metrics"
import {
  AggregationTemporality,
  DataPointType,
  InMemoryMetricExporter,
  PeriodicExportingMetricReader
} from "@opentelemetry/sdk-metrics"
import { Effect, Layer } from "effect"
import { serveWeb } from "./utils/servers.js"

class Payments extends CircuitBreaker.Tag<Payments>()("otel-payments", { consecutiveFailures: 2 }) {}
class Reports extends Bulkhead.Tag<Reports>()("otel-reports", { maxConcurrent: 4 }) {}

const patterns = Layer.mergeAll(Payments.Live, Reports.Live).pipe(Layer.provideMerge(ResilienceLive))

/** What the SDK exports of this process, by name. */
const makeExporter = Effect.gen(function*() {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  yield* Layer.build(
    Metrics.layer(() => reader).pipe(Layer.provide(Resource.layer({ serviceName: "shop" })))
  )
  return Effect.promise(async () => {
    await reader.forceFlush()
    const batch = exporter.getMetrics().at(-1)
    exporter.reset()
    const metrics = batch?.scopeMetrics.flatMap((scope) => scope.metrics) ?? []
    return {
      resource: batch?.resource.attributes,
      metrics: new Map(metrics.map((data) => [data.descriptor.name, data]))
    }
  })
})

const point = (data: MetricData | undefined, attributes: Record<string, string>) =>
  data?.dataPoints.find((point) => Object.entries(attributes).every(([key, value]) => point.attributes[key] === value))

describe("the real SDK of OpenTelemetry", () => {
  it.scoped("exports names, units, attributes and monotonic counters", () =>
    Effect.gen(function*() {
      const exported = yield* makeExporter
      const mine = { "resilience.pattern": "CircuitBreaker", "resilience.name": "otel-payments" }
      yield* Payments.withBreaker(Effect.void)
      yield* Effect.forEach([1, 2, 3], () => Effect.exit(Payments.withBreaker(Effect.fail("down"))))
      yield* Reports.withPermit(Effect.void)

      const { metrics, resource } = yield* exported
      expect(resource).toMatchObject({ "service.name": "shop" })

      const calls = metrics.get("resilience.calls")
      expect(calls).toMatchObject({ dataPointType: DataPointType.SUM, isMonotonic: true })
      expect(calls?.aggregationTemporality).toBe(AggregationTemporality.CUMULATIVE)
      expect(calls?.descriptor.description).toBe("Calls by outcome")
      expect(calls?.descriptor.unit).toBe("1")
      expect(point(calls, { ...mine, outcome: "success" })?.value).toBe(1)
      expect(point(calls, { ...mine, outcome: "failure" })?.value).toBe(2)
      expect(point(calls, { ...mine, outcome: "rejected" })?.value).toBe(1)

      const transitions = metrics.get("resilience.circuit_breaker.transitions")
      expect(transitions).toMatchObject({ dataPointType: DataPointType.SUM, isMonotonic: true })
      expect(point(transitions, mine)?.attributes).toMatchObject({ ...mine, from: "closed", to: "open" })

      const state = metrics.get("resilience.circuit_breaker.state")
      expect(state?.dataPointType).toBe(DataPointType.GAUGE)
      expect(point(state, { ...mine, state: "open" })?.value).toBe(1)
      expect(point(state, { ...mine, state: "closed" })?.value).toBe(0)
      expect(point(metrics.get("resilience.bulkhead.limit"), { "resilience.name": "otel-reports" })?.value).toBe(4)

      yield* Effect.exit(Payments.withBreaker(Effect.void))
      const next = yield* exported
      expect(point(next.metrics.get("resilience.calls"), { ...mine, outcome: "rejected" })?.value).toBe(2)
    }).pipe(Effect.provide(patterns)))

  it.scopedLive("exports durations in seconds, and requests under way as a sum that goes up and down", () =>
    Effect.gen(function*() {
      const exported = yield* makeExporter
      const handler = yield* serveWeb(HttpRouter.empty.pipe(
        HttpRouter.get("/otel/:id", HttpServerResponse.text("hello")),
        HttpRouter.get("/otel/:id/never", Effect.never),
        HttpServerMetrics.middleware()
      ))
      yield* Effect.promise(() => handler(new Request("http://x.test/otel/1")))
      const abort = new AbortController()
      const hanging = handler(new Request("http://x.test/otel/1/never", { signal: abort.signal }))

      const { metrics } = yield* exported
      const duration = metrics.get("http.server.request.duration")
      expect(duration?.dataPointType).toBe(DataPointType.HISTOGRAM)
      expect(duration?.descriptor.unit).toBe("s")
      const one = point(duration, { "http.route": "/otel/:id" })
      expect(one?.attributes).toMatchObject({
        "http.request.method": "GET",
        "http.response.status_code": "200",
        "url.scheme": "http"
      })
      const value = one?.value as { readonly count: number; readonly sum: number; readonly buckets: any }
      expect(value.count).toBe(1)
      expect(value.sum).toBeLessThan(5)
      expect(value.buckets.boundaries).toEqual(expect.arrayContaining([0.005, 0.01, 0.025, 0.5, 10]))
      expect(value.buckets.counts.length).toBe(value.buckets.boundaries.length + 1)

      const active = metrics.get("http.server.active_requests")
      expect(active).toMatchObject({ dataPointType: DataPointType.SUM, isMonotonic: false })
      expect(active?.descriptor.unit).toBe("{request}")
      expect(point(active, { "http.request.method": "GET", "url.scheme": "http" })?.value).toBe(1)
      abort.abort()
      yield* Effect.promise(() => hanging)
      const after = yield* exported
      expect(point(after.metrics.get("http.server.active_requests"), { "http.request.method": "GET" })?.value).toBe(0)
    }))
})
