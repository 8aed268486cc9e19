import type { IdempotencyStore as Store } from "@effect-resilience/http"
import { HttpResilience, Idempotency, IdempotencyStore, IdempotencyStoreError } from "@effect-resilience/http"
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiClient,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApp,
  HttpRouter,
  HttpServerRequest,
  HttpServerResponse,
  OpenApi
} from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, Ref, Schedule, Schema, Stream, TestClock } from "effect"
import { fetchNode, runtimes, serveNode, serveWeb } from "./utils/servers.js"

const memory = (options?: Store.Options) =>
  Effect.map(IdempotencyStore.makeMemory(options), (store) => ({
    store,
    layer: Layer.succeed(IdempotencyStore, store),
    /** Waits until nothing is in flight; a test that never gets there times out. */
    settled: store.metrics.pipe(
      Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: ({ inFlight }) => inFlight === 0 }),
      Effect.timeout("5 seconds"),
      Effect.orDie
    ),
    taken: store.metrics.pipe(
      Effect.repeat({ schedule: Schedule.spaced("5 millis"), until: ({ inFlight }) => inFlight > 0 }),
      Effect.timeout("5 seconds"),
      Effect.orDie
    )
  }))

const key = (text: string) => ({ "idempotency-key": JSON.stringify(text) })

const byAuthorization = { name: "payments", principal: Idempotency.byAuthorization } as const

