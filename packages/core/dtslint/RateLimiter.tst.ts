import {
  RateLimiter,
  RateLimiterLive,
  RateLimiterStore,
  type RateLimiterStoreError,
  type RateLimitExceededError
} from "@effect-resilience/core"
import type { ConfigError, Duration, Option, Scope } from "effect"
import { Config, Context, Effect, Layer, Stream } from "effect"
import { describe, expect, it } from "tstyche"

class Failed {
  readonly _tag = "Failed"
}
class Db extends Context.Tag("Db")<Db, { readonly db: true }>() {}
class Search extends RateLimiter.Tag<Search>()("search", { rate: ["10/second", "1000/hour"] }) {}
class Uploads extends RateLimiter.Tag<Uploads>()("uploads", { rate: { limit: 5, window: "1 minute" } }) {}

declare const query: Effect.Effect<number, Failed, Db>
type Rejected = RateLimitExceededError | RateLimiterStoreError

describe("withLimit", () => {
  it("adds its errors to E and its instance to R", () => {
    expect(query.pipe(RateLimiter.withLimit)).type.toBe<Effect.Effect<number, Failed | Rejected, Db | RateLimiter>>()
    expect(query.pipe(Search.withLimitBy({ key: "a", cost: 2, rate: "1/s" }), Uploads.withLimit)).type.toBe<
      Effect.Effect<number, Failed | Rejected, Db | Search | Uploads>
    >()
  })

  it("keeps the arguments of a function", () => {
    const found = Effect.fn("find")(function*(_id: string, _limit?: number) {
      return yield* query
    }, Search.withLimit)
    expect(found).type.toBe<(_id: string, _limit?: number) => Effect.Effect<number, Failed | Rejected, Db | Search>>()
  })

  it("its errors are caught by tag, and by reason", () => {
    const caught = query.pipe(
      Search.withLimit,
      Effect.catchTag("RateLimitExceededError", (error) => {
        expect(error.reason).type.toBe<RateLimiter.Reason>()
        expect(error.reason).type.toBe<
          | "Exceeded"
          | "WaitExceeded"
          | "DeadlineTooClose"
          | "QueueFull"
          | "CostTooHigh"
          | "TooManyKeys"
          | "StoreUnavailable"
        >()
        expect(error.retryAfter).type.toBe<Option.Option<Duration.Duration>>()
        expect([error.limit, error.remaining]).type.toBe<Array<number>>()
        return Effect.succeed("later")
      })
    )
    expect(caught).type.toBe<Effect.Effect<number | string, Failed | RateLimiterStoreError, Db | Search>>()
    expect(caught.pipe(Effect.catchTag("RateLimiterStoreError", (error) => Effect.succeed(error.reason)))).type.toBe<
      Effect.Effect<number | string, Failed, Db | Search>
    >()
  })
})

describe("layers", () => {
  it("each takes exactly its own instance out of R", () => {
    const guarded = query.pipe(Search.withLimit, RateLimiter.withLimit)
    expect(guarded.pipe(Effect.provide(Layer.merge(Search.Live, RateLimiterLive)))).type.toBe<
      Effect.Effect<number, Failed | Rejected, Db>
    >()
    expect(guarded.pipe(Effect.provide(Search.layer({ mode: "wait" })))).type.toBe<
      Effect.Effect<number, Failed | Rejected, Db | RateLimiter>
    >()
    expect(Search.layerNoop).type.toBe<Layer.Layer<Search>>()
  })

  it("only layerStore asks for a store", () => {
    expect(Search.Live).type.toBe<Layer.Layer<Search>>()
    expect(Search.layerStore({ onStoreError: "open" })).type.toBe<Layer.Layer<Search, never, RateLimiterStore>>()
    expect(RateLimiter.layerStore().pipe(Layer.provide(RateLimiterStore.layerMemory()))).type.toBe<
      Layer.Layer<RateLimiter>
    >()
  })

  it("from Config may fail with ConfigError", () => {
    expect(Search.layerConfig({ rate: Config.string("RATE"), maxKeys: 10 })).type.toBe<
      Layer.Layer<Search, ConfigError.ConfigError>
    >()
  })

  it("an instance that is nobody's service lives in a scope", () => {
    expect(RateLimiter.make({ name: "x", rate: "1/s" })).type.toBe<
      Effect.Effect<RateLimiter.Service, never, Scope.Scope>
    >()
    expect(Effect.flatMap(RateLimiter.make({ name: "x", rate: "1/s" }), ({ withLimit }) => withLimit(query))).type.toBe<
      Effect.Effect<number, Failed | Rejected, Db | Scope.Scope>
    >()
  })
})

