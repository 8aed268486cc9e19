import { CircuitBreaker } from "@effect-resilience/core"
import { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Option } from "effect"
import { inject } from "vitest"

const url = inject("redisUrl")

/** One process of a fleet: a connection and a layer of its own. */
const member = (prefix: string, options?: RedisCircuitBreaker.Options) =>
  RedisCircuitBreaker.layer(options).pipe(
    Layer.provideMerge(RedisConnection.layer({ server: { _tag: "Standalone", url: String(url) }, prefix }))
  )

const fail = Effect.fail("down")

const until = (condition: Effect.Effect<boolean>, millis = 3000): Effect.Effect<void> =>
  Effect.suspend(() => {
    const end = performance.now() + millis
    const look: Effect.Effect<void> = Effect.flatMap(condition, (met) =>
      met
        ? Effect.void
        : performance.now() > end
        ? Effect.die(new Error("it never came to that"))
        : Effect.zipRight(Effect.sleep(2), look))
    return look
  })

let runs = 0
const fresh = () => `cb${process.pid}-${runs++}:`

const open = (
  prefix: string,
  options: CircuitBreaker.Options & { readonly name: string },
  shared?: RedisCircuitBreaker.Options
) =>
  Effect.flatMap(
    Layer.build(member(prefix, shared)),
    (context) =>
      Effect.map(Effect.provide(CircuitBreaker.make(options), context), (breaker) => ({
        breaker,
        redis: Context.get(context, RedisConnection),
        trip: Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 4)
      }))
  )

describe.skipIf(url === undefined)("a shared circuit breaker", () => {
  it.scopedLive("a sick process opens only itself, two open the fleet, and one set of probes closes it", () =>
    Effect.gen(function*() {
      const prefix = fresh()
      const options = {
        name: "payments",
        openDuration: "300 millis",
        halfOpenMaxCalls: 2,
        successThreshold: 2
      } as const
      const [a, b, c] = yield* Effect.all([open(prefix, options), open(prefix, options), open(prefix, options)])
      yield* a.trip
      expect(yield* a.breaker.state).toBe("Open")
      yield* Effect.sleep(50)
      expect(yield* b.breaker.state).toBe("Closed")
      yield* b.trip
      yield* until(Effect.map(c.breaker.state, (s) => s === "Open"))
      const error = yield* Effect.flip(c.breaker.withBreaker(Effect.void))
      expect(Option.map(error.retryAfter, (d) => Duration.lessThanOrEqualTo(d, "300 millis"))).toEqual(
        Option.some(true)
      )
      yield* Effect.sleep(320)
      yield* c.breaker.withBreaker(Effect.void)
      expect(yield* c.breaker.state).toBe("HalfOpen")
      yield* c.breaker.withBreaker(Effect.void)
      yield* until(Effect.map(
        Effect.all([a.breaker.state, b.breaker.state, c.breaker.state]),
        (all) => all.every((s) => s === "Closed")
      ))
      const { shared } = yield* c.breaker.metrics
      expect(shared?.state).toBe("Closed")
    }))
})
