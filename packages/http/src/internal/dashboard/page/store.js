// @ts-check
/*
 * What the server told, and what came of it over time: a sample of the counters each second.
 */
import { totalsOf } from "./judge.js"

/** @typedef {import("./judge.js").Instance} Instance */
/**
 * @typedef {{
 *   n: number, tag: string, pattern: string, instance: string, process?: string, warning: boolean, at: number, last: number, count: number,
 *   detail: Record<string, any>
 * }} Entry
 * @typedef {ReturnType<typeof totalsOf>} Totals
 */

/** Seconds that are kept. */
const kept = 900
/** Seconds over which a rate is taken. */
const late = 5
const longestTimeline = 500

/** @type {Map<string, Instance & { told: number }>} */
export const instances = new Map()
/** @type {Map<string, Array<Totals>>} */
const histories = new Map()
/** @type {Map<number, Entry>} */
export const timeline = new Map()

/** What there is one of. */
export const about = {
  /** Whether anything is known. */
  told: false,
  /** @type {Record<string, any>} */
  app: {},
  /** @type {Record<string, any> | null} */
  system: null,
  /** @type {Record<string, any>} */
  notes: { unregistered: 0, hint: null, duplicates: [] },
  /** @type {ReadonlyArray<Record<string, any>>} */
  overrides: [],
  /** All processes, where this one is of a fleet. @type {import("./fleet.js").Fleet | null} */
  fleet: null,
  /** How much the clock of the server is ahead of ours. */
  ahead: 0
}

/** @param {Record<string, any>} wire @param {number} told by our clock @param {number} at the same by that of the server */
const put = (wire, told, at) => {
  const known = instances.get(wire.id)
  const { flow, highest, seconds } = known ??
    { flow: { offered: 0, rejected: 0, bad: 0, retries: 0, fallbacks: 0 }, highest: 0, seconds: 0 }
  const calls = wire.metrics.window?.calls ?? 0
  instances.set(
    wire.id,
    /** @type {Instance & { told: number }} */ ({ ...wire, told, at, flow, seconds, highest: Math.max(highest, calls) })
  )
}

/** @param {Record<string, any>} news @param {number} now */
const takeRest = (news, now) => {
  about.ahead = news.at - now
  for (const name of /** @type {const} */ (["app", "system", "notes", "overrides", "fleet"])) {
    if (name in news) about[name] = news[name]
  }
  for (const entry of news.timeline) {
    timeline.set(entry.n, entry)
    if (timeline.size > longestTimeline) timeline.delete(Math.min(...timeline.keys()))
  }
}

/** All there is. @param {Record<string, any>} news @param {number} now */
export const takeSnapshot = (news, now) => {
  const ids = new Set(news.instances.map((/** @type {{ id: string }} */ { id }) => id))
  for (const id of instances.keys()) if (!ids.has(id)) remove(id)
  about.told = true
  timeline.clear()
  for (const wire of news.instances) put(wire, now, news.at)
  takeRest(news, now)
}

/** What is new. @param {Record<string, any>} news @param {number} now */
export const takeUpdate = (news, now) => {
  for (const wire of news.changed) put(wire, now, news.at)
  for (const id of news.removed) remove(id)
  takeRest(news, now)
}

/** @param {string} id */
const remove = (id) => {
  instances.delete(id)
  histories.delete(id)
}

/** Once a second: the counters as they stand. */
export const takeSample = () => {
  for (const [id, instance] of instances) {
    const history = histories.get(id) ?? []
    histories.set(id, history)
    const totals = totalsOf(instance.metrics)
    // A counter that fell belongs to another life of the instance.
    if (totals.offered < (history.at(-1)?.offered ?? 0)) history.length = 0
    history.push(totals)
    if (history.length > kept) history.shift()
    const before = history[Math.max(0, history.length - 1 - late)] ?? totals
    const over = Math.max(1, Math.min(late, history.length - 1))
    instance.seconds = history.length
    instance.flow = {
      offered: (totals.offered - before.offered) / over,
      rejected: (totals.rejected - before.rejected) / over,
      bad: (totals.bad - before.bad) / over,
      retries: (totals.retries - before.retries) / over,
      fallbacks: (totals.fallbacks - before.fallbacks) / over
    }
  }
}

/**
 * Calls and rejections a second, over the last minutes, in at most 60 steps: as many as are known.
 *
 * @param {string} id
 * @param {number} minutes
 */
export const seriesOf = (id, minutes) => {
  const history = (histories.get(id) ?? []).slice(-minutes * 60 - 1)
  const width = Math.max(1, minutes)
  const steps = Array.from({ length: 60 }, (_, i) => {
    const at = (/** @type {number} */ step) => history[history.length - 1 - step * width]
    const to = at(59 - i)
    const from = at(60 - i)
    return to === undefined || from === undefined
      ? []
      : [{ calls: (to.offered - from.offered) / width, rejected: (to.rejected - from.rejected) / width }]
  }).flat()
  return { calls: steps.map(({ calls }) => calls), rejected: steps.map(({ rejected }) => rejected) }
}
