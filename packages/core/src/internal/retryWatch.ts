import * as Effect from "effect/Effect"
import type { Retry } from "../Retry.js"
import type { RetryBudget } from "../RetryBudget.js"
import type { Emitter } from "./hub.js"
import * as metric from "./metrics.js"
import type { LoopWatch } from "./retryLoop.js"
import type { Nanos } from "./time.js"
import { fromNanos, toSeconds } from "./time.js"

/** Where an instance tells what happens: its counters, metrics and events. @internal */
export const retryWatch = (
  name: string,
  emitter: Emitter<Retry.Event>,
  budget: RetryBudget.Service | undefined
): { readonly watch: LoopWatch; readonly metrics: Effect.Effect<Retry.Metrics> } => {
  const labels = (more: Record<string, string> = {}) => metric.attributes("Retry", name, more)
  const count = metric.calls("Retry", name)
  const rejection = metric.rejections<"BudgetExhausted">("Retry", name)
  const kind = (kind: string) => metric.counter("resilience.retry.calls", "Calls by how they ended", labels({ kind }))
  const kinds = {
    succeededFirst: kind("success_first"),
    succeededRetried: kind("success_retried"),
    failedWithoutRetry: kind("failed_no_retry"),
    failedExhausted: kind("failed_exhausted")
  }
  const retries = metric.counter("resilience.retry.attempts", "Retries", labels())
  const delay = (source: string) => metric.seconds("resilience.retry.delay", "Time before a retry", labels({ source }))
  const backoffDelay = delay("backoff")
  const namedDelay = delay("retry_after")

  const tally = {
    succeededFirst: 0,
    succeededRetried: 0,
    failedWithoutRetry: 0,
    failedExhausted: 0,
    ignored: 0,
    running: 0,
    retries: 0
  }
  const exhausted = { Attempts: 0, Duration: 0, Deadline: 0, Budget: 0, Aborted: 0 }
  let totalDelay: Nanos = 0n

  const watch: LoopWatch = {
    listening: () => emitter.listening,
    call: () => emitter.call(),
    running: (by) => {
      tally.running += by
    },
    first: () => {
      tally.succeededFirst++
      count.success()
      kinds.succeededFirst()
    },
    scheduled: ({ attempt, call, delay, error, maxAttempts, named }) => {
      tally.retries++
      totalDelay += delay
      retries()
      if (named) namedDelay(toSeconds(delay))
      else backoffDelay(toSeconds(delay))
      if (call !== undefined && emitter.listening) {
        emitter.emit({ _tag: "RetryScheduled", ...call, attempt, maxAttempts, delay: fromNanos(delay), error: error() })
      }
    },
    succeeded: (call, attempts) => {
      tally.succeededRetried++
      count.success()
      kinds.succeededRetried()
      if (call !== undefined && emitter.listening) emitter.emit({ _tag: "RetrySucceeded", ...call, attempts })
    },
    exhausted: ({ attempts, call, ending, error, reason }) => {
      exhausted[reason]++
      if (ending === "ignored") {
        tally.ignored++
        count.ignored()
      } else {
        const end = attempts === 1 ? "failedWithoutRetry" : "failedExhausted"
        tally[end]++
        count.failure()
        kinds[end]()
      }
      if (reason === "Budget") rejection("BudgetExhausted")
      if (call !== undefined && emitter.listening) {
        emitter.emit({ _tag: "RetryExhausted", ...call, attempts, error: error(), reason })
      }
    },
    canceled: () => {
      tally.ignored++
      count.canceled()
    }
  }

  const metrics = Effect.map(
    budget === undefined ? Effect.succeedNone : Effect.asSome(budget.available),
    (available): Retry.Metrics => {
      const succeeded = tally.succeededFirst + tally.succeededRetried
      const failed = tally.failedWithoutRetry + tally.failedExhausted
      const offered = succeeded + failed + tally.ignored + tally.running
      return {
        offered,
        admitted: offered,
        rejected: 0,
        succeeded,
        failed,
        ...tally,
        totalDelay: fromNanos(totalDelay),
        exhausted: { ...exhausted },
        budgetAvailable: available
      }
    }
  )
  return { watch, metrics }
}
