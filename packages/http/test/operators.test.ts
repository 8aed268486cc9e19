import type { ResilienceEvent } from "@effect-resilience/core"
import { EventBus, RateLimiter, Registry, ResilienceLive } from "@effect-resilience/core"
import {
  HttpResilience,
  Idempotency,
  IdempotencyStore,
  IdempotencyStoreError,
  PrometheusMetrics,
  StaleStore,
  StaleStoreError
} from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Ref, TestClock } from "effect"
import type { Sample } from "./utils/prometheus.js"
import { samples } from "./utils/prometheus.js"
import { serveWeb } from "./utils/servers.js"

/*
 * What operators see of what is answered in the place of something else, and of the stores behind it.
 */

const live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))

const metricsOf = (pattern: string, name: string) =>
  Effect.map(
    Registry.snapshot,
    ({ instances }) => instances.find((one) => one.pattern === pattern && one.instance === name)?.metrics
  )

const scrape = Effect.map(PrometheusMetrics.text(), samples)

/** The series of a metric and an instance, by the value of a label. */
const by = (found: ReadonlyArray<Sample>, metric: string, instance: string, label: string) =>
  Object.fromEntries(
    found.filter(({ labels, name }) => name === metric && labels["resilience_name"] === instance)
      .map(({ labels, value }) => [labels[label], Number(value)])
  )

/** Collects the events of the bus with this tag. */
const heard = (tag: ResilienceEvent["_tag"]) =>
  Effect.gen(function*() {
    const events: Array<ResilienceEvent> = []
    yield* EventBus.on(tag, (event) => Effect.sync(() => events.push(event)))
    return events
  })

/** For as long as the test takes. */
const within = <A, E, R, ROut, RIn>(effect: Effect.Effect<A, E, R>, layer: Layer.Layer<ROut, never, RIn>) =>
  Effect.flatMap(Layer.build(layer), (context) => Effect.provide(effect, context))

const flaky = Effect.map(Ref.make(true), (isUp) => ({
  isUp,
  router: HttpRouter.empty.pipe(HttpRouter.get(
    "/page",
    Effect.flatMap(
      Ref.get(isUp),
      (up) => up ? HttpServerResponse.text("good", { headers: { "cache-control": "max-age=60" } }) : Effect.fail("boom")
    )
  ))
}))

describe("fallbacks and stale responses", () => {
  it.scoped("are counted, told of, and stand in the registry", () =>
    Effect.gen(function*() {
      const used = yield* heard("FallbackUsed")
      const { isUp, router } = yield* flaky
      const handler = yield* serveWeb(router.pipe(HttpResilience.standard({
        name: "seen",
        staleIfError: {},
        fallback: {
          respond: (request) => request.url.includes("none") ? Effect.die("no") : HttpServerResponse.text("fallback")
        }
      })))
      const get = (path: string) => Effect.promise(() => handler(new Request(`http://x.test${path}`)))
      yield* get("/page")
      yield* Ref.set(isUp, false)
      for (const path of ["/page", "/page?new", "/page?none"]) yield* get(path)

      expect(yield* metricsOf("Fallback", "seen-stale")).toMatchObject({ primary: 1, fallbacks: 1, failed: 2 })
      expect(yield* metricsOf("Fallback", "seen")).toMatchObject({ primary: 1, fallbacks: 1, failed: 1 })
      expect(yield* metricsOf("StaleStore", "seen")).toMatchObject({
        served: 1,
        missed: 2,
        kept: 1,
        storeErrors: 0,
        entries: 1
      })
      const found = yield* scrape
      const of = (instance: string) => by(found, "resilience_fallback_calls_total", instance, "result")
      expect(of("seen-stale")).toEqual({ primary: 1, fallback: 1, failed: 2 })
      expect(of("seen")).toEqual({ primary: 1, fallback: 1, failed: 1 })
      expect(by(found, "resilience_cache_requests_total", "seen", "result")).toEqual({
        stale_if_error: 1,
        miss: 2
      })
      expect(by(found, "resilience_cache_entries", "seen", "resilience_pattern")).toEqual({ StaleStore: 1 })
      expect(used.map(({ instance, ...event }) => [instance, "error" in event && event.error])).toEqual([
        ["seen-stale", { _tag: "Failure", status: 500 }],
        ["seen", { _tag: "Failure", status: 500 }]
      ])
    }).pipe(Effect.provide(live)))

  it.scoped("a reason that is none of theirs is not counted against them", () =>
    Effect.gen(function*() {
      const handler = yield* serveWeb(HttpRouter.empty.pipe(
        HttpRouter.get("/", HttpServerResponse.text("mine", { status: 500 })),
        HttpResilience.fallback({ name: "choosy", respond: HttpServerResponse.text("fallback") })
      ))
      expect((yield* Effect.promise(() => handler(new Request("http://x.test/")))).status).toBe(500)
      expect(yield* metricsOf("Fallback", "choosy")).toMatchObject({ offered: 0 })
    }).pipe(Effect.provide(live)))
})

