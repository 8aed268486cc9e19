import { ResilientHttpClient } from "@effect-resilience/http"
import type { HttpClientResponse } from "@effect/platform"
import { FetchHttpClient, HttpClient, HttpClientRequest, HttpIncomingMessage } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Stream } from "effect"
import { backend, deadPort, transports } from "./utils/backend.js"
import { eventually, isWhole, quick, resilient, services, snapshot } from "./utils/client.js"

for (const [transport, layer] of Object.entries(transports)) {
  // The pool of `fetch` cannot be limited: it opens a second connection where the first is being given back.
  const pool = transport === "fetch" ? 3 : 1
  const live = <A, E>(name: string, body: Effect.Effect<A, E, any>) =>
    it.scopedLive(name, () => body.pipe(Effect.provide(Layer.merge(layer, services))) as Effect.Effect<A, E>)

  describe(`over ${transport}`, () => {
    for (const size of [200, 1024 * 1024]) {
      live(
        `100 calls that fail twice leave no connection behind, with a pool of one: ${size} bytes of error`,
        Effect.gen(function*() {
          const { seen, sockets, url } = yield* backend((response, _, count) => {
            response.writeHead(count % 3 === 0 ? 200 : 503)
            response.end(count % 3 === 0 ? "ok" : Buffer.alloc(size))
          })
          const client = yield* resilient({
            name: "api",
            retry: { ...quick, budget: false },
            circuitBreaker: false,
            bulkhead: { maxConcurrent: 1, maxQueued: 0 }
          })
          for (let call = 0; call < 100; call++) {
            const response = yield* client.get(url)
            expect(yield* response.text).toBe("ok")
          }
          expect(seen).toHaveLength(300)
          expect(yield* snapshot("Bulkhead", "api")).toMatchObject({ busy: [] })
          if (size === 200) expect(sockets.opened).toBeLessThanOrEqual(pool)
          yield* eventually(Effect.sync(() => sockets.open <= 1))
        })
      )
    }

    live(
      "answers that nobody reads leave nothing behind: errors, short ones, and those without body",
      Effect.gen(function*() {
        const { sockets, url } = yield* backend((response, { method, path }) => {
          response.statusCode = Number(path.slice(1))
          if (path !== "/200") response.flushHeaders()
          response.end(method === "HEAD" || path === "/204" ? undefined : "what nobody reads")
        })
        const client = yield* resilient({
          name: "api",
          retry: false,
          circuitBreaker: false,
          bulkhead: { maxConcurrent: 1 }
        })
        for (let call = 0; call < 25; call++) {
          yield* client.get(`${url}/404`)
          yield* client.get(`${url}/503`)
          yield* client.get(`${url}/204`)
          yield* client.post(`${url}/200`)
        }
        expect(sockets.opened).toBeLessThanOrEqual(pool)
        for (let call = 0; call < 25; call++) yield* client.head(`${url}/200`)
        yield* eventually(isWhole("api"))
      })
    )

    live(
      "short bodies of unknown length, and those of redirects, need no reader",
      Effect.gen(function*() {
        const { seen, url } = yield* backend((response, { path }) => {
          const isLast = path === "/0"
          response.writeHead(isLast ? 200 : 302, isLast ? {} : { location: `/${Number(path.slice(1)) - 1}` })
          response.write("ok")
          response.end()
        })
        const client = yield* resilient({
          name: "api",
          retry: false,
          timeout: "2 seconds",
          attemptTimeout: "1 second",
          bulkhead: { maxConcurrent: 1 }
        })
        for (let call = 0; call < 10; call++) yield* client.get(`${url}/0`)
        const following = HttpClient.followRedirects(client)
        expect(yield* Effect.flatMap(following.get(`${url}/3`), (response) => response.text)).toBe("ok")
        expect(seen).toHaveLength(14)
        yield* eventually(isWhole("api"))
      })
    )

    live(
      "a body that comes bit by bit is read as it comes, whatever its type",
      Effect.gen(function*() {
        for (const type of ["application/x-ndjson", "text/event-stream"]) {
          const waiting: Array<() => void> = []
          const { url } = yield* backend((response) => {
            response.writeHead(200, { "content-type": type })
            response.write("0")
            let next = 1
            waiting.push(() => next < 5 ? response.write(String(next++)) : response.end())
          })
          const client = yield* resilient({ name: `api/${type}` })
          const response = yield* client.get(url)
          const seen: Array<string> = []
          // Each bit is sent when the one before it has been read.
          yield* Stream.runForEach(Stream.decodeText(response.stream), (text) =>
            Effect.sync(() => {
              seen.push(text)
              for (const proceed of waiting) proceed()
            })).pipe(Effect.timeout("3 seconds"))
          expect(seen).toEqual(["0", "1", "2", "3", "4"])
          yield* eventually(isWhole(`api/${type}`))
        }
      })
    )

    live(
      "a body is read in every way as without the patterns",
      Effect.gen(function*() {
        const { url } = yield* backend((response, { path }) => {
          const [type, body] = path === "/form"
            ? ["application/x-www-form-urlencoded", "a=1&b=%C3%A9"]
            : ["application/json", `{"é":[1]}`]
          response.writeHead(200, { "content-type": type, "set-cookie": "k=v" })
          response.write(body.slice(0, 5))
          response.end(body.slice(5))
        })
        const plain = yield* HttpClient.HttpClient
        const client = yield* resilient({ name: "api" })
        const ways = {
          text: Effect.flatMap((r: HttpClientResponse.HttpClientResponse) => r.text),
          twice: Effect.flatMap((r: HttpClientResponse.HttpClientResponse) => Effect.zip(r.text, r.json)),
          json: Effect.flatMap((r: HttpClientResponse.HttpClientResponse) => r.json),
          bytes: Effect.flatMap((r: HttpClientResponse.HttpClientResponse) =>
            Effect.map(r.arrayBuffer, (buffer) => [...new Uint8Array(buffer)])
          ),
          stream: Effect.flatMap((r: HttpClientResponse.HttpClientResponse) =>
            Stream.mkString(Stream.decodeText(r.stream))
          ),
          cookies: Effect.flatMap((r: HttpClientResponse.HttpClientResponse) => Effect.as(r.text, r.cookies.toJSON()))
        }
        for (const way of Object.values(ways)) {
          expect(yield* way(client.get(url))).toEqual(yield* way(plain.get(url)))
        }
        const form = yield* client.get(`${url}/form`)
        expect(yield* form.urlParamsBody).toEqual([["a", "1"], ["b", "é"]])
        const data = yield* Effect.flatMap(client.get(`${url}/form`), (response) => response.formData)
        expect([...data.entries()]).toEqual([["a", "1"], ["b", "é"]])
        expect(yield* isWhole("api")).toBe(true)
      })
    )

    live(
      "a permit is held until the body is read, and comes back when it is given up",
      Effect.gen(function*() {
        const { cuts, url } = yield* backend((response) => {
          response.writeHead(200)
          response.write("x".repeat(100_000))
        })
        const client = yield* resilient({ name: "api" })
        const response = yield* client.get(url)
        expect(yield* isWhole("api")).toBe(false)
        const reading = yield* Effect.fork(response.text)
        yield* Effect.sleep("50 millis")
        expect(yield* isWhole("api")).toBe(false)
        yield* Fiber.interrupt(reading)
        expect(yield* isWhole("api")).toBe(true)
        yield* eventually(Effect.sync(() => cuts.count === 1))
        // What was given up is told to who comes later, and does not interrupt him.
        for (const again of [response.text, response.json, Stream.runDrain(response.stream)]) {
          expect(yield* Effect.flip<unknown, unknown, never>(again)).toMatchObject({
            _tag: "ResponseError",
            description: "the body was given up before it was read"
          })
        }

        const first = yield* Effect.flatMap(client.get(url), (response) => Stream.runHead(response.stream))
        expect(Option.isSome(first)).toBe(true)
        expect(yield* isWhole("api")).toBe(true)
        yield* eventually(Effect.sync(() => cuts.count === 2))
      })
    )

    live(
      "a body that stands still, or that nobody reads, is aborted after its time",
      Effect.gen(function*() {
        const { cuts, url } = yield* backend((response) => {
          response.writeHead(200)
          response.write("x".repeat(1000))
        })
        const client = yield* resilient({ name: "api", bodyIdleTimeout: "200 millis" })
        const stalled = yield* Effect.flip(Effect.flatMap(client.get(url), (response) => response.text))
        expect(stalled).toMatchObject({ _tag: "ResponseError", description: "the body stood still for too long" })
        expect(yield* isWhole("api")).toBe(true)

        const unread = yield* client.get(url)
        expect(yield* isWhole("api")).toBe(false)
        yield* eventually(isWhole("api"))
        yield* eventually(Effect.sync(() => cuts.count === 2))
        expect(yield* Effect.flip(unread.text)).toMatchObject({ description: "nobody read the body for too long" })
      })
    )

    live(
      "the long body of an error can be read, and is aborted when nobody does",
      Effect.gen(function*() {
        const { url } = yield* backend((response) => {
          response.writeHead(404)
          response.end("x".repeat(300_000))
        })
        const client = yield* resilient({ name: "api" })
        const response = yield* client.get(url)
        expect((yield* response.text).length).toBe(300_000)
        expect(yield* isWhole("api")).toBe(true)
        yield* client.get(url)
        yield* Effect.sleep("50 millis")
        expect(yield* isWhole("api")).toBe(false)
        yield* eventually(isWhole("api"))
      })
    )

    live(
      "a body that is too large is refused, and given back",
      Effect.gen(function*() {
        const { url } = yield* backend((response) => response.end("x".repeat(1000)))
        const client = yield* resilient({ name: "api" })
        const error = yield* Effect.flatMap(client.get(url), (response) => response.text).pipe(
          HttpIncomingMessage.withMaxBodySize(Option.some(10)),
          Effect.flip
        )
        expect(error).toMatchObject({ _tag: "ResponseError", reason: "Decode" })
        expect(yield* isWhole("api")).toBe(true)
      })
    )

    live(
      "an attempt that takes too long is aborted, and made again where that does no harm",
      Effect.gen(function*() {
        const { cuts, seen, url } = yield* backend((response, _, count) => {
          if (count > 1) response.end("late but here")
        })
        const client = yield* resilient({ name: "api", attemptTimeout: "300 millis", retry: quick })
        const response = yield* client.get(url)
        expect(yield* response.text).toBe("late but here")
        expect(seen).toHaveLength(2)
        yield* eventually(Effect.sync(() => cuts.count === 1))
        expect(yield* isWhole("api")).toBe(true)
      })
    )

    live(
      "a POST is never sent twice, whatever went wrong",
      Effect.gen(function*() {
        const { seen, url } = yield* backend((response, { path }) => {
          if (path === "/503") response.writeHead(503, { "retry-after": "0" }).end()
          else if (path === "/reset") response.destroy()
          else if (path === "/half") {
            response.writeHead(200, { "content-length": "100" })
            response.write("half")
            response.destroy()
          }
        })
        const client = yield* resilient({
          name: "api",
          attemptTimeout: "300 millis",
          retry: quick,
          circuitBreaker: false
        })
        for (const path of ["/503", "/reset", "/half", "/hang"]) {
          const post = HttpClientRequest.post(url + path).pipe(HttpClientRequest.bodyText("once"))
          yield* Effect.exit(Effect.flatMap(client.execute(post), (response) => response.text))
          expect(seen.filter((one) => one.path === path)).toHaveLength(1)
        }
        expect(yield* isWhole("api")).toBe(true)
      })
    )

    live(
      "one request that is sent twice at once is aborted once for each",
      Effect.gen(function*() {
        const { url } = yield* backend((response) => setTimeout(() => response.end("answer"), 300))
        // One that takes its time before it sends, as a client that fetches a token does.
        const own = HttpClient.transform(yield* HttpClient.HttpClient, (effect) => Effect.delay(effect, "10 millis"))
        const client = ResilientHttpClient.standard({ name: "api", retry: false })(own)
        for (const interrupted of [0, 1]) {
          const request = HttpClientRequest.get(url)
          const same = Effect.flatMap(client.execute(request), (response) => response.text)
          const fibers = [yield* Effect.fork(same), yield* Effect.fork(same)]
          yield* Effect.sleep("50 millis")
          yield* Effect.forEach(fibers.slice(interrupted, interrupted + 1), Fiber.interrupt)
          const others = fibers.filter((_, at) => at !== interrupted)
          expect(yield* Effect.forEach(others, Fiber.join)).toEqual(["answer"])
        }
        expect(yield* isWhole("api")).toBe(true)
      })
    )

    live(
      "what has not reached the server is sent again, also a POST",
      Effect.gen(function*() {
        const port = yield* deadPort
        const client = yield* resilient({ name: "api", retry: quick, circuitBreaker: false })
        // `fetch` follows redirects by itself, if it is not told otherwise: then nobody knows what it has not reached.
        const posted = client.post(`http://127.0.0.1:${port}`).pipe(
          Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual" })
        )
        const error = yield* Effect.flip(posted)
        expect(error).toMatchObject({ _tag: "RequestError", reason: "Transport" })
        expect(yield* snapshot("Retry", "api")).toMatchObject({ retries: 2 })
      })
    )

    live(
      "a POST whose answer leads to a server that is down is not sent again",
      Effect.gen(function*() {
        const dead = yield* deadPort
        for (const status of [302, 303, 307]) {
          const { seen, url } = yield* backend((response) =>
            response.writeHead(status, { location: `http://127.0.0.1:${dead}/done` }).end()
          )
          const own = HttpClient.followRedirects(yield* HttpClient.HttpClient)
          const client = ResilientHttpClient.standard({ name: `api/${status}`, retry: quick, circuitBreaker: false })(
            own
          )
          const post = HttpClientRequest.post(url).pipe(HttpClientRequest.bodyText("once"))
          expect(yield* Effect.flip(client.execute(post))).toMatchObject({ reason: "Transport" })
          expect(seen).toHaveLength(1)
        }
      })
    )
  })
}
