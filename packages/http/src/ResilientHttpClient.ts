/**
 * A client whose requests have time limits, retries within a budget, and for each server a circuit breaker and a bulkhead.
 *
 * @since 0.1.0
 */
import type { Bulkhead, CircuitBreaker, Guard, RateLimiter, Retry, RetryBudget } from "@effect-resilience/core"
import { option } from "@effect-resilience/core/extension"
import * as HttpClient from "@effect/platform/HttpClient"
import type { HttpClientError } from "@effect/platform/HttpClientError"
import { RequestError } from "@effect/platform/HttpClientError"
import type { HttpClientRequest } from "@effect/platform/HttpClientRequest"
import * as Context from "effect/Context"
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Chain, ChainError } from "./internal/client/chain.js"
import { openChain } from "./internal/client/chain.js"
import { partsOf } from "./internal/client/inner.js"
import type { Checked } from "./internal/client/options.js"
import { checkClient } from "./internal/client/options.js"
import { checkOverride, CurrentOverride } from "./internal/client/override.js"

/**
 * Two clients with different options have one name.
 *
 * @since 0.1.0
 * @category errors
 */
export class TwoClientsError extends Error {
  /**
   * @since 0.1.0
   */
  readonly _tag = "TwoClientsError"
  constructor(readonly client: string) {
    super(
      `ResilientHttpClient "${client}": there is another client of this name. Make its options once, and use them in every ` +
        "place; or give each its own name"
    )
  }
}

const make: Effect.Effect<ResilientHttpClient.Service, never, Scope.Scope> = Effect.gen(function*() {
  const scope = yield* Effect.scope
  const context = yield* Effect.context<never>()
  const chains = new Map<string, { readonly options: object; readonly chain: Effect.Effect<Chain> }>()
  return {
    chain: (options, checked) =>
      Effect.suspend(() => {
        const known = chains.get(options.name)
        if (known?.options === options) return known.chain
        if (known !== undefined) return Effect.die(new TwoClientsError(options.name))
        const opened = Effect.uninterruptible(Effect.provide(Scope.extend(openChain(checked), scope), context))
        return Effect.flatMap(Effect.cached(opened), (chain) => {
          const first = chains.get(options.name) ?? { options, chain }
          chains.set(options.name, first)
          return first.chain
        })
      })
  }
})

/** A failure of ours as one that clients of platform know. It is not to be retried: that has been done. */
class MappedError extends RequestError {
  readonly retryable = false
}

const mapped = (request: HttpClientRequest) => (error: HttpClientError | ResilientHttpClient.Error): HttpClientError =>
  error._tag === "RequestError" || error._tag === "ResponseError"
    ? error
    : new MappedError({ request, reason: "Transport", cause: error, description: error.message })

/** The client around another, once its chain is there. */
const around = <E, R, E2, R2>(
  client: HttpClient.HttpClient.With<E, R>,
  chain: Effect.Effect<Chain, never, R2>,
  onError: (request: HttpClientRequest) => (error: E | ResilientHttpClient.Error) => E2
): HttpClient.HttpClient.With<E | E2, R | R2> => {
  const { preprocess, send } = partsOf(client)
  return HttpClient.makeWith<E, R, E | E2, R | R2>(
    Effect.flatMap((request) =>
      Effect.flatMap(chain, ({ call }) => Effect.mapError(call<E, R>(request, send), onError(request)))
    ),
    preprocess
  )
}

/**
 * Where clients keep their state: circuits, permits, budgets by the name of a client and by authority, for the length of
 * the layer, with the `EventBus` and the `Registry` that are in the context when the layer is built.
 *
 * @example
 * import { ResilientHttpClient } from "@effect-resilience/http"
 * import { FetchHttpClient, HttpClient } from "@effect/platform"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const client = (yield* HttpClient.HttpClient).pipe(ResilientHttpClient.standard({ name: "payments" }))
 *   const response = yield* client.get("https://payments.example.com/invoices")
 *   return yield* response.json
 * })
 *
 * const main = program.pipe(Effect.provide([FetchHttpClient.layer, ResilientHttpClient.Live]))
 *
 * @since 0.1.0
 * @category models
 */
