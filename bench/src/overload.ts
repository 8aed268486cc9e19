/**
 * Three times what a server can answer, over real sockets: with the library, without it, and with what fastify has.
 *
 * The server is one process, the load another. The load is an open loop: requests come at random (Poisson) whatever
 * becomes of those before them, their clients give up after a second, and latency counts from when a request was due. They
 * come over two hundred connections that are kept, and over new ones where those are not enough. Capacity is what the bare
 * server answers when sixteen clients ask again as soon as they are answered; p99 unloaded is that of the bare server at
 * 30 % of it. Each server then meets 75 %, 300 % and 75 %.
 *
 * `--json` prints the result for machines as the last line, `--quick` takes one short round of the first work, `--only cpu`
 * takes some of the work, `--rounds 1` other than three rounds, `--no-plots` writes no plots to `bench/plots`. It fails
 * where the library does not help at all, not where a figure is missed.
 */
import { fork } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { closedLoop, connect, openLoop, type Phase, type Shot, unsent } from "./overload/load.js"
import type { Kind, Work } from "./overload/work.js"
import { roundsOf } from "./overload/work.js"
import { draw, styles } from "./scenarios/plot.js"

const args = process.argv.slice(2)
const quick = args.includes("--quick")
const only = args.includes("--only")
  ? args[args.indexOf("--only") + 1]?.split(",") ?? []
  : quick
  ? ["cpu"]
  : ["cpu", "io"]
const say = (line: string) => console.error(line)

/** Milliseconds. */
const patience = 1000
const connections = 200
const handlerMillis = 7.5
const second = 1000
const times = quick
  ? { warm: second, capacity: second, unloaded: 2 * second, before: 2 * second, over: 3 * second, after: second }
  : {
    warm: 3 * second,
    capacity: 5 * second,
    unloaded: 15 * second,
    before: 20 * second,
    over: 60 * second,
    after: 15 * second
  }
const rounds = args.includes("--rounds") ? Number(args[args.indexOf("--rounds") + 1]) : quick ? 1 : 3

const all: Record<Work, ReadonlyArray<Kind>> = {
  cpu: quick ? ["standard", "bare"] : ["standard", "bare", "under-pressure"],
  io: ["standard", "bare"]
}
const names: Record<Kind, string> = {
  standard: "HttpResilience.standard (ours)",
  bare: "no protection",
  "under-pressure": "@fastify/under-pressure, on fastify"
}
const titles: Record<Work, string> = {
  cpu: `Handlers that compute for ${handlerMillis} ms`,
  io: "Handlers that wait for one of ten connections"
}

const hashes = roundsOf(handlerMillis)
const open = async (kind: Kind, work: Work) => {
  const child = fork(fileURLToPath(new URL("./overload/server.js", import.meta.url)), [kind, work, String(hashes)])
  const heard = async () => {
    const [value] = await Promise.race([
      once(child, "message"),
      once(child, "exit").then(([code]) => Promise.reject(new Error(`the server ${kind} ended with ${code}`)))
    ])
    return Number(value)
  }
  const port = await heard()
  return {
    port,
    /** Processor time that it has used, in seconds. */
    used: () => {
      child.send("used")
      return heard()
    },
    close: () => {
      child.disconnect()
      return once(child, "exit")
    }
  }
}
type Server = Awaited<ReturnType<typeof open>>

const quantile = (values: ReadonlyArray<number>, q: number) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * q)] ?? NaN
const median = (values: ReadonlyArray<number>) => quantile(values, 0.5)

/** Those that were of use: answered before their client was gone. */
const useful = (shots: ReadonlyArray<Shot>) =>
  shots.filter(({ latency, status }) => status === 200 && latency <= patience)
const latencies = (shots: ReadonlyArray<Shot>) => useful(shots).map(({ latency }) => latency)
const share = (shots: ReadonlyArray<Shot>, is: (shot: Shot) => boolean) =>
  shots.length === 0 ? NaN : shots.filter(is).length / shots.length
const within = (shots: ReadonlyArray<Shot>, from: number, to: number) =>
  shots.filter(({ due }) => due >= from && due < to)

