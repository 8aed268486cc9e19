import type { Handlers } from "../guard.js"
import type { Nanos } from "../time.js"
import { forever } from "../time.js"
import type { AgedTotals, Totals, Windows } from "./window.js"

/*
 * The circuit as a table of transitions: `admit`, `settle` and `command` are pure in the state they are given, but for
 * the tally of a closed period, which that period owns. Nothing here knows effects, events or the user's functions.
 */

/** @internal */
export type Rule = "ConsecutiveFailures" | "FailureRate" | "SlowCallRate"

/** Why a circuit changed its state. @internal */
export type Cause =
  | Rule
  | "OpenOn"
  | "OpenDurationOver"
  | "ProbesSucceeded"
  | "ProbesFailed"
  | "HalfOpenTimeout"
  | "ForcedOpenOver"
  | "OverrideOver"
  | "Operator"
  | "Shared"

/** @internal */
export type Tag = "Closed" | "Open" | "HalfOpen" | "ForcedOpen" | "Disabled" | "MetricsOnly"

/** @internal */
export type Reason = "Open" | "HalfOpenFull" | "RampUp" | "ForcedOpen" | "TooManyKeys"

/** @internal */
export interface Config {
  readonly consecutiveFailures: number | false
  readonly failureRate: number
  readonly slowCallDuration: Nanos | undefined
  readonly slowCallRate: number
  readonly minimumCalls: number
  readonly halfOpenMaxCalls: number
  readonly successThreshold: number
  readonly halfOpenTimeout: Nanos
  readonly rampUp: Nanos | undefined
  /** How long a closed circuit must be quiet for the next open time to be the first again. */
  readonly quietAfter: Nanos
  readonly window: () => Windows
}

/** The times that the circuit will be open next, made ready before they are needed. @internal */
export interface OpenTimes {
  /** After a quiet time. */
  readonly first: Nanos
  /** When it opens again soon. */
  readonly next: Nanos
}

/**
 * What a call was admitted under. Recordings keep it, transitions replace it: a settlement that brings another period
 * changes nothing.
 *
 * @internal
 */
export class Period {
  /** How the machinery settles the calls of this period. */
  handlers: Handlers | undefined = undefined
}

/** The record of a closed period. Mutable, and never shared with another period. @internal */
export class Tally {
  readonly window: Windows
  failuresInRow = 0
  successesInRow = 0

  constructor(readonly config: Config) {
    this.window = config.window()
  }

  success(now: Nanos): void {
    this.window.success(now)
    this.failuresInRow = 0
    this.successesInRow++
  }

  /**
   * Whether the next call lets the window hold enough for a rate, and there are failures to look at. Slow calls are not
   * asked about: where they count, every call is recorded by `record`.
   */
  completes(now: Nanos): boolean {
    return this.window.failing && this.window.totals(now).calls + 1 === this.config.minimumCalls
  }

  /** Records how a call ended and returns the rule that it breaks. */
  record(now: Nanos, { outcome, recorded, slow }: Result): Rule | undefined {
    const failed = outcome === "failure"
    if (failed) {
      this.failuresInRow++
      this.successesInRow = 0
    } else if (outcome === "success") {
      this.failuresInRow = 0
      this.successesInRow++
    }
    const late = slow && !recorded
    // An ignored call says nothing, except that it was slow.
    if (outcome === "ignored" ? !late : recorded && !failed) return undefined
    this.window.record(now, recorded ? 0 : 1, failed ? 1 : 0, late ? 1 : 0)
    const { consecutiveFailures, failureRate, minimumCalls, slowCallDuration, slowCallRate } = this.config
    if (failed && consecutiveFailures !== false && this.failuresInRow >= consecutiveFailures) {
      return "ConsecutiveFailures"
    }
    const totals = this.window.totals(now)
    if (totals.calls < minimumCalls) return undefined
    const completed = totals.calls === minimumCalls
    // Divided, not multiplied: 0.07 * 100 is more than 7.
    if ((failed || completed) && totals.failures / totals.calls >= failureRate) return "FailureRate"
    return (slow || completed) && slowCallDuration !== undefined && totals.slow / totals.calls >= slowCallRate
      ? "SlowCallRate"
      : undefined
  }
}

