import type { Simulation } from "../../testing.js"

/** The value that a share of the sorted ones does not exceed. @internal */
export const quantile = (sorted: ArrayLike<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? NaN

/** What happened between two moments. @internal */
export const summarize = (
  requests: ReadonlyArray<Simulation.Request>,
  samples: ReadonlyArray<Simulation.Sample>,
  from: number,
  to: number
): Simulation.Summary => {
  let offered = 0
  let answered = 0
  let attempts = 0
  let failures = 0
  let rejected = 0
  let sum = 0
  const latencies: Array<number> = []
  for (const { at, attempts: tried, end, failures: failed, outcome } of requests) {
    if (at >= from && at < to) {
      offered++
      attempts += tried
      failures += failed
      if (outcome === "ok") answered++
      else if (outcome === "rejected") rejected++
    }
    if (outcome === "ok" && end >= from && end < to) {
      sum += end - at
      latencies.push(end - at)
    }
  }
  const sorted = Float64Array.from(latencies).sort()
  const seen = samples.filter(({ at }) => at >= from && at < to)
  const mean = (value: (sample: Simulation.Sample) => number) =>
    seen.reduce((total, sample) => total + value(sample), 0) / seen.length
  return {
    offered,
    answered,
    rejected,
    failures,
    okShare: answered / offered,
    goodput: sorted.length / (to - from) * 1000,
    attemptsPerRequest: attempts / offered,
    mean: sum / sorted.length,
    p50: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    limit: mean(({ limit }) => limit),
    inFlight: mean(({ inFlight }) => inFlight),
    lag: mean(({ lag }) => lag)
  }
}
