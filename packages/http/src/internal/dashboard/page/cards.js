// @ts-check
/*
 * The body of a card, by pattern.
 */
import { bar, facts, h, ring, svg } from "./dom.js"
import { count, percent, rate, some, span, words } from "./format.js"
import { amplification, isKeyed, isShared, judge, reasonOf, totalsOf } from "./judge.js"

/** @typedef {import("./judge.js").Instance} Instance */
/** @typedef {ReadonlyArray<import("./dom.js").Child>} Body */

/** The names of the patterns, for people. @type {Record<string, string>} */
export const labels = {
  CircuitBreaker: "circuit breaker",
  RateLimiter: "rate limit",
  LoadShedder: "load shedder",
  AdaptiveConcurrency: "adaptive concurrency",
  RetryBudget: "retry budget"
}

/** @param {string} pattern */
export const labelOf = (pattern) => labels[pattern] ?? words(pattern)

/** @param {number} part */
const levelOf = (part) => part >= 1 ? 3 : part >= 0.8 ? 2 : 0

/** @param {string} label @param {number} used @param {number | null} limit */
const usage = (label, used, limit) => {
  const part = limit === null || limit === 0 ? 0 : used / limit
  return bar(label, limit === null ? count(used) : `${count(used)} of ${count(limit)}`, part, { level: levelOf(part) })
}

/** @type {Record<string, string>} */
const tickNames = { s: "succeeded", f: "failed", i: "ignored", r: "rejected" }

/** The last calls, oldest first. @param {string} calls */
const ticks = (calls) => {
  const told = Object.entries(tickNames)
    .map(([mark, name]) => [name, [...calls].filter((call) => call === mark).length])
    .filter(([, n]) => n !== 0)
    .map(([name, n]) => `${n} ${name}`)
    .join(", ")
  return h(
    "figure",
    {},
    svg(
      "svg",
      { class: "ticks", viewBox: "0 0 240 10", preserveAspectRatio: "none", role: "img", "aria-label": told },
      ...[...calls].map((call, i) => svg("rect", { class: `tick ${tickNames[call]}`, x: i * 4, width: 3, height: 10 }))
    ),
    h("figcaption", {}, `last ${some(calls.length, "call")}: ${told}`)
  )
}

/** @param {Instance} instance @param {number} age Milliseconds since the metrics were told. */
const breaker = ({ flow, metrics, recent, settings, ...rest }, age) => {
  const { failureRate, openFor, sinceStateChange, state, window } = metrics
  const { level } = judge({ flow, metrics, recent, settings, ...rest })
  const since = sinceStateChange + age
  const left = openFor === null ? null : Math.max(0, openFor - age)
  const waits = (state === "Open" || state === "ForcedOpen") && openFor !== null
  const threshold = settings?.failureRate
  return [
    h(
      "div",
      { class: "withRing" },
      ring(failureRate, threshold, failureRate === null ? "–" : percent(failureRate), level),
      facts([
        ["failures", `${count(window.failures)} of ${some(window.calls, "call")}`],
        ["opens at", threshold === undefined ? "–" : `${percent(threshold)} of ${settings?.minimumCalls}+`],
        [`${words(state)} for`, span(since)]
      ])
    ),
    waits && bar(
      "until it lets a probe through",
      left === 0 ? "at the next call" : span(left),
      1 - (left ?? 0) / Math.max(1, openFor + sinceStateChange),
      { level: 1 }
    ),
    recent.calls !== undefined && ticks(recent.calls),
    recent.lastError !== undefined && h("p", { class: "error" }, `last error: ${recent.lastError}`),
    state === "MetricsOnly" && h("p", {}, `would have opened ${some(metrics.wouldHaveTripped, "time")}`)
  ]
}

/** @param {number} p95 */
const waitText = (p95) => p95 === 0 ? "none" : `95 % within ${span(p95)}`

/** What a process uses of the permits of all, and how many it holds. @param {Instance} instance */
export const heldOf = ({ metrics }) =>
  `${count(metrics.active)} of ${count(metrics.limit)}${
    metrics.held === undefined ? "" : `, ${count(metrics.held)} held`
  }`

/** @param {Instance} instance */
const bulkhead = (instance) => {
  const { metrics, recent } = instance
  return [
    isShared(instance)
      ? bar("in use here", heldOf(instance), metrics.active / metrics.limit)
      : usage("in use", metrics.active, metrics.limit),
    metrics.queueLimit !== 0 && usage("waiting", metrics.waiting, metrics.queueLimit),
    facts([
      ["peak", count(metrics.peak)],
      ["wait", recent.times === undefined ? `${span(metrics.averageWait)} on average` : waitText(recent.times.p95)]
    ])
  ]
}

