/** A dependency goes down and comes back: the circuit opens, probes and closes. */
import { CircuitBreaker } from "@effect-resilience/core"
import { Console, Effect } from "effect"

class Payments extends CircuitBreaker.Tag<Payments>()("payments", {
  consecutiveFailures: 3,
  openDuration: "300 millis",
  halfOpenMaxCalls: 1,
  successThreshold: 1
}) {}

let up = false
const charge = Effect.suspend(() => up ? Effect.succeed("paid") : Effect.fail("connection refused" as const))

const attempt = charge.pipe(
  Payments.withBreaker,
  Effect.catchTag("CircuitOpenError", (error) => Effect.succeed(`not called: ${error.message}`)),
  Effect.catchAll((error) => Effect.succeed(`failed: ${error}`)),
  Effect.flatMap((line) => Console.log(line))
)

const program = Effect.gen(function*() {
  yield* Payments.on("StateChanged", ({ cause, from, to }) => Console.log(`  circuit ${from} -> ${to} (${cause})`))
  yield* Effect.repeatN(attempt, 4)
  up = true
  yield* Effect.sleep("350 millis")
  yield* attempt
  const { failed, rejected, state } = yield* Payments.metrics
  yield* Console.log({ state, failed, rejected })
})

Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Payments.Live)))
