import { RetryBudget } from "@effect-resilience/core"
import { makeResilientFetch, resilientFetch, ResilientHttpClient } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import type { DurationInput } from "effect/Duration"
import { checkClient } from "../src/internal/client/options.js"

/** Options as JavaScript may give them. */
type Wrong = Readonly<Record<string, unknown>>

const cases: ReadonlyArray<readonly [Wrong, string]> = [
  [{ circuitBreaker: { failureRate: 2 } }, `CircuitBreaker "api": option failureRate must be a number`],
  [{ circuitBreaker: { failureRate: 2 } }, "but is 2"],
  [{ circuitBreaker: { openDuration: NaN } }, `CircuitBreaker "api": option openDuration`],
  [
    { circuitBreaker: { successThreshold: 9 } },
    "option successThreshold must be at most halfOpenMaxCalls (3), but is 9"
  ],
  [
    { circuitBreaker: { window: { count: 5 }, minimumCalls: 9 } },
    "minimumCalls must be at most the window's count (5)"
  ],
  [{ circuitBreaker: { failurRate: 0.1 } }, `CircuitBreaker "api": has no option "failurRate"`],
  [{ circuitBreaker: { maxKeys: 5 } }, `CircuitBreaker "api": has no option "maxKeys"`],
  [
    { bulkhead: { maxConcurrent: 0 } },
    `Bulkhead "api": option maxConcurrent must be an integer of at least 1, but is 0`
  ],
  [{ bulkhead: { maxConcurrent: 1.5 } }, "option maxConcurrent must be an integer of at least 1, but is 1.5"],
  [{ bulkhead: { maxWait: -1 } }, `Bulkhead "api": option maxWait must be a duration of at least 0 ms, but is -1`],
  [{ bulkhead: { fair: {} } }, `Bulkhead "api": has no option "fair"`],
  [{ bulkhead: { onFull: "reject" } }, `Bulkhead "api": has no option "onFull"`],
  [{ rateLimit: {} }, `RateLimiter "api": option rate must be`],
  [{ rateLimit: { rate: "2 in a while" } }, `RateLimiter "api": option rate must be`],
  [{ rateLimit: { rate: "2/minute", burst: 0 } }, `RateLimiter "api": option burst must be`],
  [{ rateLimit: { rate: "2/minute", mode: "hurry" } }, `RateLimiter "api": option mode must be one of "fail", "wait"`],
  [{ retry: { maxAttempts: 0 } }, `ResilientHttpClient "api/retry": option maxAttempts must be an integer`],
  [{ retry: { budget: { tokensPerSuccess: -1 } } }, `RetryBudget "api": option tokensPerSuccess must be`],
  [{ retry: { budget: { tokens: 1 } } }, `RetryBudget "api": has no option "tokens"`],
  [{ retry: { budget: "none" } }, "option budget must be false, options of a budget or a RetryBudget, but is \"none\""],
  [{ heedRateLimit: { maxWait: -1 } }, `ResilientHttpClient "api/heedRateLimit": option maxWait must be a duration`],
  [
    { propagate: { hosts: [1] } },
    `ResilientHttpClient "api/propagate": option hosts must be a list of hosts, but is [1]`
  ],
  [{ propagate: { priority: true } }, "option priority must be the name of a header field or false, but is true"],
  [{ bodyIdleTimeout: 0 }, "option bodyIdleTimeout must be a duration above 0 ms, but is 0"],
  [{ bulkhead: true }, "option bulkhead must be options or false, but is true"]
]

const forms = {
  standard: ResilientHttpClient.standard,
  layer: ResilientHttpClient.layer,
  transform: ResilientHttpClient.transform,
  resilientFetch: (options: ResilientHttpClient.Options) => resilientFetch(fetch, options),
  makeResilientFetch: (options: ResilientHttpClient.Options) => makeResilientFetch(fetch, options)
}

