import * as Duration from "effect/Duration"
import type { Outcome } from "../Outcome.js"
import { callMetrics } from "./calls.js"
import type { Permits } from "./permits.js"
import type { Nanos } from "./time.js"
import { fromNanos, toMillis } from "./time.js"

/** Where the calls are counted, too. @internal */
export interface Counters<Reason> {
  readonly counted: { readonly [O in Outcome]: () => void }
  readonly rejected: (reason: Reason) => void
  readonly canceled: () => void
  /** A call was let in, or left: what the sums of a keyed instance need. */
  readonly running?: (by: 1 | -1) => void
}

/** The calls of an instance that has permits, each counted once. @internal */
export class Tally<Reason> {
  private readonly ended = { success: 0, failure: 0, ignored: 0 }
  private running = 0
  private rejected = 0
  private canceled = 0
  private totalWait: Nanos = 0n

  constructor(private readonly counters: Counters<Reason>) {}

  admit(waited: Nanos): void {
    this.running++
    this.counters.running?.(1)
    if (waited > 0n) this.totalWait += waited
  }

  /** It was let in, and did not begin: it asks again. */
  revoke(waited: Nanos): void {
    this.running--
    this.counters.running?.(-1)
    this.totalWait -= waited
  }

  settle(outcome: Outcome): void {
    this.running--
    this.counters.running?.(-1)
    this.ended[outcome]++
    this.counters.counted[outcome]()
  }

  reject(reason: Reason): void {
    this.rejected++
    this.counters.rejected(reason)
  }

  cancel(): void {
    this.canceled++
    this.counters.canceled()
  }

  snapshot({ held, maxQueued, most: limit, peak, used, waiting }: Permits) {
    const { canceled, rejected, running } = this
    const { failure: failed, ignored, success: succeeded } = this.ended
    const calls = callMetrics({ canceled, failed, ignored, rejected, running, succeeded })
    return {
      limit,
      ...(held === undefined ? {} : { held }),
      active: used,
      peak,
      waiting,
      queueLimit: maxQueued,
      utilization: limit === 0 ? 0 : used / limit,
      ...calls,
      totalWait: fromNanos(this.totalWait),
      averageWait: calls.admitted === 0 ? Duration.zero : Duration.millis(toMillis(this.totalWait) / calls.admitted)
    }
  }
}
