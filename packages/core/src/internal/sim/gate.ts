import type { FairQueue } from "../../FairQueue.js"
import type { Limit } from "../../Limit.js"
import type { Simulation } from "../../testing.js"
import * as breaker from "../breaker/state.js"
import { DurationWindow } from "../breaker/window.js"
import { parseFair, shareOf } from "../fair.js"
import { FairWaiters } from "../fairWaiters.js"
import { Permits } from "../permits.js"
import { forever, type Nanos } from "../time.js"
import type { Share, Waiter } from "../waiters.js"
import { Waiters } from "../waiters.js"
import type { Agenda, Entry } from "./agenda.js"
import type { SeededRandom } from "./random.js"

/** @internal */
export const toNanos = (millis: number): Nanos => millis === Infinity ? forever : BigInt(Math.round(millis * 1e6))

/** A call before the gate or inside. @internal */
export interface Pass {
  readonly rank: number
  /** Whose call it is, where that is known. */
  readonly key?: string | undefined
  /** When its caller gives up. */
  readonly deadline: number
  /** Told once. */
  readonly onAdmitted: () => void
  readonly onRejected: () => void
  admittedAt: number
  share?: Share | undefined
  waiter?: Waiter
  patience?: Entry
  /** The same call, as what is further in sees it. */
  nested?: Pass
  probe?: { readonly period: breaker.Period; readonly start: Nanos } | undefined
}

/** How a call ended, as the patterns see it. @internal */
export type Ending = "success" | "failure" | "ignored"

/** What stands before a server. @internal */
export interface Gate {
  readonly enter: (pass: Pass) => boolean
  readonly leave: (pass: Pass, ending: Ending) => void
  /** The caller of one that waits went away. */
  readonly abandon: (pass: Pass) => void
  readonly observe: () => Simulation.GateState
}

/** Nothing stands before the server. @internal */
export class Open implements Gate {
  private inFlight = 0

  enter(pass: Pass): boolean {
    this.inFlight++
    pass.onAdmitted()
    return true
  }

  leave(): void {
    this.inFlight--
  }

  abandon(): void {}

  observe(): Simulation.GateState {
    return { limit: Infinity, inFlight: this.inFlight, waiting: 0, baseline: undefined, reason: "", circuit: "Closed" }
  }
}

/** The limit and its queue: the real algorithm, and the real pool of permits. @internal */
export class Limiter<State> implements Gate {
  private state: State
  private readonly permits: Permits
  private readonly maxWait: number
  private readonly fair: FairQueue.Options | undefined

  constructor(
    private readonly limit: Limit<State>,
    queue: Simulation.QueueOptions | undefined,
    private readonly agenda: Agenda,
    private readonly random: SeededRandom
  ) {
    this.state = limit.initial
    this.fair = parseFair(queue?.fair ?? false)
    const waiters = new (this.fair === undefined ? Waiters : FairWaiters)(queue?.order ?? "adaptive")
    this.permits = new Permits(limit.limit(this.state), queue?.size ?? 0, waiters)
    this.maxWait = queue?.maxWait ?? 100
  }

  enter(pass: Pass): boolean {
    const { limit, permits } = this
    const now = this.nanos()
    if (this.fair !== undefined) pass.share = shareOf("Simulation", "queue", this.fair, pass.key)
    const { share } = pass
    if (permits.take(1, pass.rank, () => now, share)) {
      this.admit(pass)
      this.fit()
      return true
    }
    this.state = limit.onReject(this.state, this.moment(permits.used))
    this.fit()
    // What can not be answered in time takes nobody's place.
    const baseline = limit.inspect(this.state).baseline ?? 0
    if (pass.deadline - this.agenda.now <= baseline || !permits.hasPlace(pass.rank, now, share)) {
      pass.onRejected()
      return false
    }
    const waiter: Waiter = {
      permits: 1,
      rank: pass.rank,
      share,
      place: "Waiting",
      before: undefined,
      behind: undefined,
      decide: (granted) => {
        if (pass.patience !== undefined) this.agenda.cancel(pass.patience)
        if (granted === true) this.admit(pass)
        else pass.onRejected()
      }
    }
    pass.waiter = waiter
    pass.patience = this.agenda.after(this.maxWait, () => {
      permits.abandon(waiter, this.nanos())
      pass.onRejected()
    })
    permits.enqueue(waiter, now)
    return false
  }

  leave(pass: Pass, ending: Ending): void {
    const { limit, permits } = this
    const moment = this.moment(permits.used - 1)
    const latency = this.agenda.now - pass.admittedAt
    this.state = ending === "success"
      ? limit.onSample(this.state, { ...moment, latency })
      : ending === "failure"
      ? limit.onDrop(this.state, { ...moment, latency })
      : limit.onIgnore(this.state, moment)
    // Before the permit goes on to the next: a limit that fell keeps it.
    this.fit()
    permits.release(1, this.nanos(), pass.share)
    this.fit()
  }

  abandon(pass: Pass): void {
    if (pass.patience !== undefined) this.agenda.cancel(pass.patience)
    if (pass.waiter !== undefined) this.permits.abandon(pass.waiter, this.nanos())
  }