describe("a bad option of a part is refused where the client is made", () => {
  for (const [wrong, message] of cases) {
    it(`${JSON.stringify(wrong)}: ${message}`, () => {
      for (const form of Object.values(forms)) expect(() => form({ name: "api", ...wrong })).toThrow(message)
    })
  }

  it("and good ones are not", () => {
    const options: ReadonlyArray<Omit<ResilientHttpClient.Options, "name">> = [
      {},
      { circuitBreaker: undefined, bulkhead: undefined, retry: undefined },
      { circuitBreaker: { window: { count: 5 } }, bulkhead: { maxConcurrent: 1, maxQueued: 0, order: "lifo" } },
      { circuitBreaker: { consecutiveFailures: 3, window: { duration: "1 minute" } } },
      { rateLimit: { rate: "5/second", burst: 10, mode: "fail" }, retry: { budget: false } }
    ]
    for (const one of options) expect(() => ResilientHttpClient.standard({ name: "api", ...one })).not.toThrow()
  })

  const fitted: ReadonlyArray<
    readonly [Omit<ResilientHttpClient.Options, "name">, Readonly<Record<string, string | false>>]
  > = [
    [{}, {}],
    [{ timeout: "5 seconds" }, { timeout: "5s", attemptTimeout: "5s" }],
    [{ timeout: "100 millis" }, { timeout: "100ms", attemptTimeout: "100ms", initialDelay: "100ms" }],
    [{ timeout: false }, { timeout: false }],
    [{ timeout: "2 minutes" }, { timeout: "2m" }],
    [{ attemptTimeout: "20 seconds" }, { attemptTimeout: "20s", window: "40s" }],
    [{ attemptTimeout: "1 minute" }, { timeout: "1m", attemptTimeout: "1m", window: "2m" }],
    [{ attemptTimeout: false }, { attemptTimeout: false }],
    [{ attemptTimeout: "20 seconds", circuitBreaker: { failureRate: 0.2 } }, { attemptTimeout: "20s", window: "40s" }],
    [{ circuitBreaker: { window: { duration: "15 seconds" } } }, { attemptTimeout: "7s 500ms", window: "15s" }],
    [{ bulkhead: { maxWait: "1 minute" } }, { timeout: "1m" }],
    [{ bulkhead: { maxWait: Infinity } }, {}],
    [{ retry: { initialDelay: "6 seconds" } }, { initialDelay: "6s", maxDelay: "6s" }],
    [{ retry: { maxDelay: "100 millis" } }, { initialDelay: "100ms", maxDelay: "100ms" }],
    [{ retry: { initialDelay: "1 minute" } }, { timeout: "1m", initialDelay: "1m", maxDelay: "1m" }]
  ]
  for (const [given, expected] of fitted) {
    it(`the defaults fit ${JSON.stringify(given)}`, () => {
      const { attemptTimeout, circuitBreaker, retry, timeout } = checkClient({ name: "api", ...given })
      const window = circuitBreaker === false ? undefined : circuitBreaker.window
      const shown = (duration: DurationInput | false) =>
        duration === false ? false : Duration.format(Duration.decode(duration))
      expect({
        timeout: shown(timeout),
        attemptTimeout: shown(attemptTimeout),
        window: shown(window !== undefined && "duration" in window ? window.duration : "30 seconds"),
        initialDelay: retry !== false && shown(retry.initialDelay),
        maxDelay: retry !== false && shown(retry.maxDelay)
      }).toEqual({
        timeout: "30s",
        attemptTimeout: "10s",
        window: "30s",
        initialDelay: "200ms",
        maxDelay: "5s",
        ...expected
      })
    })
  }

  it.scoped("also a budget that is shared", () =>
    Effect.map(RetryBudget.make({ name: "outgoing" }), (budget) => {
      expect(() => ResilientHttpClient.standard({ name: "api", retry: { budget } })).not.toThrow()
    }))
})
