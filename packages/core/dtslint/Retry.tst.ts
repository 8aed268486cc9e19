import { Retry, RetryBudget, type RetryResultRejectedError } from "@effect-resilience/core"
import type { Config, ConfigError } from "effect"
import { Context, type Duration, Effect, type Exit, Layer, pipe, Schedule } from "effect"
import { describe, expect, it } from "tstyche"

class Busy {
  readonly _tag = "Busy"
  readonly status: number = 503
}
class NotFound {
  readonly _tag = "NotFound"
}
class Db extends Context.Tag("Db")<Db, { readonly db: true }>() {}
class Pace extends Context.Tag("Pace")<Pace, Duration.Duration>() {}

class Search extends Retry.Tag<Search>()("search", { maxAttempts: 5 }) {}
class Outgoing extends RetryBudget.Tag<Outgoing>()("outgoing") {}
class Hosts extends RetryBudget.Keyed<Hosts>()("hosts") {}
const paced = Schedule.forever.pipe(Schedule.addDelayEffect(() => Pace))
class Paced extends Retry.Tag<Paced>()("paced", { schedule: paced, budget: Outgoing }) {}

declare const find: Effect.Effect<number, Busy | NotFound, Db>

describe("withRetry", () => {
  it("adds nothing to E, and its instance to R", () => {
    expect(find.pipe(Retry.withRetry)).type.toBe<Effect.Effect<number, Busy | NotFound, Db | Retry>>()
    expect(find.pipe(Search.withRetry)).type.toBe<Effect.Effect<number, Busy | NotFound, Db | Search>>()
    const found = Effect.fn("find")(function*(_id: string) {
      return yield* find
    }, Search.withRetry)
    expect(found).type.toBe<(_id: string) => Effect.Effect<number, Busy | NotFound, Db | Search>>()
  })

  it("a layer of another instance does not take it out of R", () => {
    const provided = find.pipe(Search.withRetry, Effect.provide(Retry.Live))
    expect(provided).type.toBe<Effect.Effect<number, Busy | NotFound, Db | Search>>()
    expect<Effect.Effect<number, Busy | NotFound, Db>>().type.not.toBeAssignableFrom(provided)
  })
})

describe("withRetryBy", () => {
  it("knows E and A in a pipe", () => {
    const typed = find.pipe(Search.withRetryBy({
      retryOn: (error) => {
        expect(error).type.toBe<Busy | NotFound>()
        return true
      },
      abortOn: (error) => {
        expect(error).type.toBe<Busy | NotFound>()
        return error._tag === "NotFound"
      },
      delayFrom: (exit, attempt) => {
        expect(exit).type.toBe<Exit.Exit<number, Busy | NotFound>>()
        expect(attempt).type.toBe<number>()
        return "default"
      },
      classify: (exit) => {
        expect(exit).type.toBe<Exit.Exit<number, Busy | NotFound>>()
        return "failure"
      }
    }))
    expect(typed).type.toBe<Effect.Effect<number, Busy | NotFound, Db | Search>>()
    expect(pipe(find, Search.withRetryBy({ maxAttempts: 2 }))).type.toBe<
      Effect.Effect<number, Busy | NotFound, Db | Search>
    >()
    expect(find.pipe(Effect.map(String), Search.withRetryBy({}), Effect.map((text) => text.length))).type.toBe<
      Effect.Effect<number, Busy | NotFound, Db | Search>
    >()
  })

  it("retryOnResult adds an error that has the value, and only then", () => {
    const refused = find.pipe(Search.withRetryBy({ retryOnResult: (value) => value > 3 }))
    expect(refused).type.toBe<
      Effect.Effect<number, Busy | NotFound | RetryResultRejectedError<number>, Db | Search>
    >()
    expect(refused.pipe(Effect.catchTag("RetryResultRejectedError", ({ value }) => Effect.succeed(`${value}`)))).type
      .toBe<Effect.Effect<number | string, Busy | NotFound, Db | Search>>()
    expect(find.pipe(Search.withRetryBy({ retryOnResult: undefined }))).type.toBe<
      Effect.Effect<number, Busy | NotFound, Db | Search>
    >()
  })

  it("works in Effect.fn", () => {
    const found = Effect.fn("find")(function*(_id: string, _page: number) {
      return yield* find
    }, Search.withRetryBy({ retryOnResult: (value) => value > 3, retryOn: (error) => error._tag === "Busy" }))
    expect(found).type.toBe<
      (
        _id: string,
        _page: number
      ) => Effect.Effect<number, Busy | NotFound | RetryResultRejectedError<number>, Db | Search>
    >()
  })

  it("works around an effect that is generic", () => {
    const guarded = <A, E, R>(effect: Effect.Effect<A, E, R>) => effect.pipe(Search.withRetryBy({ maxAttempts: 2 }))
    expect(guarded(find)).type.toBe<Effect.Effect<number, Busy | NotFound, Db | Search>>()
  })

  it("shows what its budget and schedule need", () => {
    expect(find.pipe(Search.withRetryBy({ budget: Outgoing }))).type.toBe<
      Effect.Effect<number, Busy | NotFound, Db | Search | Outgoing>
    >()
    expect(find.pipe(Search.withRetryBy({ budget: Hosts.budgetFor("a") }))).type.toBe<
      Effect.Effect<number, Busy | NotFound, Db | Search | Hosts>
    >()
    expect(find.pipe(Search.withRetryBy({ schedule: paced }))).type.toBe<
      Effect.Effect<number, Busy | NotFound, Db | Search | Pace>
    >()
  })

  it("takes a schedule of the error, and of the value where values are retried", () => {
    const ofError = Schedule.recurWhile((error: Busy | NotFound) => error._tag === "Busy")
    void find.pipe(Search.withRetryBy({ schedule: ofError }))
    // @ts-expect-error! the schedule takes no values
    void find.pipe(Search.withRetryBy({ schedule: ofError, retryOnResult: (value) => value > 3 }))
  })

  it("refuses other options and predicates over other types", () => {
    expect(Retry.using).type.not.toBeCallableWith({ maxAttemps: 1 })
    // @ts-expect-error! another error
    void find.pipe(Search.withRetryBy({ retryOn: (error: "other") => error === "other" }))
    // @ts-expect-error! another value
    void find.pipe(Search.withRetryBy({ retryOnResult: (value: string) => value === "" }))
  })
})

