import { LoadShedder, LoadShedderLive, type LoadShedError, type Priority, SystemLoad } from "@effect-resilience/core"
import { NodeSystemLoad } from "@effect-resilience/core/node"
import { Effect, Layer, type Scope } from "effect"
import { describe, expect, it } from "tstyche"

class Db extends Effect.Service<Db>()("Db", { succeed: {} }) {}
class Failed {
  readonly _tag = "Failed"
}
declare const query: Effect.Effect<number, Failed, Db>
class Api extends LoadShedder.Tag<Api>()("api", { shares: { sheddable: 0.2 } }) {}

describe("LoadShedder", () => {
  it("adds its error and its instance, and keeps the rest", () => {
    expect(query.pipe(LoadShedder.withShedding, Api.withSheddingBy({ cost: 2, cohort: "a", priority: "low" }))).type
      .toBe<Effect.Effect<number, Failed | LoadShedError, Db | LoadShedder | Api>>()
    expect(Api.acquire).type.toBe<Effect.Effect<void, LoadShedError, Scope.Scope | Api>>()
    expect(Api.acquireBy({ cost: 2 })).type.toBe<Effect.Effect<void, LoadShedError, Scope.Scope | Api>>()
    expect(Api.acquireBy).type.not.toBeCallableWith({ priority: "urgent" })
    expect(Api.level).type.toBe<Effect.Effect<"normal" | "elevated" | "high" | "critical", never, Api>>()
    expect(Api.withSheddingBy).type.not.toBeCallableWith({ priority: "urgent" })
    expect(Api.layer).type.not.toBeCallableWith({ shares: { urgent: 1 } })
  })

  it("has typed reasons and priorities", () => {
    const caught = Effect.catchTag(query.pipe(Api.withShedding), "LoadShedError", (error) => {
      expect(error.reason).type.toBe<"InFlight" | "Queue" | "Cpu" | "Memory" | "EventLoop" | "Signal">()
      expect(error.priority).type.toBe<Priority.Level>()
      return Effect.void
    })
    expect(caught).type.toBe<Effect.Effect<number | void, Failed, Db | Api>>()
  })

  it("needs no SystemLoad, and takes one", () => {
    expect(LoadShedderLive).type.toBe<Layer.Layer<LoadShedder>>()
    expect(Api.Live.pipe(Layer.provide(NodeSystemLoad.Live))).type.toBe<Layer.Layer<Api>>()
    expect(SystemLoad.layerWith(Effect.map(Db, () => ({ signal: 0 })))).type.toBe<
      Layer.Layer<SystemLoad, never, SystemLoad | Db>
    >()
  })
})
