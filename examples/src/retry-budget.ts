// A dependency is down for everybody: with a budget retries stop adding load, and come back with the first successes.
import { Retry, RetryBudget } from "@effect-resilience/core"
import { Console, Effect, Layer } from "effect"

class Outgoing extends RetryBudget.Tag<Outgoing>()("outgoing", { maxTokens: 5 }) {}
class Search extends Retry.Tag<Search>()("search", { initialDelay: "5 millis", budget: Outgoing }) {}
class Users extends Retry.Tag<Users>()("users", { initialDelay: "5 millis", budget: Outgoing }) {}

let up = true
let reached = 0
const dependency = Effect.suspend(() => {
  reached++
  return up ? Effect.void : Effect.fail("down" as const)
})

/** So many calls of each client, and what reached the dependency. */
const traffic = (calls: number) =>
  Effect.gen(function*() {
    reached = 0
    const search = Effect.ignore(Search.withRetry(dependency))
    const users = Effect.ignore(Users.withRetry(dependency))
    yield* Effect.replicateEffect(Effect.all([search, users]), calls, { concurrency: "unbounded", discard: true })
    const left = (yield* Outgoing.available).toFixed(1)
    yield* Console.log(`${up ? "up:  " : "down:"} ${calls * 2} calls, ${reached} reached it, ${left} tokens left`)
  })

const program = Effect.gen(function*() {
  yield* traffic(50)
  up = false
  yield* traffic(50) // 5 retries for 100 calls, not 200
  yield* traffic(50)
  up = true
  yield* traffic(50)
  const { denied, granted } = yield* Outgoing.metrics
  yield* Console.log(`${granted} retries granted, ${denied} denied`)
})

const retries = Layer.provideMerge(Layer.merge(Search.Live, Users.Live), Outgoing.Live)

void Effect.runPromise(program.pipe(Effect.provide(retries)))
