import * as Duration from "effect/Duration"
import type { Limit } from "../../Limit.js"
import * as option from "../options.js"
import { isLatency } from "./bounds.js"

/** @internal */
export const windowFields = {
  windowTime: option.duration("1 second", { min: 0 }),
  windowSamples: option.integer(10, { min: 1 })
} satisfies option.Fields<Limit.WindowOptions>

/** @internal */
export interface Windowed<State> {
  readonly inner: State
  /** When the window is over at the earliest. */
  readonly until: number
  readonly samples: number
  readonly total: number
  readonly inFlight: number
  readonly dropped: boolean
}

/**
 * Gives an algorithm one sample per window: the mean latency, the most calls in flight, and whether any was lost. Single
 * samples of a service whose times vary say nothing about its queue. After `WindowedLimit` of concurrency-limits.
 *
 * @internal
 */
export const windowed = <State>(
  limit: Limit<State>,
  config: { readonly windowTime: Duration.Duration; readonly windowSamples: number }
): Limit<Windowed<State>> => {
  const time = Duration.toMillis(config.windowTime)
  const empty = { samples: 0, total: 0, inFlight: 0, dropped: false }
  const lift = (step: (state: State, at: Limit.Moment) => State) => (state: Windowed<State>, at: Limit.Moment) => {
    const inner = step(state.inner, at)
    return inner === state.inner ? state : { ...state, inner }
  }
  const settle = (state: Windowed<State>, sample: Limit.Sample, dropped: boolean): Windowed<State> => {
    if (!isLatency(sample.latency) || !Number.isFinite(sample.now)) return state
    const next = {
      inner: state.inner,
      until: state.until === -Infinity ? sample.now + time : state.until,
      samples: state.samples + 1,
      total: state.total + sample.latency,
      inFlight: Math.max(state.inFlight, sample.inFlight),
      dropped: state.dropped || dropped
    }
    if (sample.now < next.until || next.samples < config.windowSamples) return next
    const mean = { ...sample, latency: next.total / next.samples, inFlight: next.inFlight }
    const inner = next.dropped ? limit.onDrop(state.inner, mean) : limit.onSample(state.inner, mean)
    return { ...empty, inner, until: sample.now + time }
  }
  const { resize } = limit
  return {
    name: limit.name,
    initial: { ...empty, inner: limit.initial, until: -Infinity },
    limit: ({ inner }) => limit.limit(inner),
    onAdmit: lift(limit.onAdmit),
    onReject: lift(limit.onReject),
    onSample: (state, sample) => settle(state, sample, false),
    onDrop: (state, sample) => settle(state, sample, true),
    onIgnore: lift(limit.onIgnore),
    inspect: ({ inner }) => limit.inspect(inner),
    ...(resize && { resize: (state, wish) => ({ ...state, ...empty, inner: resize(state.inner, wish) }) })
  }
}
