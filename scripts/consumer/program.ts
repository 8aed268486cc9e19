import {
  Bulkhead,
  CircuitBreaker,
  CircuitBreakerLive,
  Fallback,
  Registry,
  Resilience,
  ResilienceLive,
  Retry,
  Timeout
} from "@effect-resilience/core"
import * as Breaker from "@effect-resilience/core/CircuitBreaker"
import { RedisBulkhead, RedisCircuitBreaker, RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { RedisIdempotencyStore, RedisStaleStore } from "@effect-resilience/redis/http"
import { Effect, Layer, Logger, LogLevel } from "effect"

export class Payments extends CircuitBreaker.Tag<Payments>()("payments", { consecutiveFailures: 3 }) {}
export class Reports extends Bulkhead.Tag<Reports>()("reports", { maxConcurrent: 2 }) {}
export class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts") {}
export class Orders extends Resilience.Tag<Orders>()("orders", { bulkhead: false }) {}

export const charge = Effect.fn("charge")(
  function*(id: string) {
    return yield* Effect.succeed(`paid ${id}`)
  },
  Timeout.withTimeout,
  Reports.withPermit,
  Payments.withBreaker,
  Retry.withRetry
)

export const byHost = Effect.succeed(1).pipe(Hosts.withBreakerBy({ key: "a" }), Fallback.to(0))
export const order = Effect.succeed(1).pipe(Orders.protect)
export const typed = Effect.fail("no" as const).pipe(
  Retry.using({ retryOn: (error) => error === "no", initialDelay: 1 })
)

export const Live = Layer.mergeAll(Payments.Live, Reports.Live, Hosts.Live, Timeout.Live, Retry.Live)

/** The same, shared by processes; nothing of it needs a server to be there. */
export const SharedLive = Layer.mergeAll(
  RedisBulkhead.layer(Reports, { onStoreError: "open" }),
  Payments.Live.pipe(Layer.provide(RedisCircuitBreaker.layer())),
  RedisRateLimiterStore.layer(),
  RedisIdempotencyStore.layer(),
  RedisStaleStore.layer()
).pipe(Layer.provide(RedisConnection.layer({ server: "redis://127.0.0.1:1", startup: "degrade" })))

const program = Effect.gen(function*() {
  const viaDefault = yield* Effect.succeed("default").pipe(
    CircuitBreaker.withBreaker,
    Effect.provide(CircuitBreakerLive)
  )
  const paid = yield* charge("42")
  const last = yield* Effect.flip(typed)
  const alone = yield* Effect.succeed("alone").pipe(
    Reports.withPermit,
    Payments.withBreaker,
    Effect.provide(SharedLive),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
  const [payments] = (yield* Registry.snapshot).instances.filter(({ instance }) => instance === "payments")
  const place = payments?.site.match(/program\.js/)?.[0]
  return [viaDefault, paid, yield* byHost, last, Breaker.CircuitBreaker === CircuitBreaker, place, alone].join(", ")
})

console.log(await Effect.runPromise(Effect.provide(program, Live.pipe(Layer.provideMerge(ResilienceLive)))))
