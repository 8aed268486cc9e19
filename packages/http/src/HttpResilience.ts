/**
 * The patterns as middleware of an HTTP server: one by one, or all that a service needs in the order that works.
 *
 * @since 0.1.0
 */
import type {
  AdaptiveConcurrency,
  Backpressure,
  Bulkhead,
  CircuitBreaker,
  LoadShedder,
  Priority,
  RateLimiter,
  ResilienceError
} from "@effect-resilience/core"
import { option } from "@effect-resilience/core/extension"
import type * as App from "@effect/platform/HttpApp"
import * as LayerRouter from "@effect/platform/HttpLayerRouter"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as Context from "effect/Context"
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { ClientIp } from "./ClientIp.js"
import type { HttpFallback } from "./HttpFallback.js"
import { GatewayTimeout, ServiceUnavailable, TooManyRequests } from "./HttpProblem.js"
import type { Plan } from "./internal/chain.js"
import { admissionOf, planOf } from "./internal/chain.js"
import type { Engine } from "./internal/engine.js"
import { explain } from "./internal/explain.js"
import { optionsOf, remember } from "./internal/given.js"
import { check } from "./internal/options.js"
import { healthPaths } from "./internal/paths.js"
import type { Chain } from "./internal/platform.js"
import { admitTyped, protect } from "./internal/platform.js"
import { makePolicies } from "./internal/policies.js"
import type { Form } from "./internal/rateLimitHeaders.js"
import type { Rejection } from "./internal/rejection.js"
import type { RequestInfo } from "./internal/request.js"

/**
 * Two middlewares with different options have one name: requests that come to the second die with it, and it is logged as
 * an error, once for each name.
 *
 * @since 0.1.0
 * @category errors
 */
export class TwoPoliciesError extends Error {
  /**
   * @since 0.1.0
   */
  readonly _tag = "TwoPoliciesError"
  constructor(readonly policy: string, first: string, second: string) {
    super(
      `HttpResilience "${policy}": there is another middleware of this name. Make it once, and use that in every place; ` +
        `or give each its own name.\n  first:  ${first}\n  second: ${second}`
    )
  }
}

/** All parts but these are off. */
const only = <O extends HttpResilience.Options>(options: O): HttpResilience.Options => ({
  deadline: false,
  priority: false,
  loadShedder: false,
  longLived: false,
  adaptiveConcurrency: false,
  timeout: false,
  ...options
})

type Single<P> = P & HttpResilience.Common

/** One pattern as middleware: what is common to all stands beside the options of the pattern. */
const single =
  <P extends object>(key: keyof HttpResilience.Options) => (options: Single<P>): HttpResilience.Middleware => {
    const { clientIp, detail, exclude, isLongLived, name, rateLimitHeaders, render, ...rest } = options
    return standard(only({ name, clientIp, detail, exclude, isLongLived, rateLimitHeaders, render, [key]: rest }))
  }

const standard = (options: HttpResilience.Options): HttpResilience.Middleware => {
  const plan = planOf(options, check(options))
  const policy: HttpResilience.Middleware = <E, R>(app: App.Default<E, R>) => {
    let last: { readonly service: HttpResilience.Service; readonly made: App.Default<E, R> } | undefined
    const make = Effect.flatMap(HttpResilience, (service) =>
      Effect.flatMap(service.chain(options, plan), (chain) => {
        last = { service, made: protect(chain, app) }
        return last.made
      }))
    // Requests come from one service one after the other: to ask it anew for each would take its steps.
    return Effect.withFiberRuntime((fiber): App.Default<E, R | HttpResilience> =>
      last !== undefined && last.service === fiber.currentContext.unsafeMap.get(HttpResilience.key) ? last.made : make
    )
  }
  return remember(policy, options)
}

/** What wraps a handler, and so has no place on endpoints. */
const wrapping = ["timeout", "fallback", "staleIfError"]