/** @internal */
export type State = State.Closed | State.Open | State.HalfOpen | State.ForcedOpen | State.Disabled | State.MetricsOnly

/** @internal */
export declare namespace State {
  interface Base {
    readonly period: Period
    /** When this state began. */
    readonly since: Nanos
    readonly times: OpenTimes
    /** How often the circuit opened in a row, without a quiet time between. */
    readonly opens: number
  }
  interface Closed extends Base {
    readonly _tag: "Closed"
    readonly tally: Tally
    /** The share of traffic admitted grows until then. */
    readonly rampUntil: Nanos | undefined
  }
  interface Open extends Base {
    readonly _tag: "Open"
    readonly until: Nanos
    /** The circuit of the fleet is open too: it says who probes when the time is over. */
    readonly shared: boolean
  }
  interface HalfOpen extends Base {
    readonly _tag: "HalfOpen"
    /** When the probes that run began, the oldest first. */
    readonly out: ReadonlyArray<Nanos>
    readonly succeeded: number
    readonly failed: number
    /** Each probe needs a lease of the fleet, which also counts how the probes end. */
    readonly shared: boolean
    /** The fleet has no lease to give until then. */
    readonly fullUntil: Nanos
  }
  interface ForcedOpen extends Base {
    readonly _tag: "ForcedOpen"
    readonly until: Nanos
  }
  interface Disabled extends Base {
    readonly _tag: "Disabled"
    readonly until: Nanos
  }
  interface MetricsOnly extends Base {
    readonly _tag: "MetricsOnly"
    readonly tally: Tally
    readonly until: Nanos
  }
}

/** @internal */
export interface Change {
  readonly from: Tag
  readonly to: Tag
  readonly cause: Cause
}

/** @internal */
export type Admission =
  | {
    readonly _tag: "Admitted"
    readonly period: Period
    readonly probe: boolean
    /** A probe that may run once the fleet gives it a lease. */
    readonly asks?: boolean
    readonly change?: Change
  }
  | {
    readonly _tag: "Rejected"
    readonly reason: Exclude<Reason, "TooManyKeys">
    /** Nanoseconds until it makes sense to ask again, where that is known. */
    readonly wait: Nanos | undefined
    readonly change?: Change
  }

/** What settling a call did. `tripped`: the rule it broke, also where that opens nothing (`MetricsOnly`). @internal */
export interface Settlement {
  readonly change?: Change
  readonly tripped?: Rule | "OpenOn" | "ProbesFailed"
}

/** A call as it ended. @internal */
export interface Result {
  readonly outcome: "success" | "failure" | "ignored"
  /** When it began; not known of a call that was only observed, which is never a probe. */
  readonly start: Nanos | undefined
  readonly slow: boolean
  /** Already recorded as slow while it ran. */
  readonly recorded: boolean
  /** Open for that long at once. */
  readonly openFor: Nanos | undefined
}

/** @internal */
export const closed = (
  config: Config,
  now: Nanos,
  times: OpenTimes,
  opens: number,
  ramp: boolean
): State.Closed => ({
  _tag: "Closed",
  period: new Period(),
  since: now,
  times,
  opens,
  tally: new Tally(config),
  rampUntil: ramp && config.rampUp !== undefined ? now + config.rampUp : undefined
})

/** @internal */
export const until = (now: Nanos, length: Nanos): Nanos => length >= forever ? forever : now + length

/** @internal */
export const open = (state: State, now: Nanos, length: Nanos, opens: number): State.Open => ({
  _tag: "Open",
  period: new Period(),
  since: now,
  times: state.times,
  opens,
  until: until(now, length),
  shared: state._tag === "HalfOpen" && state.shared
})

/** Whether the next opening follows one before it, without a quiet time between. */
const again = (config: Config, state: State, now: Nanos): boolean =>
  state.opens > 0 && !(state._tag === "Closed" && now - state.since >= config.quietAfter)

/** Opens for the next of the open times: the first after a quiet time. */
const openNext = (config: Config, state: State, now: Nanos): State.Open =>
  again(config, state, now)
    ? open(state, now, state.times.next, state.opens + 1)
    : open(state, now, state.times.first, 1)

