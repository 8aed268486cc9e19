/** An answer when the call has none: by error, by value, and a chain that knows all failures. */
import { Fallback } from "@effect-resilience/core"
import { Console, Effect } from "effect"

class Down {
  readonly _tag = "Down"
}
class Rates extends Fallback.Tag<Rates>()("rates") {}

const live = Effect.fail(new Down())
const stored = Effect.fail(new Error("nothing stored"))

const program = Effect.gen(function*() {
  yield* Rates.on("FallbackUsed", ({ step }) => Console.log(`  step ${step} answered`))
  yield* Console.log(yield* live.pipe(Rates.withFallbackTag("Down", () => Effect.succeed("yesterday's rates"))))
  yield* Console.log(yield* live.pipe(Rates.chain(stored, { EUR: 1 })))
  const failed = yield* Effect.flip(live.pipe(Rates.chain(stored, Effect.fail("no luck"))))
  yield* Console.log(failed.message, failed.failures)
  yield* Effect.sleep("10 millis")
  yield* Console.log(yield* live.pipe(Fallback.to("one-off")))
})

Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Rates.Live)))
