import * as Duration from "effect/Duration"
import type { Limit } from "../../Limit.js"
import * as option from "../options.js"
import { boundsFields, clamp, isLatency, resolveLimit, wished } from "./bounds.js"

/** @internal */
export const kneeFields = {
  ...boundsFields,
  tolerance: option.number(2.5, { above: 0 }),
  dipDepth: option.number(0.7, { min: 0.1, max: 0.95 }),
  dipEvery: option.duration("10 seconds", { above: 0, infinite: true }),
  windowTime: option.duration("50 millis", { min: 0 }),
  windowSamples: option.integer(60, { min: 8 }),
  maxLosses: option.number(0.3, { above: 0, max: 1 })
} satisfies option.Fields<Limit.KneeOptions>

type Config = ReturnType<typeof resolveLimit<typeof kneeFields>> & { readonly every: number; readonly shortest: number }

/** What is decided, once a window. */
interface Control {
  /** The limit as it is learned, with fractions. */
  readonly learned: number
  /** The limit that holds: lower than the learned one during a dip. */
  readonly holds: number
  /** The latency of an idle server, `0` while nothing is known; measured in dips, and where the limit does not bind. */
  readonly baseline: number
  /** The latency now, smoothed over windows; `0` after a change, when the past says nothing. */
  readonly latency: number
  readonly phase: "free" | "drain" | "dip"
  /** Whether growth may be fast. */
  readonly slowStart: boolean
  /** Windows until the next dip may be suspected to be due. */
  readonly pause: number
  readonly lastDip: number
  readonly nextDip: number
  /** Durations of a dip until the next is due, at most `dipEvery`; doubled by each. `0` before the first window. */
  readonly pace: number
  /** The latency and concurrency that a dip is compared with, and when it began. */
  readonly before: {
    readonly latency: number
    readonly inFlight: number
    readonly at: number
    /** Whether it follows on a dip that found nothing but queue. */
    readonly again: boolean
  }
  /** The limit and the share of losses before the limit was cut for losses; nothing while it is not. */
  readonly cut: { readonly limit: number; readonly losses: number } | undefined
  /** The share of losses that come by themselves: a cut did not halve it. */
  readonly ownLosses: number
  readonly reason: string
  readonly elasticity: number | undefined
}

/** What is counted, from call to call. @internal */
export interface Knee {
  readonly control: Control
  /** When the window begins: it may lie ahead, for calls that still tell of what was before. */
  readonly since: number
  readonly ended: number
  readonly succeeded: number
  /** Of the latencies of those that succeeded. */
  readonly total: number
  readonly admitted: number
  readonly rejected: number
  readonly peak: number
  /** Calls in flight times milliseconds. */
  readonly area: number
  /** When the last thing happened, and the calls in flight since then. */
  readonly now: number
  readonly inFlight: number
}

/** A window with few calls ends after so many milliseconds, if it has so many of them. */
const longest = 2000
const fewest = 8
/** No window waits for more samples than these. */
const most = 400
/** Samples that a dip needs to tell a change of latency from chance. */
const dipSamples = 100
/** How many durations of a dip lie between the first and the second. */
const firstPace = 4
const slowest = 1024
/** Milliseconds between two dips that were suspected to be due. */
const cool = 500
/** A larger share of losses tells nothing of what a lower limit would do. */
const hopeless = 0.9
/** After a dip has lasted this long the comparison is worth nothing any more. */
const dipPatience = 5 * longest

/**
 * The knee of the latency curve. A latency baseline is never learned under load, where the queue would become normal; it
 * is measured by a shallow dip of the limit:
 *
 * - while the limit binds and latency is near the baseline, the limit grows; fast until latency is off it;
 * - when latency is off the baseline, and from time to time while the limit binds, the limit dips to `dipDepth` of what is
 *   in flight. By Little's law, `inFlight / latency` is the throughput, and times the latency of the dip it is the knee;
 * - one dip is but some hundred samples: the next ones come soon, then ever later, up to `dipEvery`, and sooner again
 *   after one that found another baseline;
 * - latency that did not move is the service's own: the limit grows fast, and the baseline is a new one;
 * - latency that fell in full proportion was queue: the limit stays down, and dips again from there;
 * - where the limit does not bind it holds, and the baseline follows slowly;
 * - losses cut it. Where a cut does not halve their share, and what succeeds is not slow, they come by themselves, and tell
 *   nothing of the load: the limit comes back, and only `maxLosses` of what they leave cuts it again. Where nothing
 *   succeeds that cannot be told, and the limit stays low. When losses end it comes back fast.
 *
 * What a queue may cost grows with the square root of the limit, as in staffing: `1 + tolerance / sqrt(limit)`.
 *
 * @internal
 */
