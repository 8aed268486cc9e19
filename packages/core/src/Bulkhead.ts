/**
 * A bulkhead bounds how many calls run at once, and how many wait for their turn.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import { errorFields, ErrorTypeId, reject, retryAfter } from "./internal/errors.js"
import { duration, eventFields } from "./internal/event.js"
import type { Handlers } from "./internal/guard.js"
import { hold, passThrough } from "./internal/guard.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import { silent } from "./internal/hub.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import { InternalError } from "./InternalError.js"
import type { Guard, Observable, OnLayer, TagClass } from "./Pattern.js"

/**
 * The bulkhead did not let the call in.
 *
 * @since 0.1.0
 * @category errors
 */
export class BulkheadFullError
  extends Schema.TaggedError<BulkheadFullError>("@effect-resilience/BulkheadFullError")("BulkheadFullError", {
    ...errorFields("Bulkhead"),
    reason: Schema.Literal("QueueFull", "WaitExceeded", "DeadlineTooClose"),
    retryAfter,
    active: Schema.Int,
    waiting: Schema.Int
  })
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "rejection" as const
  }
  override get message() {
    return `Bulkhead "${this.instance}" is full (${this.reason}): ${this.active} active, ${this.waiting} waiting`
  }
}

const PermitAcquired = Schema.TaggedStruct("PermitAcquired", {
  ...eventFields("Bulkhead"),
  active: Schema.Int,
  waiting: Schema.Int,
  waited: duration
})
const PermitReleased = Schema.TaggedStruct("PermitReleased", { ...eventFields("Bulkhead"), held: duration })
const Event = Schema.Union(PermitAcquired, PermitReleased, InternalError)

/** The options, their defaults and what they accept. @internal */
export const bulkheadFields = {
  maxConcurrent: option.integer(10, { min: 1 }),
  maxQueued: option.integer(10, { min: 0 }),
  maxWait: option.duration("1 second", { min: 0, infinite: true })
} satisfies option.Fields<Bulkhead.Options>

const check = (options: Bulkhead.Options & { readonly name: string }) =>
  option.resolve("Bulkhead", options.name, bulkheadFields, options)

const build = (options: Bulkhead.Options & { readonly name: string }, site: string) =>
  Effect.gen(function*() {
    const { maxConcurrent } = yield* orDie(() => check(options))
    const { name, observable } = yield* openInstance<typeof PermitAcquired.Type | typeof PermitReleased.Type>(
      "Bulkhead",
      options.name
    )
    const count = metric.calls("Bulkhead", name)
    const active = yield* Ref.make(0)

    const settle = <A, E>(exit: Exit.Exit<A, E>) =>
      Effect.flatMap(Ref.update(active, (n) => n - 1), () => {
        count.success()
        return exit
      })
    const handlers: Handlers = {
      onSuccess: (value) => settle(Exit.succeed(value)),
      onFailure: (cause) => settle(Exit.failCause(cause))
    }
    const take = Ref.modify(active, (n) => n < maxConcurrent ? [true, n + 1] : [false, n])

    const service: Bulkhead.Service = {
      name,
      withPermit: hold(() =>
        Effect.flatMap(take, (taken) => {
          if (taken) return Exit.succeed(handlers)
          count.rejected()
          return reject(() =>
            new BulkheadFullError({
              instance: name,
              reason: "QueueFull",
              retryAfter: Option.none(),
              active: maxConcurrent,
              waiting: 0
            }, true)
          )
        })
      ),
      metrics: Effect.map(Ref.get(active), (active) => ({ active })),
      ...observable
    }
    yield* register({ pattern: "Bulkhead", instance: name, site, snapshot: service.metrics, actions: {} })
    return service
  })

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: Bulkhead.Options
) =>
  & TagClass<Self, `@effect-resilience/Bulkhead/${Name}`, Bulkhead.Service, Bulkhead.Options>
  & Bulkhead.Operations<Self>
  & OnLayer<Bulkhead.Event, Self> = makeTag<Bulkhead.Operations, Bulkhead.Options>({
    pattern: "Bulkhead",
    make: build,
    check,
    noop: (name): Bulkhead.Service => ({
      name,
      withPermit: passThrough,
      metrics: Effect.succeed({ active: 0 }),
      ...silent
    }),
    accessors: {
      withPermit: "guard",
      metrics: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

/**
 * @since 0.1.0
 * @category models
 */
export class Bulkhead extends Tag<Bulkhead>()("default") {
  /** Named instances: `class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 2 }) {}`. */
  static readonly Tag = Tag
  /** An instance that is nobody's service. */
  static readonly make = (
    options: Bulkhead.Options & { readonly name: string }
  ): Effect.Effect<Bulkhead.Service, never, Scope> => build(options, callSite())
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace Bulkhead {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** Executions allowed at once. Defaults to `10`. */
    readonly maxConcurrent?: number | undefined
    /** Calls that may wait. Defaults to `10`. */
    readonly maxQueued?: number | undefined
    /** How long a call may wait. Defaults to `"1 second"`. */
    readonly maxWait?: Duration.DurationInput | undefined
  }
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    readonly withPermit: Guard<BulkheadFullError, Env>
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
   * @since 0.1.0
   * @category models
   */
  export interface Metrics {
    readonly active: number
  }
  /**
   * @since 0.1.0
   * @category events
   */
  export type Event = typeof Event.Type
}

/**
 * @since 0.1.0
 * @category layers
 */
export const BulkheadLive = Bulkhead.Live
