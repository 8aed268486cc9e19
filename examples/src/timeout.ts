/** A timeout for every call, one of a call's own, and one that does not wait for work that cannot be interrupted. */
import { Timeout, type TimeoutExceededError } from "@effect-resilience/core"
import { Console, Effect } from "effect"

class Search extends Timeout.Tag<Search>()("search", { duration: "100 millis" }) {}

const slow = Effect.as(Effect.sleep("150 millis"), "an answer")
const show = (call: Effect.Effect<string, TimeoutExceededError, Search>) =>
  call.pipe(
    Effect.catchTag("TimeoutExceededError", (error) => Effect.succeed(error.message)),
    Effect.flatMap((line) => Console.log(line))
  )

const program = Effect.gen(function*() {
  yield* show(slow.pipe(Search.withTimeout))
  yield* show(slow.pipe(Search.withTimeoutBy("300 millis")))
  yield* show(Effect.uninterruptible(slow).pipe(Timeout.within("20 millis", { disconnect: true })))
  const { admitted, timedOut } = yield* Search.metrics
  yield* Console.log({ admitted, timedOut })
})

Effect.runPromise(Effect.provide(program, Search.Live))