/** Throws for a status that no typed failure has. */
const checkStatuses = (options: HttpResilience.Options) => {
  for (const [part, given] of Object.entries(options)) {
    if (wrapping.includes(part)) continue
    const status: unknown = Predicate.hasProperty(given, "status") ? given.status : undefined
    if (status === undefined || status === 429 || status === 503 || status === 504) continue
    const field = `${part}.status`
    const requirement = "429, 503 or 504: the failures of an HttpApi have no other"
    throw new option.InvalidOptionError("HttpResilience", options.name, field, status, requirement)
  }
}

/** The chain for places that cannot wrap a handler. @internal */
export const admission = (
  given: HttpResilience.AdmissionOptions | HttpResilience.Middleware
): Effect.Effect<Effect.Effect<Chain>, never, HttpResilience> => {
  const options = optionsOf(given)
  const resolved = check(options)
  const plan = planOf(options, resolved)
  return Effect.map(
    HttpResilience,
    (service) => Effect.map(service.engine(options, plan), (engine) => admissionOf(options.name, resolved, engine))
  )
}

const typedChain = (given: HttpResilience.AdmissionOptions | HttpResilience.Middleware) => {
  checkStatuses(optionsOf(given))
  return Effect.map(admission(given), Effect.flatMap(admitTyped))
}

/**
 * Where the middleware of a server keeps its state: the instances by name, for the length of the layer, with the
 * `EventBus`, the `Registry`, the `SystemLoad`, the `Drain`, and the stores (`RateLimiterStore`, `StaleStore`) that are in
 * the context when the layer is built.
 *
 * @example
 * import { HttpResilience } from "@effect-resilience/http"
 * import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
 * import { Layer } from "effect"
 *
 * const app = HttpRouter.empty.pipe(
 *   HttpRouter.get("/", HttpServerResponse.text("hello")),
 *   HttpResilience.standard({ name: "api" })
 * )
 *
 * const server = HttpServer.serve(app).pipe(Layer.provide(HttpResilience.Live))
 *
 * @since 0.1.0
 * @category models
 */
