/** A server with four workers that nobody told us about: the limit finds them. */
import { AdaptiveConcurrency, Limit } from "@effect-resilience/core"
import { Console, Effect } from "effect"

class Search extends AdaptiveConcurrency.Tag<Search>()("search", {
  algorithm: Limit.knee({ initialLimit: 40, windowSamples: 20 }),
  maxWait: "50 millis"
}) {}

const program = Effect.gen(function*() {
  const workers = yield* Effect.makeSemaphore(4)
  const search = workers.withPermits(1)(Effect.sleep("5 millis"))
  yield* Search.on("LimitChanged", ({ from, reason, to }) => Console.log(`limit ${from} -> ${to} (${reason})`))

  // far more callers than workers, for two seconds
  const caller = search.pipe(
    Search.withPermit,
    Effect.catchTag("ConcurrencyLimitError", () => Effect.sleep("10 millis")),
    Effect.forever
  )
  yield* Effect.timeoutOption(Effect.all(Array.from({ length: 200 }, () => caller), { concurrency: "unbounded" }), 2000)

  const { limit, rejected, succeeded } = yield* Search.metrics
  yield* Console.log({ limit, succeeded, rejected })
})

Effect.runPromise(Effect.provide(Effect.scoped(program), Search.Live))
