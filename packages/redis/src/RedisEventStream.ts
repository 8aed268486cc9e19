/**
 * The events of all processes in one stream of Redis.
 *
 * @since 0.1.0
 */
import type { ConfigOf, EventBus, ResilienceEvent } from "@effect-resilience/core"
import { layerFromConfig, option, orDie } from "@effect-resilience/core/extension"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"
import { consume } from "./internal/events/consumer.js"
import { isId } from "./internal/events/entry.js"
import { follow } from "./internal/events/follower.js"
import { openPublisher } from "./internal/events/publisher.js"
import { ownLabel } from "./internal/label.js"
import { name } from "./internal/name.js"
import type { RedisConnection } from "./RedisConnection.js"
import type { RedisUnavailableError } from "./RedisUnavailableError.js"

/** What changes rarely, however many calls there are. */
const changeTags: ReadonlySet<ResilienceEvent["_tag"]> = new Set([
  "FleetChanged",
  "HighWaterReached",
  "InternalError",
  "LeaseLost",
  "LevelChanged",
  "LimitChanged",
  "LowWaterReached",
  "OperatorAction",
  "Reset",
  "Resized",
  "StateChanged",
  "WouldHaveTripped"
])

/** What the table of the documentation says. @internal */
export const eventStreamFields = {
  stream: name("events"),
  label: name(ownLabel, "host:pid"),
  maxLength: option.integer(10_000, { min: 1, max: 10_000_000 }),
  expireAfter: option.duration("1 day", { min: 1000 }),
  filter: option.fn<(event: ResilienceEvent) => boolean>(
    (event) => changeTags.has(event._tag),
    "RedisEventStream.changes"
  ),
  flushInterval: option.duration("100 millis", { min: 1, max: 60_000 }),
  queue: option.integer(4096, { min: 1, max: 1_000_000 })
} satisfies option.Fields<RedisEventStream.Options>

const check = (options: RedisEventStream.Options) =>
  option.resolve("RedisEventStream", "default", eventStreamFields, { ...options })

const fromField = option.field<RedisEventStream.From, RedisEventStream.From>("now", (input) => {
  if (Predicate.isString(input) && (input === "now" || input === "start" || isId(input))) return input
  throw new option.Requirement(`"now", "start" or the id of an entry, as "1700000000000-0"`)
})

/** What the table of the documentation says. @internal */
export const consumeFields = {
  group: name("", "—"),
  consumer: option.optional(name("", "—")),
  stream: eventStreamFields.stream,
  from: fromField,
  batch: option.integer(16, { min: 1, max: 1000 }),
  claimAfter: option.duration("30 seconds", { min: 100, max: 86_400_000 }),
  maxDeliveries: option.integer(5, { min: 1, max: 1000 }),
  expireAfter: eventStreamFields.expireAfter
} satisfies option.Fields<RedisEventStream.ConsumeOptions>

/**
 * Publishes the events of this process's `EventBus`, and follows those of all processes.
 *
 * @example
 * import { ResilienceLive } from "@effect-resilience/core"
 * import { RedisConnection, RedisEventStream } from "@effect-resilience/redis"
 * import { Effect, Layer, Stream } from "effect"
 *
 * const Published = RedisEventStream.layer().pipe(
 *   Layer.provideMerge(ResilienceLive),
 *   Layer.provideMerge(RedisConnection.Live)
 * )
 *
 * const watch = RedisEventStream.follow().pipe(
 *   Stream.runForEach((element) => Effect.log(element))
 * )
 *
 * @since 0.1.0
 * @category events
 */
export class RedisEventStream
  extends Context.Tag("@effect-resilience/redis/RedisEventStream")<RedisEventStream, RedisEventStream.Service>()
{
  /**
   * Publishes what happens in this process: many events in a round trip, in their order, each once. Nobody who calls
   * waits for it. While Redis does not take them events wait, bounded by `queue`; the oldest are dropped and counted.
   */
  static readonly layer = (
    options: RedisEventStream.Options = {}
  ): Layer.Layer<RedisEventStream, never, EventBus | RedisConnection> =>
    Layer.scoped(RedisEventStream, Effect.flatMap(orDie(() => check(options)), openPublisher))

  /** `layer` with options from `Config`: each a value or a `Config`. A bad one fails the layer with a `ConfigError`. */
  static readonly layerConfig = (
    config: ConfigOf<RedisEventStream.Options>
  ): Layer.Layer<RedisEventStream, ConfigError, EventBus | RedisConnection> =>
    layerFromConfig(config, check, RedisEventStream.layer)

  /** `layer` with the defaults. */
  static readonly Live: Layer.Layer<RedisEventStream, never, EventBus | RedisConnection> = RedisEventStream.layer()

  /** What became of the events of this process. */
  static readonly metrics: Effect.Effect<RedisEventStream.Metrics, never, RedisEventStream> = Effect.flatMap(
    RedisEventStream,
    (stream) => stream.metrics
  )

  /** The default filter: changes of state, limits and levels, lost leases, what operators did, and failures of helpers. */
  static readonly changes = (event: ResilienceEvent): boolean => changeTags.has(event._tag)

  /** The filter that keeps all: several events for each call. */
  static readonly everything = (_event: ResilienceEvent): boolean => true

  /**
   * The events of all processes, on a connection of its own. While Redis is away it waits, and goes on from the entry that
   * it had last; what was trimmed by then, or lost, is a `Gap`. It fails with what waiting does not cure: `"Denied"` and
   * `"Reply"`.
   */
  static readonly follow = (
    options: RedisEventStream.FollowOptions = {}
  ): Stream.Stream<RedisEventStream.Element, RedisUnavailableError, RedisConnection> =>
    Stream.unwrap(Effect.map(
      orDie(() =>
        option.resolve("RedisEventStream.follow", "default", { stream: eventStreamFields.stream, from: fromField }, {
          ...options
        })
      ),
      ({ from, stream }) => follow(stream, from)
    ))

  /**
   * Deals with the events of all processes together with others: of one group each has a part of them, by a connection of
   * its own. An event is dealt with at least once. One whose handler fails, or whose consumer dies, is delivered again
   * after `claimAfter`, to any of the group; after `maxDeliveries` it is put aside, and told of in the log. It runs until it
   * is interrupted, and fails as `follow` does.
   */
  static readonly consume = <X, E, R>(
    options: RedisEventStream.ConsumeOptions,
    handle: (element: RedisEventStream.Event | RedisEventStream.Undecoded) => Effect.Effect<X, E, R>
  ): Effect.Effect<never, RedisUnavailableError, RedisConnection | R> =>
    Effect.flatMap(
      orDie(() => option.resolve("RedisEventStream.consume", options.group, consumeFields, { ...options })),
      (resolved) => consume(resolved, handle)
    )
}