for (const [where, serve] of Object.entries(runtimes)) {
  describe(where, () => {
    it.scopedLive("the first is carried out, the others get its response", () =>
      Effect.gen(function*() {
        const { layer } = yield* memory()
        const runs = yield* Ref.make(0)
        const send = yield* Effect.provide(
          serve(HttpRouter.empty.pipe(
            HttpRouter.post(
              "/pay",
              Effect.gen(function*() {
                const request = yield* HttpServerRequest.HttpServerRequest
                const response = yield* HttpServerResponse.json(
                  { run: yield* Ref.updateAndGet(runs, (n) => n + 1), body: yield* request.text },
                  { status: 201, headers: { location: "/payments/1" } }
                )
                return HttpServerResponse.unsafeSetCookie(response, "seen", "yes", { httpOnly: true })
              })
            ),
            Idempotency.middleware(byAuthorization)
          )),
          layer
        )
        const first = yield* send("/pay", { headers: key("a"), body: "10 EUR" })
        expect(first).toMatchObject({ status: 201, body: "{\"run\":1,\"body\":\"10 EUR\"}" })
        expect(first.headers).not.toHaveProperty("idempotency-replayed")
        const second = yield* send("/pay", { headers: key("a"), body: "10 EUR" })
        expect(second).toMatchObject({ status: 201, body: first.body })
        expect(second.headers).toMatchObject({
          "idempotency-replayed": "true",
          "location": "/payments/1",
          "content-type": "application/json"
        })
        expect(String(second.headers["set-cookie"])).toContain("seen=yes; HttpOnly")
        // Another key, another principal, and no key at all are carried out.
        expect((yield* send("/pay", { headers: key("b"), body: "10 EUR" })).body).toContain("\"run\":2")
        const other = yield* send("/pay", { headers: { ...key("a"), authorization: "Bearer x" }, body: "10 EUR" })
        expect(other.body).toContain("\"run\":3")
        expect((yield* send("/pay", { body: "10 EUR" })).body).toContain("\"run\":4")
      }))

    it.scopedLive("another payload under the same key is refused", () =>
      Effect.gen(function*() {
        const { layer } = yield* memory()
        const send = yield* Effect.provide(
          serve(HttpRouter.empty.pipe(
            HttpRouter.post("/pay", HttpServerResponse.text("paid")),
            Idempotency.middleware(byAuthorization)
          )),
          layer
        )
        yield* send("/pay", { headers: key("a"), body: "10 EUR" })
        const reused = yield* send("/pay", { headers: key("a"), body: "11 EUR" })
        expect(reused.status).toBe(422)
        expect(reused.headers).toMatchObject({
          "content-type": "application/problem+json",
          "cache-control": "no-store"
        })
        expect(JSON.parse(reused.body)).toEqual({
          _tag: "IdempotencyKeyReused",
          type: "about:blank",
          title: "Unprocessable Content",
          status: 422,
          detail: "This Idempotency-Key was used for another request",
          reason: "KeyReused"
        })
        const query = yield* send("/pay?twice", { headers: key("a"), body: "10 EUR" })
        expect(query.status).toBe(422)
      }))

    it.scopedLive("while the first runs, the same is 409 and another payload 422", () =>
      Effect.gen(function*() {
        const { layer, taken } = yield* memory()
        const gate = yield* Deferred.make<void>()
        const send = yield* Effect.provide(
          serve(HttpRouter.empty.pipe(
            HttpRouter.post("/pay", Effect.as(Deferred.await(gate), HttpServerResponse.text("paid"))),
            Idempotency.middleware(byAuthorization)
          )),
          layer
        )
        const first = yield* Effect.fork(send("/pay", { headers: key("a"), body: "1" }))
        yield* taken
        const second = yield* send("/pay", { headers: key("a"), body: "1" })
        expect(second.status).toBe(409)
        expect(second.headers["retry-after"]).toMatch(/^[12]$/)
        expect(JSON.parse(second.body)).toMatchObject({ _tag: "IdempotencyConflict", reason: "InFlight" })
        expect((yield* send("/pay", { headers: key("a"), body: "2" })).status).toBe(422)
        yield* Deferred.succeed(gate, undefined)
        expect((yield* Fiber.join(first)).body).toBe("paid")
        expect((yield* send("/pay", { headers: key("a"), body: "1" })).headers).toHaveProperty("idempotency-replayed")
      }))

    it.scopedLive("a key that is missing or cannot be read is 400", () =>
      Effect.gen(function*() {
        const { layer } = yield* memory()
        const send = yield* Effect.provide(
          serve(HttpRouter.empty.pipe(
            HttpRouter.all("/pay", HttpServerResponse.text("paid")),
            Idempotency.middleware({ ...byAuthorization, required: true })
          )),
          layer
        )
        const missing = yield* send("/pay")
        expect(missing.status).toBe(400)
        expect(JSON.parse(missing.body)).toMatchObject({ _tag: "IdempotencyKeyMissing", reason: "KeyMissing" })
        for (const text of ["abc", "\"\"", "\"a\", \"b\"", "1", "?1", `"${"x".repeat(256)}"`, "\"a"]) {
          const malformed = yield* send("/pay", { headers: { "idempotency-key": text } })
          expect([text, malformed.status, JSON.parse(malformed.body).reason]).toEqual([text, 400, "KeyMalformed"])
        }
        expect((yield* send("/pay", { headers: { "idempotency-key": "\"a\";p=1" } })).status).toBe(200)
        expect((yield* send("/pay", { method: "PUT" })).status).toBe(200)
      }))

    it.scopedLive("what is not stored is carried out again", () =>
      Effect.gen(function*() {
        const { layer, settled, store } = yield* memory()
        const runs = yield* Ref.make(0)
        const ran = Ref.updateAndGet(runs, (n) => n + 1)
        const route = (path: `/${string}`, effect: HttpApp.Default<unknown, never>) =>
          HttpRouter.post(path, Effect.zipRight(ran, effect))
        const send = yield* Effect.provide(
          serve(HttpRouter.empty.pipe(
            route("/500", HttpServerResponse.empty({ status: 500 })),
            route("/429", HttpServerResponse.empty({ status: 429 })),
            route("/fail", Effect.fail("boom")),
            route("/die", Effect.die("boom")),
            route("/interrupt", Effect.interrupt),
            Idempotency.middleware(byAuthorization)
          )),
          layer
        )
        for (const path of ["/500", "/429", "/fail", "/die", "/interrupt"]) {
          yield* Ref.set(runs, 0)
          for (let i = 1; i <= 2; i++) {
            const { headers } = yield* send(path, { headers: key("a") })
            expect(headers).not.toHaveProperty("idempotency-replayed")
            yield* settled
            expect([path, yield* Ref.get(runs)]).toEqual([path, i])
          }
        }
        expect(yield* store.metrics).toEqual({ inFlight: 0, done: 0, bytes: 0 })
      }))

    it.scopedLive("a failure that is an answer is repeated", () =>
      Effect.gen(function*() {
        const { layer } = yield* memory()
        const runs = yield* Ref.make(0)
        const ran = Ref.updateAndGet(runs, (n) => n + 1)
        const send = yield* Effect.provide(
          serve(HttpRouter.empty.pipe(
            HttpRouter.post("/no", Effect.zipRight(ran, Effect.fail(HttpServerResponse.text("no", { status: 402 })))),
            Idempotency.middleware(byAuthorization)
          )),
          layer
        )
        const { body, status } = yield* send("/no", { headers: key("a") })
        expect([status, body]).toEqual([402, "no"])
        const again = yield* send("/no", { headers: key("a") })
        expect(again).toMatchObject({ status: 402, body: "no", headers: { "idempotency-replayed": "true" } })
        expect(yield* Ref.get(runs)).toBe(1)
      }))

    it.scopedLive("what cannot be repeated is refused, or carried out again by option", () =>
      Effect.gen(function*() {
        const { layer } = yield* memory()
        const stream = HttpServerResponse.stream(Stream.make(new Uint8Array(3)))
        const large = HttpServerResponse.text("x".repeat(101))
        const make = (onUnstorable: "refuse" | "release") =>
          Effect.provide(
            serve(HttpRouter.empty.pipe(
              HttpRouter.post("/stream", Effect.succeed(stream)),
              HttpRouter.post("/large", Effect.succeed(large)),
              Idempotency.middleware({ ...byAuthorization, name: onUnstorable, maxResponseSize: 100, onUnstorable })
            )),
            layer
          )
        const refuse = yield* make("refuse")
        const release = yield* make("release")
        for (const path of ["/stream", "/large"]) {
          expect((yield* refuse(path, { headers: key("a") })).status).toBe(200)
          const again = yield* refuse(path, { headers: key("a") })
          expect([again.status, JSON.parse(again.body).reason]).toEqual([409, "NotRepeatable"])
          expect(again.headers).not.toHaveProperty("retry-after")
          yield* release(path, { headers: key("a") })
          expect((yield* release(path, { headers: key("a") })).status).toBe(200)
        }
      }))

    it.scopedLive("the handler reads the body in every form", () =>
      Effect.gen(function*() {
        const { layer } = yield* memory()
        const read = (f: (request: HttpServerRequest.HttpServerRequest) => Effect.Effect<unknown, unknown>) =>
          Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
            Effect.flatMap(f(request), (value) => HttpServerResponse.json(value)))
        const router = HttpRouter.empty.pipe(
          HttpRouter.post(
            "/text",
            read((request) =>
              request.text
            )
          ),
          HttpRouter.post("/json", read((request) => request.json)),
          HttpRouter.post("/form", read((request) => Effect.map(request.urlParamsBody, (params) => [...params]))),
          HttpRouter.post(
            "/bytes",
            read((request) => Effect.map(request.arrayBuffer, (bytes) => [...new Uint8Array(bytes)]))
          ),
          HttpRouter.post(
            "/stream",
            read((request) => Effect.map(Stream.runCollect(request.stream), (chunks) => [...chunks].map((_) => [..._])))
          ),
          HttpRouter.post(
            "/parts",
            read((request) =>
              Effect.map(
                Stream.runCollect(request.multipartStream),
                (parts) => [...parts].map((part) => part._tag === "Field" ? part.value : part._tag)
              )
            )
          ),
          HttpRouter.post("/twice", read((request) => Effect.zip(request.text, request.json)))
        )
        const send = yield* Effect.provide(
          serve(HttpRouter.empty.pipe(
            HttpRouter.mount("/in", router),
            Idempotency.middleware(byAuthorization)
          )),
          layer
        )
        const post = (path: string, body: string, type = "text/plain") =>
          Effect.map(
            send(`/in${path}`, { headers: { ...key(path), "content-type": type }, body }),
            (reply) => JSON.parse(reply.body)
          )
        expect(yield* post("/text", "häh")).toBe("häh")
        expect(yield* post("/json", "{\"a\":1}")).toEqual({ a: 1 })
        expect(yield* post("/form", "a=1&b=2")).toEqual([["a", "1"], ["b", "2"]])
        expect(yield* post("/bytes", "ab")).toEqual([97, 98])
        expect(yield* post("/stream", "ab")).toEqual([[97, 98]])
        expect(yield* post("/twice", "[1]")).toEqual(["[1]", [1]])
        const part = "--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nhello\r\n--x--\r\n"
        expect(yield* post("/parts", part, "multipart/form-data; boundary=x")).toEqual(["hello"])
      }))

    it.scopedLive("a store that fails is 503, or is done without by option", () =>
      Effect.gen(function*() {
        const failing = (reason: "Unavailable" | "Timeout") => {
          const fail = reason === "Timeout"
            ? Effect.never
            : Effect.fail(new IdempotencyStoreError({ operation: "begin", reason }))
          return Layer.succeed(IdempotencyStore, { begin: () => fail, complete: () => fail, release: () => fail })
        }
        const app = (onStoreError: "fail" | "open") =>
          HttpRouter.empty.pipe(
            HttpRouter.post(
              "/pay",
              Effect.flatMap(
                HttpServerRequest.HttpServerRequest,
                (request) => Effect.map(request.text, (text) => HttpServerResponse.text(`paid ${text}`))
              )
            ),
            Idempotency.middleware({ ...byAuthorization, onStoreError, storeTimeout: "30 millis" })
          )
        for (const reason of ["Unavailable", "Timeout"] as const) {
          const closed = yield* Effect.provide(serve(app("fail")), failing(reason))
          const refused = yield* closed("/pay", { headers: key("a"), body: "1" })
          expect(refused.status).toBe(503)
          expect(refused.headers["retry-after"]).toMatch(/^[12]$/)
          const open = yield* Effect.provide(serve(app("open")), failing(reason))
          expect(yield* open("/pay", { headers: key("a"), body: "1" })).toMatchObject({ status: 200, body: "paid 1" })
        }
      }))
  })
}

