import type { Bulkhead, BulkheadFullError } from "../../Bulkhead.js"
import type { Emitter } from "../hub.js"
import type { Instance } from "../instance.js"
import type { Lender } from "../lending.js"
import * as metric from "../metrics.js"
import type { Permits } from "../permits.js"
import type { Counters } from "../tally.js"

/** What a bulkhead tells, and to whom. Shared by the pools of a keyed instance. @internal */
export interface Watch extends Counters<Bulkhead.Reason> {
  readonly emitter: Emitter<Bulkhead.Event>
  readonly used: (pool: Permits) => void
  readonly queued: (pool: Permits) => void
  readonly waited: (seconds: number, result: "acquired" | "rejected" | "canceled") => void
  readonly limited: (limit: number) => void
  /** What all processes have together, where they share the permits. */
  readonly allowed: (most: number) => void
  readonly error: (reason: Bulkhead.Reason, active: number, waiting: number) => BulkheadFullError
}

/** Where the pools of an instance tell what happens: its events and metrics. @internal */
export const watchOf = (
  { emitter, enforced, name }: Instance<Bulkhead.Event>,
  single: boolean,
  errorOf: Watch["error"]
): Watch => {
  const labels = (more: Record<string, string> = {}) => metric.attributes("Bulkhead", name, more)
  const count = metric.calls("Bulkhead", name, enforced)
  const rejection = metric.rejections<Bulkhead.Reason>("Bulkhead", name, enforced)
  const limit = metric.gauge("resilience.bulkhead.limit", "Permits that there are", labels())
  const inUse = metric.gauge("resilience.bulkhead.in_use", "Permits in use", labels())
  const depth = metric.gauge("resilience.bulkhead.queue.depth", "Calls that wait", labels())
  const wait = (result: string) =>
    metric.seconds("resilience.bulkhead.wait.duration", "Time in the queue, of calls that waited", labels({ result }))
  const waits = { acquired: wait("acquired"), rejected: wait("rejected"), canceled: wait("canceled") }
  // Building an error is most of what a rejection costs, and a full bulkhead says the same to everybody.
  let last: BulkheadFullError | undefined
  return {
    emitter,
    counted: count,
    rejected: (reason) => {
      count.rejected()
      rejection(reason)
    },
    canceled: count.canceled,
    used: single ? (pool) => inUse(pool.used) : () => {},
    queued: single ? (pool) => depth(pool.waiting) : () => {},
    waited: (seconds, result) => waits[result](seconds),
    limited: single ? limit : () => {},
    allowed: () => {},
    error: (reason, active, waiting) =>
      last?.reason === reason && last.active === active && last.waiting === waiting ?
        last :
        (last = errorOf(reason, active, waiting))
  }
}

/**
 * The same where permits are lent, with a lender that hears what it needs to know. The limit has a series of its own: it is
 * that of all processes, and who adds up `resilience.bulkhead.limit` over them must not meet it.
 *
 * @internal
 */
export const heard = (watch: Watch, name: string, lender: () => Lender | undefined): Watch => ({
  ...watch,
  limited: metric.gauge(
    "resilience.bulkhead.shared.held",
    "Permits that this process holds",
    metric.attributes("Bulkhead", name)
  ),
  allowed: metric.gauge(
    "resilience.bulkhead.shared.limit",
    "Permits of all processes together, as each of them knows it",
    metric.attributes("Bulkhead", name)
  ),
  used: (pool) => {
    watch.used(pool)
    lender()?.used(pool.used)
  },
  queued: (pool) => {
    watch.queued(pool)
    lender()?.queued()
  }
})
