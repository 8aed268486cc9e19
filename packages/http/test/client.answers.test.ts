import { CircuitOpenError, DeadlineExceededError, TimeoutExceededError } from "@effect-resilience/core"
import { HttpClientError, HttpClientRequest, HttpClientResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Exit, FastCheck as fc, Option } from "effect"
import { askedBy, fate, outcomeOf } from "../src/internal/client/answers.js"
import { depart, learn, toldBy } from "../src/internal/client/pace.js"
import type { Pace } from "../src/internal/client/pace.js"
import { rateLimitHeaders } from "../src/internal/rateLimitHeaders.js"

const request = HttpClientRequest.get("http://a.test/")
const response = (status: number) => HttpClientResponse.fromWeb(request, new Response(null, { status }))
const transport = (cause: unknown) => new HttpClientError.RequestError({ request, reason: "Transport", cause })
const coded = (code: string, more: object = {}) => Object.assign(new Error(code), { code, ...more })
const refused = coded("ECONNREFUSED", { syscall: "connect", address: "127.0.0.1", port: 80 })
const ofFetch = (cause: unknown) => transport(new TypeError("fetch failed", { cause }))

const timeout = new TimeoutExceededError({
  instance: "api/attempt",
  reason: "LimitExceeded",
  limit: Duration.zero,
  elapsed: Duration.zero,
  retryAfter: Option.none()
})
const open = new CircuitOpenError({ instance: "api", state: "Open", reason: "Open", retryAfter: Option.none() })
const expired = new DeadlineExceededError({
  instance: "ambient",
  reason: "Exceeded",
  origin: "caller",
  retryAfter: Option.none()
})

describe("the fate of a failed attempt", () => {
  const cases: ReadonlyArray<readonly [string, unknown, ReturnType<typeof fate>]> = [
    ["refused", transport(refused), "unreached"],
    [
      "no such name",
      transport(coded("ENOTFOUND", { syscall: "getaddrinfo", hostname: "a.test" })),
      "unreached"
    ],
    ["no connection in time", transport(coded("UND_ERR_CONNECT_TIMEOUT")), "unreached"],
    ["refused on every address", transport(coded("ECONNREFUSED", { errors: [refused, refused] })), "unreached"],
    [
      "refused on one address, reset on another",
      transport(coded("ECONNREFUSED", { errors: [refused, coded("ECONNRESET")] })),
      "unknown"
    ],
    [
      "a refused stream of HTTP/2",
      transport(new Error("Stream closed with error code NGHTTP2_REFUSED_STREAM")),
      "unreached"
    ],
    ["refused, as fetch tells it, which may have followed a redirect", ofFetch(refused), "unknown"],
    [
      "no way to the host, found when the answer was read",
      transport(coded("EHOSTUNREACH", { syscall: "read" })),
      "unknown"
    ],
    ["a code that says no more", transport(coded("ECONNREFUSED")), "unknown"],
    ["refused on another port", transport({ ...refused, name: "Error", port: 81 }), "unknown"],
    [
      "another name that is not there",
      transport(coded("ENOTFOUND", { syscall: "getaddrinfo", hostname: "b.test" })),
      "unknown"
    ],
    [
      "a redirect that platform followed, refused",
      new HttpClientError.RequestError({
        request: HttpClientRequest.get("http://a.test/next"),
        reason: "Transport",
        cause: refused
      }),
      "unknown"
    ],
    ["reset", transport(coded("ECONNRESET")), "unknown"],
    ["closed", transport(coded("UND_ERR_SOCKET")), "unknown"],
    ["no code", transport("?"), "unknown"],
    ["our own timeout", timeout, "unknown"],
    ["a bad certificate", transport(coded("CERT_HAS_EXPIRED")), "final"],
    ["a certificate nobody signed", transport(coded("DEPTH_ZERO_SELF_SIGNED_CERT")), "final"],
    ["a certificate of another", transport(coded("ERR_TLS_CERT_ALTNAME_INVALID")), "final"],
    ["an open circuit", open, "final"],
    [
      "an open circuit of an inner client",
      Object.assign(transport(coded("ECONNREFUSED")), { retryable: false }),
      "final"
    ],
    ["no URL", new HttpClientError.RequestError({ request, reason: "InvalidUrl" }), "final"],
    ["no body to send", new HttpClientError.RequestError({ request, reason: "Encode" }), "final"],
    [
      "no body to read",
      new HttpClientError.ResponseError({ request, response: response(200), reason: "Decode" }),
      "final"
    ],
    ["somebody's own", "mine", "final"]
  ]
  for (const [what, error, expected] of cases) {
    it(`${what}: ${expected}`, () => expect(fate(error, { request, redirect: undefined })).toBe(expected))
  }

  it("fetch knows that it has not reached the server where it follows no redirects", () => {
    const by = (redirect: string) => fate(ofFetch(refused), { request, redirect })
    expect([by("manual"), by("error"), by("follow")]).toEqual(["unreached", "unreached", "unknown"])
    expect(fate(transport(refused), { request, redirect: "follow" })).toBe("unknown")
  })

  it("a numeric host is refused at its own address", () => {
    for (const [host, address] of [["127.0.0.1", "127.0.0.1"], ["[::1]", "::1"], ["127.0.0.2", "127.0.0.1"]] as const) {
      const own = HttpClientRequest.post(`http://${host}:80/`)
      const error = new HttpClientError.RequestError({
        request: own,
        reason: "Transport",
        cause: coded("ECONNREFUSED", { syscall: "connect", address, port: 80 })
      })
      expect(fate(error, { request: own, redirect: undefined })).toBe(host === "127.0.0.2" ? "unknown" : "unreached")
    }
  })
})

