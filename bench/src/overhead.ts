/**
 * What each guard adds to a call, beside the peers, in one run. Method: README.md beside this folder.
 *
 * `--json` prints the result for machines as the last line, `--quick` runs two rounds of what has a figure to reach,
 * `--all` adds our own guards against themselves, `--only text` takes some comparisons. `--memory` weighs keys instead.
 */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { cpus, loadavg } from "node:os"
import { fileURLToPath } from "node:url"
import { bare, cases as guards } from "./cases.js"
import { loadControl } from "./loadControl.js"
import { memoryComparison, weighCase } from "./memory.js"
import { median, quantile, versionOf } from "./report.js"
import { comparisons } from "./targets.js"

const args = process.argv.slice(2)
const cases = { ...guards, ...loadControl }
const say = (line: string) => console.error(line)

// ---------------------------------------------------------------- one case, in a process of its own

const schedstat = "/proc/thread-self/schedstat"
/** Time of this thread on a core where the system tells it, else time that passed: in nanoseconds. */
const clock = existsSync(schedstat)
  ? () => Number(readFileSync(schedstat, "utf8").split(" ")[0])
  : () => performance.now() * 1e6

const worker = async (name: string, millis: number, warmup: number) => {
  const setup = cases[name]
  if (setup === undefined) throw new Error(`there is no case ${name}`)
  const { run, world } = await setup()
  const timed = async (n: number) => {
    globalThis.gc?.()
    const start = clock()
    const done = await run(n)
    const took = clock() - start
    if (done !== n) throw new Error(`${name}: ${n} calls were asked for, ${done} ended as they should`)
    return took
  }
  // Warm until a service would be: the run loop of Effect is large, and half compiled it costs twice as much.
  let n = 1000
  for (let spent = 0, took = 0; spent < warmup * 1e6 || took < millis * 1e6 / 2; spent += took) {
    took = await timed(n)
    if (took < millis * 1e6) n *= 2
  }
  // The best of five: what other processes take away is no property of the guard.
  const took: Array<number> = []
  for (let i = 0; i < 5; i++) took.push(await timed(n))
  console.log(JSON.stringify({ world, nanos: Math.min(...took) / n }))
  process.exit(0)
}

const weigher = async (name: string, keys: number) => {
  console.log(JSON.stringify({ bytes: await weighCase(name, keys) }))
  process.exit(0)
}

// ---------------------------------------------------------------- all of them

const shuffled = <A>(values: ReadonlyArray<A>): ReadonlyArray<A> =>
  values.map((value) => [Math.random(), value] as const).sort(([a], [b]) => a - b).map(([, value]) => value)

/** Runs a case in a process of its own; its last line is the result. */
const inProcess = (kind: string, name: string, ...numbers: ReadonlyArray<number>) => {
  const { stderr, stdout } = spawnSync(
    process.execPath,
    ["--expose-gc", fileURLToPath(import.meta.url), kind, name, ...numbers.map(String)],
    { encoding: "utf8" }
  )
  const line = stdout.trim().split("\n").at(-1)
  if (!line?.startsWith("{")) throw new Error(`${name} did not run:\n${stderr}`)
  return JSON.parse(line)
}

const memory = () => {
  const { name, ours, peer, target } = memoryComparison
  const keys = args.includes("--quick") ? 100_000 : 1_000_000
  say(`bytes per key at ${keys} keys, the key itself not counted. ${versionOf("rate-limiter-flexible")}`)
  const bytes = (one: string): number => {
    const { bytes } = inProcess("--weigh", one, keys)
    say(`  ${one.padEnd(42)} ${bytes.toFixed(0).padStart(8)}`)
    return bytes
  }
  const measured = Number((bytes(ours) / bytes(peer)).toFixed(3))
  const met = measured <= target
  say(`  ${name.padEnd(42)} ${measured.toFixed(2).padStart(8)}  ${met ? "reached" : "MISSED"} (to reach: <= ${target})`)
  if (args.includes("--json")) {
    console.log(JSON.stringify({ keys, cases: [{ name, unit: "ratio of bytes per key", measured, target, met }] }))
  }
}

