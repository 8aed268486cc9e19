/** Two permits, a short queue, and a resize at run time. */
import { Bulkhead, Priority } from "@effect-resilience/core"
import { Console, Effect } from "effect"

class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 2, maxQueued: 2, maxWait: "1 second" }) {}

const report = (name: string) =>
  Effect.sleep("100 millis").pipe(
    Reports.withPermit,
    Effect.as(`${name}: done`),
    Effect.catchTag("BulkheadFullError", (error) => Effect.succeed(`${name}: turned away (${error.reason})`)),
    Effect.flatMap((line) => Console.log(line))
  )

const program = Effect.gen(function*() {
  // five at once, one of them important: it takes the place of one that waits
  yield* Effect.all([
    report("a"),
    report("b"),
    report("c"),
    report("d"),
    report("critical").pipe(Priority.within("critical"))
  ], { concurrency: "unbounded" })

  yield* Reports.resize(5)
  yield* Effect.all(["e", "f", "g", "h", "i"].map(report), { concurrency: "unbounded" })
  const { admitted, limit, peak, rejected } = yield* Reports.metrics
  yield* Console.log({ limit, peak, admitted, rejected })
})

Effect.runPromise(Effect.provide(program, Reports.Live))
