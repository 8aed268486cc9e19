/**
 * Going down without losing a request: first the service says that it is not ready, then it refuses, then it waits.
 *
 * @since 0.1.0
 */
import { fromNanos, option } from "@effect-resilience/core/extension"
import type * as App from "@effect/platform/HttpApp"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Response from "@effect/platform/HttpServerResponse"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import type { Scope } from "effect/Scope"
import type { Flight } from "./internal/drain.js"
import { Flights } from "./internal/drain.js"
import { excludeField, pathMatcher, pathOf } from "./internal/paths.js"
import { bodyOf, goingDown } from "./internal/rejection.js"
import { current, served } from "./internal/served.js"

const fields = {
  delay: option.duration("5 seconds", { min: 0 }),
  limit: option.duration("20 seconds", { min: 0 }),
  retryAfter: option.duration("1 second", { above: 0 }),
  exclude: excludeField("`HttpResilience.healthPaths`")
} satisfies option.Fields<Drain.Options>

/** What cannot be interrupted has so long to end all the same, before it is left behind. */
const lastMoment = Duration.seconds(1)

const isHttp1 = ({ source }: HttpServerRequest): boolean =>
  Predicate.hasProperty(source, "httpVersionMajor") && source.httpVersionMajor === 1

/** A client that keeps its connection would send the next request on it. */
const closing = (request: HttpServerRequest, response: HttpServerResponse): HttpServerResponse =>
  isHttp1(request) ? Response.setHeader(response, "connection", "close") : response

/** @internal */
export const make = (options: Drain.Options = {}): Effect.Effect<Drain.Service, never, Scope> =>
  Effect.gen(function*() {
    const { delay, exclude, limit, retryAfter } = option.resolve("Drain", "server", fields, options)
    const scope = yield* Effect.scope
    const flights = new Flights()
    const isExcluded = pathMatcher(exclude)

    const run = Effect.gen(function*() {
      const start = yield* Clock.currentTimeNanos
      flights.phase = "Leaving"
      const [open, most] = [delay, Duration.sum(delay, limit)].map(Duration.format)
      yield* Effect.logInfo(
        `Draining: ${flights.size} in flight, new ones refused after ${open}, all interrupted after ${most}`
      )
      yield* Effect.sleep(delay)
      flights.phase = "Refusing"
      const inTime = yield* Effect.timeoutOption(flights.empty, limit)
      const interrupted = inTime._tag === "Some" ? 0 : yield* flights.cut
      yield* Effect.timeoutOption(flights.empty, lastMoment)
      flights.phase = "Drained"
      const report = {
        interrupted,
        abandoned: flights.size,
        elapsed: fromNanos((yield* Clock.currentTimeNanos) - start)
      }
      if (interrupted > 0) yield* Effect.logWarning("Requests were interrupted, for the drain was over", report)
      yield* Effect.logInfo(`Drained in ${Math.ceil(Duration.toMillis(report.elapsed))} ms`)
      return report
    }).pipe(Effect.annotateLogs("package", "@effect-resilience/http"))
    // It goes on whoever asked for it, and however often.
    const begun = yield* Effect.cached(Effect.uninterruptible(Effect.forkIn(Effect.interruptible(run), scope)))

    const refuse = (request: HttpServerRequest) =>
      Effect.map(Random.next, (random) => {
        const rejection = goingDown(retryAfter, random)
        const { headers, status } = rejection
        const contentType = "application/problem+json"
        return closing(request, Response.text(bodyOf(rejection), { status, contentType, headers }))
      })

    const guard = <E, R>(app: App.Default<E, R>, destroy: (request: HttpServerRequest) => void): App.Default<E, R> =>
      Effect.withFiberRuntime((fiber) => {
        const { request, scope } = current(fiber)
        if (isExcluded(pathOf(request))) return app
        if (flights.isRefusing) return refuse(request)
        let isAnswered = false
        let isCut = false
        const flight: Flight = {
          cut: Effect.suspend(() => {
            isCut = true
            // What is cut in its body must not look whole: its connection is destroyed.
            if (isAnswered) destroy(request)
            return Fiber.interruptAsFork(fiber, FiberId.none)
          })
        }
        const watch = Effect.suspend(() => {
          flights.enter(flight)
          return served(request, scope, {
            answered: (response) =>
              Effect.sync(() => {
                isAnswered = true
                return flights.phase === "Serving" ? response : closing(request, response)
              }),
            sent: Effect.sync(() => flights.leave(flight))
          })
        })
        return Effect.uninterruptibleMask((restore) =>
          Effect.zipRight(
            watch,
            Effect.catchAllCause(restore(app), (cause) =>
              isCut && Cause.isInterruptedOnly(cause) ? refuse(request) : Effect.failCause(cause))
          )
        )
      })

    return {
      phase: Effect.sync(() => flights.phase),
      inFlight: Effect.sync(() => flights.size),
      drain: Effect.flatMap(begun, Fiber.join),
      isRefusing: () => flights.isRefusing,
      guard
    }
  })

