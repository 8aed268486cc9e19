/**
 * The processes that run the same program, seen through Redis.
 *
 * @since 0.1.0
 */
import type { ConfigOf } from "@effect-resilience/core"
import { Fleet, Registry } from "@effect-resilience/core"
import { failureLine, layerFromConfig, option, orDie } from "@effect-resilience/core/extension"
import * as Array from "effect/Array"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { leaveOf, readAll, tellOf } from "./internal/fleet/board.js"
import { instanceOf, reportOf } from "./internal/fleet/report.js"
import { ownLabel } from "./internal/label.js"
import { name } from "./internal/name.js"
import { RedisConnection } from "./RedisConnection.js"
import { RedisEventStream } from "./RedisEventStream.js"
import type { RedisUnavailableError } from "./RedisUnavailableError.js"

/** What the table of the documentation says. @internal */
export const fleetFields = {
  fleet: name("fleet"),
  label: name(ownLabel, "host:pid"),
  interval: option.duration("1 second", { min: 100, max: 60_000 }),
  expireAfter: option.duration("5 seconds", { min: 300, max: 600_000 }),
  maxBytes: option.integer(65_536, { min: 1024, max: 16_777_216 }),
  stream: name("events")
} satisfies option.Fields<RedisFleet.Options>

const resolve = (options: RedisFleet.Options) => {
  const resolved = option.resolve("RedisFleet", options.fleet ?? "fleet", fleetFields, { ...options })
  const { expireAfter, interval } = resolved
  if (Duration.lessThan(expireAfter, Duration.times(interval, 3))) {
    throw new option.InvalidOptionError(
      "RedisFleet",
      resolved.fleet,
      "expireAfter",
      expireAfter,
      "at least three times interval"
    )
  }
  return resolved
}

const statuses: Record<Fleet.Status, number> = { Live: 0, Late: 1, Gone: 2 }
const inOrder = (one: Fleet.Process, other: Fleet.Process) =>
  statuses[one.status] - statuses[other.status] || one.label.localeCompare(other.label) ||
  one.id.localeCompare(other.id)

const make = (options: RedisFleet.Options) =>
  Effect.gen(function*() {
    const { expireAfter, fleet, interval, label, maxBytes, stream } = yield* orDie(() => resolve(options))
    const redis = yield* RedisConnection
    const registry = yield* Registry
    const telling = { redis, fleet, expireAfter: Duration.toMillis(expireAfter) }
    let problem: RedisUnavailableError | undefined
    const warn = (text: string, problem: unknown) =>
      Effect.logWarning(...failureLine(`RedisFleet "${fleet}": ${text}`, problem))

    const silentOnes = new WeakSet<Registry.Entry>()
    /** What fails in it is left out: an instance must not take its process with it. */
    const ask = (entry: Registry.Entry) =>
      Effect.map(entry.snapshot, (metrics) => Option.some(instanceOf(entry, metrics))).pipe(
        Effect.catchAllCause((cause) => {
          if (silentOnes.has(entry)) return Effect.succeedNone
          silentOnes.add(entry)
          return Effect.as(warn(`${entry.pattern} "${entry.instance}" cannot tell how it does`, cause), Option.none())
        })
      )
    const asked = Effect.flatMap(registry.list, (entries) =>
      Effect.map(Effect.forEach(entries, ask), (answers) => {
        const instances = Array.getSomes(answers)
        return { instances, silent: entries.length - instances.length }
      }))
    const tell = Effect.flatMap(asked, (own) =>
      tellOf(telling, reportOf({ label, interval: Duration.toMillis(interval), maxBytes, ...own }))).pipe(
        Effect.matchEffect({
          onSuccess: () =>
            Effect.sync(() => {
              problem = undefined
            }),
          onFailure: (error) => {
            const isNews = problem === undefined
            problem = error
            return isNews ? warn("other processes do not see this one now", error) : Effect.void
          }
        })
      )
    // A fleet that began as one does not tell as one.
    const pause = Effect.flatMap(Random.next, (part) =>
      Effect.sleep(Duration.times(interval, 0.9 + part / 5)))
    // The report goes last: nobody tells after it.
    yield* Effect.addFinalizer(() => Effect.ignore(leaveOf(telling)))
    yield* Effect.forkScoped(Effect.interruptible(Effect.forever(Effect.zipRight(tell, pause))))

    const self = Effect.map(asked, ({ instances, silent }): Fleet.Process => ({
      id: redis.id,
      label,
      status: "Live",
      age: Duration.zero,
      instances,
      omitted: silent,
      problem: Option.none()
    }))
    const others = Effect.map(
      readAll(redis, fleet),
      (processes) => processes.filter(({ id }) => id !== redis.id).sort(inOrder)
    )
    const view = Effect.zipWith(self, Effect.either(others), (own, read): Fleet.View =>
      read._tag === "Right"
        ? {
          processes: [own, ...read.right],
          problem: problem === undefined
            ? Option.none()
            : Option.some(`The other processes do not see this one: ${problem.message}`)
        }
        : { processes: [own], problem: Option.some(`The other processes are not seen: ${read.left.message}`) })

    const events = RedisEventStream.follow({ stream }).pipe(
      Stream.filterMap((element) =>
        element._tag === "Event"
          ? Option.some({ process: element.process, label: element.label, event: element.event })
          : Option.none()
      ),
      Stream.tapError((error) => warn("events of other processes are not heard", error)),
      Stream.retry(Schedule.spaced("10 seconds")),
      // It is tried again without end.
      Stream.orDie,
      Stream.provideService(RedisConnection, redis)
    )
    return { self: redis.id, view, events }
  })