/** What the bare server can do, by time and by the processor time that the machine gave it. */
const capacityOf = async (server: Server) => {
  await closedLoop(server.port, 16, times.warm)
  const before = await server.used()
  const perSecond = await closedLoop(server.port, 16, times.capacity)
  const used = await server.used() - before
  return { perSecond, perProcessorSecond: perSecond * times.capacity / second / used }
}

const figuresOf = async (kind: Kind, work: Work, capacity: Awaited<ReturnType<typeof capacityOf>>) => {
  const server = await open(kind, work)
  const agent = await connect(server.port, connections)
  const load = (...phases: ReadonlyArray<readonly [times: number, millis: number]>) =>
    openLoop(
      server.port,
      agent,
      phases.map(([times, millis]): Phase => ({ perSecond: times * capacity.perSecond, millis })),
      patience
    )
  await load([0.3, times.warm])
  const quiet = await load([0.75, times.before])
  const before = await server.used()
  const over = await load([3, times.over])
  const used = await server.used() - before
  const after = await load([0.75, times.after])
  agent.destroy()
  await server.close()
  const later = (shots: ReadonlyArray<Shot>, by: number) => shots.map((shot) => ({ ...shot, due: shot.due + by }))
  const answers = useful(over).length
  return {
    goodput: answers / (times.over / second) / capacity.perSecond,
    goodputOfProcessor: answers / used / capacity.perProcessorSecond,
    p50: median(latencies(over)),
    p99: quantile(latencies(over), 0.99),
    turnedAway: share(over, ({ status }) => status === 503),
    lost: share(over, ({ status }) => status === 0),
    unsent: share(over, ({ status }) => status === unsent),
    turnedAwayBefore: share(quiet, ({ status }) => status === 503),
    timeline: [...quiet, ...later(over, times.before), ...later(after, times.before + times.over)]
  }
}
type Figures = Awaited<ReturnType<typeof figuresOf>>

const play = async (work: Work) => {
  const unloaded: Array<number> = []
  const capacities: Array<number> = []
  const played = new Map<Kind, Array<Figures>>()
  for (let round = 0; round < rounds; round++) {
    for (const kind of all[work]) {
      // Beside each, for a shared machine is not the same a minute later.
      const server = await open("bare", work)
      const capacity = await capacityOf(server)
      capacities.push(capacity.perSecond)
      const agent = await connect(server.port, connections)
      const unloadedLoad = [{ perSecond: 0.3 * capacity.perSecond, millis: times.unloaded }]
      const shots = await openLoop(server.port, agent, unloadedLoad, patience)
      agent.destroy()
      unloaded.push(quantile(latencies(shots), 0.99))
      await server.close()
      const figures = await figuresOf(kind, work, capacity)
      played.set(kind, [...played.get(kind) ?? [], figures])
      say(
        `${work}, ${kind}, round ${round + 1}: goodput ${(figures.goodput * 100).toFixed(1)} % of ${
          capacity.perSecond.toFixed(0)
        }/s`
      )
    }
  }
  return { work, capacity: median(capacities), unloaded: median(unloaded), played }
}
type Played = Awaited<ReturnType<typeof play>>

const slots = 40
const plotOf = ({ capacity, played, unloaded, work }: Played): string => {
  const end = times.before + times.over + times.after
  const width = end / slots
  const linesOf = (of: (shots: ReadonlyArray<Shot>) => number) =>
    [...played].map(([kind, [first]], i) => ({
      name: names[kind],
      style: kind === "standard" ? styles.ours : kind === "bare" ? styles.bare : styles.other(i),
      points: Array.from({ length: slots }, (_, slot) =>
        [(slot + 0.5) * width, of(within(first?.timeline ?? [], slot * width, (slot + 1) * width))] as const)
    }))
  return draw({
    title: titles[work],
    shows: "goodput, p99 and rejections over time",
    says: `Capacity ${capacity.toFixed(0)} a second, p99 unloaded ${unloaded.toFixed(0)} ms; clients give up after ${
      patience / second
    } s. By when a request was due.`,
    end,
    during: { name: "three times its capacity", from: times.before, to: times.before + times.over },
    panels: [
      {
        title: "Answers in time, per second",
        hint: "more is better",
        lines: linesOf((shots) => useful(shots).length / width * second)
      },
      {
        title: "p99 of the answers in time, ms",
        hint: "a gap: no answers",
        lines: linesOf((shots) => quantile(latencies(shots), 0.99))
      },
      {
        title: "Turned away, per second",
        hint: "",
        lines: linesOf((shots) => shots.filter(({ status }) => status === 503).length / width * second)
      }
    ]
  })
}

