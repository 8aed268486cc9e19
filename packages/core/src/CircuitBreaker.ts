/**
 * A circuit breaker stops calling a dependency that fails, and finds out by itself when it works again.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as actions from "./internal/actions.js"
import type { Breaker } from "./internal/breaker/breaker.js"
import { check, circuitBreakerFields, openBreaker } from "./internal/breaker/options.js"
import { blank, Snapshot, snapshotOf, State } from "./internal/breaker/snapshot.js"
import type { Command, Tag as StateTag } from "./internal/breaker/state.js"
import type { Watch } from "./internal/breaker/watch.js"
import { addUp, noCalls } from "./internal/calls.js"
import { errorFields, ErrorTypeId, retryAfter, stackless, withCause } from "./internal/errors.js"
import { duration, error, eventFields } from "./internal/event.js"
import { classifyBy, passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import type { Instance } from "./internal/instance.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import type { KeyedTable } from "./internal/keyed.js"
import { keyedFields, openKeyed, Unguarded } from "./internal/keyed.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { makeTag, orDie } from "./internal/tag.js"
import * as time from "./internal/time.js"
import { InternalError } from "./InternalError.js"
import type { Classify, Outcome } from "./Outcome.js"
import type {
  CallMetrics,
  ClassifyBy,
  Guard,
  KeyedOptions,
  KeyedTagClass,
  Observable,
  OnLayer,
  TagClass
} from "./Pattern.js"
import type { Registry } from "./Registry.js"
import { SharedCircuits } from "./SharedCircuits.js"

const Reason = Schema.Literal("Open", "HalfOpenFull", "RampUp", "ForcedOpen", "TooManyKeys")

/**
 * The breaker did not let the call through. `reason` says why, `retryAfter` when the circuit lets a probe through, where
 * that is known; `cause` is the failure that opened it.
 *
 * @since 0.1.0
 * @category errors
 */
export class CircuitOpenError
  extends Schema.TaggedError<CircuitOpenError>("@effect-resilience/CircuitOpenError")("CircuitOpenError", {
    ...errorFields("CircuitBreaker"),
    state: State,
    reason: Reason,
    retryAfter
  })
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "rejection" as const
  }
  override get message() {
    const after = Option.match(this.retryAfter, {
      onNone: () => "",
      onSome: (wait) => `, retry after ${Duration.format(wait)}`
    })
    return `Circuit breaker "${this.instance}" let no call through (${this.reason}${after})`
  }
}

const fields = eventFields("CircuitBreaker")
const Event = Schema.Union(
  Schema.TaggedStruct("StateChanged", {
    ...fields,
    from: State,
    to: State,
    cause: Schema.Literal(
      "ConsecutiveFailures",
      "FailureRate",
      "SlowCallRate",
      "OpenOn",
      "OpenDurationOver",
      "ProbesSucceeded",
      "ProbesFailed",
      "HalfOpenTimeout",
      "ForcedOpenOver",
      "OverrideOver",
      "Operator",
      "Shared"
    )
  }),
  Schema.TaggedStruct("FleetChanged", {
    ...fields,
    state: Schema.Union(State, Schema.Literal("Unknown")),
    epoch: Schema.Finite,
    followed: Schema.Boolean
  }),
  Schema.TaggedStruct("CallSucceeded", { ...fields, duration }),
  Schema.TaggedStruct("CallFailed", { ...fields, duration, error, tripped: Schema.Boolean }),
  Schema.TaggedStruct("CallIgnored", { ...fields, duration }),
  Schema.TaggedStruct("CallRejected", { ...fields, reason: Reason, retryAfter: Schema.optional(duration) }),
  Schema.TaggedStruct("WouldHaveTripped", {
    ...fields,
    cause: Schema.Literal("ConsecutiveFailures", "FailureRate", "SlowCallRate", "OpenOn", "ProbesFailed")
  }),
  Schema.TaggedStruct("Reset", { ...fields, actor: Schema.optional(Schema.String) }),
  InternalError
)

