import {
  AdaptiveConcurrency,
  Bulkhead,
  CircuitBreaker,
  Fallback,
  Limit,
  LoadShedder,
  RateLimiter,
  ResilienceLive,
  Retry,
  SystemLoad,
  Timeout
} from "@effect-resilience/core"
import { Admin, Dashboard } from "@effect-resilience/http"
import { HttpRouter } from "@effect/platform"
import { Duration, Effect, Layer, Random, Schedule } from "effect"
import { openFleet } from "./fleet.js"
import { serveNode } from "./servers.js"

class DownError {
  readonly _tag = "DownError"
}

/** Runs it again and again, so often a second, whatever comes of it. */
const often = <A, E, R>(perSecond: number, call: Effect.Effect<A, E, R>) =>
  Effect.forkScoped(Effect.repeat(Effect.fork(Effect.exit(call)), Schedule.spaced(1000 / perSecond)))

const work = (millis: number) =>
  Effect.flatMap(Random.nextRange(millis * 0.5, millis * 2), (time) => Effect.sleep(Duration.millis(time)))

/** A shop in which some things go wrong. */
export const scene = Effect.gen(function*() {
  const payments = "payments"
  const retry = yield* Retry.make({ name: payments, maxAttempts: 3 })
  const breaker = yield* CircuitBreaker.make({ name: payments, consecutiveFailures: 8, openDuration: "20 seconds" })
  const bulkhead = yield* Bulkhead.make({ name: payments, maxConcurrent: 8, maxQueued: 8 })
  const timeout = yield* Timeout.make({ name: payments, duration: "2 seconds" })
  const failing = Effect.zipRight(work(30), Effect.fail(new DownError()))
  yield* often(12, failing.pipe(timeout.withTimeout, bulkhead.withPermit, breaker.withBreaker, retry.withRetry))

  const catalogue = yield* CircuitBreaker.make({ name: "catalogue" })
  yield* often(
    40,
    Effect.flatMap(
      Random.next,
      (n) => catalogue.withBreaker(n < 0.12 ? Effect.fail(new DownError()) : Effect.void)
    )
  )
  const reports = yield* Bulkhead.make({ name: "reports", maxConcurrent: 4, maxQueued: 3 })
  yield* often(20, reports.withPermit(work(300)))
  const search = yield* Timeout.make({ name: "search", duration: "150 millis" })
  yield* often(25, search.withTimeout(work(80)))
  const clients = yield* RateLimiter.make({ name: "clients", rate: "20/s" })
  yield* often(28, clients.withLimit(Effect.void))
  const stock = yield* AdaptiveConcurrency.make({ name: "stock", algorithm: Limit.fixed(20) })
  yield* often(30, stock.withPermit(work(120)))
  const api = yield* LoadShedder.make({ name: "api", maxInFlight: 6, maxQueueDepth: 0 })
  yield* often(50, api.withShedding(work(100)))
  const prices = yield* Fallback.make({ name: "prices" })
  yield* often(
    10,
    Effect.flatMap(Random.next, (n) => n < 0.3 ? Effect.fail(new DownError()) : Effect.void).pipe(
      prices.withFallback(() => Effect.void)
    )
  )
})

export const SystemTest = Layer.succeed(SystemLoad, {
  sample: Effect.succeed({
    cpu: 0.63,
    memory: 0.48,
    eventLoopUtilization: 0.57,
    eventLoopDelay: Duration.millis(4)
  })
})

export const SceneLive = Layer.scopedDiscard(scene).pipe(
  Layer.merge(Dashboard.layer({ title: "Shop", version: "1.4.2", instance: "shop-7f9c", history: true })),
  Layer.provideMerge(Admin.Live),
  Layer.provideMerge(Layer.merge(SystemTest, ResilienceLive))
)

export const sceneApp = HttpRouter.empty.pipe(
  HttpRouter.mount("/resilience", Dashboard.router),
  HttpRouter.mount("/admin", Admin.router({ authorize: Admin.loopbackOnly }))
)

/** Several such shops, seen by the first of them. */
export const openSceneFleet = (...labels: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const { live, members } = yield* openFleet(...labels)
    for (const { within } of members) yield* within(scene)
    const dashboard = Dashboard.layer({
      title: "Shop",
      version: "1.4.2",
      ...labels[0] === undefined ? {} : { instance: labels[0] }
    })
    const context = yield* Layer.build(Layer.provideMerge(Layer.provideMerge(dashboard, Admin.Live), live))
    return { members, ...yield* Effect.provide(serveNode(sceneApp), context) }
  })
