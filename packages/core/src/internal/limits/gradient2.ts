import type { Limit } from "../../Limit.js"
import * as option from "../options.js"
import { boundsFields, clamp, isLatency, resolveLimit, wished } from "./bounds.js"
import type { Windowed } from "./windowed.js"
import { windowed, windowFields } from "./windowed.js"

/** @internal */
export const gradient2Fields = {
  ...boundsFields,
  ...windowFields,
  tolerance: option.number(1.5, { min: 1 }),
  queueSize: option.integer(4, { min: 0 }),
  smoothing: option.number(0.2, { above: 0, max: 1 }),
  longWindow: option.integer(600, { min: 1 })
} satisfies option.Fields<Limit.Gradient2Options>

/** Samples whose plain mean begins the long average. */
const warmUp = 10

/** @internal */
export interface Gradient2 {
  /** With fractions: without them small steps would be lost to the smoothing. */
  readonly limit: number
  readonly reason: string
  /** The long average of the latency, and the samples in it. */
  readonly long: number
  readonly samples: number
  readonly decreased: number
}

/**
 * The gradient between a long average of the latency and the latest. After `Gradient2Limit` of concurrency-limits, which
 * ignores losses: here one decreases the limit by a tenth, once per incident.
 *
 * @internal
 */
export const gradient2 = (options: Limit.Gradient2Options): Limit<Windowed<Gradient2>> => {
  const config = resolveLimit("gradient2", gradient2Fields, options)
  return windowed(perSample(config), config)
}

/** The formulas, without their window. @internal */
export const perSample = (config: ReturnType<typeof resolveLimit<typeof gradient2Fields>>): Limit<Gradient2> => {
  const factor = 2 / (config.longWindow + 1)
  const same = (state: Gradient2) => state
  return {
    name: "gradient2",
    initial: { limit: config.initialLimit, reason: "initial", long: 0, samples: 0, decreased: -Infinity },
    limit: (state) => Math.floor(state.limit),
    onAdmit: same,
    onReject: same,
    onSample: (before, { inFlight, latency }) => {
      if (!isLatency(latency) || latency === 0) return before
      const samples = Math.min(before.samples + 1, warmUp + 1)
      const average = before.samples < warmUp
        ? before.long + (latency - before.long) / samples
        : before.long + factor * (latency - before.long)
      // A long average that remembers an overload comes down faster than by its own weight.
      const long = average / latency > 2 ? average * 0.95 : average
      const state = { ...before, long, samples }
      if (inFlight + 1 < before.limit / 2) return state
      const gradient = Math.max(0.5, Math.min(1, config.tolerance * long / latency))
      const aim = before.limit * gradient + config.queueSize
      const limit = clamp(config, before.limit + config.smoothing * (aim - before.limit))
      if (limit === before.limit) return state
      return { ...state, limit, reason: limit > before.limit ? "growth" : "latency" }
    },
    onDrop: (state, { latency, now }) => {
      if (!Number.isFinite(now) || now - latency <= state.decreased) return state
      return { ...state, limit: clamp(config, state.limit * 0.9), reason: "losses", decreased: now }
    },
    onIgnore: same,
    // The long average holds the queues of its time: it is not the latency of an idle server.
    inspect: ({ reason }) => ({ reason }),
    resize: (state, wish) => ({ ...state, limit: wished(config, wish, state.limit), reason: "operator" })
  }
}
