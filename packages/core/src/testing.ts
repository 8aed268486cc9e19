/**
 * Replays a load against a service and its protection, in virtual time: what would this limit, this queue, this retry
 * budget have done? The patterns that are driven are the real ones, by their pure parts; the rest is queueing theory.
 *
 * Nothing here runs an effect. A minute of a thousand requests in a second takes some tenths of a second, and one seed
 * gives one result.
 *
 * @since 0.1.0
 */
import type { FairQueue } from "./FairQueue.js"
import { refuse } from "./internal/sim/check.js"
import * as queueing from "./internal/sim/queueing.js"
import type { SeededRandom } from "./internal/sim/random.js"
import { run } from "./internal/sim/run.js"
import { summarize } from "./internal/sim/summary.js"
import type { Limit } from "./Limit.js"
import type { Priority } from "./Priority.js"

/**
 * What a simulation gave.
 *
 * @since 0.1.0
 * @category models
 */
export class SimulationResult {
  constructor(
    /** Every request, in the order in which they came. */
    readonly requests: ReadonlyArray<Simulation.Request>,
    /** The state of the protection over time. */
    readonly samples: ReadonlyArray<Simulation.Sample>,
    readonly duration: number,
    /** How many streams of requests there were. */
    readonly streams: number
  ) {}

  /** Figures between two moments: `result.between(20_000, 80_000)`. */
  between(from: number, to: number): Simulation.Summary {
    if (!(from < to)) refuse("between", "to", to, `after from (${from})`)
    return summarize(this.requests, this.samples, from, to)
  }

  /** Figures of the whole. */
  get summary(): Simulation.Summary {
    return this.between(0, this.duration)
  }

  /** Only these requests. */
  of(requests: ReadonlyArray<Simulation.Request>): SimulationResult {
    return new SimulationResult(requests, this.samples, this.duration, this.streams)
  }

  /** Only the requests of one stream, by its place in the list of arrivals. The samples stay those of the whole. */
  stream(index: number): SimulationResult {
    if (!Number.isInteger(index) || index < 0 || index >= this.streams) {
      refuse("stream", "index", index, `the place of a stream, an integer from 0 to ${this.streams - 1}`)
    }
    return this.of(this.requests.filter(({ stream }) => stream === index))
  }

  /** Figures of spans in a row, or of spans that overlap: one begins each `step`. */
  every(span: number, step = span): ReadonlyArray<Simulation.Summary & { readonly at: number }> {
    if (!(span > 0)) refuse("every", "span", span, "a number above 0")
    if (!(step > 0)) refuse("every", "step", step, "a number above 0")
    const count = Math.max(0, Math.floor((this.duration - span) / step) + 1)
    const spans = Array.from({ length: count }, (): Array<Simulation.Request> => [])
    const first = (time: number) => Math.max(0, Math.floor((time - span) / step) + 1)
    const last = (time: number) => Math.min(count - 1, Math.floor(time / step))
    for (const request of this.requests) {
      const { at, end } = request
      for (let i = first(at); i <= last(at); i++) spans[i]?.push(request)
      for (let i = Math.max(first(end), last(at) + 1); i <= last(end); i++) spans[i]?.push(request)
    }
    return spans.map((requests, i) => ({
      at: i * step,
      ...summarize(requests, this.samples, i * step, i * step + span)
    }))
  }
}

/**
 * @example
 * import { Service, Simulation } from "@effect-resilience/core/testing"
 *
 * const result = Simulation.run({
 *   seed: 1,
 *   duration: 60_000,
 *   arrivals: [{ rate: 1920 }],
 *   server: Simulation.workers({ workers: 32, service: Service.exponential(50) }),
 *   client: { timeout: 1000 }
 * })
 * result.between(10_000, 60_000).goodput
 *
 * @since 0.1.0
 * @category constructors
 */
