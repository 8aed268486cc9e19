import { ResilienceLive } from "@effect-resilience/core"
import { HttpResilience, PrometheusMetrics } from "@effect-resilience/http"
import { HttpLayerRouter, HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import {
  Chunk,
  Duration,
  Effect,
  FastCheck,
  Layer,
  Metric,
  MetricBoundaries,
  MetricKey,
  MetricLabel,
  MetricPair,
  MetricState,
  Option
} from "effect"
import { format } from "../src/internal/prometheus.js"
import { labelName, metricName } from "../src/internal/prometheusNames.js"
import { families, samples, valueOf } from "./utils/prometheus.js"
import { fetchNode, serveNode } from "./utils/servers.js"

type Labels = ReadonlyArray<readonly [string, string]>
const tags = (labels: Labels) => labels.map(([key, value]) => MetricLabel.make(key, value))
const label = (labels: Labels) => MetricKey.taggedWithLabels(tags(labels)) as <K>(key: K) => K

const counter = (name: string, count: number, labels: Labels = [], description?: string) =>
  MetricPair.unsafeMake(
    label(labels)(
      MetricKey.counter(name, { incremental: true, ...(description === undefined ? {} : { description }) })
    ),
    MetricState.counter(count)
  )
const gauge = (name: string, value: number, labels: Labels = []) =>
  MetricPair.unsafeMake(label(labels)(MetricKey.gauge(name)), MetricState.gauge(value))
const histogram = (name: string, counts: ReadonlyArray<number>, labels: Labels = []) =>
  MetricPair.unsafeMake(
    label(labels)(MetricKey.histogram(name, MetricBoundaries.fromIterable([0.1, 1]))),
    MetricState.histogram({
      buckets: [[0.1, counts[0] ?? 0], [1, counts[1] ?? 0], [Infinity, counts[2] ?? 0]],
      count: counts[2] ?? 0,
      min: 0,
      max: 9,
      sum: 4.5
    })
  )

const lines = (pairs: Iterable<MetricPair.MetricPair.Untyped>, maxSeries = 1000) =>
  format(pairs, maxSeries).split("\n").filter((line) => line !== "")

describe("names", () => {
  it.each<[string, Parameters<typeof metricName>, string]>([
    ["dots become underscores, a counter is a total", ["resilience.calls", "counter"], "resilience_calls_total"],
    ["a total is not said twice", ["calls_total", "counter"], "calls_total"],
    ["the unit stands before the total", ["io.total", "counter", "By"], "io_bytes_total"],
    ["a unit is written out", ["wait.duration", "histogram", "s"], "wait_duration_seconds"],
    ["a unit is not said twice", ["wait_seconds", "histogram", "s"], "wait_seconds"],
    ["a unit of Effect's timer", ["timer", "histogram", "milliseconds"], "timer_milliseconds"],
    ["a rate", ["speed", "gauge", "By/s"], "speed_bytes_per_second"],
    ["an annotation is no unit", ["requests", "gauge", "{request}"], "requests"],
    ["a gauge of one is a ratio", ["load", "gauge", "1"], "load_ratio"],
    ["a counter of one is not", ["load", "counter", "1"], "load_total"],
    ["what may not stand there is an underscore, one of many", ["a b--ü.c", "gauge"], "a_b_c"],
    ["no digit stands first", ["2xx", "gauge"], "_2xx"],
    ["a unit that nobody knows", ["heap", "gauge", "crates"], "heap_crates"],
    ["a unit named as a property of every object", ["heap", "gauge", "constructor"], "heap_constructor"]
  ])("%s", (_, args, expected) => {
    expect(metricName(...args)).toBe(expected)
  })

  it("a label begins neither with a digit nor with two underscores, and is never empty", () => {
    expect(["http.route", "__name__", "2nd", "", "ü"].map(labelName)).toEqual([
      "http_route",
      "_name_",
      "key_2nd",
      "_",
      "_"
    ])
  })
})

describe("format", () => {
  it("writes each kind of metric", () => {
    const summary = MetricPair.unsafeMake(
      MetricKey.summary({
        name: "s",
        maxAge: "1 minute",
        maxSize: 10,
        error: 0,
        quantiles: Chunk.make(0.5, 0.9) as any
      }),
      MetricState.summary({
        error: 0,
        quantiles: [[0.5, Option.some(2)], [0.9, Option.none()]],
        count: 3,
        min: 1,
        max: 3,
        sum: 6
      })
    )
    const frequency = MetricPair.unsafeMake(
      MetricKey.frequency("f", { description: "words" }),
      MetricState.frequency(new Map([["yes", 2], ["no", 1]]))
    )
    const upDown = MetricPair.unsafeMake(
      MetricKey.counter("u", { bigint: true }),
      MetricState.counter(-12345678901234567890n)
    )
    expect(lines([
      counter("c", 1, [["b", "2"], ["a", "1"]], "counts"),
      counter("c", 5, []),
      gauge("g", -Infinity),
      histogram("h", [1, 3, 4], [["x", "y"], ["unit", "s"]]),
      summary,
      frequency,
      upDown
    ])).toEqual([
      "# HELP c_total counts",
      "# TYPE c_total counter",
      "c_total{a=\"1\",b=\"2\"} 1",
      "c_total 5",
      "# HELP f_total words",
      "# TYPE f_total counter",
      "f_total{key=\"yes\"} 2",
      "f_total{key=\"no\"} 1",
      "# TYPE g gauge",
      "g -Inf",
      "# TYPE h_seconds histogram",
      "h_seconds_bucket{x=\"y\",le=\"0.1\"} 1",
      "h_seconds_bucket{x=\"y\",le=\"1\"} 3",
      "h_seconds_bucket{x=\"y\",le=\"+Inf\"} 4",
      "h_seconds_sum{x=\"y\"} 4.5",
      "h_seconds_count{x=\"y\"} 4",
      "# TYPE s summary",
      "s{quantile=\"0.5\"} 2",
      "s{quantile=\"0.9\"} NaN",
      "s_sum 6",
      "s_count 3",
      "# TYPE u gauge",
      "u -12345678901234567890"
    ])
  })

  it("escapes what would end a line or a value", () => {
    expect(lines([counter("c", 1, [["path", "C:\\a\"b\nc"]], "back\\slash\nand \"quotes\"")])).toEqual([
      "# HELP c_total back\\\\slash\\nand \"quotes\"",
      "# TYPE c_total counter",
      "c_total{path=\"C:\\\\a\\\"b\\nc\"} 1"
    ])
  })

  it("keeps the labels that a type needs for itself, and joins those that become one", () => {
    expect(lines([counter("c", 1, [["le", "mine"], ["a.b", "2"], ["a-b", "1"], ["empty", ""]])])[1]).toBe(
      "c_total{a_b=\"1;2\",le=\"mine\"} 1"
    )
    expect(lines([histogram("h", [0, 0, 0], [["le", "mine"]])])[1]).toBe("h_bucket{exported_le=\"mine\",le=\"0.1\"} 0")
  })

  it("of one label the last value counts, as for OpenTelemetry", () => {
    expect(lines([counter("c", 1, [["a", "1"], ["a", "2"]])])[1]).toBe("c_total{a=\"2\"} 1")
  })

  it("leaves out what is beyond the cap, says so, and keeps the totals", () => {
    const many = Array.from({ length: 5 }, (_, i) => counter("c", i + 1, [["id", String(i)]]))
    expect(lines(many, 2)).toEqual([
      "# TYPE c_total counter",
      "c_total{id=\"0\"} 1",
      "c_total{id=\"1\"} 2",
      "c_total{otel_metric_overflow=\"true\"} 12",
      "# HELP effect_metrics_series_omitted Series that are not in this scrape: beyond the cap, in the name of another " +
      "metric, or there twice",
      "# TYPE effect_metrics_series_omitted gauge",
      "effect_metrics_series_omitted{metric=\"c_total\",reason=\"cardinality\"} 3"
    ])
  })

  it("adds the buckets beyond the cap, and no gauges", () => {
    const ids = ["0", "1", "2"]
    const out = format([
      ...ids.map((id) => histogram("h", [1, 2, 3], [["id", id]])),
      ...ids.map((id) => gauge("g", 7, [["id", id]]))
    ], 1)
    const overflow = { otel_metric_overflow: "true" }
    expect(valueOf(out, "h_bucket", { ...overflow, le: "0.1" })).toBe(2)
    expect(valueOf(out, "h_bucket", { ...overflow, le: "+Inf" })).toBe(6)
    expect(valueOf(out, "h_sum", overflow)).toBe(9)
    expect(valueOf(out, "g")).toBe(7)
    expect(valueOf(out, "effect_metrics_series_omitted", { metric: "g" })).toBe(2)
  })

  it("a metric that has an overflow of its own has one line of it", () => {
    const out = lines([
      counter("c", 1, [["otel.metric.overflow", "true"]]),
      counter("c", 2, [["id", "1"]]),
      counter("c", 4, [["id", "2"]])
    ], 2)
    expect(out.filter((line) => line.includes("overflow"))).toEqual(["c_total{otel_metric_overflow=\"true\"} 5"])
  })

  it("writes no series twice, and no name of another metric", () => {
    const out = format([
      counter("c", 1, [], "one"),
      counter("c", 2, [], "another"),
      gauge("c_total", 3),
      histogram("h", [0, 0, 0]),
      gauge("h_count", 4),
      gauge("effect_metrics_series_omitted", 5)
    ], 1000)
    expect(valueOf(out, "c_total")).toBe(1)
    expect(valueOf(out, "h_count")).toBe(0)
    expect(samples(out).filter(({ name }) => name === "effect_metrics_series_omitted")).toEqual([
      { name: "effect_metrics_series_omitted", labels: { metric: "c_total", reason: "duplicate" }, value: "1" },
      { name: "effect_metrics_series_omitted", labels: { metric: "c_total", reason: "conflict" }, value: "1" },
      { name: "effect_metrics_series_omitted", labels: { metric: "h_count", reason: "conflict" }, value: "1" },
      {
        name: "effect_metrics_series_omitted",
        labels: { metric: "effect_metrics_series_omitted", reason: "conflict" },
        value: "1"
      }
    ])
  })

  it("whatever names, labels and values there are, a parser reads them back", () => {
    const nasty = FastCheck.oneof(
      FastCheck.string({ unit: "binary", maxLength: 12 }),
      FastCheck.stringMatching(/^["\\\n\r{},= #]{0,8}$/)
    )
    const key = FastCheck.tuple(nasty, FastCheck.array(FastCheck.tuple(nasty, nasty), { maxLength: 4 }))
    const pair = FastCheck.tuple(key, nasty, FastCheck.double(), FastCheck.nat(3)).map(
      ([[name, labels], description, value, kind]) => {
        if (kind === 0) return counter(name, Math.abs(value), labels, description)
        if (kind === 1) return histogram(name, [1, 2, 3], labels)
        if (kind === 2) return gauge(name, value, labels)
        return MetricPair.unsafeMake(
          label(labels)(MetricKey.frequency(name)),
          MetricState.frequency(new Map([[description, 1], ["b", 2]]))
        )
      }
    )
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(pair, { maxLength: 12 }),
        FastCheck.integer({ min: 1, max: 4 }),
        (pairs, cap) => {
          const out = format(pairs, cap)
          const all = samples(out)
          for (const { labels, name, value } of all) {
            expect(name).toMatch(/^[a-zA-Z_:][a-zA-Z0-9_:]*$/)
            for (const key of Object.keys(labels)) expect(key).toMatch(/^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/)
            expect(value).toMatch(/^([+-]Inf|NaN|-?[0-9.]+(e[+-][0-9]+)?)$/)
          }
          const ids = all.map(({ labels, name }) => JSON.stringify([name, Object.entries(labels).sort()]))
          expect(new Set(ids).size).toBe(ids.length)
          const types = out.split("\n").filter((line) => line.startsWith("# TYPE ")).map((line) => line.split(" ")[2])
          expect(new Set(types).size).toBe(types.length)
          // Nothing is lost in silence: what is not there is counted.
          const given =
            pairs.flatMap(({ metricState }): ReadonlyArray<string> =>
              MetricState.isFrequencyState(metricState) ? [...metricState.occurrences.keys()] : ["one"]
            ).length
          const written =
            all.filter(({ labels, name }) =>
              name !== "effect_metrics_series_omitted" && labels["otel_metric_overflow"] === undefined &&
              (labels["le"] === undefined || !name.endsWith("_bucket")) && !name.endsWith("_sum")
            ).length
          expect(written + valueOf(out, "effect_metrics_series_omitted")).toBe(given)
        }
      ),
      { numRuns: 500 }
    )
  })

  it("values of labels and the help come back as they were", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.string({ unit: "binary", minLength: 1 }),
        FastCheck.string({ unit: "binary", minLength: 1 }).filter((text) => text.trim() === text),
        (value, help) => {
          const out = format([counter("c", 1, [["a", value]], help)], 1)
          expect(samples(out)[0]?.labels).toEqual({ a: value })
          expect(families(out).get("c_total")?.help).toBe(help)
        }
      ),
      { numRuns: 1000 }
    )
  })
})

