/**
 * What a subscriber does to the calls: the same calls with nobody listening (twice, which shows the noise), with a
 * subscriber that is prompt, one that sleeps for ever, and one that dies on every event.
 *
 * Latencies are a report. What must hold on any machine is checked: the results of the calls and what another subscriber
 * sees are the same beside each of them, with nobody listening no event is built, and a call of 10 ms, which drowns the
 * price of an event, takes as long as with nobody.
 *
 * `--json` prints the result for machines as the last line, `--quick` takes three rounds.
 */
import { Bulkhead, CircuitBreaker, EventBus, ResilienceLive } from "@effect-resilience/core"
import { Effect, Exit, Layer, Logger, ManagedRuntime } from "effect"

const rounds = process.argv.includes("--quick") ? 3 : 9
/** Of a call of 10 ms; the margin is for a busy machine. */
const tolerated = 1.5

const median = (values: ReadonlyArray<number>) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? NaN

class Dependency extends CircuitBreaker.Tag<Dependency>()("dependency", { consecutiveFailures: false }) {}
class Permits extends Bulkhead.Tag<Permits>()("permits") {}

const app = Layer.mergeAll(Dependency.Live, Permits.Live).pipe(
  Layer.provideMerge(ResilienceLive),
  Layer.provideMerge(Logger.remove(Logger.defaultLogger)) // the dying subscriber is reported each time
)

const subscribers = {
  nobody: undefined,
  "nobody again": undefined,
  prompt: () => Effect.void,
  sleeping: () => Effect.never,
  dying: () => Effect.die("subscriber")
}
type Name = keyof typeof subscribers

/** One call in ten fails. */
const ending = (n: number) => n % 10 === 0 ? Effect.fail("no") : Effect.void
const bodies = [
  { title: "a call of 10 ms", calls: 30, body: (n: number) => Effect.zipRight(Effect.sleep("10 millis"), ending(n)) },
  { title: "a call of 1 ms", calls: 200, body: (n: number) => Effect.zipRight(Effect.sleep("1 millis"), ending(n)) },
  {
    title: "a call of one turn of the loop",
    calls: 1000,
    body: (n: number) => Effect.zipRight(Effect.yieldNow(), ending(n))
  }
]
type Body = (typeof bodies)[number]
const slow = bodies[0] as Body
const turn = bodies[2] as Body

/** The latencies of the calls in microseconds, how they ended, and what another subscriber saw. */
const round = (name: Name, { body, calls }: Body, witness: boolean) =>
  Effect.scoped(Effect.gen(function*() {
    const handler = subscribers[name]
    if (handler !== undefined) yield* EventBus.on("*", handler)
    const seen: Array<string> = []
    const hear = ({ _tag }: { readonly _tag: string }) => {
      // That another one died is told to everybody.
      if (_tag !== "InternalError") seen.push(_tag)
    }
    if (witness) yield* EventBus.on("*", (event) => Effect.sync(() => hear(event)))
    const latencies: Array<number> = []
    let results = ""
    for (let n = 0; n < calls; n++) {
      const start = performance.now()
      const exit = yield* Effect.exit(body(n).pipe(Permits.withPermit, Dependency.withBreaker))
      latencies.push((performance.now() - start) * 1000)
      results += Exit.isSuccess(exit) ? "+" : "-"
      if (witness) yield* Effect.yieldNow()
    }
    if (witness) yield* Effect.repeatN(Effect.yieldNow(), 100)
    const bus = yield* EventBus
    return { latency: median(latencies), results, seen: seen.join(" "), built: bus.hub.built }
  }))

const runtime = ManagedRuntime.make(app)
const names = Object.keys(subscribers) as ReadonlyArray<Name>
const report: Record<string, unknown> = {}
const problems: Array<string> = []

for (const body of bodies) {
  const medians = new Map<Name, Array<number>>(names.map((name) => [name, []]))
  const outcomes = new Set<string>()
  for (let i = 0; i <= rounds; i++) {
    for (const name of i % 2 === 0 ? names : [...names].reverse()) {
      const { latency, results } = await runtime.runPromise(round(name, body, false))
      outcomes.add(results)
      if (i > 0) medians.get(name)?.push(latency) // the first round warms up
    }
  }
  const compare = (name: Name, to: Name) => {
    const ratios = (medians.get(name) ?? []).map((value, i) => value / (medians.get(to)?.[i] ?? NaN))
    const sorted = ratios.sort((a, b) => a - b)
    return { ratio: median(sorted), from: sorted[1] ?? NaN, to: sorted[sorted.length - 2] ?? NaN }
  }
  const show = ({ from, ratio, to }: ReturnType<typeof compare>) =>
    `${ratio.toFixed(2)} (${from.toFixed(2)} to ${to.toFixed(2)})`.padEnd(24)
  console.error(`\n${body.title}, median latency of ${rounds} interleaved rounds`)
  console.error(`  ${"subscriber".padEnd(28)}${"to nobody".padEnd(24)}to one that is prompt`)
  const table = names.map((name) => {
    const row = {
      subscriber: name,
      micros: median(medians.get(name) ?? []),
      toNobody: compare(name, "nobody"),
      toPrompt: compare(name, "prompt")
    }
    console.error(
      `  ${name.padEnd(14)}${row.micros.toFixed(1).padStart(8)} µs   ${show(row.toNobody)}${show(row.toPrompt)}`
    )
    return row
  })
  console.error(`  results: ${outcomes.size === 1 ? "the same in all rounds" : `${outcomes.size} different ones`}`)
  if (outcomes.size !== 1) problems.push(`${body.title}: the results differ`)
  for (const { subscriber, toNobody } of body === slow ? table : []) {
    if (toNobody.ratio > tolerated) problems.push(`${body.title}: ${toNobody.ratio.toFixed(2)} with ${subscriber}`)
  }
  report[body.title] = { table, sameResults: outcomes.size === 1 }
}

// What another subscriber sees, beside each of these.
const seen = new Set<string>()
for (const name of names) {
  seen.add((await runtime.runPromise(round(name, turn, true))).seen)
}
const length = [...seen][0]?.split(" ").length ?? 0
console.error(
  `\nanother subscriber saw ${seen.size === 1 ? `the same ${length} events` : "different events"} beside each`
)
report["sameSeen"] = seen.size === 1
if (seen.size !== 1) problems.push("another subscriber saw different events")

await runtime.dispose()

// Nobody listening, in a program of its own: no event object is built.
const quiet = ManagedRuntime.make(app)
const { built } = await quiet.runPromise(round("nobody", turn, false))
await quiet.dispose()
console.error(`with nobody listening ${built} events were built for ${turn.calls} calls`)
report["eventsWithNobody"] = built
if (built > 0) problems.push(`${built} events were built for nobody`)

for (const problem of problems) console.error(`PROBLEM ${problem}`)
report["problems"] = problems
if (problems.length > 0) process.exitCode = 1

if (process.argv.includes("--json")) console.log(JSON.stringify(report))
