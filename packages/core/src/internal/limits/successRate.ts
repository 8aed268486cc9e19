import * as Duration from "effect/Duration"
import type { Limit } from "../../Limit.js"
import * as option from "../options.js"
import { boundsFields, clamp, resolveLimit, wished } from "./bounds.js"

/** @internal */
export const successRateFields = {
  ...boundsFields,
  increaseRate: option.number(1, { above: 0 }),
  decreaseFactor: option.number(0.9, { above: 0, max: 0.999 }),
  measurementWindow: option.integer(100, { min: 1 }),
  measurementTime: option.duration("1 minute", { above: 0, infinite: true }),
  successThreshold: option.number(0.95, { min: 0, max: 1 }),
  failureThreshold: option.number(0.8, { min: 0, max: 1 })
} satisfies option.Fields<Limit.SuccessRateOptions>

/** @internal */
export interface SuccessRate {
  readonly limit: number
  readonly reason: string
  readonly succeeded: number
  readonly failed: number
  /** When the window began, and whether the limit was reached in it. */
  readonly since: number
  readonly bound: boolean
  /** When the limit was last decreased: what was admitted before tells of the same incident. */
  readonly decreased: number
}

/**
 * Additive increase, multiplicative decrease by the rate of successes, as aioresilience has it. Unlike there, the limit
 * grows only where it was reached, one incident is one decrease, both thresholds are met by the rate that they name, and a
 * window ends with its time.
 *
 * @internal
 */
export const successRate = (options: Limit.SuccessRateOptions): Limit<SuccessRate> => {
  const config = resolveLimit("successRate", successRateFields, options)
  if (config.successThreshold <= config.failureThreshold) {
    const above = `above failureThreshold (${config.failureThreshold})`
    throw new option.InvalidOptionError("Limit", "successRate", "successThreshold", config.successThreshold, above)
  }
  const time = Duration.toMillis(config.measurementTime)

  const reached = (state: SuccessRate): SuccessRate => state.bound ? state : { ...state, bound: true }
  const same = (state: SuccessRate) => state

  const begin = (state: SuccessRate, now: number): SuccessRate => ({
    ...state,
    succeeded: 0,
    failed: 0,
    since: now,
    bound: false
  })
  const settle = (before: SuccessRate, { latency, now }: Limit.Sample, success: boolean): SuccessRate => {
    if (!Number.isFinite(now) || now - latency <= before.decreased) return before
    const state = now - before.since > time ? { ...begin(before, now), bound: before.bound } : before
    const succeeded = state.succeeded + (success ? 1 : 0)
    const failed = state.failed + (success ? 0 : 1)
    if (succeeded + failed < config.measurementWindow) return { ...state, succeeded, failed }
    const rate = succeeded / (succeeded + failed)
    const next = begin(state, now)
    if (rate >= config.successThreshold) {
      const limit = state.bound ? clamp(config, state.limit + config.increaseRate) : state.limit
      return limit === state.limit ? next : { ...next, limit, reason: "successes" }
    }
    if (rate > config.failureThreshold) return next
    const limit = clamp(config, Math.floor(state.limit * config.decreaseFactor))
    return { ...next, limit, reason: "losses", decreased: now }
  }
  return {
    name: "successRate",
    initial: {
      limit: config.initialLimit,
      reason: "initial",
      succeeded: 0,
      failed: 0,
      since: -Infinity,
      bound: false,
      decreased: -Infinity
    },
    limit: (state) => Math.floor(state.limit),
    onAdmit: (state, { inFlight }) => inFlight >= Math.floor(state.limit) ? reached(state) : state,
    onReject: reached,
    onSample: (state, sample) => settle(state, sample, true),
    onDrop: (state, sample) => settle(state, sample, false),
    onIgnore: same,
    inspect: ({ reason }) => ({ reason }),
    resize: (state, wish) => ({ ...state, limit: wished(config, wish, state.limit), reason: "operator" })
  }
}
