import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import type { Scope } from "effect/Scope"
import type { CircuitBreaker, CircuitOpenError } from "../../CircuitBreaker.js"
import type { Classify, Outcome } from "../../Outcome.js"
import { classify as defaultClassify, OptionThrewError } from "../../Outcome.js"
import type { Guard } from "../../Pattern.js"
import type { SharedCircuits } from "../../SharedCircuits.js"
import { errorOf } from "../errors.js"
import type { Call } from "../event.js"
import type { Handlers, Restore } from "../guard.js"
import { finish, hold, observe, onClose, read } from "../guard.js"
import type { Emitter } from "../hub.js"
import type { KeyedTable } from "../keyed.js"
import { parseDuration, show } from "../options.js"
import type { Nanos } from "../time.js"
import { forever, fromNanos, now, toMillis, toNanos } from "../time.js"
import { follow } from "./follow.js"
import type { OpenTimeline } from "./openTimes.js"
import { askForLease, circuitOf, commandOf, viewOf } from "./sharing.js"
import type { Admission, Change, Command, Config, Image, Period, Reason, Settlement, State, Tag } from "./state.js"
import { admit, command, imageOf, left, overdue, settle, totals, wouldAdmit } from "./state.js"
import type { Totals } from "./window.js"

/** @internal */
export interface BreakerConfig extends Config {
  readonly classify: Classify
  readonly openOn: ((exit: Exit.Exit<unknown, unknown>) => Option.Option<Duration.DurationInput>) | undefined
}

/** What a breaker tells, and to whom. Shared by the breakers of a keyed instance. @internal */
export interface Watch {
  readonly instance: string
  readonly emitter: Emitter<CircuitBreaker.Event>
  readonly counted: { readonly [O in Outcome]: () => void }
  readonly rejected: (reason: Reason) => void
  /** A call that is kept an eye on begins, or ends: what the sums of a keyed instance need. */
  readonly running?: (by: 1 | -1) => void
  readonly changed: (change: Change) => void
  /** The circuit of the fleet is in another state. */
  readonly fleet: (state: SharedCircuits.View["state"], followed: boolean) => void
  /** What the rules look at, after a failure. */
  readonly window: (totals: Totals) => void
  readonly error: (reason: Reason, retryAfter: Option.Option<Duration.Duration>, cause: unknown) => CircuitOpenError
}

/** The key of a breaker, and the table that may forget it: a call that is only observed does not protect it. @internal */
export interface Home {
  readonly key: string
  readonly breakers: KeyedTable<Breaker>
}

/** A call that a breaker keeps an eye on: a probe, one of a circuit that counts slow calls, or one that is listened to. */
interface Flight {
  readonly period: Period
  readonly start: Nanos
  readonly call: Call | undefined
  /** Of a probe of the fleet. */
  readonly lease: SharedCircuits.Lease | undefined
  /** Recorded as slow while it runs. */
  recorded: boolean
}

/**
 * A circuit breaker: its state in a `Ref`, the transitions in `state.ts`.
 *
 * While the circuit is closed, counts no slow calls and nobody listens, a call is only observed: the handlers belong to
 * the period, so it costs a read of the `Ref`, a clock read and an `Exit`.
 *
 * @internal
 */
export class Breaker {
  private readonly ref: Ref.Ref<State>
  private readonly flights = new Set<Flight>()
  /** The last failure, and the one that the circuit opened on. */
  private latest: unknown = undefined
  private breaking: unknown = undefined
  private refusal: Refusal | undefined

  succeeded = 0
  failed = 0
  ignored = 0
  rejected = 0
  running = 0
  /** How often a `MetricsOnly` circuit would have opened. */
  wouldHaveTripped = 0
  private lastFailure: Nanos | undefined

  constructor(
    readonly config: BreakerConfig,
    private readonly timeline: OpenTimeline,
    private readonly watch: Watch,
    initial: State,
    private readonly scope: Scope,
    private readonly home?: Home
  ) {
    this.birth = { state: initial._tag, period: initial.period }
    this.ref = Ref.unsafeMake(initial)
    this.read = Ref.get(this.ref)
    this.held = this.guardBy(config.classify)
    this.guard = observe(this.read, (state) => this.choose(state))
  }

