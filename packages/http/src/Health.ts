/**
 * Whether a service lives, and whether it is ready: two questions, of which an open circuit answers neither.
 *
 * @since 0.1.0
 */
import { Registry } from "@effect-resilience/core"
import { option } from "@effect-resilience/core/extension"
import type * as App from "@effect/platform/HttpApp"
import * as LayerRouter from "@effect/platform/HttpLayerRouter"
import * as Router from "@effect/platform/HttpRouter"
import * as Response from "@effect/platform/HttpServerResponse"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import { Drain } from "./Drain.js"

/**
 * What has to be there before a service takes requests. A check fails when its effect does, when that is `false`, or when
 * it takes too long.
 *
 * @since 0.1.0
 * @category models
 */
export type Checks<R> = Readonly<Record<string, Effect.Effect<unknown, unknown, R>>>

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * How much an answer tells: `"minimal"` has the status and the names of the checks, `"full"` the instances with their
   * figures too, which are for operators alone. Defaults to `"minimal"`.
   */
  readonly detail?: "full" | "minimal" | undefined
  /** How long a check may take. Defaults to `"1 second"`. */
  readonly checkTimeout?: Duration.DurationInput | undefined
}

const fields = {
  detail: option.literal<"full" | "minimal">("minimal", "full", "minimal"),
  checkTimeout: option.duration("1 second")
} satisfies option.Fields<Options>

type Resolved = option.Resolved<typeof fields>

const resolve = (options: Options | undefined): Resolved => option.resolve("Health", "health", fields, { ...options })

/** Words that say how an instance is; all other texts stay inside. */
const words = ["state", "level"]

/** Keys, errors and places in the code are nobody's business. */
const isFigure = (key: string, value: unknown) =>
  Predicate.isBoolean(value) || (Predicate.isNumber(value) && Number.isFinite(value)) ||
  (words.includes(key) && Predicate.isString(value))

/** The numbers of an instance, and how long its lists are: of the keys that are open, say. */
const figuresOf = (metrics: object) =>
  Object.fromEntries(
    Object.entries(metrics)
      .map(([key, value]) => [key, Array.isArray(value) ? value.length : value] as const)
      .filter(([key, value]) => isFigure(key, value))
  )

/** What the registry knows, where there is one. Nothing that goes wrong in it makes a service unhealthy. */
const registered = Effect.serviceOption(Registry).pipe(
  Effect.flatMap(Option.match({
    onNone: () => Effect.succeed({}),
    onSome: (registry) =>
      Effect.map(registry.snapshot, ({ hint, instances, unregistered }) => ({
        instances: instances.map(({ instance, metrics, pattern }) => ({
          pattern,
          instance,
          ...figuresOf(metrics)
        })),
        unregistered,
        ...(hint === undefined ? {} : { hint })
      }))
  })),
  Effect.catchAllCause((cause) => Effect.as(Effect.logWarning("The registry could not be read", cause), {}))
)

const respond = (status: 200 | 503, body: object, { detail }: Resolved) =>
  Effect.map(
    detail === "full" ? registered : Effect.succeed({}),
    (more) =>
      Response.text(JSON.stringify({ status: status === 200 ? "pass" : "fail", ...body, ...more }), {
        status,
        contentType: "application/health+json",
        headers: { "cache-control": "no-store" }
      })
  )

/**
 * Answers 200 as long as the process answers at all. An orchestrator restarts what fails here, and a restart closes no
 * circuit: what the patterns do changes nothing.
 *
 * @since 0.1.0
 * @category constructors
 */
export const live = (options?: Options): App.Default => {
  const resolved = resolve(options)
  return Effect.suspend(() => respond(200, {}, resolved))
}

const phase = Effect.flatMap(
  Effect.serviceOption(Drain),
  Option.match({ onNone: () => Effect.succeed<Drain.Phase>("Serving"), onSome: (drain) => drain.phase })
)

const runCheck = <R>(name: string, check: Effect.Effect<unknown, unknown, R>, { checkTimeout }: Resolved) =>
  Effect.interruptible(Effect.disconnect(check)).pipe(
    Effect.timeoutFail({ duration: checkTimeout, onTimeout: () => "took too long" }),
    Effect.filterOrFail((value) => value !== false, () => "is false"),
    Effect.as("pass" as const),
    Effect.catchAllCause((cause) =>
      Effect.as(Effect.logWarning(`Not ready: the check ${JSON.stringify(name)} failed`, cause), "fail" as const)
    )
  )

/**
 * Answers 503 while the service drains (where a `Drain` is in the context), and while one of the checks fails. Of a check
 * the answer has the name; why it failed is in the log.
 *
 * @since 0.1.0
 * @category constructors
 */
export const ready = <R = never>(checks: Checks<R> = {}, options?: Options): App.Default<never, R> => {
  const resolved = resolve(options)
  const all = Effect.forEach(
    Object.entries(checks),
    ([name, check]) => Effect.map(runCheck(name, check, resolved), (status) => [name, status] as const),
    { concurrency: "unbounded" }
  )
  return Effect.flatMap(Effect.zip(phase, all), ([phase, results]) => {
    const isReady = phase === "Serving" && results.every(([, status]) => status === "pass")
    const found = results.length === 0 ? {} : { checks: Object.fromEntries(results) }
    return respond(isReady ? 200 : 503, { phase, ...found }, resolved)
  })
}

/**
 * Adds `/health` and `/ready` to an `HttpRouter`. Both are among `HttpResilience.healthPaths`, which no pattern turns away.
 *
 * @example
 * import { Health, HttpResilience } from "@effect-resilience/http"
 * import { HttpRouter } from "@effect/platform"
 * import { Effect } from "effect"
 *
 * declare const ping: Effect.Effect<void, Error>
 *
 * const api = HttpRouter.empty.pipe(
 *   Health.route({ database: ping }),
 *   HttpResilience.standard({ name: "api" })
 * )
 *
 * @since 0.1.0
 * @category constructors
 */
export const route = <R2 = never>(checks: Checks<R2> = {}, options?: Options) => {
  const lives = live(options)
  const isReady = ready(checks, options)
  return <E, R>(router: Router.HttpRouter<E, R>) =>
    router.pipe(Router.get("/health", lives), Router.get("/ready", isReady))
}

/**
 * Adds `/health` and `/ready` to an `HttpLayerRouter`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <R = never>(checks: Checks<R> = {}, options?: Options) =>
  Layer.merge(
    LayerRouter.add("GET", "/health", live(options)),
    LayerRouter.add("GET", "/ready", ready(checks, options))
  )