describe("Retry.using", () => {
  it("needs no layer", () => {
    expect(find.pipe(Retry.using({ maxAttempts: 2 }))).type.toBe<Effect.Effect<number, Busy | NotFound, Db>>()
  })

  it("kept as a value it keeps the types of each effect, and asks for what its functions take", () => {
    const guard = Retry.using({ maxAttempts: 2 })
    expect(find.pipe(guard)).type.toBe<Effect.Effect<number, Busy | NotFound, Db>>()
    expect(Effect.succeed("x").pipe(guard)).type.toBe<Effect.Effect<string>>()
    const typed = Retry.using({ retryOnResult: (value: number) => value > 3, retryOn: (_: Busy | NotFound) => true })
    expect(find.pipe(typed)).type.toBe<
      Effect.Effect<number, Busy | NotFound | RetryResultRejectedError<number>, Db>
    >()
    // @ts-expect-error! another value
    void Effect.succeed("x").pipe(typed)
  })
})

describe("layers", () => {
  it("need what the options name", () => {
    expect(Search.Live).type.toBe<Layer.Layer<Search>>()
    expect(Paced.Live).type.toBe<Layer.Layer<Paced, never, Outgoing | Pace>>()
    expect(Retry.layer({ budget: Outgoing })).type.toBe<Layer.Layer<Retry, never, Outgoing>>()
    expect(Layer.provide(Retry.layer({ budget: Outgoing }), Outgoing.Live)).type.toBe<Layer.Layer<Retry>>()
    expect(Retry.layer({ budget: false })).type.toBe<Layer.Layer<Retry>>()
    expect(Retry.layer(Retry.presets.network)).type.toBe<Layer.Layer<Retry>>()
    expect(Search.layerConfig).type.toBeCallableWith({} as Config.Config.Wrap<Retry.Options>)
    expect<ReturnType<typeof Search.layerConfig>>().type.toBe<Layer.Layer<Search, ConfigError.ConfigError>>()
  })

  it("an instance takes predicates over the exit, not over an error it cannot know", () => {
    expect<Retry.Options>().type.not.toBeAssignableFrom<{ readonly retryOn: (error: Busy) => boolean }>()
    expect<Retry.Options>().type.toBeAssignableFrom<{
      readonly retryOn: (exit: Exit.Exit<unknown, unknown>) => boolean
    }>()
  })
})

it("Retry.attempt needs nothing", () => {
  expect(Retry.attempt).type.toBe<Effect.Effect<number>>()
})
