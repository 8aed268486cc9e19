/**
 * What most programs need: the bus and the registry in one layer, and the usual chain around a call in one line.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
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
import { callSite } from "./internal/instance.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import type { Guard, TagClass } from "./Pattern.js"
import { Registry } from "./Registry.js"
import { Retry } from "./Retry.js"
import type { TimeoutExceededError } from "./Timeout.js"
import { Timeout, timeoutFields } from "./Timeout.js"

/**
 * The `EventBus` and the `Registry`. Instances find them when their layers are built, so this is the outermost:
 * `patterns.pipe(Layer.provideMerge(ResilienceLive))`.
 *
 * @since 0.1.0
 * @category layers
 */
export const ResilienceLive: Layer.Layer<EventBus | Registry> = Layer.mergeAll(EventBus.Live, Registry.Live)

const deadlineDefault = "30 seconds"
const timeoutDefault = "10 seconds"

/** A part of the chain: options of its pattern, which checks them, or nothing. */
const part = <O extends object>() =>
  option.field<O | {} | false, O | {} | false>({}, (input) => {
    if (input === false || Predicate.isRecord(input)) return input
    throw new option.Requirement("options or false")
  }, "those of the pattern")

const isOptions = (input: unknown): input is object => Predicate.isRecord(input) && !Duration.isDuration(input)

const limit = { above: 0, infinite: true }

/** A duration, options of `Timeout`, which are checked later, or nothing. */
const limitOrNone = (fallback: Duration.DurationInput) =>
  option.field<Resilience.Limit | false, Timeout.Options | false>(
    fallback,
    (input) =>
      input === false || isOptions(input)
        ? input as Timeout.Options | false
        : { duration: option.parseDuration(limit)(input) }
  )

/** The options, their defaults and what they accept. @internal */
export const resilienceFields = {
  deadline: limitOrNone(deadlineDefault),
  retry: part<Retry.Options>(),
  circuitBreaker: part<CircuitBreaker.Options>(),
  bulkhead: part<Bulkhead.Options>(),
  timeout: limitOrNone(timeoutDefault)
} satisfies option.Fields<Resilience.Parts>

const deadlineFields = { ...timeoutFields, duration: option.duration(deadlineDefault, limit) }

const check = (options: Resilience.Options) => {
  const resolved = option.resolve("Resilience", options.name, resilienceFields, { ...options })
  const { deadline } = resolved
  return {
    ...resolved,
    deadline: deadline === false ? deadline : option.resolve("Deadline", options.name, deadlineFields, { ...deadline })
  }
}

/** Options of a part laid over others: a duration is the `duration` of options. */
const laidOver = (under: unknown, over: unknown) => {
  const asOptions = (input: unknown) => isOptions(input) ? input : { duration: input }
  if (over === undefined || over === false || under === undefined || under === false) return over ?? under
  return isOptions(under) || isOptions(over) ? option.merge<object>(asOptions(under), asOptions(over)) : over
}

const merge = (own: Resilience.Parts = {}, over: Resilience.Parts = {}): Resilience.Parts =>
  Object.fromEntries(
    Object.keys({ ...own, ...over }).map((key) => {
      const name = key as keyof Resilience.Parts
      return [name, laidOver(own[name], over[name])]
    })
  )

/** The parts as tags of their patterns: a tag remembers the line of the program that asked for it. */
const partsOf = (name: string) => ({
  retry: Retry.Tag<Retry.Service>()(name),
  circuitBreaker: CircuitBreaker.Tag<CircuitBreaker.Service>()(name),
  bulkhead: Bulkhead.Tag<Bulkhead.Service>()(name),
  timeout: Timeout.Tag<Timeout.Service>()(name, { duration: timeoutDefault })
})
type PartTags = ReturnType<typeof partsOf>

type PartTag<Id, S, O> = Context.Tag<Id, S> & { readonly layer: (options?: O) => Layer.Layer<Id> }

const instance = <Id, S>(tag: Context.Tag<Id, S>, layer: Layer.Layer<Id>): Effect.Effect<S, never, Scope> =>
  Effect.map(Layer.build(layer), Context.get(tag))

const partOf = <Id, S, O>(tag: PartTag<Id, S, O>, options: O | false) =>
  options === false ? Effect.succeed(undefined) : instance(tag, tag.layer(options))

const noopOf = <Id, S>(tag: Context.Tag<Id, S> & { readonly layerNoop: Layer.Layer<Id> }, options: unknown) =>
  options === false ? Effect.succeed(undefined) : instance(tag, tag.layerNoop)

const build = (tags: PartTags, options: Resilience.Options) =>
  Effect.gen(function*() {
    const { deadline, ...wanted } = yield* orDie(() => check(options))
    const retry = yield* partOf(tags.retry, wanted.retry)
    const circuitBreaker = yield* partOf(tags.circuitBreaker, wanted.circuitBreaker)
    const bulkhead = yield* partOf(tags.bulkhead, wanted.bulkhead)
    const timeout = yield* partOf(tags.timeout, wanted.timeout)
    const withTimeout: Guard<TimeoutExceededError> = timeout?.withTimeout ?? passThrough
    const withPermit: Guard<BulkheadFullError> = bulkhead?.withPermit ?? passThrough
    const withBreaker: Guard<CircuitOpenError> = circuitBreaker?.withBreaker ?? passThrough
    const withRetry: Guard = retry?.withRetry ?? passThrough
    const disconnected: Guard = deadline !== false && deadline.disconnect ? Effect.disconnect : passThrough
    const withDeadline: Guard<DeadlineExceededError> = deadline === false
      ? passThrough
      : Deadline.within(deadline.duration)
    const protect: Guard<Resilience.Errors<Resilience.Parts>> = (effect) =>
      effect.pipe(withTimeout, withPermit, withBreaker, withRetry, disconnected, withDeadline)
    return { name: options.name, protect, retry, circuitBreaker, bulkhead, timeout }
  })

