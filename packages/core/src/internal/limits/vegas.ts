import type { Limit } from "../../Limit.js"
import type * as option from "../options.js"
import { boundsFields, clamp, isLatency, resolveLimit, wished } from "./bounds.js"
import type { Windowed } from "./windowed.js"
import { windowed, windowFields } from "./windowed.js"

/** @internal */
export const vegasFields = { ...boundsFields, ...windowFields } satisfies option.Fields<Limit.VegasOptions>

/** @internal */
export interface Vegas {
  readonly limit: number
  readonly reason: string
  /** The least latency since the last probe; `0` while nothing is known. */
  readonly idle: number
  /** Samples until the least latency is measured anew. */
  readonly untilProbe: number
}

/**
 * TCP Vegas: the queue is what the latency of an idle server does not explain, `limit * (1 - idle / latency)`. After
 * `VegasLimit` of concurrency-limits.
 *
 * @internal
 */
export const vegas = (options: Limit.VegasOptions): Limit<Windowed<Vegas>> => {
  const config = resolveLimit("vegas", vegasFields, options)
  return windowed(perSample(config), config)
}

/** The formulas, without their window. @internal */
export const perSample = (config: ReturnType<typeof resolveLimit<typeof vegasFields>>): Limit<Vegas> => {
  const same = (state: Vegas) => state
  const set = (state: Vegas, limit: number, reason: string): Vegas => {
    const next = clamp(config, limit)
    return next === state.limit ? state : { ...state, limit: next, reason }
  }
  const probeIn = (limit: number, random: number) => Math.ceil((0.5 + 0.5 * share(random)) * 30 * limit)
  return {
    name: "vegas",
    initial: { limit: config.initialLimit, reason: "initial", idle: 0, untilProbe: probeIn(config.initialLimit, 1) },
    limit: (state) => state.limit,
    onAdmit: same,
    onReject: same,
    onSample: (before, { inFlight, latency, random }) => {
      if (!isLatency(latency) || latency === 0) return before
      if (before.untilProbe <= 1) return { ...before, idle: latency, untilProbe: probeIn(before.limit, random) }
      const idle = before.idle === 0 ? latency : Math.min(before.idle, latency)
      const state = { ...before, idle, untilProbe: before.untilProbe - 1 }
      if (before.idle === 0 || latency < before.idle) return state
      const { limit } = state
      if (2 * (inFlight + 1) < limit) return state
      const queue = Math.ceil(limit * (1 - idle / latency))
      const step = stepOf(limit)
      if (queue <= step) return set(state, limit + 6 * step, "no queue")
      if (queue < 3 * step) return set(state, limit + step, "short queue")
      if (queue > 6 * step) return set(state, limit - step, "long queue")
      return state
    },
    onDrop: (state) => set(state, state.limit - stepOf(state.limit), "losses"),
    onIgnore: same,
    inspect: ({ idle, reason }) => ({ reason, baseline: idle === 0 ? undefined : idle }),
    resize: (state, wish) => set({ ...state, reason: "operator" }, wished(config, wish, state.limit), "operator")
  }
}

const stepOf = (limit: number): number => Math.max(1, Math.floor(Math.log10(limit)))

const share = (random: number): number => random >= 0 && random <= 1 ? random : 0.5