  /** The state and the period that it began with. */
  readonly birth: { readonly state: Tag; readonly period: Period }
  readonly read: Effect.Effect<State>
  readonly guard: Guard<CircuitOpenError>

  private choose(state: State): Handlers | Guard<CircuitOpenError> | Exit.Exit<never, CircuitOpenError> {
    if (this.watch.emitter.listening) return this.held
    if (state._tag === "Open") {
      // Nearly every call of an open circuit ends here: it takes nothing, so it needs no mask.
      const time = now()
      return time < state.until ? this.refuse(state.period, "Open", left(state, time)) : this.held
    }
    return state._tag === "Closed" && state.rampUntil === undefined && this.config.slowCallDuration === undefined
      ? state.period.handlers ??= this.quietHandlers(state)
      : this.held
  }

  private quietHandlers({ period, tally }: State.Closed): Handlers {
    const plain = this.config.classify === defaultClassify && this.config.openOn === undefined
    const { success } = this.watch.counted
    return {
      onSuccess: plain
        ? (value) => {
          const time = now()
          if (tally.completes(time) || this.heir !== undefined) {
            return this.conclude(period, undefined, Exit.succeed(value))
          }
          tally.success(time)
          this.succeeded++
          success()
          return Exit.succeed(value)
        }
        : (value) => this.conclude(period, undefined, Exit.succeed(value)),
      onFailure: (cause) => this.conclude(period, undefined, Exit.failCause(cause))
    }
  }

  /** For every call that must be seen until its end. */
  readonly guardBy = (classify: Classify): Guard<CircuitOpenError> =>
    hold<CircuitOpenError>((restore, run) =>
      this.enter(restore, (flight) =>
        run({
          onSuccess: (value) => this.conclude(flight.period, flight, Exit.succeed(value), classify),
          onFailure: (cause) => this.conclude(flight.period, flight, Exit.failCause(cause), classify)
        }))
    )

  private readonly held: Guard<CircuitOpenError>

  /** Admits a call, or refuses it. Uninterruptible. */
  private readonly enter = <A, E, R>(
    restore: Restore,
    onAdmitted: (flight: Flight) => Effect.Effect<A, E, R>,
    asked = false
  ): Effect.Effect<A, E | CircuitOpenError, R> =>
    Effect.flatMap(this.config.rampUp === undefined ? Exit.succeed(0) : Random.next, (draw) =>
      Effect.flatMap(
        Ref.modify(this.ref, (state) => {
          const time = now()
          const [late, current] = this.countOverdue(state, time)
          const [admission, next] = admit(this.config, current, time, draw)
          return [{ late, admission, period: next.period, time }, next]
        }),
        ({ admission, late, period, time }): Effect.Effect<A, E | CircuitOpenError, R> => {
          this.report(late)
          this.report(admission)
          const result: Effect.Effect<A, E | CircuitOpenError, R> = admission._tag === "Rejected"
            ? this.refuse(period, admission.reason, admission.wait)
            : admission.asks === true && this.link !== undefined
            ? this.ask(this.link, restore, admission.period, time, asked, onAdmitted)
            : onAdmitted(this.depart(admission.period, time))
          return opened(late) || opened(admission) ? Effect.zipRight(this.drawTimes, result) : result
        }
      ))

