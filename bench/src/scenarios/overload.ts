import { Queueing, Service, Simulation } from "@effect-resilience/core/testing"
import { mean, settles } from "./measure.js"
import type { Column, Scenario, Stack } from "./scenario.js"
import { limits } from "./stacks.js"

/** The server of most scenarios: capacity 640 in a second. */
const workers = 32
const service = Service.exponential(50)
const capacity = 640
/** p99 of an exponential 50 ms at a load of 0.8. */
const unloaded = 234

const goodput: Column = { measure: "goodput", title: "goodput", unit: "%" }
const p50: Column = { measure: "p50", title: "p50", unit: "ms" }
const p99: Column = { measure: "p99", title: "p99", unit: "ms" }
const limit: Column = { measure: "limit", title: "mean limit", unit: "limit" }
const converge: Column = { measure: "converge", title: "converge", unit: "s" }
const recover: Column = { measure: "recover", title: "recover", unit: "s" }
const normal: Column = { measure: "normal", title: "ok before", unit: "%" }
const after: Column = { measure: "after", title: "ok after", unit: "%" }

/** 20 s of 0.8, 60 s of 3, 30 s of 0.8. */
const step = (stack: Stack, seed: number, contention: number) => {
  const result = Simulation.run({
    seed,
    duration: 110_000,
    arrivals: [{ rate: Simulation.steps([[0, 0.8 * capacity], [20_000, 3 * capacity], [80_000, 0.8 * capacity]]) }],
    server: Simulation.workers({ workers, service, contention }),
    client: { timeout: 1000 },
    ...(stack.protection === undefined ? {} : { protection: stack.protection })
  })
  const overload = result.between(20_000, 80_000)
  return {
    result,
    measures: {
      goodput: overload.goodput / capacity * 100,
      p50: overload.p50,
      p99: overload.p99,
      "p99 over unloaded": overload.p99 / unloaded,
      limit: overload.limit,
      normal: result.between(5000, 20_000).okShare * 100,
      after: result.between(85_000, 108_000).okShare * 100,
      converge: settles(
        result,
        20_000,
        80_000,
        (second) => second.goodput >= 0.9 * capacity && second.p99 <= 2 * unloaded
      ),
      recover: settles(result, 80_000, 109_000, (second) => second.okShare >= 0.97 && second.p99 <= 2 * unloaded)
    }
  }
}

export const stepUp: Scenario = {
  id: 1,
  name: "step to 3x",
  says: "load 0.8, then 3 for 60 s, then 0.8; 32 workers of 50 ms, callers wait 1 s",
  during: { from: 20_000, to: 80_000, name: "three times what it can do" },
  stacks: limits(workers, 3),
  columns: [goodput, p50, p99, limit, normal, after, converge, recover],
  targets: [
    { measure: "goodput", atLeast: 99 },
    { measure: "p99 over unloaded", atMost: 1.15 },
    { measure: "normal", atLeast: 99.9 },
    { measure: "converge", atMost: 2 }
  ],
  play: (stack, seed) => step(stack, seed, 0)
}

export const slowDown: Scenario = {
  id: 2,
  name: "slow-down x5",
  says: "load 0.6; for 60 s the work takes five times as long; callers wait 2 s",
  during: { from: 20_000, to: 80_000, name: "the work takes 5 times as long" },
  stacks: limits(workers, 3),
  columns: [goodput, p50, p99, limit, normal, converge, recover],
  targets: [{ measure: "goodput", atLeast: 97 }, { measure: "recover", atMost: 2 }],
  play: (stack, seed) => {
    const result = Simulation.run({
      seed,
      duration: 110_000,
      arrivals: [{ rate: 0.6 * capacity }],
      server: Simulation.workers({
        workers,
        service,
        slowdown: Simulation.steps([[0, 1], [20_000, 5], [80_000, 1]])
      }),
      client: { timeout: 2000 },
      ...(stack.protection === undefined ? {} : { protection: stack.protection })
    })
    const slow = result.between(20_000, 80_000)
    return {
      result,
      measures: {
        goodput: slow.goodput / (capacity / 5) * 100,
        p50: slow.p50,
        p99: slow.p99,
        limit: slow.limit,
        normal: result.between(5000, 20_000).okShare * 100,
        // Seconds of 128 answers are noisy: three deviations.
        converge: settles(
          result,
          20_000,
          80_000,
          (second) => second.goodput >= 0.7 * capacity / 5 && second.p99 <= 10 * unloaded
        ),
        recover: settles(result, 80_000, 109_000, (second) => second.okShare >= 0.97 && second.p99 <= 2 * unloaded)
      }
    }
  }
}

export const latencyShift: Scenario = {
  id: 3,
  name: "latency x4.2",
  says: "640 in a second at 50 ms, then 210 ms for 60 s, on a server that has workers for all of it",
  during: { from: 20_000, to: 80_000, name: "latency 210 ms, the same capacity" },
  stacks: limits(workers, 3).map((stack) =>
    stack.name === "no protection" ? { ...stack, name: "no protection (right here)" } : stack
  ),
  columns: [{ ...goodput, title: "answered" }, p50, p99, limit, normal],
  targets: [{ measure: "goodput", atLeast: 98 }],
  play: (stack, seed) => {
    const result = Simulation.run({
      seed,
      duration: 100_000,
      arrivals: [{ rate: capacity }],
      server: Simulation.workers({
        workers: 1000,
        service,
        slowdown: Simulation.steps([[0, 1], [20_000, 4.2], [80_000, 1]])
      }),
      client: { timeout: 2000 },
      ...(stack.protection === undefined ? {} : { protection: stack.protection })
    })
    const shifted = result.between(20_000, 80_000)
    return {
      result,
      measures: {
        goodput: shifted.okShare * 100,
        p50: shifted.p50,
        p99: shifted.p99,
        limit: shifted.limit,
        normal: result.between(5000, 20_000).okShare * 100
      }
    }
  }
}

