import { bulkheadUse, series } from "./metrics.js"

const by = "job, resilience_name"

const alert = (
  name: string,
  expr: string,
  wait: string,
  severity: "critical" | "warning" | "info",
  summary: string
) => ({
  alert: name,
  expr,
  for: wait,
  labels: { severity },
  annotations: { summary }
})

const called = "{{ $labels.resilience_name }} of {{ $labels.job }}"

/** What is worth waking somebody, and what is worth a look. */
export const alertRules = {
  groups: [{
    name: "effect-resilience",
    rules: [
      alert(
        "CircuitOpen",
        `max by (${by}) (${series("resilience.circuit_breaker.state")}{state="open"}) > 0`,
        "1m",
        "critical",
        `The circuit ${called} is open`
      ),
      alert(
        "CallsRejected",
        `sum by (${by}, resilience_pattern) (rate(${series("resilience.calls")}{outcome="rejected"}[5m])) / ` +
          `sum by (${by}, resilience_pattern) (rate(${series("resilience.calls")}[5m])) > 0.01`,
        "5m",
        "warning",
        `{{ $labels.resilience_pattern }} ${called} rejects {{ $value | humanizePercentage }} of its calls`
      ),
      alert(
        "RetryBudgetLow",
        `min by (${by}) (${series("resilience.retry.budget.available")}) < 0.1`,
        "1m",
        "warning",
        `The retry budget ${called} is nearly used up`
      ),
      alert(
        "BulkheadSaturated",
        `${bulkheadUse(by, series)} > 0.9`,
        "5m",
        "warning",
        `The bulkhead ${called} is nine tenths full`
      ),
      alert(
        "QueueSlow",
        `histogram_quantile(0.95, sum by (le, ${by}) (rate(${
          series("resilience.bulkhead.wait.duration")
        }_bucket[5m]))) > 0.1`,
        "5m",
        "warning",
        `Calls wait for {{ $value | humanizeDuration }} in the bulkhead ${called}`
      ),
      alert(
        "RedisDown",
        `min by (${by}) (${series("resilience.redis.up")}) < 1`,
        "1m",
        "critical",
        `Redis ${called} is down for a process at least`
      ),
      alert(
        "RedisRefusesWrites",
        `max by (${by}) (${series("resilience.redis.degraded")}) > 0`,
        "1m",
        "critical",
        `Redis ${called} refuses what is written: its memory is full, it is a replica, or rights are missing`
      ),
      alert(
        "BulkheadStoreUnavailable",
        `sum by (${by}) (rate(${
          series("resilience.rejections")
        }{resilience_pattern="Bulkhead",reason="store_unavailable"}[5m])) > 0`,
        "1m",
        "warning",
        `The bulkhead ${called} turns calls away, as it cannot ask for permits`
      ),
      alert(
        "BulkheadLeasesLost",
        `sum by (${by}) (rate(${series("resilience.bulkhead.leases.lost")}[5m])) > 0`,
        "0m",
        "warning",
        `The bulkhead ${called} lost leases while calls ran by them`
      ),
      alert(
        "EventsDropped",
        `sum by (${by}) (rate(${series("resilience.redis.events.dropped")}[5m])) > 0`,
        "1m",
        "warning",
        `Events of ${called} are not published`
      ),
      alert(
        "RateLimiterStoreFails",
        `sum by (${by}) (rate(${series("resilience.rate_limiter.decisions")}{result="store_error"}[5m])) > 0`,
        "1m",
        "warning",
        `The store of the rate limiter ${called} fails`
      ),
      alert(
        "IdempotencyStoreFails",
        `sum by (${by}) (rate(${series("resilience.idempotency.store_errors")}[5m])) > 0`,
        "1m",
        "warning",
        `The store of the idempotency keys ${called} fails`
      ),
      alert(
        "StaleStoreFails",
        `sum by (${by}) (rate(${series("resilience.cache.requests")}{result="store_error"}[5m])) > 0`,
        "1m",
        "warning",
        `The store of the last good responses ${called} fails`
      ),
      alert(
        "DryRunWouldReject",
        `sum by (${by}, resilience_pattern) (rate(${series("resilience.rejections")}{enforced="false"}[5m])) > 0`,
        "5m",
        "info",
        `{{ $labels.resilience_pattern }} ${called} would reject calls if it were enforced`
      ),
      alert(
        "PressureHigh",
        `max by (${by}) (${series("resilience.load.pressure")}) > 0.8`,
        "2m",
        "warning",
        `The service ${called} is under pressure`
      )
    ]
  }]
}