describe("idempotency keys", () => {
  it.scoped("what became of them, and how many are held", () =>
    Effect.gen(function*() {
      const handler = yield* serveWeb(HttpRouter.empty.pipe(
        HttpRouter.post("/pay", HttpServerResponse.text("paid")),
        Idempotency.middleware({ name: "pay-seen", principal: Idempotency.anybody })
      ))
      const post = (key: string, body: string) =>
        Effect.promise(() =>
          handler(
            new Request("http://x.test/pay", { method: "POST", body, headers: { "idempotency-key": `"${key}"` } })
          )
        )
      for (const [key, body] of [["a", "1"], ["a", "1"], ["a", "2"], ["b", "1"]] as const) yield* post(key, body)
      expect(yield* metricsOf("IdempotencyStore", "keys-seen")).toMatchObject({
        offered: 4,
        admitted: 2,
        replayed: 1,
        mismatches: 1,
        conflicts: 0,
        rejected: 1,
        storeErrors: 0,
        inFlight: 0,
        done: 2
      })
      const found = yield* scrape
      expect(by(found, "resilience_idempotency_requests_total", "pay-seen", "outcome")).toEqual({
        new: 2,
        replayed: 1,
        key_reused: 1
      })
      expect(by(found, "resilience_idempotency_keys", "keys-seen", "state")).toEqual({ in_flight: 0, done: 2 })
    }).pipe(
      Effect.provide(IdempotencyStore.layerMemory({ name: "keys-seen" }).pipe(Layer.provideMerge(ResilienceLive)))
    ))
})