type Named = CircuitBreaker.Options & { readonly name: string }

const states: ReadonlyArray<StateTag> = State.literals

/** Where the breakers of an instance tell what happens: its events and metrics. */
const watchOf = (
  { emitter, enforced, name }: Instance<CircuitBreaker.Event>,
  single: boolean
): Watch & { readonly born: (state: StateTag) => void } => {
  const labels = (more: Record<string, string>) => metric.attributes("CircuitBreaker", name, more)
  const count = metric.calls("CircuitBreaker", name, enforced)
  const rejection = metric.rejections<CircuitBreaker.Reason>("CircuitBreaker", name, enforced)
  const inState = new Map(states.map((state) => [
    state,
    metric.gauge(
      "resilience.circuit_breaker.state",
      "1 for the state that the circuit is in; of a keyed breaker, how many circuits that are not closed are in it",
      labels({ state: metric.snake(state) })
    )
  ]))
  const population = new Map<StateTag, number>()
  const move = (state: StateTag, by: number) => {
    // Closed circuits of a keyed breaker come and go: only the others are counted.
    if (!single && state === "Closed") return
    const value = (population.get(state) ?? 0) + by
    population.set(state, value)
    inState.get(state)?.(value)
  }
  const failures = metric.gauge(
    "resilience.circuit_breaker.failure_ratio",
    "Failures of the window, set at each failure",
    labels({})
  )
  const slow = metric.gauge(
    "resilience.circuit_breaker.slow_ratio",
    "Slow calls of the window, set at each failure",
    labels({})
  )
  return {
    instance: name,
    emitter,
    born: (state) => move(state, 1),
    counted: count,
    rejected: (reason) => {
      count.rejected()
      rejection(reason)
    },
    changed: ({ cause, from, to }) => {
      move(from, -1)
      move(to, 1)
      metric.counter(
        "resilience.circuit_breaker.transitions",
        "Changes of state",
        labels({ from: metric.snake(from), to: metric.snake(to), cause: metric.snake(cause) })
      )()
    },
    fleet: (state, followed) =>
      metric.counter(
        "resilience.circuit_breaker.fleet_changes",
        "Changes of the circuit of the fleet, as this process heard of them",
        labels({ state: metric.snake(state), followed: String(followed) })
      )(),
    dropped: metric.counter(
      "resilience.circuit_breaker.reports.dropped",
      "Reports of outcomes that did not reach the fleet, and were given up",
      labels({})
    ),
    window: (totals) => {
      if (!single || totals.calls === 0) return
      failures(totals.failures / totals.calls)
      slow(totals.slow / totals.calls)
    },
    error: (reason, retryAfter, cause) => {
      const state = reason === "HalfOpenFull" ? "HalfOpen" : reason === "RampUp" ?
        "Closed"
        : reason === "ForcedOpen"
        ? "ForcedOpen"
        : "Open"
      const error = stackless(() => new CircuitOpenError({ instance: name, state, reason, retryAfter }, true))
      return cause === undefined ? error : withCause(error, cause)
    }
  }
}

const parseForced = option.parseDuration({ above: 0, infinite: true })

/** How long a circuit is forced open: nonsense is a bug of the caller. */
const forcedOrDie = (name: string, duration: Duration.DurationInput | undefined): time.Nanos => {
  if (duration === undefined) return time.forever
  try {
    return time.toNanos(parseForced(duration))
  } catch {
    throw new option.InvalidOptionError("CircuitBreaker", name, "forceOpen", duration, "a duration above 0 ms")
  }
}

