/**
 * A fallback answers when the call could not.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { AnswerWatch, Recovery, Trigger } from "./internal/answer.js"
import { answer, triggerOf } from "./internal/answer.js"
import { errorFields, ErrorTypeId, stackless } from "./internal/errors.js"
import { error, eventFields } from "./internal/event.js"
import { silent } from "./internal/hub.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import { InternalError } from "./InternalError.js"
import type { Observable, OnLayer, TagClass } from "./Pattern.js"

/**
 * The call and every step of the chain failed. `failures` holds what they failed with, the call's first; it stays in the
 * process, on the wire there is only their number.
 *
 * @since 0.1.0
 * @category errors
 */
export class FallbackFailedError
  extends Schema.TaggedError<FallbackFailedError>("@effect-resilience/FallbackFailedError")("FallbackFailedError", {
    ...errorFields("Fallback"),
    reason: Schema.Literal("AllFailed"),
    /** How many failed, the call included. */
    attempts: Schema.Int
  })
{
  /**
   * @since 0.1.0
   */
  declare readonly failures: ReadonlyArray<unknown>
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "failure" as const
  }
  override get message() {
    return `Fallback "${this.instance}": the call and all its fallbacks failed, ${this.attempts} in all`
  }
}

const allFailed = (instance: string, failures: ReadonlyArray<unknown>): FallbackFailedError => {
  const error = stackless(() =>
    new FallbackFailedError({ instance, reason: "AllFailed", attempts: failures.length }, true)
  )
  return Object.defineProperty(error, "failures", { value: [...failures], enumerable: false })
}

const fields = eventFields("Fallback")
const Event = Schema.Union(
  Schema.TaggedStruct("FallbackUsed", {
    ...fields,
    /** Which step answered: 1 is the first fallback. */
    step: Schema.Int,
    /** What failed before it, or the value that was refused. */
    error
  }),
  Schema.TaggedStruct("FallbackExhausted", { ...fields, errors: Schema.Array(error) }),
  InternalError
)

/** The options, their defaults and what they accept. @internal */
export const fallbackFields = {
  catchDefects: option.boolean(false)
} satisfies option.Fields<Fallback.Options>

type Named = Fallback.Options & { readonly name: string }

const check = (options: Named) => option.resolve("Fallback", options.name, fallbackFields, options)

/** One fallback, whose failure is the call's. */
const one = <A, E, R>(trigger: Trigger, run: () => Effect.Effect<A, E, R>): Recovery<A, E, R> => ({
  trigger,
  catchDefects: false,
  steps: [run],
  failWith: (_, cause) => Exit.failCause(cause)
})

const toEffect = (step: unknown, failures: ReadonlyArray<unknown>): Effect.Effect<unknown, unknown, unknown> => {
  if (Effect.isEffect(step)) return step
  return Predicate.isFunction(step) ? toEffect(step(failures), failures) : Effect.succeed(step)
}

/** The guards of a watch. What a recovery takes out of the error channel, `answer` cannot know: hence the casts. */
const guards = (name: string, catchDefects: boolean, watch: AnswerWatch): Fallback.Guards => ({
  withFallback:
    <E, A2, E2, R2>(f: (error: NoInfer<E>) => Effect.Effect<A2, E2, R2>) => <A, R>(effect: Effect.Effect<A, E, R>) =>
      answer(
        watch,
        effect,
        (cause) =>
          Option.getOrUndefined(
            Option.map(Cause.failureOption(cause), (error) => one({ kind: "error", error }, () => f(error)))
          )
      ) as Effect.Effect<A | A2, E2, R | R2>,
  withFallbackCause:
    <E, A2, E2, R2>(f: (cause: Cause.Cause<NoInfer<E>>) => Effect.Effect<A2, E2, R2>) =>
    <A, R>(effect: Effect.Effect<A, E, R>) =>
      answer(watch, effect, (cause) => {
        const trigger = triggerOf(cause, true)
        return trigger && one(trigger, () => f(cause))
      }) as Effect.Effect<A | A2, E2, R | R2>,
  withFallbackValue: (value) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    answer(watch, effect, (cause) => {
      const trigger = triggerOf(cause, catchDefects)
      return trigger && one(trigger, () => Effect.sync(value))
    }) as Effect.Effect<A | ReturnType<typeof value>, never, R>,
  withFallbackTag: (tag, f) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    answer(watch, effect, (cause) => {
      const error: unknown = Option.getOrUndefined(Cause.failureOption(cause))
      return Predicate.isTagged(error, tag)
        ? one({ kind: "error", error }, () => f(error as Parameters<typeof f>[0]))
        : undefined
    }) as Effect.Effect<A, never, R>,
  withFallbackResult: (predicate, f) => (effect) =>
    answer(
      watch,
      effect,
      () => undefined,
      (value) => predicate(value) ? one({ kind: "result", error: value }, () => f(value)) : undefined
    ),
  chain: (...steps) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    answer<A, E, R, unknown, unknown, unknown>(watch, effect, (cause) => {
      const trigger = triggerOf(cause, catchDefects)
      return trigger && {
        trigger,
        catchDefects,
        steps: steps.map((step) => (failures) => toEffect(step, failures)),
        failWith: (failures) => Exit.fail(allFailed(name, failures))
      }
    }) as Effect.Effect<never, never, R>
})