export const knee = (options: Limit.KneeOptions): Limit<Knee> => {
  const resolved = resolveLimit("knee", kneeFields, options)
  const config: Config = {
    ...resolved,
    every: Duration.toMillis(resolved.dipEvery),
    shortest: Duration.toMillis(resolved.windowTime)
  }
  const control: Control = {
    learned: config.initialLimit,
    holds: config.initialLimit,
    baseline: 0,
    latency: 0,
    phase: "free",
    slowStart: true,
    pause: 0,
    lastDip: -Infinity,
    nextDip: 0,
    pace: 0,
    before: { latency: 0, inFlight: 0, at: 0, again: false },
    cut: undefined,
    ownLosses: 0,
    reason: "initial",
    elasticity: undefined
  }
  const end = (before: Knee, sample: Limit.Sample, success: boolean): Knee => {
    const state = settleDip(config, pass(before, sample))
    if (state.control.phase === "drain" || state.now < state.since || !isLatency(sample.latency)) return state
    const counted = {
      ...state,
      ended: state.ended + 1,
      succeeded: state.succeeded + (success ? 1 : 0),
      total: state.total + (success ? sample.latency : 0)
    }
    const span = counted.now - counted.since
    const samples = counted.control.phase === "dip" ? Math.max(dipSamples, config.windowSamples) : config.windowSamples
    const enough = Math.min(most, Math.max(samples, 0.75 * counted.control.holds))
    const isOver = (counted.ended >= enough && span >= config.shortest) || (span >= longest && counted.ended >= fewest)
    return isOver ? close(config, counted, span, share(sample.random)) : counted
  }
  return {
    name: "knee",
    initial: begin(control, { now: 0, inFlight: 0 }, 0),
    limit: (state) => Math.floor(state.control.holds),
    onAdmit: (before, at) => {
      const state = pass(before, at)
      return { ...state, admitted: state.admitted + 1, peak: Math.max(state.peak, state.inFlight) }
    },
    onReject: (before, at) => {
      const state = settleDip(config, pass(before, at))
      return { ...state, rejected: state.rejected + 1 }
    },
    onSample: (state, sample) => end(state, sample, true),
    onDrop: (state, sample) => end(state, sample, false),
    onIgnore: (before, at) => settleDip(config, pass(before, at)),
    inspect: ({ control }) => ({
      reason: control.reason,
      baseline: control.baseline === 0 ? undefined : control.baseline,
      elasticity: control.elasticity
    }),
    resize: (state, wish) => {
      const next = set(config, state.control, wished(config, wish, state.control.learned), "operator")
      return begin(
        { ...next, phase: "free", latency: 0, slowStart: false, cut: undefined, ownLosses: 0 },
        state,
        state.now
      )
    }
  }
}

/** Time passes: the calls in flight are weighed by how long they were. Time that runs backwards stands still. */
const pass = (state: Knee, at: Limit.Moment): Knee => {
  const now = at.now > state.now && at.now < Infinity ? at.now : state.now
  const inFlight = at.inFlight >= 0 && at.inFlight < Infinity ? at.inFlight : state.inFlight
  const from = Math.max(state.now, state.since)
  const area = now > from ? state.area + state.inFlight * (now - from) : state.area
  // Time before the first call of a window is no part of it.
  const isEmpty = state.inFlight === 0 && state.ended === 0 && state.admitted === 0 && state.rejected === 0
  return { ...state, since: isEmpty ? Math.max(state.since, now) : state.since, area, now, inFlight }
}

/** A new window, which begins at `since`. */
const begin = (control: Control, { inFlight, now }: Pick<Knee, "now" | "inFlight">, since: number): Knee => ({
  control,
  since: Math.max(now, since),
  ended: 0,
  succeeded: 0,
  total: 0,
  admitted: 0,
  rejected: 0,
  peak: 0,
  area: 0,
  now,
  inFlight
})

const share = (random: number): number => random >= 0 && random <= 1 ? random : 0.5

