import type {
  BulkheadFullError,
  CircuitOpenError,
  RateLimitExceededError,
  TimeoutExceededError
} from "@effect-resilience/core"
import { makeResilientFetch, resilientFetch, ResilientHttpClient } from "@effect-resilience/http"
import type { HttpClientError, HttpClientResponse } from "@effect/platform"
import { HttpClient } from "@effect/platform"
import { Context, Effect, Layer } from "effect"
import { describe, expect, it } from "tstyche"

type Ours = BulkheadFullError | CircuitOpenError | RateLimitExceededError | TimeoutExceededError

class Signer extends Context.Tag("Signer")<Signer, { readonly sign: (text: string) => string }>() {}
class Unsigned {
  readonly _tag = "Unsigned"
}

declare const plain: HttpClient.HttpClient
declare const signing: HttpClient.HttpClient.With<HttpClientError.HttpClientError | Unsigned, Signer>

describe("standard", () => {
  const payments = ResilientHttpClient.standard({ name: "payments" })

  it("adds our errors to E and its service to R, and keeps what the client has", () => {
    expect(plain.pipe(payments)).type.toBe<
      HttpClient.HttpClient.With<HttpClientError.HttpClientError | Ours, ResilientHttpClient>
    >()
    expect(signing.pipe(payments)).type.toBe<
      HttpClient.HttpClient.With<HttpClientError.HttpClientError | Unsigned | Ours, Signer | ResilientHttpClient>
    >()
    expect(plain.pipe(payments).get("/")).type.toBe<
      Effect.Effect<
        HttpClientResponse.HttpClientResponse,
        HttpClientError.HttpClientError | Ours,
        ResilientHttpClient
      >
    >()
  })

  it("an error that is handled is gone, the others stay", () => {
    const called = signing.pipe(payments).get("/").pipe(
      Effect.catchTag("CircuitOpenError", (error) => {
        expect(error).type.toBe<CircuitOpenError>()
        return Effect.succeed("closed for today")
      })
    )
    expect(called).type.toBe<
      Effect.Effect<
        HttpClientResponse.HttpClientResponse | string,
        HttpClientError.HttpClientError | Unsigned | Exclude<Ours, CircuitOpenError>,
        Signer | ResilientHttpClient
      >
    >()
  })

  it("stands before or behind other combinators", () => {
    expect(plain.pipe(payments, HttpClient.filterStatusOk)).type.toBe<
      HttpClient.HttpClient.With<HttpClientError.HttpClientError | Ours, ResilientHttpClient>
    >()
    expect(plain.pipe(HttpClient.filterStatusOk, payments)).type.toBe<
      HttpClient.HttpClient.With<HttpClientError.HttpClientError | Ours, ResilientHttpClient>
    >()
  })

  it("is no plain client: nobody takes it for one", () => {
    expect(plain.pipe(payments)).type.not.toBeAssignableTo<HttpClient.HttpClient>()
  })
})

describe("transform and layer", () => {
  it("keep the type of a client: our errors are mapped", () => {
    expect(ResilientHttpClient.transform({ name: "users" })).type.toBe<
      Effect.Effect<(client: HttpClient.HttpClient) => HttpClient.HttpClient, never, ResilientHttpClient>
    >()
    const outgoing = ResilientHttpClient.layer({ name: "outgoing" })
    expect(outgoing).type.toBe<
      Layer.Layer<HttpClient.HttpClient, never, HttpClient.HttpClient | ResilientHttpClient>
    >()
    const used = HttpClient.get("/").pipe(Effect.provide(outgoing))
    expect(used).type.toBe<
      Effect.Effect<
        HttpClientResponse.HttpClientResponse,
        HttpClientError.HttpClientError,
        HttpClient.HttpClient | ResilientHttpClient
      >
    >()
    expect(outgoing.pipe(Layer.provide(ResilientHttpClient.Live))).type.toBe<
      Layer.Layer<HttpClient.HttpClient, never, HttpClient.HttpClient>
    >()
  })
})

describe("withOverride", () => {
  it("changes nothing of a request's type", () => {
    const request = signing.pipe(ResilientHttpClient.standard({ name: "api" })).get("/")
    expect(request.pipe(ResilientHttpClient.withOverride({ retry: false }))).type.toBe<typeof request>()
  })

  it("has no options of the client's state", () => {
    expect(ResilientHttpClient.withOverride).type.not.toBeCallableWith({ circuitBreaker: false })
    expect(ResilientHttpClient.withOverride).type.not.toBeCallableWith({ retry: { maxAttempts: 3 } })
  })
})

describe("options", () => {
  it("need a name, and are those that there are", () => {
    expect(ResilientHttpClient.standard).type.not.toBeCallableWith({})
    expect(ResilientHttpClient.standard).type.not.toBeCallableWith({ name: "a", timeuot: 1 })
    // A pool of each authority has no shares.
    expect(ResilientHttpClient.standard).type.not.toBeCallableWith({ name: "a", bulkhead: { fair: {} } })
    expect(ResilientHttpClient.layer).type.not.toBeCallableWith({ name: "a", rateLimit: {} })
  })
})

describe("fetch", () => {
  it("is of the type of the one that it is given", () => {
    type Own = (url: URL, init?: { readonly cf: string }) => Promise<{ readonly ok: boolean }>
    const own = (_: URL, _init?: { readonly cf: string }) => Promise.resolve({ ok: true })
    expect(resilientFetch(own as Own, { name: "edge" })).type.toBe<Own & { readonly close: () => Promise<void> }>()
    expect(makeResilientFetch(own as Own, { name: "edge" })).type.toBe<Effect.Effect<Own, never, ResilientHttpClient>>()
  })
})
