import { Bulkhead, type BulkheadFullError, BulkheadLive, type Priority } from "@effect-resilience/core"
import type { ConfigError, Duration, Option, Scope, Stream } from "effect"
import { Config, Context, Effect, Layer } from "effect"
import { describe, expect, it } from "tstyche"

class Failed {
  readonly _tag = "Failed"
}
class Db extends Context.Tag("Db")<Db, { readonly db: true }>() {}
class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 2 }) {}
class Uploads extends Bulkhead.Tag<Uploads>()("uploads") {}
class Tenants extends Bulkhead.Keyed<Tenants>()("tenants", {
  maxConcurrent: 2,
  maxKeys: 100,
  optionsFor: (key) => (key === "big" ? { maxConcurrent: 20 } : {})
}) {}

declare const query: Effect.Effect<number, Failed, Db>

describe("withPermit", () => {
  it("adds its error to E and its instance to R", () => {
    expect(query.pipe(Bulkhead.withPermit)).type.toBe<
      Effect.Effect<number, Failed | BulkheadFullError, Db | Bulkhead>
    >()
    expect(query.pipe(Reports.withPermitsBy(2), Uploads.withPermit)).type.toBe<
      Effect.Effect<number, Failed | BulkheadFullError, Db | Reports | Uploads>
    >()
    expect(query.pipe(Tenants.withPermitBy({ key: "a", permits: 2 }))).type.toBe<
      Effect.Effect<number, Failed | BulkheadFullError, Db | Tenants>
    >()
    expect(query.pipe(Reports.withPermitBy({ key: "a", permits: 2 }))).type.toBe<
      Effect.Effect<number, Failed | BulkheadFullError, Db | Reports>
    >()
  })

  it("keeps the arguments of a function", () => {
    const found = Effect.fn("find")(function*(_id: string, _limit?: number) {
      return yield* query
    }, Reports.withPermit)
    expect(found).type.toBe<
      (_id: string, _limit?: number) => Effect.Effect<number, Failed | BulkheadFullError, Db | Reports>
    >()
  })

  it("each layer takes exactly its own instance out of R", () => {
    const guarded = query.pipe(Reports.withPermit)
    expect(guarded.pipe(Effect.provide(Reports.Live))).type.toBe<
      Effect.Effect<number, Failed | BulkheadFullError, Db>
    >()
    expect(guarded.pipe(Effect.provide(Layer.merge(BulkheadLive, Uploads.Live)))).type.toBe<
      Effect.Effect<number, Failed | BulkheadFullError, Db | Reports>
    >()
  })

  it("works on an instance that is nobody's service", () => {
    expect(Bulkhead.make({ name: "x" })).type.toBe<Effect.Effect<Bulkhead.Service, never, Scope.Scope>>()
    expect(Effect.flatMap(Bulkhead.make({ name: "x" }), ({ withPermit }) => withPermit(query))).type.toBe<
      Effect.Effect<number, Failed | BulkheadFullError, Db | Scope.Scope>
    >()
  })

  it("its error is caught by tag, and by reason", () => {
    expect(query.pipe(
      Reports.withPermit,
      Effect.catchTag("BulkheadFullError", (error) => {
        expect(error.reason).type.toBe<
          | "QueueFull"
          | "WaitExceeded"
          | "DeadlineTooClose"
          | "TooManyPermits"
          | "TooManyKeys"
          | "StoreUnavailable"
          | "LeaseLost"
        >()
        expect(error.retryAfter).type.toBe<Option.Option<Duration.Duration>>()
        return Effect.succeed("busy")
      })
    )).type.toBe<Effect.Effect<number | string, Failed, Db | Reports>>()
  })
})

describe("the rest", () => {
  it("says what it needs", () => {
    expect(Reports.acquire).type.toBe<Effect.Effect<void, BulkheadFullError, Scope.Scope | Reports>>()
    expect(Reports.acquireBy({ key: "k", permits: 2 })).type.toBe<
      Effect.Effect<void, BulkheadFullError, Scope.Scope | Reports>
    >()
    expect(Reports.wouldAdmit).type.toBe<Effect.Effect<boolean, never, Reports>>()
    expect(Reports.available).type.toBe<Effect.Effect<number, never, Reports>>()
    expect(Reports.resize(3)).type.toBe<Effect.Effect<void, never, Reports>>()
    expect(Reports.metrics).type.toBe<Effect.Effect<Bulkhead.Metrics, never, Reports>>()
    expect(Tenants.metricsOf("a")).type.toBe<Effect.Effect<Option.Option<Bulkhead.Metrics>, never, Tenants>>()
    expect(Reports.events).type.toBeAssignableTo<Stream.Stream<Bulkhead.Event, never, Reports>>()
    expect(Reports.layerConfig({ maxConcurrent: Config.integer("N"), maxQueued: 3 })).type.toBe<
      Layer.Layer<Reports, ConfigError.ConfigError>
    >()
  })

  it("a handler gets the event of its tag", () => {
    void Reports.on("Rejected", ({ reason }) => {
      expect(reason).type.toBe<Bulkhead.Reason>()
      return Effect.void
    })
    expect(Reports.on).type.not.toBeCallableWith("Shed", () => Effect.void)
  })

  it("options that do not exist, and values that are none, do not compile", () => {
    expect(Bulkhead.make).type.not.toBeCallableWith({ name: "x", maxConcurent: 1 })
    expect(Reports.layer).type.not.toBeCallableWith({ order: "random" })
    expect(Reports.withPermitsBy).type.not.toBeCallableWith("2")
    expect(Tenants.withPermitBy).type.not.toBeCallableWith({ permits: 2 })
    expect(Reports.layer).type.toBeCallableWith({ fair: { weight: (key: string) => key.length } })
    expect(Reports.layer).type.not.toBeCallableWith({ fair: { weight: 2 } })
    expect(Tenants.layer).type.not.toBeCallableWith({ fair: true })
    expect<Priority.Level>().type.not.toBeAssignableFrom("urgent")
  })
})