describe("the rest", () => {
  it("says what it needs and how it fails", () => {
    for (const ask of [Search.consume, Search.check]) {
      expect(ask({ key: "a" })).type.toBe<Effect.Effect<RateLimiter.Decision, RateLimiterStoreError, Search>>()
    }
    expect(Search.peek("a")).type.toBe<Effect.Effect<RateLimiter.Decision, RateLimiterStoreError, Search>>()
    expect(Search.reserve({ maxWait: "1 second" })).type.toBe<
      Effect.Effect<RateLimiter.Reservation, Rejected, Search>
    >()
    for (const change of [Search.reset("a"), Search.drain(), Search.penalty({ cost: 2 }), Search.reward({})]) {
      expect(change).type.toBe<Effect.Effect<void, RateLimiterStoreError, Search>>()
    }
    expect(Search.setRate(["1/s", { limit: 2, window: "1 hour", burst: 1 }])).type.toBe<
      Effect.Effect<void, never, Search>
    >()
    expect(Search.metrics).type.toBe<Effect.Effect<RateLimiter.Metrics, never, Search>>()
    expect(Stream.runHead(Search.events)).type.toBeAssignableTo<Effect.Effect<unknown, never, Search>>()
  })

  it("a handler gets the event of its tag", () => {
    const listening = Search.on("Exceeded", ({ key, reason, retryAfter }) => {
      expect(key).type.toBe<string | undefined>()
      expect(reason).type.toBe<RateLimiter.Reason>()
      expect(retryAfter).type.toBe<Duration.Duration>()
      return Effect.void
    })
    expect(listening).type.toBe<Effect.Effect<void, never, Search | Scope.Scope>>()
    expect(Search.on).type.not.toBeCallableWith("Shed", () => Effect.void)
  })

  it("a rate is required where there is no default, and nowhere else", () => {
    expect(RateLimiter.Tag<Search>()).type.not.toBeCallableWith("none")
    expect(RateLimiter.Tag<Search>()).type.not.toBeCallableWith("none", {})
    expect(RateLimiter.Tag<Search>()).type.not.toBeCallableWith("none", { burst: 2 })
    expect(RateLimiter.make).type.not.toBeCallableWith({ name: "x" })
    expect(RateLimiter.make).type.not.toBeCallableWith({ rate: "1/s" })
    expect(Search.layer).type.toBeCallableWith({ burst: 2 })
    expect(Search.layer).type.toBeCallableWith()
  })

  it("options that do not exist, and values that are none, do not compile", () => {
    expect(RateLimiter.make).type.not.toBeCallableWith({ name: "x", rate: "1/s", maxKey: 1 })
    expect(RateLimiter.make).type.not.toBeCallableWith({ name: "x", rate: 100 })
    expect(RateLimiter.make).type.not.toBeCallableWith({ name: "x", rate: { limit: 100 } })
    expect(Search.layer).type.not.toBeCallableWith({ algorithm: "leaky" })
    expect(Search.layer).type.not.toBeCallableWith({ onStoreError: "ignore" })
    expect(Search.withLimitBy).type.not.toBeCallableWith({ key: 42 })
    expect(Search.withLimitBy).type.not.toBeCallableWith()
    expect(Search.penalty).type.not.toBeCallableWith({ rate: "1/s" })
    expect(Search.setRate).type.not.toBeCallableWith(10)
  })
})
