// Retries with delays that grow, a server that names its own delay, and values that are not good enough yet.
import { Retry } from "@effect-resilience/core"
import { Clock, Console, Data, Duration, Effect } from "effect"

class Busy extends Data.TaggedError("Busy")<{ readonly retryAfter?: Duration.Duration }> {}
class NotFound extends Data.TaggedError("NotFound")<{}> {}

class Search extends Retry.Tag<Search>()("search", {
  maxAttempts: 4,
  initialDelay: "50 millis",
  retryOn: ["Busy", "ECONNRESET"]
}) {}

/** Tells when and as which attempt it is called. */
const call = <A, E>(name: string, answer: (attempt: number) => Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const attempt = yield* Retry.attempt
    const millis = yield* Clock.currentTimeMillis
    yield* Console.log(`${name}: attempt ${attempt} at ${millis - started} ms`)
    return yield* answer(attempt)
  })
const started = Effect.runSync(Clock.currentTimeMillis)

const flaky = call("flaky", (attempt) => attempt < 3 ? Effect.fail(new Busy({})) : Effect.succeed("found"))
const throttled = call(
  "throttled",
  (attempt) => attempt < 2 ? Effect.fail(new Busy({ retryAfter: Duration.millis(300) })) : Effect.succeed("found")
)
const missing = call("missing", () => Effect.fail(new NotFound()))
const job = call("job", (attempt) => Effect.succeed({ done: attempt === 3 }))

const program = Effect.gen(function*() {
  yield* Search.on("RetryExhausted", ({ attempts, reason }) => Console.log(`gave up after ${attempts}: ${reason}`))
  yield* Console.log(yield* flaky.pipe(Search.withRetry))
  yield* Console.log(yield* throttled.pipe(Search.withRetry))
  yield* Console.log((yield* Effect.flip(missing.pipe(Search.withRetry)))._tag)
  const { done } = yield* job.pipe(Search.withRetryBy({ strategy: "constant", retryOnResult: ({ done }) => !done }))
  yield* Console.log(`job done: ${done}`)
  const { retries, succeededRetried } = yield* Search.metrics
  yield* Console.log(`${retries} retries, ${succeededRetried} calls were saved by them`)
})

void Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Search.Live)))