describe("over sockets", () => {
  const app = (handler: HttpApp.Default<never, never>) =>
    HttpRouter.empty.pipe(HttpRouter.post("/pay", handler), Idempotency.middleware(byAuthorization))

  it.scopedLive("of many at once one is carried out", () =>
    Effect.gen(function*() {
      const { layer } = yield* memory()
      const runs = yield* Ref.make(0)
      const { url } = yield* Effect.provide(
        serveNode(app(Effect.as(
          Effect.zipRight(Ref.update(runs, (n) => n + 1), Effect.sleep("50 millis")),
          HttpServerResponse.text("paid")
        ))),
        layer
      )
      const answers = yield* Effect.all(
        Array.from({ length: 40 }, () =>
          Effect.promise(() => fetchNode(`${url}/pay`, { method: "POST", headers: key("a") }))),
        { concurrency: "unbounded" }
      )
      const statuses = answers.map((answer) =>
        answer?.status
      )
      expect(yield* Ref.get(runs)).toBe(1)
      expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(1)
      expect(statuses.every((status) => status === 200 || status === 409)).toBe(true)
    }))

  it.scopedLive("a client that goes while its handler runs frees the key", () =>
    Effect.gen(function*() {
      const { layer, settled } = yield* memory()
      const entered = yield* Deferred.make<void>()
      const runs = yield* Ref.make(0)
      const handler = Effect.flatMap(
        Ref.updateAndGet(runs, (n) => n + 1),
        (run) =>
          run === 1
            ? Effect.zipRight(Deferred.succeed(entered, undefined), Effect.never)
            : HttpServerResponse.text("paid")
      )
      const { url } = yield* Effect.provide(serveNode(app(handler)), layer)
      yield* Effect.promise(() =>
        fetchNode(`${url}/pay`, {
          method: "POST",
          headers: key("a"),
          onSent: (request) => Effect.runFork(Effect.andThen(Deferred.await(entered), () => request.destroy()))
        })
      )
      yield* settled
      const again = yield* Effect.promise(() => fetchNode(`${url}/pay`, { method: "POST", headers: key("a") }))
      expect(again?.status).toBe(200)
      expect(again?.headers).not.toHaveProperty("idempotency-replayed")
    }))

  for (const operation of ["begin", "complete"] as const) {
    it.scopedLive(`a client that goes during ${operation} leaves nothing in flight`, () =>
      Effect.gen(function*() {
        const { settled, store } = yield* memory()
        const entered = yield* Deferred.make<void>()
        const gate = yield* Deferred.make<void>()
        const slow = {
          ...store,
          // The answer comes late; what was asked for is done.
          [operation]: (request: never) =>
            Effect.zipLeft(
              store[operation](request) as Effect.Effect<never, IdempotencyStoreError>,
              Effect.zipRight(Deferred.succeed(entered, undefined), Deferred.await(gate))
            )
        }
        const { url } = yield* Effect.provide(
          serveNode(app(Effect.succeed(HttpServerResponse.text("paid")))),
          Layer.succeed(IdempotencyStore, slow)
        )
        let closed = false
        yield* Effect.promise(() =>
          fetchNode(`${url}/pay`, {
            method: "POST",
            headers: key("a"),
            onSent: (request) => {
              request.on("close", () => {
                closed = true
              })
              Effect.runFork(Effect.andThen(Deferred.await(entered), () => request.destroy()))
            }
          })
        )
        expect(closed).toBe(true)
        yield* Effect.sleep("20 millis")
        yield* Deferred.succeed(gate, undefined)
        yield* settled
        if (operation === "complete") expect(yield* store.metrics).toMatchObject({ inFlight: 0, done: 1 })
      }))
  }

  it.scopedLive("a key whose begin came too late is let go", () =>
    Effect.gen(function*() {
      const { settled, store, taken } = yield* memory()
      const gate = yield* Deferred.make<void>()
      const slow = {
        ...store,
        begin: (request: Store.Begin) =>
          Effect.uninterruptible(Effect.zipLeft(store.begin(request), Deferred.await(gate)))
      }
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(
          HttpRouter.post("/pay", HttpServerResponse.text("paid")),
          Idempotency.middleware({ ...byAuthorization, storeTimeout: "30 millis" })
        )),
        Layer.succeed(IdempotencyStore, slow)
      )
      const answer = yield* Effect.promise(() => fetchNode(`${url}/pay`, { method: "POST", headers: key("a") }))
      expect(answer?.status).toBe(503)
      yield* taken
      yield* Deferred.succeed(gate, undefined)
      yield* settled
    }))

  const leftBehind = (onInterrupt: "release" | "finish") =>
    Effect.gen(function*() {
      const { layer, settled } = yield* memory()
      const gate = yield* Deferred.make<void>()
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(
          HttpRouter.post(
            "/pay",
            Effect.uninterruptible(Effect.as(Deferred.await(gate), HttpServerResponse.text("paid", { status: 201 })))
          ),
          Idempotency.middleware({ ...byAuthorization, onInterrupt }),
          HttpResilience.timeout({ name: "api", duration: "400 millis" })
        )),
        Layer.merge(layer, HttpResilience.Live)
      )
      const post = Effect.promise(() => fetchNode(`${url}/pay`, { method: "POST", headers: key("a") }))
      expect((yield* post)?.status).toBe(504)
      expect((yield* post)?.status).toBe(409)
      yield* Deferred.succeed(gate, undefined)
      yield* settled
      const again = yield* post
      expect([again?.status, again?.body]).toEqual([201, "paid"])
      return again?.headers["idempotency-replayed"]
    })

  it.scopedLive("a handler that a timeout left behind keeps the key until it has ended", () =>
    Effect.map(leftBehind("release"), (replayed) => expect(replayed).toBe(undefined)))

  it.scopedLive("a handler that may finish has its answer repeated", () =>
    Effect.map(leftBehind("finish"), (replayed) => expect(replayed).toBe("true")))

  it.scopedLive("a client that goes does not end a handler that may finish", () =>
    Effect.gen(function*() {
      const { layer, settled } = yield* memory()
      const entered = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(
          HttpRouter.post(
            "/pay",
            Effect.zipRight(
              Deferred.succeed(entered, undefined),
              Effect.as(Deferred.await(gate), HttpServerResponse.text("paid"))
            )
          ),
          Idempotency.middleware({ ...byAuthorization, onInterrupt: "finish" })
        )),
        layer
      )
      const post = (onSent?: (request: { destroy(): void }) => void) =>
        Effect.promise(() => fetchNode(`${url}/pay`, { method: "POST", headers: key("a"), onSent }))
      yield* post((request) => Effect.runFork(Effect.andThen(Deferred.await(entered), () => request.destroy())))
      yield* Effect.sleep("20 millis")
      expect((yield* post())?.status).toBe(409)
      yield* Deferred.succeed(gate, undefined)
      yield* settled
      expect((yield* post())?.headers["idempotency-replayed"]).toBe("true")
    }))

  it.scopedLive("a body that is too large is 413, declared or not", () =>
    Effect.gen(function*() {
      const { layer } = yield* memory()
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(
          HttpRouter.post("/pay", HttpServerResponse.text("paid")),
          Idempotency.middleware({ ...byAuthorization, maxBodySize: 1000 })
        )),
        layer
      )
      const post = (size: number, headers: Record<string, string> = {}) =>
        Effect.promise(() =>
          fetchNode(`${url}/pay`, {
            method: "POST",
            headers: { ...key(String(size)), ...headers },
            body: new Uint8Array(size)
          })
        )
      expect((yield* post(1000))?.status).toBe(200)
      const declared = yield* post(1001)
      expect([declared?.status, declared?.headers["content-type"]]).toEqual([413, "application/problem+json"])
      const chunked = yield* post(1001, { "transfer-encoding": "chunked" })
      expect([chunked?.status, chunked?.headers.connection]).toEqual([413, "close"])
    }))

  it.scopedLive("what a replay keeps is the handler's, and what stands around it is said anew", () =>
    Effect.gen(function*() {
      const { layer } = yield* memory()
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(
          HttpRouter.post(
            "/pay",
            Effect.as(
              HttpApp.appendPreResponseHandler((_, response) =>
                Effect.succeed(HttpServerResponse.setHeader(response, "x-inner", "1"))
              ),
              HttpServerResponse.text("paid")
            )
          ),
          Idempotency.middleware(byAuthorization),
          HttpResilience.rateLimit({ name: "api", rate: "5/minute" })
        )),
        Layer.merge(layer, HttpResilience.Live)
      )
      const post = Effect.promise(() => fetchNode(`${url}/pay`, { method: "POST", headers: key("a") }))
      expect((yield* post)?.headers).toMatchObject({ "x-inner": "1", "ratelimit": expect.stringContaining("r=4") })
      expect((yield* post)?.headers).toMatchObject({
        "x-inner": "1",
        "ratelimit": expect.stringContaining("r=3"),
        "idempotency-replayed": "true"
      })
    }))
})

