import type {
  BulkheadFullError,
  CircuitOpenError,
  DeadlineExceededError,
  FallbackFailedError,
  Priority,
  RetryResultRejectedError,
  TimeoutExceededError
} from "@effect-resilience/core"
import {
  Bulkhead,
  BulkheadLive,
  CircuitBreaker,
  CircuitBreakerLive,
  Deadline,
  Fallback,
  Resilience,
  Retry,
  RetryBudget,
  Timeout
} from "@effect-resilience/core"
import type { ConfigError, Exit, Scope } from "effect"
import { Config, Effect, Layer } from "effect"
import { describe, expect, it } from "tstyche"

class NetworkError {
  readonly _tag = "NetworkError"
}
class NotFound {
  readonly _tag = "NotFound"
}
class Db {
  readonly db = "Db"
}
declare const charge: Effect.Effect<number, NetworkError | NotFound, Db>
type Errors = NetworkError | NotFound

class Payments extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 3 }) {}
class Search extends CircuitBreaker.Tag<Search>()("search") {}
class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts") {}
class Tenants extends Bulkhead.Keyed<Tenants>()("tenants") {}
class Outgoing extends RetryBudget.Tag<Outgoing>()("outgoing") {}
class Shared extends Retry.Tag<Shared>()("shared", { budget: Outgoing }) {}

describe("guards keep A, E and R", () => {
  it("on the default instance", () => {
    expect(Bulkhead.withPermit(charge)).type.toBe<Effect.Effect<number, Errors | BulkheadFullError, Db | Bulkhead>>()
    expect(CircuitBreaker.withBreaker(charge)).type.toBe<
      Effect.Effect<number, Errors | CircuitOpenError, Db | CircuitBreaker>
    >()
    expect(Timeout.withTimeout(charge)).type.toBe<Effect.Effect<number, Errors | TimeoutExceededError, Db | Timeout>>()
    expect(Retry.withRetry(charge)).type.toBe<Effect.Effect<number, Errors, Db | Retry>>()
  })

  it("on two named instances, which are apart", () => {
    const guarded = charge.pipe(Payments.withBreaker, Search.withBreaker)
    expect(guarded).type.toBe<Effect.Effect<number, Errors | CircuitOpenError, Db | Payments | Search>>()
    expect(Effect.provide(guarded, Payments.Live)).type.toBe<
      Effect.Effect<number, Errors | CircuitOpenError, Db | Search>
    >()
    expect<Effect.Effect<number, Errors | CircuitOpenError, Db>>().type.not.toBeAssignableFrom(
      Effect.provide(guarded, Layer.mergeAll(Search.Live, CircuitBreakerLive))
    )
    expect(Payments.key).type.toBe<"@effect-resilience/CircuitBreaker/payments">()
  })

  it("piped through the whole chain", () => {
    const guarded = charge.pipe(
      Timeout.withTimeout,
      Bulkhead.withPermit,
      CircuitBreaker.withBreaker,
      Retry.withRetry,
      Deadline.within("5 seconds")
    )
    expect(guarded).type.toBe<
      Effect.Effect<
        number,
        Errors | TimeoutExceededError | BulkheadFullError | CircuitOpenError | DeadlineExceededError,
        Db | Timeout | Bulkhead | CircuitBreaker | Retry
      >
    >()
    expect(guarded.pipe(Fallback.to("none"))).type.toBe<
      Effect.Effect<number | string, never, Db | Timeout | Bulkhead | CircuitBreaker | Retry>
    >()
  })

  it("inside Effect.fn, arguments too", () => {
    const fn = Effect.fn("charge")(
      function*(_id: string, _cents: number) {
        return yield* charge
      },
      Timeout.withTimeout,
      Payments.withBreaker
    )
    expect(fn).type.toBe<
      (
        id: string,
        cents: number
      ) => Effect.Effect<number, Errors | TimeoutExceededError | CircuitOpenError, Db | Timeout | Payments>
    >()
  })

  it("after provide", () => {
    expect(Bulkhead.withPermit(charge).pipe(Effect.provide(BulkheadLive))).type.toBe<
      Effect.Effect<number, Errors | BulkheadFullError, Db>
    >()
  })

  it("with arguments", () => {
    expect(charge.pipe(Bulkhead.withPermitsBy(2))).type.toBe<
      Effect.Effect<number, Errors | BulkheadFullError, Db | Bulkhead>
    >()
    expect(charge.pipe(Timeout.withTimeoutBy("1 second"))).type.toBe<
      Effect.Effect<number, Errors | TimeoutExceededError, Db | Timeout>
    >()
    expect(charge.pipe(Hosts.withBreakerBy({ key: "a" }))).type.toBe<
      Effect.Effect<number, Errors | CircuitOpenError, Db | Hosts>
    >()
    expect(charge.pipe(Tenants.withPermitBy({ key: "a" }))).type.toBe<
      Effect.Effect<number, Errors | BulkheadFullError, Db | Tenants>
    >()
    expect(charge.pipe(Timeout.within("1 second"))).type.toBe<
      Effect.Effect<number, Errors | TimeoutExceededError, Db>
    >()
  })

  it("on an instance that is nobody's service", () => {
    const guarded = Effect.flatMap(CircuitBreaker.make({ name: "x" }), (breaker) => breaker.withBreaker(charge))
    expect(guarded).type.toBe<Effect.Effect<number, Errors | CircuitOpenError, Db | Scope.Scope>>()
  })
})