/** A chain that lets everything through, with the parts that the tag has. */
const noop = (name: string, tags: PartTags, own: Resilience.Parts) =>
  Effect.scoped(Effect.all({
    name: Effect.succeed(name),
    protect: Effect.succeed(passThrough),
    retry: noopOf(tags.retry, own.retry),
    circuitBreaker: noopOf(tags.circuitBreaker, own.circuitBreaker),
    bulkhead: noopOf(tags.bulkhead, own.bulkhead),
    timeout: noopOf(tags.timeout, own.timeout)
  }))

/** Refuses options that there are not. */
type Known<O, All> = O & { readonly [K in Exclude<keyof O, keyof All>]: never }

const Tag = <Self>() =>
<const Name extends string, const O extends Resilience.Parts = Record<never, never>>(
  name: Name,
  options?: Known<O, Resilience.Parts>
):
  & TagClass<Self, `@effect-resilience/Resilience/${Name}`, Resilience.Standard<O>, Resilience.Relaid<O>>
  & Resilience.Operations<O, Self> =>
{
  const tags = partsOf(name)
  return makeTag<Resilience.Operations<Resilience.Parts>, Resilience.Parts>({
    pattern: "Resilience",
    make: (all) => build(tags, all),
    check,
    merge,
    noop: () => noop(name, tags, options ?? {}),
    accessors: { protect: "guard" }
  }, callSite)<Self>()(name, options)
}

/**
 * The usual chain around a call, outermost first: total deadline, retry with budget, circuit breaker, bulkhead, attempt
 * timeout. Every part takes the options of its pattern; `false` leaves it out.
 *
 * @example
 * import { Resilience } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * class Payments extends Resilience.Tag<Payments>()("payments", { timeout: "2 seconds" }) {}
 *
 * const program = Effect.succeed("paid").pipe(Payments.protect)
 *
 * Effect.runPromise(Effect.provide(program, Payments.Live))
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
    options: Known<O, Resilience.Options>
  ): Effect.Effect<Resilience.Standard<O>, never, Scope> => {
    // Here, not inside the effect: the place of an instance is the line that calls this.
    const tags = partsOf(options.name)
    return Effect.suspend(() => build(tags, options)) as Effect.Effect<unknown> as Effect.Effect<
      Resilience.Standard<O>
    >
  },
  /**
   * The chain as a service: `class Payments extends Resilience.Tag<Payments>()("payments", { bulkhead: false }) {}`. Its
   * guard is `Payments.protect`. A layer with other options changes those of the parts that there are.
   */
  Tag
}

/**
 * @since 0.1.0
 */
export declare namespace Resilience {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Parts {
    /**
     * How long the call may take with all its retries and waits: a duration, or options as those of `Timeout`; `false`
     * for no limit. Defaults to `"30 seconds"`.
     */
    readonly deadline?: Limit | false | undefined
    /** Options of the retry; `false` for none. Defaults to those of `Retry`. */
    readonly retry?: Retry.Options | false | undefined
    /** Options of the circuit breaker; `false` for none. Defaults to those of `CircuitBreaker`. */
    readonly circuitBreaker?: CircuitBreaker.Options | false | undefined
    /** Options of the bulkhead; `false` for none. Defaults to those of `Bulkhead`. */
    readonly bulkhead?: Bulkhead.Options | false | undefined
    /** How long one attempt may take: a duration, or options of `Timeout`; `false` for no limit. Defaults to `"10 seconds"`. */
    readonly timeout?: Limit | false | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export type Limit = Duration.DurationInput | Timeout.Options

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options extends Parts {
    /** The name of every part. */
    readonly name: string
  }

  /**
   * What a layer may lay over the options of a tag: which parts there are is settled by the tag, whose types say so.
   *
   * @since 0.1.0
   * @category models
   */
  export type Relaid<O extends Parts> = {
    readonly [K in keyof Parts]: (O extends { readonly [P in K]: false } ? false : Exclude<Parts[K], false>) | undefined
  }

  /**
   * What the chain adds to the error channel.
   *
   * @since 0.1.0
   * @category errors
   */
  export type Errors<O extends Parts> =
    | (O extends { readonly deadline: false } ? never : DeadlineExceededError)
    | (O extends { readonly circuitBreaker: false } ? never : CircuitOpenError)
    | (O extends { readonly bulkhead: false } ? never : BulkheadFullError)
    | (O extends { readonly timeout: false } ? never : TimeoutExceededError)

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<O extends Parts, Env = never> {
    /** The chain. */
    readonly protect: Guard<Errors<O>, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Standard<O extends Parts> extends Operations<O> {
    readonly name: string
    readonly retry: O extends { readonly retry: false } ? undefined : Retry.Service
    readonly circuitBreaker: O extends { readonly circuitBreaker: false } ? undefined : CircuitBreaker.Service
    readonly bulkhead: O extends { readonly bulkhead: false } ? undefined : Bulkhead.Service
    readonly timeout: O extends { readonly timeout: false } ? undefined : Timeout.Service
  }
}