describe("at the edges", () => {
  const no = Effect.fail(HttpServerResponse.text("no", { status: 402 }))
  for (
    const [name, options] of Object.entries(
      {
        "by itself": { onInterrupt: "release" },
        "that may finish": { onInterrupt: "finish" }
      } as const
    )
  ) {
    it.scopedLive(`a handler ${name} has its failure repeated`, () =>
      Effect.gen(function*() {
        const { layer, settled } = yield* memory()
        const runs = yield* Ref.make(0)
        const { url } = yield* Effect.provide(
          serveNode(HttpRouter.empty.pipe(
            HttpRouter.post("/no", Effect.zipRight(Ref.update(runs, (n) => n + 1), no)),
            Idempotency.middleware({ ...byAuthorization, ...options })
          )),
          layer
        )
        const post = Effect.promise(() => fetchNode(`${url}/no`, { method: "POST", headers: key("a") }))
        expect((yield* post)?.status).toBe(402)
        expect((yield* post)?.headers["idempotency-replayed"]).toBe("true")
        yield* settled
        expect(yield* Ref.get(runs)).toBe(1)
      }))
  }

  it.scopedLive("a failure inside of a timeout leaves nothing in flight", () =>
    Effect.gen(function*() {
      const { layer, settled } = yield* memory()
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(
          HttpRouter.post("/no", no),
          Idempotency.middleware(byAuthorization),
          HttpResilience.timeout({ name: "api" })
        )),
        Layer.merge(layer, HttpResilience.Live)
      )
      const post = Effect.promise(() => fetchNode(`${url}/no`, { method: "POST", headers: key("a") }))
      expect((yield* post)?.status).toBe(402)
      yield* settled
      expect((yield* post)?.status).toBe(402)
    }))

  it.scopedLive("a function of the options that throws leaves nothing in flight", () =>
    Effect.gen(function*() {
      const { layer, store } = yield* memory()
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(
          HttpRouter.post("/ok", HttpServerResponse.text("ok")),
          HttpRouter.post("/no", no),
          Idempotency.middleware({
            ...byAuthorization,
            shouldStore: () => {
              throw new Error("boom")
            }
          })
        )),
        layer
      )
      for (const [path, status] of [["/ok", 200], ["/no", 402]] as const) {
        const answer = yield* Effect.promise(() => fetchNode(url + path, { method: "POST", headers: key("a") }))
        expect(answer?.status).toBe(status)
        expect(yield* store.metrics).toEqual({ inFlight: 0, done: 0, bytes: 0 })
      }
    }))

  it.scopedLive("a client of the web that goes frees the key", () =>
    Effect.gen(function*() {
      const { layer, settled, taken } = yield* memory()
      const handler = yield* Effect.provide(
        serveWeb(HttpRouter.empty.pipe(
          HttpRouter.post("/never", Effect.never),
          Idempotency.middleware(byAuthorization)
        )),
        layer
      )
      const controller = new AbortController()
      const init = { method: "POST", headers: key("a"), body: "1", signal: controller.signal }
      const fiber = yield* Effect.fork(
        Effect.promise(() => handler(new Request("http://localhost/never", init)))
      )
      yield* taken
      controller.abort()
      yield* settled
      expect((yield* Fiber.join(fiber)).status).toBe(499)
    }))

  it.scopedLive("the same key on another route, or under another mount, is another request", () =>
    Effect.gen(function*() {
      const { layer } = yield* memory()
      const routes = HttpRouter.empty.pipe(
        HttpRouter.post("/pay/:id", HttpServerResponse.text("paid")),
        HttpRouter.post("/refund/:id", HttpServerResponse.text("refunded")),
        HttpRouter.use(Idempotency.middleware(byAuthorization))
      )
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(HttpRouter.mount("/v1", routes), HttpRouter.mount("/v2", routes))),
        layer
      )
      const post = (path: string) =>
        Effect.map(
          Effect.promise(() => fetchNode(url + path, { method: "POST", headers: key("a") })),
          (answer) => [answer?.status, answer?.headers["idempotency-replayed"]]
        )
      expect(yield* post("/v1/pay/1")).toEqual([200, undefined])
      expect(yield* post("/v1/pay/1")).toEqual([200, "true"])
      expect(yield* post("/v1/refund/1")).toEqual([200, undefined])
      // Within a route a key is for one resource.
      expect(yield* post("/v1/pay/2")).toEqual([422, undefined])
      expect((yield* post("/v2/pay/1"))[1]).toBe(undefined)
    }))

  it.scopedLive("so it is by another method, and around an app on another path", () =>
    Effect.gen(function*() {
      const { layer } = yield* memory()
      const router = HttpRouter.empty.pipe(HttpRouter.all("/pay/:id", HttpServerResponse.text("paid")))
      const { url } = yield* Effect.provide(
        serveNode(router.pipe(Idempotency.middleware({ ...byAuthorization, methods: ["POST", "PATCH"] }))),
        layer
      )
      const send = (method: string, path: string) =>
        Effect.map(
          Effect.promise(() => fetchNode(url + path, { method, headers: key("a") })),
          (answer) => [answer?.status, answer?.headers["idempotency-replayed"]]
        )
      expect(yield* send("POST", "/pay/1")).toEqual([200, undefined])
      expect(yield* send("PATCH", "/pay/1")).toEqual([200, undefined])
      // Outside of the router nobody knows of its routes.
      expect(yield* send("POST", "/pay/2")).toEqual([200, undefined])
      expect(yield* send("POST", "/pay/2?twice")).toEqual([422, undefined])
      expect(yield* send("POST", "/pay/1")).toEqual([200, "true"])
    }))

  it.scopedLive("what became of requests is counted", () =>
    Effect.gen(function*() {
      const { layer } = yield* memory()
      const { url } = yield* Effect.provide(
        serveNode(HttpRouter.empty.pipe(
          HttpRouter.post("/pay", HttpServerResponse.text("paid")),
          Idempotency.middleware({ ...byAuthorization, name: "counted" })
        )),
        layer
      )
      const post = (body: string) =>
        Effect.promise(() => fetchNode(`${url}/pay`, { method: "POST", headers: key("a"), body }))
      yield* post("1")
      yield* post("1")
      yield* post("1")
      yield* post("2")
      const counts = (yield* Metric.snapshot).flatMap(({ metricKey, metricState }) => {
        const labels = Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value]))
        return metricKey.name === "resilience.idempotency.requests" && labels["resilience.name"] === "counted"
          ? [[labels["outcome"], (metricState as { readonly count?: number }).count]]
          : []
      })
      expect(Object.fromEntries(counts)).toEqual({ new: 1, replayed: 2, key_reused: 1 })
    }))
})