export const Simulation = {
  /** Runs it to its end. */
  run: <State = never>(options: Simulation.Options<State>): SimulationResult => {
    const { requests, samples } = run(options)
    return new SimulationResult(requests, samples, options.duration, options.arrivals.length)
  },

  /** So many workers behind a queue without a bound, first in, first out. */
  workers: (options: Simulation.WorkersOptions): Simulation.Server => ({ _tag: "Workers", ...options }),

  /** One thread with an event loop, as in Node: slices of CPU with input and output between. Saying no costs CPU, too. */
  eventLoop: (options: Simulation.EventLoopOptions): Simulation.Server => ({ _tag: "EventLoop", ...options }),

  /** A law that changes at moments, in their order: `Simulation.steps([[0, 512], [20_000, 1920]])`. Before it is 0. */
  steps: (steps: ReadonlyArray<readonly [from: number, value: number]>): Simulation.Law => {
    if (steps.some(([from], i) => !(from >= (steps[i - 1]?.[0] ?? -Infinity)))) {
      refuse("steps", "steps", steps, "a list of [from, value] in the order of time")
    }
    return (now) => steps.reduce((value, [from, next]) => from <= now ? next : value, 0)
  }
} as const

/**
 * How long the work of a request takes, in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export const Service = {
  /** Always the same. */
  deterministic: (mean: number): Simulation.Service => () => mean,

  /** Without memory. */
  exponential: (mean: number): Simulation.Service => (random) => mean * random.exponential(),

  /** Skewed. `cv` is the deviation over the mean. */
  lognormal: (mean: number, cv: number): Simulation.Service => {
    const variance = Math.log(1 + cv * cv)
    return (random) => mean * Math.exp(Math.sqrt(variance) * random.normal() - variance / 2)
  },

  /** A share of slow requests among quick ones, each kind exponential. */
  bimodal: (quick: number, slow: number, share: number): Simulation.Service => (random) =>
    (random.next() < share ? slow : quick) * random.exponential(),

  /** As measured: one of these, by chance. */
  empirical: (times: ReadonlyArray<number>): Simulation.Service => {
    if (times.length === 0 || times.some((time) => !(time >= 0 && time < Infinity))) {
      refuse("empirical", "times", times, "a list of one number or more, none below 0")
    }
    return (random) => times[Math.floor(random.next() * times.length)] ?? NaN
  }
} as const

/**
 * Formulas to compare with, for Poisson arrivals and exponential service. `load` is what is offered over the capacity.
 *
 * @since 0.1.0
 * @category models
 */
export const Queueing = {
  /** Share of requests that wait at so many workers and a queue without a bound (Erlang C). */
  waits: queueing.waits,

  /** Share of requests lost with places for so many, those in work included (M/M/c/K). */
  loss: queueing.loss,

  /** Throughput over capacity with places for so many. */
  throughput: queueing.throughput,

  /** Mean number of requests inside. */
  meanInside: queueing.meanInside,

  /** The smallest limit that lets through so much of what there is to have: what a limiter would find that knew all. */
  bestLimit: (workers: number, load: number, share = 0.99): number => queueing.best(workers, load, share)
} as const

/**
 * @since 0.1.0
 */
export declare namespace Simulation {
  /**
   * A number that may change over time: of the milliseconds since the start.
   *
   * @since 0.1.0
   * @category models
   */
  export type Law = number | ((now: number) => number)

