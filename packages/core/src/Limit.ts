/**
 * How many calls may run at once, learned from how they end: the algorithms behind `AdaptiveConcurrency`, and the seam for
 * one's own.
 *
 * @since 0.1.0
 */

import type * as Duration from "effect/Duration"
import { aimd } from "./internal/limits/aimd.js"
import { fixed } from "./internal/limits/fixed.js"
import { gradient2 } from "./internal/limits/gradient2.js"
import { knee } from "./internal/limits/knee.js"
import { successRate } from "./internal/limits/successRate.js"
import { vegas } from "./internal/limits/vegas.js"
import { InvalidOptionError, parseInteger } from "./internal/options.js"

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
  /**
   * An operator sets the limit. The algorithm goes on from there, within its own bounds. Where this is absent, what was set
   * holds until the algorithm's own limit changes.
   */
  readonly resize?: (state: State, limit: number) => State
}

/** The limit of `fixed`: a bad one is refused as other options are. */
const fixedOrDie = (limit: number): Limit.Any => {
  try {
    return fixed(parseInteger({ min: 1, max: Number.MAX_SAFE_INTEGER })(limit))
  } catch {
    throw new InvalidOptionError("Limit", "fixed", "limit", limit, "an integer of at least 1")
  }
}

/**
 * The algorithms. Bad options are refused with the first line that uses them.
 *
 * @example
 * import { Limit } from "@effect-resilience/core"
 *
 * const cautious = Limit.knee({ maxLimit: 200, tolerance: 1.5 })
 *
 * @since 0.1.0
 * @category constructors
 */
export const Limit = {
  /** The same limit whatever happens. */
  fixed: fixedOrDie,
  /** Additive increase, multiplicative decrease per loss. It sees no queue: latency grows until calls time out. */
  aimd: (options: Limit.AimdOptions = {}): Limit.Any => aimd(options),
  /** Additive increase, multiplicative decrease by the rate of successes, as aioresilience has it. */
  successRate: (options: Limit.SuccessRateOptions = {}): Limit.Any => successRate(options),
  /** TCP Vegas: the queue is what the least latency does not explain. */
  vegas: (options: Limit.VegasOptions = {}): Limit.Any => vegas(options),
  /** The gradient between a long average of the latency and the latest. */
  gradient2: (options: Limit.Gradient2Options = {}): Limit.Any => gradient2(options),
  /** The knee of the latency curve, measured by shallow dips: the default of `AdaptiveConcurrency`. */
  knee: (options: Limit.KneeOptions = {}): Limit.Any => knee(options)
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

  /**
   * A limit whose state is its own business. Its functions are methods, so that a `Limit` of any state is one.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Any {
    readonly name: string
    readonly initial: unknown
    limit(state: unknown): number
    onAdmit(state: unknown, at: Moment): unknown
    onReject(state: unknown, at: Moment): unknown
    onSample(state: unknown, sample: Sample): unknown
    onDrop(state: unknown, sample: Sample): unknown
    onIgnore(state: unknown, at: Moment): unknown
    inspect(state: unknown): Insight
    resize?(state: unknown, limit: number): unknown
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Bounds {
    /** The limit to start with. Defaults to `20`. */
    readonly initialLimit?: number | undefined
    /** The limit never falls below it. Defaults to `2`. */
    readonly minLimit?: number | undefined
    /** The limit never rises above it. Defaults to `1000`. */
    readonly maxLimit?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface WindowOptions {
    /** A sample is the mean of so long at least; `0` takes each call by itself. Defaults to `"1 second"`. */
    readonly windowTime?: Duration.DurationInput | undefined
    /** A sample is the mean of so many calls at least. Defaults to `10`. */
    readonly windowSamples?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface AimdOptions extends Bounds {
    /** What a success adds while at least half of the limit is in use. Defaults to `1`. */
    readonly increaseRate?: number | undefined
    /** What a loss multiplies the limit by, below 1. Defaults to `0.9`. */
    readonly decreaseFactor?: number | undefined
    /** A success that took longer is a loss. Defaults to `"5 seconds"`. */
    readonly slowLatency?: Duration.DurationInput | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface SuccessRateOptions extends Bounds {
    /** What a good window in which the limit was reached adds. Defaults to `1`. */
    readonly increaseRate?: number | undefined
    /** What a bad window multiplies the limit by, below 1. Defaults to `0.9`. */
    readonly decreaseFactor?: number | undefined
    /** Calls per window. Defaults to `100`. */
    readonly measurementWindow?: number | undefined
    /** A window that takes longer to fill begins anew. Defaults to `"1 minute"`. */
    readonly measurementTime?: Duration.DurationInput | undefined
    /** A window is good with at least this share of successes. Defaults to `0.95`. */
    readonly successThreshold?: number | undefined
    /** A window is bad with at most this share of successes, below `successThreshold`. Defaults to `0.8`. */
    readonly failureThreshold?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface VegasOptions extends Bounds, WindowOptions {}

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Gradient2Options extends Bounds, WindowOptions {
    /** The latency that is tolerated, as a multiple of its long average. Defaults to `1.5`. */
    readonly tolerance?: number | undefined
    /** Calls that may queue. Defaults to `4`. */
    readonly queueSize?: number | undefined
    /** How much of a change is made per sample, up to 1. Defaults to `0.2`. */
    readonly smoothing?: number | undefined
    /** Samples in the long average. Defaults to `600`. */
    readonly longWindow?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KneeOptions extends Bounds {
    /** The queue that is tolerated: latency may be `1 + tolerance / sqrt(limit)` times the baseline. Defaults to `2.5`. */
    readonly tolerance?: number | undefined
    /** How deep a dip is, as a share of the calls in flight. Defaults to `0.7`. */
    readonly dipDepth?: number | undefined
    /** The longest time between two dips while the limit binds; the first ones come sooner. Defaults to `"10 seconds"`. */
    readonly dipEvery?: Duration.DurationInput | undefined
    /** The shortest window. Defaults to `"50 millis"`. */
    readonly windowTime?: Duration.DurationInput | undefined
    /** The fewest calls per window. Defaults to `60`. */
    readonly windowSamples?: number | undefined
    /**
     * A window with a larger share of losses cuts the limit, unless they turn out to come by themselves: then it is a share
     * of what they leave. Defaults to `0.3`.
     */
    readonly maxLosses?: number | undefined
  }
}
