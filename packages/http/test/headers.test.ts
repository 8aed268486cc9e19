import { describe, expect, it } from "@effect/vitest"
import { Duration, FastCheck as fc, Option } from "effect"
import { parseList } from "structured-headers"
import { callerTimeout, timeoutHeaders } from "../src/internal/intake.js"
import type { Quota } from "../src/internal/rateLimitHeaders.js"
import { forms, isPolicyName, rateLimitHeaders } from "../src/internal/rateLimitHeaders.js"
import { parseRetryAfter, retryAfterSeconds } from "../src/internal/retryAfter.js"

const perIp: Quota = {
  name: "per-ip",
  limit: 100,
  window: Duration.seconds(60),
  remaining: 42,
  resetAfter: Duration.millis(17_400)
}
const daily: Quota = {
  name: "daily",
  limit: 5000,
  window: Duration.days(1),
  remaining: 12,
  resetAfter: Duration.hours(17)
}
const at = Date.UTC(2026, 10, 26, 8, 0, 0)

describe("RateLimit fields", () => {
  it("have the form of the newest draft", () => {
    expect(rateLimitHeaders([perIp, daily], ["draft-10"], at)).toEqual({
      "ratelimit-policy": "\"per-ip\";q=100;w=60, \"daily\";q=5000;w=86400",
      "ratelimit": "\"per-ip\";r=42;t=18, \"daily\";r=12;t=61200"
    })
  })

  it("have the older forms, of the policy with least left", () => {
    expect(rateLimitHeaders([perIp, daily], ["draft-7"], at)).toEqual({
      "ratelimit-policy": "5000;w=86400",
      "ratelimit": "limit=5000, remaining=12, reset=61200"
    })
    expect(rateLimitHeaders([perIp], ["draft-6"], at)).toEqual({
      "ratelimit-limit": "100",
      "ratelimit-remaining": "42",
      "ratelimit-reset": "18"
    })
    expect(rateLimitHeaders([perIp], ["legacy"], at)["x-ratelimit-reset"]).toBe("18")
    expect(rateLimitHeaders([perIp], ["legacy-epoch"], at)["x-ratelimit-reset"]).toBe(String(at / 1000 + 18))
  })

  it("stand beside each other where several forms are wanted", () => {
    expect(Object.keys(rateLimitHeaders([perIp], ["draft-10", "legacy"], at))).toEqual([
      "ratelimit-policy",
      "ratelimit",
      "x-ratelimit-limit",
      "x-ratelimit-remaining",
      "x-ratelimit-reset"
    ])
  })

  it("are not there where nothing was limited", () => {
    for (const form of forms) expect(rateLimitHeaders([], [form], at)).toEqual({})
  })

  it("can be read back, whatever a limiter says, and promise nothing too early", () => {
    const span = fc.double({ min: 0, max: 1e12, noNaN: true })
    const quota = fc.record({
      name: fc.string({ minLength: 1 }).filter(isPolicyName),
      limit: fc.nat(),
      window: span.filter((ms) => ms > 0).map(Duration.millis),
      remaining: fc.double({ min: -5, max: 1e20, noNaN: true }),
      resetAfter: fc.oneof(span.map(Duration.millis), fc.constant(Duration.infinity))
    })
    fc.assert(fc.property(fc.array(quota, { minLength: 1, maxLength: 4 }), (quotas) => {
      const headers = rateLimitHeaders(quotas, ["draft-10"], at)
      const policies = parseList(headers["ratelimit-policy"] ?? "")
      const limits = parseList(headers["ratelimit"] ?? "")
      quotas.forEach((one, i) => {
        const [name, policy] = policies[i] ?? ["", new Map<string, unknown>()]
        const [same, left] = limits[i] ?? ["", new Map<string, unknown>()]
        expect([name, same]).toEqual([one.name, one.name])
        expect(policy.get("q")).toBe(one.limit)
        expect(Number(policy.get("w"))).toBeGreaterThanOrEqual(Math.max(1, Duration.toSeconds(one.window) - 1e-6))
        expect(Number(left.get("r"))).toBeLessThanOrEqual(Math.max(0, one.remaining))
        const wait = Math.min(Duration.toSeconds(one.resetAfter), 999_999_999_999_999)
        expect(Number(left.get("t"))).toBeGreaterThanOrEqual(wait - 1e-6)
      })
    }))
  })

  it("take names that a header can carry", () => {
    for (const name of ["", "grün", "a\nb", "a\u0000"]) expect(isPolicyName(name)).toBe(false)
    for (const name of ["api", "per ip", "\"quoted\\\""]) expect(isPolicyName(name)).toBe(true)
  })
})

