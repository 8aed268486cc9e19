import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import type { Scope } from "effect/Scope"
import type { CircuitBreaker, CircuitOpenError } from "../../CircuitBreaker.js"
import type { Classify, Outcome } from "../../Outcome.js"
import { classify as defaultClassify, OptionThrewError } from "../../Outcome.js"
import type { Guard } from "../../Pattern.js"
import type { Registry } from "../../Registry.js"
import type { SharedCircuits } from "../../SharedCircuits.js"
import type { Handlers, Restore } from "../guard.js"
import { finish, hold, observe, onClose, read } from "../guard.js"
import type { KeyedTable } from "../keyed.js"
import type { Nanos } from "../time.js"
import { min, now, toMillis, toNanos } from "../time.js"
import { Counts, metricsOf } from "./counts.js"
import type { Flight } from "./flights.js"
import { Flights } from "./flights.js"
import type { View } from "./follow.js"
import { follow } from "./follow.js"
import { Hand } from "./hand.js"
import { Membership } from "./membership.js"
import type { OpenOn } from "./openOn.js"
import { readOpenOn } from "./openOn.js"
import type { OpenTimeline } from "./openTimes.js"
import { Drawing } from "./openTimes.js"
import { Refusals } from "./refusals.js"
import { askForLease, commandOf } from "./sharing.js"
import type { Admission, Change, Command, Config, Image, Period, Reason, Settlement, State, Tag } from "./state.js"
import { admit, command, imageOf, isOverridden, left, overdue, settle, totals, unchanged, wouldAdmit } from "./state.js"
import type { Keyed, Watch } from "./watch.js"
import { errorIn } from "./watch.js"

/** @internal */
export interface BreakerConfig extends Config {
  readonly classify: Classify
  readonly openOn: OpenOn | undefined
}

/** The key of a breaker, and the table that may forget it: a call that is only observed does not protect it. @internal */
export interface Home {
  readonly key: string
  readonly breakers: KeyedTable<Breaker>
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
  private readonly counts = new Counts()
  private readonly flights: Flights
  private readonly refusals: Refusals
  private readonly drawing: Drawing
  /** The last failure, and the one that the circuit opened on. */
  private latest: unknown = undefined
  private breaking: unknown = undefined
  private membership: Membership | undefined = undefined
  private readonly hand = new Hand()

  constructor(
    readonly config: BreakerConfig,
    timeline: OpenTimeline,
    private readonly watch: Watch,
    initial: State,
    scope: Scope,
    private readonly home?: Home
  ) {
    this.birth = { state: initial._tag, period: initial.period }
    this.ref = Ref.unsafeMake(initial)
    this.read = Ref.get(this.ref)
    this.keyed = home === undefined ? {} : { key: home.key }
    this.flights = new Flights(config.slowCallDuration, watch, this.counts, this.keyed)
    this.refusals = new Refusals(watch, this.counts, this.keyed)
    this.drawing = new Drawing(this.ref, timeline, scope, (error) => watch.emitter.internalError("Option", error))
    this.held = this.guardBy(config.classify)
    this.guard = observe(this.read, (state) => this.choose(state))
  }

  /** The state and the period that it began with. */
  readonly birth: { readonly state: Tag; readonly period: Period }
  readonly read: Effect.Effect<State>
  readonly guard: Guard<CircuitOpenError>
  private readonly keyed: Keyed

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
    const { counts } = this
    const { success } = this.watch.counted
    return {
      onSuccess: plain
        ? (value) => {
          const time = now()
          if (tally.completes(time) || this.heir !== undefined) {
            return this.conclude(period, undefined, Exit.succeed(value))
          }
          tally.success(time)
          counts.succeeded++
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
          // A dependency that hangs must not hide behind its silence.
          const [late, current] = overdue(this.config, state, time, this.flights.overdue(state.period, time))
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
            : onAdmitted(this.flights.depart(admission.period, time))
          return opened(late) || opened(admission) ? Effect.zipRight(this.drawing.begin, result) : result
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
        : onAdmitted(this.flights.depart(period, start, lease)))
  }

