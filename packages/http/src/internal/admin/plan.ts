import * as Predicate from "effect/Predicate"

/**
 * What an action does for a while: which setting of the instance it changes, and what puts that back as it was.
 *
 * @internal
 */
export interface Lasting {
  readonly setting: string
  readonly back: { readonly action: string; readonly input: unknown }
}

const field = (value: unknown, name: string): unknown => Predicate.hasProperty(value, name) ? value[name] : undefined

/** The state of a circuit, or of the one of a key: a keyed breaker lists those that are not closed. */
const stateOf = (metrics: object, key: unknown): unknown => {
  const circuits = field(metrics, "open")
  return Array.isArray(circuits)
    ? field(circuits.find((circuit) => field(circuit, "key") === key), "state")
    : field(metrics, "state")
}

const backToState = (state: unknown): string => {
  switch (state) {
    case "Disabled":
      return "disable"
    case "MetricsOnly":
      return "metricsOnly"
    case "ForcedOpen":
      return "forceOpen"
    default:
      return "reset"
  }
}

const millisOf: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1, ns: 1e-6 }

/** Reads a rate as the metrics of a limiter show it: `"100/1m 30s (burst 20)"`. @internal */
export const parseShownRate = (shown: string): ReadonlyArray<object> =>
  shown.split(", ").map((rate) => {
    const [, limit, span = "", burst] = /^(\d+)\/(.+?)(?: \(burst (\d+)\))?$/.exec(rate) ?? []
    const window = [...span.matchAll(/(\d+)(ms|ns|d|h|m|s)/g)]
      .reduce((sum, [, count, unit]) => sum + Number(count) * (millisOf[unit ?? ""] ?? 0), 0)
    return { limit: Number(limit), window, ...(burst === undefined ? {} : { burst: Number(burst) }) }
  })

/**
 * What an action changes and how it is put back, from the metrics before it. Nothing for what is done once and over:
 * `reset`, `drain`.
 *
 * @internal
 */
export const lastingOf = (pattern: string, action: string, input: unknown, metrics: object): Lasting | undefined => {
  const limit = { setting: "limit", back: { action, input: field(metrics, "limit") } }
  switch (`${pattern} ${action}`) {
    case "CircuitBreaker forceOpen":
    case "CircuitBreaker disable":
    case "CircuitBreaker metricsOnly": {
      const keyed = field(metrics, "open") !== undefined
      return {
        setting: settingOfState(input, keyed),
        back: { action: backToState(stateOf(metrics, input)), input: keyed ? input : undefined }
      }
    }
    case "Bulkhead resize":
    case "AdaptiveConcurrency setLimit":
      return limit
    case "RateLimiter setRate":
      return { setting: "rate", back: { action, input: parseShownRate(String(field(metrics, "rate"))) } }
    default:
      return undefined
  }
}

const settingOfState = (key: unknown, keyed: boolean) => keyed ? `state of ${JSON.stringify(key)}` : "state"

/** The setting that an action ends by being done once: a circuit that is reset is no longer forced open. @internal */
export const endedBy = (pattern: string, action: string, input: unknown, metrics: object): string | undefined =>
  pattern === "CircuitBreaker" && action === "reset"
    ? settingOfState(input, field(metrics, "open") !== undefined)
    : undefined
