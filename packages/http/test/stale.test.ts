import { ResilienceLive } from "@effect-resilience/core"
import { HttpResilience, StaleStore, StaleStoreError } from "@effect-resilience/http"
import { HttpApp, HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, FastCheck as fc, Layer, Option, Ref, Stream, TestClock } from "effect"
import { laws } from "./StaleStore.laws.js"
import { runtimes } from "./utils/servers.js"

const live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))

/** A route that works until it is told otherwise; its response may be shared, unless `headers` say otherwise. */
const makeRoute = (headers: Record<string, string> = { "cache-control": "public" }) =>
  Effect.map(Ref.make<"ok" | "fail" | "body">("ok"), (state) => ({
    state,
    router: HttpRouter.empty.pipe(HttpRouter.all(
      "/page",
      Effect.flatMap(Ref.get(state), (now) => {
        if (now === "fail") return Effect.fail("boom")
        if (now === "body") return HttpServerResponse.text("broken", { status: 500 })
        return Effect.map(
          HttpServerRequest.HttpServerRequest,
          (request) => HttpServerResponse.text(`for ${request.headers["accept-language"] ?? "anybody"}`, { headers })
        )
      })
    ))
  }))

for (const [where, serve] of Object.entries(runtimes)) {
  describe(where, () => {
    it.scopedLive("the last good response is served when there is an error, and says so", () =>
      Effect.gen(function*() {
        const { router, state } = yield* makeRoute({ "cache-control": "max-age=60", "x-own": "1" })
        const send = yield* serve(router.pipe(HttpResilience.staleIfError({ name: "api" })))
        const get = (path = "/page", headers: Record<string, string> = {}) => send(path, { method: "GET", headers })
        expect((yield* get()).headers).not.toHaveProperty("age")
        for (const trouble of ["fail", "body"] as const) {
          yield* Ref.set(state, trouble)
          const stale = yield* get()
          expect([stale.status, stale.body]).toEqual([200, "for anybody"])
          expect(stale.headers).toMatchObject({
            "age": "0",
            "cache-status": "resilience; hit; ttl=60; detail=\"stale-if-error\"",
            "cache-control": "max-age=60",
            "content-type": "text/plain",
            "x-own": "1"
          })
        }
        // Another URL, another method, and a client who wants it fresh get the error.
        expect((yield* get("/page?other")).status).toBe(500)
        expect((yield* send("/page", { method: "POST" })).status).toBe(500)
        expect((yield* get("/page", { "cache-control": "no-cache" })).status).toBe(500)
        yield* Ref.set(state, "ok")
        expect((yield* get()).headers).not.toHaveProperty("cache-status")
      }).pipe(Effect.provide(live)))

    it.scopedLive("it comes before the fallback, and answers an open circuit", () =>
      Effect.gen(function*() {
        const { router, state } = yield* makeRoute()
        const send = yield* serve(router.pipe(HttpResilience.standard({
          name: "api",
          circuitBreaker: { consecutiveFailures: 1 },
          staleIfError: {},
          fallback: { respond: HttpServerResponse.text("fallback") }
        })))
        const get = (path: string) => Effect.map(send(path, { method: "GET" }), ({ body }) => body)
        yield* get("/page")
        yield* Ref.set(state, "fail")
        expect(yield* get("/page")).toBe("for anybody")
        yield* Ref.set(state, "ok")
        expect(yield* get("/page")).toBe("for anybody")
        expect(yield* get("/page?new")).toBe("fallback")
      }).pipe(Effect.provide(live)))

    for (
      const [what, headers] of Object.entries({
        "no-store": { "cache-control": "no-store" },
        "private": { "cache-control": "max-age=5, Private" },
        "no-cache": { "cache-control": "no-cache" },
        "must-revalidate": { "cache-control": "max-age=5, must-revalidate" },
        "stale-if-error=0": { "cache-control": "stale-if-error=0" },
        "a cookie": { "cache-control": "public", "set-cookie": "a=b" },
        "Vary: *": { "cache-control": "public", "vary": "accept, *" },
        "no Cache-Control": {},
        "a Cache-Control that does not say who may have it": { "cache-control": "immutable" }
      })
    ) {
      it.scopedLive(`a response with ${what} is not kept`, () =>
        Effect.gen(function*() {
          const { router, state } = yield* makeRoute(headers)
          const send = yield* serve(router.pipe(HttpResilience.staleIfError({ name: "api" })))
          expect((yield* send("/page", { method: "GET" })).status).toBe(200)
          yield* Ref.set(state, "fail")
          expect((yield* send("/page", { method: "GET" })).status).toBe(500)
        }).pipe(Effect.provide(live)))
    }

    for (const cacheControl of ["public", "max-age=60", "s-maxage=60", "stale-if-error=60"]) {
      it.scopedLive(`a response with Cache-Control: ${cacheControl} is kept`, () =>
        Effect.gen(function*() {
          const { router, state } = yield* makeRoute({ "cache-control": cacheControl })
          const send = yield* serve(router.pipe(HttpResilience.staleIfError({ name: "api" })))
          yield* send("/page", { method: "GET" })
          yield* Ref.set(state, "fail")
          expect((yield* send("/page", { method: "GET" })).body).toBe("for anybody")
        }).pipe(Effect.provide(live)))
    }

    it.scopedLive("whoever knows clients by another field, is not served to others", () =>
      Effect.gen(function*() {
        const down = yield* Ref.make(false)
        const orders = Effect.gen(function*() {
          if (yield* Ref.get(down)) return yield* Effect.fail("down")
          const { headers } = yield* HttpServerRequest.HttpServerRequest
          return HttpServerResponse.text(`orders of ${headers["x-api-key"]}`)
        })
        const router = HttpRouter.empty.pipe(HttpRouter.get("/orders", orders))
        const anybodys = yield* serve(router.pipe(HttpResilience.staleIfError({ name: "anybodys" })))
        const keyed = yield* serve(router.pipe(HttpResilience.staleIfError({
          name: "keyed",
          principal: (request) => Option.fromNullable(request.headers["x-api-key"])
        })))
        const get = (send: typeof keyed, who: string) =>
          Effect.map(send("/orders", { method: "GET", headers: { "x-api-key": who } }), ({ body }) => body)
        yield* get(anybodys, "alice")
        yield* get(keyed, "alice")
        yield* Ref.set(down, true)
        expect(yield* get(anybodys, "bob")).toBe("")
        expect(yield* get(keyed, "bob")).toBe("")
        // What is kept for one needs no permission to be shared.
        expect(yield* get(keyed, "alice")).toBe("orders of alice")
      }).pipe(Effect.provide(live)))

    it.scopedLive("routers that are mounted beside each other keep their responses apart", () =>
      Effect.gen(function*() {
        const policy = HttpResilience.staleIfError({ name: "api" })
        const down = yield* Ref.make(false)
        const shop = (who: string) =>
          HttpRouter.empty.pipe(
            HttpRouter.get(
              "/item",
              Effect.flatMap(Ref.get(down), (isDown) =>
                isDown
                  ? Effect.fail("down")
                  : HttpServerResponse.text(who, { headers: { "cache-control": "public" } }))
            ),
            policy
          )
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.mountApp("/a", shop("a")),
          HttpRouter.mountApp("/b", shop("b"))
        ))
        yield* send("/a/item", { method: "GET" })
        yield* Ref.set(down, true)
        expect((yield* send("/b/item", { method: "GET" })).status).toBe(500)
        expect((yield* send("/a/item", { method: "GET" })).body).toBe("a")
      }).pipe(Effect.provide(live)))

    for (
      const [what, change] of Object.entries({
        "a Cache-Control": HttpServerResponse.setHeader("cache-control", "private, no-store"),
        "a cookie": HttpServerResponse.unsafeSetCookie("session", "alice")
      })
    ) {
      it.scopedLive(`what a handler forbids by ${what} just before its response is sent, is not kept`, () =>
        Effect.gen(function*() {
          const { router, state } = yield* makeRoute()
          const last = HttpApp.appendPreResponseHandler((_, response) => Effect.succeed(change(response)))
          const send = yield* serve(
            HttpRouter.use(router, (app) => Effect.zipLeft(app, last)).pipe(
              HttpResilience.staleIfError({ name: "api" })
            )
          )
          yield* send("/page", { method: "GET" })
          yield* Ref.set(state, "fail")
          expect((yield* send("/page", { method: "GET" })).status).toBe(500)
        }).pipe(Effect.provide(live)))
    }

    it.scopedLive("neither is a stream, nor what is too large", () =>
      Effect.gen(function*() {
        const state = yield* Ref.make("ok")
        const headers = { "cache-control": "public" }
        const orFail = (response: HttpServerResponse.HttpServerResponse) =>
          Effect.flatMap(Ref.get(state), (now) => now === "ok" ? Effect.succeed(response) : Effect.fail("boom"))
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.get("/stream", orFail(HttpServerResponse.stream(Stream.make(new Uint8Array(1)), { headers }))),
          HttpRouter.get("/large", orFail(HttpServerResponse.text("x".repeat(11), { headers }))),
          HttpRouter.get("/small", orFail(HttpServerResponse.text("x".repeat(10), { headers }))),
          HttpResilience.staleIfError({ name: "api", maxBodySize: 10 })
        ))
        const statuses = Effect.forEach(["/stream", "/large", "/small"], (path) =>
          Effect.map(send(path, { method: "GET" }), ({ status }) => status))
        expect(yield* statuses).toEqual([200, 200, 200])
        yield* Ref.set(state, "fail")
        expect(yield* statuses).toEqual([500, 500, 200])
      }).pipe(Effect.provide(live)))

    it.scopedLive("variants are kept apart", () =>
      Effect.gen(function*() {
        const { router, state } = yield* makeRoute({ "cache-control": "public", "vary": "Accept-Language" })
        const send = yield* serve(router.pipe(HttpResilience.staleIfError({ name: "api" })))
        const get = (language: string) => send("/page", { method: "GET", headers: { "accept-language": language } })
        yield* get("de")
        yield* get("fr")
        yield* Ref.set(state, "fail")
        expect((yield* get("de")).body).toBe("for de")
        expect((yield* get("fr")).body).toBe("for fr")
        expect((yield* get("it")).status).toBe(500)
      }).pipe(Effect.provide(live)))

    it.scopedLive("nobody is served the response of another", () =>
      Effect.gen(function*() {
        const { router, state } = yield* makeRoute()
        const alice = { authorization: "Bearer alice" }
        const bob = { authorization: "Bearer bob" }
        const anonymous = yield* serve(router.pipe(HttpResilience.staleIfError({ name: "anonymous" })))
        const keyed = yield* serve(router.pipe(HttpResilience.staleIfError({
          name: "keyed",
          principal: (request) => Option.fromNullable(request.headers["authorization"])
        })))
        const status = (send: typeof keyed, headers: Record<string, string>) =>
          Effect.map(send("/page", { method: "GET", headers }), (reply) => reply.status)
        yield* status(anonymous, alice)
        yield* status(anonymous, { cookie: "session=alice" })
        yield* status(keyed, alice)
        yield* status(keyed, {})
        yield* Ref.set(state, "fail")
        expect(yield* status(anonymous, {})).toBe(500)
        expect(yield* status(anonymous, alice)).toBe(500)
        expect(yield* status(keyed, alice)).toBe(200)
        expect(yield* status(keyed, bob)).toBe(500)
        expect(yield* status(keyed, {})).toBe(500)
      }).pipe(Effect.provide(live)))

    it.scopedLive("a store that fails or hangs changes nothing", () =>
      Effect.gen(function*() {
        for (
          const [name, operation] of Object.entries({
            fails: Effect.fail(new StaleStoreError({ operation: "get", detail: "down" })),
            hangs: Effect.never
          })
        ) {
          const { router, state } = yield* makeRoute()
          const send = yield* Effect.provide(
            serve(router.pipe(HttpResilience.staleIfError({ name, timeout: "30 millis" }))),
            Layer.provide(
              HttpResilience.Live,
              Layer.succeed(StaleStore, { get: () => operation, put: () => operation })
            )
          )
          expect((yield* send("/page", { method: "GET" })).status).toBe(200)
          yield* Ref.set(state, "fail")
          expect((yield* send("/page", { method: "GET" })).status).toBe(500)
        }
      }))

    it.scopedLive("a principal that throws changes nothing", () =>
      Effect.gen(function*() {
        const { router, state } = yield* makeRoute()
        const send = yield* serve(router.pipe(HttpResilience.staleIfError({
          name: "api",
          principal: () => {
            throw new Error("no")
          }
        })))
        expect((yield* send("/page", { method: "GET" })).body).toBe("for anybody")
        yield* Ref.set(state, "fail")
        expect((yield* send("/page", { method: "GET" })).status).toBe(500)
      }).pipe(Effect.provide(live)))

    it.scopedLive("it is served from a shared store for its time, and its age is told", () =>
      Effect.gen(function*() {
        const kept = yield* Ref.make(Option.none<StaleStore.Entry>())
        const ttl = yield* Ref.make(Duration.zero)
        const age = yield* Ref.make(Duration.zero)
        const store: StaleStore.Service = {
          get: () =>
            Effect.zipWith(Ref.get(kept), Ref.get(age), (found, age) => Option.map(found, (entry) => ({ entry, age }))),
          put: (_, entry, until) => Effect.zipRight(Ref.set(kept, Option.some(entry)), Ref.set(ttl, until))
        }
        const { router, state } = yield* makeRoute({ "cache-control": "max-age=60, stale-if-error=30", "age": "10" })
        const send = yield* Effect.provide(
          serve(router.pipe(HttpResilience.staleIfError({ name: "api", staleIfError: "1 hour" }))),
          Layer.provide(HttpResilience.Live, Layer.succeed(StaleStore, store))
        )
        yield* send("/page", { method: "GET" })
        expect(Duration.toSeconds(yield* Ref.get(ttl))).toBe(80)
        yield* Ref.set(state, "fail")
        yield* Ref.set(age, Duration.millis(70_900))
        expect((yield* send("/page", { method: "GET" })).headers).toMatchObject({
          "age": "80",
          "cache-status": "resilience; hit; ttl=-20; detail=\"stale-if-error\""
        })
      }))
  })
}