/**
 * Tells the other processes how the instances of this one do, and reads what they tell. The dashboard shows them all where
 * it finds the fleet in its context.
 *
 * @example
 * import { ResilienceLive } from "@effect-resilience/core"
 * import { RedisConnection, RedisEventStream, RedisFleet } from "@effect-resilience/redis"
 * import { Layer } from "effect"
 *
 * const FleetLive = Layer.merge(RedisFleet.layer(), RedisEventStream.layer()).pipe(
 *   Layer.provideMerge(ResilienceLive),
 *   Layer.provide(RedisConnection.Live)
 * )
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisFleet = {
  /**
   * Tells of this process every `interval`, and provides the `Fleet`. Its events are those of `RedisEventStream.layer`,
   * which each process has to have for itself.
   */
  layer: (options: RedisFleet.Options = {}): Layer.Layer<Fleet, never, Registry | RedisConnection> =>
    Layer.scoped(Fleet, make(options)),

  /** `layer` with options from `Config`: each a value or a `Config`. A bad one fails the layer with a `ConfigError`. */
  layerConfig: (
    config: ConfigOf<RedisFleet.Options>
  ): Layer.Layer<Fleet, ConfigError, Registry | RedisConnection> => layerFromConfig(config, resolve, RedisFleet.layer),

  /** What all processes tell, for one that is not of the fleet itself. */
  processes: (
    options: Pick<RedisFleet.Options, "fleet"> = {}
  ): Effect.Effect<ReadonlyArray<Fleet.Process>, RedisUnavailableError, RedisConnection> =>
    Effect.flatMap(
      Effect.zip(RedisConnection, orDie(() => resolve(options))),
      ([redis, { fleet }]) => Effect.map(readAll(redis, fleet), (processes) => [...processes].sort(inOrder))
    )
}

/**
 * @since 0.1.0
 */
export declare namespace RedisFleet {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** The name of the fleet: processes of one name see each other. Defaults to `"fleet"`. */
    readonly fleet?: string | undefined
    /** What people call this process. Defaults to its host and process id. */
    readonly label?: string | undefined
    /** How often it tells of itself. Defaults to `"1 second"`. */
    readonly interval?: Duration.DurationInput | undefined
    /** One that was not heard for so long is gone. At least three times `interval`. Defaults to `"5 seconds"`. */
    readonly expireAfter?: Duration.DurationInput | undefined
    /** The longest report; instances that do not find room in it are counted. Defaults to `65536`. */
    readonly maxBytes?: number | undefined
    /** The stream whose events are those of the fleet. Defaults to `"events"`, that of `RedisEventStream`. */
    readonly stream?: string | undefined
  }
}