describe("a store that is down", () => {
  const down = Effect.fail(new Error("connection refused"))
  const keysDown = Effect.fail(new IdempotencyStoreError({ operation: "begin", reason: "Unavailable" }))
  const pageDown = Effect.fail(new StaleStoreError({ operation: "get", detail: "connection refused" }))
  const limited = { decide: () => down, refund: () => down, adjust: () => down, drain: () => down, reset: () => down }
  const stores = {
    Idempotency: within(
      Effect.map(
        serveWeb(HttpRouter.empty.pipe(
          HttpRouter.post("/", HttpServerResponse.text("paid")),
          Idempotency.middleware({ name: "down", principal: Idempotency.anybody })
        )),
        (handler) => () =>
          handler(new Request("http://x.test/", { method: "POST", headers: { "idempotency-key": "\"a\"" } }))
      ),
      Layer.scoped(
        IdempotencyStore,
        IdempotencyStore.watched("down", { begin: () => keysDown, complete: () => keysDown, release: () => keysDown })
      )
    ),
    StaleStore: within(
      Effect.map(
        serveWeb(HttpRouter.empty.pipe(
          HttpRouter.get("/", HttpServerResponse.text("page", { headers: { "cache-control": "max-age=60" } })),
          HttpResilience.staleIfError({ name: "down" })
        )),
        (handler) => () => handler(new Request("http://x.test/"))
      ),
      HttpResilience.Live.pipe(
        Layer.provide(Layer.succeed(StaleStore, { get: () => pageDown, put: () => pageDown }))
      )
    ),
    RateLimiter: Effect.flatMap(
      RateLimiter.make({ name: "down", rate: "1/s", store: limited }),
      (limiter) =>
        Effect.map(
          serveWeb(HttpRouter.empty.pipe(
            HttpRouter.get(
              "/",
              Effect.zipRight(Effect.exit(limiter.withLimit(Effect.void)), HttpServerResponse.empty())
            )
          )),
          (handler) => () => handler(new Request("http://x.test/"))
        )
    )
  }

  it.scoped("has failed when it was last asked, until it does not", () =>
    Effect.gen(function*() {
      const isUp = yield* Ref.make(true)
      const keys = yield* IdempotencyStore.watched("unsteady", {
        begin: () =>
          Effect.if(isUp, { onTrue: () => Effect.succeed({ _tag: "New" as const }), onFalse: () => keysDown }),
        complete: () => keysDown,
        release: () => keysDown
      })
      const pages = yield* within(
        serveWeb(HttpRouter.empty.pipe(
          HttpRouter.get("/", HttpServerResponse.text("page", { headers: { "cache-control": "max-age=60" } })),
          HttpResilience.staleIfError({ name: "unsteady" })
        )),
        HttpResilience.Live.pipe(Layer.provide(Layer.succeed(StaleStore, {
          get: () => pageDown,
          put: () => Effect.if(isUp, { onTrue: () => Effect.void, onFalse: () => pageDown })
        })))
      )
      const owner = { key: "a", token: "1", fingerprint: "f", lease: Duration.seconds(1) }
      const failing = Effect.gen(function*() {
        yield* Effect.exit(keys.begin(owner))
        yield* Effect.promise(() => pages(new Request("http://x.test/")))
        const [ofKeys, ofPages] = [
          yield* metricsOf("IdempotencyStore", "unsteady"),
          yield* metricsOf("StaleStore", "unsteady")
        ]
        return [ofKeys, ofPages].map((metrics) => Reflect.get(Object(metrics), "failing"))
      })
      expect(yield* failing).toEqual([false, false])
      yield* Ref.set(isUp, false)
      expect(yield* failing).toEqual([true, true])
      yield* Ref.set(isUp, true)
      expect(yield* failing).toEqual([false, false])
    }).pipe(Effect.provide(ResilienceLive)))

  const countOf = {
    Idempotency: ["IdempotencyStore", "storeErrors"],
    StaleStore: ["StaleStore", "storeErrors"],
    RateLimiter: ["RateLimiter", "storeErrors"]
  } as const

  /** What it means, and what went wrong, in one line; what is no failure of a store has its stack beside it. */
  const saidOf = {
    Idempotency: "onStoreError: \"fail\"): IdempotencyStore: begin failed (Unavailable)",
    StaleStore: "nothing is kept, and errors are answered as they are): StaleStore: get failed: connection refused",
    RateLimiter: "onStoreError: \"fail\")"
  }

  it.scoped("is told of once when it answers again", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => void lines.push([message].flat().join(" ")))
    return Effect.gen(function*() {
      let isDown = true
      const orDown = <A, E, E1>(down: Effect.Effect<never, E1>, effect: Effect.Effect<A, E>) =>
        Effect.suspend((): Effect.Effect<A, E | E1> => isDown ? down : effect)
      const keys = yield* IdempotencyStore.makeMemory()
      const pages = yield* StaleStore.makeMemory()
      const app = HttpRouter.empty.pipe(
        HttpRouter.post("/", HttpServerResponse.text("paid")),
        HttpRouter.get("/", HttpServerResponse.text("page", { headers: { "cache-control": "max-age=60" } })),
        Idempotency.middleware({ name: "back", principal: Idempotency.anybody }),
        HttpResilience.staleIfError({ name: "back" })
      )
      const send = yield* within(
        Effect.map(
          serveWeb(app),
          (handler) => (method: string) =>
            Effect.promise(() =>
              handler(new Request("http://x.test/", { method, headers: { "idempotency-key": "\"a\"" } }))
            )
        ),
        Layer.merge(
          Layer.succeed(IdempotencyStore, { ...keys, begin: (request) => orDown(keysDown, keys.begin(request)) }),
          HttpResilience.Live.pipe(Layer.provide(
            Layer.succeed(StaleStore, { ...pages, put: (...entry) => orDown(pageDown, pages.put(...entry)) })
          ))
        )
      )
      const both = Effect.zipRight(send("POST"), send("GET"))
      yield* both
      expect(lines).toHaveLength(2)
      isDown = false
      yield* both
      expect(lines).toHaveLength(2)
      yield* TestClock.adjust("5 seconds")
      yield* Effect.repeatN(both, 3)
      expect(lines.slice(2)).toEqual([
        "Idempotency \"back\": store answers again",
        "StaleStore \"back\": store answers again"
      ])
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })

  for (const [pattern, serving] of Object.entries(stores)) {
    it.scoped(`is told of once a minute, and counted each time: ${pattern}`, () => {
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => void warnings.push(String([message].flat()[0])))
      return Effect.gen(function*() {
        const errors = yield* heard("InternalError")
        const send = yield* serving
        const requests = Effect.repeatN(Effect.promise(send), 4)
        yield* requests
        expect(warnings).toEqual([`${pattern} "down": store failed (${saidOf[pattern as keyof typeof saidOf]}`])
        yield* TestClock.adjust("59 seconds")
        yield* requests
        expect(warnings).toHaveLength(1)
        yield* TestClock.adjust("1 second")
        yield* requests
        expect(warnings).toHaveLength(2)
        expect(errors.map((event) => [event.pattern, event.instance, "source" in event && event.source])).toEqual([
          [pattern, "down", "Store"],
          [pattern, "down", "Store"]
        ])
        const [entry, field] = countOf[pattern as keyof typeof countOf]
        expect(Reflect.get((yield* metricsOf(entry, "down")) ?? {}, field)).toBeGreaterThanOrEqual(15)
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)), Effect.provide(ResilienceLive))
    })
  }
})
