/**
 * Decisions that go to Redis: ours each way, beside bare scripts and the limiters of others, in one run against one server;
 * and what permits and checks of a circuit that processes share cost it.
 * Method: README.md beside this folder.
 *
 * `--json` prints the result for machines as the last line, `--quick` takes two short rounds, `--rounds n` so many, `--socket` goes
 * by a unix socket, `--tuned` runs clients with what Node can do for programs with thousands of calls in flight.
 */
import { cpus, loadavg } from "node:os"
import { breakerCase } from "./redis/breaker.js"
import { bulkheadCases } from "./redis/bulkhead.js"
import { denials, leases } from "./redis/checks.js"
import type { Client, Measured } from "./redis/client.js"
import { client } from "./redis/client.js"
import { start } from "./redis/server.js"
import { subjects } from "./redis/subjects.js"
import { targets } from "./redis/targets.js"
import { median, quantile, versionOf } from "./report.js"

const args = process.argv.slice(2)
const quick = args.includes("--quick")
const rounds = args.includes("--rounds") ? Number(args[args.indexOf("--rounds") + 1]) : quick ? 2 : 5
/** Of processor time. */
const millis = quick ? 150 : 300
const say = (line: string) => console.error(line)
const load1 = () => loadavg()[0]?.toFixed(1)

const server = await start(args.includes("--socket") ? "socket" : "tcp")
const { url } = server

/** Room for what is young, of which thousands of calls in flight have megabytes, and nothing taken for old before it is. */
const forManyCalls = ["--max-semi-space-size=64", "--no-allocation-site-pretenuring"]
const tuned = args.includes("--tuned")

const always = /^(bare|an Effect) /
/** `--only text` takes the subjects whose names contain it, and what they are held against. */
const only = args.includes("--only") ? String(args[args.indexOf("--only") + 1]) : undefined
const names = Object.keys(subjects).filter((name) => only === undefined || name.includes(only) || always.test(name))
const clients = new Map<string, Client>()
for (const name of names) clients.set(name, await client(url, name, tuned ? forManyCalls : []))

const loads = [1, 64, 256, 2048].flatMap((callers) => [1, 1000].map((keys) => ({ callers, keys })))
const at = (name: string, callers: number, keys: number) => `${name}; ${callers} callers, ${keys} keys`
const measured = new Map<string, Array<Measured>>()

say(
  `${rounds} rounds of ${millis} ms. Redis ${server.version}, ${
    ["ioredis", "rate-limiter-flexible", "@effect/experimental"].map(versionOf).join(", ")
  }. Node ${process.version}${tuned ? ` with ${forManyCalls.join(" ")}` : ""}, load ${load1()}`
)
for (const { measure } of clients.values()) await measure({ callers: 256, keys: 1000, millis: 500 })
for (let round = 1; round <= rounds; round++) {
  for (const { callers, keys } of loads) {
    // Every other round backwards, so that none is always first.
    for (const name of round % 2 === 0 ? [...names].reverse() : names) {
      const one = await (clients.get(name) as Client).measure({ callers, keys, millis })
      measured.set(at(name, callers, keys), [...(measured.get(at(name, callers, keys)) ?? []), one])
    }
  }
  say(`round ${round} of ${rounds}, load ${load1()}`)
}
for (const { close } of clients.values()) await close()

const leased = await leases(url, quick ? 2 : 5)
const told = await denials(url, quick ? 500 : 5000)
const bulkheads = await bulkheadCases(url, 2000)
const breaker = await breakerCase(url)
await server.stop()

const figures = (name: string, callers: number, keys: number, figure: keyof Measured) =>
  (measured.get(at(name, callers, keys)) ?? []).map((one) => one[figure])
const rounded = (value: number) => Number(value.toPrecision(4))

