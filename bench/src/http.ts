/**
 * What protection costs a server per request: each stack beside itself without, in one run. Method: README.md beside this
 * folder.
 *
 * `--json` prints the result for machines as the last line, `--quick` takes two short rounds, `--rounds n` so many.
 */
import type { ChildProcess } from "node:child_process"
import { fork } from "node:child_process"
import { cpus, loadavg } from "node:os"
import { fileURLToPath } from "node:url"
import type { Order, Yield } from "./http/load.js"
import { median, quantile, versionOf } from "./report.js"

const args = process.argv.slice(2)
const quick = args.includes("--quick")
const rounds = args.includes("--rounds") ? Number(args[args.indexOf("--rounds") + 1]) : quick ? 2 : 9
const seconds = quick ? 0.4 : 2
const warmup = quick ? 0.8 : 4
const say = (line: string) => console.error(line)

/** The servers of a stack; the first is bare. */
const stacks = [
  ["router", "standard", "standard, rate limit, signals"],
  ["express", "express-rate-limit"],
  ["fastify", "@fastify/rate-limit + under-pressure"]
] as const
type Name = (typeof stacks)[number][number]

/** Servers that get a core only now and then say little of what they cost. */
const isBusy = () => (loadavg()[0] ?? 0) > 2 * cpus().length

const child = (file: string, ...args: ReadonlyArray<string>) =>
  fork(fileURLToPath(new URL(file, import.meta.url)), args, { env: { ...process.env, NODE_ENV: "production" } })

/** The next that a process says. */
const answer = <A>(from: ChildProcess, question?: object): Promise<A> =>
  new Promise((resolve, reject) => {
    const onExit = () => reject(new Error(`${from.spawnargs.slice(1).join(" ")} ended`))
    from.once("exit", onExit)
    from.once("message", (message) => {
      from.off("exit", onExit)
      resolve(message as A)
    })
    if (question !== undefined) from.send(question)
  })

interface Running {
  readonly process: ChildProcess
  readonly port: number
}
interface Measured {
  readonly throughput: number
  readonly p99: number
  readonly saturatedP99: number
  /** Microseconds of processor time of the server per request, when saturated. */
  readonly micros: number
}

const generator = child("./http/load.js")
const load = async (name: string, order: Order): Promise<Yield> => {
  const result = await answer<Yield>(generator, order)
  if (result.bad > 0 || result.requests === 0) {
    throw new Error(`${name}: ${result.bad} of ${result.requests} answers were not 200`)
  }
  return result
}
const cpuOf = async ({ process }: Running) => {
  const { cpu } = await answer<{ readonly cpu: NodeJS.CpuUsage }>(process, {})
  return cpu.user + cpu.system
}

const started = new Map<Name, Running>()
const at = (name: Name): Running => {
  const running = started.get(name)
  if (running === undefined) throw new Error(`${name} does not run`)
  return running
}

/** Each server of a stack with all it can do, and then at half of what the slowest of them can. */
const measure = async (stack: ReadonlyArray<Name>): Promise<ReadonlyMap<Name, Measured>> => {
  const saturated = new Map<Name, Yield & { readonly micros: number }>()
  for (const name of stack) {
    const before = await cpuOf(at(name))
    const result = await load(name, { port: at(name).port, seconds })
    saturated.set(name, { ...result, micros: ((await cpuOf(at(name))) - before) / result.requests })
  }
  const rate = Math.min(...[...saturated.values()].map(({ requests, seconds }) => requests / seconds)) / 2
  const measured = new Map<Name, Measured>()
  for (const [name, { micros, p99, requests, seconds: took }] of saturated) {
    const paced = await load(name, { port: at(name).port, seconds, rate })
    measured.set(name, { throughput: requests / took, p99: paced.p99, saturatedP99: p99, micros })
  }
  return measured
}

/** A figure of a protected server over that of its bare one, in each round. */
const relative = (rounds: ReadonlyArray<ReadonlyMap<Name, Measured>>, name: Name, figure: keyof Measured) => {
  const bare = stacks.find((stack) => (stack as ReadonlyArray<Name>).includes(name))?.[0] ?? name
  return rounds.map((round) => (round.get(name)?.[figure] ?? NaN) / (round.get(bare)?.[figure] ?? NaN))
}

const targets = [
  // A peer that keeps less throughput loses more, and so does one whose p99 rises more.
  { figure: "throughput", of: "throughput", better: "more" },
  { figure: "p99", of: "p99 at half load", better: "less" }
] as const

