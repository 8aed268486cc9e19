import { Limit } from "@effect-resilience/core/Limit"
import { Service, Simulation } from "@effect-resilience/core/testing"
import { settles } from "./measure.js"
import type { Scenario, Stack } from "./scenario.js"
import { limits, queue } from "./stacks.js"

const workers = 32
const service = Service.exponential(50)
const capacity = 640

const budget: Simulation.BudgetOptions = { tokensPerSuccess: 0.1, maxTokens: 50 }
const retry: Simulation.RetryOptions = { retries: 3, delay: 50, jitter: "full" }

/** 30 s, 10 s in which nothing moves, 100 s. */
const trap = (load: number): Scenario => ({
  id: 7,
  name: `metastable trap at ${load}x`,
  says: `load ${load}, 10 s in which nothing moves; callers wait 500 ms, 2 s in all, and try three times more`,
  stacks: [
    {
      name: "knee + queue + budget + interruption",
      ours: true,
      protection: { limit: Limit.knee(), queue },
      client: { interrupt: true, retry: { ...retry, budget } }
    },
    { name: "no protection, no retries", client: {} },
    { name: "no protection", client: { retry } },
    { name: "no protection + budget", client: { retry: { ...retry, budget } } },
    { name: "no protection + budget + interruption", client: { interrupt: true, retry: { ...retry, budget } } },
    ...limits(workers, 3).filter(({ name }) => !/queue|no protection/.test(name)).map((stack) => ({
      ...stack,
      client: { retry }
    }))
  ],
  columns: [
    { measure: "recover", title: "recover", unit: "s" },
    { measure: "first", title: "ok, first 10 s after", unit: "%" },
    { measure: "attempts", title: "attempts / request in the outage", unit: "x" }
  ],
  targets: [{ measure: "recover", atMost: 2 }, { measure: "attempts", atMost: 1.1 }],
  play: (stack, seed, quick) => {
    const end = quick ? 90_000 : 140_000
    const result = Simulation.run({
      seed,
      duration: end,
      arrivals: [{ rate: load * capacity }],
      server: Simulation.workers({ workers, service, stalls: [{ from: 30_000, to: 40_000 }] }),
      client: { timeout: 500, deadline: 2000, ...stack.client },
      ...(stack.protection === undefined ? {} : { protection: stack.protection })
    })
    return {
      result,
      measures: {
        recover: settles(result, 40_000, end - 3000, (second) => second.okShare >= 0.97 && second.p99 <= 500),
        first: result.between(40_000, 50_000).okShare * 100,
        attempts: result.between(30_000, 40_000).attemptsPerRequest
      }
    }
  }
})

export const traps = [trap(0.7), trap(0.85)]

/** A tenth of the 320 requests in a second, and a little less: the bound counts all of them, not those that succeed. */
const byRate: Simulation.BudgetOptions = { tokensPerSuccess: 0, minPerSecond: 31.7 }

const brownOutAt = (share: number): Scenario => {
  const bound = (1 - share) * 1.1
  const isMild = share <= 0.1
  return {
    id: 8,
    name: `brown-out, ${share * 100} % failing`,
    says: `load 0.5, ${share * 100} % of the attempts fail, three retries; ${
      bound > 1
        ? "there is budget for all that matters"
        : `no budget of 10 % can do better than ${(bound * 100).toFixed(0)} %`
    }`,
    stacks: [
      { name: "budget of a tenth of the requests", ours: true, client: { retry: { ...retry, budget: byRate } } },
      { name: "budget of a tenth of the successes", client: { retry: { ...retry, budget } } },
      { name: "no retries", client: {} },
      { name: "3 retries", client: { retry } },
      {
        name: "budget + knee + queue",
        protection: { limit: Limit.knee(), queue },
        client: { retry: { ...retry, budget, rejected: false } }
      }
    ],
    columns: [
      { measure: "load", title: "load", unit: "x" },
      { measure: "ok", title: "ok", unit: "%" },
      { measure: "bound", title: "ok / bound", unit: "%" }
    ],
    targets: isMild
      ? [{ measure: "load", atMost: 1.1 }, { measure: "ok", atLeast: 99 }]
      : [{ measure: "load", atMost: 1.1 }, { measure: "bound", atLeast: 99 }],
    play: (stack, seed) => {
      const result = Simulation.run({
        seed,
        duration: 130_000,
        arrivals: [{ rate: 0.5 * capacity }],
        server: Simulation.workers({ workers, service, failure: Simulation.steps([[0, 0], [10_000, share]]) }),
        client: { timeout: 2000, ...stack.client },
        ...(stack.protection === undefined ? {} : { protection: stack.protection })
      })
      const { attemptsPerRequest, okShare } = result.between(20_000, 120_000)
      return {
        result,
        measures: { load: attemptsPerRequest, ok: okShare * 100, bound: okShare / Math.min(1, bound) * 100 }
      }
    }
  }
}

