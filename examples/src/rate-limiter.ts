/** Two rates at once, a share for each user, and calls that wait for their turn. */
import { RateLimiter } from "@effect-resilience/core"
import { Console, Effect } from "effect"

class Search extends RateLimiter.Tag<Search>()("search", { rate: ["3/second", "100/hour"] }) {}
class Paced extends RateLimiter.Tag<Paced>()("paced", {
  rate: { limit: 20, window: "1 second", burst: 1 },
  mode: "wait"
}) {}

const search = (user: string) =>
  Effect.succeed(`${user}: found`).pipe(
    Search.withLimitBy({ key: user }),
    Effect.catchTag("RateLimitExceededError", (error) => Effect.succeed(`${user}: ${error.reason}`)),
    Effect.flatMap((line) => Console.log(line))
  )

const program = Effect.gen(function*() {
  for (const user of ["ada", "ada", "ada", "ada", "bob"]) yield* search(user)
  const { remaining } = yield* Search.peek("ada")
  yield* Console.log({ remaining })
  yield* Effect.all([1, 2, 3].map((n) => Paced.withLimit(Console.log(`paced ${n}`))), { concurrency: "unbounded" })
})

Effect.runPromise(program.pipe(Effect.provide(Search.Live), Effect.provide(Paced.Live)))
