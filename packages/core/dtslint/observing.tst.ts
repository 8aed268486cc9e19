import type {
  ActionError,
  BulkheadFullError,
  CircuitOpenError,
  DeadlineExceededError,
  Registry,
  TimeoutExceededError,
  UnknownInstanceError
} from "@effect-resilience/core"
import {
  Bulkhead,
  CircuitBreaker,
  EventBus,
  EventLog,
  Registry as RegistryTag,
  Resilience,
  type ResilienceEvent,
  ResilienceLive,
  type Retry
} from "@effect-resilience/core"
import type { ConfigError, Duration, Option, Scope, Stream } from "effect"
import { Config, Context, Effect, Layer } from "effect"
import { describe, expect, it } from "tstyche"

class Db extends Context.Tag("Db")<Db, { readonly db: true }>() {}
class Payments extends CircuitBreaker.Tag<Payments>()("payments") {}
declare const charge: Effect.Effect<number, "declined", Db>

describe("events", () => {
  it("a handler sees the event of its tag, and brings its R", () => {
    const watching = Payments.on("StateChanged", (event) => {
      expect(event.to).type.toBe<CircuitBreaker.State>()
      return Effect.as(Db, event)
    })
    expect(watching).type.toBe<Effect.Effect<void, never, Scope.Scope | Payments | Db>>()
    const all = Payments.on("*", (event) => {
      expect(event).type.toBe<CircuitBreaker.Event>()
      return Effect.void
    })
    const one = EventBus.on("PermitReleased", (event) => {
      expect(event.held).type.toBe<Duration.Duration>()
      return Effect.void
    })
    expect(Effect.zip(all, one)).type.toBe<Effect.Effect<[void, void], never, Scope.Scope | Payments | EventBus>>()
  })

  it("a handler may fail: that is its own affair", () => {
    expect(EventBus.on("*", () => Effect.fail("x"))).type.toBe<Effect.Effect<void, never, Scope.Scope | EventBus>>()
  })

  it("an unknown tag does not compile", () => {
    // @ts-expect-error! no such event
    const none = Payments.on("Opened", () => Effect.void)
    // @ts-expect-error! an event of another pattern
    const other = Payments.on("PermitReleased", () => Effect.void)
    // @ts-expect-error! no such event of any pattern
    const nowhere = EventBus.on("Opened", () => Effect.void)
    expect([none, other, nowhere]).type.not.toBe<never>()
  })

  it("as a stream and as layers", () => {
    expect(Payments.events).type.toBe<Stream.Stream<CircuitBreaker.Event, never, Payments>>()
    expect(EventBus.events).type.toBe<Stream.Stream<ResilienceEvent, never, EventBus>>()
    expect(Payments.onLayer("Reset", () => Db)).type.toBe<Layer.Layer<never, never, Payments | Db>>()
    expect(EventBus.onLayer("*", () => Effect.void)).type.toBe<Layer.Layer<never, never, EventBus>>()
  })
})

describe("log and registry", () => {
  it("a log needs the bus, a sink what it uses", () => {
    expect(EventLog.layer()).type.toBe<Layer.Layer<never, never, EventBus>>()
    expect(EventLog.layerSink(() => Db)).type.toBe<Layer.Layer<never, never, EventBus | Db>>()
    expect(EventLog.layer().pipe(Layer.provideMerge(ResilienceLive))).type.toBe<Layer.Layer<EventBus | RegistryTag>>()
  })

  it("an action has its two errors", () => {
    expect(RegistryTag.act("Bulkhead", "b", "resize", 3)).type.toBe<
      Effect.Effect<Registry.Reach, UnknownInstanceError | ActionError, RegistryTag>
    >()
    expect(RegistryTag.snapshot).type.toBe<Effect.Effect<Registry.Snapshot, never, RegistryTag>>()
  })
})

