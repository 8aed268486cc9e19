/**
 * Effect's metrics in Prometheus' text format: those of this library, and your own.
 *
 * @since 0.1.0
 */
import { option } from "@effect-resilience/core/extension"
import type * as App from "@effect/platform/HttpApp"
import * as LayerRouter from "@effect/platform/HttpLayerRouter"
import * as Router from "@effect/platform/HttpRouter"
import * as Response from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import { format } from "./internal/prometheus.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * How many series one metric may have. Those beyond it, the youngest, are left out and counted in
   * `effect_metrics_series_omitted`; of counters and histograms their sum is in a series with the label
   * `otel_metric_overflow="true"`, so that totals stay right. Defaults to `1000`.
   */
  readonly maxSeries?: number | undefined
}

const fields = { maxSeries: option.integer(1000, { min: 1 }) } satisfies option.Fields<Options>

/**
 * The text of all metrics that there are now. Names are those of the mapping from OpenTelemetry: dots become underscores,
 * the unit (of a label `unit` or `time_unit`) is part of the name, counters end in `_total`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const text = (options: Options = {}): Effect.Effect<string> => {
  const { maxSeries } = option.resolve("PrometheusMetrics", "metrics", fields, options)
  return Effect.map(Metric.snapshot, (snapshot) => format(snapshot, maxSeries))
}

/**
 * Answers with the text, to whatever request.
 *
 * @since 0.1.0
 * @category constructors
 */
export const app = (options?: Options): App.Default =>
  Effect.map(text(options), (body) =>
    Response.text(body, {
      contentType: "text/plain; version=0.0.4; charset=utf-8",
      headers: { "cache-control": "no-store" }
    }))

/**
 * Adds the route to an `HttpRouter`. It is one of `HttpResilience.healthPaths`, which no pattern turns away.
 *
 * @example
 * import { HttpResilience, PrometheusMetrics } from "@effect-resilience/http"
 * import { HttpRouter } from "@effect/platform"
 *
 * const api = HttpRouter.empty.pipe(
 *   PrometheusMetrics.route("/metrics"),
 *   HttpResilience.standard({ name: "api" })
 * )
 *
 * @since 0.1.0
 * @category constructors
 */
export const route = (path: Router.PathInput = "/metrics", options?: Options) => {
  const answer = app(options)
  return <E, R>(router: Router.HttpRouter<E, R>): Router.HttpRouter<E, R> => Router.get(router, path, answer)
}

/**
 * Adds the route to an `HttpLayerRouter`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (
  path: Router.PathInput = "/metrics",
  options?: Options
): Layer.Layer<never, never, LayerRouter.HttpRouter> => LayerRouter.add("GET", path, app(options))