export class ResilientHttpClient
  extends Context.Tag("@effect-resilience/http/ResilientHttpClient")<ResilientHttpClient, ResilientHttpClient.Service>()
{
  static readonly Live: Layer.Layer<ResilientHttpClient> = Layer.scoped(ResilientHttpClient, make)

  /**
   * The patterns around a client, outermost first: total time, retry with budget, and for each authority circuit breaker,
   * rate limit, bulkhead, time of an attempt. Our errors are typed in `E`. Each part is turned off by `false`.
   */
  static readonly standard = (options: ResilientHttpClient.Options) => {
    const checked = checkClient(options)
    const chain = Effect.flatMap(ResilientHttpClient, (service) => service.chain(options, checked))
    return <E, R>(
      client: HttpClient.HttpClient.With<E, R>
    ): HttpClient.HttpClient.With<E | ResilientHttpClient.Error, R | ResilientHttpClient> =>
      around(client, chain, () => (error) => error)
  }

  /**
   * The same as a function from client to client, for `transformClient` of `HttpApiClient`. Our errors become a
   * `RequestError` with the reason `"Transport"`, whose `cause` is ours.
   */
  static readonly transform = (
    options: ResilientHttpClient.Options
  ): Effect.Effect<(client: HttpClient.HttpClient) => HttpClient.HttpClient, never, ResilientHttpClient> => {
    const checked = checkClient(options)
    return Effect.map(
      Effect.flatMap(ResilientHttpClient, (service) => service.chain(options, checked)),
      (chain) => (client) => around(client, Effect.succeed(chain), mapped)
    )
  }

  /** The same as a layer: the client in the context, made resilient. Nobody else has to know. */
  static readonly layer = (
    options: ResilientHttpClient.Options
  ): Layer.Layer<HttpClient.HttpClient, never, HttpClient.HttpClient | ResilientHttpClient> =>
    Layer.effect(
      HttpClient.HttpClient,
      Effect.zipWith(this.transform(options), HttpClient.HttpClient, (transform, client) => transform(client))
    )

  /**
   * Other limits for the requests of a region, or a single one, whatever resilient client sends them. What it does not say
   * is as its client, or the region around it, has it. A bad option dies here.
   *
   * @example
   * import { ResilientHttpClient } from "@effect-resilience/http"
   * import { HttpClient } from "@effect/platform"
   *
   * const report = HttpClient.get("https://reports.example.com/year").pipe(
   *   ResilientHttpClient.withOverride({ timeout: "2 minutes", attemptTimeout: "1 minute", retry: false })
   * )
   */
  static readonly withOverride = (options: ResilientHttpClient.Override): Guard => {
    const own = checkOverride(options)
    return (effect) =>
      Effect.flatMap(
        CurrentOverride,
        (outer) => Effect.provideService(effect, CurrentOverride, option.merge(outer, own))
      )
  }
}

/**
 * @since 0.1.0
 */