export class HttpResilience
  extends Context.Tag("@effect-resilience/http/HttpResilience")<HttpResilience, HttpResilience.Service>()
{
  static readonly Live: Layer.Layer<HttpResilience> = Layer.scoped(
    HttpResilience,
    makePolicies((name, first, second) => new TwoPoliciesError(name, first, second))
  )

  /**
   * What a service needs, outermost first: the caller's deadline and priority, load shedding, rate limit, backpressure,
   * bulkhead, adaptive concurrency, circuit breaker, timeout; around them all what is answered instead: the last good
   * response, and the fallback. Each part takes the options of its pattern; `false` leaves
   * it out. On by default are those that need no figures of the service: deadline, priority, shedding, adaptive
   * concurrency and timeout.
   *
   * - Shedding is first: it costs least, and under load it is what counts.
   * - The rate limit comes before whatever is held, so that one client cannot fill it.
   * - Permits are held until the response is sent.
   * - The timeout is innermost: what a request waits is not the handler's time.
   */
  static readonly standard = standard

  /** Turns requests away above a rate, by client. */
  static readonly rateLimit = single<HttpResilience.RateLimitOptions>("rateLimit")
  /** Sheds requests by priority under load. */
  static readonly loadShedder = single<HttpResilience.LoadShedderOptions>("loadShedder")
  /** So many requests at once. */
  static readonly bulkhead = single<HttpResilience.BulkheadOptions>("bulkhead")
  /** As many requests at once as latency allows. */
  static readonly adaptiveConcurrency = single<HttpResilience.AdaptiveConcurrencyOptions>("adaptiveConcurrency")
  /** Lets requests wait between two marks. */
  static readonly backpressure = single<HttpResilience.BackpressureOptions>("backpressure")
  /** Stops calling handlers that fail. */
  static readonly circuitBreaker = single<HttpResilience.CircuitBreakerOptions>("circuitBreaker")
  /** Answers with 504 when the headers of a response take too long. */
  static readonly timeout = single<HttpResilience.TimeoutOptions>("timeout")
  /** Serves the last good response of a `GET` when there is an error. */
  static readonly staleIfError = single<HttpFallback.StaleOptions>("staleIfError")
  /** Answers where there is no answer. */
  static readonly fallback = single<HttpFallback.Options>("fallback")

  /**
   * A middleware that has its `HttpResilience` already, for places whose types let it require nothing more:
   * `HttpApiBuilder.middleware(HttpResilience.middlewareEffect(HttpResilience.standard({ … })))`.
   */
  static readonly middlewareEffect = (middleware: HttpResilience.Middleware) =>
    Effect.map(
      HttpResilience,
      (service) => <E, R>(app: App.Default<E, R>) => Effect.provideService(middleware(app), HttpResilience, service)
    )

  /**
   * A middleware for a `HttpLayerRouter`: `Layer.provide(HttpResilience.layerRouter(policy).layer)` puts it around the
   * routes of a layer, and `HttpResilience.layerRouter(policy, { global: true })` is the layer that has it around all.
   */
  static readonly layerRouter = <const Global extends boolean = false>(
    middleware: HttpResilience.Middleware,
    options?: { readonly global?: Global | undefined }
  ) =>
    LayerRouter.middleware(
      Effect.map(
        HttpResilience,
        (service) => (app: App.Default<LayerRouter.unhandled>) =>
          Effect.provideService(middleware(app), HttpResilience, service)
      ),
      options
    )

  /** What a request goes through with these options, or by this policy, outermost first, for people. */
  static readonly explain = (given: HttpResilience.Options | HttpResilience.Middleware): string => {
    const options = optionsOf(given)
    return explain(options.name, check(options))
  }

  /**
   * The chain before the handlers of an `HttpApi`, for the layer of a tag with `failure: HttpResilience.Failure`: the
   * statuses stand in OpenAPI and in the derived client, so a part may have no other `status`. Handlers read `ClientIp`,
   * `Priority` and `Deadline`. It cannot wrap a handler: it has no timeout, and the caller's deadline ends what heeds one,
   * as all of core does, and not the handler itself; where an upgrade is asked for, there is none. A policy around the
   * whole `HttpApi` does that.
   * With a policy, or its options, the same object, it is that policy at another place, without what has none here.
   */
  static readonly apiMiddleware = (policy: HttpResilience.AdmissionOptions | HttpResilience.Middleware) =>
    Effect.map(typedChain(policy), Effect.asVoid)

  /** The same for a tag that also `provides: RateLimitDecision`. */
  static readonly apiMiddlewareWithDecision = (policy: HttpResilience.AdmissionOptions | HttpResilience.Middleware) =>
    Effect.map(typedChain(policy), Effect.map(({ decision }) => Option.fromNullable(decision)))

  /** What the chain of an `HttpApi` fails with. */
  static readonly Failure = Schema.Union(TooManyRequests, ServiceUnavailable, GatewayTimeout)

  /** The paths that are excluded by default: those by which a service is watched. */
  static readonly healthPaths = healthPaths

  /** Response fields that browsers may read only where CORS exposes them: `HttpMiddleware.cors({ exposedHeaders })`. */
  static readonly exposedHeaders: ReadonlyArray<string> = ["Retry-After", "RateLimit", "RateLimit-Policy"]
}

/**
 * @since 0.1.0
 */