/** The latencies that are tolerated at a limit, as multiples of the baseline, and how much above the knee it may be. */
const tolerated = ({ tolerance }: Config, limit: number) => {
  const queue = tolerance / Math.sqrt(Math.max(1, limit))
  return {
    high: Math.max(1.15, 1 + queue),
    low: Math.max(1.06, 1 + 0.4 * queue),
    suspect: Math.max(1.5, 1 + 2.4 * queue),
    growth: Math.max(1.05, 1 + 0.45 * queue + 1 / Math.max(1, limit))
  }
}

const set = (config: Config, control: Control, limit: number, reason: string): Control => {
  const learned = clamp(config, limit)
  return { ...control, learned, holds: learned, reason: learned === control.learned ? control.reason : reason }
}

/** Begins a dip, unless so little is in flight that there is nothing to compare. */
const dip = (config: Config, control: Control, state: Knee, latency: number, inFlight: number, again = false): Knee => {
  const limit = Math.max(config.minLimit, Math.floor(inFlight * config.dipDepth))
  if (limit >= Math.floor(inFlight)) {
    return begin({ ...control, phase: "free", baseline: latency, lastDip: state.now }, state, state.now)
  }
  const before = { latency, inFlight, at: state.now, again }
  return begin({ ...control, phase: "drain", holds: limit, before, reason: "dip" }, state, state.now)
}

/**
 * The dip is measured once no more is in flight than it allows: the first calls that end after a change are the short
 * ones. A dip that does not come to an end, because calls hang or traffic ceased, is given up.
 */
const settleDip = (config: Config, state: Knee): Knee => {
  const { control } = state
  if (control.phase === "free") return state
  if (state.now - control.before.at > dipPatience) {
    const free = { ...set(config, control, control.learned, control.reason), phase: "free" as const, latency: 0 }
    return begin(
      { ...free, reason: "dip over", lastDip: state.now, nextDip: state.now + config.every },
      state,
      state.now
    )
  }
  if (control.phase === "dip" || state.inFlight > control.holds) return state
  const { latency } = control.before
  const idle = control.baseline === 0 ? latency : Math.min(control.baseline, latency)
  // What is in flight now came while more was, and takes as long as it did then.
  return begin({ ...control, phase: "dip" }, state, state.now + Math.max(1.2 * idle, 0.85 * latency))
}

/** The end of a window: all decisions are made here. */
const close = (config: Config, state: Knee, span: number, random: number): Knee => {
  const { now } = state
  const losses = 1 - state.succeeded / state.ended
  const latency = state.total / state.succeeded
  const { baseline, cut, ownLosses } = state.control
  const isSlow = baseline > 0 && latency >= tolerated(config, state.control.learned).suspect * baseline
  if (cut !== undefined && losses > cut.losses / 2 && losses < hopeless && !isSlow) {
    const back = set(config, state.control, cut.limit, "losses stay")
    return begin({ ...back, cut: undefined, ownLosses: (losses + cut.losses) / 2, latency: 0 }, state, now + latency)
  }
  const own = losses > ownLosses / 2 ? ownLosses : 0
  if (state.succeeded === 0 || losses > own + (1 - own) * config.maxLosses) {
    return afterLosses(config, state, span, losses)
  }
  // The first calls to end are the short ones: they say nothing of the latency.
  if (state.control.pace === 0) return begin({ ...state.control, pace: firstPace }, state, now)
  const inFlight = span > 0 ? state.area / span : state.inFlight
  if (state.control.phase === "dip") return afterDip(config, state, latency, inFlight, random)

  const smooth = state.control.latency === 0
    ? latency
    : state.control.latency + 0.3 * (latency - state.control.latency)
  const control: Control = { ...state.control, latency: smooth, ownLosses: own }
  if (cut !== undefined) {
    const back = set(config, control, Math.max(control.learned, 0.7 * cut.limit), "losses ended")
    return begin(
      { ...back, cut: undefined, slowStart: true, nextDip: now + 3000, latency: 0 },
      state,
      now + latency
    )
  }
  const known = control.baseline === 0 ? { ...control, baseline: latency } : control
  return state.rejected > 0.02 * (state.rejected + state.admitted)
    ? whileBound(config, known, state, latency, inFlight)
    : whileFree(config, known, state, latency, inFlight)
}

const afterLosses = (config: Config, state: Knee, span: number, losses: number): Knee => {
  const { control, now } = state
  const inFlight = span > 0 ? state.area / span : state.inFlight
  const cut = control.cut ?? { limit: control.learned, losses }
  const limit = Math.max(0.2 * cut.limit, 0.7 * Math.min(control.learned, Math.max(inFlight, config.minLimit)))
  const next = set(config, control, limit, "losses")
  const wait = state.succeeded > 0 ? Math.min(250, state.total / state.succeeded) : 250
  return begin({ ...next, phase: "free", cut, latency: 0 }, state, now + wait)
}

