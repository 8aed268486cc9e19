// @ts-check
/*
 * What the figures mean: how bad an instance is, the sentence about all of them, and the advice. Pure functions of what
 * the server told and of the rates of the last seconds.
 */
import { clock, percent, rate, some, span, words } from "./format.js"

/**
 * An instance as the server tells of it, and how much came and was turned away each second of late.
 *
 * @typedef {{
 *   id: string, pattern: string, instance: string, metrics: Record<string, any>,
 *   actions?: ReadonlyArray<string>, settings: Record<string, any> | null, recent: Record<string, any>,
 *   flow: { offered: number, rejected: number, bad: number, retries: number, fallbacks: number }, seconds: number, highest: number,
 *   at?: number
 * }} Instance
 * @typedef {{ level: 0 | 1 | 2 | 3, state: string }} Verdict
 */

/** Failures of so many calls are worth a word, long before they open a circuit. */
const someFail = 0.05
/** Of an event loop that does not keep up. */
const lateLoop = 100

/** What an instance turned away or lost, whatever its pattern calls it. @param {Record<string, any>} metrics */
export const totalsOf = (metrics) => ({
  offered: metrics.offered ?? metrics.checks ?? 0,
  rejected: metrics.rejected ?? metrics.denied ?? 0,
  bad: metrics.timedOut ?? metrics.storeErrors ?? metrics.failed ?? 0,
  retries: metrics.retries ?? 0,
  fallbacks: metrics.fallbacks ?? 0
})

/** @param {Instance} instance */
export const isKeyed = ({ metrics, pattern }) => metrics.keys !== undefined && pattern !== "RateLimiter"

/**
 * Whether the permits of a bulkhead are of all processes together. Each holds as many of them as it uses, or none, and is
 * not full for that.
 *
 * @param {Instance} instance
 */
export const isShared = ({ metrics, settings }) => settings?.shared === true || metrics.limit === 0

/** How long a list is; of other processes only that is told. @param {ReadonlyArray<unknown> | number | undefined} list */
const lengthOf = (list) => typeof list === "number" ? list : list?.length ?? 0

/** What all that shares stands on comes before it where both are as bad. @param {{ pattern: string }} of */
export const isBase = ({ pattern }) => Number(pattern === "RedisConnection")

/** Attempts for each call, of late. @param {Instance} instance */
export const amplification = ({ flow }) => flow.offered > 0 ? 1 + flow.retries / flow.offered : 1

/** @param {0 | 1 | 2 | 3} level @param {string} state @returns {Verdict} */
const verdict = (level, state) => ({ level, state })

/** A store that nobody asks of late may be well again: it is not known. @param {Instance} instance */
const store = ({ flow, metrics }) =>
  flow.bad > 0 ? verdict(3, "store fails") : metrics.failing === true ? verdict(1, "failed when last asked") : undefined

