/**
 * A dependency that fails in all the usual ways, and real HTTP calls against it, once bare and once protected, side by
 * side. `--short` for a machine in a hurry, `--json` for a result on the last line, `--assert` to fail unless the
 * protected side is better.
 */
import { ResilienceLive } from "@effect-resilience/core"
import { NodeHttpClient } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { makeDependency } from "./dependency.js"
import { load, Side } from "./load.js"
import { shortcomings, summarize, table } from "./report.js"
import { legend, progress, say } from "./screen.js"
import { fullScript, shortScript } from "./script.js"
import { Api, bareCall, PatternsLive, protectedCall } from "./sides.js"

const args = process.argv.slice(2)
const script = args.includes("--short") ? shortScript : fullScript

const demo = Effect.gen(function*() {
  const bareDependency = yield* makeDependency
  const protectedDependency = yield* makeDependency
  const bare = new Side("bare")
  const protected_ = new Side("protected")
  let phase = 0
  let back = 0

  const total = script.reduce((sum, { seconds }) => sum + seconds, 0)
  yield* say(`A dependency fails in all the usual ways for ${total} seconds. Two clients make 40 calls a second each:`)
  yield* say("  bare       one plain HttpClient call, with the client's defaults")
  yield* say("  protected  the same call with fallback, deadline, retry, circuit breaker, bulkhead and timeout")
  yield* say(`${legend}\n`)

  yield* Api.on("StateChanged", ({ cause, from, to }) => say(`       circuit ${from} -> ${to} (${cause})`))
  yield* load(bare, () => phase, (sent) => bareCall(bareDependency.url, sent))
  yield* load(protected_, () => phase, (sent) => protectedCall(protectedDependency.url, sent))

  let second = 0
  let before = script[0]
  for (const [index, current] of script.entries()) {
    phase = index
    yield* bareDependency.become(current.mode)
    yield* protectedDependency.become(current.mode)
    if (current.mode === "recovering") back = Date.now()
    yield* say(`--- the dependency: ${current.name}`)
    for (let left = current.seconds; left > 0; left--) {
      yield* Effect.sleep(`${Math.min(1, left) * 1000} millis`)
      second += Math.min(1, left)
      // The calls that a line tells of began in the second before: it says what the dependency did then.
      yield* progress(before ?? current, Math.round(second), bare, protected_, yield* Api.state)
      before = current
    }
  }
  const now = Date.now()
  return {
    phases: script.map(({ down, mode, name, seconds }) => ({ name, mode, seconds, down })),
    bare: summarize(bare, script, back, now),
    protected: summarize(protected_, script, back, now)
  }
})

const program = Effect.gen(function*() {
  const result = yield* Effect.scoped(demo)
  const missing = shortcomings(result.bare, result.protected)
  const verdict = missing.length === 0
    ? "Protected: more real answers in time, a lower p99, fewer requests while it was down, back sooner.\n" +
      "  Bare gets more answers in all, because it waits for those that come too late to be of use."
    : `The protected side does not have ${missing.join(", nor ")}.`
  const text = `\n${table(result.bare, result.protected)}\n\n  ${verdict}\n`
  if (args.includes("--json")) {
    yield* say(text)
    process.stdout.write(`${JSON.stringify(result)}\n`)
  } else process.stdout.write(text)
  if (args.includes("--assert") && missing.length > 0) process.exitCode = 1
})

const live = Layer.merge(
  PatternsLive.pipe(Layer.provideMerge(ResilienceLive)),
  // Room for all that hangs: what is measured is the dependency, not the client's pool.
  NodeHttpClient.layerWithoutAgent.pipe(
    Layer.provide(NodeHttpClient.makeAgentLayer({ keepAlive: true, maxSockets: Infinity }))
  )
)

const interrupted = new AbortController()
process.once("SIGINT", () => interrupted.abort())
await Effect.runPromise(Effect.provide(program, live), { signal: interrupted.signal }).catch((error: unknown) => {
  if (!interrupted.signal.aborted) throw error
  process.exitCode = 130
})
process.exit()
