import { Limit } from "@effect-resilience/core/Limit"
import { Queueing, Service, Simulation } from "@effect-resilience/core/testing"
import { describe, expect, it } from "@effect/vitest"

/*
 * What is ours in the scenarios of `npm run bench:scenarios`, shortened, on fixed seeds; all but the soaks. A figure may
 * fall short of its target by two of its deviations between seeds. Where the bench misses the target, what it measured
 * stands in its place: it must not get worse.
 */

const seeds = [11, 12, 13]
const capacity = 640
const unloaded = 234
const protection = { limit: Limit.knee(), queue: { size: 64, maxWait: 100, order: "adaptive" } } as const

const play = (
  seed: number,
  rate: Simulation.Law,
  server: Partial<Simulation.WorkersOptions>,
  timeout: number,
  duration = 60_000
) =>
  Simulation.run({
    seed,
    duration,
    arrivals: [{ rate }],
    server: Simulation.workers({ workers: 32, service: Service.exponential(50), ...server }),
    client: { timeout },
    protection
  })

const mean = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length
const atLeast = (values: ReadonlyArray<number>, target: number, deviation: number) =>
  expect(mean(values)).toBeGreaterThanOrEqual(target - 2 * deviation)
const atMost = (values: ReadonlyArray<number>, target: number, deviation: number) =>
  expect(mean(values)).toBeLessThanOrEqual(target + 2 * deviation)

describe("the default limit", () => {
  it("keeps goodput and latency in a step to three times the capacity", () => {
    const runs = seeds.map((seed) =>
      play(seed, Simulation.steps([[0, 0.8 * capacity], [10_000, 3 * capacity], [50_000, 0.8 * capacity]]), {}, 1000)
    )
    const overload = runs.map((run) => run.between(12_000, 50_000))
    atLeast(overload.map(({ goodput }) => goodput / capacity), 0.99, 0.006)
    atMost(overload.map(({ p99 }) => p99 / unloaded), 1.15, 0.046)
    atLeast(runs.map((run) => run.between(2000, 10_000).okShare), 0.999, 0.0001)
    atLeast(runs.map((run) => run.between(52_000, 58_000).okShare), 0.999, 0.001)
  })

  it("keeps goodput while the service takes five times as long, and recovers", () => {
    const runs = seeds.map((seed) =>
      play(seed, 0.6 * capacity, { slowdown: Simulation.steps([[0, 1], [10_000, 5], [50_000, 1]]) }, 2000)
    )
    atLeast(runs.map((run) => run.between(10_000, 50_000).goodput / (capacity / 5)), 0.97, 0.008)
    atLeast(runs.map((run) => run.between(52_000, 58_000).okShare), 0.99, 0.005)
  })

  it("sheds next to nothing where latency grows and capacity does not shrink", () => {
    const runs = seeds.map((seed) =>
      play(seed, capacity, { workers: 1000, slowdown: Simulation.steps([[0, 1], [20_000, 4.2]]) }, 2000, 82_000)
    )
    // As long as the scenario: what it costs to learn is shared by all that comes after.
    atLeast(runs.map((run) => run.between(20_000, 80_000).okShare), 0.98, 0.005)
  })

  it("serves all critical calls at twice the capacity", () => {
    const runs = seeds.map((seed) =>
      Simulation.run({
        seed,
        duration: 60_000,
        arrivals: [
          { rate: 0.4 * capacity, priority: "critical" },
          { rate: 0.6 * capacity, priority: "normal" },
          { rate: capacity, priority: "sheddable" }
        ],
        server: Simulation.workers({ workers: 32, service: Service.exponential(50) }),
        client: { timeout: 1000 },
        protection
      })
    )
    const critical = runs.map((run) => run.stream(0).between(10_000, 55_000))
    atLeast(critical.map(({ okShare }) => okShare), 0.999, 0.0002)
    atMost(critical.map(({ p99 }) => p99 / unloaded), 1.15, 0.01)
    atLeast(runs.map((run) => run.between(10_000, 55_000).goodput / capacity), 0.99, 0.004)
  })

  it("gives quiet tenants all they want beside a noisy one, and that one what is left", () => {
    const runs = seeds.map((seed) =>
      Simulation.run({
        seed,
        duration: 40_000,
        arrivals: [
          { rate: 3 * capacity, key: "A" },
          ...Array.from({ length: 9 }, (_, i) => ({ rate: 0.08 * capacity, key: `quiet ${i}` }))
        ],
        server: Simulation.workers({ workers: 32, service: Service.exponential(50) }),
        client: { timeout: 1000 },
        protection: { limit: Limit.knee(), queue: { ...protection.queue, order: "fifo", fair: true } }
      })
    )
    const quiet = runs.map((run) => run.of(run.requests.filter(({ stream }) => stream > 0)).between(10_000, 38_000))
    const shareOfA = runs.map((run) => run.stream(0).between(10_000, 38_000).okShare / (0.28 / 3))
    atLeast(quiet.map(({ okShare }) => okShare), 0.995, 0.001)
    atLeast(shareOfA, 0.9, 0.02)
    atMost(shareOfA, 1.1, 0.02)
    atLeast(runs.map((run) => run.between(10_000, 38_000).goodput / capacity), 0.99, 0.006)
  })

  it.each([
    { workers: 4, most: 80, least: 0.77, deviation: 0.07, goodput: 0.95, end: 60_000 },
    { workers: 32, most: capacity, least: 0.8, deviation: 0.03, goodput: 0.99, end: 30_000 }
  ])("comes near the best limit of $workers workers", ({ deviation, end, goodput, least, most, workers }) => {
    const best = Queueing.bestLimit(workers, 2)
    const runs = seeds.map((seed) => play(seed, 2 * most, { workers }, 2000, end))
    const ratios = runs.map((run) => run.between(end / 2, end).limit / best)
    atLeast(ratios, least, deviation)
    atMost(ratios, 1.4, deviation)
    // A second of few answers is noisy.
    atLeast(runs.map((run) => run.between(end / 2, end).goodput / most), goodput, 0.015)
  })

  it("keeps what it kept where each request beyond the workers is more work", () => {
    const step = Simulation.steps([[0, 0.8 * capacity], [10_000, 3 * capacity], [50_000, 0.8 * capacity]])
    const runs = seeds.map((seed) => play(seed, step, { contention: 0.02 }, 1000))
    atLeast(runs.map((run) => run.between(10_000, 50_000).goodput / capacity), 0.872, 0.025)
    atLeast(runs.map((run) => run.between(53_000, 59_000).okShare), 0.99, 0.005)
  })

  it("lets as much of an event loop work as there is, and that at once", () => {
    const runs = seeds.map((seed) =>
      Simulation.run({
        seed,
        duration: 40_000,
        arrivals: [{ rate: Simulation.steps([[0, 160], [10_000, 600]]) }],
        server: Simulation.eventLoop({ slices: 5, cpu: 1, io: 5, rejection: 0.1 }),
        client: { timeout: 1000 },
        protection: { limit: Limit.knee() }
      }).between(15_000, 40_000)
    )
    atLeast(runs.map(({ goodput }) => goodput / 200), 0.93, 0.002)
    atMost(runs.map(({ p99 }) => p99), 75, 1)
    atMost(runs.map(({ lag }) => lag), 10, 0.1)
  })
})