export const brownOuts = [brownOutAt(0.1), brownOutAt(0.3), brownOutAt(0.5)]

const coldSpeed = (now: number): number => now < 60_000 ? 1 : Math.min(1, 0.2 + 0.8 * (now - 60_000) / 10_000)

/** It looks every two seconds at most, where its default would be open for up to a minute. */
const breaker: Simulation.BreakerOptions = { openDuration: 1000, maxOpenDuration: 2000 }

const herdStacks: ReadonlyArray<Stack> = [
  { name: "breaker + knee + queue", ours: true, protection: { breaker, limit: Limit.knee(), queue } },
  { name: "no protection" },
  { name: "breaker", protection: { breaker } },
  { name: "breaker with its defaults + knee + queue", protection: { breaker: {}, limit: Limit.knee(), queue } },
  { name: "breaker + ramp of 10 s", protection: { breaker: { ...breaker, rampUp: 10_000 } } },
  { name: "breaker + oracle", protection: { breaker, limit: Limit.fixed(33) } },
  { name: "knee + queue", protection: { limit: Limit.knee(), queue } }
]

export const halfOpenHerd: Scenario = {
  id: 9,
  name: "half-open herd",
  says: "load 0.8; dead from 30 s to 60 s, then cold: 20 % of its speed, all of it 10 s later; callers wait 500 ms",
  during: { from: 30_000, to: 60_000, name: "dead" },
  stacks: herdStacks,
  columns: [
    { measure: "recover", title: "95 % after", unit: "s" },
    { measure: "available", title: "of what was available, 20 s", unit: "%" },
    { measure: "failed", title: "failed calls", unit: "calls" },
    { measure: "opens", title: "re-opened", unit: "calls" }
  ],
  targets: [
    { measure: "recover", atMost: 8 },
    { measure: "available", atLeast: 92 },
    { measure: "failed", atMost: 50 },
    { measure: "opens", atMost: 0 }
  ],
  play: (stack, seed) => {
    const result = Simulation.run({
      seed,
      duration: 110_000,
      arrivals: [{ rate: 0.8 * capacity }],
      server: Simulation.workers({
        workers,
        service,
        down: Simulation.steps([[0, 0], [30_000, 1], [60_000, 0]]),
        slowdown: (now) => 1 / coldSpeed(now)
      }),
      client: { timeout: 500 },
      ...(stack.protection === undefined ? {} : { protection: stack.protection })
    })
    let available = 0
    for (let at = 60_000; at < 80_000; at += 100) available += Math.min(0.8, coldSpeed(at)) * capacity / 10
    const circuits = result.samples.filter(({ at }) => at >= 60_000).map(({ circuit }) => circuit)
    return {
      result,
      measures: {
        // A second of 512 requests varies by 4 %: its own count is what it is held against.
        recover: settles(result, 60_000, 109_000, (second) => second.okShare >= 0.95),
        available: result.between(60_000, 80_000).goodput * 20 / available * 100,
        failed: result.between(60_000, 100_000).failures,
        opens: circuits.filter((now, i) => now === "Open" && i > 0 && circuits[i - 1] === "Closed").length
      }
    }
  }
}