/** The counters of an instance. Owned by the `Ref` that holds it. */
class Tally {
  primary = 0
  fallbacks = 0
  failed = 0
  ignored = 0
  running = 0
}

const build = (options: Named, site: string): Effect.Effect<Fallback.Service, never, Scope> =>
  Effect.gen(function*() {
    const { catchDefects } = yield* orDie(() => check(options))
    const { name } = options
    const { emitter, observable } = yield* openInstance<Fallback.Event>("Fallback", name)
    const ref = yield* Ref.make(new Tally())
    const tally = yield* Ref.get(ref)
    const count = metric.calls("Fallback", name)
    const answered = (result: string, cause: string) =>
      metric.counter(
        "resilience.fallback.calls",
        "Calls by who answered",
        metric.attributes("Fallback", name, { result, cause })
      )
    const byPrimary = answered("primary", "none")
    const byFallback = {
      error: answered("fallback", "error"),
      defect: answered("fallback", "defect"),
      result: answered("fallback", "result")
    }
    const byNobody = answered("failed", "error")

    const watch: AnswerWatch = {
      call: () => emitter.listening ? emitter.call() : undefined,
      primary: () => {
        tally.primary++
        count.success()
        byPrimary()
      },
      running: (by) => {
        tally.running += by
      },
      used: (call, step, trigger, error) => {
        tally.fallbacks++
        count.success()
        byFallback[trigger.kind]()
        if (call !== undefined && emitter.listening) emitter.emit({ _tag: "FallbackUsed", ...call, step, error })
      },
      exhausted: (call, errors) => {
        if (call !== undefined && emitter.listening) emitter.emit({ _tag: "FallbackExhausted", ...call, errors })
      },
      failed: () => {
        tally.failed++
        count.failure()
        byNobody()
      },
      ignored: () => {
        tally.ignored++
        count.ignored()
      }
    }
    const metrics: Effect.Effect<Fallback.Metrics> = Effect.map(Ref.get(ref), (t) => {
      const ended = t.primary + t.fallbacks + t.failed + t.ignored
      return {
        offered: ended + t.running,
        admitted: ended + t.running,
        rejected: 0,
        succeeded: t.primary + t.fallbacks,
        failed: t.failed,
        ignored: t.ignored,
        running: t.running,
        primary: t.primary,
        fallbacks: t.fallbacks,
        fallbackRate: ended === 0 ? 0 : t.fallbacks / ended,
        failureRate: ended === 0 ? 0 : t.failed / ended
      }
    })
    yield* register({ pattern: "Fallback", instance: name, site, snapshot: metrics, actions: {} })
    return { name, ...guards(name, catchDefects, watch), metrics, ...observable }
  })

const unwatched: AnswerWatch = {
  call: () => undefined,
  primary: () => {},
  running: () => {},
  used: () => {},
  exhausted: () => {},
  failed: () => {},
  ignored: () => {}
}