/** @type {Record<string, (instance: Instance) => Verdict | undefined>} */
const judges = {
  CircuitBreaker: ({ metrics, settings }) => {
    const { failureRate, state } = metrics
    if (state === "Open") return verdict(3, "open")
    if (state === "ForcedOpen") return verdict(3, "forced open")
    if (state === "HalfOpen") return verdict(2, "half open")
    if (state === "Disabled") return verdict(1, "disabled")
    if (state === "MetricsOnly") return verdict(1, "metrics only")
    if (failureRate >= 0.8 * (settings?.failureRate ?? 1)) return verdict(1, "closed, but near its limit")
    const isKnown = metrics.window?.calls >= (settings?.minimumCalls ?? 1)
    return isKnown && failureRate >= someFail ? verdict(1, "closed, but calls fail") : undefined
  },
  Bulkhead: (instance) => {
    const { active, limit, queueLimit, utilization, waiting } = instance.metrics
    if (isShared(instance)) {
      if (waiting === 0) return undefined
      return queueLimit > 0 && waiting >= queueLimit ? verdict(3, "full") : verdict(1, "calls wait")
    }
    if (active < limit) return utilization >= 0.8 ? verdict(1, "nearly full") : undefined
    return waiting > 0 && waiting >= queueLimit ? verdict(3, "full") : verdict(2, "all in use")
  },
  AdaptiveConcurrency: ({ metrics }) =>
    metrics.active >= metrics.limit && metrics.waiting > 0 ? verdict(2, "at its limit") : undefined,
  LoadShedder: ({ metrics }) => {
    const level = /** @type {0 | 1 | 2 | 3} */ (["normal", "elevated", "high", "critical"].indexOf(metrics.level))
    return level > 0 ? verdict(level, metrics.level) : undefined
  },
  Backpressure: ({ metrics }) => metrics.pending >= metrics.highWaterMark ? verdict(1, "above high water") : undefined,
  RateLimiter: ({ flow }) => flow.bad > 0 ? verdict(3, "store fails") : undefined,
  Retry: (instance) =>
    instance.metrics.budgetAvailable !== null && instance.metrics.budgetAvailable < 1
      ? verdict(2, "budget is spent")
      : amplification(instance) >= 1.5
      ? verdict(2, "retries much")
      : undefined,
  RetryBudget: ({ metrics }) =>
    metrics.available !== undefined && metrics.available < 1 ? verdict(2, "spent") : undefined,
  Timeout: ({ flow }) => flow.bad > 0 ? verdict(2, "timing out") : undefined,
  Fallback: ({ flow }) =>
    flow.bad > 0 ? verdict(2, "fallbacks fail") : flow.fallbacks > 0 ? verdict(1, "standing in") : undefined,
  RedisConnection: ({ metrics }) => {
    const down = lengthOf(metrics.down)
    if (metrics.state === "up") {
      return down === 0 ? undefined : verdict(2, down === 1 ? "a node is down" : `${down} nodes are down`)
    }
    if (metrics.state === "degraded") return verdict(3, "refuses writes")
    return metrics.state === "connecting" ? verdict(2, "connecting") : verdict(3, words(metrics.state))
  },
  IdempotencyStore: store,
  StaleStore: store
}

/** How bad it is: 0 is well, 3 needs somebody. @param {Instance} instance @returns {Verdict} */
export const judge = (instance) => {
  const { flow, metrics, pattern } = instance
  if (isKeyed(instance)) {
    const open = lengthOf(metrics.open)
    if (open > 0) return verdict(3, `${some(open, "key")} not closed`)
    return flow.rejected > 0 ? verdict(2, "turning away") : verdict(0, "well")
  }
  const found = judges[pattern]?.(instance)
  if (flow.rejected > 0 && (found?.level ?? 0) < 2) return verdict(2, "turning away")
  return found ?? verdict(0, pattern === "CircuitBreaker" ? "closed" : "well")
}

/** Why a connection is not up: what it is refused is why, where it is there. @param {Record<string, any>} metrics */
export const reasonOf = ({ reason, refusal }) => words(refusal ?? reason ?? "")

/** What stands behind all that shares, and is not there. @param {Instance & Verdict} connection */
const absence = ({ at, instance, metrics, state }) => {
  const { downFor } = metrics
  const reason = reasonOf(metrics)
  const name = instance === "redis" ? "Redis" : `Redis "${instance}"`
  const since = at === undefined || downFor === undefined ? "" : ` since ${clock(at - downFor)}`
  const how = metrics.state === "up" ? `: ${state}` : metrics.state === "degraded" ? ` ${state}` : ` is ${state}`
  return `${name}${how}${since}${reason === "" ? "" : ` (${reason})`}`
}

/**
 * The state of everything in one sentence.
 *
 * @param {ReadonlyArray<Instance>} instances
 * @param {Record<string, any> | null} system
 * @returns {{ level: 0 | 1 | 2 | 3, text: string, figures: string }}
 */
