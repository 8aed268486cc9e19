import { Backpressure, type BackpressureError, type InternalError } from "@effect-resilience/core"
import type { Queue } from "effect"
import { Effect, type Scope, Stream } from "effect"
import { describe, expect, it } from "tstyche"

class Db extends Effect.Service<Db>()("Db", { succeed: {} }) {}
class Failed {
  readonly _tag = "Failed"
}
declare const query: Effect.Effect<number, Failed, Db>
declare const orders: Stream.Stream<string, Failed, Db>
declare const queue: Queue.Enqueue<string>
class Orders extends Backpressure.Tag<Orders>()("orders", { maxPending: 10 }) {}

describe("Backpressure", () => {
  it("adds its error and its instance, and keeps the rest", () => {
    expect(query.pipe(Backpressure.withBackpressure, Orders.withBackpressureBy({ maxWait: "1 second" }))).type.toBe<
      Effect.Effect<number, Failed | BackpressureError, Db | Backpressure | Orders>
    >()
    expect(Orders.acquire).type.toBe<Effect.Effect<void, BackpressureError, Scope.Scope | Orders>>()
  })

  it("adds its error to the streams and producers it gates", () => {
    expect(orders.pipe(Orders.gate)).type.toBe<Stream.Stream<string, Failed | BackpressureError, Db | Orders>>()
    expect(Effect.zipRight(Orders.ready, queue.offer("a"))).type.toBe<
      Effect.Effect<boolean, BackpressureError, Orders>
    >()
    expect(Effect.map(Backpressure.make({ name: "x" }), ({ gate }) => orders.pipe(gate))).type.toBe<
      Effect.Effect<Stream.Stream<string, Failed | BackpressureError, Db>, never, Scope.Scope>
    >()
    expect(Orders.gate).type.not.toBeCallableWith(query)
  })

  it("tells its events by their tags", () => {
    const listening = Orders.on("Rejected", ({ reason }) => {
      expect(reason).type.toBe<"Full" | "WaitExceeded" | "DeadlineTooClose">()
      return Effect.void
    })
    expect(listening).type.toBe<Effect.Effect<void, never, Orders | Scope.Scope>>()
    expect(Orders.on).type.not.toBeCallableWith("Shed", () => Effect.void)
    expect(Stream.runHead(Orders.events)).type.toBeAssignableTo<
      Effect.Effect<unknown, never, Orders>
    >()
    expect<Extract<Backpressure.Event, { readonly _tag: "InternalError" }>>().type.toBe<InternalError>()
  })
})
