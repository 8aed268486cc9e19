/** A producer that is held up while its workers are behind. */
import { Backpressure } from "@effect-resilience/core"
import { Console, Effect, Fiber, Queue, Stream } from "effect"

class Orders extends Backpressure.Tag<Orders>()("orders", { maxPending: 8, highWaterMark: 4, lowWaterMark: 1 }) {}

const program = Effect.gen(function*() {
  const queue = yield* Queue.unbounded<number>()

  yield* Orders.on("HighWaterReached", ({ pending }) => Console.log(`${pending} pending: the producer waits`))
  yield* Orders.on("LowWaterReached", ({ pending }) => Console.log(`${pending} pending: it goes on`))

  // each order is worked on elsewhere, for 50 ms
  const worker = yield* queue.take.pipe(
    Effect.tap(() => Effect.fork(Effect.sleep("50 millis").pipe(Orders.withBackpressure))),
    Effect.zipLeft(Effect.yieldNow()),
    Effect.forever,
    Effect.fork
  )

  yield* Stream.range(1, 12).pipe(
    Stream.rechunk(1),
    Orders.gate,
    Stream.runForEach((order) => Effect.zipRight(Queue.offer(queue, order), Effect.yieldNow()))
  )
  yield* Effect.sleep("200 millis")
  yield* Fiber.interrupt(worker)
  const { admitted, peak, rejected } = yield* Orders.metrics
  yield* Console.log({ admitted, peak, rejected })
}).pipe(Effect.scoped)

Effect.runPromise(Effect.provide(program, Orders.Live))