const afterDip = (config: Config, state: Knee, latency: number, inFlight: number, random: number): Knee => {
  const { now } = state
  const { before } = state.control
  const ratio = before.latency > 0 ? Math.min(1, latency / before.latency) : 1
  const change = Math.log(before.inFlight / Math.max(1, inFlight))
  const measured = Math.log(before.latency / latency) / change
  const elasticity = Number.isFinite(measured) ? measured : 0
  const { growth } = tolerated(config, state.control.holds)
  const control: Control = {
    ...state.control,
    phase: "free",
    elasticity,
    lastDip: now,
    nextDip: now + Math.min(config.every, state.control.pace * (now - before.at)) * (1 + 0.2 * random),
    pace: Math.min(slowest, state.control.pace * 2)
  }
  if (elasticity > 0.75 && ratio < 0.85) {
    // Everything above was queue: stay down, and look again.
    const baseline = control.baseline === 0 ? latency : Math.min(control.baseline, latency)
    const down = set(config, { ...control, slowStart: false, baseline, latency }, growth * inFlight, "queue")
    return dip(config, down, state, latency, inFlight, true)
  }
  const near = Math.abs(latency - control.baseline) < 0.35 * control.baseline
  const baseline = near ? control.baseline + 0.5 * (latency - control.baseline) : latency
  const isFlat = elasticity < 0.25
  const found = set(config, control, Math.max(inFlight, growth * before.inFlight * (isFlat ? 1 : ratio)), "knee")
  // Where the dip before found queue, the knee lies between the two: there is nowhere to grow to fast.
  const next = {
    ...found,
    slowStart: isFlat && !before.again,
    pause: isFlat ? 0 : 2,
    pace: near ? found.pace : firstPace
  }
  return begin({ ...next, baseline, latency: 0 }, state, now + latency)
}

/** The limit turns calls away. */
const whileBound = (config: Config, control: Control, state: Knee, latency: number, inFlight: number): Knee => {
  const { now } = state
  const { high, low, suspect } = tolerated(config, control.holds)
  const excess = control.baseline > 0 ? control.latency / control.baseline : 1
  const heavy = inFlight > 0.8 * Math.floor(control.holds)
  const fresh = (next: Control, after: number) => begin({ ...next, latency: 0 }, state, now + after)

  if (control.pause > 0) return begin({ ...control, pause: control.pause - 1 }, state, now)
  const isDue = excess > (control.slowStart ? high : suspect) || now > control.nextDip
  if (heavy && isDue && now - control.lastDip > cool) {
    return dip(config, control, state, control.latency, inFlight)
  }
  if (heavy && excess > high) {
    const limit = control.learned * Math.max(0.85, 0.97 * high / excess)
    return fresh({ ...set(config, control, limit, "latency"), slowStart: false }, 0.8 * latency)
  }
  if (excess < (control.slowStart ? high : low)) {
    const factor = control.slowStart && heavy ? 1.5 : 1.06
    const next = set(config, control, control.learned * factor + 0.5, "growth")
    return control.slowStart ? fresh(next, latency) : begin(next, state, now)
  }
  const steady = { ...control, slowStart: false }
  const next = !heavy && excess < 1.2 * high ? set(config, steady, control.learned * 1.06, "growth") : steady
  return begin(next, state, now)
}

/** There is room: the limit holds, and the baseline follows what is measured. */
const whileFree = (config: Config, before: Control, state: Knee, latency: number, inFlight: number): Knee => {
  const { now } = state
  const excess = before.baseline > 0 ? before.latency / before.baseline : 1
  const control = {
    ...before,
    baseline: before.baseline + (excess < 1 ? 0.05 : 0.02) * (latency - before.baseline),
    nextDip: Math.max(before.nextDip, now + 2000)
  }
  const { high } = tolerated(config, control.holds)
  if (state.admitted > 1.2 * state.ended + 10 && excess > 1.3 * high) {
    // Calls pile up below the limit: it is far too high.
    const limit = Math.min(control.learned, Math.max(config.minLimit, state.peak))
    return dip(config, set(config, control, limit, "pile-up"), state, control.latency, Math.max(inFlight, 2))
  }
  return begin(control, state, now)
}