  observe(): Simulation.GateState {
    const { baseline, reason } = this.limit.inspect(this.state)
    const { limit, used, waiting } = this.permits
    return { limit, inFlight: used, waiting, baseline, reason, circuit: "Closed" }
  }

  private admit(pass: Pass): void {
    pass.admittedAt = this.agenda.now
    this.state = this.limit.onAdmit(this.state, this.moment(this.permits.used))
    pass.onAdmitted()
  }

  /** Whoever is let in by a higher limit may change it again. */
  private fit(): void {
    for (
      let limit = this.limit.limit(this.state);
      limit !== this.permits.limit;
      limit = this.limit.limit(this.state)
    ) this.permits.resize(limit, this.nanos())
  }

  private moment(inFlight: number): Limit.Moment {
    return { now: this.agenda.now, inFlight, random: this.random.next() }
  }

  private nanos(): Nanos {
    return toNanos(this.agenda.now)
  }
}

/** A gate for each key. @internal */
export class PerKey implements Gate {
  private readonly gates = new Map<string | undefined, Gate>()

  constructor(private readonly make: () => Gate) {}

  enter(pass: Pass): boolean {
    return this.of(pass).enter(pass)
  }

  leave(pass: Pass, ending: Ending): void {
    this.of(pass).leave(pass, ending)
  }

  abandon(pass: Pass): void {
    this.of(pass).abandon(pass)
  }

  /** All of them together. */
  observe(): Simulation.GateState {
    const all = [...this.gates.values()].map((gate) => gate.observe())
    const sum = (of: "limit" | "inFlight" | "waiting") => all.reduce((total, gate) => total + gate[of], 0)
    return {
      limit: sum("limit"),
      inFlight: sum("inFlight"),
      waiting: sum("waiting"),
      baseline: undefined,
      reason: "",
      circuit: "Closed"
    }
  }

  private of({ key }: Pass): Gate {
    let gate = this.gates.get(key)
    if (gate === undefined) this.gates.set(key, gate = this.make())
    return gate
  }
}

/** A circuit breaker outside another gate, by the transitions of the real one. @internal */
export class Circuit implements Gate {
  private state: breaker.State
  private readonly config: breaker.Config

  constructor(
    private readonly options: Simulation.BreakerOptions,
    private readonly inner: Gate,
    private readonly agenda: Agenda,
    private readonly random: SeededRandom
  ) {
    const window = toNanos(options.window ?? 30_000)
    this.config = {
      consecutiveFailures: options.consecutiveFailures ?? 5,
      failureRate: options.failureRate ?? 0.5,
      slowCallDuration: undefined,
      slowCallRate: 1,
      minimumCalls: options.minimumCalls ?? 20,
      halfOpenMaxCalls: options.halfOpenMaxCalls ?? 3,
      successThreshold: options.successThreshold ?? 2,
      halfOpenTimeout: toNanos(10_000),
      rampUp: options.rampUp === undefined ? undefined : toNanos(options.rampUp),
      quietAfter: window,
      window: () => new DurationWindow(window)
    }
    this.state = breaker.closed(this.config, 0n, this.times(0), 0, false)
  }

  enter(pass: Pass): boolean {
    const now = toNanos(this.agenda.now)
    const [admission, next] = breaker.admit(this.config, this.state, now, this.random.next())
    this.become(next)
    if (admission._tag === "Rejected") {
      pass.onRejected()
      return false
    }
    pass.probe = { period: admission.period, start: now }
    pass.nested = {
      ...pass,
      onRejected: () => {
        // A probe that something further in turned away is given back.
        this.settle(pass, "ignored")
        pass.onRejected()
      }
    }
    return this.inner.enter(pass.nested)
  }

  leave(pass: Pass, ending: Ending): void {
    if (pass.nested !== undefined) this.inner.leave(pass.nested, ending)
    this.settle(pass, ending)
  }

  abandon(pass: Pass): void {
    if (pass.nested !== undefined) this.inner.abandon(pass.nested)
    this.settle(pass, "ignored")
  }

  observe(): Simulation.GateState {
    return { ...this.inner.observe(), circuit: this.state._tag }
  }

  private settle({ probe }: Pass, outcome: Ending): void {
    if (probe === undefined) return
    const result = { outcome, start: probe.start, slow: false, recorded: false, openFor: undefined }
    this.become(breaker.settle(this.config, this.state, probe.period, result, toNanos(this.agenda.now))[1])
  }

  private become(next: breaker.State): void {
    this.state = next.opens === this.state.opens ? next : { ...next, times: this.times(next.opens) }
  }

  /** Doubled from one opening to the next, and spread by a tenth. */
  private times(opens: number): breaker.OpenTimes {
    const { maxOpenDuration = 60_000, openDuration = 5000 } = this.options
    const spread = () => 0.9 + 0.2 * this.random.next()
    return {
      first: toNanos(openDuration * spread()),
      next: toNanos(Math.min(maxOpenDuration, openDuration * 2 ** opens) * spread())
    }
  }
}
