import { Retry, TimeoutExceededError } from "@effect-resilience/core"
import { ResilientHttpClient } from "@effect-resilience/http"
import { HttpApi, HttpApiClient, HttpApiEndpoint, HttpApiGroup, HttpClient, HttpClientRequest } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Schema, Stream } from "effect"
import { backend, transports } from "./utils/backend.js"
import { isWhole, quick, resilient, services, snapshot } from "./utils/client.js"

const Live = Layer.merge(transports.node, services)

const live = <A, E>(name: string, body: Effect.Effect<A, E, any>) =>
  it.scopedLive(name, () => body.pipe(Effect.provide(Live)) as Effect.Effect<A, E>)

const { withOverride } = ResilientHttpClient

const failing = backend((response) => response.writeHead(503).end())
/** Answers after so many milliseconds as the path says. */
const slow = backend((response, { path }) => void setTimeout(() => response.end("late"), Number(path.slice(1))))

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([took, value]) => [Duration.toMillis(took), value] as const)

describe("the retries of a request", () => {
  live(
    "are none, for it alone",
    Effect.gen(function*() {
      const { seen, url } = yield* failing
      const client = yield* resilient({ name: "api", retry: quick })
      expect((yield* client.get(url).pipe(withOverride({ retry: false }))).status).toBe(503)
      expect(seen.splice(0)).toHaveLength(1)
      yield* client.get(url)
      expect(seen).toHaveLength(3)
    })
  )

  live(
    "are made although its method says no; a stream is sent once all the same",
    Effect.gen(function*() {
      const { seen, url } = yield* failing
      const client = yield* resilient({ name: "api", retry: quick })
      const search = HttpClientRequest.post(url).pipe(HttpClientRequest.bodyText("what I look for"))
      yield* client.execute(search)
      expect(seen.splice(0)).toHaveLength(1)
      yield* client.execute(search).pipe(withOverride({ retry: true }))
      expect(seen.splice(0).map(({ body }) => body)).toEqual(Array.from({ length: 3 }, () => "what I look for"))
      const stream = HttpClientRequest.bodyStream(
        HttpClientRequest.post(url),
        Stream.make(new TextEncoder().encode("once"))
      )
      yield* client.execute(stream).pipe(withOverride({ retry: true }))
      expect(seen.map(({ body }) => body)).toEqual(["once"])
    })
  )

  live(
    "are not asked for by the request where the client makes none",
    Effect.gen(function*() {
      const { seen, url } = yield* failing
      const client = yield* resilient({ name: "api", retry: false })
      yield* client.get(url).pipe(withOverride({ retry: true }))
      expect(seen).toHaveLength(1)
    })
  )

  live(
    "are left to the retry around it without a warning",
    Effect.gen(function*() {
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => warnings.push(String(message)))
      const { seen, url } = yield* failing
      const client = yield* resilient({ name: "api", retry: quick })
      const once = Effect.flatMap(client.get(url), ({ status }) => Effect.fail(status))
      const twice = Retry.using({ maxAttempts: 2, initialDelay: 0 })
      yield* twice(once.pipe(withOverride({ retry: false }))).pipe(
        Effect.exit,
        Effect.provide(Logger.replace(Logger.defaultLogger, logger))
      )
      expect(seen).toHaveLength(2)
      expect(warnings).toEqual([])
    })
  )
})

describe("platform's own retry", () => {
  live(
    "around a client multiplies the attempts; without ours they are its own",
    Effect.gen(function*() {
      const { seen, url } = yield* failing
      const client = yield* resilient({ name: "api", retry: quick, circuitBreaker: false })
      const twice = HttpClient.retryTransient(client, { times: 2 })
      yield* twice.get(url)
      expect(seen.splice(0)).toHaveLength(9)
      yield* twice.get(url).pipe(withOverride({ retry: false }))
      expect(seen).toHaveLength(3)
    })
  )

  live(
    "around a client takes an open circuit for something that passes",
    Effect.gen(function*() {
      const { seen, url } = yield* failing
      const transform = yield* ResilientHttpClient.transform({
        name: "api",
        retry: quick,
        circuitBreaker: { minimumCalls: 3 }
      })
      const twice = HttpClient.retryTransient(transform(yield* HttpClient.HttpClient), { times: 2 })
      expect(yield* Effect.flip(twice.get(url))).toMatchObject({ cause: { _tag: "CircuitOpenError" } })
      expect(seen).toHaveLength(3)
      // The answer of the first call is asked for again, and the rejection of the second twice.
      expect(yield* snapshot("Retry", "api")).toMatchObject({ offered: 4 })
    })
  )

  live(
    "inside of a client is a single attempt to it, that sends a POST twice at once",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, _, count) =>
        response.writeHead(count === 1 ? 503 : 200, { "retry-after": "5" }).end()
      )
      // It leaves the first answer open, so a pool of one connection would hang here.
      const many = yield* Effect.provide(HttpClient.HttpClient, transports.fetch)
      const inner = HttpClient.retryTransient(many, { times: 2 })
      const client = ResilientHttpClient.standard({ name: "api", retry: quick })(inner)
      const [took, response] = yield* timed(client.post(url))
      expect(response.status).toBe(200)
      expect(seen).toHaveLength(2)
      expect(took).toBeLessThan(4000)
      expect(yield* snapshot("Retry", "api")).toMatchObject({ offered: 1, retries: 0 })
    })
  )
})