export const summary = (instances, system) => {
  /** @type {Array<string>} */
  const troubles = []
  const verdicts = instances.map((instance) => ({ instance, ...judge(instance) }))
  // The rest may follow from it.
  for (const { instance, level, state } of verdicts) {
    if (instance.pattern === "RedisConnection" && level > 0) troubles.push(absence({ ...instance, level, state }))
  }
  /** @param {string} pattern @param {ReadonlyArray<string>} states @param {(n: number) => string} text */
  const tell = (pattern, states, text) => {
    const n = verdicts.filter((one) => one.instance.pattern === pattern && states.includes(one.state)).length
    if (n > 0) troubles.push(text(n))
  }
  tell("CircuitBreaker", ["open", "forced open"], (n) => `${some(n, "circuit is", "circuits are")} open`)
  tell("CircuitBreaker", ["half open"], (n) => `${some(n, "circuit is", "circuits are")} probing`)
  tell(
    "CircuitBreaker",
    ["closed, but calls fail", "closed, but near its limit"],
    (n) => `calls behind ${some(n, "circuit")} fail`
  )
  const keys = instances.filter(isKeyed).reduce((sum, { metrics }) => sum + lengthOf(metrics.open), 0)
  if (keys > 0) troubles.push(`${some(keys, "key has", "keys have")} a circuit that is not closed`)
  tell("Bulkhead", ["full", "all in use"], (n) => `${some(n, "bulkhead is", "bulkheads are")} full`)
  tell("LoadShedder", ["elevated", "high", "critical"], () => "load is being shed")
  tell("AdaptiveConcurrency", ["at its limit"], (n) => `${some(n, "adaptive limit is", "adaptive limits are")} reached`)
  tell("RateLimiter", ["turning away"], (n) => `${some(n, "rate limit is", "rate limits are")} exceeded`)
  tell("RateLimiter", ["store fails"], () => "the store of a rate limit fails")
  tell("IdempotencyStore", ["store fails"], () => "the store of idempotency keys fails")
  tell("StaleStore", ["store fails"], () => "the store of last good responses fails")
  tell("Retry", ["budget is spent"], (n) => `${some(n, "retry budget is", "retry budgets are")} spent`)
  tell("Timeout", ["timing out"], (n) => `calls run into ${n === 1 ? "a timeout" : `${n} timeouts`}`)
  if ((system?.eventLoopDelay ?? 0) > lateLoop) troubles.push("the event loop is late")
  // A call that passes several patterns of one name is one call.
  /** @type {Map<string, number>} */
  const calls = new Map()
  const chainOf = chainsOf(instances)
  for (const instance of instances) {
    const name = chainOf(instance)
    calls.set(name, Math.max(calls.get(name) ?? 0, instance.flow.offered))
  }
  const offered = [...calls.values()].reduce((sum, n) => sum + n, 0)
  const rejected = instances.reduce((sum, { flow }) => sum + flow.rejected, 0)
  if (troubles.length === 0 && rejected > 0) troubles.push("some calls are turned away")
  const worst = /** @type {0 | 1 | 2 | 3} */ (Math.max(0, ...verdicts.map(({ level }) => level)))
  const text = troubles.length > 0
    ? troubles.join(", ").replace(/, ([^,]*)$/, troubles.length > 2 ? ", and $1" : " and $1")
    : worst > 0
    ? "nothing is turned away, but some instances deserve a look"
    : instances.length === 0
    ? "no instance is known yet"
    : "all is well"
  return {
    level: worst,
    text: `${text.charAt(0).toUpperCase()}${text.slice(1)}.`,
    figures: `${some(instances.length, "instance")} · ${rate(offered)} in · ${rate(rejected)} turned away` +
      (rejected > 0 ? ` (${percent(rejected / Math.max(offered, rejected))})` : "")
  }
}

/** What comes of calls without the store of a limit. @type {Record<string, string>} */
const consequences = {
  fail: "calls fail",
  closed: "all calls are turned away",
  open: "calls pass, and nothing limits them",
  local: "each process goes on by its share of the rate"
}

/** @param {string} onStoreError */
const withoutStore = (onStoreError) => {
  const is = `onStoreError is "${onStoreError}"`
  const other = onStoreError === "fail" || onStoreError === "closed"
    ? `; with "local" each process would go on by its share of the rate`
    : ""
  return `Its store does not answer, so ${
    consequences[onStoreError]
  } (${is}${other}). Bring the store back: the events say ` +
    "why it is away."
}