describe("a handler that takes longer than its lease", () => {
  it.effect("keeps its key for as long as it takes", () =>
    Effect.gen(function*() {
      const { layer } = yield* memory()
      const gate = yield* Deferred.make<void>()
      const entered = yield* Deferred.make<void>()
      const runs = yield* Ref.make(0)
      const handler = yield* Effect.provide(
        serveWeb(HttpRouter.empty.pipe(
          HttpRouter.post(
            "/pay",
            Effect.zipRight(
              Effect.zipRight(Ref.update(runs, (n) => n + 1), Deferred.succeed(entered, undefined)),
              Effect.as(Deferred.await(gate), HttpServerResponse.text("paid"))
            )
          ),
          Idempotency.middleware({ ...byAuthorization, lease: "30 seconds" })
        )),
        layer
      )
      const post = () =>
        Effect.promise(() => handler(new Request("http://x.test/pay", { method: "POST", headers: key("a") })))
      const first = yield* Effect.fork(post())
      yield* Deferred.await(entered)
      for (let i = 0; i < 4; i++) {
        // Time passes, and what it wakes is done.
        yield* Effect.replicateEffect(TestClock.adjust("5 seconds"), 5)
        expect((yield* post()).status).toBe(409)
      }
      yield* Deferred.succeed(gate, undefined)
      expect((yield* Fiber.join(first)).status).toBe(200)
      expect((yield* post()).headers.get("idempotency-replayed")).toBe("true")
      expect(yield* Ref.get(runs)).toBe(1)
    }))
})