export declare namespace ResilientHttpClient {
  /**
   * What a resilient client adds to the errors of the client it stands around.
   *
   * @since 0.1.0
   * @category errors
   */
  export type Error = ChainError

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    /** The chain of these options, built when it is first asked for. */
    readonly chain: (options: Options, checked: Checked) => Effect.Effect<Chain>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface RetryOptions {
    /** Attempts in all, the first included. Defaults to `3`. */
    readonly maxAttempts?: number | undefined
    /** The delay before the first retry, drawn between zero and this. Defaults to `"200 millis"`. */
    readonly initialDelay?: DurationInput | undefined
    /** What a delay is multiplied by for the next. Defaults to `2`. */
    readonly factor?: number | undefined
    /** No delay of our own is longer. Defaults to `"5 seconds"`. */
    readonly maxDelay?: DurationInput | undefined
    /** A server that asks for a longer wait ends the retries at once. Defaults to `"1 minute"`. */
    readonly maxRetryAfter?: DurationInput | undefined
    /**
     * Methods that may be sent twice. Others are retried when the request has an `Idempotency-Key`, or has not reached the
     * server. Defaults to GET, HEAD, OPTIONS, TRACE, QUERY, PUT and DELETE.
     */
    readonly methods?: ReadonlyArray<string> | undefined
    /** Statuses that are retried. Defaults to 408, 425, 429, 500, 502, 503 and 504. */
    readonly statuses?: ReadonlyArray<number> | undefined
    /** Gives requests of other methods an `Idempotency-Key`, one for all attempts, where they have none. Defaults to `false`. */
    readonly idempotencyKey?: boolean | undefined
    /** Whether bodies that are streams, or raw, can be sent again. Defaults to `false`. */
    readonly replayableBody?: boolean | undefined
    /** What pays for retries. Defaults to `{ tokensPerSuccess: 0.2, minPerSecond: 3 }`. */
    readonly budget?: Exclude<Retry.BudgetOption, Effect.Effect<RetryBudget.Service>> | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface RateLimitOptions
    extends Pick<RateLimiter.Options, "rate" | "algorithm" | "burst" | "mode" | "maxWait" | "maxWaiters">
  {}

  /**
   * @since 0.1.0
   * @category models
   */
  export interface HeedOptions {
    /** How long a request may wait until the server has something left; a longer wait fails at once. Defaults to `"1 second"`. */
    readonly maxWait?: DurationInput | undefined
    /** A server that has nothing left for longer is asked again after this. Defaults to `"5 minutes"`. */
    readonly maxReset?: DurationInput | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface PropagateOptions {
    /**
     * Who is told: `"api.internal"`, `"localhost:8080"`, `"*.internal"`. `resilientFetch` tells nobody unless it is called
     * with `redirect: "manual"` or `"error"`, for `fetch` takes along what is said to wherever it is led; `FetchHttpClient`
     * needs the same by its `RequestInit`. Defaults to nobody.
     */
    readonly hosts?: ReadonlyArray<string> | undefined
    /** The field that says how many milliseconds are left; `"grpc-timeout"` is written in its own form. Defaults to `"x-request-timeout-ms"`. */
    readonly deadline?: string | false | undefined
    /** The field that says the ambient priority. Defaults to `"x-priority"`. */
    readonly priority?: string | false | undefined
  }

  /**
   * What some requests want otherwise than their client: see `withOverride`.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Override {
    /** How long the call may take until the headers of its answer, retries included; `false` for no limit. */
    readonly timeout?: DurationInput | false | undefined
    /** How long an attempt may take until its headers; `false` for no limit. */
    readonly attemptTimeout?: DurationInput | false | undefined
    /** `false`: sent once, whatever happens. `true`: does no harm when it is sent twice, although its method may say so. */
    readonly retry?: boolean | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** The name of the instances. */
    readonly name: string
    /**
     * How long a call may take until the headers of its answer, retries included. Defaults to `"30 seconds"`, and to more
     * where another option asks for more.
     */
    readonly timeout?: DurationInput | false | undefined
    /** Another attempt where it does no harm. Defaults to `{}`. */
    readonly retry?: RetryOptions | false | undefined
    /**
     * Stops calling an authority that fails, by the share of failures. Defaults to `{}`: options of `CircuitBreaker`, but
     * without its rule of consecutive failures, and with a window of at least two attempts.
     */
    readonly circuitBreaker?: CircuitBreaker.Options | false | undefined
    /** So many requests in a time to each authority. Defaults to `false`. */
    readonly rateLimit?: RateLimitOptions | false | undefined
    /** Slows down as a server's `RateLimit` fields say. Defaults to `false`. */
    readonly heedRateLimit?: HeedOptions | false | undefined
    /** So many requests at once to each authority, until their bodies are read. Defaults to 256 and as many in the queue. */
    readonly bulkhead?: Bulkhead.PoolOptions | false | undefined
    /**
     * How long an attempt may take until its headers. Defaults to `"10 seconds"`, and to less where `timeout`, or half a
     * window of the circuit breaker, is less.
     */
    readonly attemptTimeout?: DurationInput | false | undefined
    /** How long a body may stand still, or lie unread. Defaults to `"30 seconds"`. */
    readonly bodyIdleTimeout?: DurationInput | false | undefined
    /** Says the deadline and the priority to servers that are named. Defaults to `false`. */
    readonly propagate?: PropagateOptions | false | undefined
    /** Authorities with a state of their own; above that the new ones go unguarded. Defaults to `1000`. */
    readonly maxAuthorities?: number | undefined
  }
}
