/** Shedding by importance: by what is in flight, and by a signal of the system. */
import { LoadShedder, Priority, SystemLoad } from "@effect-resilience/core"
import { Console, Effect, Layer } from "effect"

class Api extends LoadShedder.Tag<Api>()("api", { maxInFlight: 4, maxQueueDepth: 0, sampleEvery: "20 millis" }) {}

const request = (name: string, priority: Priority.Level) =>
  Effect.sleep("50 millis").pipe(
    Api.withSheddingBy({ priority, cohort: name }),
    Effect.as(`${name} (${priority}): served`),
    Effect.catchTag("LoadShedError", ({ reason }) => Effect.succeed(`${name} (${priority}): shed (${reason})`)),
    Effect.flatMap((line) => Console.log(line))
  )

const all = (prefix: string) =>
  Effect.all(Priority.levels.map((level) => request(`${prefix}-${level}`, level)), { concurrency: "unbounded" })

const program = Effect.gen(function*() {
  yield* Api.on("LevelChanged", ({ from, to }) => Console.log(`level: ${from} -> ${to}`))

  // five at once: low and sheddable find the shares of their classes in use
  yield* all("burst")

  // half of the system's pressure: low and sheddable requests are shed before anything is spent on them
  yield* SystemLoad.set({ signal: 0.5 })
  yield* Effect.sleep("60 millis")
  yield* all("busy")

  const { admitted, shed } = yield* Api.metrics
  yield* Console.log({ admitted, shed })
}).pipe(Effect.scoped)

// on Node: NodeSystemLoad.Live of "@effect-resilience/core/node"
Effect.runPromise(Effect.provide(program, Api.Live.pipe(Layer.provideMerge(SystemLoad.layerTest()))))