/**
 * How a server goes down:
 *
 * 1. `Leaving`: `/ready` fails, and everything is served as before, for `delay`, in which the balancers find out. Clients
 *    are asked to close their connections.
 * 2. `Refusing`: new requests get 503 with `Connection: close` and `Retry-After`; those under way go on, for `limit`.
 * 3. The rest is interrupted: who has no answer yet gets 503, and a body that is being sent is broken off.
 *
 * The log says at `Info` when it begins, with how many are under way and how long it may take, and when it is over.
 *
 * On Node `NodeDrain.layer` of `@effect-resilience/http/node` does all that when its scope closes. Elsewhere put
 * `Drain.middleware` around the app and run `Drain.drain` before the server goes.
 *
 * @example
 * import { Drain } from "@effect-resilience/http"
 * import { HttpRouter, HttpServerResponse } from "@effect/platform"
 *
 * const app = HttpRouter.empty.pipe(
 *   HttpRouter.get("/", HttpServerResponse.text("hello")),
 *   Drain.middleware
 * )
 *
 * @since 0.1.0
 * @category models
 */
export class Drain extends Context.Tag("@effect-resilience/http/Drain")<Drain, Drain.Service>() {
  /** Overrides the defaults. */
  static readonly layer = (options?: Drain.Options): Layer.Layer<Drain> => Layer.scoped(Drain, make(options))

  static readonly Live: Layer.Layer<Drain> = Drain.layer()

  /** Begins, where it has not begun, and waits for the end. It goes on when who waits is interrupted. */
  static readonly drain: Effect.Effect<Drain.Report, never, Drain> = Effect.flatMap(Drain, ({ drain }) => drain)

  /** Where it stands. */
  static readonly phase: Effect.Effect<Drain.Phase, never, Drain> = Effect.flatMap(Drain, ({ phase }) => phase)

  /** Counts the requests of an app until they are sent, and refuses them when it is time. It goes around all else. */
  static readonly middleware = <E, R>(app: App.Default<E, R>): App.Default<E, R | Drain> =>
    Effect.flatMap(Drain, ({ guard }) => guard(app, () => {}))
}

/**
 * @since 0.1.0
 */
export declare namespace Drain {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** How long everything is served while `/ready` fails already. Defaults to `"5 seconds"`. */
    readonly delay?: Duration.DurationInput | undefined
    /** How long requests under way have from then on. Defaults to `"20 seconds"`. */
    readonly limit?: Duration.DurationInput | undefined
    /** When a refused client may come back, to another instance. Up to a second is added. Defaults to `"1 second"`. */
    readonly retryAfter?: Duration.DurationInput | undefined
    /** Paths that are served to the end, in the form of `HttpResilience.Common`. Defaults to `HttpResilience.healthPaths`. */
    readonly exclude?: ReadonlyArray<string> | undefined
  }

  /** @since 0.1.0 @category models */
  export type Phase = "Serving" | "Leaving" | "Refusing" | "Drained"

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Report {
    /** Requests that were not over within the limit. */
    readonly interrupted: number
    /** Those of them that could not be interrupted, and still run. */
    readonly abandoned: number
    readonly elapsed: Duration.Duration
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    readonly phase: Effect.Effect<Phase>
    /** Requests under way. */
    readonly inFlight: Effect.Effect<number>
    readonly drain: Effect.Effect<Report>
    /** Whether new requests are turned away. */
    readonly isRefusing: () => boolean
    /** The middleware; `destroy` breaks off an answer that is being sent. */
    readonly guard: <E, R>(
      app: App.Default<E, R>,
      destroy: (request: HttpServerRequest) => void
    ) => App.Default<E, R>
  }
}
