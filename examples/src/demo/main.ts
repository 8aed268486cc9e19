/**
 * A dependency that fails in all the usual ways and then gets more calls than it can answer, and real HTTP calls against
 * it, once bare and once protected, side by side. `--short` for a machine in a hurry, `--json` for a result on the last
 * line, `--assert` to fail unless the protected side is better.
 */
import { ResilienceLive } from "@effect-resilience/core"
import { Dashboard } from "@effect-resilience/http"
import { HttpServer } from "@effect/platform"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { createServer } from "node:http"
import { makeDependency } from "./dependency.js"
import { load, Side } from "./load.js"
import { overloadShortcomings, overloadTable, shortcomings, summarize, summarizeOverload, table } from "./report.js"
import { legend, progress, say } from "./screen.js"
import { fullScript, type Phase, shortScript } from "./script.js"
import { Api, bareCall, PatternsLive, protectedCall } from "./sides.js"

const args = process.argv.slice(2)
const script = args.includes("--short") ? shortScript : fullScript

/** The dashboard on a port of its own: what an operator would see of the protected side. */
const showDashboard = Effect.gen(function*() {
  const server = createServer()
  const context = yield* Layer.build(Layer.mergeAll(
    NodeHttpServer.layer(() => server, { host: "127.0.0.1", port: 0 }),
    Dashboard.layer({ title: "Demo" })
  ))
  yield* Effect.provide(HttpServer.serveEffect(Dashboard.router), context)
  // A page that is open would keep the server from closing.
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const address = server.address()
  return address !== null && typeof address === "object" ? `http://127.0.0.1:${address.port}/` : ""
})

const demo = Effect.gen(function*() {
  const bareDependency = yield* makeDependency
  const protectedDependency = yield* makeDependency
  const bare = new Side("bare")
  const protected_ = new Side("protected")
  let phase = script[0] as Phase
  let back = 0

  const total = script.reduce((sum, { seconds }) => sum + seconds, 0)
  yield* say(
    `For ${total} seconds a dependency fails in all the usual ways, and then gets more calls than it can answer.`
  )
  yield* say(
    "Two clients make 40 calls a second each. One in six is critical, half of them could be done without (sheddable):"
  )
  yield* say("  bare       one plain HttpClient call, with the client's defaults")
  yield* say(
    "  protected  the same call with fallback, load shedder, deadline, retry, circuit breaker, bulkhead, timeout"
  )
  yield* say(legend)
  yield* say(`Watch the protected side live at ${yield* showDashboard}\n`)

  yield* Api.on("StateChanged", ({ cause, from, to }) => say(`       circuit ${from} -> ${to} (${cause})`))
  yield* load(bare, () => phase, (sent) => bareCall(bareDependency.url, sent))
  yield* load(protected_, () => phase, (sent) => protectedCall(protectedDependency.url, sent))

  let second = 0
  let before = phase
  for (const current of script) {
    phase = current
    yield* bareDependency.become(current.mode)
    yield* protectedDependency.become(current.mode)
    if (current.mode === "recovering") back = Date.now()
    yield* say(`--- the dependency: ${current.name}`)
    for (let left = current.seconds; left > 0; left--) {
      yield* Effect.sleep(`${Math.min(1, left) * 1000} millis`)
      second += Math.min(1, left)
      // The calls that a line tells of began in the second before: it says what the dependency did then.
      yield* progress(before, Math.round(second), bare, protected_, yield* Api.state)
      before = current
    }
  }
  const now = Date.now()
  const crowded = script.find(({ mode }) => mode === "crowded")?.seconds ?? 0
  return {
    phases: script,
    bare: summarize(bare, back, now),
    protected: summarize(protected_, back, now),
    overload: {
      bare: summarizeOverload(bare, crowded, now),
      protected: summarizeOverload(protected_, crowded, now)
    }
  }
})

const program = Effect.gen(function*() {
  const { overload, ...result } = yield* Effect.scoped(demo)
  const failing = shortcomings(result.bare, result.protected)
  const crowded = overloadShortcomings(overload.bare, overload.protected)
  const verdict = (missing: ReadonlyArray<string>, praise: string) =>
    missing.length === 0
      ? praise
      : `  The protected side is short of what was expected: ${missing.join("; ")}. A busy machine shows less.`
  const text = [
    "",
    table(result.bare, result.protected),
    "",
    verdict(
      failing,
      "  Protected: more real answers in time, a lower p99, fewer requests while it was down, back sooner.\n" +
        "  Bare gets more answers in all, because it waits for those that come too late to be of use."
    ),
    "",
    overloadTable(overload.bare, overload.protected),
    "",
    verdict(
      crowded,
      "  Protected: what it cannot do is turned away at once, the least important first, so the rest is answered in time.\n" +
        "  Bare does as much work, but for callers that have been waiting for too long."
    ),
    ""
  ].join("\n")
  if (args.includes("--json")) {
    yield* say(text)
    process.stdout.write(`${JSON.stringify({ ...result, overload })}\n`)
  } else process.stdout.write(text)
  if (args.includes("--assert") && failing.length + crowded.length > 0) process.exitCode = 1
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
