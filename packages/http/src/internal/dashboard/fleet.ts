import type { Fleet } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { idOf } from "./watch.js"
import type { Json } from "./wire.js"
import { toWire } from "./wire.js"

/** How often the fleet is read, at most: its processes do not tell more often. @internal */
export const fleetInterval = Duration.seconds(1)

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
    metrics: toWire(metrics),
    settings: toWire(settings)
  }))
})

/** Processes that the page has a column for. */
const shownProcesses = 12

/** The processes that the page shows, and how many there are: each viewer is sent it each second. @internal */
export const fleetWire = ({ problem, processes }: Fleet.View): Json => {
  const withStatus = (status: Fleet.Status) => processes.filter((process) => process.status === status).length
  return {
    problem: Option.getOrNull(problem),
    count: processes.length,
    late: withStatus("Late"),
    gone: withStatus("Gone"),
    processes: processes.slice(0, shownProcesses).map(processWire)
  }
}
