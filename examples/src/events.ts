// The ways to hear what happens: a handler for one event, a stream of one instance, and a snapshot of everything.
import { Bulkhead, CircuitBreaker, EventBus, Registry, ResilienceLive } from "@effect-resilience/core"
import { Console, Effect, Fiber, Layer, Stream } from "effect"

class Payments extends CircuitBreaker.Tag<Payments>()("payments", {
  consecutiveFailures: 2,
  openDuration: "200 millis",
  halfOpenMaxCalls: 1,
  successThreshold: 1
}) {}
class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 1, maxQueued: 0 }) {}

// For as long as the program lives: tell an operator of every circuit that opens or closes, wherever it is.
const pager = EventBus.onLayer(
  "StateChanged",
  ({ cause, from, instance, to }) => Console.log(`pager: ${instance} ${from} -> ${to} (${cause})`)
)

// ResilienceLive is outermost: instances look for the bus and the registry when they are built.
const app = Layer.mergeAll(Payments.Live, Reports.Live, pager).pipe(Layer.provideMerge(ResilienceLive))

const charge = (fails: boolean) =>
  (fails ? Effect.fail("card service is down") : Effect.succeed("charged")).pipe(
    Payments.withBreaker,
    Effect.merge,
    Effect.tap((result) => Console.log(`charge: ${String(result)}`))
  )

const program = Effect.gen(function*() {
  // A stream of one instance; it begins when it is run.
  const rejections = yield* Reports.events.pipe(
    Stream.filter((event) => event._tag === "Rejected"),
    Stream.take(1),
    Stream.runForEach(({ reason }) => Console.log(`reports: a call was turned away (${reason})`)),
    Effect.fork
  )
  yield* Effect.yieldNow()

  yield* charge(true)
  yield* charge(true)
  yield* charge(false)
  yield* Effect.sleep("300 millis")
  yield* charge(false)

  const report = yield* Effect.fork(Reports.withPermit(Effect.sleep("100 millis")))
  yield* Effect.yieldNow()
  yield* Effect.exit(Reports.withPermit(Effect.void))
  yield* Effect.all([Fiber.join(rejections), Fiber.join(report)])

  const { instances, unregistered } = yield* Registry.snapshot
  for (const { actions, instance, pattern } of instances) {
    yield* Console.log(`${pattern} ${instance}: an operator may ${actions.join(", ")}`)
  }
  yield* Console.log("reports:", (yield* Reports.metrics).rejected, "rejected of", (yield* Reports.metrics).offered)
  yield* Console.log(`${unregistered} instances that the registry does not see`)
})

void Effect.runPromise(Effect.provide(program, app))
