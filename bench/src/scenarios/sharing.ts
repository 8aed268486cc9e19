import { Limit } from "@effect-resilience/core/Limit"
import { Service, Simulation } from "@effect-resilience/core/testing"
import type { Scenario } from "./scenario.js"
import { queue } from "./stacks.js"

const workers = 32
const capacity = 640

export const priority: Scenario = {
  id: 11,
  name: "priority at 2x",
  says: "load 2: 20 % critical, 30 % normal, 50 % sheddable",
  stacks: [
    { name: "knee + queue", ours: true, protection: { limit: Limit.knee(), queue } },
    { name: "no protection" },
    {
      name: "knee + queue of 16, first in first out",
      protection: { limit: Limit.knee(), queue: { ...queue, size: 16, order: "fifo" } }
    },
    { name: "limit 33, no queue", protection: { limit: Limit.fixed(33) } },
    { name: "limit 33 + queue", protection: { limit: Limit.fixed(33), queue } },
    { name: "gradient2 + queue", protection: { limit: Limit.gradient2(), queue } }
  ],
  columns: [
    { measure: "critical", title: "critical ok", unit: "%" },
    { measure: "normal", title: "normal ok", unit: "%" },
    { measure: "sheddable", title: "sheddable ok", unit: "%" },
    { measure: "goodput", title: "goodput", unit: "%" },
    { measure: "p99", title: "critical p99", unit: "ms" }
  ],
  targets: [
    { measure: "critical", atLeast: 99.9 },
    { measure: "goodput", atLeast: 99 },
    { measure: "p99 over unloaded", atMost: 1.15 }
  ],
  play: (stack, seed) => {
    const result = Simulation.run({
      seed,
      duration: 90_000,
      arrivals: [
        { rate: 0.4 * capacity, priority: "critical" },
        { rate: 0.6 * capacity, priority: "normal" },
        { rate: capacity, priority: "sheddable" }
      ],
      server: Simulation.workers({ workers, service: Service.exponential(50) }),
      client: { timeout: 1000 },
      ...(stack.protection === undefined ? {} : { protection: stack.protection })
    })
    const of = (stream: number) => result.stream(stream).between(10_000, 85_000)
    return {
      result,
      measures: {
        critical: of(0).okShare * 100,
        normal: of(1).okShare * 100,
        sheddable: of(2).okShare * 100,
        goodput: result.between(10_000, 85_000).goodput / capacity * 100,
        p99: of(0).p99,
        "p99 over unloaded": of(0).p99 / 234
      }
    }
  }
}

const quiet = 9

/** What A gets of what it wants where nobody gets more than he wants: the others leave it 0.28 of the capacity. */
const maxMin = (1 - quiet * 0.08) / 3

/** A quiet key's burst is served as it came: there is no overload of its own that the newest first would help. */
const fairQueue: Simulation.QueueOptions = { ...queue, order: "fifo", fair: true }

export const noisyNeighbour: Scenario = {
  id: 12,
  name: "noisy neighbour",
  says: `nine tenants at a load of 0.08 each, tenant A at 3; A's max-min share is ${
    (maxMin * 100).toFixed(1)
  } % of what it sends`,
  stacks: [
    { name: "knee + fair queue", ours: true, protection: { limit: Limit.knee(), queue: fairQueue } },
    { name: "no protection" },
    { name: "knee + queue, shared", protection: { limit: Limit.knee(), queue } },
    { name: "limit 33, shared", protection: { limit: Limit.fixed(33) } },
    { name: "bulkhead of 3 for each, no queue", protection: { limit: Limit.fixed(3), perKey: true } },
    { name: "bulkhead of 3 for each + queue", protection: { limit: Limit.fixed(3), queue, perKey: true } },
    {
      name: "knee + fair queue, adaptive",
      protection: { limit: Limit.knee(), queue: { ...fairQueue, order: "adaptive" } }
    },
    { name: "limit 33 + fair queue", protection: { limit: Limit.fixed(33), queue: fairQueue } }
  ],
  columns: [
    { measure: "quiet", title: "quiet ok", unit: "%" },
    { measure: "A", title: "A ok", unit: "%" },
    { measure: "A over max-min", title: "A over max-min", unit: "x" },
    { measure: "goodput", title: "goodput", unit: "%" },
    { measure: "p99", title: "quiet p99", unit: "ms" }
  ],
  targets: [
    { measure: "quiet", atLeast: 99.5 },
    { measure: "A over max-min", atLeast: 0.9 },
    { measure: "A over max-min", atMost: 1.1 },
    { measure: "goodput", atLeast: 99 }
  ],
  play: (stack, seed) => {
    const result = Simulation.run({
      seed,
      duration: 90_000,
      arrivals: [
        { rate: 3 * capacity, key: "A" },
        ...Array.from({ length: quiet }, (_, i) => ({ rate: 0.08 * capacity, key: `quiet ${i}` }))
      ],
      server: Simulation.workers({ workers, service: Service.exponential(50) }),
      client: { timeout: 1000 },
      ...(stack.protection === undefined ? {} : { protection: stack.protection })
    })
    const of = (requests: ReadonlyArray<Simulation.Request>) => result.of(requests).between(10_000, 85_000)
    const others = of(result.requests.filter(({ stream }) => stream > 0))
    const ofA = of(result.requests.filter(({ stream }) => stream === 0))
    return {
      result,
      measures: {
        quiet: others.okShare * 100,
        A: ofA.okShare * 100,
        "A over max-min": ofA.okShare / maxMin,
        goodput: result.between(10_000, 85_000).goodput / capacity * 100,
        p99: others.p99
      }
    }
  }
}

/** Five slices of 1 ms with 5 ms between: 200 in a second, 25 ms each. */
export const eventLoop: Scenario = {
  id: 13,
  name: "event loop at 3x",
  says:
    "one thread, 5 slices of 1 ms with 5 ms of waiting between, load 3; saying no takes 0.1 ms, so 96 % is the most",
  stacks: [
    { name: "knee", ours: true, protection: { limit: Limit.knee() } },
    { name: "knee + queue", protection: { limit: Limit.knee(), queue } },
    { name: "no protection" },
    { name: "limit 8 (oracle)", protection: { limit: Limit.fixed(8) } },
    { name: "gradient2", protection: { limit: Limit.gradient2() } },
    { name: "vegas", protection: { limit: Limit.vegas() } },
    { name: "aimd", protection: { limit: Limit.aimd() } }
  ],
  columns: [
    { measure: "goodput", title: "goodput", unit: "%" },
    { measure: "p50", title: "p50", unit: "ms" },
    { measure: "p99", title: "p99", unit: "ms" },
    { measure: "lag", title: "mean lag", unit: "ms" },
    { measure: "limit", title: "mean limit", unit: "limit" }
  ],
  targets: [
    { measure: "goodput", atLeast: 93 },
    { measure: "p99", atMost: 75 },
    { measure: "lag", atMost: 10 }
  ],
  play: (stack, seed) => {
    const result = Simulation.run({
      seed,
      duration: 80_000,
      arrivals: [{ rate: Simulation.steps([[0, 160], [10_000, 600]]) }],
      server: Simulation.eventLoop({ slices: 5, cpu: 1, io: 5, rejection: 0.1 }),
      client: { timeout: 1000 },
      ...(stack.protection === undefined ? {} : { protection: stack.protection })
    })
    const { goodput, lag, limit, p50, p99 } = result.between(15_000, 80_000)
    return { result, measures: { goodput: goodput / 200 * 100, p50, p99, lag, limit } }
  }
}
