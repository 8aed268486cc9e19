import { ResilienceLive } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option } from "effect"
import { serveWeb } from "./utils/servers.js"

/** Options as JavaScript may give them. */
type Wrong = Readonly<Record<string, unknown>>

const cases: ReadonlyArray<readonly [part: string, wrong: Wrong, message: string]> = [
  [
    "bulkhead",
    { maxConcurrent: -1 },
    `Bulkhead "api": option maxConcurrent must be an integer of at least 1, but is -1`
  ],
  ["bulkhead", { maxConcurent: 1 }, `Bulkhead "api": has no option "maxConcurent"`],
  ["bulkhead", { fair: 5 }, `Bulkhead "api": option fair must be`],
  ["bulkhead", { key: "ip" }, `HttpResilience.bulkhead "api": option key must be a function, but is "ip"`],
  ["longLived", { maxConcurrent: NaN }, `Bulkhead "api-long-lived": option maxConcurrent must be`],
  ["loadShedder", { maxInFlight: 0 }, `LoadShedder "api": option maxInFlight must be`],
  ["loadShedder", { cohort: 1 }, `HttpResilience.loadShedder "api": option cohort must be a function, but is 1`],
  ["backpressure", { highWaterMark: -1 }, `Backpressure "api": option highWaterMark must be`],
  ["adaptiveConcurrency", { algorithm: "guess" }, `AdaptiveConcurrency "api": option algorithm must be`],
  ["adaptiveConcurrency", { initialLimit: 0 }, `AdaptiveConcurrency "api": option initialLimit must be`],
  ["circuitBreaker", { failureRate: 2 }, `CircuitBreaker "api": option failureRate must be a number`],
  ["rateLimit", { rate: "often" }, `RateLimiter "api": option rate must be`],
  ["rateLimit", {}, `RateLimiter "api": option rate must be`],
  [
    "rateLimit",
    { rate: "1/s", onMissingKey: "drop" },
    `HttpResilience.rateLimit "api": option onMissingKey must be one`
  ],
  ["rateLimit", { rate: "1/s", cost: 2 }, `HttpResilience.rateLimit "api": option cost must be a function, but is 2`],
  ["rateLimit", { rate: "1/s", rateFor: "2/s" }, `HttpResilience.rateLimit "api": option rateFor must be a function`],
  [
    "timeout",
    { duration: -1 },
    `HttpResilience.timeout "api": option duration must be a duration above 0 ms, but is -1`
  ],
  ["timeout", { dryRan: true }, `HttpResilience.timeout "api": has no option "dryRan"`],
  ["deadline", { headers: ["a b"] }, `HttpResilience.deadline "api": option headers must be a list of names of header`],
  ["priority", { default: "urgent" }, `HttpResilience.priority "api": option default must be one of`]
]

const looks: ReadonlyArray<readonly [Wrong, string]> = [
  [{ status: 2000 }, "option status must be an integer from 400 to 599, but is 2000"],
  [{ status: 200 }, "option status must be an integer from 400 to 599, but is 200"],
  [{ status: "503" }, "option status must be an integer from 400 to 599, but is \"503\""],
  [{ message: 5 }, "option message must be a text, but is 5"],
  [{ headers: { "x-y": "a\r\nset-cookie: z=1" } }, "option headers must be header fields, but is"],
  [{ headers: { "x y": "1" } }, "option headers must be header fields, but is"],
  [{ headers: { "x-y": 1 } }, "option headers must be header fields, but is"],
  [{ headers: ["x-y"] }, "option headers must be header fields, but is"],
  [{ retryAfter: "soon" }, "option retryAfter must be \"jittered\", a duration or a function, but is \"soon\""],
  [{ retryAfter: -1 }, "option retryAfter must be"],
  [{ retryAfter: NaN }, "option retryAfter must be"],
  [{ retryAfter: Infinity }, "option retryAfter must be"]
]

const rejecting = {
  loadShedder: {},
  rateLimit: { rate: "1/s" },
  backpressure: {},
  longLived: {},
  bulkhead: {},
  adaptiveConcurrency: {},
  circuitBreaker: {},
  timeout: {}
}

type Options = Omit<HttpResilience.Options, "name">

/** What makes a policy, or tells of one. */
const forms: Record<string, (options: HttpResilience.Options) => unknown> = {
  standard: HttpResilience.standard,
  explain: HttpResilience.explain,
  apiMiddleware: HttpResilience.apiMiddleware
}

