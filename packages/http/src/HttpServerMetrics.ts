/**
 * How long requests take and how many are under way, as the conventions of OpenTelemetry name it: `@effect/platform` has
 * spans and logs of requests, and no metrics.
 *
 * @since 0.1.0
 */
import { metric, option } from "@effect-resilience/core/extension"
import type * as App from "@effect/platform/HttpApp"
import * as Router from "@effect/platform/HttpRouter"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"
import * as Predicate from "effect/Predicate"
import type * as Tracer from "effect/Tracer"
import { current, served } from "./internal/served.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * How many combinations of route, method and status are kept apart. Later ones are counted together, with
   * `otel.metric.overflow`. Defaults to `1000`.
   */
  readonly maxSeries?: number | undefined
}

const fields = { maxSeries: option.integer(1000, { min: 1 }) } satisfies option.Fields<Options>

const methods = new Set(["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"])

const isEncrypted = ({ originalUrl, source }: HttpServerRequest): boolean =>
  originalUrl.startsWith("https:") ||
  (Predicate.hasProperty(source, "socket") && Predicate.hasProperty(source.socket, "encrypted") &&
    source.socket.encrypted === true)

/** What is known when a request comes. A client may send any method: those that nobody knows are one. */
const attributesOf = (request: HttpServerRequest) => ({
  "http.request.method": methods.has(request.method) ? request.method : "_OTHER",
  "url.scheme": isEncrypted(request) ? "https" : "http"
})

/** The pattern of the route, never the path: inside a router it is in the context, around it in the span. */
const routeOf = (context: Context.Context<never>, span: Tracer.AnySpan | undefined): string | undefined => {
  const inside = Context.getOption(context as Context.Context<Router.RouteContext>, Router.RouteContext)
  if (inside._tag === "Some") return inside.value.route.path
  const route = span?._tag === "Span" ? span.attributes.get("http.route") : undefined
  return Predicate.isString(route) ? route : undefined
}

/** The answer's part of the attributes. What never had an answer is an error of no kind. */
const outcomeOf = (status: number | undefined, route: string | undefined) => ({
  ...(route === undefined ? {} : { "http.route": route }),
  ...(status === undefined ? {} : { "http.response.status_code": String(status) }),
  ...(status !== undefined && status < 500 ? {} : { "error.type": status === undefined ? "_OTHER" : String(status) })
})

type Attributes = Readonly<Record<string, string>>

/** One metric for each set of attributes, up to a number of them. */
const bounded = (max: number, make: (attributes: Attributes) => (value: number) => void) => {
  const known = new Map<string, (value: number) => void>()
  let overflow: ((value: number) => void) | undefined
  return (attributes: Attributes): (value: number) => void => {
    const key = JSON.stringify(attributes)
    const found = known.get(key)
    if (found !== undefined) return found
    if (known.size >= max) return overflow ??= make({ "otel.metric.overflow": "true" })
    const made = make(attributes)
    known.set(key, made)
    return made
  }
}

const duration = (attributes: Attributes) =>
  metric.seconds("http.server.request.duration", "Duration of HTTP server requests", attributes)

const active = (attributes: Attributes) => {
  const key = MetricKey.counter("http.server.active_requests", { description: "Number of active HTTP server requests" })
  const labels = Object.entries({ ...attributes, unit: "{request}" }).map(([name, value]) =>
    MetricLabel.make(name, value)
  )
  const upDown = Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labels))
  return (by: number) => upDown.unsafeUpdate(by, [])
}

/**
 * Measures requests until their responses are sent: `http.server.request.duration` (histogram, seconds) and
 * `http.server.active_requests`. Attributes are method, scheme, route, status and `error.type`; the route is that of the
 * router, as it stands in the span of the request, or in the router's context where the middleware is given to
 * `HttpRouter.use`. It goes around the patterns, to see whom they turn away.
 *
 * @example
 * import { HttpResilience, HttpServerMetrics, PrometheusMetrics } from "@effect-resilience/http"
 * import { HttpRouter } from "@effect/platform"
 *
 * const api = HttpRouter.empty.pipe(
 *   PrometheusMetrics.route("/metrics"),
 *   HttpResilience.standard({ name: "api" }),
 *   HttpServerMetrics.middleware()
 * )
 *
 * @since 0.1.0
 * @category constructors
 */
export const middleware = (options: Options = {}) => {
  const { maxSeries } = option.resolve("HttpServerMetrics", "http.server", fields, options)
  const durations = bounded(maxSeries, duration)
  // Ten methods, another, and two schemes: there are no more.
  const actives = bounded(22, active)
  return <E, R>(app: App.Default<E, R>): App.Default<E, R> =>
    Effect.withFiberRuntime((fiber) => {
      const { currentContext, currentSpan } = fiber
      const { request, scope } = current(fiber)
      const attributes = attributesOf(request)
      const underWay = actives(attributes)
      const watch = Effect.flatMap(Clock.currentTimeNanos, (start) => {
        let status: number | undefined
        underWay(1)
        return served(request, scope, {
          answered: (response) =>
            Effect.sync(() => {
              status = response.status
              return response
            }),
          sent: Effect.map(Clock.currentTimeNanos, (now) => {
            underWay(-1)
            const all = { ...attributes, ...outcomeOf(status, routeOf(currentContext, currentSpan)) }
            durations(all)(Number(now - start) / 1e9)
          })
        })
      })
      return Effect.uninterruptibleMask((restore) => Effect.zipRight(watch, restore(app)))
    })
}
