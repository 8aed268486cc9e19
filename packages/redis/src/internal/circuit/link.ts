import type { SharedCircuits } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { RedisConnection } from "../../RedisConnection.js"
import { later, realNow } from "../realTime.js"
import type { Script } from "../script.js"
import { command, never, probe, report, result, states } from "./scripts.js"

/** Failures after which a process whose own window is bad does not wait for its next report. */
const failuresThatHurry = 20

/** Reports that hurry are so far apart at least, in milliseconds. */
const betweenHurried = 50

/** While the fleet has no lease to give it is asked again after this long, in microseconds: a probe may end sooner. */
const askAgain = 200_000

/** How long before the end of its lease a probe that is still out fails, in milliseconds: time to say so. */
const timeToSay = 200

/** The longest time that a timer takes, in milliseconds. */
const longestTimer = 2 ** 31 - 1

/** Lengths of time in microseconds, as the scripts take them: -1 is without end. */
const micros = (millis: number): number => millis * 1000 >= never ? -1 : Math.ceil(millis * 1000)

/** What the circuits of one layer have in common. @internal */
export interface Common {
  readonly redis: RedisConnection.Service
  readonly channel: string
  readonly advisory: boolean
  /** How long a probe may take, in milliseconds; the breaker's `halfOpenTimeout` where that is less. */
  readonly probeLease: number
  readonly operators: "fleet" | "local"
  /** How many processes must fail for the fleet to open. */
  readonly quorum: number
  /** Runs what a circuit is told: it never waits. */
  readonly run: (told: Effect.Effect<void>) => void
  readonly left: (link: Link) => void
}

/** A state of the circuit of the fleet as a script or a message has it. */
interface Heard {
  readonly state: number
  readonly epoch: number
  readonly left: number
  readonly opens: number
  /** Whether an operator did this, or it is closed at the end of what one did. */
  readonly operator: number
}

/** An operator did this. */
const acts = 1

/** A message of the channel: five numbers and the name. @internal */
export const readMessage = (message: string): (Heard & { readonly name: string }) | undefined => {
  const parts = /^(\d+) (\d+) (-?\d+) (\d+) (\d+) ([^]*)$/.exec(message)
  if (parts === null) return undefined
  const [state, epoch, left, opens, operator] = parts.slice(1, 6).map(Number) as [
    number,
    number,
    number,
    number,
    number
  ]
  return { state, epoch, left, opens, operator, name: parts[6] ?? "" }
}

/**
 * A circuit of this process and what it knows of that of the fleet.
 *
 * An answer of the server is what is so, unless something else was heard since it was asked; a message is a hint, which
 * counts where it brings a later epoch than any before, and until the next answer says otherwise.
 *
 * @internal
 */
export class Link implements SharedCircuits.Link {
  private known: Heard = { state: 0, epoch: 0, left: 0, opens: 0, operator: 0 }
  /** When that was so. */
  private knownAt = realNow()
  private unknown = false
  /** What is known is what a message said: no answer has confirmed it yet. */
  private hinted = false
  private latest = 0
  /** The epoch of what an operator did last. */
  private acted = 0
  /** Counts what was heard: an answer to an older question must not undo it. */
  private version = 0
  private heardAt = realNow()
  private dropped = 0
  private failures = 0
  private hurriedAt = -Infinity
  private held: { readonly tally: SharedCircuits.Tally; readonly told: SharedCircuits.Counts } | undefined
  private probes = 0
  /** It opened by itself and is not closed since: said with each report, so that a vote that is lost comes with the next. */
  private tripped = false
  /** It must ask: it knows nothing yet, messages were lost, or the last answer was. */
  stale = true

  constructor(
    readonly name: string,
    private readonly circuit: SharedCircuits.Circuit,
    private readonly keys: ReadonlyArray<string>,
    private readonly bucket: number,
    private readonly common: Common
  ) {
    this.hold()
  }

  /** What it must tell or ask now: nothing where the fleet is closed and no call was made. */
  get due(): boolean {
    if (this.stale || this.hinted || this.known.state !== 0 || this.unknown) return true
    // Asked of each circuit every second: what is held is looked at, and not the circuit.
    return this.held === undefined || this.held.tally.ever().calls > this.held.told.calls
  }

  /** From now on the closed period that stands is what is told of. What it holds already is not ours to tell. */
  private hold(): void {
    const tally = this.circuit.tally()
    this.held = tally === undefined ? undefined : { tally, told: tally.ever() }
  }

  /** What is new in the closed period that is told of, also where it just ended. */
  private news(): SharedCircuits.Counts {
    const { held } = this
    if (held === undefined) return { calls: 0, failures: 0, slow: 0 }
    const now = held.tally.ever()
    this.held = { tally: held.tally, told: now }
    return {
      calls: now.calls - held.told.calls,
      failures: now.failures - held.told.failures,
      slow: now.slow - held.told.slow
    }
  }