describe("what an attempt says of the dependency", () => {
  it("by status", () => {
    const of = (status: number) => outcomeOf(Exit.succeed(response(status)))
    for (const status of [500, 502, 503, 504, 507]) expect(of(status)).toBe("failure")
    for (const status of [408, 429]) expect(of(status)).toBe("ignored")
    for (const status of [200, 204, 301, 400, 401, 404, 409, 501, 505]) expect(of(status)).toBe("success")
  })

  it("by error", () => {
    const filtered = (status: number) =>
      new HttpClientError.ResponseError({ request, response: response(status), reason: "StatusCode" })
    const of = (error: unknown) => outcomeOf(Exit.fail(error))
    for (const error of [transport(coded("ECONNRESET")), timeout, filtered(503)]) expect(of(error)).toBe("failure")
    expect(of(filtered(404))).toBe("success")
    const silent = [open, expired, new HttpClientError.RequestError({ request, reason: "InvalidUrl" })]
    for (const error of silent) expect(of(error)).toBe("ignored")
    expect(outcomeOf(Exit.die("bug"))).toBe("failure")
  })
})

describe("the wait that a server asks for", () => {
  const asked = (headers: Record<string, string>) => askedBy({ status: 503, headers }, Date.UTC(2026, 0, 1))
  it("is Retry-After, or gRPC's push-back", () => {
    expect(asked({ "retry-after": "7" })).toEqual(Duration.seconds(7))
    expect(asked({ "retry-after": "Thu, 01 Jan 2026 00:00:09 GMT" })).toEqual(Duration.seconds(9))
    expect(asked({ "retry-after": "Thu, 01 Jan 2026 00:00:09 GMT", date: "Thu, 01 Jan 2026 00:00:08 GMT" }))
      .toEqual(Duration.seconds(1))
    expect(asked({ "retry-after": "Wed, 31 Dec 2025 00:00:00 GMT" })).toEqual(Duration.zero)
    // The two obsolete forms of RFC 9110, 5.6.7.
    expect(asked({ "retry-after": "Thursday, 01-Jan-26 00:00:09 GMT" })).toEqual(Duration.seconds(9))
    expect(asked({ "retry-after": "Thu Jan  1 00:00:09 2026" })).toEqual(Duration.seconds(9))
    expect(asked({ "retry-after": "Thu Jan 15 00:00:00 2026" })).toEqual(Duration.days(14))
    // Two digits of a year that would be more than fifty years ahead are of the past.
    expect(asked({ "retry-after": "Thursday, 01-Jan-76 00:00:00 GMT" })).toEqual(
      Duration.millis(Date.UTC(2076, 0, 1) - Date.UTC(2026, 0, 1))
    )
    expect(asked({ "retry-after": "Saturday, 01-Jan-77 00:00:00 GMT" })).toEqual(Duration.zero)
    expect(asked({ "grpc-retry-pushback-ms": "250" })).toEqual(Duration.millis(250))
    expect(asked({ "grpc-retry-pushback-ms": "-1" })).toBe("never")
    expect(asked({ "grpc-retry-pushback-ms": "soon" })).toBe("never")
    expect(asked({ "retry-after": "soon" })).toBeUndefined()
    expect(asked({})).toBeUndefined()
  })
})

