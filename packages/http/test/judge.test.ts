import { describe, expect, it } from "@effect/vitest"
import { Duration, Option } from "effect"
import { fleetWire } from "../src/internal/dashboard/fleet.js"
import { advise, chains, judge, summary } from "../src/internal/dashboard/page/judge.js"

const still = { offered: 0, rejected: 0, bad: 0, retries: 0, fallbacks: 0 }
const of = (pattern: string, metrics: Readonly<Record<string, unknown>>, more: object = {}) => ({
  id: `${pattern}/x`,
  pattern,
  instance: "x",
  metrics,
  settings: null,
  recent: {},
  flow: still,
  seconds: 120,
  highest: 0,
  ...more
})

/** Of a bulkhead whose permits all processes share. */
const shared = { settings: { shared: true } }

/** What the page is told of it where it is of another process of the fleet. */
const ofAnotherProcess = (instance: ReturnType<typeof of>) => {
  const seen = { id: "1", label: "1", status: "Live" as const, age: Duration.zero, omitted: 0, problem: Option.none() }
  const wire = fleetWire({ problem: Option.none(), processes: [{ ...seen, instances: [instance] }] })
  const { processes } = JSON.parse(JSON.stringify(wire)) as {
    readonly processes: ReadonlyArray<
      { readonly instances: ReadonlyArray<Pick<typeof instance, "metrics" | "settings">> }
    >
  }
  return processes[0]?.instances[0]
}