describe("the standard chain", () => {
  it("adds what its parts add", () => {
    const all = Effect.map(Resilience.standard({ name: "all" }), ({ protect }) => protect(charge))
    expect(all).type.toBe<
      Effect.Effect<
        Effect.Effect<
          number,
          "declined" | DeadlineExceededError | CircuitOpenError | BulkheadFullError | TimeoutExceededError,
          Db
        >,
        never,
        Scope.Scope
      >
    >()
  })

  it("without a part there is nothing of it", () => {
    const some = Effect.map(
      Resilience.standard({ name: "some", deadline: false, bulkhead: false, timeout: "1 second" }),
      (chain) => {
        expect(chain.bulkhead).type.toBe<undefined>()
        expect(chain.retry).type.toBe<Retry.Service>()
        return chain.protect(charge)
      }
    )
    expect(some).type.toBe<
      Effect.Effect<
        Effect.Effect<number, "declined" | CircuitOpenError | TimeoutExceededError, Db>,
        never,
        Scope.Scope
      >
    >()
    const none = Effect.map(
      Resilience.standard({
        name: "none",
        deadline: false,
        retry: false,
        circuitBreaker: false,
        bulkhead: false,
        timeout: false
      }),
      ({ protect }) => protect(charge)
    )
    expect(none).type.toBe<Effect.Effect<Effect.Effect<number, "declined", Db>, never, Scope.Scope>>()
  })

  it("a part that may be there has its errors", () => {
    const options: Resilience.Options = { name: "unknown" }
    const guarded = Effect.map(Resilience.standard(options), ({ protect }) => protect(charge))
    expect(guarded).type.toBe<
      Effect.Effect<
        Effect.Effect<
          number,
          "declined" | DeadlineExceededError | CircuitOpenError | BulkheadFullError | TimeoutExceededError,
          Db
        >,
        never,
        Scope.Scope
      >
    >()
  })

  it("as a tag it adds what its parts add, and needs itself", () => {
    class All extends Resilience.Tag<All>()("all") {}
    class Some extends Resilience.Tag<Some>()("some", {
      deadline: false,
      bulkhead: false,
      timeout: { duration: "1 second", disconnect: true }
    }) {}
    class None extends Resilience.Tag<None>()("none", {
      deadline: false,
      retry: false,
      circuitBreaker: false,
      bulkhead: false,
      timeout: false
    }) {}
    expect(charge.pipe(All.protect)).type.toBe<
      Effect.Effect<
        number,
        "declined" | DeadlineExceededError | CircuitOpenError | BulkheadFullError | TimeoutExceededError,
        Db | All
      >
    >()
    expect(charge.pipe(Some.protect)).type.toBe<
      Effect.Effect<number, "declined" | CircuitOpenError | TimeoutExceededError, Db | Some>
    >()
    expect(charge.pipe(None.protect)).type.toBe<Effect.Effect<number, "declined", Db | None>>()
    expect(Effect.map(Some, (some) => some.bulkhead)).type.toBe<Effect.Effect<undefined, never, Some>>()
    expect(Effect.map(Some, (some) => some.protect(charge))).type.toBe<
      Effect.Effect<
        Effect.Effect<number, "declined" | CircuitOpenError | TimeoutExceededError, Db>,
        never,
        Some
      >
    >()
    const decorated = Effect.fn("charge")(function*(id: string) {
      return yield* Effect.succeed(id)
    }, Some.protect)
    expect(decorated("x")).type.toBe<Effect.Effect<string, CircuitOpenError | TimeoutExceededError, Some>>()
  })

  it("the layers of a tag keep its parts", () => {
    class Some extends Resilience.Tag<Some>()("some", { bulkhead: false }) {}
    expect(Some.Live).type.toBe<Layer.Layer<Some>>()
    expect(Some.layer({ timeout: "1 second", bulkhead: false })).type.toBe<Layer.Layer<Some>>()
    expect(Some.layerConfig({ timeout: Config.duration("TIMEOUT") })).type.toBe<
      Layer.Layer<Some, ConfigError.ConfigError>
    >()
    expect(Some.layerNoop).type.toBe<Layer.Layer<Some>>()
    expect(Some.layer).type.not.toBeCallableWith({ bulkhead: { maxConcurrent: 3 } })
    expect(Some.layer).type.not.toBeCallableWith({ timeout: false })
    expect(Some.layer).type.not.toBeCallableWith({ retries: {} })
    // @ts-expect-error! circuitBreaker is meant
    const misspelt = Resilience.Tag<Some>()("x", { circuitbreaker: false, timeout: false })
    expect(misspelt).type.not.toBe<never>()
  })

  it("a misspelt option does not compile", () => {
    // @ts-expect-error! circuitBreaker is meant
    const misspelt = Resilience.standard({ name: "x", circuitbreaker: false })
    // @ts-expect-error! the name is missing
    const nameless = Resilience.standard({ bulkhead: false })
    expect(Effect.zip(misspelt, nameless)).type.not.toBe<never>()
  })
})

it("a keyed instance reads one key", () => {
  class Tenants extends Bulkhead.Keyed<Tenants>()("tenants") {}
  expect(Tenants.metricsOf("a")).type.toBe<Effect.Effect<Option.Option<Bulkhead.Metrics>, never, Tenants>>()
})
