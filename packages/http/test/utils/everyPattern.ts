import {
  AdaptiveConcurrency,
  Backpressure,
  Bulkhead,
  CircuitBreaker,
  Fallback,
  LoadShedder,
  RateLimiter,
  ResilienceLive,
  Retry,
  SystemLoad,
  Timeout
} from "@effect-resilience/core"
import { Lending, metric } from "@effect-resilience/core/extension"
import {
  HttpResilience,
  HttpServerMetrics,
  Idempotency,
  IdempotencyStore,
  IdempotencyStoreError,
  StaleStore,
  StaleStoreError
} from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { Deferred, Effect, Fiber, Layer, TestClock } from "effect"
import { serveWeb } from "./servers.js"

const down = Effect.fail(new Error("the store is down"))

/** One call that holds what there is, one that waits for it, and one that is turned away. */
const crowd = <E>(guard: <A, E1>(effect: Effect.Effect<A, E1>) => Effect.Effect<A, E | E1>) =>
  Effect.gen(function*() {
    const gate = yield* Deferred.make<void>()
    const calls = yield* Effect.forEach([1, 2, 3], () =>
      Effect.zipLeft(Effect.fork(Effect.exit(guard(Deferred.await(gate)))), Effect.yieldNow()))
    yield* TestClock.adjust("10 millis")
    yield* Deferred.succeed(gate, undefined)
    yield* TestClock.adjust("10 millis")
    yield* Effect.forEach(calls, Fiber.join)
  })

/** What the package of Redis writes: its own test holds it to these names. */
const asRedis = Effect.sync(() => {
  const labels = metric.attributes("RedisConnection", "every")
  for (const name of ["up", "degraded", "processes", "pending"]) {
    metric.gauge(`resilience.redis.${name}`, "As Redis", labels)(1)
  }
  metric.counter("resilience.redis.round_trips", "As Redis", labels)()
  metric.counter("resilience.redis.errors", "As Redis", { ...labels, reason: "timeout" })()
  metric.seconds("resilience.redis.command.duration", "As Redis", labels)(1)
  metric.counter("resilience.redis.events.dropped", "As Redis", metric.attributes("RedisEventStream", "every"))(0)
  const shared = metric.attributes("Bulkhead", "every")
  metric.counter("resilience.bulkhead.leases.lost", "As Redis", shared)(0)
  metric.counter("resilience.rejections", "As Redis", { ...shared, reason: "store_unavailable", enforced: "true" })()
})

/** A bulkhead whose permits are lent, all of them to this process. */
const shared = Effect.provideService(Bulkhead.make({ name: "every-shared", maxConcurrent: 1 }), Lending, (borrower) => {
  borrower.allow(borrower.maxConcurrent)
  borrower.lend({ limit: 1, hoped: 0, shut: undefined })
  return Effect.succeed({
    used: () => {},
    queued: () => {},
    around: (effect) => effect,
    resize: () => Effect.succeed(true)
  })
})

