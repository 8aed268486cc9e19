import { Limit } from "@effect-resilience/core/Limit"
import { Queueing, Service, Simulation } from "@effect-resilience/core/testing"
import { PCGRandom } from "effect/Utils"
import { queue } from "./stacks.js"

/*
 * Services that nobody tuned for: workers, laws and seeds are drawn at random from one seed, and each is put through the
 * step of the first scenario. The seeds that limits were tuned with, and the one that was kept from them, are in
 * docs/simulator.md.
 */

interface Case {
  readonly law: string
  readonly service: Simulation.Service
  readonly workers: number
  /** Mean milliseconds of work. */
  readonly base: number
  readonly seed: number
}

interface Played {
  readonly goodput: number
  readonly before: number
  readonly after: number
  readonly limit: number
}

const draw = (random: PCGRandom): Case => {
  const between = (low: number, high: number) => low + (high - low) * random.number()
  const logBetween = (low: number, high: number) => low * (high / low) ** random.number()
  const seed = random.integer(1e6)
  const workers = Math.round(logBetween(4, 256))
  const base = logBetween(5, 200)
  const kind = random.integer(3)
  if (kind === 0) return { law: "exponential", service: Service.exponential(base), workers, base, seed }
  if (kind === 1) {
    const cv = between(0.5, 2.5)
    return { law: `lognormal, CV ${cv.toFixed(2)}`, service: Service.lognormal(base, cv), workers, base, seed }
  }
  const share = between(0.02, 0.2)
  const times = between(3, 12)
  const quick = base / (1 + share * (times - 1))
  return {
    law: `bimodal, ${(share * 100).toFixed(0)} % take ${times.toFixed(1)} times as long`,
    service: Service.bimodal(quick, quick * times, share),
    workers,
    base,
    seed
  }
}

/**
 * Load 0.8, 3 and 0.8 for 1, 3 and 1.5 units. Callers wait 20 times the mean. A unit is as long as some 13,000 answers
 * take, so that chance is about as large with each server, and 7 s at least.
 */
const play = ({ base, seed, service, workers }: Case, limit: Limit.Any): Played => {
  const capacity = workers / base * 1000
  const unit = Math.max(7000, 13_000 / capacity * 1000)
  const rate = Simulation.steps([[0, 0.8 * capacity], [unit, 3 * capacity], [4 * unit, 0.8 * capacity]])
  const result = Simulation.run({
    seed,
    duration: 5.5 * unit,
    arrivals: [{ rate }],
    server: Simulation.workers({ workers, service }),
    client: { timeout: 20 * base },
    protection: { limit, queue }
  })
  const overload = result.between(unit, 4 * unit)
  return {
    goodput: overload.goodput / capacity * 100,
    before: result.between(0.25 * unit, unit).okShare * 100,
    after: result.between(4.25 * unit, 5.5 * unit - 20 * base).okShare * 100,
    limit: overload.limit
  }
}

/** Prints a line per case and what came out of them all, and returns the figures. */
export const heldOut = (seed: number, count = 12) => {
  console.log(`### Drawn from seed ${seed}: ${count} services through the step to 3x\n`)
  console.log("goodput of the capacity while the load is 3, the oracle's in brackets; answered while it is 0.8\n")
  console.log("| seed | workers | ms | law | goodput % | ok before % | ok after % | limit (best) |")
  console.log("|---|---|---|---|---|---|---|---|")
  const random = new PCGRandom(seed)
  const cases = Array.from({ length: count }, () => {
    const one = draw(random)
    const best = Queueing.bestLimit(one.workers, 3)
    const ours = play(one, Limit.knee())
    const oracle = play(one, Limit.fixed(best))
    console.log(
      `| ${one.seed} | ${one.workers} | ${one.base.toFixed(0)} | ${one.law} | ${ours.goodput.toFixed(1)} (${
        oracle.goodput.toFixed(1)
      }) | ${ours.before.toFixed(2)} | ${ours.after.toFixed(2)} | ${ours.limit.toFixed(0)} (${best}) |`
    )
    return { ...one, ...ours, oracle: oracle.goodput }
  })
  const reached = (name: string, measure: "goodput" | "before" | "after", atLeast: number) => {
    const values = cases.map((one) => one[measure])
    const good = values.filter((value) => value >= atLeast).length
    const mean = values.reduce((sum, value) => sum + value, 0) / count
    console.log(
      `- ${name}: mean ${mean.toFixed(2)}, least ${
        Math.min(...values).toFixed(2)
      }; ${good} of ${count} reach ${atLeast}`
    )
  }
  console.log("")
  reached("goodput", "goodput", 97)
  reached("ok before", "before", 99)
  reached("ok after", "after", 99)
  return cases
}