  /** A probe of the fleet: the only call that waits for it. Without a lease the circuit knows why not, and decides anew. */
  private ask<A, E, R>(
    link: SharedCircuits.Link,
    restore: Restore,
    period: Period,
    start: Nanos,
    asked: boolean,
    onAdmitted: (flight: Flight) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | CircuitOpenError, R> {
    const ignored = { outcome: "ignored", start, slow: false, recorded: false, openFor: undefined } as const
    const back = Ref.update(this.ref, (state) => settle(this.config, state, period, ignored, now())[1])
    if (asked) return Effect.flatMap(back, () => this.refuse(period, "HalfOpenFull", undefined))
    return Effect.flatMap(askForLease(link, restore, back), (lease) =>
      lease === undefined
        ? Effect.zipRight(back, this.enter(restore, onAdmitted, true))
        : onAdmitted(this.depart(period, start, lease)))
  }

  private depart(period: Period, start: Nanos, lease?: SharedCircuits.Lease): Flight {
    const { emitter } = this.watch
    const call = emitter.listening ? emitter.call() : undefined
    const flight: Flight = { period, start, call, lease, recorded: false }
    this.running++
    this.watch.running?.(1)
    if (this.config.slowCallDuration !== undefined) this.flights.add(flight)
    return flight
  }

  /** Calls that are slow already are counted while they run: a dependency that hangs must not hide behind its silence. */
  private countOverdue(state: State, time: Nanos): readonly [Settlement, State] {
    const limit = this.config.slowCallDuration
    let calls = 0
    if (limit !== undefined) {
      for (const flight of this.flights) {
        if (time - flight.start < limit) break // the rest departed later
        this.flights.delete(flight)
        if (flight.period !== state.period) continue
        flight.recorded = true
        calls++
      }
    }
    return overdue(this.config, state, time, calls)
  }

  private conclude<A, E>(
    period: Period,
    flight: Flight | undefined,
    exit: Exit.Exit<A, E>,
    classify = this.config.classify
  ): Effect.Effect<A, E> {
    const reading = read(classify, exit, "CircuitBreaker", this.watch.instance)
    const openFor = typeof reading === "string" ? this.readOpenOn(exit) : undefined
    const verdict = openFor instanceof OptionThrewError ? openFor : reading
    return this.settled(
      period,
      flight,
      exit,
      typeof verdict === "string" ? verdict : "ignored",
      openFor instanceof OptionThrewError ? undefined : openFor,
      finish(exit, verdict)
    )
  }

  private settled<A, E>(
    period: Period,
    flight: Flight | undefined,
    exit: Exit.Exit<unknown, unknown>,
    outcome: Outcome,
    openFor: Nanos | undefined,
    result: Exit.Exit<A, E>
  ): Effect.Effect<A, E> {
    const { heir } = this
    if (heir === undefined) return this.settledHere(period, flight, exit, outcome, openFor, result)
    // The table forgot this circuit while the call ran. What would still count here counts there, as long as that circuit
    // has not left the period that it began with.
    return Effect.flatMap(this.read, (state) => {
      if (state.period !== period) return this.settledHere(period, flight, exit, outcome, openFor, result)
      if (flight !== undefined) {
        this.running--
        this.flights.delete(flight)
        heir.running++
      }
      return heir.settledHere(heir.birth.period, flight, exit, outcome, openFor, result)
    })
  }

  /** The circuit that stands under the key in place of this one. */
  private get heir(): Breaker | undefined {
    const held = this.home?.breakers.peek(this.home.key)
    return held === this ? undefined : held
  }

  private settledHere<A, E>(
    period: Period,
    flight: Flight | undefined,
    exit: Exit.Exit<unknown, unknown>,
    outcome: Outcome,
    openFor: Nanos | undefined,
    result: Exit.Exit<A, E>
  ): Effect.Effect<A, E> {
    return Effect.flatMap(
      Ref.modify(this.ref, (state) => {
        const time = now()
        const slow = flight !== undefined && this.isSlow(time - flight.start, outcome, exit)
        const result = { outcome, start: flight?.start, slow, recorded: flight?.recorded === true, openFor }
        const [settlement, next] = settle(this.config, state, period, result, time)
        return [{ settlement, slow, time, window: totals(state, time), closed: state._tag === "Closed" }, next]
      }),
      ({ closed, settlement, slow, time, window }) => {
        const millis = openFor === undefined ? undefined : toMillis(openFor)
        flight?.lease?.settle(slow && outcome === "success" ? "failure" : outcome, millis)
        this.count(outcome, time)
        if (outcome === "failure") {
          this.watch.window(window)
          this.latest = errorIn(exit)
          if (closed) this.link?.failed()
        }
        if (opened(settlement)) this.breaking = this.breakingOf(settlement, outcome, exit)
        if (flight !== undefined) this.land(flight, outcome, exit, settlement, time)
        this.report(settlement)
        return opened(settlement) ? Effect.zipRight(this.drawTimes, result) : result
      }
    )
  }

  /** A success that is slow, or completes a bad window, is not what the circuit opened on. */
  private breakingOf({ tripped }: Settlement, outcome: Outcome, exit: Exit.Exit<unknown, unknown>): unknown {
    if (tripped === undefined) return this.breaking
    if (tripped === "FailureRate") return this.latest
    return exit._tag === "Failure" || outcome === "failure" || tripped === "OpenOn" ? errorIn(exit) : undefined
  }

  private isSlow(took: Nanos, outcome: Outcome, exit: Exit.Exit<unknown, unknown>): boolean {
    const limit = this.config.slowCallDuration
    return limit !== undefined && took >= limit &&
      (outcome !== "ignored" || (exit._tag === "Failure" && Cause.isInterruptedOnly(exit.cause)))
  }

  private readOpenOn(exit: Exit.Exit<unknown, unknown>): Nanos | undefined | OptionThrewError {
    if (this.config.openOn === undefined) return undefined
    try {
      return Option.getOrUndefined(Option.map(this.config.openOn(exit), parseNamed))
    } catch (error) {
      return new OptionThrewError("CircuitBreaker", this.watch.instance, "openOn", error)
    }
  }

  private count(outcome: Outcome, time: Nanos): void {
    this.watch.counted[outcome]()
    if (outcome === "success") this.succeeded++
    else if (outcome === "ignored") this.ignored++
    else {
      this.failed++
      this.lastFailure = time
    }
  }

  private land(
    flight: Flight,
    outcome: Outcome,
    exit: Exit.Exit<unknown, unknown>,
    settlement: Settlement,
    time: Nanos
  ): void {
    this.running--
    this.watch.running?.(-1)
    this.flights.delete(flight)
    const { emitter } = this.watch
    if (flight.call === undefined || !emitter.listening) return
    const call = { ...flight.call, ...this.keyed, duration: fromNanos(time - flight.start) }
    if (outcome === "success") emitter.emit({ _tag: "CallSucceeded", ...call })
    else if (outcome === "ignored") emitter.emit({ _tag: "CallIgnored", ...call })
    else {
      emitter.emit({ _tag: "CallFailed", ...call, error: errorIn(exit), tripped: settlement.tripped !== undefined })
    }
  }

  private get keyed(): { readonly key?: string } {
    return this.home === undefined ? {} : { key: this.home.key }
  }

  /**
   * Whether calls can reach this circuit. One that leaves Closed after the table forgot it goes back to its place; where
   * there is no room it guards nobody, so nothing is told of it.
   */
  private stands({ from }: Change): boolean {
    const { home } = this
    if (home === undefined) return true
    if (from === "Closed") home.breakers.putBack(home.key, this)
    const stands = home.breakers.peek(home.key) === this
    if (stands) this.join(this.shared)
    return stands
  }

  private shared: SharedCircuits.Service | undefined
  private link: SharedCircuits.Link | undefined
  private fleet: SharedCircuits.View["state"] = "Closed"

  /** From now on it follows the fleet, if there is one, until `leave`. */
  join(shared: SharedCircuits.Service | undefined): void {
    if (shared === undefined || this.link !== undefined) return
    this.shared = shared
    this.link = shared.join(circuitOf(
      this.watch.instance,
      this.home?.key,
      this.config,
      () => Effect.runSync(this.read),
      { follow: this.follow, problem: (error) => this.watch.emitter.internalError("Store", error) }
    ))
  }

  leave(): void {
    this.link?.leave()
    this.link = undefined
  }

  private readonly follow = (view: SharedCircuits.View): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { emitter } = this.watch
      const { epoch, followed, state } = view
      if (state !== this.fleet) {
        this.fleet = state
        this.watch.fleet(state, followed)
        if (emitter.listening) emitter.emit({ _tag: "FleetChanged", ...this.keyed, state, epoch, followed })
      }
      if (!followed) return Effect.void
      return Effect.flatMap(
        Ref.modify(this.ref, (own) => {
          const [settlement, next] = follow(this.config, own, viewOf(view), now())
          return [{ settlement, times: next.opens !== own.opens }, next]
        }),
        ({ settlement, times }) => {
          this.report(settlement)
          return times ? this.drawTimes : Effect.void
        }
      )
    })

  private report({ change, tripped }: Settlement): void {
    const { emitter } = this.watch
    if (change !== undefined) {
      if (change.to === "Closed") this.breaking = this.latest = undefined
      if (!this.stands(change)) return
      this.link?.changed(change)
      this.watch.changed(change)
      if (emitter.listening) emitter.emit({ _tag: "StateChanged", ...this.keyed, ...change })
    } else if (tripped !== undefined) {
      this.wouldHaveTripped++
      if (emitter.listening) emitter.emit({ _tag: "WouldHaveTripped", ...this.keyed, cause: tripped })
    }
  }

  /**
   * Times for the next opening, now that these are used up. A fiber of its own draws them: a schedule of the user may wait
   * or die, which is no affair of the call that found the dependency failing. The last times known stay until there are
   * others.
   */
  private readonly drawTimes: Effect.Effect<void> = Effect.suspend(() => {
    if (this.drawing) return Effect.void // it goes on until it has drawn for the current state
    this.drawing = true
    return Effect.asVoid(Effect.forkIn(Effect.interruptible(this.draw), this.scope))
  })
  private drawing = false

  private readonly draw: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(this.read, ({ opens }) =>
      Effect.flatMap(this.timeline.after(opens), (times) =>
        Effect.flatMap(
          Ref.modify(this.ref, (state) => {
            this.drawing = state.opens !== opens
            return [this.drawing, { ...state, times }]
          }),
          (again) => again ? this.draw : Effect.void
        )))
  ).pipe(
    Effect.catchAllCause((cause) => {
      this.drawing = false
      if (Cause.isInterruptedOnly(cause)) return Effect.void
      const error = Cause.squash(cause)
      const failed = new Error(
        `the schedule given as openDuration failed, so the times known last are kept: ${String(error)}`,
        { cause: error }
      )
      return this.watch.emitter.internalError("Option", failed)
    })
  )

  /** Rejections of the same millisecond share one error: it is what rejecting costs. */
  private refuse(period: Period, reason: Reason, wait: Nanos | undefined): Exit.Exit<never, CircuitOpenError> {
    this.rejected++
    this.watch.rejected(reason)
    const millis = wait === undefined ? undefined : Math.ceil(Number(wait) / 1e6)
    let last = this.refusal
    if (last === undefined || last.millis !== millis || last.period !== period || last.reason !== reason) {
      const retryAfter = Option.map(Option.fromNullable(millis), Duration.millis)
      last = { period, reason, millis, exit: Exit.fail(this.watch.error(reason, retryAfter, this.breaking)) }
      this.refusal = last
    }
    const { emitter } = this.watch
    if (emitter.listening) {
      const retryAfter = wait === undefined ? undefined : fromNanos(wait)
      emitter.emit({ _tag: "CallRejected", ...emitter.call(), ...this.keyed, reason, retryAfter })
    }
    return last.exit
  }

  /** The scoped form: settled by hand, or by the exit of the scope. */
  get acquire(): Effect.Effect<CircuitBreaker.Permit, CircuitOpenError, Scope> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        this.enter(restore, (flight) => {
          let open = true
          const once = (settling: () => Effect.Effect<unknown, unknown>) =>
            Effect.suspend(() => {
              if (!open) return Effect.void
              open = false
              // The exit of the scope has its own failure already: only a function that threw is news.
              return Effect.catchAllCause(
                Effect.asVoid(Effect.uninterruptible(settling())),
                (cause) => isThrow(cause) ? Effect.failCause(cause) : Effect.void
              )
            })
          return Exit.succeed({
            settle: (outcome: Outcome) =>
              once(() => this.settled(flight.period, flight, Exit.void, outcome, undefined, Exit.void)),
            close: (exit: Exit.Exit<unknown, unknown>) => once(() => this.conclude(flight.period, flight, exit))
          })
        }),
        ({ close, settle }) => Effect.as(onClose(close), { settle })
      )
    )
  }

  get wouldAdmit(): Effect.Effect<boolean> {
    return Effect.map(this.read, (state) => wouldAdmit(this.config, state, now()))
  }

  /** An operator's action. */
  readonly command = (action: Command, actor?: string): Effect.Effect<void> =>
    Effect.flatMap(
      Ref.modify(this.ref, (state) => command(this.config, state, action, now())),
      (settlement) => {
        const { emitter } = this.watch
        this.breaking = this.latest = undefined
        if (action._tag === "reset" && emitter.listening) emitter.emit({ _tag: "Reset", ...this.keyed, actor })
        this.report(settlement)
        const { link } = this
        return link === undefined ? this.drawTimes : Effect.zipRight(this.drawTimes, link.command(commandOf(action)))
      }
    )

  get metrics(): Effect.Effect<CircuitBreaker.Metrics> {
    return Effect.map(this.read, (state) => {
      const time = now()
      const window = totals(state, time)
      const tally = state._tag === "Closed" || state._tag === "MetricsOnly" ? state.tally : undefined
      const admitted = this.succeeded + this.failed + this.ignored + this.running
      const rate = (part: number) => window.calls === 0 ? Option.none<number>() : Option.some(part / window.calls)
      return {
        state: state._tag,
        offered: admitted + this.rejected,
        admitted,
        rejected: this.rejected,
        succeeded: this.succeeded,
        failed: this.failed,
        ignored: this.ignored,
        running: this.running,
        consecutiveFailures: tally?.failuresInRow ?? 0,
        consecutiveSuccesses: tally?.successesInRow ?? (state._tag === "HalfOpen" ? state.succeeded : 0),
        window,
        failureRate: rate(window.failures),
        slowCallRate: rate(window.slow),
        opens: state.opens,
        openFor: state._tag === "Open" || state._tag === "ForcedOpen"
          ? Option.some(fromNanos(left(state, time) ?? forever))
          : Option.none(),
        sinceLastFailure: Option.map(Option.fromNullable(this.lastFailure), (last) => fromNanos(time - last)),
        sinceStateChange: fromNanos(time - state.since),
        wouldHaveTripped: this.wouldHaveTripped,
        ...(this.link === undefined ? {} : { shared: this.link.metrics() })
      }
    })
  }

  get image(): Effect.Effect<Image> {
    return Effect.map(this.read, (state) => imageOf(state, now()))
  }

  /** Whether forgetting this breaker loses nothing that protects. */
  unsafeForgettable(time: Nanos): boolean {
    const state = Effect.runSync(this.read)
    return state._tag === "Closed" && (state.rampUntil === undefined || state.rampUntil <= time) && this.running === 0
  }
}

const parseWait = parseDuration({ min: 0, infinite: true })

/** The time that a server names, through the user's function: anything else is that function's bug. */
const parseNamed = (input: Duration.DurationInput): Nanos => {
  try {
    return toNanos(parseWait(input))
  } catch {
    throw new Error(`it must give a duration of at least 0 ms, but gave ${show(input)}`)
  }
}

interface Refusal {
  readonly period: Period
  readonly reason: Reason
  readonly millis: number | undefined
  readonly exit: Exit.Exit<never, CircuitOpenError>
}

const isThrow = (cause: Cause.Cause<unknown>): cause is Cause.Cause<never> =>
  cause._tag === "Die" && cause.defect instanceof OptionThrewError

/** What a failure is about: the error, or the value that counts as one. */
const errorIn = (exit: Exit.Exit<unknown, unknown>): unknown =>
  exit._tag === "Failure" ? errorOf(exit.cause) : exit.value

const opened = (settlement: Settlement | Admission): boolean => settlement.change?.to === "Open"
