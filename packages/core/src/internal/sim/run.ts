import type { Simulation } from "../../testing.js"
import { Agenda } from "./agenda.js"
import { arrive } from "./arrivals.js"
import { check } from "./check.js"
import type { Draft } from "./client.js"
import { Client } from "./client.js"
import type { Gate } from "./gate.js"
import { Circuit, Limiter, Open, PerKey } from "./gate.js"
import { SeededRandom } from "./random.js"
import { EventLoop, Workers } from "./server.js"

/** Each part has its own random numbers; arrivals come last, one for each stream. */
const streams = { service: 0, client: 1, limit: 2, breaker: 3, arrivals: 4 }

/** @internal */
export const run = <State>(options: Simulation.Options<State>): {
  readonly requests: ReadonlyArray<Simulation.Request>
  readonly samples: ReadonlyArray<Simulation.Sample>
} => {
  const { arrivals, client: clientOptions = {}, duration, protection = {}, ...checked } = check(options)
  const { sampleEvery: every = 100, seed, server: serverOptions } = checked
  const agenda = new Agenda()
  const random = (stream: number) => new SeededRandom(seed, stream)
  const server = serverOptions._tag === "Workers"
    ? new Workers(serverOptions, agenda, random(streams.service))
    : new EventLoop(serverOptions, agenda)
  const { limit, perKey, queue } = protection
  const chance = random(streams.limit)
  const make = (): Gate => limit === undefined ? new Open() : new Limiter(limit, queue, agenda, chance)
  const limiter = perKey === true ? new PerKey(make) : make()
  const gate = protection.breaker === undefined
    ? limiter
    : new Circuit(protection.breaker, limiter, agenda, random(streams.breaker))
  const client = new Client(clientOptions, gate, server, agenda, random(streams.client))

  const requests: Array<Draft> = []
  arrivals.forEach((arrival, stream) =>
    arrive(agenda, arrival.rate, duration, random(streams.arrivals + stream), () => {
      const request: Draft = { stream, at: agenda.now, end: Infinity, attempts: 0, failures: 0, outcome: "unanswered" }
      requests.push(request)
      client.send(request, arrival)
    })
  )

  const samples: Array<Simulation.Sample> = []
  const sample = (): void => {
    samples.push({ at: agenda.now, ...gate.observe(), lag: server.lag() })
    if (agenda.now + every <= duration) agenda.after(every, sample)
  }
  sample()
  agenda.runUntil(duration)
  return { requests, samples }
}
