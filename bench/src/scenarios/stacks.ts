import { Limit } from "@effect-resilience/core/Limit"
import type { Simulation } from "@effect-resilience/core/testing"
import { Queueing } from "@effect-resilience/core/testing"
import type { Stack } from "./scenario.js"

/** The queue before a limit, as `AdaptiveConcurrency` has it: about twice the limit of these scenarios. */
export const queue: Simulation.QueueOptions = { size: 64, maxWait: 100, order: "adaptive" }

const bare = (name: string, limit: Limit.Any): Stack => ({ name, protection: { limit } })

/** All limits, each with its defaults; ours with its queue. The oracle knows workers, service and load. */
export const limits = (workers: number, load: number): ReadonlyArray<Stack> => {
  const best = Queueing.bestLimit(workers, load)
  return [
    { name: "knee + queue", ours: true, protection: { limit: Limit.knee(), queue } },
    { name: "no protection" },
    bare(`oracle (${best})`, Limit.fixed(best)),
    { name: `oracle (${best}) + queue`, protection: { limit: Limit.fixed(best), queue }, plotted: false },
    { ...bare("knee", Limit.knee()), plotted: false },
    bare("aimd", Limit.aimd()),
    bare("success rate", Limit.successRate()),
    bare("vegas", Limit.vegas()),
    bare("gradient2", Limit.gradient2())
  ]
}