export const contention: Scenario = {
  id: 6,
  name: "contention collapse",
  says: "scenario 1, where each request beyond the workers adds 2 % of work",
  during: { from: 20_000, to: 80_000, name: "three times what it can do" },
  stacks: limits(workers, 3),
  columns: [goodput, p50, p99, limit, normal, after],
  targets: [{ measure: "goodput", atLeast: 93 }, { measure: "after", atLeast: 99 }],
  play: (stack, seed) => step(stack, seed, 0.02)
}

/** Minutes at one load: is what was learned still true? */
const soakAt = (load: number): Scenario => ({
  id: 4,
  name: `ratchet soak at ${load}x`,
  says: `15 minutes at a load of ${load}; callers wait 10 s`,
  stacks: limits(workers, load).filter(({ name }) => !/no protection|\) \+ queue/.test(name)),
  columns: [
    { measure: "latency", title: "latency / service at the end", unit: "x" },
    goodput,
    { measure: "first", title: "limit, minute 1", unit: "limit" },
    { measure: "middle", title: "minute 5", unit: "limit" },
    { measure: "last", title: "last minute", unit: "limit" },
    { measure: "slope", title: "last / minute 5", unit: "x" }
  ],
  targets: [
    { measure: "latency", atMost: 1.4 },
    { measure: "goodput", atLeast: 97 },
    { measure: "slope", atMost: 1.15 }
  ],
  play: (stack, seed, quick) => {
    const minutes = quick ? 6 : 15
    const result = Simulation.run({
      seed,
      duration: minutes * 60_000,
      arrivals: [{ rate: load * capacity }],
      server: Simulation.workers({ workers, service }),
      client: { timeout: 10_000 },
      sampleEvery: 500,
      ...(stack.protection === undefined ? {} : { protection: stack.protection })
    })
    const minute = (n: number) =>
      mean(result.samples.filter(({ at }) => at >= n * 60_000 && at < (n + 1) * 60_000).map(({ limit }) => limit))
    const end = result.between((minutes - 1) * 60_000, minutes * 60_000)
    const middle = mean([minute(3), minute(4)])
    const last = mean([minute(minutes - 2), minute(minutes - 1)])
    return {
      result,
      measures: {
        latency: end.mean / 50,
        goodput: result.between(10_000, minutes * 60_000).goodput / capacity * 100,
        first: minute(0),
        middle,
        last,
        slope: last / middle
      }
    }
  }
})

export const soaks = [soakAt(1.05), soakAt(3)]

/** From a limit of 20 to that of the oracle. */
const convergence = (places: number, seconds: number): Scenario => {
  const best = Queueing.bestLimit(places, 2)
  const most = places / 0.05
  const meanInside = Queueing.meanInside(places, 2, best)
  const latency = meanInside / (most * Queueing.throughput(places, 2, best)) * 1000
  return {
    id: 5,
    name: `convergence, ${places} workers`,
    says: `load 2 from the start, ${places} workers of 50 ms; the best limit is ${best}`,
    stacks: limits(places, 2).filter(({ name }) => !/no protection|\) \+ queue/.test(name)),
    columns: [
      { ...converge, title: "settled" },
      { measure: "ratio", title: "limit / best", unit: "x" },
      { measure: "latency", title: "latency / service", unit: "x" },
      { measure: "early", title: "goodput, first 30 s", unit: "%" },
      goodput
    ],
    targets: [
      { measure: "converge", atMost: seconds },
      { measure: "ratio", atLeast: 0.8 },
      { measure: "ratio", atMost: 1.4 }
    ],
    play: (stack, seed) => {
      const end = places > 100 ? 60_000 : 120_000
      const result = Simulation.run({
        seed,
        duration: end,
        arrivals: [{ rate: 2 * most }],
        server: Simulation.workers({ workers: places, service }),
        client: { timeout: 2000 },
        ...(stack.protection === undefined ? {} : { protection: stack.protection })
      })
      // A second of few answers is noisy: three deviations below 95 %, and half as much latency again as the oracle has.
      const least = (0.95 - Math.max(0, 3 / Math.sqrt(most) - 0.05)) * most
      const last = result.between(end / 2, end)
      return {
        result,
        measures: {
          converge: settles(
            result,
            0,
            120_000,
            (second) => second.goodput >= least && second.mean <= (1.5 + 3 / Math.sqrt(most)) * latency
          ),
          ratio: last.limit / best,
          latency: last.mean / 50,
          early: result.between(0, 30_000).goodput / most * 100,
          goodput: last.goodput / most * 100
        }
      }
    }
  }
}

export const convergences = [convergence(4, 10), convergence(32, 2), convergence(200, 3)]
