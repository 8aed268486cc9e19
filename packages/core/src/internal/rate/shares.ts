import { Plan } from "./plan.js"

/** What of a rate is this process's, where several share it: an equal part, rounded down, and at least 1. @internal */
export class Shares {
  private processes = 1
  private parts = new WeakMap<Plan, Plan>()

  constructor(private readonly ask: (() => number) | undefined) {}

  readonly of = (plan: Plan): Plan => {
    const told = this.ask?.() ?? 1
    // A store that does not know is as one that nobody shares.
    const processes = told >= 1 ? Math.floor(told) : 1
    if (processes !== this.processes) {
      this.processes = processes
      this.parts = new WeakMap()
    }
    if (processes === 1) return plan
    let part = this.parts.get(plan)
    if (part === undefined) {
      const share = (whole: number) => Math.max(1, Math.floor(whole / processes))
      part = new Plan(
        plan.name,
        plan.rates.map(({ burst, limit, window }) => ({ limit: share(limit), window, burst: share(burst) }))
      )
      this.parts.set(plan, part)
    }
    return part
  }
}