/** What was turned away, also before the page was opened. @param {Instance} instance */
const turnedAway = ({ metrics }) => {
  const { offered, rejected } = totalsOf(metrics)
  return /** @type {const} */ (["turned away", `${count(rejected)} of ${count(offered)} in all`])
}

/** @param {Instance} instance */
const rateLimiter = (instance) => {
  const { flow, metrics } = instance
  // Of late: where nothing came there is nothing to say.
  const through = flow.offered > 0 ? 1 - flow.rejected / flow.offered : undefined
  const { keys = null, maxKeys } = metrics
  return [
    bar("let through", through === undefined ? "–" : percent(through), through ?? 0, {
      level: through !== undefined && through < 1 ? 2 : 0
    }),
    facts([
      ["rate", `${metrics.rate}${keys > 1 ? " each" : ""}`],
      // A store holds its keys itself, and does not say how many.
      ...keys === null ? [] : [/** @type {const} */ (["keys", `${count(keys)} of at most ${count(maxKeys)}`])],
      turnedAway(instance),
      ["waiting", count(metrics.waiting)]
    ])
  ]
}

/** Rows of counts, the largest as wide as the card. @param {ReadonlyArray<readonly [string, number, number]>} rows */
const histogram = (rows) => {
  const top = Math.max(1, ...rows.map(([, n]) => n))
  return rows.map(([label, n, level]) => bar(label, count(n), n / top, { level }))
}

/** @param {Instance} instance */
const retry = (instance) => {
  const { metrics, recent } = instance
  const { budgetAvailable, failedExhausted, failedWithoutRetry, ignored, succeededFirst, succeededRetried } = metrics
  /** @type {ReadonlyArray<readonly [string, number, number]>} */
  const ends = [
    ["succeeded at once", succeededFirst, 0],
    ["succeeded by retry", succeededRetried, 1],
    ["failed after retries", failedExhausted, 3],
    ["failed, not retried", failedWithoutRetry, 2],
    ["turned away or interrupted", ignored, 1]
  ]
  const attempts = Object.entries(recent.attempts ?? {}).filter(([n]) => n !== "1")
    .map(([n, calls]) => `${n}:\u00a0${count(calls)}`).join(" · ")
  return [
    h("p", { class: "caption" }, "calls in all"),
    ...histogram(ends.filter(([, calls], i) => i === 0 || calls > 0)),
    facts([
      ["load", `×${amplification(instance).toFixed(2)}`],
      ["budget", budgetAvailable === null ? "none" : `${count(Math.floor(budgetAvailable))} retries left`],
      ["retried, by attempts", attempts === "" ? "–" : attempts]
    ])
  ]
}

/** @param {Instance} instance */
const retryBudget = ({ metrics }) => [
  bar(
    "left",
    `${count(Math.floor(metrics.available))} of ${count(metrics.maxTokens)}`,
    metrics.available / metrics.maxTokens,
    {
      level: metrics.available < 1 ? 3 : 0
    }
  ),
  facts([["granted", `${count(metrics.granted)} in all`], ["denied", `${count(metrics.denied)} in all`]])
]

/** @param {Instance} instance */
const timeout = ({ metrics, recent: { times } }) => {
  const { averageTime, limit, timedOut } = metrics
  const scale = times === undefined || limit === null ? 0 : Math.max(limit * 1.1, times.max)
  return [
    times !== undefined && limit !== null && bar(
      `99 % within ${span(times.p99)}`,
      `limit ${span(limit)}`,
      times.p99 / scale,
      { level: levelOf(times.p99 / limit), marks: [limit / scale] }
    ),
    facts([
      ["limit", span(limit)],
      [times === undefined ? "average" : "median", span(times === undefined ? averageTime : times.p50)],
      ["timed out", `${count(timedOut)} in all`]
    ])
  ]
}

/** @param {Instance} instance */
const adaptive = ({ metrics }) => [
  usage("running", metrics.active, metrics.limit),
  metrics.queueLimit !== 0 && usage("waiting", metrics.waiting, metrics.queueLimit),
  facts([
    ["limit", `${count(metrics.limit)} by ${metrics.algorithm}`],
    ["idle latency", metrics.baseline === null ? "not known yet" : span(metrics.baseline)],
    ["last change", words(metrics.reason)]
  ])
]

/** The most important last. */
const priorities = ["sheddable", "low", "normal", "high", "critical"]

