import type { Type } from "../../src/internal/prometheusNames.js"
import { metricName } from "../../src/internal/prometheusNames.js"

/** The metrics that dashboards and alerts are made of: kind and unit by name. */
const definitions = {
  "resilience.calls": ["counter"],
  "resilience.rejections": ["counter"],
  "resilience.circuit_breaker.state": ["gauge"],
  "resilience.circuit_breaker.transitions": ["counter"],
  "resilience.circuit_breaker.failure_ratio": ["gauge"],
  "resilience.circuit_breaker.slow_ratio": ["gauge"],
  "resilience.retry.calls": ["counter"],
  "resilience.retry.attempts": ["counter"],
  "resilience.retry.delay": ["histogram", "s"],
  "resilience.retry.budget.available": ["gauge"],
  "resilience.bulkhead.limit": ["gauge"],
  "resilience.bulkhead.shared.limit": ["gauge"],
  "resilience.bulkhead.in_use": ["gauge"],
  "resilience.bulkhead.queue.limit": ["gauge"],
  "resilience.bulkhead.queue.depth": ["gauge"],
  "resilience.bulkhead.wait.duration": ["histogram", "s"],
  "resilience.adaptive.limit": ["gauge"],
  "resilience.adaptive.in_flight": ["gauge"],
  "resilience.adaptive.queue.depth": ["gauge"],
  "resilience.adaptive.wait.duration": ["histogram", "s"],
  "resilience.backpressure.pending": ["gauge"],
  "resilience.backpressure.waiting": ["gauge"],
  "resilience.backpressure.active": ["gauge"],
  "resilience.load_shedder.limit": ["gauge"],
  "resilience.load_shedder.in_flight": ["gauge"],
  "resilience.load_shedder.queue.depth": ["gauge"],
  "resilience.load_shedder.level": ["gauge"],
  "resilience.load.pressure": ["gauge"],
  "resilience.rate_limiter.decisions": ["counter"],
  "resilience.rate_limiter.wait.duration": ["histogram", "s"],
  "resilience.rate_limiter.keys": ["gauge"],
  "resilience.fallback.calls": ["counter"],
  "resilience.cache.requests": ["counter"],
  "resilience.cache.entries": ["gauge"],
  "resilience.cache.bytes": ["gauge"],
  "resilience.idempotency.requests": ["counter"],
  "resilience.idempotency.store_errors": ["counter"],
  "resilience.idempotency.keys": ["gauge"],
  "resilience.idempotency.bytes": ["gauge"],
  "resilience.redis.up": ["gauge"],
  "resilience.redis.degraded": ["gauge"],
  "resilience.redis.processes": ["gauge"],
  "resilience.redis.pending": ["gauge"],
  "resilience.redis.errors": ["counter"],
  "resilience.redis.round_trips": ["counter"],
  "resilience.redis.command.duration": ["histogram", "s"],
  "resilience.redis.events.dropped": ["counter"],
  "resilience.bulkhead.leases.lost": ["counter"],
  "http.server.request.duration": ["histogram", "s"],
  "http.server.active_requests": ["gauge"]
} as const satisfies Record<string, readonly [Type, string?]>

export type Name = keyof typeof definitions

/** The name of a metric in a scrape. */
export const series = (name: Name): string => {
  const [type, unit] = definitions[name] as readonly [Type, string?]
  return metricName(name, type, unit)
}

/**
 * The limits of bulkheads. Each process has its own, and they add up; but where processes share the permits, each of them
 * tells the limit of all.
 */
export const bulkheadLimit = (by: string, of: (name: Name) => string): string =>
  `sum by (${by}) (${of("resilience.bulkhead.limit")}) or max by (${by}) (${of("resilience.bulkhead.shared.limit")})`

/** What bulkheads use of their limits. */
export const bulkheadUse = (by: string, of: (name: Name) => string): string =>
  `sum by (${by}) (${of("resilience.bulkhead.in_use")}) / (${bulkheadLimit(by, of)})`

/** All of them, in a scrape. */
export const all: ReadonlyArray<string> = (Object.keys(definitions) as Array<Name>).map(series)
