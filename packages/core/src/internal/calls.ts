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