const all = loads.flatMap(({ callers, keys }) =>
  names.map((name) => ({
    name,
    callers,
    keys,
    perSecond: Math.round(median(figures(name, callers, keys, "perSecond"))),
    roundTrips: rounded(median(figures(name, callers, keys, "roundTrips"))),
    p50: rounded(median(figures(name, callers, keys, "p50"))),
    p99: rounded(median(figures(name, callers, keys, "p99"))),
    denied: rounded(median(figures(name, callers, keys, "denied"))),
    client: rounded(median(figures(name, callers, keys, "client"))),
    server: rounded(median(figures(name, callers, keys, "server")))
  }))
)
say(
  "\ndecisions in a second, round trips for each, ms at the median and at p99, µs of processor time of client and server"
)
for (const { callers, keys } of loads) {
  say(`\n  ${callers} callers, ${keys} keys`)
  for (const one of all.filter((one) => one.callers === callers && one.keys === keys)) {
    say(
      `    ${one.name.padEnd(28)} ${String(one.perSecond).padStart(9)}/s ${one.roundTrips.toFixed(5).padStart(9)} ${
        one.p50.toFixed(3).padStart(9)
      } ${one.p99.toFixed(3).padStart(9)} ${one.client.toFixed(2).padStart(8)} ${one.server.toFixed(2).padStart(8)}`
    )
  }
}

say("\npermits in a second, of processes that share them")
for (const { name, permitsPerSecond } of bulkheads) {
  say(`    ${name.padEnd(52)} ${String(permitsPerSecond).padStart(9)}/s`)
}
say(`\nns of ${breaker.name}: ${breaker.nanos}; shared with nobody: ${breaker.aloneNanos}`)
say(`  and ${breaker.reportsPerSecond} round trips in a second, however many checks there are`)

/** Where the server and this process get a core only now and then, the time that passes says little. */
const busy = (loadavg()[0] ?? 0) > 1.5 * cpus().length
/** Ours over a peer, round by round. */
const ratio = (name: string, peer: string, callers: number, keys: number) => {
  const figure = busy ? "capacity" : "perSecond"
  const theirs = figures(peer, callers, keys, figure)
  return figures(name, callers, keys, figure).map((value, i) => value / (theirs[i] ?? NaN))
}

say("\nwhat is to be reached (middle half of the rounds)")
if (busy) {
  say("  too busy a machine: throughput is reckoned from the processor time of client and server, a core for each")
}
const cases = targets({
  ratio,
  roundTrips: (name, callers, keys) => figures(name, callers, keys, "roundTrips"),
  leased,
  told,
  bulkheads,
  breaker
})
  // With --only some are not measured.
  .filter(({ values }) => values.length > 0 && !values.some(Number.isNaN))
  .map(({ better, name, target, values }) => {
    const [low, middle, high] = [0.25, 0.5, 0.75].map((q) => rounded(quantile(values, q))) as [number, number, number]
    // Missed only where the whole middle of the rounds lies beyond the target.
    const met = better === "more" ? high >= target : low <= target
    const aim = `${better === "more" ? ">=" : "<="} ${target}`
    say(`  ${name.padEnd(72)} ${middle} (${low} - ${high})  ${met ? "reached" : "MISSED"} (to reach: ${aim})`)
    return { name, target, measured: middle, met, better, ratios: { low, high } }
  })
/** What callers that are Effects cost by themselves is the end of what any limiter can reach for them. */
const most = {
  waiting: rounded(median(ratio("an Effect that waits", "bare EVALSHA, trivial", 2048, 1000))),
  atOnce: rounded(median(ratio("an Effect that does not", "bare EVALSHA, trivial", 256, 1000)))
}
if (!Number.isNaN(most.waiting)) {
  say(
    `  by the same reckoning an Effect that does nothing but wait for a turn of the event loop makes ${most.waiting} at ` +
      `2048 callers, and one that does nothing at all ${most.atOnce} at 256`
  )
}
const machine = {
  node: process.version,
  redis: server.version,
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length
}
if (args.includes("--json")) {
  console.log(
    JSON.stringify({
      machine: { ...machine, busy, tuned, rounds, load: load1() },
      figures: all,
      bulkheads,
      breaker,
      most,
      cases
    })
  )
}
