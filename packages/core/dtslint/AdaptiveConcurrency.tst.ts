import {
  AdaptiveConcurrency,
  AdaptiveConcurrencyLive,
  type ConcurrencyLimitError,
  type Limit,
  type Outcome
} from "@effect-resilience/core"
import type { ConfigError, Duration, Option, Scope } from "effect"
import { Config, Context, Effect, Exit, Layer, Stream } from "effect"
import { describe, expect, it } from "tstyche"

class Failed {
  readonly _tag = "Failed"
}
class Missing {
  readonly _tag = "Missing"
}
class Db extends Context.Tag("Db")<Db, { readonly db: true }>() {}
class Api extends AdaptiveConcurrency.Tag<Api>()("api", { algorithm: "aimd", maxLimit: 100 }) {}
class Search extends AdaptiveConcurrency.Tag<Search>()("search") {}

declare const query: Effect.Effect<number, Failed | Missing, Db>
declare const own: Limit.Any

describe("withPermit", () => {
  it("adds its error to E and its instance to R", () => {
    expect(query.pipe(AdaptiveConcurrency.withPermit, Api.withPermit)).type.toBe<
      Effect.Effect<number, Failed | Missing | ConcurrencyLimitError, Db | AdaptiveConcurrency | Api>
    >()
    expect(query.pipe(Api.withPermitBy({ key: "tenant" }))).type.toBe<
      Effect.Effect<number, Failed | Missing | ConcurrencyLimitError, Db | Api>
    >()
  })

  it("a classification of the call sees what the call is", () => {
    const guarded = query.pipe(Api.withPermitBy({
      classify: (exit) => {
        expect(exit).type.toBe<Exit.Exit<number, Failed | Missing>>()
        return Exit.isSuccess(exit) ? "success" : "failure"
      }
    }))
    expect(guarded).type.toBe<Effect.Effect<number, Failed | Missing | ConcurrencyLimitError, Db | Api>>()
  })

  it("its error is caught by tag, and by reason", () => {
    expect(query.pipe(
      Api.withPermit,
      Effect.catchTag("ConcurrencyLimitError", (error) => {
        expect(error.reason).type.toBe<AdaptiveConcurrency.Reason>()
        expect(error.retryAfter).type.toBe<Option.Option<Duration.Duration>>()
        expect(error.limit).type.toBe<number>()
        return Effect.succeed("busy")
      })
    )).type.toBe<Effect.Effect<number | string, Failed | Missing, Db | Api>>()
  })

  it("a permit may outlive one effect, and is settled by an outcome", () => {
    expect(Api.acquire).type.toBe<
      Effect.Effect<AdaptiveConcurrency.Permit, ConcurrencyLimitError, Scope.Scope | Api>
    >()
    expect(Api.acquireBy({ key: "k" })).type.toBe<
      Effect.Effect<AdaptiveConcurrency.Permit, ConcurrencyLimitError, Scope.Scope | Api>
    >()
    const settled = Effect.flatMap(Api.acquire, ({ settle }) => {
      expect(settle).type.toBe<(outcome: Outcome) => Effect.Effect<void>>()
      expect(settle).type.not.toBeCallableWith("dropped")
      return settle("success")
    })
    expect(settled).type.toBe<Effect.Effect<void, ConcurrencyLimitError, Scope.Scope | Api>>()
  })
})

describe("layers", () => {
  it("each takes exactly its own instance out of R", () => {
    const guarded = query.pipe(Api.withPermit, Search.withPermit)
    expect(guarded.pipe(Effect.provide(Api.Live))).type.toBe<
      Effect.Effect<number, Failed | Missing | ConcurrencyLimitError, Db | Search>
    >()
    expect(guarded.pipe(Effect.provide(Layer.merge(Api.layer({ maxLimit: 5 }), Search.layerNoop)))).type.toBe<
      Effect.Effect<number, Failed | Missing | ConcurrencyLimitError, Db>
    >()
    expect(AdaptiveConcurrencyLive).type.toBe<Layer.Layer<AdaptiveConcurrency>>()
  })

  it("from Config may fail with ConfigError", () => {
    expect(Api.layerConfig({ maxLimit: Config.integer("MAX"), minLimit: 2 })).type.toBe<
      Layer.Layer<Api, ConfigError.ConfigError>
    >()
  })

  it("an instance that is nobody's service lives in a scope", () => {
    expect(Effect.flatMap(AdaptiveConcurrency.make({ name: "x" }), ({ withPermit }) => withPermit(query))).type.toBe<
      Effect.Effect<number, Failed | Missing | ConcurrencyLimitError, Db | Scope.Scope>
    >()
  })
})

describe("the rest", () => {
  it("says what it needs", () => {
    expect(Api.wouldAdmit).type.toBe<Effect.Effect<boolean, never, Api>>()
    expect(Api.setLimit(3)).type.toBe<Effect.Effect<void, never, Api>>()
    expect(Api.state).type.toBe<Effect.Effect<AdaptiveConcurrency.State, never, Api>>()
    expect(Api.metrics).type.toBe<Effect.Effect<AdaptiveConcurrency.Metrics, never, Api>>()
    expect(Stream.runHead(Api.events)).type.toBeAssignableTo<Effect.Effect<unknown, never, Api>>()
  })

  it("a handler gets the event of its tag", () => {
    expect(Api.on("LimitChanged", ({ from, to }) => {
      expect([from, to]).type.toBe<Array<number>>()
      return Effect.void
    })).type.toBe<Effect.Effect<void, never, Api | Scope.Scope>>()
    expect(Api.on).type.not.toBeCallableWith("StateChanged", () => Effect.void)
  })

  it("takes an algorithm by name, or one that somebody wrote", () => {
    expect(Api.layer).type.toBeCallableWith({ algorithm: own })
    expect(Api.layer).type.not.toBeCallableWith({ algorithm: "bbr" })
    expect(Api.layer).type.not.toBeCallableWith({ order: "random" })
    expect(AdaptiveConcurrency.make).type.not.toBeCallableWith({ name: "x", maxLimits: 3 })
    expect(Api.setLimit).type.not.toBeCallableWith("3")
  })
})