const retry = { retries: 3, delay: 50, jitter: "full" } as const

describe("what stands beside the limit", () => {
  it.each([0.7, 0.85])("a budget, an interruption and the limit leave the trap at a load of %s", (load) => {
    const runs = seeds.map((seed) =>
      Simulation.run({
        seed,
        duration: 40_000,
        arrivals: [{ rate: load * capacity }],
        server: Simulation.workers({
          workers: 32,
          service: Service.exponential(50),
          stalls: [{ from: 10_000, to: 20_000 }]
        }),
        client: {
          timeout: 500,
          deadline: 2000,
          interrupt: true,
          retry: { ...retry, budget: { tokensPerSuccess: 0.1, maxTokens: 50 } }
        },
        protection
      })
    )
    atLeast(runs.map((run) => run.between(22_000, 27_000).okShare), 0.97, 0.005)
    atMost(runs.map((run) => run.between(10_000, 20_000).attemptsPerRequest), 1.1, 0.001)
  })

  // A tenth of the 320 requests in a second, and a little less. With 10 % failing the bound is the target itself.
  it.each([[0.1, 0.999, 0.001], [0.3, 0.99, 0.002], [0.5, 0.99, 0.005]])(
    "a budget of a tenth of the requests helps as much as one can, and no more, with %s failing",
    (failure, target, deviation) => {
      const runs = seeds.map((seed) =>
        Simulation.run({
          seed,
          duration: 60_000,
          arrivals: [{ rate: 0.5 * capacity }],
          server: Simulation.workers({
            workers: 32,
            service: Service.exponential(50),
            failure: Simulation.steps([[0, 0], [10_000, failure]])
          }),
          client: {
            timeout: 2000,
            retry: { ...retry, budget: { tokensPerSuccess: 0, maxTokens: 50, minPerSecond: 31.7 } }
          }
        }).between(20_000, 55_000)
      )
      const bound = Math.min(1, (1 - failure) * 1.1)
      atLeast(runs.map(({ okShare }) => okShare / bound), target, deviation)
      atMost(runs.map(({ attemptsPerRequest }) => attemptsPerRequest), 1.1, 0.0002)
    }
  )

  it("a breaker and the limit spare a server that comes back cold", () => {
    const speed = (now: number) => now < 40_000 ? 1 : Math.min(1, 0.2 + 0.8 * (now - 40_000) / 10_000)
    let available = 0
    for (let at = 40_000; at < 60_000; at += 100) available += Math.min(0.8, speed(at)) * capacity / 10
    const runs = seeds.map((seed) =>
      Simulation.run({
        seed,
        duration: 70_000,
        arrivals: [{ rate: 0.8 * capacity }],
        server: Simulation.workers({
          workers: 32,
          service: Service.exponential(50),
          down: Simulation.steps([[0, 0], [10_000, 1], [40_000, 0]]),
          slowdown: (now) => 1 / speed(now)
        }),
        client: { timeout: 500 },
        protection: { ...protection, breaker: { openDuration: 1000, maxOpenDuration: 2000 } }
      })
    )
    atLeast(runs.map((run) => run.between(40_000, 60_000).goodput * 20 / available), 0.92, 0.006)
    atLeast(runs.map((run) => run.between(50_000, 60_000).okShare), 0.95, 0.005)
    atMost(runs.map((run) => run.between(40_000, 69_000).failures), 50, 17)
    for (const run of runs) {
      const circuits = run.samples.filter(({ at }) => at >= 40_000).map(({ circuit }) => circuit)
      expect(circuits.filter((now, i) => now === "Open" && circuits[i - 1] === "Closed")).toEqual([])
    }
  })
})