const percent = (value: number) => (value * 100).toFixed(1)
const cases: Array<Record<string, unknown>> = []
let helps = true

console.log(`${rounds} rounds, Node ${process.versions.node}${quick ? ", shortened" : ""}\n`)
for (const work of (["cpu", "io"] as const).filter((work) => only.includes(work))) {
  const result = await play(work)
  const { capacity, played, unloaded } = result
  const of = (kind: Kind, figure: Exclude<keyof Figures, "timeline">) =>
    median((played.get(kind) ?? []).map((figures) => figures[figure]))
  console.log(`### ${titles[work]}\n`)
  console.log(`Capacity ${capacity.toFixed(0)} a second, p99 unloaded ${unloaded.toFixed(0)} ms.\n`)
  console.log(
    "| at three times the capacity | goodput % | per processor second % | p50 ms | p99 ms | p99, x unloaded | turned away % | lost % | turned away at 0.75 % |"
  )
  console.log(`|---|${"---|".repeat(8)}`)
  for (const kind of played.keys()) {
    const cells = [
      percent(of(kind, "goodput")),
      percent(of(kind, "goodputOfProcessor")),
      of(kind, "p50").toFixed(0),
      of(kind, "p99").toFixed(0),
      (of(kind, "p99") / unloaded).toFixed(1),
      percent(of(kind, "turnedAway")),
      percent(of(kind, "lost")),
      percent(of(kind, "turnedAwayBefore"))
    ]
    console.log(`| ${kind === "standard" ? `**${names[kind]}**` : names[kind]} | ${cells.join(" | ")} |`)
  }
  const late = Math.max(...[...played.keys()].map((kind) => of(kind, "unsent")))
  if (late > 0) {
    console.log(`\nOf the load up to ${percent(late)} % could not be made in time: the machine is too busy.`)
  }
  console.log("")
  const targets = [
    { name: "goodput", target: 0.9, measured: of("standard", "goodput"), atLeast: true },
    { name: "p99 / unloaded", target: 3, measured: of("standard", "p99") / unloaded, atLeast: false },
    { name: "turned away at 0.75", target: 0.01, measured: of("standard", "turnedAwayBefore"), atLeast: false }
  ]
  for (const { atLeast, measured, name, target } of targets) {
    const met = atLeast ? measured >= target : measured <= target
    console.log(
      `- ${name}: ${measured.toFixed(3)}, target ${atLeast ? ">=" : "<="} ${target}: ${met ? "met" : "missed"}`
    )
    cases.push({ name: `${work}: ${name}`, target, direction: atLeast ? "at least" : "at most", measured, met })
  }
  console.log("")
  // Where the load was made: much is turned away, some is answered, and less is left without an answer than by the bare server.
  helps &&= late > 0.5 || of("standard", "turnedAway") > 0.1 && of("standard", "goodput") > 0 &&
      of("standard", "lost") < of("bare", "lost")
  if (!args.includes("--no-plots")) {
    const plots = fileURLToPath(new URL("../plots", import.meta.url))
    mkdirSync(plots, { recursive: true })
    writeFileSync(`${plots}/overload-${work}.svg`, plotOf(result))
  }
}
if (!helps) {
  console.log(
    "the library does not help: it turned nobody away, or left as many without an answer as there are without it"
  )
  process.exitCode = 1
}
if (args.includes("--json")) console.log(JSON.stringify({ cases }))