/** @type {Record<string, (instance: Instance) => string | undefined>} */
const advisers = {
  Timeout: ({ metrics: { limit }, recent: { times } }) => {
    if (times === undefined || times.count < 50 || limit === null) return undefined
    if (times.p99 >= limit) {
      return `More than one call in a hundred reaches the limit of ${span(limit)} (median ${span(times.p50)}). ` +
        "Either the limit is too short, or what it guards is slow."
    }
    return limit > 20 * times.p99 && limit > 1000
      ? `The limit is ${span(limit)}, yet 99 % of the calls end within ${
        span(times.p99)
      }. A shorter one frees callers sooner.`
      : undefined
  },
  Bulkhead: (instance) => {
    const { limit, offered, peak } = instance.metrics
    return offered >= 1000 && peak / limit < 0.12 && !isShared(instance)
      ? `Never more than ${peak} of ${limit} permits were in use. The limit may be too high to protect anything.`
      : undefined
  },
  Retry: (instance) =>
    amplification(instance) >= 1.5
      ? `Retries multiply the load by ${amplification(instance).toFixed(1)}. A budget bounds that; a breaker ends it.`
      : undefined,
  CircuitBreaker: ({ flow, highest, metrics: { opens, state }, seconds, settings }) => {
    if (opens >= 3 && state !== "Closed") return `It opened ${opens} times in a row: what it guards does not recover.`
    const minimum = settings?.minimumCalls
    return seconds >= 60 && flow.offered > 0 && highest < minimum
      ? `Its window never held the ${minimum} calls that its failure rate needs, but ${highest} at most: by its rate it ` +
        "will not open."
      : undefined
  },
  RateLimiter: ({ flow, settings }) => {
    if (flow.bad > 0 && settings !== null) return withoutStore(settings.onStoreError)
    return flow.offered > 1 && flow.rejected / flow.offered > 0.2
      ? `It turns away ${
        percent(flow.rejected / flow.offered)
      } of the calls. If these are honest clients, the rate is too low.`
      : undefined
  }
}

/** @param {Instance} instance @returns {string | undefined} */
export const advise = (instance) => isKeyed(instance) ? undefined : advisers[instance.pattern]?.(instance)

/** What is around one attempt of a client, and not around all of them. */
const ofAttempt = "/attempt"

/**
 * The chain that an instance belongs to: patterns of one name are the chain of one thing, as `standard` names them. A
 * client names what is around an attempt after itself, too.
 *
 * @param {ReadonlyArray<Instance>} instances
 */
const chainsOf = (instances) => {
  const names = new Set(instances.map(({ instance }) => instance))
  /** @param {Instance} one */
  return ({ instance }) => {
    const outer = instance.endsWith(ofAttempt) ? instance.slice(0, -ofAttempt.length) : instance
    return names.has(outer) ? outer : instance
  }
}

/** The order in which the patterns stand around a call, and before a server. */
const aroundCall = [
  "Fallback",
  "LoadShedder",
  "Retry",
  "RetryBudget",
  "CircuitBreaker",
  "RateLimiter",
  "Bulkhead",
  "AdaptiveConcurrency",
  "Timeout"
]
/** Of a client the timeout is around all attempts, and has another around each of them. */
const aroundAttempts = ["Timeout", ...aroundCall]
const beforeServer = [
  "LoadShedder",
  "RateLimiter",
  "Backpressure",
  "Bulkhead",
  "AdaptiveConcurrency",
  "CircuitBreaker",
  "Timeout"
]

/**
 * The chains of more than one pattern, outermost first.
 *
 * @param {ReadonlyArray<Instance>} instances
 * @returns {ReadonlyArray<{ name: string, steps: ReadonlyArray<Instance> }>}
 */
export const chains = (instances) => {
  /** @type {Map<string, Array<Instance>>} */
  const byName = new Map()
  const chainOf = chainsOf(instances)
  for (const one of instances) byName.set(chainOf(one), [...(byName.get(chainOf(one)) ?? []), one])
  return [...byName].filter(([, steps]) => steps.length > 1).map(([name, steps]) => {
    /** @param {Instance} step */
    const isInner = ({ instance }) => instance !== name
    const order = steps.some(isInner)
      ? aroundAttempts
      : steps.some(({ pattern }) => ["Retry", "Fallback"].includes(pattern))
      ? aroundCall
      : beforeServer
    /** @param {Instance} step */
    const place = (step) => {
      const at = isInner(step) ? order.lastIndexOf(step.pattern) : order.indexOf(step.pattern)
      return at === -1 ? order.length : at
    }
    return { name, steps: [...steps].sort((a, b) => place(a) - place(b)) }
  })
}
