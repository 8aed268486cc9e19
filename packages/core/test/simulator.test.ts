import { Limit } from "@effect-resilience/core/Limit"
import { Queueing, Service, Simulation } from "@effect-resilience/core/testing"
import { describe, expect, it } from "@effect/vitest"
import { Agenda } from "../src/internal/sim/agenda.js"
import { SeededRandom } from "../src/internal/sim/random.js"

const { fixed } = Limit

const seeds = Array.from({ length: 20 }, (_, i) => i + 1)

/**
 * The mean over the seeds agrees with the formula within four standard errors, which the seeds themselves tell; and those
 * errors are small enough for the test to say something.
 */
const agrees = (measured: ReadonlyArray<number>, expected: number, precision: number) => {
  const mean = measured.reduce((sum, value) => sum + value, 0) / measured.length
  const variance = measured.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (measured.length - 1)
  const error = Math.sqrt(variance / measured.length)
  expect(error / expected).toBeLessThan(precision)
  expect(Math.abs(mean - expected)).toBeLessThan(4 * error)
}

describe("random numbers and time", () => {
  it("gives one sequence for a seed and unlike ones for neighbours", () => {
    const draw = (seed: number, stream: number) => {
      const random = new SeededRandom(seed, stream)
      return Array.from({ length: 100 }, () => random.next())
    }
    expect(draw(1, 0)).toEqual(draw(1, 0))
    expect(draw(1, 0)).not.toEqual(draw(2, 0))
    expect(draw(1, 0)).not.toEqual(draw(1, 1))
    expect(draw(1, 0).every((value) => value >= 0 && value < 1)).toBe(true)
  })

  it("has the moments of its laws", () => {
    const n = 200_000
    const random = new SeededRandom(7, 0)
    const laws = [
      { law: Service.exponential(50), mean: 50, deviation: 50 },
      { law: Service.lognormal(50, 2), mean: 50, deviation: 100 },
      { law: Service.bimodal(20, 320, 0.1), mean: 50, deviation: Math.sqrt(0.9 * 800 + 0.1 * 204_800 - 2500) },
      { law: Service.deterministic(50), mean: 50, deviation: 0 },
      { law: Service.empirical([40, 60]), mean: 50, deviation: 10 }
    ]
    for (const { deviation, law, mean } of laws) {
      let sum = 0
      for (let i = 0; i < n; i++) sum += law(random, { now: 0, inFlight: 1 })
      expect(Math.abs(sum / n - mean)).toBeLessThanOrEqual(4 * deviation / Math.sqrt(n))
    }
  })

  it("lets things happen in order of time, then of asking, and not what was cancelled", () => {
    const agenda = new Agenda()
    const random = new SeededRandom(3, 0)
    const times = Array.from({ length: 1000 }, () => Math.floor(random.next() * 100))
    const seen: Array<number> = []
    const entries = times.map((time, i) => agenda.at(time, () => seen.push(i)))
    for (let i = 0; i < 1000; i += 3) agenda.cancel(entries[i]!)
    agenda.runUntil(49)
    const due = times.map((time, i) => ({ i, time })).filter(({ i, time }) => i % 3 !== 0 && time <= 49)
    expect(seen).toEqual(due.sort((a, b) => a.time - b.time || a.i - b.i).map(({ i }) => i))
    expect(agenda.now).toBe(49)
  })
})

