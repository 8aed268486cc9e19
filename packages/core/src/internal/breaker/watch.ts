import type * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import type { Option } from "effect/Option"
import type { CircuitBreaker, CircuitOpenError } from "../../CircuitBreaker.js"
import type { Outcome } from "../../Outcome.js"
import type { SharedCircuits } from "../../SharedCircuits.js"
import { errorOf } from "../errors.js"
import type { Emitter } from "../hub.js"
import type { Change, Reason } from "./state.js"
import type { Totals } from "./window.js"

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
  /** So many reports did not reach the fleet. */
  readonly dropped: (reports: number) => void
  /** What the rules look at, after a failure. */
  readonly window: (totals: Totals) => void
  readonly error: (reason: Reason, retryAfter: Option<Duration.Duration>, cause: unknown) => CircuitOpenError
}

/** What the events of a circuit say of its key. @internal */
export interface Keyed {
  readonly key?: string
}

/** What a failure is about: the error, or the value that counts as one. @internal */
export const errorIn = (exit: Exit.Exit<unknown, unknown>): unknown =>
  exit._tag === "Failure" ? errorOf(exit.cause) : exit.value