describe("what figures mean", () => {
  const verdicts: ReadonlyArray<readonly [ReturnType<typeof of>, number, string]> = [
    [of("CircuitBreaker", { state: "Closed", failureRate: null }), 0, "closed"],
    [
      of("CircuitBreaker", { state: "Closed", failureRate: 0.41 }, { settings: { failureRate: 0.5 } }),
      1,
      "closed, but near its limit"
    ],
    [
      of("CircuitBreaker", { state: "Closed", failureRate: 0.14, window: { calls: 90 } }, {
        settings: { minimumCalls: 20 }
      }),
      1,
      "closed, but calls fail"
    ],
    [
      of("CircuitBreaker", { state: "Closed", failureRate: 0.14, window: { calls: 7 } }, {
        settings: { minimumCalls: 20 }
      }),
      0,
      "closed"
    ],
    [of("CircuitBreaker", { state: "Closed", failureRate: 0.01, window: { calls: 900 } }), 0, "closed"],
    [of("CircuitBreaker", { state: "Open", failureRate: null }), 3, "open"],
    [of("CircuitBreaker", { state: "HalfOpen", failureRate: null }), 2, "half open"],
    [of("CircuitBreaker", { keys: 3, open: [{ key: "a", state: "Open" }] }), 3, "1 key not closed"],
    [of("RedisConnection", { state: "up", down: [] }), 0, "well"],
    [of("RedisConnection", { state: "connecting", down: [] }), 2, "connecting"],
    [of("RedisConnection", { state: "degraded", down: [] }), 3, "refuses writes"],
    [of("RedisConnection", { state: "down", down: [""] }), 3, "down"],
    [of("RedisConnection", { state: "up", down: ["n1:6379"] }), 2, "a node is down"],
    [of("Bulkhead", { active: 2, limit: 10, utilization: 0.2, waiting: 0, queueLimit: 5 }), 0, "well"],
    [of("Bulkhead", { active: 8, limit: 10, utilization: 0.8, waiting: 0, queueLimit: 5 }), 1, "nearly full"],
    [of("Bulkhead", { active: 10, limit: 10, utilization: 1, waiting: 2, queueLimit: 5 }), 2, "all in use"],
    [of("Bulkhead", { active: 10, limit: 10, utilization: 1, waiting: 5, queueLimit: 5 }), 3, "full"],
    [of("Bulkhead", { active: 1, limit: 1, utilization: 1, waiting: 0, queueLimit: 5 }, shared), 0, "well"],
    [of("Bulkhead", { active: 0, limit: 0, utilization: 0, waiting: 0, queueLimit: 5 }), 0, "well"],
    [of("Bulkhead", { active: 1, limit: 1, utilization: 1, waiting: 1, queueLimit: 0 }, shared), 1, "calls wait"],
    [of("Bulkhead", { active: 1, limit: 1, utilization: 1, waiting: 1, queueLimit: 5 }, shared), 1, "calls wait"],
    [of("Bulkhead", { active: 1, limit: 1, utilization: 1, waiting: 5, queueLimit: 5 }, shared), 3, "full"],
    [
      of("Bulkhead", { active: 0, limit: 0, utilization: 0, waiting: 0, queueLimit: 5 }, {
        ...shared,
        flow: { ...still, rejected: 1 }
      }),
      2,
      "turning away"
    ],
    [of("LoadShedder", { level: "high" }), 2, "high"],
    [of("RateLimiter", {}, { flow: { ...still, rejected: 1 } }), 2, "turning away"],
    [of("RateLimiter", {}, { flow: { ...still, bad: 1 } }), 3, "store fails"],
    [of("Retry", { budgetAvailable: 0.2 }), 2, "budget is spent"],
    [of("Retry", { budgetAvailable: null }, { flow: { ...still, offered: 10, retries: 6 } }), 2, "retries much"],
    [of("Timeout", {}, { flow: { ...still, bad: 0.2 } }), 2, "timing out"],
    [of("Fallback", {}, { flow: { ...still, fallbacks: 3 } }), 1, "standing in"],
    [of("Fallback", {}, { flow: { ...still, fallbacks: 3, bad: 1 } }), 2, "fallbacks fail"],
    [of("Backpressure", { pending: 9, highWaterMark: 9 }), 1, "above high water"],
    [of("RedisConnection", { state: "up", down: [] }), 0, "well"],
    [of("RedisConnection", { state: "down", down: [""], downFor: 1000, reason: "Timeout" }), 3, "down"],
    [of("RedisConnection", { state: "connecting", down: [] }), 2, "connecting"],
    [of("RedisConnection", { state: "degraded", down: [] }), 3, "refuses writes"],
    [of("RedisConnection", { state: "up", down: ["a:1"] }), 2, "a node is down"],
    [of("RedisConnection", { state: "up", down: ["a:1", "b:2"] }), 2, "2 nodes are down"],
    [of("IdempotencyStore", { storeErrors: 4, failing: false }), 0, "well"],
    [of("IdempotencyStore", { storeErrors: 4, failing: true }), 1, "failed when last asked"],
    [of("IdempotencyStore", { failing: true }, { flow: { ...still, bad: 1 } }), 3, "store fails"],
    [of("StaleStore", { failing: true }), 1, "failed when last asked"],
    [of("StaleStore", { failing: true }, { flow: { ...still, bad: 1 } }), 3, "store fails"],
    [of("SomethingNew", { size: 1 }), 0, "well"],
    [of("SomethingNew", { size: 1 }, { flow: { ...still, rejected: 3 } }), 2, "turning away"]
  ]
  for (const [instance, level, state] of verdicts) {
    it(`${instance.pattern} is ${state}`, () => {
      expect(judge(instance)).toEqual({ level, state })
      expect(judge({ ...instance, ...ofAnotherProcess(instance) })).toEqual({ level, state })
    })
  }

  it("is one sentence", () => {
    const open = of("CircuitBreaker", { state: "Open", failureRate: null })
    const full = of("Bulkhead", { active: 4, limit: 4, utilization: 1, waiting: 0, queueLimit: 0 })
    const sentence = (...all: ReadonlyArray<ReturnType<typeof of>>) => summary(all, null).text
    expect(sentence()).toBe("No instance is known yet.")
    expect(sentence(of("Bulkhead", { active: 0, limit: 4, utilization: 0 }))).toBe("All is well.")
    expect(sentence(open)).toBe("1 circuit is open.")
    const failing = of("CircuitBreaker", { state: "Closed", failureRate: 0.3, window: { calls: 90 } })
    expect(sentence(failing)).toBe("Calls behind 1 circuit fail.")
    expect(sentence(failing, failing)).toBe("Calls behind 2 circuits fail.")
    expect(sentence(open, open, full)).toBe("2 circuits are open and 1 bulkhead is full.")
    expect(sentence(open, full, of("LoadShedder", { level: "critical" })))
      .toBe("1 circuit is open, 1 bulkhead is full, and load is being shed.")
  })

  it("names Redis first where it is not up, since when, and why", () => {
    const at = new Date(2026, 2, 1, 18, 43, 14).getTime()
    const open = of("CircuitBreaker", { state: "Open", failureRate: null })
    const redis = (instance: string, metrics: object) =>
      of("RedisConnection", { down: [], ...metrics }, { instance, at })
    const sentence = (...all: ReadonlyArray<ReturnType<typeof of>>) => summary(all, null)
    expect(sentence(open, redis("redis", { state: "down", downFor: 10_000, reason: "NotReady" })))
      .toMatchObject({ level: 3, text: "Redis is down since 18:43:04 (not ready) and 1 circuit is open." })
    expect(sentence(redis("cache", { state: "degraded", reason: "Timeout", refusal: "OutOfMemory" })).text)
      .toBe("Redis \"cache\" refuses writes (out of memory).")
    expect(sentence(redis("redis", { state: "connecting" })).text).toBe("Redis is connecting.")
    expect(sentence(redis("redis", { state: "up", down: ["a:1"], downFor: 10_000, reason: "Timeout" })).text)
      .toBe("Redis: a node is down since 18:43:04 (timeout).")
    expect(sentence(redis("redis", { state: "up" })).text).toBe("All is well.")
  })

  it("names the stores that fail", () => {
    const flow = { ...still, bad: 1 }
    expect(summary([of("IdempotencyStore", {}, { flow }), of("StaleStore", {}, { flow })], null).text)
      .toBe("The store of idempotency keys fails and the store of last good responses fails.")
  })

  it("counts a call that passes several patterns of a name once", () => {
    const flow = { ...still, offered: 100, rejected: 10 }
    const { figures } = summary([
      of("Bulkhead", { active: 0, limit: 4, utilization: 0 }, { flow }),
      of("Timeout", {}, { flow: { ...still, offered: 90 } })
    ], null)
    expect(figures).toBe("2 instances · 100/s in · 10/s turned away (10 %)")
  })

  it("gives advice", () => {
    const times = { count: 100, p50: 100, p95: 1000, p99: 2000, max: 2000 }
    expect(advise(of("Timeout", { limit: 2000 }, { recent: { times } }))).toContain("reaches the limit of 2 s")
    expect(advise(of("Timeout", { limit: 30_000 }, { recent: { times: { ...times, p99: 120 } } }))).toContain(
      "within 120 ms"
    )
    expect(advise(of("Timeout", { limit: 2500 }, { recent: { times } }))).toBeUndefined()
    expect(advise(of("Timeout", { limit: 2000 }, { recent: { times: { ...times, count: 10 } } }))).toBeUndefined()
    expect(advise(of("Bulkhead", { limit: 100, peak: 5, offered: 5000 }))).toContain("5 of 100")
    expect(advise(of("Bulkhead", { limit: 100, peak: 50, offered: 5000 }))).toBeUndefined()
    // The most that it held says nothing of what all of them did.
    expect(advise(of("Bulkhead", { limit: 100, peak: 5, offered: 5000 }, shared))).toBeUndefined()
    expect(advise(of("Retry", {}, { flow: { ...still, offered: 10, retries: 11 } }))).toContain("by 2.1")
    const rare = { settings: { minimumCalls: 20 }, highest: 4, flow: { ...still, offered: 0.1 } }
    expect(advise(of("CircuitBreaker", { opens: 0 }, rare))).toContain("never held the 20 calls")
    expect(advise(of("CircuitBreaker", { opens: 0 }, { ...rare, highest: 20 }))).toBeUndefined()
    expect(advise(of("CircuitBreaker", { state: "Open", opens: 4 }))).toContain("4 times in a row")
    expect(advise(of("CircuitBreaker", { state: "Closed", opens: 4 }))).toBeUndefined()
  })

  it("advises about a rate only where it is the rate that turns calls away", () => {
    const flow = { ...still, offered: 10, rejected: 10 }
    const advice = (onStoreError: string, bad: number) =>
      advise(of("RateLimiter", {}, { flow: { ...flow, bad }, settings: { onStoreError } }))
    expect(advice("fail", 0)).toBe(
      "It turns away 100 % of the calls. If these are honest clients, the rate is too low."
    )
    expect(advice("fail", 10)).toBe(
      "Its store does not answer, so calls fail (onStoreError is \"fail\"; with \"local\" each process would go on by its " +
        "share of the rate). Bring the store back: the events say why it is away."
    )
    expect(advice("closed", 10)).toContain("so all calls are turned away (onStoreError is \"closed\"; with \"local\"")
    expect(advice("open", 10)).toContain("so calls pass, and nothing limits them (onStoreError is \"open\")")
    expect(advice("local", 10)).toContain(
      "so each process goes on by its share of the rate (onStoreError is \"local\")"
    )
  })

  it("puts the patterns of a name in the order in which a call passes them", () => {
    const patterns = (...names: ReadonlyArray<string>) =>
      chains(names.map((name) => of(name, {}))).map(({ steps }) => steps.map(({ pattern }) => pattern))
    expect(patterns("Timeout", "Bulkhead", "Retry", "Unknown", "CircuitBreaker"))
      .toEqual([["Retry", "CircuitBreaker", "Bulkhead", "Timeout", "Unknown"]])
    expect(patterns("Retry", "LoadShedder", "RateLimiter", "Bulkhead", "CircuitBreaker", "Fallback"))
      .toEqual([["Fallback", "LoadShedder", "Retry", "CircuitBreaker", "RateLimiter", "Bulkhead"]])
    expect(patterns("CircuitBreaker", "LoadShedder", "Bulkhead"))
      .toEqual([["LoadShedder", "Bulkhead", "CircuitBreaker"]])
    expect(patterns("Bulkhead")).toEqual([])
  })

  const client = (...patterns: ReadonlyArray<string>) => [
    of("Timeout", {}, { instance: "x/attempt" }),
    ...patterns.map((pattern) => of(pattern, {}))
  ]

  it("puts the time of all attempts of a client outermost, and that of one innermost", () => {
    const found = chains(client("Timeout", "Bulkhead", "CircuitBreaker", "RateLimiter", "Retry"))
    expect(found.map(({ name, steps }) => [name, steps.map(({ instance, pattern }) => `${instance} ${pattern}`)]))
      .toEqual([
        ["x", ["x Timeout", "x Retry", "x CircuitBreaker", "x RateLimiter", "x Bulkhead", "x/attempt Timeout"]]
      ])
    const noRetry = chains(client("Timeout", "Bulkhead", "CircuitBreaker"))
    expect(noRetry.map(({ steps }) => steps.map(({ pattern }) => pattern))).toEqual([
      ["Timeout", "CircuitBreaker", "Bulkhead", "Timeout"]
    ])
    // A name that only looks like it stands for itself.
    expect(chains(client())).toEqual([])
  })

  it("counts a call of a client and its attempt once", () => {
    const flow = { ...still, offered: 10 }
    const all = client("Timeout", "Retry").map((one) => ({ ...one, flow }))
    expect(summary(all, null).figures).toBe("3 instances · 10/s in · 0/s turned away")
  })

  it("a keyed breaker that turns away says so, where no key is known to be open", () => {
    const flow = { ...still, offered: 10, rejected: 4 }
    expect(judge(of("CircuitBreaker", { keys: 3, open: [] }, { flow }))).toEqual({ level: 2, state: "turning away" })
    expect(judge(of("CircuitBreaker", { keys: 3, open: [] }))).toEqual({ level: 0, state: "well" })
    expect(judge(of("CircuitBreaker", { keys: 3, open: [{ key: "a", state: "Open" }] }, { flow })))
      .toEqual({ level: 3, state: "1 key not closed" })
  })
})
