import { CircuitBreaker, ResilienceLive } from "@effect-resilience/core"
import { Admin } from "@effect-resilience/http"
import { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
import { Effect, Layer } from "effect"
import { tell } from "../utils/parent.js"

/* A process whose admin is told to act on one circuit by each of the actions, which is its name. */

export interface Setup {
  readonly url: string
  readonly prefix: string
  readonly actions: ReadonlyArray<string>
  readonly seconds: number
}

const { actions, prefix, seconds, url }: Setup = JSON.parse(String(process.argv[2]))

const connection = RedisConnection.layer({ server: { _tag: "Standalone", url }, prefix, commandTimeout: "2 seconds" })

const program = Effect.gen(function*() {
  const { apply } = yield* Admin
  const applied = yield* Effect.forEach(actions, (action) =>
    Effect.gen(function*() {
      yield* CircuitBreaker.make({ name: action })
      const order = { pattern: "CircuitBreaker", instance: action, action, reason: "a test", ttl: seconds * 1000 }
      return yield* apply(order, { name: "operator" })
    }))
  tell(applied.map(({ reach }) => reach))
  yield* Effect.never
}).pipe(
  Effect.scoped,
  Effect.provide(RedisCircuitBreaker.layer().pipe(Layer.provide(connection))),
  Effect.provide(Admin.Live.pipe(Layer.provideMerge(ResilienceLive)))
)

void Effect.runPromise(program)
