/**
 * One place to hear the events of all instances.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import { Emitter, Hub, hubCapacity, observable } from "./internal/hub.js"
import type { EventOf, Observable, OnLayer, Subscription } from "./Pattern.js"
import type { ResilienceEvent } from "./ResilienceEvent.js"

const make = (capacity: number): Effect.Effect<EventBus.Service, never, Scope> =>
  Effect.map(Hub.make<ResilienceEvent>(capacity), (hub) => {
    const emitter = new Emitter<ResilienceEvent>("EventBus", "default", hub, undefined)
    return {
      ...observable(hub, emitter.subscriberFailed),
      hub,
      dropped: Effect.sync(() => hub.dropped),
      subscribers: Effect.sync(() => hub.listeners)
    }
  })

/**
 * The bus. An instance publishes to it where the bus is in the context when the instance's layer is built, so wire it
 * outermost: `patterns.pipe(Layer.provideMerge(ResilienceLive))`.
 *
 * @since 0.1.0
 * @category events
 */
export class EventBus extends Context.Tag("@effect-resilience/EventBus")<EventBus, EventBus.Service>() {
  /** A bus that holds 1024 events of one burst. */
  static readonly Live: Layer.Layer<EventBus> = Layer.scoped(EventBus, make(hubCapacity))

  /** Events of all instances from now on. */
  static readonly events: Stream.Stream<ResilienceEvent, never, EventBus> = Stream.unwrap(
    Effect.map(EventBus, (bus) => bus.events)
  )

  /** Subscribes for the length of the scope; registered when this effect returns. */
  static readonly subscribe: Effect.Effect<Subscription<ResilienceEvent>, never, Scope | EventBus> = Effect.flatMap(
    EventBus,
    (bus) => bus.subscribe
  )

  /** Events lost because one burst exceeded the bus. */
  static readonly dropped: Effect.Effect<number, never, EventBus> = Effect.flatMap(EventBus, (bus) => bus.dropped)

  /** Live subscriptions to the bus. */
  static readonly subscribers: Effect.Effect<number, never, EventBus> = Effect.flatMap(
    EventBus,
    (bus) => bus.subscribers
  )

  /** Runs the handler for each event with this tag, `"*"` for all, for the length of the scope. */
  static readonly on = <const Tag extends ResilienceEvent["_tag"] | "*", X, E, R>(
    tag: Tag,
    handler: (event: EventOf<ResilienceEvent, Tag>) => Effect.Effect<X, E, R>
  ): Effect.Effect<void, never, Scope | EventBus | R> => Effect.flatMap(EventBus, (bus) => bus.on(tag, handler))

  /** `on` for the life of a layer. */
  static readonly onLayer: OnLayer<ResilienceEvent, EventBus>["onLayer"] = (tag, handler) =>
    Layer.scopedDiscard(EventBus.on(tag, handler))
}

/**
 * @since 0.1.0
 */
export declare namespace EventBus {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service extends Observable<ResilienceEvent> {
    /** Events lost because one burst exceeded the bus. */
    readonly dropped: Effect.Effect<number>
    /** Live subscriptions. */
    readonly subscribers: Effect.Effect<number>
    /** @internal */
    readonly hub: Hub<ResilienceEvent>
  }
}
