/**
 * The types that every pattern shares. They are public because the declaration files of programs that define named
 * instances mention them.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import type * as Context from "effect/Context"
import type { DurationInput } from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Exit } from "effect/Exit"
import type * as Layer from "effect/Layer"
import type * as Queue from "effect/Queue"
import type { Scope } from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Outcome } from "./Outcome.js"

/**
 * What stands around an effect. It has exactly one call signature, so it keeps `A`, `E` and `R` when it is piped.
 *
 * `E` is what the guard adds to the error channel, `R` the instance it needs.
 *
 * @since 0.1.0
 * @category models
 */
export interface Guard<out E = never, out R = never> {
  <A, E1, R1>(effect: Effect.Effect<A, E1, R1>): Effect.Effect<A, E1 | E, R1 | R>
}

/**
 * A guard that is told, for one call, what its exit means. The function knows the types of the effect it is piped to.
 *
 * @since 0.1.0
 * @category models
 */
export interface ClassifyBy<out E = never, out R = never> {
  <A, E1>(options: {
    readonly classify: (exit: Exit<NoInfer<A>, NoInfer<E1>>) => Outcome
  }): <R1>(effect: Effect.Effect<A, E1, R1>) => Effect.Effect<A, E1 | E, R1 | R>
}

/**
 * Options of which each is a value or a `Config`, or a `Config` of all.
 *
 * @since 0.1.0
 * @category models
 */
export type ConfigOf<Options> =
  | Config.Config<Options>
  | { readonly [K in keyof Options]: Options[K] | Config.Config.Wrap<Options[K]> }

/**
 * A tag class made by `X.Tag<Self>()(name, options)`: the service's tag together with the layers that build it.
 *
 * @since 0.1.0
 * @category models
 */
export interface TagClass<Self, Key extends string, Service, Options, out RIn = never>
  extends Context.TagClass<Self, Key, Service>
{
  /** The layer that builds the instance with the tag's own options. One reference, so it is built once. */
  readonly Live: Layer.Layer<Self, never, RIn>
  /** `Live` with these options laid over the tag's own. Without options it is `Live`. Name the result once and reuse it. */
  readonly layer: (options?: Options) => Layer.Layer<Self, never, RIn>
  /** Options from `Config`: each a value or a `Config`. A bad value fails the layer with a `ConfigError`. */
  readonly layerConfig: (config: ConfigOf<Options>) => Layer.Layer<Self, ConfigError, RIn>
  /** Lets everything through and records nothing: for tests. */
  readonly layerNoop: Layer.Layer<Self>
}

/**
 * The member of an event union with this tag; `"*"` stands for all of them.
 *
 * @since 0.1.0
 * @category events
 */
export type EventOf<Event extends { readonly _tag: string }, Tag extends Event["_tag"] | "*"> = Tag extends "*" ? Event
  : Extract<Event, { readonly _tag: Tag }>

/**
 * A subscription: its own bounded sliding queue. `dropped` counts what this subscriber was too slow to take.
 *
 * @since 0.1.0
 * @category events
 */
export interface Subscription<out Event> extends Queue.Dequeue<Event> {
  /** Events that this subscription lost because its queue was full. */
  readonly dropped: Effect.Effect<number>
}

/**
 * The ways to watch an instance. A subscriber that is slow or dies hurts neither the protected calls nor another
 * subscriber. While nobody subscribes, no event is built.
 *
 * @since 0.1.0
 * @category events
 */
export interface Observable<Event extends { readonly _tag: string }, out Env = never> {
  /** Events from now on. The subscription begins when the stream is run. */
  readonly events: Stream.Stream<Event, never, Env>
  /** Subscribes for the length of the scope. The subscription is registered when this effect returns. */
  readonly subscribe: Effect.Effect<Subscription<Event>, never, Scope | Env>
  /**
   * Runs the handler for each event with this tag (`"*"` for all), in order, in a fiber of its own, for the length of
   * the scope. A handler that fails or dies is reported as an `InternalError` and goes on with the next event.
   */
  readonly on: <const Tag extends Event["_tag"] | "*", X, E, R>(
    tag: Tag,
    handler: (event: EventOf<Event, Tag>) => Effect.Effect<X, E, R>
  ) => Effect.Effect<void, never, Scope | Env | R>
}

/**
 * `on` as a layer.
 *
 * @since 0.1.0
 * @category events
 */
export interface OnLayer<Event extends { readonly _tag: string }, out Env> {
  /** `on` for the life of a layer. */
  readonly onLayer: <const Tag extends Event["_tag"] | "*", X, E, R>(
    tag: Tag,
    handler: (event: EventOf<Event, Tag>) => Effect.Effect<X, E, R>
  ) => Layer.Layer<never, never, Exclude<Env | R, Scope>>
}

/**
 * What became of the calls of a pattern that lets them in or rejects them: `offered = admitted + rejected`,
 * `admitted = succeeded + failed + ignored + running`. Those that wait, and those that were interrupted while they waited
 * (`canceled`), are in neither.
 *
 * @since 0.1.0
 * @category metrics
 */
export interface CallMetrics {
  readonly offered: number
  readonly admitted: number
  readonly rejected: number
  readonly canceled: number
  readonly succeeded: number
  readonly failed: number
  readonly ignored: number
  readonly running: number
  /** `rejected / offered`. */
  readonly rejectionRate: number
}

/**
 * Options of the keyed form of a pattern: one state per key, bounded.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeyedOptions<Options> {
  /** Keys held at once. Defaults to `10000`. */
  readonly maxKeys?: number | undefined
  /** A key that was not used for so long, and holds nothing, is forgotten. Defaults to `"10 minutes"`. */
  readonly idleAfter?: DurationInput | undefined
  /**
   * What happens to a call with a new key when every held key is live: it is rejected, or let through unguarded, which
   * is counted and reported once a minute. Defaults to `"reject"`.
   */
  readonly onFull?: "reject" | "admit" | undefined
  /** Options of one key, laid over the options given beside it. Defaults to none. */
  readonly optionsFor?: ((key: string) => Options) | undefined
}

/**
 * A tag class made by `X.Keyed<Self>()(name, options)`.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeyedTagClass<Self, Key extends string, Service, Options>
  extends TagClass<Self, Key, Service, Options & KeyedOptions<Options>>
{}
