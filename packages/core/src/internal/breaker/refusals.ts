import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { CircuitOpenError } from "../../CircuitBreaker.js"
import type { Nanos } from "../time.js"
import { fromNanos } from "../time.js"
import type { Counts } from "./counts.js"
import type { Period, Reason } from "./state.js"
import type { Keyed, Watch } from "./watch.js"

interface Refusal {
  readonly period: Period
  readonly reason: Reason
  readonly millis: number | undefined
  readonly exit: Exit.Exit<never, CircuitOpenError>
}

/** Turns calls away. Rejections of the same millisecond share one error: it is what rejecting costs. @internal */
export class Refusals {
  private last: Refusal | undefined = undefined

  constructor(private readonly watch: Watch, private readonly counts: Counts, private readonly keyed: Keyed) {}

  /** `breaking` is what the circuit opened on. */
  refuse(
    period: Period,
    reason: Reason,
    wait: Nanos | undefined,
    breaking: unknown
  ): Exit.Exit<never, CircuitOpenError> {
    this.counts.rejected++
    this.watch.rejected(reason)
    const millis = wait === undefined ? undefined : Math.ceil(Number(wait) / 1e6)
    let { last } = this
    if (last === undefined || last.millis !== millis || last.period !== period || last.reason !== reason) {
      const retryAfter = Option.map(Option.fromNullable(millis), Duration.millis)
      last = { period, reason, millis, exit: Exit.fail(this.watch.error(reason, retryAfter, breaking)) }
      this.last = last
    }
    const { emitter } = this.watch
    if (emitter.listening) {
      const retryAfter = wait === undefined ? undefined : fromNanos(wait)
      emitter.emit({ _tag: "CallRejected", ...emitter.call(), ...this.keyed, reason, retryAfter })
    }
    return last.exit
  }
}