describe("queueing theory", () => {
  it.each([[1, 0.5], [1, 0.8], [4, 0.8], [32, 0.9]])(
    "waits as Erlang C says, with %i workers at a load of %f",
    (workers, load) => {
      const service = 10
      const rate = load * workers / service * 1000
      // Where little waits, it takes more requests to see the wait.
      const duration = 40_000 / rate * 1000
      const waits = seeds.map((seed) =>
        Simulation.run({
          seed,
          duration,
          arrivals: [{ rate }],
          server: Simulation.workers({ workers, service: Service.exponential(service) })
        }).between(duration * 0.05, duration).mean
      )
      const wait = Queueing.waits(workers, load) * service / (workers * (1 - load))
      agrees(waits, service + wait, 0.03)
    }
  )

  it.each([[1, 0.8, 4], [4, 2, 8], [32, 1, 40], [32, 3, 33]])(
    "loses as M/M/c/K says, with %i workers at a load of %f and %i places",
    (workers, load, places) => {
      const service = 10
      const rate = load * workers / service * 1000
      const duration = 15_000 / rate * 1000
      const runs = seeds.map((seed) =>
        Simulation.run({
          seed,
          duration,
          arrivals: [{ rate }],
          server: Simulation.workers({ workers, service: Service.exponential(service) }),
          protection: { limit: fixed(places) },
          sampleEvery: 10
        }).between(duration * 0.05, duration)
      )
      agrees(runs.map(({ offered, rejected }) => rejected / offered), Queueing.loss(workers, load, places), 0.03)
      const capacity = workers / service * 1000
      agrees(runs.map(({ goodput }) => goodput / capacity), Queueing.throughput(workers, load, places), 0.03)
      agrees(runs.map(({ inFlight }) => inFlight), Queueing.meanInside(workers, load, places), 0.03)
    }
  )

  it("knows the best limits of the literature's table", () => {
    expect([2, 3].map((load) => Queueing.bestLimit(4, load))).toEqual([8, 7])
    expect([1.5, 2, 3, 1.05, 1].map((load) => Queueing.bestLimit(32, load))).toEqual([36, 34, 33, 62, 125])
    expect(Queueing.bestLimit(200, 2)).toBe(200)
  })

  it("brings as many requests as the rate says, where it changes", () => {
    const counts = seeds.map((seed) => {
      const result = Simulation.run({
        seed,
        duration: 30_000,
        arrivals: [{ rate: Simulation.steps([[0, 500], [10_000, 1500], [20_000, 500]]) }],
        server: Simulation.workers({ workers: 1000, service: Service.deterministic(1) })
      })
      return [result.between(0, 10_000), result.between(10_000, 20_000), result.between(20_000, 30_000)]
    })
    for (const [part, expected] of [[0, 5000], [1, 15_000], [2, 5000]] as const) {
      agrees(counts.map((parts) => parts[part]!.offered), expected, 0.01)
    }
  })
})