describe("the limit that a server tells of", () => {
  const time = Date.UTC(2026, 0, 1)
  const told = (headers: Record<string, string>) => toldBy({ status: 200, headers }, time)

  it("is read in every form that our own servers write", () => {
    const quota = { name: "p", limit: 10, window: Duration.minutes(1), remaining: 3, resetAfter: Duration.seconds(9) }
    for (const form of ["draft-10", "draft-8", "draft-7", "draft-6", "legacy", "legacy-epoch"] as const) {
      expect([form, told(rateLimitHeaders([quota], [form], time))])
        .toEqual([form, { remaining: 3, resetAfter: Duration.seconds(9) }])
    }
  })

  it("is the tightest of several, and nothing where it cannot be read", () => {
    expect(told({ ratelimit: `"a";r=5;t=1, "b";r=2;t=60` })).toEqual({ remaining: 2, resetAfter: Duration.minutes(1) })
    for (const ratelimit of ["", "?", `"a"`, `"a";r=5`, `"a";r=x;t=1`, "limit=1"]) {
      expect(told({ ratelimit })).toBeUndefined()
    }
    expect(told({ "x-ratelimit-remaining": "many", "x-ratelimit-reset": "1" })).toBeUndefined()
  })

  it("resets at a time since 1970, in seconds or in milliseconds", () => {
    for (const reset of [time / 1000 + 9, time + 9000]) {
      expect(told({ "x-ratelimit-remaining": "3", "x-ratelimit-reset": String(reset) }))
        .toEqual({ remaining: 3, resetAfter: Duration.seconds(9) })
    }
  })

  const seconds = (n: number) => BigInt(n) * 1_000_000_000n

  it("is counted down, and left at its end", () => {
    const pace = learn(undefined, { remaining: 2, resetAfter: Duration.seconds(10) }, seconds(0))
    const [first, two] = depart(pace, seconds(1))
    const [second, none] = depart(two, seconds(1))
    const [third, same] = depart(none, seconds(4))
    expect([first, second, third]).toEqual([0n, 0n, seconds(6)])
    expect(same).toBe(none)
    expect(depart(none, seconds(10))).toEqual([0n, undefined])
  })

  it("an answer that was overtaken gives nothing back within a window; the next window does", () => {
    const empty: Pace = { remaining: 0, resetAt: seconds(10) }
    expect(learn(empty, { remaining: 5, resetAfter: Duration.seconds(9) }, seconds(1)).remaining).toBe(0)
    expect(learn(empty, { remaining: 5, resetAfter: Duration.seconds(10) }, seconds(10)).remaining).toBe(5)
    expect(learn(empty, { remaining: 5, resetAfter: Duration.seconds(60) }, seconds(1)).remaining).toBe(5)
  })

  it("never lets more through in a window than the server told", () => {
    fc.assert(fc.property(
      fc.integer({ min: 0, max: 20 }),
      fc.array(fc.oneof(fc.constant("depart"), fc.constant("told"))),
      (quota, steps) => {
        let left = quota
        let pace: Pace | undefined = learn(undefined, { remaining: quota, resetAfter: Duration.seconds(10) }, 0n)
        let sent = 0
        for (const step of steps) {
          if (step === "told") pace = learn(pace, { remaining: left, resetAfter: Duration.seconds(10) }, 1n)
          else {
            const [wait, next] = depart(pace, 1n)
            pace = next
            if (wait === 0n) {
              sent++
              left = Math.max(0, left - 1)
            }
          }
        }
        expect(sent).toBe(Math.min(quota, steps.filter((step) => step === "depart").length))
      }
    ))
  })
})