const main = async () => {
  const names = stacks.flat()
  for (const name of names) {
    const process = child("./http/servers.js", name)
    started.set(name, { process, ...await answer<{ readonly port: number }>(process) })
  }
  say(`${rounds} rounds. ${peers.map(versionOf).join(", ")}. Node ${process.version}, load ${load1()}`)
  for (const name of names) await load(name, { port: at(name).port, seconds: warmup })

  const measured: Array<ReadonlyMap<Name, Measured>> = []
  for (let i = 1; i <= rounds; i++) {
    const round = new Map<Name, Measured>()
    for (const stack of stacks) {
      // Every other round backwards, so that none is always first.
      for (const [name, one] of await measure(i % 2 === 0 ? [...stack].reverse() : stack)) round.set(name, one)
    }
    measured.push(round)
    say(`round ${i} of ${rounds}, load ${load1()}`)
  }
  const busy = isBusy()
  for (const { process } of started.values()) process.disconnect()
  generator.disconnect()

  const figuresOf = (name: Name, figure: keyof Measured) => measured.map((round) => round.get(name)?.[figure] ?? NaN)
  const servers = names.map((name) => ({
    name,
    throughput: Math.round(median(figuresOf(name, "throughput"))),
    micros: rounded(median(figuresOf(name, "micros"))),
    p99: rounded(median(figuresOf(name, "p99"))),
    saturatedP99: rounded(median(figuresOf(name, "saturatedP99"))),
    relative: {
      throughput: spread(relative(measured, name, "throughput")),
      micros: spread(relative(measured, name, "micros")),
      p99: spread(relative(measured, name, "p99")),
      saturatedP99: spread(relative(measured, name, "saturatedP99"))
    }
  }))
  say("\nmedians of the rounds; in brackets over the bare server, with the middle half of the rounds")
  for (const { micros, name, p99, relative, saturatedP99, throughput } of servers) {
    say(`  ${name}`)
    say(`    ${String(throughput).padStart(7)} requests/s        ${shown(relative.throughput)}`)
    say(`    ${micros.toFixed(1).padStart(7)} µs of processor   ${shown(relative.micros)}`)
    say(`    ${p99.toFixed(2).padStart(7)} ms p99, half load  ${shown(relative.p99)}`)
    say(`    ${saturatedP99.toFixed(2).padStart(7)} ms p99, saturated  ${shown(relative.saturatedP99)}`)
  }

  say("\nwhat is left of the bare server's, ours over a peer's (middle half of the rounds)")
  const cases = stacks[0].slice(1).flatMap((ours) =>
    stacks.slice(1).flatMap(([, peer]) =>
      targets.map(({ better, figure, of }) => {
        const theirs = relative(measured, peer, figure)
        const ratio = spread(relative(measured, ours, figure).map((value, i) => value / (theirs[i] ?? NaN)))
        // Missed only where the whole middle of the rounds lies beyond the target.
        const met = busy ? undefined : better === "more" ? ratio.high >= 1 : ratio.low <= 1
        const verdict = met === undefined ? "not judged" : met ? "reached" : "MISSED"
        const name = `${of}: ${ours} / ${peer}`
        const aim = `${better === "more" ? ">=" : "<="} 1`
        say(`  ${name.padEnd(88)} ${shown(ratio)}  ${verdict} (to reach: ${aim})`)
        return { name, unit: `ratio of relative ${of}`, measured: ratio.median, target: 1, better, met, ratios: ratio }
      })
    )
  )
  if (busy) say(`\nload ${load1()} on ${cpus().length} cores: too busy a machine to judge`)
  const machine = {
    busy,
    node: process.version,
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    rounds,
    load: load1()
  }
  if (args.includes("--json")) console.log(JSON.stringify({ machine, servers, cases }))
}

const rounded = (value: number) => Number(value.toPrecision(4))
const load1 = () => loadavg()[0]?.toFixed(1)
const spread = (values: ReadonlyArray<number>) => ({
  median: rounded(median(values)),
  low: rounded(quantile(values, 0.25)),
  high: rounded(quantile(values, 0.75))
})
const shown = ({ high, low, median }: ReturnType<typeof spread>) =>
  `${median.toFixed(2)} (${low.toFixed(2)} - ${high.toFixed(2)})`

const peers = [
  "@effect/platform-node",
  "express",
  "express-rate-limit",
  "fastify",
  "@fastify/rate-limit",
  "@fastify/under-pressure"
]

await main()