/** How long it is open for: still, or when it opens next. @internal */
export const openLength = (config: Config, state: State, now: Nanos): Nanos =>
  state._tag === "Open"
    ? left(state, now) ?? forever
    : again(config, state, now)
    ? state.times.next
    : state.times.first

/** @internal */
export const halfOpen = (state: State, now: Nanos, shared: boolean): State.HalfOpen => ({
  _tag: "HalfOpen",
  period: new Period(),
  since: now,
  times: state.times,
  opens: state.opens,
  out: [],
  succeeded: 0,
  failed: 0,
  shared,
  fullUntil: now
})

/** @internal */
export const changed = (from: State, to: State, cause: Cause): Change => ({ from: from._tag, to: to._tag, cause })

/** The least share that a ramp admits, as in Envoy's slow start. @internal */
export const leastShare = 0.1

/** The share of traffic that a ramp admits. @internal */
export const rampShare = (state: State.Closed, now: Nanos): number =>
  state.rampUntil === undefined || now >= state.rampUntil
    ? 1
    : Math.max(leastShare, Number(now - state.since) / Number(state.rampUntil - state.since))

/** Time left of what ends by itself; none for what is without end. @internal */
export const left = (state: { readonly until: Nanos }, now: Nanos): Nanos | undefined =>
  state.until >= forever ? undefined : state.until > now ? state.until - now : 0n

/** What operators want of a circuit, instead of what it would do by itself. @internal */
export type Overridden = State.ForcedOpen | State.Disabled | State.MetricsOnly

/** @internal */
export const isOverridden = (state: State): state is Overridden =>
  state._tag === "ForcedOpen" || state._tag === "Disabled" || state._tag === "MetricsOnly"

/** Whether a probe has been out for too long. Without one the circuit waits for traffic, and nothing hangs. */
const hangs = (config: Config, state: State.HalfOpen, now: Nanos): boolean => {
  const [oldest] = state.out
  return oldest !== undefined && now - oldest >= config.halfOpenTimeout
}

/** The probes that are left when one of them comes back. Those that began at the same time are alike. */
const withoutProbe = (out: ReadonlyArray<Nanos>, start: Nanos | undefined): ReadonlyArray<Nanos> => {
  const back = out.findIndex((began) => began === start)
  return out.filter((_, index) => index !== back)
}

/** A call that comes when the time of an override is over finds the circuit closed. */
const afterOverride = (config: Config, state: Overridden, now: Nanos): readonly [Admission, State] => {
  const next = closed(config, now, state.times, 0, false)
  const change = changed(state, next, state._tag === "ForcedOpen" ? "ForcedOpenOver" : "OverrideOver")
  return [{ _tag: "Admitted", period: next.period, probe: false, change }, next]
}

/**
 * May a call run? `draw` is a random number from 0 to 1, looked at only while a ramp lasts.
 *
 * @internal
 */
export const admit = (config: Config, state: State, now: Nanos, draw: number): readonly [Admission, State] => {
  switch (state._tag) {
    case "Closed": {
      if (state.rampUntil === undefined) return [{ _tag: "Admitted", period: state.period, probe: false }, state]
      if (now >= state.rampUntil) {
        return [{ _tag: "Admitted", period: state.period, probe: false }, { ...state, rampUntil: undefined }]
      }
      return draw < rampShare(state, now)
        ? [{ _tag: "Admitted", period: state.period, probe: false }, state]
        : [{ _tag: "Rejected", reason: "RampUp", wait: undefined }, state]
    }
    case "Open": {
      if (now < state.until) return [{ _tag: "Rejected", reason: "Open", wait: left(state, now) }, state]
      const next = halfOpen(state, now, state.shared)
      const change = changed(state, next, "OpenDurationOver")
      return [
        { _tag: "Admitted", period: next.period, probe: true, asks: state.shared, change },
        { ...next, out: [now] }
      ]
    }
    case "HalfOpen": {
      if (hangs(config, state, now)) {
        const next = openNext(config, state, now)
        const change = changed(state, next, "HalfOpenTimeout")
        return [{ _tag: "Rejected", reason: "Open", wait: left(next, now), change }, next]
      }
      if (state.out.length >= config.halfOpenMaxCalls || now < state.fullUntil) {
        return [{ _tag: "Rejected", reason: "HalfOpenFull", wait: undefined }, state]
      }
      return [
        { _tag: "Admitted", period: state.period, probe: true, asks: state.shared },
        { ...state, out: [...state.out, now] }
      ]
    }
    case "ForcedOpen":
      return now < state.until
        ? [{ _tag: "Rejected", reason: "ForcedOpen", wait: left(state, now) }, state]
        : afterOverride(config, state, now)
    case "Disabled":
    case "MetricsOnly":
      return now < state.until
        ? [{ _tag: "Admitted", period: state.period, probe: false }, state]
        : afterOverride(config, state, now)
  }
}