  private get failing(): boolean {
    const { failureRate, slowCallRate } = this.circuit.settings
    const { calls, failures, slow } = this.held?.tally.window() ?? { calls: 0, failures: 0, slow: 0 }
    return calls > 0 && (failures / calls >= failureRate || slow / calls >= slowCallRate)
  }

  report(): void {
    const { settings } = this.circuit
    const failing = this.failing
    const { calls, failures, slow } = this.news()
    this.failures = 0
    const args = [
      this.common.redis.id,
      this.known.epoch,
      calls,
      failures,
      slow,
      failing ? 1 : 0,
      this.tripped ? 1 : 0,
      this.bucket * 1000,
      Math.ceil(settings.window * 1000),
      settings.minimumCalls,
      settings.failureRate,
      settings.slowCallRate,
      this.common.quorum,
      micros(this.circuit.openFor()),
      Math.ceil(settings.window * 1000)
    ]
    this.ask(report, args, (heard) => {
      if (heard !== undefined) this.hear(heard)
      else if (calls > 0) this.drop()
    })
  }

  private drop(): void {
    this.dropped++
    this.circuit.dropped()
  }

  private reportNow(): void {
    this.report()
    this.common.redis.unsafeFlush()
  }

  readonly changed = ({ cause, to }: SharedCircuits.Change): void => {
    const own = to === "Open" && cause !== "Shared"
    if (to !== "HalfOpen") this.tripped = own || (this.tripped && to === "Open")
    if (own) this.reportNow()
    this.hold()
    if (cause === "ForcedOpenOver" || cause === "OverrideOver") this.remind()
  }

  /**
   * A fleet that opened while an operator had this circuit in hand was not followed: it is now, for what is left. What is not
   * known yet is asked for.
   */
  private remind(): void {
    this.reportNow()
    const state = states[this.known.state]
    if (this.unknown || (state !== "Open" && state !== "HalfOpen")) return
    this.tell(state, Math.max(0, this.leftOf(state) - (realNow() - this.knownAt)))
  }

  /** Only what may open the circuit of the fleet hurries: it must be closed, and the window here bad. */
  readonly failed = (): void => {
    if (++this.failures < failuresThatHurry || this.known.state !== 0) return
    const time = realNow()
    if (time - this.hurriedAt < betweenHurried) return
    this.failures = 0
    if (!this.failing) return
    this.hurriedAt = time
    this.reportNow()
  }

  readonly lease = (answered: (lease: SharedCircuits.Lease | undefined) => void): () => void => {
    const id = `${this.common.redis.id}:${this.probes++}`
    const { halfOpenMaxCalls, halfOpenTimeout } = this.circuit.settings
    let lease: SharedCircuits.Lease | undefined
    let back = false
    const most = Math.min(halfOpenTimeout, this.common.probeLease)
    const asked = realNow()
    this.askNow(probe, [id, halfOpenMaxCalls, micros(most + timeToSay)], (heard, granted) => {
      if (heard === undefined) this.lost()
      else this.hear(heard, true)
      if (heard !== undefined && granted) lease = this.leaseOf(id, heard.epoch, most, asked)
      if (back) lease?.settle("ignored", undefined)
      else answered(lease)
    })
    return () => {
      back = true
      lease?.settle("ignored", undefined)
    }
  }

  /**
   * A probe that takes longer than it may fails: a dependency that hangs opens the circuit as one that fails. For the
   * server its time began when it was asked for: where the answer was slow it has less, or it would be too late to say so.
   */
  private leaseOf(id: string, epoch: number, most: number, asked: number): SharedCircuits.Lease {
    const left = Math.max(0, Math.min(most, asked + most + timeToSay / 2 - realNow()))
    const { halfOpenMaxCalls, successThreshold } = this.circuit.settings
    let over = false
    const settle: SharedCircuits.Lease["settle"] = (outcome, openFor) => {
      if (over) return
      over = true
      stop()
      const said = openFor === undefined ? outcome : "open"
      const length = micros(openFor ?? this.circuit.openFor())
      this.askNow(result, [id, epoch, said, halfOpenMaxCalls, successThreshold, length], (heard) => {
        if (heard !== undefined) return this.hear(heard)
        this.drop()
        this.lost()
      })
    }
    const stop = later(Math.min(left, longestTimer), () => settle("failure", undefined))
    return { settle }
  }

