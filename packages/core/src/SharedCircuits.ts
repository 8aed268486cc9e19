/**
 * The place where the circuits of many processes meet.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { CircuitBreaker } from "./CircuitBreaker.js"
import type { Outcome } from "./Outcome.js"

/**
 * A fleet. Where one is in the context when a `CircuitBreaker` is built, its circuits join: they still decide by
 * themselves, at once and without asking anybody, and besides follow the circuit of the fleet. With none in the context
 * nothing changes.
 *
 * `RedisCircuitBreaker.layer` of `@effect-resilience/redis` is one.
 *
 * @since 0.1.0
 * @category models
 */
export class SharedCircuits
  extends Context.Tag("@effect-resilience/SharedCircuits")<SharedCircuits, SharedCircuits.Service>()
{}

/**
 * @since 0.1.0
 */
export declare namespace SharedCircuits {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    /** A circuit begins; it calls `leave` when it is over. `undefined` for one that is not to be shared. */
    readonly join: (circuit: Circuit) => Link | undefined
  }

  /**
   * What the rules of a circuit look at, and how it probes. Times are in milliseconds, and may be `Infinity`.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Settings {
    readonly failureRate: number
    readonly slowCallRate: number
    readonly minimumCalls: number
    /** What the rates look at; 30 s where that is a number of calls. */
    readonly window: number
    readonly halfOpenMaxCalls: number
    readonly successThreshold: number
    readonly halfOpenTimeout: number
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Counts {
    readonly calls: number
    readonly failures: number
    readonly slow: number
  }

  /**
   * The record of one closed period. It never goes back: what is new since it was last read is the difference.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Tally {
    /** All that was ever recorded. */
    readonly ever: () => Counts
    /** What the rules look at now. */
    readonly window: () => Counts
  }

  /**
   * A circuit of this process.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Circuit {
    readonly instance: string
    /** Of a keyed instance. */
    readonly key: string | undefined
    readonly settings: Settings
    /** The record of the closed period that it is in, the same object for as long as that lasts. */
    readonly tally: () => Tally | undefined
    /** How long it is open for, still or the next time, in milliseconds. */
    readonly openFor: () => number
    /** Tells it of the circuit of the fleet. Never waits. */
    readonly follow: (view: View) => Effect.Effect<void>
    /** Something of an operator could not be brought to the fleet: told as an `InternalError`. */
    readonly problem: (error: Error) => Effect.Effect<void>
    /** A report of outcomes did not reach the fleet, and is given up: counted. */
    readonly dropped: () => void
  }

  /**
   * What is known of the circuit of the fleet.
   *
   * @since 0.1.0
   * @category models
   */
  export interface View {
    /** `Unknown` where it cannot be asked, or forgot. */
    readonly state: CircuitBreaker.State | "Unknown"
    /** Grows with each change. */
    readonly epoch: number
    /**
     * How long it is open still; while it is half-open, how long it has no lease to give; while it is unknown, how long a
     * circuit that it opened stays so at most. In milliseconds; `Infinity` is without end.
     */
    readonly left: number
    /** How often it opened in a row. */
    readonly opens: number
    /** An operator brought it into this state. */
    readonly operator: boolean
    /** The epoch of what an operator did last, as far as was heard; `0` where nothing was. */
    readonly acted: number
    /** Whether circuits follow it, or only tell of it. */
    readonly followed: boolean
  }

  /**
   * A circuit's own change of state. `cause` as in the event `StateChanged`.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Change {
    readonly from: CircuitBreaker.State
    readonly to: CircuitBreaker.State
    readonly cause: string
  }

  /**
   * What an operator wants of the whole fleet. After `length`, in milliseconds, which may be `Infinity`, the fleet is closed.
   *
   * @since 0.1.0
   * @category models
   */
  export type Command =
    | { readonly _tag: "forceOpen" | "disable" | "metricsOnly"; readonly length: number }
    | { readonly _tag: "reset" }

  /**
   * A circuit's way to its fleet. Nothing of it is asked for a call of a closed circuit.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Link {
    /** The circuit changed its state, by itself or by `follow`. */
    readonly changed: (change: Change) => void
    /** A call failed while it was closed. */
    readonly failed: () => void
    /**
     * Asks for the lease of a probe. `answered` is called once and later: without a lease after the circuit has been told
     * what is so. What is returned takes the question back, and the lease too if it came.
     */
    readonly lease: (answered: (lease: Lease | undefined) => void) => () => void
    /** Tells whether all follow it. Never fails: what should have reached the fleet, and did not, is told as a problem. */
    readonly command: (command: Command) => Effect.Effect<boolean>
    readonly metrics: () => Metrics
    readonly leave: () => void
  }

  /**
   * A probe of the fleet.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Lease {
    /** Tells how the probe ended, once. With a time, in milliseconds, the dependency named it: the fleet opens for it. */
    readonly settle: (outcome: Outcome, openFor: number | undefined) => void
  }

  /**
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    readonly state: CircuitBreaker.State | "Unknown"
    readonly epoch: number
    /** How old this is. */
    readonly age: Duration.Duration
    /** Reports of outcomes that did not reach the fleet. */
    readonly dropped: number
    readonly followed: boolean
  }
}
