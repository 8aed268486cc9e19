import * as Cause from "effect/Cause"
import type * as Exit from "effect/Exit"
import type { Outcome } from "../../Outcome.js"
import type { SharedCircuits } from "../../SharedCircuits.js"
import type { Call } from "../event.js"
import type { Nanos } from "../time.js"
import { fromNanos } from "../time.js"
import type { Counts } from "./counts.js"
import type { Period } from "./state.js"
import type { Keyed, Watch } from "./watch.js"
import { errorIn } from "./watch.js"

/**
 * A call that a breaker keeps an eye on: a probe, one of a circuit that counts slow calls, or one that is listened to.
 *
 * @internal
 */
export interface Flight {
  readonly period: Period
  readonly start: Nanos
  readonly call: Call | undefined
  /** Of a probe of the fleet. */
  readonly lease: SharedCircuits.Lease | undefined
  /** Recorded as slow while it runs. */
  recorded: boolean
}

/** The calls that a breaker keeps an eye on until their end. @internal */
export class Flights {
  /** Those that may become slow, in the order of their departure. */
  private readonly timed = new Set<Flight>()

  constructor(
    private readonly slowAfter: Nanos | undefined,
    private readonly watch: Watch,
    private readonly counts: Counts,
    private readonly keyed: Keyed
  ) {}

  depart(period: Period, start: Nanos, lease?: SharedCircuits.Lease): Flight {
    const { emitter } = this.watch
    const call = emitter.listening ? emitter.call() : undefined
    const flight: Flight = { period, start, call, lease, recorded: false }
    this.counts.running++
    this.watch.running?.(1)
    if (this.slowAfter !== undefined) this.timed.add(flight)
    return flight
  }

  /** How many calls of a period have become slow since it was last asked. From now on they are recorded. */
  overdue(period: Period, time: Nanos): number {
    let calls = 0
    if (this.slowAfter === undefined) return calls
    for (const flight of this.timed) {
      if (time - flight.start < this.slowAfter) break // the rest departed later
      this.timed.delete(flight)
      if (flight.period !== period) continue
      flight.recorded = true
      calls++
    }
    return calls
  }

  isSlow({ start }: Flight, time: Nanos, outcome: Outcome, exit: Exit.Exit<unknown, unknown>): boolean {
    return this.slowAfter !== undefined && time - start >= this.slowAfter &&
      (outcome !== "ignored" || (exit._tag === "Failure" && Cause.isInterruptedOnly(exit.cause)))
  }

  /** It ends as a call of the circuit that took this one's place. */
  handOver(flight: Flight, to: Counts): void {
    this.counts.running--
    this.timed.delete(flight)
    to.running++
  }

  land(flight: Flight, outcome: Outcome, exit: Exit.Exit<unknown, unknown>, tripped: boolean, time: Nanos): void {
    this.counts.running--
    this.watch.running?.(-1)
    this.timed.delete(flight)
    const { emitter } = this.watch
    if (flight.call === undefined || !emitter.listening) return
    const call = { ...flight.call, ...this.keyed, duration: fromNanos(time - flight.start) }
    if (outcome === "success") emitter.emit({ _tag: "CallSucceeded", ...call })
    else if (outcome === "ignored") emitter.emit({ _tag: "CallIgnored", ...call })
    else emitter.emit({ _tag: "CallFailed", ...call, error: errorIn(exit), tripped })
  }
}
