import * as Duration from "effect/Duration"
import type { Limit } from "../../Limit.js"
import * as option from "../options.js"
import { boundsFields, clamp, isLatency, resolveLimit, wished } from "./bounds.js"

/** @internal */
export const aimdFields = {
  ...boundsFields,
  increaseRate: option.number(1, { above: 0 }),
  decreaseFactor: option.number(0.9, { above: 0, max: 0.999 }),
  slowLatency: option.duration("5 seconds", { above: 0, infinite: true })
} satisfies option.Fields<Limit.AimdOptions>

/** @internal */
export interface Aimd {
  /** With fractions: `limit` rounds them down. */
  readonly limit: number
  readonly reason: string
  /** When the limit was last decreased: what was admitted before tells of the same incident. */
  readonly decreased: number
}

/**
 * Additive increase, multiplicative decrease: `limit + 1` for a success while at least half of the limit is in use,
 * `limit * 0.9` for a loss, as `AIMDLimit` of Netflix's concurrency-limits. Unlike there, one incident is one decrease:
 * calls that were in flight at the last one do not decrease again.
 *
 * @internal
 */
export const aimd = (options: Limit.AimdOptions): Limit<Aimd> => {
  const config = resolveLimit("aimd", aimdFields, options)
  const slow = Duration.toMillis(config.slowLatency)

  const decrease = (state: Aimd, { latency, now }: Limit.Sample): Aimd => {
    if (!Number.isFinite(now) || now - latency <= state.decreased) return state
    return { limit: clamp(config, Math.floor(state.limit * config.decreaseFactor)), reason: "losses", decreased: now }
  }
  const same = (state: Aimd) => state
  return {
    name: "aimd",
    initial: { limit: config.initialLimit, reason: "initial", decreased: -Infinity },
    limit: (state) => Math.floor(state.limit),
    onAdmit: same,
    onReject: same,
    onSample: (state, sample) => {
      if (!isLatency(sample.latency)) return state
      if (sample.latency > slow) return decrease(state, sample)
      const limit = 2 * (sample.inFlight + 1) >= state.limit
        ? clamp(config, state.limit + config.increaseRate)
        : state.limit
      return limit === state.limit ? state : { limit, reason: "growth", decreased: state.decreased }
    },
    onDrop: decrease,
    onIgnore: same,
    inspect: ({ reason }) => ({ reason }),
    resize: (state, wish) => ({ ...state, limit: wished(config, wish, state.limit), reason: "operator" })
  }
}
