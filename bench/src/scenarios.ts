/**
 * Does the protection protect? Thirteen scenarios of overload and failure (without hedging, for now), each with ours,
 * nothing, an oracle that knows all, and the other algorithms, by the simulator of `@effect-resilience/core/testing`.
 *
 * `--json` prints the result for machines as the last line, `--quick` takes two seeds and shorter soaks, `--only 1,2`
 * takes some scenarios, `--seeds 11,12` other seeds, `--ours` leaves out what it is compared with. Plots go to `bench/plots` (`--no-plots` leaves them).
 *
 * `--held-out` puts services that are drawn at random through the first scenario instead; `--seed 7` draws others.
 */
import type { SimulationResult } from "@effect-resilience/core/testing"
import { mkdirSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { brownOuts, halfOpenHerd, traps } from "./scenarios/failures.js"
import { heldOut } from "./scenarios/heldOut.js"
import { deviation, mean } from "./scenarios/measure.js"
import { contention, convergences, latencyShift, slowDown, soaks, stepUp } from "./scenarios/overload.js"
import { plot } from "./scenarios/plot.js"
import type { Column, Measures, Scenario, Target } from "./scenarios/scenario.js"
import { eventLoop, noisyNeighbour, priority } from "./scenarios/sharing.js"

const args = process.argv.slice(2)
const valueOf = (flag: string) => args.includes(flag) ? args[args.indexOf(flag) + 1] : undefined
const quick = args.includes("--quick")
const seeds = valueOf("--seeds")?.split(",").map(Number) ?? (quick ? [11, 12] : [11, 12, 13, 14, 15])
const only = valueOf("--only")?.split(",").map(Number)
const say = (line: string) => console.error(line)

const all: ReadonlyArray<Scenario> = [
  stepUp,
  slowDown,
  latencyShift,
  ...convergences,
  contention,
  ...soaks,
  priority,
  noisyNeighbour,
  ...traps,
  ...brownOuts,
  halfOpenHerd,
  eventLoop
]
const scenarios = all.filter(({ id }) => only === undefined || only.includes(id))

const show = (value: number): string =>
  value === Infinity ? "never" : Number.isNaN(value) ? "–" : Math.abs(value) >= 1000 ? value.toFixed(0) : String(
    Number(value.toPrecision(4))
  )
/** A mean over seeds, with how many of them never came there. */
const showAll = (values: ReadonlyArray<number>): string => {
  const never = values.filter((value) => value === Infinity).length
  if (never === values.length) return "never"
  return never > 0 ? `${never} of ${values.length} never` : show(mean(values))
}
const showTarget = ({ atLeast, atMost }: Target) => atLeast === undefined ? `<= ${atMost}` : `>= ${atLeast}`

/** Sorted by name, for the measures that no column shows. */
const columnOf = (scenario: Scenario, measure: string): Column =>
  scenario.columns.find((column) => column.measure === measure) ?? { measure, title: measure, unit: "x" }

const playAll = (scenario: Scenario) =>
  scenario.stacks.filter((stack) => !args.includes("--ours") || stack.ours === true).map((stack) => {
    const plays = seeds.map((seed) => scenario.play(stack, seed, quick))
    const names = Object.keys(plays[0]?.measures ?? {})
    const measures = new Map(
      names.map((name) => [name, plays.map((played) => (played.measures as Measures)[name] ?? NaN)])
    )
    return { stack, measures, first: plays[0]?.result as SimulationResult }
  })

const playScenarios = () => {
  const cases: Array<Record<string, unknown>> = []
  const plots = fileURLToPath(new URL("../plots", import.meta.url))
  if (!args.includes("--no-plots")) mkdirSync(plots, { recursive: true })

  console.log(`seeds ${seeds.join(", ")}${quick ? ", shortened" : ""}\n`)
  for (const scenario of scenarios) {
    const start = performance.now()
    const played = playAll(scenario)
    say(`${scenario.id} ${scenario.name}: ${((performance.now() - start) / 1000).toFixed(0)} s`)
    console.log(`### ${scenario.id}. ${scenario.name}\n\n${scenario.says}\n`)
    console.log(
      `| | ${
        scenario.columns.map(({ title, unit }) =>
          unit === "x" || unit === "limit" || unit === "calls" ? title : `${title} ${unit}`
        ).join(" | ")
      } |`
    )
    console.log(`|---|${scenario.columns.map(() => "---|").join("")}`)
    for (const { measures, stack } of played) {
      const cells = scenario.columns.map(({ measure }) => showAll(measures.get(measure) ?? []))
      const name = stack.ours === true ? `**${stack.name}**` : stack.name
      console.log(`| ${name} | ${cells.join(" | ")} |`)
    }
    console.log("")
    const ours = played.find(({ stack }) => stack.ours === true)
    for (const target of scenario.targets) {
      const values = ours?.measures.get(target.measure) ?? []
      const measured = mean(values)
      const met = target.atLeast !== undefined ? measured >= target.atLeast : measured <= (target.atMost ?? Infinity)
      const { title, unit } = columnOf(scenario, target.measure)
      console.log(
        `- ${title}: ${showAll(values)} (deviation ${show(deviation(values))}), target ${showTarget(target)}: ${
          met ? "met" : "missed"
        }`
      )
      cases.push({
        name: `${scenario.id} ${scenario.name}: ${title}`,
        unit,
        target: target.atLeast ?? target.atMost,
        direction: target.atLeast === undefined ? "at most" : "at least",
        measured,
        deviation: deviation(values),
        met,
        ratios: Object.fromEntries(
          played.filter(({ stack }) => stack.ours !== true)
            .map(({ measures, stack }) => [stack.name, measured / mean(measures.get(target.measure) ?? [])])
        )
      })
    }
    console.log("")
    if (!args.includes("--no-plots")) {
      const file = `${scenario.id}-${scenario.name.replace(/[^a-z0-9]+/gi, "-")}.svg`
      writeFileSync(
        `${plots}/${file}`,
        plot(scenario, seeds[0] ?? 0, played.map(({ first, stack }) => ({ stack, result: first })))
      )
    }
  }
  const met = cases.filter((one) => one.met === true).length
  console.log(`${met} of ${cases.length} figures reached`)
  if (args.includes("--json")) console.log(JSON.stringify({ seeds, cases }))
}

/** Of the services that are held out: no limit was tuned with it. */
const heldOutSeed = 2027

if (args.includes("--held-out")) {
  const cases = heldOut(Number(valueOf("--seed") ?? heldOutSeed))
  if (args.includes("--json")) console.log(JSON.stringify({ cases }))
} else playScenarios()