describe("functions of a call know its types", () => {
  it("in the breaker", () => {
    void charge.pipe(Payments.withBreakerBy({
      classify: (exit) => {
        expect(exit).type.toBe<Exit.Exit<number, Errors>>()
        return "success"
      }
    }))
  })

  it("in retry", () => {
    const typed = charge.pipe(Retry.withRetryBy({
      retryOn: (error) => {
        expect(error).type.toBe<Errors>()
        return error._tag === "NetworkError"
      }
    }))
    expect(typed).type.toBe<Effect.Effect<number, Errors, Db | Retry>>()
    const refused = charge.pipe(Retry.using({
      retryOnResult: (value) => {
        expect(value).type.toBe<number>()
        return value > 3
      }
    }))
    expect(refused).type.toBe<Effect.Effect<number, Errors | RetryResultRejectedError<number>, Db>>()
  })
})

describe("fallbacks", () => {
  it("replace E by their own", () => {
    expect(charge.pipe(Fallback.withFallback((error) => {
      expect(error).type.toBe<Errors>()
      return Effect.fail("mine" as const)
    }))).type.toBe<Effect.Effect<number, "mine", Db | Fallback>>()
    expect(charge.pipe(Fallback.withFallbackValue(() => "none"))).type.toBe<
      Effect.Effect<number | string, never, Db | Fallback>
    >()
  })

  it("take exactly one tag out", () => {
    expect(charge.pipe(Fallback.withFallbackTag("NotFound", (error) => {
      expect(error).type.toBe<NotFound>()
      return Effect.succeed("none")
    }))).type.toBe<Effect.Effect<number | string, NetworkError, Db | Fallback>>()
  })

  it("leave E as it is for a value that is refused", () => {
    expect(charge.pipe(Fallback.withFallbackResult((value) => value > 1, () => Effect.fail("mine" as const)))).type
      .toBe<
        Effect.Effect<number, Errors | "mine", Db | Fallback>
      >()
  })

  it("cannot fail in a chain whose last step cannot", () => {
    expect(charge.pipe(Fallback.chain(Effect.fail("x"), (_: ReadonlyArray<unknown>) => Effect.fail("y"), 0))).type.toBe<
      Effect.Effect<number, never, Db | Fallback>
    >()
    expect(charge.pipe(Fallback.chain(Effect.fail("x")))).type.toBe<
      Effect.Effect<number, FallbackFailedError, Db | Fallback>
    >()
    expect(charge.pipe(Fallback.chain(Effect.fail("x"), null))).type.toBe<
      Effect.Effect<number | null, never, Db | Fallback>
    >()
    expect(charge.pipe(Fallback.chain(Effect.fail("x"), { none: true }))).type.toBe<
      Effect.Effect<number | { readonly none: true }, never, Db | Fallback>
    >()
  })

  it("give the functions of a chain the failures so far", () => {
    expect(charge.pipe(Fallback.chain((failures) => {
      expect(failures).type.toBe<ReadonlyArray<unknown>>()
      return failures.length
    }))).type.toBe<Effect.Effect<number, never, Db | Fallback>>()
    expect(charge.pipe(Fallback.chain(Effect.fail("x"), (failures) => Effect.fail(failures), "last"))).type.toBe<
      Effect.Effect<number | "last", never, Db | Fallback>
    >()
    expect(charge.pipe(Fallback.chain("first", (failures) => Effect.fail(failures)))).type.toBe<
      Effect.Effect<number | "first", FallbackFailedError, Db | Fallback>
    >()
    const counted = Effect.fn("charge")(
      function*(_id: string) {
        return yield* charge
      },
      Fallback.chain(Effect.fail("x"), (failures) => failures.length)
    )
    expect(counted).type.toBe<(id: string) => Effect.Effect<number, never, Db | Fallback>>()
  })
})

describe("layers", () => {
  it("build exactly their instance", () => {
    expect(Payments.Live).type.toBe<Layer.Layer<Payments>>()
    expect(Payments.layer({ consecutiveFailures: 2 })).type.toBe<Layer.Layer<Payments>>()
    expect(Payments.layerConfig({ consecutiveFailures: Config.integer("N") })).type.toBe<
      Layer.Layer<Payments, ConfigError.ConfigError>
    >()
    expect(Payments.layerNoop).type.toBe<Layer.Layer<Payments>>()
  })

  it("show a shared budget", () => {
    expect(Shared.Live).type.toBe<Layer.Layer<Shared, never, Outgoing>>()
    expect(charge.pipe(Shared.withRetry)).type.toBe<Effect.Effect<number, Errors, Db | Shared>>()
  })

  it("refuse options that do not exist", () => {
    expect(Payments.layer).type.not.toBeCallableWith({ failureTreshold: 3 })
    expect(Bulkhead.make).type.not.toBeCallableWith({ name: "x", maxConcurent: 1 })
    expect(Retry.using).type.not.toBeCallableWith({ maxAttemps: 1 })
  })
})

describe("events", () => {
  it("an unknown tag is a type error", () => {
    expect(Payments.on).type.not.toBeCallableWith("Nope", () => Effect.void)
    void Payments.on("StateChanged", (event) => {
      expect(event.to).type.toBe<CircuitBreaker.State>()
      return Effect.void
    })
    expect(Payments.onLayer("*", () => Effect.void)).type.toBe<Layer.Layer<never, never, Payments>>()
  })
})

describe("the standard chain", () => {
  it("adds the errors of the parts that it has", () => {
    const parts = Resilience.standard({ name: "x", circuitBreaker: false, timeout: false })
    const guarded = Effect.flatMap(parts, ({ protect }) => protect(charge))
    expect(guarded).type.toBe<
      Effect.Effect<number, Errors | DeadlineExceededError | BulkheadFullError, Db | Scope.Scope>
    >()
  })
})

declare const level: Priority.Level
it("levels are literals", () => {
  expect(level).type.toBe<"critical" | "high" | "normal" | "low" | "sheddable">()
})