describe("Retry-After", () => {
  const read = (retryAfter: string, date?: string) =>
    Option.getOrUndefined(Option.map(parseRetryAfter({ "retry-after": retryAfter, date }, at), Duration.toSeconds))

  it.each([
    ["seconds", "120", undefined, 120],
    ["none at all", "0", undefined, 0],
    ["spaces", " 7 ", undefined, 7],
    ["a date", "Thu, 26 Nov 2026 08:00:30 GMT", undefined, 30],
    ["a date, by the clock of the server", "Thu, 26 Nov 2026 08:00:30 GMT", "Thu, 26 Nov 2026 08:00:20 GMT", 10],
    ["a date that has passed", "Thu, 26 Nov 2026 07:00:00 GMT", undefined, 0],
    ["nothing", "", undefined, undefined],
    ["a fraction", "1.5", undefined, undefined],
    ["a sign", "-1", undefined, undefined],
    ["an exponent", "1e3", undefined, undefined],
    ["infinity", "Infinity", undefined, undefined],
    ["words", "soon", undefined, undefined],
    ["a date of another form", "2026-11-26T08:00:30Z", undefined, undefined],
    ["a month that there is not", "Thu, 26 Foo 2026 08:00:30 GMT", undefined, undefined],
    ["more digits than any number has", "9".repeat(400), undefined, undefined]
  ])("reads %s", (_what, text, date, expected) => {
    expect(read(text, date)).toBe(expected)
  })

  it("is written in whole seconds, never too early, and a tenth too late at most", () => {
    const random = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true })
    fc.assert(fc.property(fc.double({ min: 0, max: 1e9, noNaN: true }), random, (seconds, chance) => {
      const written = retryAfterSeconds(Duration.seconds(seconds), chance)
      expect(Number.isSafeInteger(written)).toBe(true)
      expect(written).toBeGreaterThanOrEqual(Math.max(1, seconds - 1e-6))
      expect(written).toBeLessThanOrEqual(Math.max(2, Math.ceil(seconds) + Math.ceil(Math.ceil(seconds) / 10)))
    }))
    const spread = [0, 0.3, 0.6, 0.99].map((chance) => retryAfterSeconds(Duration.seconds(20), chance))
    expect(spread).toEqual([20, 20, 21, 22])
    expect(retryAfterSeconds(Duration.infinity, 0.5)).toBe(999_999_999_999_999)
  })
})

describe("what callers say of their patience", () => {
  const wait = (headers: Record<string, string>) => callerTimeout(headers, timeoutHeaders)

  it.each([
    ["nothing", {}, undefined],
    ["hours", { "grpc-timeout": "2H" }, 7_200_000],
    ["minutes", { "grpc-timeout": "1M" }, 60_000],
    ["seconds", { "grpc-timeout": "5S" }, 5000],
    ["milliseconds", { "grpc-timeout": "250m" }, 250],
    ["microseconds", { "grpc-timeout": "1500u" }, 1.5],
    ["nanoseconds", { "grpc-timeout": "2000000n" }, 2],
    ["nine digits, which gRPC has not", { "grpc-timeout": "123456789m" }, undefined],
    ["a unit that there is not", { "grpc-timeout": "5s" }, undefined],
    ["Envoy", { "x-envoy-expected-rq-timeout-ms": "900" }, 900],
    ["Envoy without a limit", { "x-envoy-expected-rq-timeout-ms": "0" }, undefined],
    ["no time at all", { "x-request-timeout-ms": "0" }, 0],
    ["Connect", { "connect-timeout-ms": "900" }, 900],
    ["the least of several", { "grpc-timeout": "1S", "x-request-timeout-ms": "400" }, 400],
    ["twice: the last", { "x-request-timeout-ms": "9000, 400" }, 400],
    ["garbage", { "grpc-timeout": "-1S", "x-request-timeout-ms": "1e9" }, undefined]
  ])("reads %s", (_what, headers, expected) => {
    expect(wait(headers as Record<string, string>)).toBe(expected)
  })
})
