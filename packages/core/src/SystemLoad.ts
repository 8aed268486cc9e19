/**
 * How busy the machine and the process are, for whatever sheds load by it. Where the figures come from depends on the
 * runtime: for Node it is `NodeSystemLoad` of `@effect-resilience/core/node`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"

/**
 * The signals of the system, or one's own.
 *
 * @example
 * import { SystemLoad } from "@effect-resilience/core"
 * import { Effect, Layer } from "effect"
 *
 * declare const consumerLag: Effect.Effect<number>
 *
 * // a signal of one's own: the pressure of a broker's lag, full at 10,000 messages
 * const lag = Layer.succeed(SystemLoad, {
 *   sample: Effect.map(consumerLag, (messages) => ({ signal: Math.min(1, messages / 10_000) }))
 * })
 *
 * @since 0.1.0
 * @category models
 */
export class SystemLoad extends Context.Tag("@effect-resilience/SystemLoad")<SystemLoad, SystemLoad.Service>() {
  /** The latest sample. */
  static readonly sample: Effect.Effect<SystemLoad.Sample, never, SystemLoad> = Effect.flatMap(
    SystemLoad,
    ({ sample }) => sample
  )

  /** Lays the signals of an effect over those of the `SystemLoad` in the context: room for one's own. */
  static readonly layerWith = <R>(
    more: Effect.Effect<SystemLoad.Sample, never, R>
  ): Layer.Layer<SystemLoad, never, SystemLoad | R> =>
    Layer.effect(
      SystemLoad,
      Effect.gen(function*() {
        const { sample, ...rest } = yield* SystemLoad
        const context = yield* Effect.context<R>()
        return {
          ...rest,
          sample: Effect.zipWith(sample, Effect.provide(more, context), (system, own) => ({ ...system, ...own }))
        }
      })
    )

  /** Samples that a test sets, by `SystemLoad.set`. */
  static readonly layerTest = (initial: SystemLoad.Sample = {}): Layer.Layer<SystemLoad | TestSystemLoad> =>
    Layer.effectContext(Effect.map(Ref.make(initial), (ref) =>
      Context.make(SystemLoad, { sample: Ref.get(ref) }).pipe(
        Context.add(TestSystemLoad, { set: (sample) => Ref.set(ref, sample) })
      )))

  /** Sets what `layerTest` tells from now on. */
  static readonly set = (sample: SystemLoad.Sample): Effect.Effect<void, never, TestSystemLoad> =>
    Effect.flatMap(TestSystemLoad, (test) => test.set(sample))
}

/**
 * The hand of a test on `SystemLoad.layerTest`.
 *
 * @since 0.1.0
 * @category models
 */
export class TestSystemLoad extends Context.Tag("@effect-resilience/TestSystemLoad")<TestSystemLoad, {
  readonly set: (sample: SystemLoad.Sample) => Effect.Effect<void>
}>() {}

/**
 * @since 0.1.0
 */
export declare namespace SystemLoad {
  /**
   * What is known. A signal that is absent is not looked at.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Sample {
    /** Processor time in use, of what there is for this process, 0 to 1. */
    readonly cpu?: number | undefined
    /** Memory in use, of what there is for this process, 0 to 1. */
    readonly memory?: number | undefined
    /** How late the event loop is: the least of the last 100 ms. A pause is not overload, a queue that stands is. */
    readonly eventLoopDelay?: Duration.Duration | undefined
    /** The part of its time in which the event loop was not idle, 0 to 1. To look at: nothing is shed by it. */
    readonly eventLoopUtilization?: number | undefined
    /** A pressure of one's own, 0 to 1: at 1 all but critical calls are shed. */
    readonly signal?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    /** The latest sample. It is read often and must not take long: measure elsewhere, and answer with what was measured. */
    readonly sample: Effect.Effect<Sample>
    /**
     * How late the event loop is at this moment, in milliseconds: for so long a call that comes now has waited at least. It
     * is asked with each call and must cost next to nothing. Defaults to `eventLoopDelay` of the latest sample, which is
     * too old to do more than guard.
     */
    readonly eventLoopLag?: (() => number) | undefined
  }
}