/** @internal */
export const unchanged: Settlement = {}

/**
 * Settles a call that was admitted under `period`. A period that is over changes nothing.
 *
 * @internal
 */
export const settle = (
  config: Config,
  state: State,
  period: Period,
  result: Result,
  now: Nanos
): readonly [Settlement, State] => {
  if (state.period !== period) return [unchanged, state]
  switch (state._tag) {
    case "Closed": {
      if (result.openFor !== undefined) {
        const next = open(state, now, result.openFor, state.opens)
        return [{ change: changed(state, next, "OpenOn"), tripped: "OpenOn" }, next]
      }
      const rule = state.tally.record(now, result)
      if (rule === undefined) return [unchanged, state]
      const next = openNext(config, state, now)
      return [{ change: changed(state, next, rule), tripped: rule }, next]
    }
    case "HalfOpen": {
      const out = withoutProbe(state.out, result.start)
      if (result.openFor !== undefined) {
        const next = open(state, now, result.openFor, state.opens)
        return [{ change: changed(state, next, "OpenOn"), tripped: "OpenOn" }, next]
      }
      if (result.outcome === "ignored" || state.shared) return [unchanged, { ...state, out }]
      if (hangs(config, state, now)) {
        const next = openNext(config, state, now)
        return [{ change: changed(state, next, "HalfOpenTimeout") }, next]
      }
      if (result.outcome === "failure" || result.slow) {
        const failed = state.failed + 1
        if (failed <= config.halfOpenMaxCalls - config.successThreshold) return [unchanged, { ...state, out, failed }]
        const next = openNext(config, state, now)
        return [{ change: changed(state, next, "ProbesFailed"), tripped: "ProbesFailed" }, next]
      }
      const succeeded = state.succeeded + 1
      if (succeeded < config.successThreshold) return [unchanged, { ...state, out, succeeded }]
      const next = closed(config, now, state.times, state.opens, true)
      return [{ change: changed(state, next, "ProbesSucceeded") }, next]
    }
    case "MetricsOnly": {
      const rule = result.openFor !== undefined ? "OpenOn" : state.tally.record(now, result)
      // A new tally: what would have tripped is reported once, and again only when it would have tripped again.
      return rule === undefined ? [unchanged, state] : [{ tripped: rule }, { ...state, tally: new Tally(config) }]
    }
    case "Open":
    case "ForcedOpen":
    case "Disabled":
      return [unchanged, state]
  }
}

/**
 * Records calls that are slow already while they run.
 *
 * @internal
 */
export const overdue = (config: Config, state: State, now: Nanos, calls: number): readonly [Settlement, State] => {
  if (state._tag !== "Closed" && state._tag !== "MetricsOnly") return [unchanged, state]
  let last: readonly [Settlement, State] = [unchanged, state]
  for (let i = 0; i < calls; i++) {
    const slow: Result = { outcome: "ignored", start: undefined, slow: true, recorded: false, openFor: undefined }
    last = settle(config, last[1], state.period, slow, now)
    if (last[0].tripped !== undefined) return last
  }
  return last
}

/** @internal */
export type Command =
  | { readonly _tag: "forceOpen" | "disable" | "metricsOnly"; readonly length: Nanos }
  | { readonly _tag: "reset" }

