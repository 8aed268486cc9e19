/**
 * How many calls may run at once, learned from how they end: the algorithms behind `AdaptiveConcurrency`, and the seam for
 * one's own.
 *
 * @since 0.1.0
 */

/**
 * An algorithm as a pure state machine: no effects, no clocks, no randomness but what it is given. Each function takes a
 * state and what happened, and returns the next state; it never writes to the one it was given.
 *
 * @since 0.1.0
 * @category models
 */
export interface Limit<State> {
  /** Names the algorithm in metrics and events. */
  readonly name: string
  /** The state to start from. */
  readonly initial: State
  /** Calls that may run at once in this state: a whole number of at least 1. */
  readonly limit: (state: State) => number
  /** A call was let in. `inFlight` counts it. */
  readonly onAdmit: (state: State, at: Limit.Moment) => State
  /** A call was turned away, or had to wait, because the limit was reached. */
  readonly onReject: (state: State, at: Limit.Moment) => State
  /** A call succeeded. `inFlight` does not count it any more. */
  readonly onSample: (state: State, sample: Limit.Sample) => State
  /** A call failed or timed out: its latency says nothing, its loss does. */
  readonly onDrop: (state: State, sample: Limit.Sample) => State
  /** A call ended that says nothing (interrupted by its caller, turned away further in). It only leaves. */
  readonly onIgnore: (state: State, at: Limit.Moment) => State
  /** What it knows, for metrics and events. */
  readonly inspect: (state: State) => Limit.Insight
}

/**
 * @since 0.1.0
 */
export declare namespace Limit {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Moment {
    /** Milliseconds of a monotonic clock, with fractions. */
    readonly now: number
    /** Calls that run after what happened. */
    readonly inFlight: number
    /** A random number from 0 to 1, for those that spread their probes. */
    readonly random: number
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Sample extends Moment {
    /** Milliseconds between admission and end. */
    readonly latency: number
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Insight {
    /** Why the limit changed last, in words for an event: `"probe"`, `"losses"`, … */
    readonly reason: string
    /** The latency in milliseconds that it takes for that of an idle server. */
    readonly baseline?: number | undefined
    /** How much of the last change in concurrency was seen in latency: 0 none of it, 1 all of it. */
    readonly elasticity?: number | undefined
  }
}
