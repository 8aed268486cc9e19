import * as Option from "effect/Option"
import type { CircuitBreaker } from "../../CircuitBreaker.js"
import type { Outcome } from "../../Outcome.js"
import type { Nanos } from "../time.js"
import { forever, fromNanos } from "../time.js"
import type { State } from "./state.js"
import { left, totals } from "./state.js"

/** All calls that a circuit ever saw. @internal */
export class Counts {
  succeeded = 0
  failed = 0
  ignored = 0
  rejected = 0
  running = 0
  /** How often a `MetricsOnly` circuit would have opened. */
  wouldHaveTripped = 0
  lastFailure: Nanos | undefined = undefined

  add(outcome: Outcome, time: Nanos): void {
    if (outcome === "success") this.succeeded++
    else if (outcome === "ignored") this.ignored++
    else {
      this.failed++
      this.lastFailure = time
    }
  }
}

/** @internal */
export const metricsOf = (state: State, counts: Counts, time: Nanos): Omit<CircuitBreaker.Metrics, "shared"> => {
  const { failed, ignored, lastFailure, rejected, running, succeeded, wouldHaveTripped } = counts
  const window = totals(state, time)
  const tally = state._tag === "Closed" || state._tag === "MetricsOnly" ? state.tally : undefined
  const admitted = succeeded + failed + ignored + running
  const rate = (part: number) => window.calls === 0 ? Option.none<number>() : Option.some(part / window.calls)
  return {
    state: state._tag,
    offered: admitted + rejected,
    admitted,
    rejected,
    succeeded,
    failed,
    ignored,
    running,
    consecutiveFailures: tally?.failuresInRow ?? 0,
    consecutiveSuccesses: tally?.successesInRow ?? (state._tag === "HalfOpen" ? state.succeeded : 0),
    window,
    failureRate: rate(window.failures),
    slowCallRate: rate(window.slow),
    opens: state.opens,
    openFor: state._tag === "Open" || state._tag === "ForcedOpen"
      ? Option.some(fromNanos(left(state, time) ?? forever))
      : Option.none(),
    sinceLastFailure: Option.map(Option.fromNullable(lastFailure), (last) => fromNanos(time - last)),
    sinceStateChange: fromNanos(time - state.since),
    wouldHaveTripped
  }
}