/** An operator's action. `reset` also forgets how often the circuit opened. @internal */
export const command = (config: Config, state: State, action: Command, now: Nanos): readonly [Settlement, State] => {
  const base = { period: new Period(), since: now, times: state.times, opens: 0 }
  const next: State = action._tag === "reset"
    ? closed(config, now, state.times, 0, false)
    : action._tag === "forceOpen"
    ? { ...base, _tag: "ForcedOpen", until: until(now, action.length) }
    : action._tag === "disable"
    ? { ...base, _tag: "Disabled", until: until(now, action.length) }
    : { ...base, _tag: "MetricsOnly", until: until(now, action.length), tally: new Tally(config) }
  return [next._tag === state._tag ? unchanged : { change: changed(state, next, "Operator") }, next]
}

/** Would a call be admitted now? A hint: reserves nothing, moves nothing. @internal */
export const wouldAdmit = (config: Config, state: State, now: Nanos): boolean => {
  switch (state._tag) {
    case "Open":
    case "ForcedOpen":
      return now >= state.until
    case "HalfOpen":
      return !hangs(config, state, now) && state.out.length < config.halfOpenMaxCalls && now >= state.fullUntil
    case "Closed":
    case "Disabled":
    case "MetricsOnly":
      return true
  }
}

const nothing: Totals = { calls: 0, failures: 0, slow: 0 }

/** What the rules look at now. @internal */
export const totals = (state: State, now: Nanos): Totals =>
  state._tag === "Closed" || state._tag === "MetricsOnly" ? state.tally.window.totals(now) : nothing

/** A state in terms of ages and durations left: means the same in another process. @internal */
export interface Image {
  readonly state: Tag
  /** Of an open circuit, `forever` for one without end; of another that an operator overrides, where it has an end. */
  readonly left: Nanos | undefined
  readonly age: Nanos
  readonly opens: number
  readonly failuresInRow: number
  /** Of a closed circuit whose traffic still grows; its age tells how far it has come. */
  readonly rampLeft: Nanos | undefined
  readonly window: ReadonlyArray<AgedTotals>
}

/** @internal */
export const imageOf = (state: State, now: Nanos): Image => ({
  state: state._tag,
  left: state._tag === "Open" || state._tag === "ForcedOpen"
    ? left(state, now) ?? forever
    : isOverridden(state)
    ? left(state, now)
    : undefined,
  age: now - state.since,
  opens: state.opens,
  failuresInRow: state._tag === "Closed" || state._tag === "MetricsOnly" ? state.tally.failuresInRow : 0,
  rampLeft: state._tag === "Closed" && state.rampUntil !== undefined && state.rampUntil > now
    ? state.rampUntil - now
    : undefined,
  window: state._tag === "Closed" || state._tag === "MetricsOnly" ? state.tally.window.parts(now) : []
})

/**
 * The state of an image. The probes of another process are not ours: a half-open circuit starts its probing anew.
 *
 * @internal
 */
export const restore = (config: Config, image: Image, times: OpenTimes, now: Nanos): State => {
  const base = { period: new Period(), since: now - image.age, times, opens: image.opens }
  const tally = () => {
    const tally = new Tally(config)
    tally.failuresInRow = image.failuresInRow
    for (const part of image.window) tally.window.restore(now, part)
    return tally
  }
  switch (image.state) {
    case "Closed": {
      const ramps = config.rampUp !== undefined && image.rampLeft !== undefined
      return { ...base, _tag: "Closed", tally: tally(), rampUntil: ramps ? now + image.rampLeft : undefined }
    }
    case "MetricsOnly":
      return { ...base, _tag: "MetricsOnly", until: until(now, image.left ?? forever), tally: tally() }
    case "Open":
    case "ForcedOpen": {
      // An open circuit that does not say how long is open for its first time: none without an end by accident.
      const length = image.left ?? (image.state === "Open" ? times.first : forever)
      const end = until(now, length)
      return image.state === "Open"
        ? { ...base, _tag: "Open", until: end, shared: false }
        : { ...base, _tag: "ForcedOpen", until: end }
    }
    case "HalfOpen":
      return halfOpen({ ...base, _tag: "Disabled", until: forever }, now, false)
    case "Disabled":
      return { ...base, _tag: "Disabled", until: until(now, image.left ?? forever) }
  }
}