/**
 * @since 0.1.0
 */
export declare namespace RedisEventStream {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** The name of the stream. Defaults to `"events"`. */
    readonly stream?: string | undefined
    /** What people call this process. Defaults to its host and process id. */
    readonly label?: string | undefined
    /** Entries that the stream holds, and up to a tenth more: one for each event. Defaults to `10000`. */
    readonly maxLength?: number | undefined
    /** A stream to which nothing came for so long is gone. Defaults to `"1 day"`. */
    readonly expireAfter?: Duration.DurationInput | undefined
    /** Which events are published. Defaults to `RedisEventStream.changes`: none that comes with each call. */
    readonly filter?: ((event: ResilienceEvent) => boolean) | undefined
    /** How long an event waits for others. Defaults to `"100 millis"`. */
    readonly flushInterval?: Duration.DurationInput | undefined
    /** Events that wait while Redis is slow or away; the oldest are dropped. Defaults to `4096`. */
    readonly queue?: number | undefined
  }

  /** @internal */
  export type Resolved = option.Resolved<typeof eventStreamFields>

  /**
   * Where to begin: with what comes from now on, with the oldest that there is, or after the entry of this id.
   *
   * @since 0.1.0
   * @category models
   */
  export type From = "now" | "start" | (string & {})

  /**
   * @since 0.1.0
   * @category models
   */
  export interface FollowOptions {
    /** The name of the stream. Defaults to `"events"`. */
    readonly stream?: string | undefined
    /** Defaults to `"now"`. */
    readonly from?: From | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface ConsumeOptions {
    /** Those of one group share the events between them. */
    readonly group: string
    /** This one of the group. Defaults to one that is new for each process. */
    readonly consumer?: string | undefined
    /** The name of the stream. Defaults to `"events"`. */
    readonly stream?: string | undefined
    /** Where a group begins that is not there yet. Defaults to `"now"`. */
    readonly from?: From | undefined
    /** Events that one takes at once, and has to deal with within `claimAfter`. Defaults to `16`. */
    readonly batch?: number | undefined
    /** An event that was taken for so long, and is not done, goes to another. Defaults to `"30 seconds"`. */
    readonly claimAfter?: Duration.DurationInput | undefined
    /** An event that was delivered so often is put aside. Defaults to `5`. */
    readonly maxDeliveries?: number | undefined
    /** The life of what was put aside, and of a stream that is not there yet. Defaults to `"1 day"`. */
    readonly expireAfter?: Duration.DurationInput | undefined
  }

  /** @internal */
  export type ResolvedConsume = option.Resolved<typeof consumeFields>

  /**
   * An event of a process. Who has dealt with it goes on later with `from: id`.
   *
   * @since 0.1.0
   * @category events
   */
  export interface Event {
    readonly _tag: "Event"
    readonly id: string
    /** Random, and new for each life of a process. */
    readonly process: string
    readonly label: string
    readonly event: ResilienceEvent
  }

  /**
   * An entry that this version does not understand, as it is.
   *
   * @since 0.1.0
   * @category events
   */
  export interface Undecoded {
    readonly _tag: "Undecoded"
    readonly id: string
    readonly process: string
    readonly label: string
    readonly version: string | undefined
    readonly text: string
  }

  /**
   * Entries between two are not there any more: they were trimmed before they were read, or the server lost them.
   *
   * @since 0.1.0
   * @category events
   */
  export interface Gap {
    readonly _tag: "Gap"
    readonly after: string
    /** Absent where the entry to go on from is no more, and nothing was read yet. */
    readonly before: string | undefined
    /** How many. Absent where nobody knows: the stream began anew. */
    readonly lost: number | undefined
  }

  /**
   * @since 0.1.0
   * @category events
   */
  export type Element = Event | Undecoded | Gap

  /**
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    readonly published: number
    /** Too many for the queue or the bus, or not to be encoded. */
    readonly dropped: number
    /** Not published yet. */
    readonly waiting: number
    /** Whether Redis refused the last batch. */
    readonly failing: boolean
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    readonly metrics: Effect.Effect<Metrics>
  }
}
