import type { callSite } from "@effect-resilience/core/extension"
import { metric, openInstance, register } from "@effect-resilience/core/extension"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type { Scope } from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { RedisConnection } from "../RedisConnection.js"
import { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Reason } from "./failure.js"
import { detailOf, reasonOf } from "./failure.js"
import type { Causes } from "./outage.js"
import { afterCause } from "./outage.js"
import type { Peer } from "./peer.js"
import { later, realNow } from "./realTime.js"
import type { Refusal } from "./refusal.js"

/** A connection that is back sooner is not worth a word. */
const tellAfter = 500

/** How many answers are measured from one beat to the next: to measure all would make each dearer. */
const measuredPerBeat = 1000

/** How much of the last answer's latency is new in the average. */
const newShare = 0.1

/** What is told of an outage; `causes` once it was. */
interface Told {
  readonly since: number
  readonly cancel: () => void
  readonly causes?: Causes | undefined
}

const why = ({ detail, reason }: RedisUnavailableError): string =>
  detail === undefined ? reason : `${reason}: ${detail}`

/**
 * What others see of a connection: figures, events, and one line of the log where a server goes and one where it comes
 * back, however many calls that concerns.
 *
 * @internal
 */
export class Watch {
  commands = 0
  failures = 0
  roundTrips = 0
  outages = 0
  connects = 0
  latency = 0
  lastError: RedisUnavailableError | undefined
  private readonly told = new Map<Peer, Told>()
  private reported = 0
  private toMeasure = measuredPerBeat
  private readonly errors = new Map<Reason, () => void>()
  private readonly duration: (seconds: number) => void
  private readonly countRoundTrips: (by: number) => void
  private readonly pendingGauge: (value: number) => void
  private readonly upGauge: (value: number) => void
  private readonly degradedGauge: (value: number) => void
  private readonly processesGauge: (value: number) => void

  constructor(
    private readonly name: string,
    private readonly report: (
      event: RedisConnection.StateChanged | undefined,
      log: Effect.Effect<void>,
      /** Why it is down, where it is. */
      error: RedisUnavailableError | undefined
    ) => void,
    /** Tells that the server does not do for us what it must, or that somebody who listens to a channel failed. */
    readonly internal: (source: "Store" | "Subscriber", error: unknown) => void
  ) {
    const labels = metric.attributes("RedisConnection", name)
    this.duration = metric.seconds("resilience.redis.command.duration", "Time until an answer came", labels)
    this.countRoundTrips = metric.counter("resilience.redis.round_trips", "Commands that were sent", labels)
    this.pendingGauge = metric.gauge("resilience.redis.pending", "Commands that wait for an answer", labels)
    this.upGauge = metric.gauge("resilience.redis.up", "1 while it is asked, 0 while it is down", labels)
    this.degradedGauge = metric.gauge("resilience.redis.degraded", "1 while it refuses what is written", labels)
    this.processesGauge = metric.gauge("resilience.redis.processes", "Processes that share it", labels)
  }

  /** An answer came to what was sent then. */
  answered(sent: number): void {
    if (this.toMeasure === 0) return
    this.toMeasure--
    const millis = realNow() - sent
    this.latency += (millis - this.latency) * (this.latency === 0 ? 1 : newShare)
    this.duration(millis / 1000)
  }

  failed(error: RedisUnavailableError): void {
    this.failures++
    // That it is down is no reason why.
    if (error.reason !== "Down") this.lastError = error
    let count = this.errors.get(error.reason)
    if (count === undefined) {
      const up = metric.counter(
        "resilience.redis.errors",
        "Commands that failed, by reason",
        metric.attributes("RedisConnection", this.name, { reason: metric.snake(error.reason) })
      )
      this.errors.set(error.reason, count = () => up())
    }
    count()
  }

  /** The server does not let us hear a channel. All of that is counted, and told once. */
  refused(error: Error, server: string, channel: string, isNews: boolean): void {
    const refusal = new RedisUnavailableError({
      connection: this.name,
      server,
      command: "subscribe",
      reason: reasonOf(error),
      detail: `${channel}: ${detailOf(error)}`
    })
    this.failed(refusal)
    if (isNews) this.internal("Store", refusal)
  }

  /** Brings the metrics that each command would make dearer up to date. */
  measure(pending: number): void {
    this.toMeasure = measuredPerBeat
    this.countRoundTrips(this.roundTrips - this.reported)
    this.reported = this.roundTrips
    this.pendingGauge(pending)
  }

  /** How the servers are, and by how many processes they are shared. */
  seen(isUp: boolean, isDegraded: boolean, processes: number): void {
    this.upGauge(isUp ? 1 : 0)
    this.degradedGauge(isDegraded ? 1 : 0)
    this.processesGauge(processes)
  }

  wentDown(peer: Peer, first: RedisUnavailableError): void {
    this.outages++
    const since = realNow()
    const tell = () => {
      // By now it may be known what the connection was lost by.
      const error = peer.lastError ?? first
      this.told.set(peer, { since, cancel: () => {}, causes: afterCause(undefined, peer.kindOf(error), realNow()) })
      const line = `${this.at(peer)} is down (${why(error)}) and is not asked until it answers a probe`
      this.change(peer, { from: "Up", to: "Down", reason: error.reason }, Effect.logWarning(line), error)
    }
    this.told.set(peer, { since, cancel: later(tellAfter, tell) })
  }