  /**
   * Seeded random numbers: `next()` from 0 to 1, `exponential()` of mean 1, `normal()` of mean 0 and deviation 1. None
   * takes an argument.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Random extends Pick<SeededRandom, "next" | "exponential" | "normal"> {}

  /**
   * The server when the work of a request begins.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Moment {
    /** Milliseconds since the start. */
    readonly now: number
    /** Requests in the server, this one and those that wait for a worker included. */
    readonly inFlight: number
  }

  /**
   * The milliseconds of work of a request, asked when it begins.
   *
   * @since 0.1.0
   * @category models
   */
  export type Service = (random: Random, at: Moment) => number

  /**
   * A part of the time, in milliseconds since the start.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Span {
    readonly from: number
    readonly to: number
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options<State = never> {
    /** A whole number. One seed gives one result. */
    readonly seed: number
    /** Milliseconds of virtual time. */
    readonly duration: number
    /** The streams of requests. They come whether or not earlier ones were answered. */
    readonly arrivals: ReadonlyArray<ArrivalOptions>
    /** What does the work: `Simulation.workers` or `Simulation.eventLoop`. */
    readonly server: Server
    /** How long callers wait, and what they do then. Defaults to callers that wait for ever. */
    readonly client?: ClientOptions | undefined
    /** What stands before the server. Defaults to nothing. */
    readonly protection?: ProtectionOptions<State> | undefined
    /** Milliseconds between two looks at the protection. Defaults to 100. */
    readonly sampleEvery?: number | undefined
  }

  /**
   * A Poisson stream.
   *
   * @since 0.1.0
   * @category models
   */
  export interface ArrivalOptions {
    /** Requests in a second. */
    readonly rate: Law
    /** How important they are. Defaults to `"normal"`. */
    readonly priority?: Priority.Level | undefined
    /** Whose they are, to a queue that is fair. Defaults to nobody's, who share a line. */
    readonly key?: string | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export type Server =
    | ({ readonly _tag: "Workers" } & WorkersOptions)
    | ({ readonly _tag: "EventLoop" } & EventLoopOptions)

  /**
   * @since 0.1.0
   * @category models
   */
  export interface WorkersOptions {
    /** Requests worked on at once. */
    readonly workers: number
    /** The work of one. */
    readonly service: Service
    /** The work is so many times as much. Defaults to 1. */
    readonly slowdown?: Law | undefined
    /** Milliseconds between the end of the work and the answer: they hold no worker. Defaults to 0. */
    readonly delay?: Law | undefined
    /** Extra work, as a share, for each request in the server beyond its workers. Defaults to 0. */
    readonly contention?: number | undefined
    /** Share of requests that fail when their work is done. Defaults to 0. */
    readonly failure?: Law | undefined
    /** Above 0 the server is not there: requests fail at once. Defaults to 0. */
    readonly down?: Law | undefined
    /** When nothing moves, in order. Defaults to never. */
    readonly stalls?: ReadonlyArray<Span> | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface EventLoopOptions {
    /** Slices of CPU that a request takes. */
    readonly slices: number
    /** Milliseconds of CPU of a slice. */
    readonly cpu: number
    /** Milliseconds of input and output between two slices. */
    readonly io: number
    /** Milliseconds of CPU that it takes to say no. */
    readonly rejection: number
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface ClientOptions {
    /** Milliseconds that a caller waits for an attempt. Defaults to for ever. */
    readonly timeout?: number | undefined
    /** Milliseconds for all attempts together. Defaults to for ever. */
    readonly deadline?: number | undefined
    /**
     * Whether the call is interrupted when the caller gives up: the server stops its work, and the patterns ignore it, as
     * `classify` does. Otherwise they see a failure when the answer comes. Defaults to `false`.
     */
    readonly interrupt?: boolean | undefined
    /** Further attempts after one that failed. Defaults to none. */
    readonly retry?: RetryOptions | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface RetryOptions {
    /** At most so many, beside the first attempt. */
    readonly retries: number
    /** Milliseconds before the first, doubled from one to the next. Defaults to 50. */
    readonly delay?: number | undefined
    /** The longest of these. Defaults to 5000. */
    readonly maxDelay?: number | undefined
    /** How they are spread. Defaults to `"full"`. */
    readonly jitter?: "full" | "equal" | "none" | undefined
    /** Whether one tries again after a rejection. Defaults to `true`. */
    readonly rejected?: boolean | undefined
    /** What limits retries, shared by all callers. Defaults to nothing. */
    readonly budget?: BudgetOptions | undefined
  }

  /**
   * A `RetryBudget`.
   *
   * @since 0.1.0
   * @category models
   */
  export interface BudgetOptions {
    /** What a success earns. Defaults to 0.1. */
    readonly tokensPerSuccess?: number | undefined
    /** At most so many are kept. Defaults to 50. */
    readonly maxTokens?: number | undefined
    /** Retries in a second that are always there. Defaults to 0. */
    readonly minPerSecond?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface ProtectionOptions<State = never> {
    /** How many run at once. Defaults to no limit. */
    readonly limit?: Limit<State> | undefined
    /** The queue before the limit. Defaults to none. */
    readonly queue?: QueueOptions | undefined
    /** Whether each key has a limit and a queue of its own, as in a `Bulkhead.Keyed`. Defaults to `false`. */
    readonly perKey?: boolean | undefined
    /** A circuit breaker outside the limit. Defaults to none. */
    readonly breaker?: BreakerOptions | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface QueueOptions {
    /** How many may wait. */
    readonly size: number
    /** Milliseconds that one waits. Defaults to 100. */
    readonly maxWait?: number | undefined
    /** Who goes first of the highest priority that waits. Defaults to `"adaptive"`. */
    readonly order?: "fifo" | "lifo" | "adaptive" | undefined
    /** Whether it is fair between the keys of the streams, and by what weights. Defaults to `false`. */
    readonly fair?: boolean | FairQueue.Options | undefined
  }

  /**
   * A `CircuitBreaker`, whose times are milliseconds here.
   *
   * @since 0.1.0
   * @category models
   */
  export interface BreakerOptions {
    /** Share of failures that opens it. Defaults to 0.5. */
    readonly failureRate?: number | undefined
    /** Failures in a row that open it. Defaults to 5. */
    readonly consecutiveFailures?: number | false | undefined
    /** Calls that the rate needs. Defaults to 20. */
    readonly minimumCalls?: number | undefined
    /** How far back it looks. Defaults to 30 s. */
    readonly window?: number | undefined
    /** How long it is open, doubled from one opening to the next. Defaults to 5 s. */
    readonly openDuration?: number | undefined
    /** The longest of these. Defaults to a minute. */
    readonly maxOpenDuration?: number | undefined
    /** Probes at once. Defaults to 3. */
    readonly halfOpenMaxCalls?: number | undefined
    /** Probes that must succeed. Defaults to 2. */
    readonly successThreshold?: number | undefined
    /** How long traffic grows after it closed. Defaults to at once. */
    readonly rampUp?: number | undefined
  }

  /**
   * How a request ended. The last attempt decides; `"unanswered"` ones were under way at the end.
   *
   * @since 0.1.0
   * @category models
   */
  export type Outcome = "ok" | "rejected" | "failed" | "timedOut" | "unanswered"

  /**
   * A request, with times in milliseconds since the start.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Request {
    /** Its place in the list of arrivals. */
    readonly stream: number
    readonly at: number
    /** When its caller knew; infinite for those under way at the end. */
    readonly end: number
    readonly outcome: Outcome
    readonly attempts: number
    /** Attempts that failed or timed out, so were sent in vain. */
    readonly failures: number
  }

  /**
   * The protection at a moment.
   *
   * @since 0.1.0
   * @category models
   */
  export interface GateState {
    readonly limit: number
    readonly inFlight: number
    readonly waiting: number
    readonly baseline: number | undefined
    /** Why the limit changed last. */
    readonly reason: string
    readonly circuit: string
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Sample extends GateState {
    readonly at: number
    /** Mean milliseconds that work waited in the server since the sample before. */
    readonly lag: number
  }

  /**
   * Figures of a part of the time.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Summary {
    /** Requests that came. */
    readonly offered: number
    /** Of those, how many were answered in time, whenever that was. */
    readonly answered: number
    /** Of those, how many were turned away in the end. */
    readonly rejected: number
    /** Attempts of those that failed or timed out. */
    readonly failures: number
    /** Answered over offered. */
    readonly okShare: number
    /** Answers in time that came in this part, in a second. */
    readonly goodput: number
    readonly attemptsPerRequest: number
    /** Milliseconds until the answer, of the answers that came in this part; `NaN` where none did. */
    readonly mean: number
    readonly p50: number
    readonly p99: number
    /** Means of the samples: of all streams together, of one stream, too. `limit` is infinite where there is none. */
    readonly limit: number
    readonly inFlight: number
    readonly lag: number
  }
}
