import type { Outcome } from "../Outcome.js"
import type { CallMetrics } from "../Pattern.js"

/** What a pattern counts itself; the rest of `CallMetrics` follows. @internal */
export type Counts = Omit<CallMetrics, "offered" | "admitted" | "rejectionRate">

/** @internal */
export const callMetrics = ({ canceled, failed, ignored, rejected, running, succeeded }: Counts): CallMetrics => {
  const admitted = succeeded + failed + ignored + running
  const offered = admitted + rejected
  return {
    offered,
    admitted,
    rejected,
    canceled,
    succeeded,
    failed,
    ignored,
    running,
    rejectionRate: offered === 0 ? 0 : rejected / offered
  }
}

/** Of a pattern that lets everything through and counts nothing. @internal */
export const noCalls: CallMetrics = callMetrics({
  canceled: 0,
  failed: 0,
  ignored: 0,
  rejected: 0,
  running: 0,
  succeeded: 0
})

/** What the keys of an instance tell of their calls. */
interface Told {
  readonly counted: { readonly [O in Outcome]: () => void }
  readonly rejected: (reason: never) => void
  readonly canceled: () => void
}

/**
 * Adds up what the keys of an instance tell, beside telling it on. The sums outlive the keys that are forgotten, so that
 * they never fall.
 *
 * @internal
 */
export const addUp = <W extends Told>(watch: W) => {
  const sums = { canceled: 0, failed: 0, ignored: 0, rejected: 0, running: 0, succeeded: 0 }
  const also =
    <Args extends ReadonlyArray<never>>(name: keyof typeof sums, tell: (...args: Args) => void) => (...args: Args) => {
      sums[name]++
      tell(...args)
    }
  const { canceled, counted, rejected } = watch
  return {
    watch: {
      ...watch,
      counted: {
        success: also("succeeded", counted.success),
        failure: also("failed", counted.failure),
        ignored: also("ignored", counted.ignored)
      },
      rejected: also("rejected", rejected),
      canceled: also("canceled", canceled),
      running: (by: 1 | -1) => {
        sums.running += by
      }
    },
    metrics: (): CallMetrics => callMetrics(sums)
  }
}
