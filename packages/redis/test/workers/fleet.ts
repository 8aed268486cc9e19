/*
 * A process of a fleet. It opens its circuit on "open", and answers "view" with what it sees of the others.
 */
import { CircuitBreaker, Fleet, ResilienceLive } from "@effect-resilience/core"
import { RedisConnection, RedisEventStream, RedisFleet } from "@effect-resilience/redis"
import { Duration, Effect, Layer } from "effect"
import { leave, tell, told } from "../utils/parent.js"

const [, , url = "", prefix = "", label = ""] = process.argv

const live = Layer.merge(
  RedisFleet.layer({ label, interval: "100 millis", expireAfter: "500 millis" }),
  RedisEventStream.layer({ label, flushInterval: "10 millis" })
).pipe(
  Layer.provideMerge(ResilienceLive),
  Layer.provide(
    RedisConnection.layer({ server: { _tag: "Standalone", url }, prefix, commandTimeout: "1 second" })
  )
)

const program = Effect.gen(function*() {
  const breaker = yield* CircuitBreaker.make({ name: "payments" })
  tell("ready")
  for (;;) {
    const message = yield* told
    if (message === "open") yield* breaker.forceOpen("1 minute")
    if (message === "leave") return
    if (message === "view") {
      const { processes } = yield* Fleet.view
      tell(processes.map(({ age, instances, label, status }) => ({
        label,
        status,
        age: Duration.toMillis(age),
        states: instances.map(({ metrics }) => metrics["state"])
      })))
    }
  }
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(live)))
leave("left")
