/**
 * Several processes that run the same program, as one of them sees them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { ResilienceEvent } from "./ResilienceEvent.js"

/**
 * The fleet that this process is in. Whatever can tell of other processes provides it, as `RedisFleet` of
 * `@effect-resilience/redis`; the dashboard shows it where it is in the context.
 *
 * @since 0.1.0
 * @category models
 */
export class Fleet extends Context.Tag("@effect-resilience/Fleet")<Fleet, Fleet.Service>() {
  /** All processes as last heard, this one first. */
  static readonly view: Effect.Effect<Fleet.View, never, Fleet> = Effect.flatMap(Fleet, (fleet) => fleet.view)

  /** The events of all processes from now on, those of this one among them. */
  static readonly events: Stream.Stream<Fleet.Event, never, Fleet> = Stream.unwrap(
    Effect.map(Fleet, (fleet) => fleet.events)
  )
}

/**
 * @since 0.1.0
 */
export declare namespace Fleet {
  /**
   * One instance of a process, as JSON: durations in milliseconds, what has no end as `null`.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Instance {
    readonly pattern: string
    readonly instance: string
    readonly metrics: Readonly<Record<string, unknown>>
    readonly settings: Readonly<Record<string, unknown>> | null
  }

  /**
   * `"Late"`: it should have been heard by now. `"Gone"`: it was not heard for so long that it is taken for dead; one
   * that ended in order is not shown any more.
   *
   * @since 0.1.0
   * @category models
   */
  export type Status = "Live" | "Late" | "Gone"

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Process {
    /** Random, and new for each life of a process. */
    readonly id: string
    /** What people call it. */
    readonly label: string
    readonly status: Status
    /** How long ago it was heard. */
    readonly age: Duration.Duration
    readonly instances: ReadonlyArray<Instance>
    /** Instances that it has and could not tell of, because there were too many or they failed to. */
    readonly omitted: number
    /** What it said and this process does not understand: it may run another version. */
    readonly problem: Option.Option<string>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface View {
    readonly processes: ReadonlyArray<Process>
    /** Why others are not seen now. This process is seen at any time. */
    readonly problem: Option.Option<string>
  }

  /**
   * An event, and where it happened.
   *
   * @since 0.1.0
   * @category events
   */
  export interface Event {
    readonly process: string
    readonly label: string
    readonly event: ResilienceEvent
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    /** The id of this process. */
    readonly self: string
    /** Never fails: what is not known is said in it. */
    readonly view: Effect.Effect<View>
    /** Waits, and goes on, where others are not heard for a while. */
    readonly events: Stream.Stream<Event>
  }
}