describe("the limits of a request", () => {
  live(
    "are shorter: it fails in its own time, and gives its permit back",
    Effect.gen(function*() {
      const { cuts, url } = yield* slow
      const client = yield* resilient({ name: "api" })
      const [took, error] = yield* timed(Effect.flip(client.get(`${url}/5000`).pipe(withOverride({ timeout: 200 }))))
      expect(error).toBeInstanceOf(TimeoutExceededError)
      expect(error).toMatchObject({ instance: "api", limit: Duration.millis(200) })
      expect(took).toBeGreaterThanOrEqual(199)
      expect(took).toBeLessThan(2000)
      expect(yield* isWhole("api")).toBe(true)
      expect(cuts.count).toBeLessThanOrEqual(1)
    })
  )

  live(
    "are longer, or none: it waits where another does not",
    Effect.gen(function*() {
      const { url } = yield* slow
      const client = yield* resilient({ name: "api", timeout: 150, attemptTimeout: 100, retry: false })
      const request = client.get(`${url}/400`)
      expect(yield* Effect.flip(request)).toMatchObject({ instance: "api/attempt" })
      for (const long of [5000, false] as const) {
        const response = yield* request.pipe(withOverride({ timeout: long, attemptTimeout: long }))
        expect(yield* response.text).toBe("late")
      }
      expect(yield* Effect.flip(request)).toMatchObject({ instance: "api/attempt" })
    })
  )

  live(
    "are there where the client has none",
    Effect.gen(function*() {
      const { url } = yield* slow
      const client = yield* resilient({ name: "api", timeout: false, attemptTimeout: false, retry: false })
      const request = client.get(`${url}/400`)
      expect(yield* Effect.flip(request.pipe(withOverride({ timeout: 100 })))).toMatchObject({ instance: "api" })
      expect(yield* Effect.flip(request.pipe(withOverride({ attemptTimeout: 100 }))))
        .toMatchObject({ instance: "api/attempt" })
      expect(yield* Effect.flatMap(request, ({ text }) => text)).toBe("late")
    })
  )

  live(
    "are those of each attempt",
    Effect.gen(function*() {
      const { seen, url } = yield* backend((response, _, count) => {
        if (count === 3) response.end("at last")
      })
      const client = yield* resilient({ name: "api", retry: quick })
      const [took, response] = yield* timed(client.get(url).pipe(withOverride({ attemptTimeout: 150 })))
      expect(yield* response.text).toBe("at last")
      expect(seen).toHaveLength(3)
      expect(took).toBeGreaterThanOrEqual(299)
      expect(took).toBeLessThan(3000)
    })
  )
})

describe("a region", () => {
  live(
    "lies over the region around it, option by option",
    Effect.gen(function*() {
      const { seen, url } = yield* slow
      const client = yield* resilient({ name: "api", retry: quick })
      const inner = client.get(`${url}/5000`).pipe(withOverride({ attemptTimeout: 100, retry: undefined }))
      const error = yield* Effect.flip(inner.pipe(withOverride({ attemptTimeout: "9 seconds", retry: false })))
      expect(error).toMatchObject({ instance: "api/attempt", limit: Duration.millis(100) })
      expect(seen).toHaveLength(1)
    })
  )

  live(
    "reaches a client that is a layer, and one that a schema made",
    Effect.gen(function*() {
      const { seen, url } = yield* failing
      const Api = HttpApi.make("Api").add(
        HttpApiGroup.make("things").add(HttpApiEndpoint.get("one", "/one").addSuccess(Schema.Void))
      )
      yield* Effect.gen(function*() {
        yield* HttpClient.get(url).pipe(withOverride({ retry: false }))
        expect(seen.splice(0)).toHaveLength(1)
        yield* HttpClient.get(url)
        expect(seen.splice(0)).toHaveLength(3)
        const client = yield* HttpApiClient.make(Api, { baseUrl: url })
        yield* Effect.exit(client.things.one().pipe(withOverride({ retry: false })))
        expect(seen.splice(0)).toHaveLength(1)
      }).pipe(Effect.provide(ResilientHttpClient.layer({ name: "api", retry: quick })))
    })
  )
})

describe("a bad override is refused where it is written", () => {
  const cases: ReadonlyArray<readonly [Readonly<Record<string, unknown>>, string]> = [
    [{ timeout: -1 }, `ResilientHttpClient "withOverride": option timeout must be a duration above 0 ms, but is -1`],
    [{ attemptTimeout: "soon" }, "option attemptTimeout must be a duration above 0 ms, but is \"soon\""],
    [{ retry: "never" }, "option retry must be true or false, but is \"never\""],
    [{ maxAttempts: 3 }, "has no option \"maxAttempts\"; there are: timeout, attemptTimeout, retry"],
    [
      { timeout: "1 second", attemptTimeout: "2 seconds" },
      "option attemptTimeout must be at most timeout (1s), but is 2s"
    ]
  ]
  for (const [wrong, message] of cases) it(message, () => expect(() => withOverride(wrong)).toThrow(message))
})