describe("the server", () => {
  const one = (server: Partial<Simulation.WorkersOptions>, client: Simulation.ClientOptions = {}) =>
    Simulation.run({
      seed: 1,
      duration: 10_000,
      arrivals: [{ rate: (now) => now < 1000 ? 5 : 0 }],
      server: Simulation.workers({ workers: 100, service: Service.deterministic(100), ...server }),
      client
    })

  it("works slower, answers later, stops, fails", () => {
    const latency = ({ at, end }: Simulation.Request) => Math.round(end - at)
    const all = (result: ReturnType<typeof one>) => new Set(result.requests.map(latency))
    expect(all(one({}))).toEqual(new Set([100]))
    expect(all(one({ slowdown: 5 }))).toEqual(new Set([500]))
    expect(all(one({ delay: 160 }))).toEqual(new Set([260]))
    expect(one({ failure: 1 }).requests.every(({ outcome }) => outcome === "failed")).toBe(true)
    expect(one({ down: 1 }).requests.every(({ at, end }) => at === end)).toBe(true)
    for (const { at, end } of one({ stalls: [{ from: 0, to: 1000 }, { from: 1050, to: 2000 }] }).requests) {
      expect(end).toBeCloseTo(at <= 1000 ? 2050 : 2000 + Math.min(100, 100 - Math.max(0, 1050 - at)))
    }
  })

  it("gives up, and frees the server only where it is told", () => {
    const busy = (interrupt: boolean) =>
      one({ workers: 1, service: Service.deterministic(400) }, { timeout: 100, interrupt })
    expect(busy(false).requests.every(({ at, end, outcome }) => outcome === "timedOut" && end - at < 100.001)).toBe(
      true
    )
    expect(busy(true).samples.at(-1)?.inFlight).toBe(0)
    const at = (result: ReturnType<typeof one>, time: number) =>
      result.samples.find((sample) => sample.at >= time)?.inFlight
    expect(at(busy(true), 1100)).toBe(0)
    expect(at(busy(false), 1100)).toBeGreaterThan(0)
  })

  it("tells a limit nothing of a call that is interrupted, as the classification does", () => {
    const ended = (interrupt: boolean) => {
      const told = { ignore: 0, drop: 0, sample: 0 }
      const count = (what: keyof typeof told) => (state: unknown) => {
        told[what]++
        return state
      }
      const limit = { ...fixed(10), onIgnore: count("ignore"), onDrop: count("drop"), onSample: count("sample") }
      Simulation.run({
        seed: 1,
        duration: 10_000,
        arrivals: [{ rate: (now) => now < 5000 ? 10 : 0 }],
        server: Simulation.workers({ workers: 10, service: Service.deterministic(400) }),
        client: { timeout: 100, interrupt },
        protection: { limit }
      })
      return told
    }
    expect(ended(true)).toMatchObject({ drop: 0, sample: 0 })
    expect(ended(true).ignore).toBeGreaterThan(10)
    expect(ended(false)).toMatchObject({ ignore: 0, sample: 0 })
    expect(ended(false).drop).toBeGreaterThan(10)
  })

  it("tries again as often as it may, and as its budget pays for", () => {
    const dead = (retry: Simulation.RetryOptions) =>
      Simulation.run({
        seed: 1,
        duration: 20_000,
        arrivals: [{ rate: (now) => now < 10_000 ? 100 : 0 }],
        server: Simulation.workers({ workers: 10, service: Service.deterministic(1), failure: 1 }),
        client: { retry }
      }).summary
    expect(dead({ retries: 3 }).attemptsPerRequest).toBe(4)
    const paid = dead({ retries: 3, budget: { maxTokens: 20 } })
    expect(paid.failures).toBe(paid.offered + 20)
  })

  it("is shut out by its breaker, which probes", () => {
    const result = Simulation.run({
      seed: 1,
      duration: 30_000,
      arrivals: [{ rate: 100 }],
      server: Simulation.workers({
        workers: 10,
        service: Service.deterministic(10),
        down: Simulation.steps([[5000, 1], [10_000, 0]])
      }),
      protection: { breaker: { consecutiveFailures: 20 } }
    })
    const outage = result.between(6000, 10_000)
    expect(result.between(0, 5000).okShare).toBe(1)
    // Three probes from time to time.
    expect(outage.failures).toBeLessThan(10)
    expect(result.between(20_000, 29_000).okShare).toBe(1)
  })

  it("does the same for one seed", () => {
    const play = () =>
      Simulation.run({
        seed: 5,
        duration: 5000,
        arrivals: [{ rate: 200 }, { rate: 50, priority: "critical" }],
        server: Simulation.workers({ workers: 4, service: Service.lognormal(30, 1), contention: 0.02 }),
        client: { timeout: 300, retry: { retries: 2, budget: {} } },
        protection: { limit: fixed(6), queue: { size: 10 }, breaker: {} }
      })
    expect(play().requests).toEqual(play().requests)
  })

  it("refuses numbers that are none, by name", () => {
    const options = {
      seed: 1,
      duration: 1000,
      arrivals: [{ rate: 1 }],
      server: Simulation.workers({ workers: 1, service: Service.deterministic(1) })
    }
    expect(() => Simulation.run(options)).not.toThrow()
    for (const bad of [NaN, -1, Infinity]) {
      expect(() => Simulation.run({ ...options, duration: bad })).toThrow(`Simulation "run": option duration must be`)
      expect(() => Simulation.run({ ...options, arrivals: [{ rate: bad }] })).toThrow(`"arrivals": option rate must be`)
      const server = Simulation.workers({ workers: bad, service: Service.deterministic(1) })
      expect(() => Simulation.run({ ...options, server })).toThrow(`"server": option workers must be`)
      if (bad !== Infinity) {
        expect(() => Simulation.run({ ...options, client: { timeout: bad } })).toThrow(
          `"client": option timeout must be`
        )
      }
    }
    expect(() => Simulation.run({ ...options, seed: 0.5 })).toThrow(`option seed must be an integer`)
    const queue = { size: 1, fair: { weight: () => 0 } }
    expect(() =>
      Simulation.run({ ...options, arrivals: [{ rate: 9, key: "k" }], protection: { limit: fixed(1), queue } })
    ).toThrow(`Simulation "queue": option fair.weight must be a number from 0.01 to 100 of each key, but is 0`)
    const fair = 1 as unknown as boolean
    expect(() => Simulation.run({ ...options, protection: { limit: fixed(1), queue: { size: 1, fair } } })).toThrow(
      `Simulation "queue": option fair must be true, false, or { weight }`
    )
    expect(() => Simulation.run({ ...options, arrivals: [{ rate: 1, key: 1 as unknown as string }] })).toThrow(
      `Simulation "arrivals": option key must be a string`
    )
  })

  describe("refuses what is none", () => {
    const server = Simulation.workers({ workers: 1, service: Service.deterministic(1) })
    const options = { seed: 1, duration: 1000, arrivals: [{ rate: 100 }], server }
    const run = (over: object) => () => Simulation.run({ ...options, ...over } as Simulation.Options)
    const work = (over: object) => run({ server: { ...server, ...over } })
    const behind = (over: object) => run({ protection: { limit: fixed(1), ...over } })

    it.each<[string, () => unknown, string]>([
      ["a service that gives NaN", work({ service: () => NaN }), `"server": option service must give numbers`],
      ["a service below 0", work({ service: () => -1 }), "gave -1"],
      ["a slowdown that gives NaN", work({ slowdown: () => NaN }), `"server": option slowdown must give numbers`],
      ["a rate that gives NaN", run({ arrivals: [{ rate: () => NaN }] }), `"arrivals": option rate must give numbers`],
      ["a rate without an end", run({ arrivals: [{ rate: () => Infinity }] }), "gave Infinity"],
      [
        "stalls out of order",
        work({ stalls: [{ from: 9, to: 10 }, { from: 1, to: 2 }] }),
        "option stalls must be a list"
      ],
      ["no arrivals", run({ arrivals: [] }), `"run": option arrivals must be a list of one stream or more`],
      ["no server", run({ server: { workers: 1 } }), `"run": option server must be Simulation.workers(`],
      [
        "a priority",
        run({ arrivals: [{ rate: 1, priority: "urgent" }] }),
        `"arrivals": option priority must be one of`
      ],
      ["an order", behind({ queue: { size: 1, order: "random" } }), `"queue": option order must be one of`],
      [
        "a queue without a limit",
        run({ protection: { queue: { size: 1 } } }),
        `option limit must be given where there is`
      ],
      [
        "a limit that is a number",
        run({ protection: { limit: 16 } }),
        "must be a Limit, such as Limit.fixed(16), but is 16"
      ],
      ["a service that is a number", work({ service: 50 }), "must be a function, such as Service.deterministic(50)"],
      ["a client that is a number", run({ client: 5 }), `"run": option client must be an object`],
      ["an option of the run", run({ sead: 1 }), `"run": has no option "sead"`],
      ["an option of arrivals", run({ arrivals: [{ rate: 1, kee: "" }] }), `"arrivals": has no option "kee"`],
      ["an option of the server", work({ worker: 1 }), `"server": has no option "worker"`],
      ["an option of clients", run({ client: { retries: 3 } }), `"client": has no option "retries"`],
      ["an option of retries", run({ client: { retry: { retries: 1, times: 1 } } }), `"retry": has no option "times"`],
      ["an option of protection", behind({ limits: 1 }), `"protection": has no option "limits"`],
      ["an option of the queue", behind({ queue: { size: 1, maxwait: 1 } }), `"queue": has no option "maxwait"`],
      ["an option of the breaker", behind({ breaker: { openFor: 1 } }), `"breaker": has no option "openFor"`],
      ["steps out of order", () => Simulation.steps([[5, 1], [0, 2]]), `"steps": option steps must be a list`],
      ["nothing measured", () => Service.empirical([]), `"empirical": option times must be a list of one number`],
      ["a time below 0", () => Service.empirical([1, -1]), `"empirical": option times must be`],
      ["a stream that is not there", () => run({})().stream(9), `option index must be the place of a stream`],
      ["a span that goes back", () => run({})().between(900, 100), "option to must be after from (900), but is 100"],
      ["spans of no length", () => run({})().every(0), "option span must be a number above 0, but is 0"]
    ])("%s", (_, play, message) => {
      expect(run({})).not.toThrow()
      expect(play).toThrow(message)
    })
  })

  it("asks how long work takes with the time and the number in the server", () => {
    const seen: Array<Simulation.Moment> = []
    const service: Simulation.Service = (_, at) => {
      seen.push(at)
      return 100 * at.inFlight
    }
    const { requests } = Simulation.run({
      seed: 1,
      duration: 1000,
      arrivals: [{ rate: 30 }],
      server: Simulation.workers({ workers: 100, service })
    })
    expect(seen).toHaveLength(requests.length)
    expect(seen.map(({ now }) => now)).toEqual(requests.map(({ at }) => at))
    expect(seen[0]?.inFlight).toBe(1)
    expect(Math.max(...seen.map(({ inFlight }) => inFlight))).toBeGreaterThan(3)
    for (const [i, { at, end }] of requests.entries()) {
      if (end < Infinity) expect(end - at).toBeCloseTo(100 * (seen[i]?.inFlight ?? 0))
    }
  })

  it("counts in spans what it counts as a whole", () => {
    const result = one({})
    const spans = result.every(1000)
    expect(spans.reduce((sum, { offered }) => sum + offered, 0)).toBe(result.summary.offered)
    expect(spans.reduce((sum, { goodput }) => sum + goodput, 0)).toBeCloseTo(result.summary.goodput * 10)
  })
})