  private conclude<A, E>(
    period: Period,
    flight: Flight | undefined,
    exit: Exit.Exit<A, E>,
    classify = this.config.classify
  ): Effect.Effect<A, E> {
    const reading = read(classify, exit, "CircuitBreaker", this.watch.instance)
    const openFor = typeof reading === "string" ? readOpenOn(this.config.openOn, exit, this.watch.instance) : undefined
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
      if (flight !== undefined) this.flights.handOver(flight, heir.counts)
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
        const slow = flight !== undefined && this.flights.isSlow(flight, time, outcome, exit)
        const result = { outcome, start: flight?.start, slow, recorded: flight?.recorded === true, openFor }
        const [settlement, next] = settle(this.config, state, period, result, time)
        return [{ settlement, slow, time, window: totals(state, time), closed: state._tag === "Closed" }, next]
      }),
      ({ closed, settlement, slow, time, window }) => {
        const millis = openFor === undefined ? undefined : toMillis(openFor)
        flight?.lease?.settle(slow && outcome === "success" ? "failure" : outcome, millis)
        this.watch.counted[outcome]()
        this.counts.add(outcome, time)
        if (outcome === "failure") {
          this.watch.window(window)
          this.latest = errorIn(exit)
          if (closed) this.link?.failed()
        }
        if (opened(settlement)) this.breaking = this.breakingOf(settlement, outcome, exit)
        if (flight !== undefined) this.flights.land(flight, outcome, exit, settlement.tripped !== undefined, time)
        this.report(settlement)
        return opened(settlement) ? Effect.zipRight(this.drawing.begin, result) : result
      }
    )
  }

  /** A success that is slow, or completes a bad window, is not what the circuit opened on. */
  private breakingOf({ tripped }: Settlement, outcome: Outcome, exit: Exit.Exit<unknown, unknown>): unknown {
    if (tripped === undefined) return this.breaking
    if (tripped === "FailureRate") return this.latest
    return exit._tag === "Failure" || outcome === "failure" || tripped === "OpenOn" ? errorIn(exit) : undefined
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
    if (stands) this.membership?.join()
    return stands
  }

  /** From now on it follows the fleet, if there is one, until `leave`. */
  join(fleet: SharedCircuits.Service | undefined): void {
    if (fleet === undefined) return
    const read = () => Effect.runSync(this.read)
    this.membership ??= new Membership(fleet, this.watch, this.keyed, this.config, read, this.follow)
    this.membership.join()
  }

  leave(): void {
    this.membership?.leave()
  }

  private get link(): SharedCircuits.Link | undefined {
    return this.membership?.link
  }

  private readonly follow = (view: View): Effect.Effect<void> => {
    this.hand.hears(view.acted)
    return Effect.flatMap(
      Ref.modify(this.ref, (own) => {
        const [settlement, next] = follow(this.config, own, view, now())
        return [{ settlement, isUsedUp: next.opens !== own.opens }, next]
      }),
      ({ isUsedUp, settlement }) => {
        this.report(settlement)
        return isUsedUp ? this.drawing.begin : Effect.void
      }
    )
  }

  private report({ change, tripped }: Settlement): void {
    const { emitter } = this.watch
    if (change !== undefined) {
      if (change.to === "Closed") this.breaking = this.latest = undefined
      if (!this.stands(change)) return
      this.watch.changed(change)
      if (emitter.listening) emitter.emit({ _tag: "StateChanged", ...this.keyed, ...change })
      // Last: it may tell the circuit at once of what is the next change then.
      this.link?.changed(change)
    } else if (tripped !== undefined) {
      this.counts.wouldHaveTripped++
      if (emitter.listening) emitter.emit({ _tag: "WouldHaveTripped", ...this.keyed, cause: tripped })
    }
  }

  private refuse(period: Period, reason: Reason, wait: Nanos | undefined): Exit.Exit<never, CircuitOpenError> {
    return this.refusals.refuse(period, reason, wait, this.breaking)
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

  /** An operator's action. It lasts for `lasts` at most. */
  readonly command = (
    action: Command,
    { actor, lasts = Duration.infinity }: {
      readonly actor?: string | undefined
      readonly lasts?: Duration.Duration | undefined
    } = {}
  ): Effect.Effect<Registry.Reach> => {
    const bounded = action._tag === "reset" ? action : { ...action, length: min(action.length, toNanos(lasts)) }
    return Effect.flatMap(
      Ref.modify(this.ref, (state) => command(this.config, state, bounded, now())),
      (settlement) => {
        const { emitter } = this.watch
        const taken = this.hand.acts()
        this.breaking = this.latest = undefined
        if (action._tag === "reset" && emitter.listening) emitter.emit({ _tag: "Reset", ...this.keyed, actor })
        this.report(settlement)
        const { link } = this
        const fleet = link === undefined ? Effect.succeed(false) : link.command(commandOf(bounded))
        const reach = Effect.map(fleet, (reached): Registry.Reach => {
          if (reached) taken()
          return reached ? "fleet" : "process"
        })
        return Effect.zipRight(this.drawing.begin, reach)
      }
    )
  }

  /** What stands by an operator's hand. What is over ends now, as for a call. */
  get standing(): Effect.Effect<Registry.Standing> {
    const end = Effect.map(
      Ref.modify(this.ref, (state): readonly [Admission | Settlement, State] => {
        const time = now()
        return isOverridden(state) && state.until <= time ? admit(this.config, state, time, 0) : [unchanged, state]
      }),
      (ended) => this.report(ended)
    )
    return Effect.map(Effect.zipRight(end, this.read), (state) => this.hand.standing(state))
  }

  get metrics(): Effect.Effect<CircuitBreaker.Metrics> {
    return Effect.map(this.read, (state) => ({
      ...metricsOf(state, this.counts, now()),
      ...(this.link === undefined ? {} : { shared: this.link.metrics() })
    }))
  }

  get image(): Effect.Effect<Image> {
    return Effect.map(this.read, (state) => imageOf(state, now()))
  }

  /** Whether forgetting this breaker loses nothing that protects. */
  unsafeForgettable(time: Nanos): boolean {
    const state = Effect.runSync(this.read)
    return state._tag === "Closed" && (state.rampUntil === undefined || state.rampUntil <= time) &&
      this.counts.running === 0
  }
}

const isThrow = (cause: Cause.Cause<unknown>): cause is Cause.Cause<never> =>
  cause._tag === "Die" && cause.defect instanceof OptionThrewError

const opened = (settlement: Settlement | Admission): boolean => settlement.change?.to === "Open"