/** @param {Instance} instance */
const shedder = ({ metrics, recent: { shed = {} } }) => [
  // Where nothing measures the system, it is shed by what is in flight alone.
  Object.keys(metrics.system ?? {}).length > 0 &&
  bar("pressure of the system", percent(metrics.pressure), metrics.pressure, { level: levelOf(metrics.pressure) }),
  usage("in flight", metrics.active, metrics.limit),
  ...histogram(
    priorities.filter((priority) => shed[priority] > 0).map((priority) => [`shed: ${priority}`, shed[priority], 2])
  ),
  facts([["peak", count(metrics.peak)], ["shed", `${count(metrics.rejected)} in all`]])
]

/** @param {Instance} instance */
const backpressure = ({ metrics }) => {
  const { highWaterMark, limit, lowWaterMark, pending } = metrics
  const top = limit ?? highWaterMark
  return [
    bar("pending", `${count(pending)} of ${count(limit)}`, pending / top, {
      level: pending >= highWaterMark ? 2 : 0,
      marks: [lowWaterMark / top, highWaterMark / top]
    }),
    facts([["marks", `${count(lowWaterMark)} and ${count(highWaterMark)}`], ["waiting", count(metrics.waiting)]])
  ]
}

/** @param {Instance} instance */
const fallback = ({ metrics }) => [
  h("p", { class: "caption" }, "calls in all"),
  ...histogram([
    ["needed none", metrics.primary, 0],
    ["answered by a fallback", metrics.fallbacks, 1],
    ["failed all the same", metrics.failed, 3]
  ])
]

/** The keys that are not as usual. @param {Instance} instance */
const keyed = (instance) => {
  const { metrics } = instance
  const shown = metrics.open ?? metrics.busy ?? metrics.low ?? []
  return [
    facts([
      ["keys", count(metrics.keys)],
      ...metrics.offered === undefined ? [] : [turnedAway(instance)],
      ["let through unguarded", `${count(metrics.unguarded ?? 0)} in all`]
    ]),
    h(
      "ul",
      {},
      ...shown.slice(0, 8).map((/** @type {Record<string, any>} */ one) =>
        h("li", {}, `${one.key}: ${one.state === undefined ? count(one.active ?? one.available) : words(one.state)}`)
      ),
      shown.length > 8 && h("li", {}, `and ${shown.length - 8} more`)
    )
  ]
}

/** @param {Instance} instance @param {number} age */
const connection = ({ metrics }, age) => {
  const { commands, downFor, failures, latency, outages, pending, processes, reconnects } = metrics
  const reason = reasonOf(metrics)
  return [
    facts([
      ...downFor === undefined ? [] : [/** @type {const} */ (["down for", span(downFor + age)])],
      ...reason === "" ? [] : [/** @type {const} */ (["last error", reason])],
      ["answers within", `${span(latency)} on average`],
      ["processes", count(processes)],
      ["failed", `${count(failures)} of ${some(commands, "command")}`],
      ["outages", `${count(outages)}, connected again ${some(reconnects, "time")}`],
      ["pending", count(pending)]
    ])
  ]
}

/** What this page knows nothing of. @param {Instance} instance */
const anyOther = ({ metrics }) => [
  facts(
    Object.entries(metrics).filter(([, value]) => typeof value !== "object").slice(0, 8)
      .map((
        [name, value]
      ) => /** @type {const} */ ([words(name), typeof value === "number" ? count(value) : String(value)]))
  )
]

/** @type {Record<string, (instance: Instance, age: number) => Body>} */
const bodies = {
  CircuitBreaker: breaker,
  Bulkhead: bulkhead,
  RateLimiter: rateLimiter,
  Retry: retry,
  RetryBudget: retryBudget,
  Timeout: timeout,
  AdaptiveConcurrency: adaptive,
  LoadShedder: shedder,
  Backpressure: backpressure,
  Fallback: fallback,
  RedisConnection: connection
}

/** @param {Instance} instance @param {number} age @returns {Body} */
export const bodyOf = (instance, age) =>
  isKeyed(instance) ? keyed(instance) : (bodies[instance.pattern] ?? anyOther)(instance, age)

/**
 * How many came, and were turned away, in a second of late: in the colours of the graph.
 *
 * @param {{ flow: Pick<Instance["flow"], "offered" | "rejected"> }} instance
 */
export const flowOf = ({ flow }) => [
  h("span", { class: "came" }, `${rate(flow.offered)} in`),
  ...flow.rejected > 0 ? [", ", h("span", { class: "lost" }, `${rate(flow.rejected)} turned away`)] : []
]