describe("streams with keys", () => {
  /** A and B want twice the capacity each, C a tenth of it. */
  const shares = (protection: Simulation.ProtectionOptions<any>, key: (name: string) => { readonly key?: string }) => {
    const result = Simulation.run({
      seed: 1,
      duration: 40_000,
      arrivals: [{ rate: 400, ...key("A") }, { rate: 400, ...key("B") }, { rate: 20, ...key("C") }],
      server: Simulation.workers({ workers: 10, service: Service.exponential(50) }),
      protection
    })
    return [0, 1, 2].map((stream) => result.stream(stream).between(5000, 40_000).goodput)
  }
  const named = (key: string) => ({ key })
  const queue = { size: 40, order: "fifo" } as const

  it("share a fair queue, by their weights", () => {
    const [a, b, c] = shares({ limit: fixed(10), queue: { ...queue, fair: true } }, named) as [number, number, number]
    expect([a / 90, b / 90, c / 20].every((part) => part > 0.95 && part < 1.05)).toBe(true)
    const fair = { weight: (key: string) => key === "A" ? 3 : 1 }
    const [more, less, few] = shares({ limit: fixed(10), queue: { ...queue, fair } }, named) as [number, number, number]
    expect([more / 135, less / 45, few / 20].every((part) => part > 0.9 && part < 1.1)).toBe(true)
    // Without keys they share a line, and one that is not fair knows of none.
    for (const [line, key] of [[{ ...queue, fair: true }, () => ({})], [queue, named]] as const) {
      expect(shares({ limit: fixed(10), queue: line }, key)[2]).toBeLessThan(10)
    }
  })

  it("have limits of their own", () => {
    const [a, b, c] = shares({ limit: fixed(2), perKey: true }, named) as [number, number, number]
    // Two workers each, so that the server never is full.
    const parts = [
      a / (40 * Queueing.throughput(2, 10, 2)),
      b / (40 * Queueing.throughput(2, 10, 2)),
      c / (40 * Queueing.throughput(2, 0.5, 2))
    ]
    expect(parts.every((part) => part > 0.9 && part < 1.1)).toBe(true)
  })
})

describe("an event loop", () => {
  const loop = (rate: number, limit?: number) =>
    Simulation.run({
      seed: 1,
      duration: 20_000,
      arrivals: [{ rate }],
      server: Simulation.eventLoop({ slices: 5, cpu: 1, io: 5, rejection: 0.1 }),
      client: { timeout: 1000 },
      ...(limit === undefined ? {} : { protection: { limit: fixed(limit) } })
    }).between(5000, 20_000)

  it("takes its slices when it is alone", () => {
    expect(loop(1).p50).toBeCloseTo(25)
  })

  it("pays for saying no", () => {
    const ceiling = 200 * (1 - 2 * 0.02)
    expect(loop(600).goodput).toBeLessThan(5)
    expect(loop(600, 8).goodput / ceiling).toBeGreaterThan(0.97)
    expect(loop(600, 8).goodput / ceiling).toBeLessThan(1.01)
  })
})