  readonly command = (wanted: SharedCircuits.Command): Effect.Effect<boolean> => {
    // A circuit that was closed before has another record now, and has not changed its state.
    this.hold()
    if (this.common.operators === "local") return Effect.succeed(false)
    const state = { reset: 0, forceOpen: 3, disable: 4, metricsOnly: 5 }[wanted._tag]
    const length = wanted._tag === "reset" ? -1 : micros(wanted.length)
    return Effect.async<Effect.Effect<boolean>>((resume) => {
      this.askNow(command, [this.known.epoch, state, length], (heard, done) => {
        if (heard !== undefined) this.hear(heard)
        resume(Effect.succeed(
          done ? Effect.succeed(!this.common.advisory) : Effect.as(
            this.circuit.problem(
              new Error(
                heard === undefined
                  ? `Redis cannot be asked, so ${wanted._tag} holds in this process alone`
                  : `another operator acted before, and this process had not heard of it: the fleet did not take ${wanted._tag}`
              )
            ),
            false
          )
        ))
      })
    }).pipe(Effect.flatten)
  }

  readonly metrics = (): SharedCircuits.Metrics => ({
    state: this.unknown ? "Unknown" : states[this.known.state] ?? "Unknown",
    epoch: this.known.epoch,
    age: Duration.millis(realNow() - this.heardAt),
    dropped: this.dropped,
    followed: !this.common.advisory
  })

  readonly leave = (): void => this.common.left(this)

  /** A message. */
  hint(heard: Heard): void {
    if (heard.epoch <= Math.max(this.latest, this.known.epoch)) return
    this.take(heard)
    this.hinted = true
  }

  private ask(
    script: Script,
    args: ReadonlyArray<string | number>,
    then: (heard: Heard | undefined, granted: boolean) => void
  ): void {
    const { advisory, channel, redis } = this.common
    const { version } = this
    redis.unsafeRun(script, this.keys, [channel, this.name, advisory ? 1 : 0, ...args], (error, reply) => {
      if (error !== undefined || !Array.isArray(reply)) {
        this.stale = true
        return then(undefined, false)
      }
      const [state = 0, epoch = 0, left = 0, opens = 0, operator = 0, granted = 0] = reply.map(Number)
      this.heardAt = realNow()
      this.stale = false
      // Something else was heard meanwhile, and is later.
      const old = epoch < this.known.epoch && version !== this.version
      then(old ? this.known : { state, epoch, left, opens, operator }, granted === 1 && !old)
    })
  }

  /** What others wait for does not wait for all else that this process has to do in the same turn. */
  private askNow(...[script, args, then]: Parameters<Link["ask"]>): void {
    this.ask(script, args, then)
    this.common.redis.unsafeFlush()
  }

  /** What the server says. `anew`: the circuit is to hear it although it is nothing new. */
  private hear(heard: Heard, anew = false): void {
    const { epoch, operator, state } = this.known
    const { hinted } = this
    // An answer to an older question is what is known already, and confirms nothing.
    if (heard !== this.known) this.hinted = false
    if (heard.epoch < epoch) {
      // What a message alone said is not so, or not any more. An operator's state ends with it; what it opened need not wait.
      const isRefuted = hinted && !this.tripped
      if (isRefuted && operator > 0) return this.take({ ...heard, operator })
      // The server lost what it knew. The circuit keeps what it has, and begins anew with the next.
      this.lost(isRefuted ? 0 : Infinity)
    }
    const same = heard.epoch === epoch && heard.state === state && !this.unknown
    // What it has of an older time is no operator's action of now.
    const old = heard.epoch < epoch || (heard.epoch === epoch && operator === 0)
    if (!same || anew) this.take(old ? { ...heard, operator: 0 } : heard)
  }

  private take(heard: Heard): void {
    if (heard !== this.known) this.knownAt = realNow()
    this.version++
    this.known = heard
    this.unknown = false
    this.hinted = false
    this.latest = Math.max(this.latest, heard.epoch)
    if (heard.operator === acts) this.acted = heard.epoch
    this.tell(states[heard.state] ?? "Unknown")
  }

  /** What it opened stays open for so long at most. */
  private lost(left = Infinity): void {
    this.unknown = true
    this.tell("Unknown", left)
  }

  private leftOf(state: SharedCircuits.View["state"]): number {
    const { left } = this.known
    if (left < 0) return Infinity
    return (state === "HalfOpen" ? Math.min(left, askAgain) : left) / 1000
  }

  /** `left` in milliseconds. */
  private tell(state: SharedCircuits.View["state"], left = this.leftOf(state)): void {
    const { epoch, opens, operator } = this.known
    this.common.run(this.circuit.follow({
      state,
      epoch,
      left,
      opens,
      operator: operator > 0,
      acted: this.acted,
      followed: !this.common.advisory
    }))
  }
}
