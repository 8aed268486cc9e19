import {
  AdaptiveConcurrency,
  Backpressure,
  BackpressureError,
  Bulkhead,
  BulkheadFullError,
  CircuitBreaker,
  CircuitOpenError,
  ConcurrencyLimitError,
  DeadlineExceededError,
  Fallback,
  FallbackFailedError,
  InternalError,
  LoadShedder,
  LoadShedError,
  OperatorAction,
  RateLimiter,
  RateLimiterStoreError,
  RateLimitExceededError,
  ResilienceEvent,
  Retry,
  Timeout,
  TimeoutExceededError
} from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Arbitrary, Duration, Effect, FastCheck as fc, Queue, Schema } from "effect"

/** Through JSON and back: the wire form of what came back is the one that was sent. */
const roundTrip = <A, I>(schema: Schema.Schema<A, I>, value: A): A => {
  const sent = JSON.stringify(Schema.encodeSync(schema)(value))
  const back = Schema.decodeUnknownSync(schema)(JSON.parse(sent))
  expect(JSON.stringify(Schema.encodeSync(schema)(back))).toBe(sent)
  return back
}

interface Tagged {
  readonly _tag: string
  readonly pattern: string
  readonly instance: string
}
/** Schemas of different types in one list: what all their values have is all that is asked of them. */
const seen = (schema: Schema.Schema.AnyNoContext) => schema as Schema.Schema<Tagged, unknown>

const events = [
  ...AdaptiveConcurrency.Event.members,
  ...Backpressure.Event.members,
  ...Bulkhead.Event.members,
  ...CircuitBreaker.Event.members,
  ...Fallback.Event.members,
  ...LoadShedder.Event.members,
  ...RateLimiter.Event.members,
  ...Retry.Event.members,
  ...Timeout.Event.members
].filter((member) => !Object.is(member, InternalError)).concat(InternalError as never, OperatorAction as never).map(
  seen
)

describe("events", () => {
  it("of all patterns are in the union", () => {
    const patterns = [
      AdaptiveConcurrency,
      Backpressure,
      Bulkhead,
      CircuitBreaker,
      Fallback,
      LoadShedder,
      RateLimiter,
      Retry,
      Timeout
    ].map(({ Event }) => Event)
    expect(new Set(ResilienceEvent.members)).toEqual(new Set([...patterns, InternalError, OperatorAction]))
  })

  for (const schema of events) {
    const arbitrary = Arbitrary.make(Schema.typeSchema(schema))
    const [sample] = fc.sample(arbitrary, 1)
    const union = seen(ResilienceEvent)
    it(`${sample?._tag} comes back as it went`, () => {
      fc.assert(
        fc.property(arbitrary, (event) => {
          for (const by of [schema, union]) {
            expect(roundTrip(by, event)).toMatchObject({
              _tag: event._tag,
              pattern: event.pattern,
              instance: event.instance
            })
          }
        }),
        { numRuns: 550 }
      )
    })
  }

  it.effect("of a real call come back with the name and message of the error, and without its secrets", () =>
    Effect.scoped(Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "b", consecutiveFailures: 1, openDuration: "5 seconds" })
      const queue = yield* breaker.subscribe
      const error = Object.assign(new TypeError("down"), { password: "hunter2" })
      yield* Effect.exit(breaker.withBreaker(Effect.fail(error)).pipe(Effect.withSpan("call")))
      yield* Effect.exit(breaker.withBreaker(Effect.void))
      yield* Effect.repeatN(Effect.yieldNow(), 5)
      const told = [...(yield* Queue.takeAll(queue))]
      const back = told.map((event) => roundTrip(ResilienceEvent, event))
      expect(back.map(({ _tag }) => _tag)).toEqual(["CallFailed", "StateChanged", "CallRejected"])
      expect(back[0]).toMatchObject({ error: { name: "TypeError", message: "down" }, tripped: true })
      expect(back[2]).toMatchObject({ reason: "Open", retryAfter: Duration.seconds(5) })
      expect(JSON.stringify(Schema.encodeSync(Schema.Array(ResilienceEvent))(told))).not.toContain("hunter2")
    })))

  it.effect("without a limit come back without one", () =>
    Effect.scoped(Effect.gen(function*() {
      const retry = yield* Retry.make({ name: "r", maxAttempts: Infinity, abortOn: ["Stop"], initialDelay: 0 })
      const timeout = yield* Timeout.make({ name: "t", duration: Infinity })
      const queues = [yield* retry.subscribe, yield* timeout.subscribe] as const
      let n = 0
      const call = Effect.suspend(() => Effect.fail({ _tag: n++ === 0 ? "Again" : "Stop" }))
      yield* Effect.exit(call.pipe(timeout.withTimeout, retry.withRetry))
      yield* Effect.repeatN(Effect.yieldNow(), 5)
      expect(roundTrip(ResilienceEvent, yield* Queue.take(queues[0]))).toMatchObject({ maxAttempts: Infinity })
      expect(roundTrip(ResilienceEvent, yield* Queue.take(queues[1]))).toMatchObject({ limit: Duration.infinity })
    })))
})

describe("errors", () => {
  const errors = [
    BackpressureError,
    BulkheadFullError,
    CircuitOpenError,
    ConcurrencyLimitError,
    DeadlineExceededError,
    FallbackFailedError,
    LoadShedError,
    RateLimiterStoreError,
    RateLimitExceededError,
    TimeoutExceededError
  ]
  for (const error of errors) {
    const schema = seen(error) as unknown as Schema.Schema<Tagged & { readonly reason: string }, unknown>
    it(`${error._tag} comes back as an instance of its class`, () => {
      fc.assert(
        fc.property(Arbitrary.make(schema), (value) => {
          const back = roundTrip(schema, value)
          expect(back).toBeInstanceOf(error)
          expect([back._tag, back.instance, back.reason]).toEqual([value._tag, value.instance, value.reason])
        }),
        { numRuns: 1000 }
      )
    })
  }
})
