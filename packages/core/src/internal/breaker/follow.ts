import type { Nanos } from "../time.js"
import { min } from "../time.js"
import type { Config, Settlement, State, Tag } from "./state.js"
import { changed, closed, command, halfOpen, isOverridden, open, unchanged, until } from "./state.js"

/*
 * How a circuit follows that of its fleet: pure transitions, as those of `state.ts`. The fleet makes a circuit stricter, or
 * ends early what it began. It does not end what the circuit found out by itself, nor what an operator did here.
 */

/** What is known of the circuit of the fleet; `Unknown` where it cannot be asked. @internal */
export interface View {
  readonly state: Tag | "Unknown"
  /**
   * How long it is open still; while it is half-open, how long it has no lease to give; while it is unknown, how long a
   * circuit that it opened stays so at most.
   */
  readonly left: Nanos
  /** How often it opened in a row. */
  readonly opens: number
  /** An operator brought it into this state. */
  readonly operator: boolean
  /** The epoch of what an operator did last. */
  readonly acted: number
}

const actionOf = { ForcedOpen: "forceOpen", Disabled: "disable", MetricsOnly: "metricsOnly" } as const

const same = (state: State): readonly [Settlement, State] => [unchanged, state]

const to = (state: State, next: State): readonly [Settlement, State] => [
  next._tag === state._tag ? unchanged : { change: changed(state, next, "Shared") },
  next
]

/** @internal */
export const follow = (config: Config, state: State, view: View, now: Nanos): readonly [Settlement, State] => {
  const probing = state._tag === "Open" || state._tag === "HalfOpen"
  // An operator's state ends by an operator, or with its time; one that is over is a closed circuit that no call has found.
  const isHeld = isOverridden(state) && (state.until > now || view.state === "Closed" || view.state === "Unknown")
  if (isHeld && !view.operator) return same(state)
  switch (view.state) {
    case "Unknown":
      if (!probing || !state.shared) return same(state)
      if (state._tag === "HalfOpen") return to(state, halfOpen(state, now, false))
      // It keeps its time, but for one that never was, and then probes alone.
      return to(state, { ...state, shared: false, until: min(state.until, until(now, view.left)) })
    case "Closed":
      if (state._tag === "Closed" || (probing && !state.shared && !view.operator)) return same(state)
      return to(state, closed(config, now, state.times, view.operator ? 0 : state.opens, !view.operator))
    case "Open": {
      const opened = { ...open(state, now, view.left, view.opens), shared: true }
      if (state._tag !== "Open") return to(state, opened)
      const later = !state.shared && state.until > opened.until ? state.until : opened.until
      return to(state, { ...state, until: later, opens: view.opens, shared: true })
    }
    case "HalfOpen": {
      if (state._tag === "Open" && !state.shared && now < state.until) return to(state, { ...state, shared: true })
      const half = state._tag === "HalfOpen" ? { ...state, shared: true } : halfOpen(state, now, true)
      return to(state, { ...half, opens: view.opens, fullUntil: now + view.left })
    }
    case "ForcedOpen":
    case "Disabled":
    case "MetricsOnly":
      // It keeps the end itself too: who would tell it may be gone by then.
      if (isOverridden(state) && state._tag === view.state) return to(state, { ...state, until: until(now, view.left) })
      return to(state, command(config, state, { _tag: actionOf[view.state], length: view.left }, now)[1])
  }
}
