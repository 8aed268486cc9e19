import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { CircuitBreaker } from "../../CircuitBreaker.js"
import { type Classify, classify } from "../../Outcome.js"
import * as option from "../options.js"
import * as time from "../time.js"
import type { BreakerConfig, Home } from "./breaker.js"
import { Breaker } from "./breaker.js"
import { OpenTimeline } from "./openTimes.js"
import { blank, imageOf, Snapshot } from "./snapshot.js"
import * as transitions from "./state.js"
import type { Watch } from "./watch.js"
import { CountWindow, DurationWindow } from "./window.js"

type Window = { readonly count: number } | { readonly duration: Duration.DurationInput }
type ResolvedWindow = { readonly count: number } | { readonly duration: Duration.Duration }

const parseWindow = (input: Window): ResolvedWindow => {
  if (Predicate.hasProperty(input, "count")) {
    return { count: option.parseInteger({ min: 1, max: 1_000_000 })(input.count) }
  }
  if (Predicate.hasProperty(input, "duration")) return { duration: option.parseDuration({ min: 1 })(input.duration) }
  throw new option.Requirement("{ count } or { duration }")
}

/** 5 s, doubling to 60 s, ±10 %. */
const defaultOpenTimes: Schedule.Schedule<unknown> = Schedule.exponential("5 seconds").pipe(
  Schedule.union(Schedule.spaced("60 seconds")),
  Schedule.jitteredWith({ min: 0.9, max: 1.1 })
)

const parseOpenDuration = (
  input: Duration.DurationInput | Schedule.Schedule<unknown>
): Schedule.Schedule<unknown> =>
  Schedule.isSchedule(input) ? input : Schedule.spaced(option.parseDuration({ above: 0, infinite: true })(input))

/** The options, their defaults and what they accept. @internal */
export const circuitBreakerFields = {
  consecutiveFailures: option.field<number | false, number | false>(
    5,
    (input) => input === false ? false : option.parseInteger({ min: 1 })(input)
  ),
  failureRate: option.number(0.5, { above: 0, max: 1 }),
  minimumCalls: option.integer(20, { min: 1 }),
  window: option.field<Window, ResolvedWindow>(
    { duration: "30 seconds" },
    parseWindow,
    `{ duration: "30 seconds" }`
  ),
  slowCallDuration: option.optional(option.duration("1 minute"), "off"),
  slowCallRate: option.number(1, { above: 0, max: 1 }),
  openDuration: option.field<Duration.DurationInput | Schedule.Schedule<unknown>, Schedule.Schedule<unknown>>(
    defaultOpenTimes,
    parseOpenDuration,
    "5 s, doubling to 60 s, ±10 %"
  ),
  halfOpenMaxCalls: option.integer(3, { min: 1 }),
  successThreshold: option.integer(2, { min: 1 }),
  halfOpenTimeout: option.duration("10 seconds", { above: 0, infinite: true }),
  rampUp: option.optional(option.duration("10 seconds"), "off"),
  openOn: option.optional(
    option.fn<NonNullable<CircuitBreaker.Options["openOn"]>>(() => Option.none(), "off")
  ),
  classify: option.fn<Classify>(classify, "classify"),
  initial: option.optional(option.field<CircuitBreaker.Initial, CircuitBreaker.Initial>(
    { state: "Closed" },
    (input) => {
      if (Schema.is(Schema.typeSchema(Snapshot))({ ...blank, ...input })) return input
      throw new option.Requirement("a snapshot of a circuit breaker")
    }
  ))
} satisfies option.Fields<CircuitBreaker.Options>

/** Reads the options of a breaker. Throws an `InvalidOptionError` for a bad one. @internal */
export const check = (options: CircuitBreaker.Options & { readonly name: string }) => {
  const resolved = option.resolve("CircuitBreaker", options.name, circuitBreakerFields, options)
  if (resolved.successThreshold > resolved.halfOpenMaxCalls) {
    throw new option.InvalidOptionError(
      "CircuitBreaker",
      options.name,
      "successThreshold",
      resolved.successThreshold,
      `at most halfOpenMaxCalls (${resolved.halfOpenMaxCalls})`
    )
  }
  const { window } = resolved
  // The default is cut down to a small window; what somebody wrote is not changed in silence.
  if (options.minimumCalls !== undefined && "count" in window && options.minimumCalls > window.count) {
    throw new option.InvalidOptionError(
      "CircuitBreaker",
      options.name,
      "minimumCalls",
      options.minimumCalls,
      `at most the window's count (${window.count})`
    )
  }
  return resolved
}

const configOf = (options: ReturnType<typeof check>): BreakerConfig => {
  const { window } = options
  const count = "count" in window ? window.count : undefined
  const length = "duration" in window ? time.toNanos(window.duration) : 0n
  return {
    ...options,
    minimumCalls: count === undefined ? options.minimumCalls : Math.min(options.minimumCalls, count),
    slowCallDuration: options.slowCallDuration && time.toNanos(options.slowCallDuration),
    halfOpenTimeout: time.toNanos(options.halfOpenTimeout),
    rampUp: options.rampUp && time.toNanos(options.rampUp),
    quietAfter: count === undefined ? length : 30_000_000_000n,
    window: () => count === undefined ? new DurationWindow(length) : new CountWindow(count)
  }
}

/** Opens a breaker with options that `check` has read. @internal */
export const openBreaker = (
  options: ReturnType<typeof check>,
  watch: Watch,
  scope: Scope,
  home?: Home
): Effect.Effect<Breaker> =>
  Effect.gen(function*() {
    const config = configOf(options)
    const timeline = new OpenTimeline(options.openDuration)
    const initial = options.initial && imageOf({ ...blank, ...options.initial })
    const times = yield* timeline.after(initial?.opens ?? 0)
    if (times.first === 0n) {
      throw new option.InvalidOptionError(
        "CircuitBreaker",
        watch.instance,
        "openDuration",
        options.openDuration,
        "a duration above 0 or a schedule whose first delay is above 0"
      )
    }
    const now = time.now()
    const state = initial === undefined
      ? transitions.closed(config, now, times, 0, false)
      : transitions.restore(config, initial, times, now)
    return new Breaker(config, timeline, watch, state, scope, home)
  })
