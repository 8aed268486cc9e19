/**
 * What most programs need: the bus and the registry in one layer, and the usual chain around a call in one line.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import type { Scope } from "effect/Scope"
import type { BulkheadFullError } from "./Bulkhead.js"
import { Bulkhead } from "./Bulkhead.js"
import type { CircuitOpenError } from "./CircuitBreaker.js"
import { CircuitBreaker } from "./CircuitBreaker.js"
import type { DeadlineExceededError } from "./Deadline.js"
import { Deadline } from "./Deadline.js"
import { EventBus } from "./EventBus.js"
import { passThrough } from "./internal/guard.js"
import * as option from "./internal/options.js"
import { orDie } from "./internal/tag.js"
import type { Guard } from "./Pattern.js"
import { Registry } from "./Registry.js"
import { Retry } from "./Retry.js"
import type { TimeoutExceededError } from "./Timeout.js"
import { Timeout } from "./Timeout.js"

/**
 * The `EventBus` and the `Registry`. Instances find them when their layers are built, so this is the outermost:
 * `patterns.pipe(Layer.provideMerge(ResilienceLive))`.
 *
 * @since 0.1.0
 * @category layers
 */
export const ResilienceLive: Layer.Layer<EventBus | Registry> = Layer.mergeAll(EventBus.Live, Registry.Live)

const timeoutDefault = "10 seconds"

/** A part of the chain: options of its pattern, which checks them, or nothing. */
const part = option.field<object | false, object | false>({}, (input) => {
  if (input === false || Predicate.isRecord(input)) return input
  throw new option.Requirement("options or false")
}, "those of the pattern")

const limitOrNone = (fallback: Duration.DurationInput) =>
  option.field<Duration.DurationInput | false, Duration.DurationInput | false>(
    fallback,
    (input) => input === false ? false : option.parseDuration({ above: 0, infinite: true })(input)
  )

/** The options, their defaults and what they accept. @internal */
export const resilienceFields = {
  deadline: limitOrNone("30 seconds"),
  retry: part,
  circuitBreaker: part,
  bulkhead: part,
  timeout: limitOrNone(timeoutDefault)
} satisfies option.Fields<Omit<Resilience.Options, "name">>

const check = (options: Resilience.Options) =>
  option.resolve("Resilience", options.name, resilienceFields, { ...options })

/**
 * The usual chain around a call, outermost first: total deadline, retry with budget, circuit breaker, bulkhead, attempt
 * timeout. Every part takes the options of its pattern; `false` leaves it out.
 *
 * @example
 * import { Resilience } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const payments = yield* Resilience.standard({ name: "payments", timeout: "2 seconds" })
 *   return yield* Effect.succeed("paid").pipe(payments.protect)
 * })
 *
 * @since 0.1.0
 * @category constructors
 */
export const Resilience = {
  /**
   * Builds the parts, named after `name`, for the length of the scope.
   *
   * - The deadline bounds the whole call, waits and retries included, so nothing outlives the caller's patience.
   * - Retry is outside the breaker: an open circuit ends it, because rejections are not retried.
   * - The bulkhead is inside the breaker: its rejections say nothing about the dependency, and an open circuit takes no
   *   permit.
   * - The timeout of an attempt is innermost, so that a call that hangs counts as a failure and gives its permit back.
   */
  standard: <const O extends Resilience.Options>(
    options: O & { readonly [K in Exclude<keyof O, keyof Resilience.Options>]: never }
  ): Effect.Effect<Resilience.Standard<O>, never, Scope> => {
    const { name } = options
    // Built here, not inside the effect: what an instance remembers as its place is the line that calls this.
    const make = {
      retry: options.retry === false ? undefined : Retry.make({ ...options.retry, name }),
      breaker: options.circuitBreaker === false ? undefined : CircuitBreaker.make({ ...options.circuitBreaker, name }),
      bulkhead: options.bulkhead === false ? undefined : Bulkhead.make({ ...options.bulkhead, name }),
      timeout: options.timeout === false
        ? undefined
        : Timeout.make({ duration: options.timeout ?? timeoutDefault, name })
    }
    return Effect.gen(function*() {
      const { deadline } = yield* orDie(() => check(options))
      const retry = make.retry && (yield* make.retry)
      const breaker = make.breaker && (yield* make.breaker)
      const bulkhead = make.bulkhead && (yield* make.bulkhead)
      const timeout = make.timeout && (yield* make.timeout)
      const withTimeout: Guard<TimeoutExceededError> = timeout?.withTimeout ?? passThrough
      const withPermit: Guard<BulkheadFullError> = bulkhead?.withPermit ?? passThrough
      const withBreaker: Guard<CircuitOpenError> = breaker?.withBreaker ?? passThrough
      const withRetry: Guard = retry?.withRetry ?? passThrough
      const withDeadline: Guard<DeadlineExceededError> = deadline === false ? passThrough : Deadline.within(deadline)
      const protect: Guard<Resilience.Errors<Resilience.Options>> = (effect) =>
        effect.pipe(withTimeout, withPermit, withBreaker, withRetry, withDeadline)
      return { name, protect, retry, circuitBreaker: breaker, bulkhead, timeout } as unknown as Resilience.Standard<O>
    })
  }
}

/**
 * @since 0.1.0
 */
export declare namespace Resilience {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** The name of every part. */
    readonly name: string
    /** How long the call may take with all its retries and waits; `false` for no limit. Defaults to `"30 seconds"`. */
    readonly deadline?: Duration.DurationInput | false | undefined
    /** Options of the retry; `false` for none. Defaults to those of `Retry`. */
    readonly retry?: Retry.Options | false | undefined
    /** Options of the circuit breaker; `false` for none. Defaults to those of `CircuitBreaker`. */
    readonly circuitBreaker?: CircuitBreaker.Options | false | undefined
    /** Options of the bulkhead; `false` for none. Defaults to those of `Bulkhead`. */
    readonly bulkhead?: Bulkhead.Options | false | undefined
    /** How long one attempt may take; `false` for no limit. Defaults to `"10 seconds"`. */
    readonly timeout?: Duration.DurationInput | false | undefined
  }

  /**
   * What the chain adds to the error channel.
   *
   * @since 0.1.0
   * @category errors
   */
  export type Errors<O extends Options> =
    | (O extends { readonly deadline: false } ? never : DeadlineExceededError)
    | (O extends { readonly circuitBreaker: false } ? never : CircuitOpenError)
    | (O extends { readonly bulkhead: false } ? never : BulkheadFullError)
    | (O extends { readonly timeout: false } ? never : TimeoutExceededError)

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Standard<O extends Options> {
    readonly name: string
    /** The chain. */
    readonly protect: Guard<Errors<O>>
    readonly retry: O extends { readonly retry: false } ? undefined : Retry.Service
    readonly circuitBreaker: O extends { readonly circuitBreaker: false } ? undefined : CircuitBreaker.Service
    readonly bulkhead: O extends { readonly bulkhead: false } ? undefined : Bulkhead.Service
    readonly timeout: O extends { readonly timeout: false } ? undefined : Timeout.Service
  }
}