describe("in an HttpApi", () => {
  class Declined extends Schema.TaggedError<Declined>()("Declined", {}) {}
  const api = HttpApi.make("api").add(
    HttpApiGroup.make("payments").add(
      HttpApiEndpoint.post("pay", "/pay")
        .setPayload(Schema.Struct({ amount: Schema.Number }))
        .setHeaders(Schema.Struct({ "idempotency-key": Schema.optional(Schema.String) }))
        .addSuccess(Schema.Number)
        .addError(Declined, { status: 402 })
    )
  ).addError(Idempotency.Failure)

  const served = (runs: Ref.Ref<number>) =>
    HttpApiBuilder.serve().pipe(
      Layer.provide(HttpApiBuilder.middleware(Idempotency.middlewareEffect({ ...byAuthorization, required: true }))),
      Layer.provide(HttpApiBuilder.api(api)),
      Layer.provide(HttpApiBuilder.group(api, "payments", (handlers) =>
        handlers.handle("pay", ({ payload }) =>
          Effect.flatMap(
            Ref.updateAndGet(runs, (n) => n + 1),
            (run) => payload.amount < 0 ? Effect.fail(new Declined()) : Effect.succeed(run)
          ))))
    )

  it.scopedLive("the answers are typed failures of the derived client, and typed failures are repeated", () =>
    Effect.gen(function*() {
      const { layer } = yield* memory()
      const runs = yield* Ref.make(0)
      yield* Layer.build(Layer.provide(served(runs), layer))
      const { payments } = yield* HttpApiClient.make(api)
      const pay = (amount: number, text?: string) =>
        payments.pay({ payload: { amount }, headers: text === undefined ? {} : key(text) })
      expect(yield* pay(1, "a")).toBe(1)
      expect(yield* pay(1, "a")).toBe(1)
      expect((yield* Effect.flip(pay(2, "a")))._tag).toBe("IdempotencyKeyReused")
      expect((yield* Effect.flip(pay(1)))._tag).toBe("IdempotencyKeyMissing")
      expect((yield* Effect.flip(pay(-1, "b")))._tag).toBe("Declined")
      expect((yield* Effect.flip(pay(-1, "b")))._tag).toBe("Declined")
      expect(yield* Ref.get(runs)).toBe(2)
    }).pipe(Effect.provide(NodeHttpServer.layerTest)))

  it("stands in OpenAPI", () => {
    const responses = OpenApi.fromApi(api).paths["/pay"]?.post?.responses ?? {}
    expect(Object.keys(responses)).toEqual(expect.arrayContaining(["200", "400", "402", "409", "422"]))
    expect(responses[409]?.content).toHaveProperty("application/problem+json")
  })
})

describe("options", () => {
  it("bad ones are refused by name", () => {
    const make = (options: object) => () => Idempotency.middleware({ ...byAuthorization, ...options })
    expect(make({ ttl: -1 })).toThrow("Idempotency \"payments\": option ttl must be a duration above 0 ms, but is -1")
    expect(make({ methods: ["post"] })).toThrow("option methods must be a list of methods in upper case")
    expect(make({ methods: [] })).toThrow("option methods")
    expect(make({ maxBodySize: NaN })).toThrow("option maxBodySize")
    expect(make({ required: "yes" })).toThrow("option required must be true, false or a function")
    expect(make({ principal: undefined })).toThrow("option principal must be a function")
    expect(make({ other: 1 })).toThrow("has no option \"other\"")
    expect(Exit.isFailure(Effect.runSyncExit(IdempotencyStore.makeMemory({ maxEntries: 0 })))).toBe(true)
  })
})