const commands = (name: string, breaker: Breaker) => ({
  forceOpen: (duration?: Duration.DurationInput) =>
    Effect.suspend(() => Effect.asVoid(breaker.command({ _tag: "forceOpen", length: forcedOrDie(name, duration) }))),
  disable: Effect.asVoid(breaker.command({ _tag: "disable", length: time.forever })),
  metricsOnly: Effect.asVoid(breaker.command({ _tag: "metricsOnly", length: time.forever })),
  reset: Effect.asVoid(breaker.command({ _tag: "reset" }))
})

/** The fleet that the circuits of an instance join. One that only tries out, and turns nobody away, joins none. */
const fleetOf = ({ enforced }: Instance<CircuitBreaker.Event>): Effect.Effect<SharedCircuits.Service | undefined> =>
  Effect.map(Effect.serviceOption(SharedCircuits), (fleet) => enforced ? Option.getOrUndefined(fleet) : undefined)

const build = (options: Named, site: string): Effect.Effect<CircuitBreaker.Service, never, Scope> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const instance = yield* openInstance<CircuitBreaker.Event>("CircuitBreaker", options.name)
    const watch = watchOf(instance, true)
    const breaker = yield* openBreaker(resolved, watch, yield* Effect.scope)
    watch.born(breaker.birth.state)
    const fleet = yield* fleetOf(instance)
    yield* Effect.acquireRelease(
      Effect.sync(() => breaker.join(fleet)),
      () => Effect.sync(() => breaker.leave())
    )
    const operate = commands(options.name, breaker)
    yield* register({
      pattern: "CircuitBreaker",
      instance: options.name,
      site,
      snapshot: breaker.metrics,
      settings: {
        failureRate: resolved.failureRate,
        slowCallRate: resolved.slowCallRate,
        minimumCalls: resolved.minimumCalls,
        consecutiveFailures: resolved.consecutiveFailures
      },
      actions: {
        forceOpen: (input, lasts) =>
          Effect.flatMap(
            actions.optionalDuration(input),
            (duration) => breaker.command({ _tag: "forceOpen", length: forcedOrDie(options.name, duration) }, { lasts })
          ),
        disable: (_, lasts) => breaker.command({ _tag: "disable", length: time.forever }, { lasts }),
        metricsOnly: (_, lasts) => breaker.command({ _tag: "metricsOnly", length: time.forever }, { lasts }),
        reset: (input) => Effect.flatMap(actions.actor(input), (actor) => breaker.command({ _tag: "reset" }, { actor }))
      },
      standing: () => breaker.standing
    })
    return {
      name: options.name,
      withBreaker: breaker.guard,
      withBreakerBy: classifyBy((classify) => breaker.guardBy(classify)),
      acquire: breaker.acquire,
      wouldAdmit: breaker.wouldAdmit,
      state: Effect.map(breaker.read, (state) => state._tag),
      metrics: breaker.metrics,
      snapshot: Effect.map(breaker.image, snapshotOf),
      ...operate,
      ...instance.observable
    }
  })

