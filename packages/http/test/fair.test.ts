import { Registry, ResilienceLive, SystemLoad } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Option, Schedule } from "effect"
import { serveWeb } from "./utils/servers.js"

type Request = HttpResilience.Request

const clientIp = ({ headers }: Request) => Option.fromNullable(headers["x-client"])
const byTenant = ({ headers }: Request) => Option.fromNullable(headers["x-tenant"])

const Live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))

const waiting = (pattern: string) =>
  Effect.map(
    Registry.snapshot,
    ({ instances }) => instances.find((one) => one.pattern === pattern)?.metrics as { waiting: number } | undefined
  ).pipe(Effect.map((metrics) => metrics?.waiting ?? 0))

/** Five requests of a noisy one, then one of a quiet one, to an app that has room for one: in which order they are served. */
const order = (pattern: string, policy: HttpResilience.Middleware, header: string) =>
  Effect.gen(function*() {
    const served: Array<string> = []
    const gate = yield* Deferred.make<void>()
    const handler = yield* serveWeb(HttpRouter.empty.pipe(
      HttpRouter.get(
        "/",
        Effect.gen(function*() {
          const { headers } = yield* HttpServerRequest.HttpServerRequest
          served.push(headers[header] ?? "")
          yield* Deferred.await(gate)
          return HttpServerResponse.empty()
        })
      ),
      policy
    ))
    const send = (who: string) =>
      Effect.promise(() => handler(new Request("http://x.test/", { headers: { [header]: who } })))
    const [noisy, quiet] = ["203.0.113.1", "203.0.113.2"] as const
    const inLine = (count: number) =>
      Effect.repeat(waiting(pattern), { schedule: Schedule.spaced("1 millis"), until: (found) => found === count })
    yield* Effect.fork(Effect.all(Array.from({ length: 5 }, () => send(noisy)), { concurrency: "unbounded" }))
    yield* inLine(4)
    const last = yield* Effect.fork(send(quiet))
    yield* inLine(5)
    yield* Deferred.succeed(gate, undefined)
    yield* last
    yield* inLine(0)
    yield* Effect.yieldNow()
    return served.indexOf(quiet)
  }).pipe(Effect.scoped, Effect.provide(Live))

describe("fair lines", () => {
  const one = { maxConcurrent: 1, maxQueued: 10 }
  const limit = { initialLimit: 1, minLimit: 1, maxLimit: 1, maxQueued: 10, maxWait: "10 seconds" } as const

  it.live("without them the noisy one is served first", () =>
    Effect.gen(function*() {
      const last = order("Bulkhead", HttpResilience.bulkhead({ name: "api", ...one }), "x-tenant")
      expect(yield* last).toBe(5)
    }))

  it.live("of a bulkhead are those of its key", () =>
    Effect.gen(function*() {
      const policy = HttpResilience.bulkhead({ name: "api", ...one, key: byTenant })
      expect(yield* order("Bulkhead", policy, "x-tenant")).toBeLessThanOrEqual(2)
    }))

  it.live("of a bulkhead are those of the clients where no key is given", () =>
    Effect.gen(function*() {
      const policy = HttpResilience.bulkhead({ name: "api", clientIp, ...one, fair: true })
      expect(yield* order("Bulkhead", policy, "x-client")).toBeLessThanOrEqual(2)
    }))

  it.live("of the long-lived are those of their key", () =>
    Effect.gen(function*() {
      const policy = HttpResilience.standard({
        name: "api",
        loadShedder: false,
        isLongLived: () => true,
        longLived: { ...one, key: byTenant }
      })
      expect(yield* order("Bulkhead", policy, "x-tenant")).toBeLessThanOrEqual(2)
    }))

  it.live("of the adaptive limit are those of its key, or of the clients", () =>
    Effect.gen(function*() {
      const byKey = HttpResilience.adaptiveConcurrency({ name: "api", ...limit, key: byTenant })
      expect(yield* order("AdaptiveConcurrency", byKey, "x-tenant")).toBeLessThanOrEqual(2)
      const byClient = HttpResilience.adaptiveConcurrency({ name: "api", clientIp, ...limit, fair: true })
      expect(yield* order("AdaptiveConcurrency", byClient, "x-client")).toBeLessThanOrEqual(2)
    }))

  it("a key where the lines are not fair is refused", () => {
    for (const part of ["bulkhead", "longLived", "adaptiveConcurrency"]) {
      expect(() => HttpResilience.standard({ name: "api", [part]: { fair: false, key: byTenant } })).toThrow(
        `HttpResilience "api": option ${part}.fair must be`
      )
    }
  })
})

describe("the load shedder", () => {
  it.live("sheds the same ones of a class by their cohort", () =>
    Effect.gen(function*() {
      const handler = yield* serveWeb(
        HttpResilience.loadShedder({ name: "api", cohort: byTenant })(
          HttpServerResponse.empty()
        )
      )
      const shed = (tenant: string) =>
        Effect.map(
          Effect.promise(() => handler(new Request("http://x.test/", { headers: { "x-tenant": tenant } }))),
          ({ status }) => status === 503
        )
      // The first sample has been taken when somebody is shed.
      yield* Effect.iterate(0, {
        while: (i) => i >= 0,
        body: (i) => Effect.map(shed(`first-${i}`), (isShed) => isShed ? -1 : i + 1)
      })
      const tenants = Array.from({ length: 40 }, (_, i) => `tenant-${i}`)
      const counts = yield* Effect.forEach(tenants, (tenant) =>
        Effect.map(
          Effect.all(Array.from({ length: 10 }, () => shed(tenant))),
          (all) => all.filter(Boolean).length
        ))
      expect([...new Set(counts)].sort()).toEqual([0, 10])
    }).pipe(
      Effect.scoped,
      Effect.provide(Live.pipe(
        // Sheds about half of what is normal.
        Layer.provide(Layer.succeed(SystemLoad, { sample: Effect.succeed({ signal: 0.625 }) }))
      ))
    ))
})