const main = () => {
  const quick = args.includes("--quick")
  const only = args[args.indexOf("--only") + 1] ?? ""
  const all = args.includes("--all")
  const wanted = comparisons.filter(({ name, own, target }) =>
    args.includes("--only") ? name.includes(only) : all || (own !== true && (!quick || target !== undefined))
  )
  const rounds = args.includes("--rounds") ? Number(args[args.indexOf("--rounds") + 1]) : quick ? 2 : 9
  const millis = quick ? 40 : 60
  const warmup = quick ? 200 : 500
  const used = new Set(wanted.flatMap(({ ours, peer }) => [ours, peer]))
  for (const name of Object.values(bare)) if (name !== undefined) used.add(name)
  const names = Object.keys(cases).filter((name) => used.has(name))

  const peers = ["effect", "cockatiel", "opossum", "p-limit", "rate-limiter-flexible", "bottleneck"].map(versionOf)
  say(
    `${names.length} cases, ${rounds} rounds. ${peers.join(", ")}. Node ${process.version}, load ${
      loadavg()[0]?.toFixed(1)
    }`
  )

  const worlds = new Map<string, string>()
  const nanos = new Map<string, Array<number>>()
  for (let round = 1; round <= rounds; round++) {
    for (const name of shuffled(names)) {
      const result: { readonly world: string; readonly nanos: number } = inProcess("--worker", name, millis, warmup)
      worlds.set(name, result.world)
      nanos.set(name, [...(nanos.get(name) ?? []), result.nanos])
    }
    say(`round ${round} of ${rounds}, load ${loadavg()[0]?.toFixed(1)}`)
  }

  /** What a case adds to the bare call of its world, per round. */
  const added = (name: string): ReadonlyArray<number> => {
    const base = bare[worlds.get(name) ?? "nothing"]
    const under = base === undefined ? undefined : median(nanos.get(base) ?? [])
    return (nanos.get(name) ?? []).map((n) => Math.max(1, n - (under ?? 0)))
  }

  say("\nadded per call, median of the rounds (least - most), in nanoseconds")
  for (const name of names) {
    const values = added(name)
    if (name.startsWith("bare")) continue
    say(
      `  ${name.padEnd(42)} ${median(values).toFixed(0).padStart(8)}  (${Math.min(...values).toFixed(0)} - ${
        Math.max(...values).toFixed(0)
      })`
    )
  }

  say("\nratio of medians (middle half of the rounds)")
  const results = wanted.map(({ name, ours, peer, target }) => {
    const mine = added(ours)
    const theirs = added(peer)
    const ratio = median(mine) / median(theirs)
    const spread = mine.map((n, i) => n / (theirs[i] ?? NaN))
    const low = Math.min(ratio, quantile(spread, 0.25))
    const high = Math.max(ratio, quantile(spread, 0.75))
    // Missed only where the whole middle of the rounds lies beyond the target.
    const met = target === undefined ? undefined : low <= target
    const verdict = target === undefined ? "" : `${met ? "reached" : "MISSED"} (to reach: <= ${target})`
    say(`  ${name.padEnd(70)} ${ratio.toFixed(2).padStart(6)}  (${low.toFixed(2)} - ${high.toFixed(2)})  ${verdict}`)
    return {
      name,
      unit: "ratio of added ns per call",
      measured: Number(ratio.toFixed(3)),
      ...(target === undefined ? {} : { target, met }),
      ratios: { low: Number(low.toFixed(3)), high: Number(high.toFixed(3)) },
      nanos: { ours: Math.round(median(mine)), peer: Math.round(median(theirs)) }
    }
  })
  const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, rounds, peers }
  if (args.includes("--json")) console.log(JSON.stringify({ machine, cases: results }))
}

if (args[0] === "--worker") await worker(args[1] ?? "", Number(args[2]), Number(args[3]))
else if (args[0] === "--weigh") await weigher(args[1] ?? "", Number(args[2]))
else if (args.includes("--memory")) memory()
else main()
