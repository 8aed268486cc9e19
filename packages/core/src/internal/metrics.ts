import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import * as MetricLabel from "effect/MetricLabel"

/*
 * Names and attributes follow the OpenTelemetry conventions. A metric is made of a key that has its labels already: an
 * update then costs some nanoseconds, through `Metric.tagged` it costs microseconds, every time. A caller's key is never
 * an attribute.
 */

const labelsOf = (attributes: Readonly<Record<string, string>>) =>
  Object.entries(attributes).map(([key, value]) => MetricLabel.make(key, value))

/** A pattern and an instance as attributes. @internal */
export const attributes = (pattern: string, instance: string, more: Readonly<Record<string, string>> = {}) => ({
  "resilience.pattern": pattern,
  "resilience.name": instance,
  ...more
})

const none: ReadonlyArray<never> = []

/** Counts up. @internal */
export const counter = (name: string, description: string, labels: Readonly<Record<string, string>>) => {
  const key = MetricKey.counter(name, { description, incremental: true })
  const metric = Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labelsOf(labels)))
  return (by = 1): void => metric.unsafeUpdate(by, none)
}

/** Set on change. @internal */
export const gauge = (name: string, description: string, labels: Readonly<Record<string, string>>) => {
  const key = MetricKey.gauge(name, { description })
  const metric = Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labelsOf(labels)))
  return (value: number): void => metric.unsafeUpdate(value, none)
}

/** The bucket bounds of OpenTelemetry's HTTP durations, in seconds. @internal */
export const secondsBoundaries = MetricBoundaries.fromIterable([
  0.001,
  0.005,
  0.01,
  0.025,
  0.05,
  0.075,
  0.1,
  0.25,
  0.5,
  0.75,
  1,
  2.5,
  5,
  7.5,
  10,
  30
])

/** A histogram of seconds. @internal */
export const seconds = (name: string, description: string, labels: Readonly<Record<string, string>>) => {
  const key = MetricKey.histogram(name, secondsBoundaries, description)
  const metric = Metric.fromMetricKey(MetricKey.taggedWithLabels(key, labelsOf({ ...labels, unit: "s" })))
  return (value: number): void => metric.unsafeUpdate(value, none)
}

/** What `resilience.calls` says of a call. @internal */
export type CallOutcome = "success" | "failure" | "rejected" | "timeout" | "canceled" | "ignored"

/**
 * `resilience.calls` of an instance, a function per outcome. A series appears with its first call. Where rejections are not
 * enforced no call is rejected.
 *
 * @internal
 */
export const calls = (
  pattern: string,
  instance: string,
  enforced = true
): { readonly [K in CallOutcome]: () => void } => {
  const of = (outcome: CallOutcome) => {
    const count = counter("resilience.calls", "Calls by outcome", attributes(pattern, instance, { outcome }))
    return () => count()
  }
  return {
    success: of("success"),
    failure: of("failure"),
    rejected: enforced ? of("rejected") : () => {},
    timeout: of("timeout"),
    canceled: of("canceled"),
    ignored: of("ignored")
  }
}

/** `resilience.rejections` of an instance. @internal */
export const rejections = <Reason extends string>(pattern: string, instance: string, enforced = true) => {
  const counters = new Map<Reason, () => void>()
  return (reason: Reason): void => {
    let count = counters.get(reason)
    if (count === undefined) {
      const up = counter(
        "resilience.rejections",
        "Calls that a pattern did not let in, by reason",
        attributes(pattern, instance, { reason: snake(reason), enforced: String(enforced) })
      )
      counters.set(reason, count = () => up())
    }
    count()
  }
}

/** `HalfOpenFull` as `half_open_full`: attribute values are snake case. @internal */
export const snake = (text: string): string => text.replace(/(?<=[a-z0-9])[A-Z]/g, "_$&").toLowerCase()