const noop = (name: string): CircuitBreaker.Service => ({
  name,
  withBreaker: passThrough,
  withBreakerBy: () => passThrough,
  acquire: Effect.succeed({ settle: () => Effect.void }),
  wouldAdmit: Effect.succeed(true),
  state: Effect.succeed("Disabled"),
  metrics: Effect.succeed({
    state: "Disabled",
    offered: 0,
    admitted: 0,
    rejected: 0,
    succeeded: 0,
    failed: 0,
    ignored: 0,
    running: 0,
    consecutiveFailures: 0,
    consecutiveSuccesses: 0,
    window: { calls: 0, failures: 0, slow: 0 },
    failureRate: Option.none(),
    slowCallRate: Option.none(),
    opens: 0,
    openFor: Option.none(),
    sinceLastFailure: Option.none(),
    sinceStateChange: Duration.zero,
    wouldHaveTripped: 0
  }),
  snapshot: Effect.succeed({ ...blank, state: "Disabled" }),
  forceOpen: () => Effect.void,
  disable: Effect.void,
  metricsOnly: Effect.void,
  reset: Effect.void,
  ...silent
})

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: CircuitBreaker.Options
) =>
  & TagClass<Self, `@effect-resilience/CircuitBreaker/${Name}`, CircuitBreaker.Service, CircuitBreaker.Options>
  & CircuitBreaker.Operations<Self>
  & OnLayer<CircuitBreaker.Event, Self> = makeTag<CircuitBreaker.Operations, CircuitBreaker.Options>({
    pattern: "CircuitBreaker",
    make: build,
    check,
    noop,
    accessors: {
      withBreaker: "guard",
      withBreakerBy: "curried",
      acquire: "effect",
      wouldAdmit: "effect",
      state: "effect",
      metrics: "effect",
      snapshot: "effect",
      forceOpen: "method",
      disable: "effect",
      metricsOnly: "effect",
      reset: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

type KeyedOwn = CircuitBreaker.Options & KeyedOptions<CircuitBreaker.Options>

const checkKeyed = (options: KeyedOwn & { readonly name: string }) => {
  const { name, ...given } = options
  const keyed = option.resolve("CircuitBreaker", name, {
    ...circuitBreakerFields,
    ...keyedFields<CircuitBreaker.Options>()
  }, given)
  const own = option.pick(given, circuitBreakerFields)
  check({ ...own, name })
  return { keyed, own }
}

const buildKeyed = (
  options: KeyedOwn & { readonly name: string },
  site: string
): Effect.Effect<CircuitBreaker.KeyedService, never, Scope> =>
  Effect.gen(function*() {
    const { keyed, own } = yield* orDie(() => checkKeyed(options))
    const { name } = options
    const instance = yield* openInstance<CircuitBreaker.Event>("CircuitBreaker", name)
    const { metrics: calls, watch } = addUp({ ...watchOf(instance, false), canceled: () => {} })
    const scope = yield* Effect.scope
    const joined = yield* fleetOf(instance)
    let isOver = false
    // A call that comes after the end still has a circuit, but nobody who would make it leave.
    const fleet: SharedCircuits.Service | undefined = joined &&
      { join: (circuit) => isOver ? undefined : joined.join(circuit) }
    const table: KeyedTable<Breaker> = yield* openKeyed({
      ...keyed,
      make: (key) => {
        const resolved = check({ ...option.merge(own, keyed.optionsFor?.(key)), name: `${name}/${key}` })
        return openBreaker(resolved, watch, scope, { key, breakers: table })
      },
      evictable: (breaker, now) => breaker.unsafeForgettable(now),
      onKept: (breaker) => {
        watch.born(breaker.birth.state)
        breaker.join(fleet)
      },
      onGone: (breaker) => breaker.leave()
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isOver = true
        for (const [, breaker] of table) breaker.leave()
      })
    )
    const { emitter } = instance
    const unguarded = new Unguarded(emitter, keyed.maxKeys)
    const atKey = <A>(key: string, f: (breaker: Breaker) => Effect.Effect<A>) =>
      Effect.suspend(() => {
        const breaker = table.peek(key)
        return breaker === undefined
          ? Effect.fail(actions.badInput(`there is no circuit for the key ${JSON.stringify(key)}`))
          : f(breaker)
      })
    const command = (action: Command): Registry.Action => (input, lasts) =>
      Effect.flatMap(actions.key(input), (key) => atKey(key, (breaker) => breaker.command(action, { lasts })))
    const metrics: Effect.Effect<CircuitBreaker.KeyedMetrics> = Effect.map(
      Effect.suspend(() =>
        Effect.forEach(table, ([key, breaker]) => Effect.map(breaker.read, (s) => [key, s] as const))
      ),
      (circuits) => ({
        keys: circuits.length,
        evicted: table.evicted,
        unguarded: unguarded.calls,
        ...calls(),
        open: circuits.filter(([, state]) => state._tag !== "Closed").map(([key, state]) => ({
          key,
          state: state._tag
        }))
      })
    )
    yield* register({
      pattern: "CircuitBreaker",
      instance: name,
      site,
      snapshot: metrics,
      actions: {
        forceOpen: command({ _tag: "forceOpen", length: time.forever }),
        disable: command({ _tag: "disable", length: time.forever }),
        metricsOnly: command({ _tag: "metricsOnly", length: time.forever }),
        reset: command({ _tag: "reset" })
      },
      standing: (input) => Effect.flatMap(actions.key(input), (key) => atKey(key, (breaker) => breaker.standing))
    })
    return {
      name,
      withBreakerBy: ({ key }) => (effect) =>
        Effect.flatMap(table.get(key), (breaker) => {
          if (breaker !== undefined) return breaker.guard(effect)
          if (keyed.onFull === "admit") return Effect.zipRight(unguarded.count, effect)
          watch.rejected("TooManyKeys")
          if (emitter.listening) {
            emitter.emit({ _tag: "CallRejected", ...emitter.call(), key, reason: "TooManyKeys" })
          }
          return Effect.fail(watch.error("TooManyKeys", Option.none(), undefined))
        }),
      metrics,
      metricsOf: (key) =>
        Effect.suspend(() => {
          const breaker = table.peek(key)
          return breaker === undefined ? Effect.succeedNone : Effect.asSome(breaker.metrics)
        }),
      ...instance.observable
    }
  })

const Keyed: <Self>() => <const Name extends string>(
  name: Name,
  options?: KeyedOwn
) =>
  & KeyedTagClass<
    Self,
    `@effect-resilience/CircuitBreaker/Keyed/${Name}`,
    CircuitBreaker.KeyedService,
    CircuitBreaker.Options
  >
  & CircuitBreaker.KeyedOperations<Self>
  & OnLayer<CircuitBreaker.Event, Self> = makeTag<CircuitBreaker.KeyedOperations, KeyedOwn>({
    pattern: "CircuitBreaker/Keyed",
    make: buildKeyed,
    check: checkKeyed,
    noop: (name): CircuitBreaker.KeyedService => ({
      name,
      withBreakerBy: () => passThrough,
      metrics: Effect.succeed({ keys: 0, evicted: 0, unguarded: 0, ...noCalls, open: [] }),
      metricsOf: () => Effect.succeedNone,
      ...silent
    }),
    accessors: {
      withBreakerBy: "curried",
      metrics: "effect",
      metricsOf: "method",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

/**
 * The circuit breaker. `CircuitBreaker` is the default instance, `CircuitBreaker.Tag` makes named ones.
 *
 * @example
 * import { CircuitBreaker } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * class Payments extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 3 }) {}
 *
 * const charge = Effect.succeed("paid").pipe(Payments.withBreaker)
 *
 * // at the edge of the program, once
 * const main = Effect.repeatN(charge, 2).pipe(Effect.provide(Payments.Live))
 *
 * @since 0.1.0
 * @category models
 */
export class CircuitBreaker extends Tag<CircuitBreaker>()("default") {
  /** Named instances: `class Payments extends CircuitBreaker.Tag<Payments>()("payments", { … }) {}`. */
  static readonly Tag = Tag
  /** One circuit per key: `class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts", { … }) {}`. */
  static readonly Keyed = Keyed
  /** An instance that is nobody's service. */
  static readonly make = (options: Named): Effect.Effect<CircuitBreaker.Service, never, Scope> =>
    build(options, callSite())
  /** The events as a schema for the wire. */
  static readonly Event = Event
  /** A snapshot as a schema for the wire. */
  static readonly Snapshot = Snapshot
}

/**
 * @since 0.1.0
 */
export declare namespace CircuitBreaker {
  /**
   * @since 0.1.0
   * @category models
   */
  export type State = typeof State.Type

  /**
   * @since 0.1.0
   * @category models
   */
  export type Reason = typeof Reason.Type

  /**
   * @since 0.1.0
   * @category events
   */
  export type Event = typeof Event.Type

  /**
   * A circuit in terms of ages and durations left, so it means the same in another process.
   *
   * @since 0.1.0
   * @category models
   */
  export type Snapshot = typeof Snapshot.Type

  /**
   * A snapshot, or a part of one: `{ state: "ForcedOpen" }` starts a circuit that an operator has to reset.
   *
   * @since 0.1.0
   * @category models
   */
  export type Initial = { readonly state: State } & { readonly [K in keyof Snapshot]?: Snapshot[K] }

  /**
   * The rules of a closed circuit are OR-ed: the first that is met opens it.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** Opens after so many failures in a row; `false` turns the rule off. Defaults to `5`. */
    readonly consecutiveFailures?: number | false | undefined
    /**
     * Opens when this share of the window's calls failed, above 0 and up to 1. Looked at with each failure, and when the
     * window reaches `minimumCalls`. Defaults to `0.5`.
     */
    readonly failureRate?: number | undefined
    /**
     * Calls that the window must hold before a rate counts; at most the `count` of the window. Defaults to `20`, or to
     * that `count` where it is less.
     */
    readonly minimumCalls?: number | undefined
    /**
     * What the rates look at: the calls of the last `duration`, in ten buckets, or the last `count` calls. Defaults to
     * `{ duration: "30 seconds" }`.
     */
    readonly window?: { readonly count: number } | { readonly duration: Duration.DurationInput } | undefined
    /**
     * A call that takes this long is slow, also while it still runs or when it is interrupted. Defaults to off. Turning
     * it on makes every call held, which costs about a microsecond.
     */
    readonly slowCallDuration?: Duration.DurationInput | undefined
    /**
     * Opens when this share of the window's calls was slow, above 0 and up to 1. Looked at with each slow call, and when
     * the window reaches `minimumCalls`. Defaults to `1`.
     */
    readonly slowCallRate?: number | undefined
    /**
     * How long the circuit stays open: a duration, or a `Schedule` whose delays are the successive open times. A quiet
     * window (30 seconds where it is a count) starts the schedule anew; one that ends keeps its last delay. It is stepped
     * beside the calls: while it waits, or when it fails, the last time known stays. Defaults to 5 s, doubling to 60 s,
     * ±10 %.
     */
    readonly openDuration?: Duration.DurationInput | Schedule.Schedule<unknown> | undefined
    /** Probes that may run at once while the circuit is half-open. Defaults to `3`. */
    readonly halfOpenMaxCalls?: number | undefined
    /** Successful probes that close the circuit; at most `halfOpenMaxCalls`. Defaults to `2`. */
    readonly successThreshold?: number | undefined
    /**
     * Opens again when a probe has been out for this long: seen by the next call, or when a probe succeeds or fails.
     * Defaults to `"10 seconds"`.
     */
    readonly halfOpenTimeout?: Duration.DurationInput | undefined
    /** After closing, the share of traffic admitted grows from a tenth to all over this time. Defaults to off. */
    readonly rampUp?: Duration.DurationInput | undefined
    /** Opens at once for the time that a server names, as in `Retry-After`. Defaults to off. */
    readonly openOn?:
      | ((exit: Exit.Exit<unknown, unknown>) => Option.Option<Duration.DurationInput>)
      | undefined
    /** What an exit means. Defaults to `classify`. */
    readonly classify?: Classify | undefined
    /** The state to start from. Defaults to closed. */
    readonly initial?: Initial | undefined
  }

  /**
   * A call that is in, to be settled once.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Permit {
    /** Settles the call by hand. What comes later, the end of the scope included, changes nothing. */
    readonly settle: (outcome: Outcome) => Effect.Effect<void>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    /** Protects a call. */
    readonly withBreaker: Guard<CircuitOpenError, Env>
    /** Protects a call whose outcome is read by a function that knows the types of its exit. */
    readonly withBreakerBy: ClassifyBy<CircuitOpenError, Env>
    /** Admits a call for the length of the scope, settled by the scope's exit or by hand. */
    readonly acquire: Effect.Effect<Permit, CircuitOpenError, Scope | Env>
    /** Whether a call would be admitted now. A hint: it reserves nothing and moves no state. */
    readonly wouldAdmit: Effect.Effect<boolean, never, Env>
    /** The state. An open circuit becomes half-open with the next call after its time, not by itself. */
    readonly state: Effect.Effect<State, never, Env>
    readonly metrics: Effect.Effect<Metrics, never, Env>
    /** To be given as `initial` elsewhere. */
    readonly snapshot: Effect.Effect<Snapshot, never, Env>
    /** Lets nothing through until `reset`, or for this long, which is more than nothing. */
    readonly forceOpen: (duration?: Duration.DurationInput) => Effect.Effect<void, never, Env>
    /** Lets everything through and counts nothing against the circuit, until `reset`. */
    readonly disable: Effect.Effect<void, never, Env>
    /** Lets everything through and reports what would have opened the circuit, until `reset`. */
    readonly metricsOnly: Effect.Effect<void, never, Env>
    /** Closes the circuit and forgets what it knew. */
    readonly reset: Effect.Effect<void, never, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service extends Operations {
    readonly name: string
  }

  /**
   * `offered = admitted + rejected`, `admitted = succeeded + failed + ignored + running`. A call of a closed circuit that
   * is interrupted from outside is not seen, so it is in none of them.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    readonly state: State
    readonly offered: number
    readonly admitted: number
    readonly rejected: number
    readonly succeeded: number
    readonly failed: number
    readonly ignored: number
    /** Calls that the breaker keeps an eye on: probes, and all calls where slow ones count or somebody listens. */
    readonly running: number
    readonly consecutiveFailures: number
    readonly consecutiveSuccesses: number
    /** What the rates look at. */
    readonly window: { readonly calls: number; readonly failures: number; readonly slow: number }
    /** Of the window; none while it is empty. */
    readonly failureRate: Option.Option<number>
    readonly slowCallRate: Option.Option<number>
    /** How often it opened in a row. */
    readonly opens: number
    /** How long an open circuit stays so. */
    readonly openFor: Option.Option<Duration.Duration>
    readonly sinceLastFailure: Option.Option<Duration.Duration>
    readonly sinceStateChange: Duration.Duration
    /** How often a `MetricsOnly` circuit would have opened. */
    readonly wouldHaveTripped: number
    /** What is known of the circuit of the fleet, where it follows one. */
    readonly shared?: SharedCircuits.Metrics
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KeyedOperations<Env = never> extends Observable<Event, Env> {
    /** Protects a call by the circuit of its key. */
    readonly withBreakerBy: (args: { readonly key: string }) => Guard<CircuitOpenError, Env>
    readonly metrics: Effect.Effect<KeyedMetrics, never, Env>
    /** The metrics of one key's circuit, if it has one. */
    readonly metricsOf: (key: string) => Effect.Effect<Option.Option<Metrics>, never, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KeyedService extends KeyedOperations {
    readonly name: string
  }

  /**
   * The calls of all keys, those of forgotten ones too: `offered = admitted + rejected`,
   * `admitted = succeeded + failed + ignored + running`. Calls let through unguarded are in none of these. None is canceled.
   *
   * @since 0.1.0
   * @category metrics
   */
  export interface KeyedMetrics extends CallMetrics {
    readonly keys: number
    /** Keys forgotten because they were idle. */
    readonly evicted: number
    /** Calls let through without a circuit, because every key was live. */
    readonly unguarded: number
    /** The circuits that are not closed. */
    readonly open: ReadonlyArray<{ readonly key: string; readonly state: State }>
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const CircuitBreakerLive = CircuitBreaker.Live