export declare namespace HttpResilience {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    /** What decides by these options, made when it is first asked for. */
    readonly engine: (options: { readonly name: string }, plan: Plan) => Effect.Effect<Engine>
    /** The same with what is around a handler. */
    readonly chain: (options: { readonly name: string }, plan: Plan) => Effect.Effect<Chain>
  }

  /**
   * It keeps what an app fails with and what it requires.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Middleware {
    <E, R>(app: App.Default<E, R>): App.Default<E, R | HttpResilience>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Request extends RequestInfo {}

  /**
   * What each part takes beside the options of its pattern.
   *
   * @since 0.1.0
   * @category models
   */
  export interface PartOptions {
    /** Counts whom it would turn away, and lets them through. Nothing waits then. Defaults to `false`. */
    readonly dryRun?: boolean | undefined
    /** The status of a rejection. Defaults to 429, 503 or 504, by whose fault it is. */
    readonly status?: number | undefined
    /** The title of the problem document. Defaults to that of its registered type. */
    readonly message?: string | undefined
    /** Header fields of a rejection, over those there are. Defaults to none. */
    readonly headers?: Readonly<Record<string, string>> | undefined
    /**
     * When a client may come back: `"jittered"` is the truth, or a second where nobody knows it; a duration is a floor; or
     * a function of the error. All are written in whole seconds and with up to a tenth more, or a second where that is
     * more. Defaults to `"jittered"`.
     */
    readonly retryAfter?: "jittered" | DurationInput | ((error: ResilienceError) => DurationInput) | undefined
  }

  /**
   * Whose request it is, for the option `fair`.
   *
   * @since 0.1.0
   * @category models
   */
  export interface FairOptions {
    /**
     * Whose line a request stands in, as an authenticated request says it; those of nobody share one. With a key `fair`
     * is `true` where nothing is said. Defaults to the address by `clientIp`, masked to /64 in IPv6, where `fair` is set.
     */
    readonly key?: ((request: RequestInfo) => Option.Option<string>) | undefined
  }

  /** @since 0.1.0 @category models */
  export interface LoadShedderOptions extends LoadShedder.Options, PartOptions {
    /**
     * Who asks: under pressure the same ones of a class are shed, here and at the services behind that are given the same
     * name. Defaults to chance.
     */
    readonly cohort?: ((request: RequestInfo) => Option.Option<string>) | undefined
  }
  /** @since 0.1.0 @category models */
  export type BulkheadOptions = Bulkhead.Options & FairOptions & PartOptions
  /** @since 0.1.0 @category models */
  export type AdaptiveConcurrencyOptions = AdaptiveConcurrency.Options & FairOptions & PartOptions
  /** @since 0.1.0 @category models */
  export type BackpressureOptions = Backpressure.Options & PartOptions
  /** @since 0.1.0 @category models */
  export type CircuitBreakerOptions = CircuitBreaker.Options & PartOptions
  /** @since 0.1.0 @category models */
  export interface TimeoutOptions extends PartOptions {
    /** How long a handler has until its headers. Defaults to `"30 seconds"`. */
    readonly duration?: DurationInput | undefined
  }
  /** @since 0.1.0 @category models */
  export interface RateLimitOptions extends Omit<RateLimiter.Options, "mode" | "maxWait" | "rateFor">, PartOptions {
    /** The rate of a client. */
    readonly rate: RateLimiter.Rates
    /**
     * Who a client is, as an authenticated request says it. A shared store shows it: of a secret, as an API key, take a
     * digest. Defaults to the address by `clientIp`, masked to /64 in IPv6.
     */
    readonly key?: ((request: RequestInfo) => Option.Option<string>) | undefined
    /** What is done with a request that has no key. Defaults to `"reject"`. */
    readonly onMissingKey?: "reject" | "shared" | "skip" | undefined
    /** What a request costs. Defaults to `1`. */
    readonly cost?: ((request: RequestInfo) => number) | undefined
    /** The rate of this request. Defaults to `rate`. */
    readonly rateFor?: ((request: RequestInfo) => RateLimiter.Rates) | undefined
  }
  /** @since 0.1.0 @category models */
  export interface DeadlineOptions {
    /** The header fields that are read; the least counts. Defaults to those of gRPC, Envoy and Connect, and `x-request-timeout-ms`. */
    readonly headers?: ReadonlyArray<string> | undefined
    /** Counts who would be too late, and cuts nobody off. Defaults to `false`. */
    readonly dryRun?: boolean | undefined
  }
  /** @since 0.1.0 @category models */
  export interface PriorityOptions {
    /** The header field. Defaults to `"x-priority"`. */
    readonly header?: string | undefined
    /** The priority of a request that does not say, and the highest that anybody may ask for. Defaults to the ambient one. */
    readonly default?: Priority.Level | undefined
    /**
     * Whose word counts even where it raises: the addresses of gateways, or ranges of them like `"10.0.0.0/8"`, which the
     * peer of the socket has to be one of; or a function. Defaults to nobody's.
     */
    readonly trust?: ReadonlyArray<string> | ((request: RequestInfo) => boolean) | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Common {
    /** The name of the instances. Printable ASCII. */
    readonly name: string
    /**
     * Paths that are let through, as the client sent them, wherever a router is mounted: `*` is a segment or a part of one
     * (`"/*.ico"`), `**` any number of whole ones. Defaults to `HttpResilience.healthPaths`.
     */
    readonly exclude?: ReadonlyArray<string> | undefined
    /** How much a rejection tells: `"full"` adds pattern, reason and message. Defaults to `"minimal"`. */
    readonly detail?: "minimal" | "full" | undefined
    /** How the address of a client is found: handlers read it as `ClientIp`. Defaults to the peer of the socket. */
    readonly clientIp?: ClientIp.Rule | undefined
    /** Writes a rejection in your own form. Defaults to a problem document (RFC 9457). */
    readonly render?: ((rejection: Rejection, request: HttpServerRequest) => HttpServerResponse) | undefined
    /** The forms of the rate limit's header fields; `[]` for none, in no policy around it either. Defaults to `["draft-10"]`. */
    readonly rateLimitHeaders?: ReadonlyArray<Form> | undefined
    /**
     * Which requests stay for long before they are answered, such as long polls: they are in the bulkhead `longLived` and
     * in no other. Streams of events are known by their answers, and so are upgrades where a handler is wrapped. Defaults
     * to none.
     */
    readonly isLongLived?: ((request: RequestInfo) => boolean) | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options extends Common {
    /** The deadline that the caller sets. Defaults to `{}`. */
    readonly deadline?: DeadlineOptions | false | undefined
    /** The priority of a request. Defaults to `{}`. */
    readonly priority?: PriorityOptions | false | undefined
    /** Sheds by priority under load; its `cpu` is not looked at unless it is given. Defaults to `{}`. */
    readonly loadShedder?: LoadShedderOptions | false | undefined
    /** A rate per client. Defaults to `false`. */
    readonly rateLimit?: RateLimitOptions | false | undefined
    /** Waiting between two marks. Defaults to `false`. */
    readonly backpressure?: BackpressureOptions | false | undefined
    /** So many at once. Defaults to `false`. */
    readonly bulkhead?: BulkheadOptions | false | undefined
    /** So many long-lived requests at once. Defaults to `{ maxConcurrent: 1000, maxQueued: 0 }`. */
    readonly longLived?: BulkheadOptions | false | undefined
    /** As many at once as latency allows. Defaults to `{}`. */
    readonly adaptiveConcurrency?: AdaptiveConcurrencyOptions | false | undefined
    /** Stops when handlers fail. Defaults to `false`. */
    readonly circuitBreaker?: CircuitBreakerOptions | false | undefined
    /** How long a handler has until its headers. Defaults to `"30 seconds"`. */
    readonly timeout?: TimeoutOptions | DurationInput | false | undefined
    /** Serves the last good response of a `GET` when there is an error. Defaults to `false`. */
    readonly staleIfError?: HttpFallback.StaleOptions | false | undefined
    /** Answers where there is no answer, and nothing stale either. Defaults to `false`. */
    readonly fallback?: HttpFallback.Options | false | undefined
  }

  /**
   * What a chain has that cannot wrap a handler: it lets in or turns away, and ends nothing that has begun.
   *
   * @since 0.1.0
   * @category models
   */
  export type AdmissionOptions = Omit<Options, "timeout" | "render" | "staleIfError" | "fallback">
}