const noop = (name: string): Fallback.Service => ({
  name,
  // Without its fallback a call would have another type: the fallbacks stay, and nothing is recorded.
  ...guards(name, false, unwatched),
  metrics: Effect.succeed({
    offered: 0,
    admitted: 0,
    rejected: 0,
    succeeded: 0,
    failed: 0,
    ignored: 0,
    running: 0,
    primary: 0,
    fallbacks: 0,
    fallbackRate: 0,
    failureRate: 0
  }),
  ...silent
})

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: Fallback.Options
) =>
  & TagClass<Self, `@effect-resilience/Fallback/${Name}`, Fallback.Service, Fallback.Options>
  & Fallback.Operations<Self>
  & OnLayer<Fallback.Event, Self> = makeTag<Fallback.Operations, Fallback.Options>({
    pattern: "Fallback",
    make: build,
    check,
    noop,
    accessors: {
      withFallback: "curried",
      withFallbackCause: "curried",
      withFallbackValue: "curried",
      withFallbackTag: "curried",
      withFallbackResult: "curried",
      chain: "curried",
      metrics: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

/**
 * The fallback. `Fallback` is the default instance, `Fallback.Tag` makes named ones, `Fallback.to` needs no layer.
 *
 * @example
 * import { Fallback } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * const rates = Effect.fail("down").pipe(Fallback.to({ EUR: 1 }))
 *
 * @since 0.1.0
 * @category models
 */
export class Fallback extends Tag<Fallback>()("default") {
  /** Named instances: `class Rates extends Fallback.Tag<Rates>()("rates") {}`. */
  static readonly Tag = Tag
  /** An instance that is nobody's service. */
  static readonly make = (options: Named): Effect.Effect<Fallback.Service, never, Scope> => build(options, callSite())
  /** For one-off use: no layer, no events, no metrics. All callers are given the same value. */
  static readonly to = <A2>(
    value: A2
  ): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A | A2, never, R> =>
    guards("to", false, unwatched).withFallbackValue(() => value)
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace Fallback {
  /**
   * @since 0.1.0
   * @category events
   */
  export type Event = typeof Event.Type

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /**
     * Whether a defect, too, is answered by `withFallbackValue` and `chain`, whose steps may then die as they may fail.
     * `withFallbackCause` always sees defects. Defaults to `false`.
     */
    readonly catchDefects?: boolean | undefined
  }

  /**
   * A step of a chain: an effect, a function of the failures so far, or anything else, which is a value. An `Option` or an
   * `Either` is an effect and is run: as a value it stands in `Effect.succeed`.
   *
   * @since 0.1.0
   * @category models
   */
  export type Step = ((failures: ReadonlyArray<unknown>) => unknown) | {} | null | undefined

  /**
   * The value that a step of a chain answers with.
   *
   * @since 0.1.0
   * @category models
   */
  export type StepValue<S> = S extends Effect.Effect<infer A, infer _E, infer _R> ? A
    : S extends (failures: ReadonlyArray<unknown>) => infer B ? StepValue<B>
    : S

  /**
   * What a step of a chain needs.
   *
   * @since 0.1.0
   * @category models
   */
  export type StepContext<S> = S extends Effect.Effect<infer _A, infer _E, infer R> ? R
    : S extends (failures: ReadonlyArray<unknown>) => infer B ? StepContext<B>
    : never

  /**
   * `"never"` for a step that cannot fail: a value, or an effect without errors.
   *
   * @since 0.1.0
   * @category models
   */
  export type StepFails<S> = S extends Effect.Effect<infer _A, infer E, infer _R> ?
    [E] extends [never] ? "never" : "may"
    : S extends (failures: ReadonlyArray<unknown>) => infer B ? StepFails<B>
    : "never"

  /**
   * What a chain fails with: nothing, when its last step cannot fail.
   *
   * @since 0.1.0
   * @category models
   */
  export type ChainError<Steps extends ReadonlyArray<unknown>> = Steps extends readonly [...infer _, infer Last]
    ? "may" extends StepFails<Last> ? FallbackFailedError : never
    : FallbackFailedError

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Guards<Env = never> {
    /** Answers every failure of the typed channel by another effect. */
    readonly withFallback: <E, A2, E2, R2>(
      f: (error: NoInfer<E>) => Effect.Effect<A2, E2, R2>
    ) => <A, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A | A2, E2, R | R2 | Env>
    /** Answers failures and defects, by their cause. */
    readonly withFallbackCause: <E, A2, E2, R2>(
      f: (cause: Cause.Cause<NoInfer<E>>) => Effect.Effect<A2, E2, R2>
    ) => <A, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A | A2, E2, R | R2 | Env>
    /** Answers every failure by a value, made anew each time. */
    readonly withFallbackValue: <A2>(
      value: () => A2
    ) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A | A2, never, R | Env>
    /** Answers the failures with this `_tag`; others pass. */
    readonly withFallbackTag: <
      E,
      const K extends E extends { readonly _tag: infer T extends string } ? T : never,
      A2,
      E2,
      R2
    >(
      tag: K,
      f: (error: NoInfer<Extract<E, { readonly _tag: K }>>) => Effect.Effect<A2, E2, R2>
    ) => <A, R>(
      effect: Effect.Effect<A, E, R>
    ) => Effect.Effect<A | A2, Exclude<E, { readonly _tag: K }> | E2, R | R2 | Env>
    /** Answers a value that is no good. */
    readonly withFallbackResult: <A, A2, E2, R2>(
      refuse: (value: NoInfer<A>) => boolean,
      f: (value: NoInfer<A>) => Effect.Effect<A2, E2, R2>
    ) => <E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A | A2, E | E2, R | R2 | Env>
    /** Tries the steps in order until one answers. */
    readonly chain: <const Steps extends readonly [Step, ...Array<Step>]>(
      ...steps: Steps
    ) => <A, E, R>(
      effect: Effect.Effect<A, E, R>
    ) => Effect.Effect<A | StepValue<Steps[number]>, ChainError<Steps>, R | StepContext<Steps[number]> | Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Guards<Env>, Observable<Event, Env> {
    readonly metrics: Effect.Effect<Metrics, never, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service extends Operations {
    readonly name: string
  }

  /**
   * `admitted = succeeded + failed + ignored + running`. A call that is interrupted from outside before it failed is not
   * seen.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    readonly offered: number
    readonly admitted: number
    readonly rejected: number
    readonly succeeded: number
    readonly failed: number
    readonly ignored: number
    /** Calls whose fallback runs. */
    readonly running: number
    /** Calls that needed no fallback. */
    readonly primary: number
    readonly fallbacks: number
    readonly fallbackRate: number
    readonly failureRate: number
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const FallbackLive = Fallback.Live