  /** A probe failed, perhaps by another cause than was told. */
  stillDown(peer: Peer, error: RedisUnavailableError): void {
    const told = this.told.get(peer)
    if (told?.causes === undefined) return
    const causes = afterCause(told.causes, peer.kindOf(error), realNow())
    if (causes === undefined) return
    this.told.set(peer, { ...told, causes })
    const line = `${this.at(peer)} is still down, for another reason now (${why(error)})`
    this.report(undefined, this.annotated(Effect.logWarning(line)), error)
  }

  cameBack(peer: Peer): void {
    const told = this.told.get(peer)
    this.told.delete(peer)
    if (told === undefined) return
    const lasted = realNow() - told.since
    if (lasted < tellAfter) return told.cancel()
    const line = `${this.at(peer)} is up again after ${(lasted / 1000).toFixed(1)} s`
    this.change(peer, { from: "Down", to: "Up", lasted }, Effect.logInfo(line))
  }

  refuses(peer: Peer, { error }: Refusal): void {
    const line = `${this.at(peer)} refuses what is written (${why(error)}): services do what their onStoreError says`
    this.change(peer, { from: "Up", to: "Degraded", reason: error.reason }, Effect.logWarning(line), error)
  }

  /** It forgets keys to make room. */
  evicts(peer: Peer, policy: string): void {
    const line =
      `${this.at(peer)} has maxmemory-policy ${policy}: when its memory is full, limits, permits and keys in ` +
      `flight are forgotten. Set noeviction`
    this.report(undefined, this.annotated(Effect.logWarning(line)), undefined)
  }

  /** It takes what is written again, or is not asked to any more. */
  refusesNoMore(
    peer: Peer,
    { since }: Refusal,
    because: "takes what is written again" | "is written to no more"
  ): void {
    const lasted = realNow() - since
    const line = `${this.at(peer)} ${because} after ${(lasted / 1000).toFixed(1)} s`
    this.change(peer, { from: "Degraded", to: "Up", lasted }, Effect.logInfo(line))
  }

  /** For how long a server is down, in milliseconds: the longest. */
  get downFor(): number | undefined {
    const begins = [...this.told.values()].map(({ since }) => since)
    return begins.length === 0 ? undefined : realNow() - Math.min(...begins)
  }

  close(): void {
    this.measure(0)
    for (const { cancel } of this.told.values()) cancel()
    this.told.clear()
  }

  private at(peer: Peer): string {
    return `Redis "${this.name}" at ${peer.at}`
  }

  private change(
    peer: Peer,
    body: Pick<RedisConnection.StateChanged, "from" | "to" | "reason" | "lasted">,
    log: Effect.Effect<void>,
    error?: RedisUnavailableError
  ): void {
    this.report(
      {
        _tag: "StateChanged",
        pattern: "RedisConnection",
        instance: this.name,
        timestamp: 0,
        ...(peer.node === "" ? {} : { node: peer.node }),
        ...body
      },
      this.annotated(log),
      error
    )
  }

  private annotated(log: Effect.Effect<void>): Effect.Effect<void> {
    const instance = this.name
    return Effect.annotateLogs(log, { package: "@effect-resilience/redis", pattern: "RedisConnection", instance })
  }
}

/** Opens a watch: its events, and what runs its lines of the log in the context of the layer. @internal */
export const openWatch = (
  name: string
): Effect.Effect<{ readonly watch: Watch; readonly events: Stream.Stream<RedisConnection.Event> }, never, Scope> =>
  Effect.gen(function*() {
    const { emitter, observable } = yield* openInstance<RedisConnection.StateChanged>("RedisConnection", name)
    const run = Runtime.runFork(yield* Effect.runtime<never>())
    const clock = yield* Effect.clock
    const watch = new Watch(name, (event, log, error) => {
      // To those who asked for the events of this connection; on the bus an outage is an `InternalError`.
      const { hub } = emitter
      if (event !== undefined && hub.listeners > 0) {
        hub.unsafeOffer({ ...event, timestamp: clock.unsafeCurrentTimeMillis() })
      }
      if (error !== undefined && emitter.bus !== undefined && emitter.bus.listeners > 0) {
        emitter.bus.unsafeOffer({
          _tag: "InternalError",
          pattern: "RedisConnection",
          instance: name,
          timestamp: clock.unsafeCurrentTimeMillis(),
          source: "Store",
          error
        })
      }
      run(log)
    }, (source, error) => {
      run(emitter.internalError(source, error))
    })
    return { watch, events: observable.events }
  })

/** Enters a connection in the Registry. @internal */
export const enter = (
  name: string,
  site: ReturnType<typeof callSite>,
  snapshot: Effect.Effect<RedisConnection.Metrics>
): Effect.Effect<void, never, Scope> =>
  register({ pattern: "RedisConnection", instance: name, site, snapshot, actions: {} })