describe("the route", () => {
  const requests = Metric.counter("shop.orders", { incremental: true, description: "Orders" })
  const latency = Metric.timerWithBoundaries("shop.latency", [1, 10], "How long an order takes")

  const wait = Metric.tagged(
    Metric.histogram("shop.wait", MetricBoundaries.fromIterable([0.005, 30])),
    "unit",
    "s"
  )

  const scrape = (url: string, options?: { readonly method: string }) =>
    Effect.map(Effect.promise(() => fetchNode(`${url}/metrics`, options)), (answer) => {
      if (answer === undefined) throw new Error("no answer")
      return answer
    })

  it.scopedLive("a real server, scraped and parsed", () =>
    Effect.gen(function*() {
      yield* Metric.incrementBy(Metric.tagged(requests, "kind", "a \"big\"\none\\"), 3)
      yield* Metric.update(latency, Duration.millis(5))
      yield* Metric.update(wait, 0.004)
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        PrometheusMetrics.route(),
        HttpResilience.standard({ name: "scraped", bulkhead: { maxConcurrent: 3 }, circuitBreaker: {} })
      ))
      yield* Effect.promise(() => fetchNode(url))
      const { body, headers, status } = yield* scrape(url)
      expect(status).toBe(200)
      expect(headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8")
      expect(headers["cache-control"]).toBe("no-store")
      expect(valueOf(body, "shop_orders_total", { kind: "a \"big\"\none\\" })).toBe(3)
      expect(valueOf(body, "shop_latency_milliseconds_bucket", { le: "10" })).toBe(1)
      expect(valueOf(body, "resilience_calls_total", { resilience_name: "scraped", outcome: "success" }))
        .toBeGreaterThan(0)
      expect(valueOf(body, "resilience_bulkhead_limit", { resilience_name: "scraped" })).toBe(3)
      const found = families(body)
      expect(found.get("shop_orders_total")).toMatchObject({ type: "COUNTER", help: "Orders" })
      expect(found.get("shop_latency_milliseconds")?.type).toBe("HISTOGRAM")
      expect(found.get("resilience_circuit_breaker_state")?.type).toBe("GAUGE")
      expect(valueOf(body, "shop_wait_seconds_bucket", { le: "0.005" })).toBe(1)
      expect(samples(body).filter(({ labels }) => labels["unit"] ?? labels["time_unit"])).toEqual([])
      // A scrape is no request that a pattern counts.
      const again = yield* scrape(url)
      const calls = { resilience_name: "scraped", resilience_pattern: "Bulkhead" }
      expect(valueOf(again.body, "resilience_calls_total", calls)).toBe(valueOf(body, "resilience_calls_total", calls))
      expect((yield* scrape(url, { method: "HEAD" })).body).toBe("")
    }).pipe(Effect.provide(HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive)))))

  it.scopedLive("in an HttpLayerRouter", () =>
    Effect.gen(function*() {
      const app = yield* HttpLayerRouter.toHttpEffect(PrometheusMetrics.layer("/metrics", { maxSeries: 1 }))
      const { url } = yield* serveNode(app)
      yield* Metric.increment(Metric.tagged(requests, "kind", "one more"))
      yield* Metric.increment(Metric.tagged(requests, "kind", "and another"))
      const { body } = yield* scrape(url)
      expect(samples(body).filter(({ name }) => name === "shop_orders_total").length).toBe(2)
      expect(valueOf(body, "effect_metrics_series_omitted", { metric: "shop_orders_total" })).toBeGreaterThan(0)
    }))

  it("a cap that is none is refused", () => {
    expect(() => PrometheusMetrics.app({ maxSeries: 0 })).toThrow(
      "PrometheusMetrics \"metrics\": option maxSeries must be an integer of at least 1, but is 0"
    )
  })
})