describe("a bad option of a part is refused where the policy is made", () => {
  for (const [part, wrong, message] of cases) {
    it(`${part} ${JSON.stringify(wrong)}: ${message}`, () => {
      for (const [name, form] of Object.entries(forms)) {
        // What cannot wrap a handler has no timeout.
        if (part === "timeout" && name === "apiMiddleware") continue
        expect(() => form({ name: "api", [part]: wrong } as HttpResilience.Options), name).toThrow(message)
      }
    })
  }

  for (const [wrong, message] of [...looks, [{ dryRun: "yes" }, "option dryRun must be true or false"] as const]) {
    it(`${JSON.stringify(wrong)}: ${message}`, () => {
      for (const [part, right] of Object.entries(rejecting)) {
        expect(() => HttpResilience.standard({ name: "api", [part]: { ...right, ...wrong } }), part).toThrow(
          `HttpResilience.${part} "api": ${message}`
        )
      }
    })
  }

  it("also of one that stands alone", () => {
    expect(() => HttpResilience.bulkhead({ name: "api", maxConcurrent: 0 })).toThrow(
      `Bulkhead "api": option maxConcurrent`
    )
    expect(() => HttpResilience.rateLimit({ name: "api", rate: "1/s", status: 2000 })).toThrow("option status")
    expect(() => HttpResilience.timeout({ name: "api", duration: NaN })).toThrow("option duration")
  })

  it("a function that is no policy is neither options nor one", () => {
    const policy = HttpResilience.standard({ name: "api" })
    const wrapped: HttpResilience.Middleware = (app) => policy(app)
    const message = `HttpResilience "wrapped": option policy must be options, or a policy as HttpResilience made it, ` +
      "but is a function"
    expect(() => HttpResilience.apiMiddleware(wrapped)).toThrow(message)
    expect(() => HttpResilience.apiMiddlewareWithDecision(wrapped)).toThrow(message)
    expect(() => HttpResilience.explain(wrapped)).toThrow(message)
    expect(HttpResilience.explain(policy)).toBe(HttpResilience.explain({ name: "api" }))
  })

  it("a status of what has no place on endpoints is none of theirs", () => {
    const policy = HttpResilience.standard({
      name: "api",
      timeout: { status: 500 },
      fallback: { respond: HttpServerResponse.text("sorry", { status: 200 }) }
    })
    expect(() => HttpResilience.apiMiddleware(policy)).not.toThrow()
    const limit = HttpResilience.rateLimit({ name: "api", rate: "1/s", status: 403 })
    expect(() => HttpResilience.apiMiddleware(limit)).toThrow("option rateLimit.status must be 429, 503 or 504")
  })

  it.scopedLive("and good ones are not, and are what they say", () =>
    Effect.gen(function*() {
      const options: ReadonlyArray<Options> = [
        {},
        { bulkhead: undefined, rateLimit: undefined, timeout: undefined, priority: undefined, deadline: undefined },
        { bulkhead: { maxConcurrent: 1, maxQueued: 0, dryRun: true, key: () => Option.none() } },
        { longLived: { maxConcurrent: 5, fair: true }, adaptiveConcurrency: { key: () => Option.some("a") } },
        { loadShedder: { maxInFlight: 5, cohort: () => Option.none() }, backpressure: { maxWait: 0 } },
        { rateLimit: { rate: ["1/s", "5/minute"], key: () => Option.some("a"), cost: () => 1, rateFor: () => "1/s" } },
        { timeout: { duration: "1 second", status: 500, message: "", headers: { "X-Y": "ü, é" }, retryAfter: 0 } },
        { timeout: { duration: Infinity, retryAfter: () => "1 second" } },
        { timeout: Duration.seconds(1), deadline: { headers: ["X-Budget-Ms"] }, priority: { header: "X-Class" } }
      ]
      for (const one of options) {
        const send = yield* serveWeb(HttpRouter.empty.pipe(
          HttpRouter.get("/", HttpServerResponse.text("hello")),
          HttpResilience.standard({ name: `good ${options.indexOf(one)}`, ...one })
        ))
        const { status } = yield* Effect.promise(() => send(new Request("http://x.test/")))
        expect(status, JSON.stringify(one)).toBe(200)
      }
    }).pipe(Effect.provide(HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive)))))
})
