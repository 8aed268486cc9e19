import type { Fleet } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { idOf } from "./watch.js"
import type { Json } from "./wire.js"
import { toWire } from "./wire.js"

/** How often the fleet is read, at most: its processes do not tell more often. @internal */
export const fleetInterval = Duration.seconds(1)

/** Figures that the page judges an instance by, or writes into its cell: it has cards for the rest. */
const looked = [
  "state",
  "reason",
  "refusal",
  "failing",
  "failureRate",
  "active",
  "limit",
  "held",
  "utilization",
  "waiting",
  "queueLimit",
  "level",
  "pending",
  "highWaterMark",
  "budgetAvailable",
  "available",
  "keys",
  "rate",
  "offered",
  "checks",
  "rejected",
  "denied",
  "timedOut",
  "storeErrors",
  "failed",
  "retries",
  "fallbacks"
]

type Figures = Readonly<Record<string, unknown>>

const pick = (from: Figures, names: ReadonlyArray<string>): Figures =>
  Object.fromEntries(names.flatMap((name) => name in from ? [[name, from[name]]] : []))

const metricsWire = (metrics: Figures): Json => {
  const { down, open, window } = metrics
  return toWire({
    ...pick(metrics, looked),
    ...(Array.isArray(open) ? { open: open.length } : {}),
    ...(Array.isArray(down) ? { down: down.length } : {}),
    ...(typeof window === "object" && window !== null ? { window: pick(window as Figures, ["calls"]) } : {})
  })
}

const processWire = ({ age, id, instances, label, omitted, problem, status }: Fleet.Process): Json => ({
  id,
  label,
  status,
  // Of one that is heard it would be news each time.
  heardAgo: status === "Live" ? null : Duration.toMillis(age),
  omitted,
  problem: Option.getOrNull(problem),
  instances: instances.map(({ instance, metrics, pattern, settings }) => ({
    id: idOf(pattern, instance),
    pattern,
    instance,
    metrics: metricsWire(metrics),
    settings: settings === null ? null : toWire(pick(settings, ["failureRate", "minimumCalls", "shared"]))
  }))
})

/** Instances of all processes together that the page is told of: each viewer is sent them each second. */
const mostInstances = 5000

/** Whose troubles must not be missed where there is no room for all. */
const urgency = ({ instances, status }: Fleet.Process): number =>
  status !== "Live"
    ? 2
    : instances.some(({ metrics: { state }, pattern }) =>
        (pattern === "CircuitBreaker" && state !== undefined && state !== "Closed") ||
        (pattern === "RedisConnection" && state !== "up")
      )
    ? 1
    : 0

/** This process, then the others: as many of them, the worst first where that is not all, as there is room for. */
const told = (processes: ReadonlyArray<Fleet.Process>): ReadonlyArray<Fleet.Process> => {
  const size = (some: ReadonlyArray<Fleet.Process>) => some.reduce((sum, one) => sum + one.instances.length, 0)
  if (size(processes) <= mostInstances) return processes
  const [own, ...others] = processes
  let room = mostInstances - size(processes.slice(0, 1))
  const urgent = [...others].sort((a, b) => urgency(b) - urgency(a))
  const fits = ({ instances }: Fleet.Process): boolean => {
    if (instances.length > room) return false
    room -= instances.length
    return true
  }
  return [...own === undefined ? [] : [own], ...urgent.filter(fits)]
}

/** The processes that the page compares, and how many there are. @internal */
export const fleetWire = ({ problem, processes }: Fleet.View): Json => {
  const withStatus = (status: Fleet.Status) => processes.filter((process) => process.status === status).length
  return {
    problem: Option.getOrNull(problem),
    count: processes.length,
    late: withStatus("Late"),
    gone: withStatus("Gone"),
    processes: told(processes).map(processWire)
  }
}