/** Each pattern, used in such a way that every metric of it has been written. Under the `TestClock`. */
export const useEveryPattern = Effect.gen(function*() {
  yield* asRedis
  const breaker = yield* CircuitBreaker.make({ name: "every", consecutiveFailures: 2 })
  yield* breaker.withBreaker(Effect.void)
  for (const _ of [1, 2, 3]) yield* Effect.exit(breaker.withBreaker(Effect.fail("down")))

  const retry = yield* Retry.make({ name: "every", maxAttempts: 2, budget: {} })
  for (const effect of [Effect.void, Effect.fail("down")]) {
    const call = yield* Effect.fork(Effect.exit(retry.withRetry(effect)))
    yield* TestClock.adjust("1 minute")
    yield* Fiber.join(call)
  }

  const timeout = yield* Timeout.make({ name: "every", duration: "1 second" })
  const late = yield* Effect.fork(Effect.exit(timeout.withTimeout(Effect.never)))
  yield* TestClock.adjust("1 second")
  yield* Fiber.join(late)

  const fallback = yield* Fallback.make({ name: "every" })
  yield* fallback.withFallbackValue(() => 0)(Effect.fail("down"))

  yield* crowd((yield* Bulkhead.make({ name: "every", maxConcurrent: 1, maxQueued: 1 })).withPermit)
  yield* crowd((yield* shared).withPermit)
  yield* crowd(
    (yield* AdaptiveConcurrency.make({ name: "every", initialLimit: 1, maxLimit: 1, maxQueued: 1 })).withPermit
  )
  yield* crowd(
    (yield* Backpressure.make({
      name: "every",
      maxPending: 1,
      highWaterMark: 1,
      lowWaterMark: 0,
      maxWaiters: 1
    })).withBackpressure
  )
  yield* crowd((yield* LoadShedder.make({ name: "every", maxInFlight: 1 })).withShedding)

  const limiter = yield* RateLimiter.make({ name: "every", rate: "1/second", mode: "wait", maxWaiters: 1 })
  const calls = yield* Effect.forEach([1, 2, 3], () => Effect.fork(Effect.exit(limiter.withLimit(Effect.void))))
  yield* TestClock.adjust("5 seconds")
  yield* Effect.forEach(calls, Fiber.join)
  const broken = yield* RateLimiter.make({
    name: "every-shared",
    rate: "1/second",
    store: { decide: () => down, refund: () => down, adjust: () => down, drain: () => down, reset: () => down }
  })
  yield* Effect.exit(broken.withLimit(Effect.void))

  const handler = yield* serveWeb(HttpRouter.empty.pipe(
    HttpRouter.get("/", HttpServerResponse.text("hello")),
    HttpRouter.get("/boom", Effect.die("boom")),
    HttpResilience.standard({ name: "every-api", rateLimit: { rate: "1/hour", onMissingKey: "shared", dryRun: true } }),
    HttpServerMetrics.middleware()
  ))
  for (const path of ["/", "/", "/boom"]) yield* Effect.promise(() => handler(new Request(`http://x.test${path}`)))

  const keys = yield* IdempotencyStore.makeMemory()
  const noKeys = new IdempotencyStoreError({ operation: "begin", reason: "Unavailable" })
  const paying = yield* serveWeb(HttpRouter.empty.pipe(
    HttpRouter.post("/", HttpServerResponse.text("paid")),
    Idempotency.middleware({ name: "every-pay", principal: Idempotency.anybody })
  )).pipe(
    Effect.provideServiceEffect(
      IdempotencyStore,
      IdempotencyStore.watched("every", {
        ...keys,
        begin: (request) => Effect.suspend(() => isDown ? Effect.fail(noKeys) : keys.begin(request))
      })
    )
  )
  let isDown = false
  for (const down of [false, true]) {
    isDown = down
    yield* Effect.promise(() =>
      paying(new Request("http://x.test/", { method: "POST", headers: { "idempotency-key": "\"a\"" } }))
    )
  }

  const pages = yield* StaleStore.makeMemory()
  const noPages = new StaleStoreError({ operation: "get", detail: "down" })
  const isPageDown = (key: string) => key.includes("down")
  const page = HttpServerResponse.text("page", { headers: { "cache-control": "max-age=60" } })
  const stale = yield* serveWeb(HttpRouter.empty.pipe(
    HttpRouter.get("/", page),
    HttpRouter.get("/down", page),
    HttpResilience.staleIfError({ name: "every-page" })
  )).pipe(Effect.provide(
    yield* Layer.build(HttpResilience.Live.pipe(Layer.provide(Layer.succeed(StaleStore, {
      ...pages,
      put: (key, entry, ttl) => isPageDown(key) ? Effect.fail(noPages) : pages.put(key, entry, ttl)
    }))))
  ))
  for (const path of ["/", "/down"]) yield* Effect.promise(() => stale(new Request(`http://x.test${path}`)))
}).pipe(
  Effect.scoped,
  Effect.provide(HttpResilience.Live.pipe(
    Layer.provideMerge(Layer.succeed(SystemLoad, { sample: Effect.succeed({ cpu: 0.5 }) })),
    Layer.provideMerge(ResilienceLive)
  ))
)