describe("the memory store", () => {
  laws({ make: StaleStore.makeMemory(), advance: TestClock.adjust })

  const entry = (size: number): StaleStore.Entry => ({
    vary: [],
    response: { status: 200, headers: {}, cookies: [], body: new Uint8Array(size) },
    maxAge: 0,
    age: 0
  })

  const step = fc.oneof(
    fc.record({
      op: fc.constant("put" as const),
      key: fc.constantFrom("a", "b", "c", "d"),
      size: fc.integer({ min: 0, max: 60 }),
      ttl: fc.integer({ min: 1, max: 9 })
    }),
    fc.record({ op: fc.constant("get" as const), key: fc.constantFrom("a", "b", "c", "d") }),
    fc.record({ op: fc.constant("pass" as const), seconds: fc.integer({ min: 1, max: 4 }) })
  )

  it.effect("is its model within its bounds, and knows what it holds", () =>
    Effect.gen(function*() {
      const samples = fc.sample(
        fc.record({
          maxEntries: fc.integer({ min: 1, max: 4 }),
          steps: fc.array(step, { minLength: 10, maxLength: 50 })
        }),
        { numRuns: 120, seed: 11 }
      )
      for (const { maxEntries, steps } of samples) {
        const store = yield* StaleStore.makeMemory({ maxEntries, maxBytes: 100 })
        let model: ReadonlyArray<{ key: string; size: number; since: number; until: number }> = []
        let now = 0
        const bytes = () => model.reduce((sum, { size }) => sum + size + 1, 0)
        for (const step of steps) {
          if (step.op === "pass") {
            now += step.seconds
            yield* TestClock.adjust(Duration.seconds(step.seconds))
          } else if (step.op === "put") {
            const size = step.size * 2
            yield* store.put(step.key, entry(size), Duration.seconds(step.ttl))
            model = model.filter(({ key }) => key !== step.key)
            if (size + 1 <= 100) {
              while (model.length >= maxEntries || bytes() + size + 1 > 100) model = model.slice(1)
              model = [...model, { key: step.key, size, since: now, until: now + step.ttl }]
            }
          } else {
            const found = yield* store.get(step.key)
            const expected = model.find(({ key, until }) => key === step.key && until > now)
            model = model.filter(({ key, until }) => key !== step.key || until > now)
            expect(Option.getOrUndefined(Option.map(found, ({ age, entry }) => [
              Duration.toSeconds(age),
              entry.response?.body?.byteLength
            ]))).toEqual(expected && [now - expected.since, expected.size])
          }
          expect(yield* store.metrics).toEqual({ entries: model.length, bytes: bytes() })
        }
      }
    }))
})
