/**
 * Two processes that share one rate limit, one bulkhead and one circuit: the second is forked by the first. What they do is
 * `work`, which says nothing of Redis; that all of it is shared, only the Layers say. `REDIS_URL` says where Redis is:
 * `npm run examples -- redis-two-processes` starts one where it says nothing.
 */
import { Bulkhead, CircuitBreaker, RateLimiter } from "@effect-resilience/core"
import { RedisBulkhead, RedisCircuitBreaker, RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Fiber, Layer, Option, Schedule } from "effect"
import type { ChildProcess } from "node:child_process"
import { fork } from "node:child_process"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"

class Search extends RateLimiter.Tag<Search>()("search", { rate: "50/minute" }) {}
class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 4, maxQueued: 20, maxWait: "10 seconds" }) {}
class Payments
  extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 3, openDuration: "1 minute" })
{}

/** Where all three are kept. In memory: `Layer.mergeAll(Search.Live, Reports.Live, Payments.Live)`. */
const Live = Layer.mergeAll(
  Search.layerStore().pipe(Layer.provide(RedisRateLimiterStore.Live)),
  RedisBulkhead.layer(Reports),
  // One that sees it fail is enough; by default it takes two.
  Payments.Live.pipe(Layer.provide(RedisCircuitBreaker.layer({ quorum: 1 })))
).pipe(Layer.provide(RedisConnection.layerConfig({
  server: Config.redacted("REDIS_URL"),
  prefix: Config.string("TWO_PROCESSES_PREFIX"),
  // Longer than the default of 100 ms: processes that have just begun, on a machine of any speed, answer late themselves.
  commandTimeout: "500 millis"
})))

/** Milliseconds of a clock that all processes of a machine have. */
const now = Effect.sync(() => Number(process.hrtime.bigint()) / 1e6)

interface Span {
  readonly from: number
  readonly to: number
}

/** What came of it in one process. */
interface Done {
  readonly found: number
  readonly reports: ReadonlyArray<Span>
}

/** What each of them does: forty searches, and ten reports at once. */
const work = Effect.gen(function*() {
  const searches = yield* Effect.replicateEffect(Effect.option(Effect.succeed("found").pipe(Search.withLimit)), 40)
  const report = Effect.gen(function*() {
    const from = yield* now
    yield* Effect.sleep("100 millis")
    return { from, to: yield* now }
  })
  const reports = yield* Effect.replicateEffect(report.pipe(Reports.withPermit), 10, { concurrency: "unbounded" })
  return { found: searches.filter(Option.isSome).length, reports }
})

/** The message that the other process sends next. */
const message = <A>(from: ChildProcess | NodeJS.Process) =>
  Effect.async<A>((resume) => {
    from.once("message", (message: A) => resume(Effect.succeed(message)))
  })

/** The second process: works when it is told to, and says when it finds the circuit open, although no call failed here. */
const second = Effect.gen(function*() {
  const told = yield* Effect.fork(message(process))
  process.send?.("ready")
  yield* Fiber.join(told)
  process.send?.(yield* work)
  const rejected = Effect.isFailure(Effect.void.pipe(Payments.withBreaker))
  yield* Effect.repeat(rejected, { until: (isRejected) => isRejected, schedule: Schedule.spaced("1 millis") })
  process.send?.(yield* now)
})

/** The most of them that ran at one moment. */
const atOnce = (spans: ReadonlyArray<Span>) =>
  Math.max(...spans.map(({ from }) => spans.filter((other) => other.from <= from && from < other.to).length))

const first = Effect.gen(function*() {
  const other = yield* Effect.acquireRelease(
    Effect.sync(() => fork(fileURLToPath(import.meta.url), ["second"])),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  yield* message<"ready">(other)
  const began = yield* now
  const theirs = yield* Effect.fork(message<Done>(other))
  other.send("go")
  const mine: Done = yield* work
  const theirWork = yield* Fiber.join(theirs)
  // Of fifty a minute one comes back every 1.2 seconds.
  const bound = 50 + Math.ceil(((yield* now) - began) / 1200)

  const openThere = yield* Effect.fork(message<number>(other))
  yield* Effect.replicateEffect(Effect.exit(Effect.fail("down").pipe(Payments.withBreaker)), 3)
  const openHere = yield* now
  const isOpen = (yield* Payments.state) === "Open"
  const after = (yield* Fiber.join(openThere)) - openHere

  const found = mine.found + theirWork.found
  const most = atOnce([...mine.reports, ...theirWork.reports])
  const rows = [
    ["", "first", "second", "both", "bound"],
    ["searches let in, of 40", mine.found, theirWork.found, found, "50 a minute"],
    ["reports at once, of 10", atOnce(mine.reports), atOnce(theirWork.reports), most, 4],
    ["payments that failed", 3, 0, 3, "3"],
    ["payments are rejected", isOpen ? "at once" : "no", `${Math.max(0, after).toFixed(1)} ms later`, "", ""]
  ]
  for (const [what, ...cells] of rows) {
    yield* Console.log(String(what).padEnd(24) + cells.map((cell) => String(cell).padStart(16)).join(""))
  }
  const isShared = found >= 50 && found <= bound && most <= 4 && isOpen
  if (!isShared) return yield* Effect.dieMessage("They do not share what they should")
})

const program = (process.argv[2] === "second" ? second : first).pipe(
  Effect.scoped,
  Effect.provide(Live),
  Effect.timeoutFail({ duration: "30 seconds", onTimeout: () => new Error("It took too long") })
)

// Keys of a run of its own, which both know.
process.env["TWO_PROCESSES_PREFIX"] ??= `two-processes-${randomUUID()}:`
NodeRuntime.runMain(program)
