import { CircuitBreaker } from "@effect-resilience/core"
import { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
import { Deferred, Duration, Effect, Exit, Layer, Runtime, Scope } from "effect"
import type { ManualClock } from "../../../core/test/utils/clock.js"
import { makeManualClock } from "../../../core/test/utils/clock.js"

/*
 * Processes of a fleet whose answers and messages a test delivers, or loses, one by one. The server and its scripts are
 * real; each process has a clock of its own.
 */

export type Outcome = "success" | "failure"

/** A call that the dependency got. */
export interface Call {
  readonly process: Process
  /** The state of its circuit. */
  readonly state: CircuitBreaker.State
  /** The epoch of the half-open fleet that it is a probe of; undefined for all other calls. */
  readonly probeOf: number | undefined
  /** When its lease is over, if it has one, by the server's clock, in microseconds. */
  leaseEnds: number
  outcome: Outcome | "killed" | undefined
  readonly end: (outcome: Outcome) => void
}

interface Listener {
  readonly onMessage: (message: string) => void
  readonly onGap: () => void
}

/** What is alike for all processes. */
export interface Setting {
  readonly redis: RedisConnection.Service
  readonly breaker: CircuitBreaker.Options
  readonly shared: RedisCircuitBreaker.Options
  /** The lease of a probe, in microseconds. */
  readonly lease: number
  /** What a call does is kept here. */
  readonly calls: Array<Call>
}

/** How long a process waits for an answer, in microseconds. */
const longestWait = 300_000

const turns = async (count: number) => {
  for (let n = 0; n < count; n++) await new Promise((resolve) => setImmediate(resolve))
}

let lives = 0

/** One life of a process. */
export class Process {
  readonly answers: Array<(lost: boolean) => void> = []
  readonly inbox: Array<string> = []
  /** Of a lease that came with the last answer. */
  private leaseEnds = 0
  /** What it asks is lost before the server has it. */
  isMute = false
  private readonly onTheWay = new Set<Promise<void>>()
  private listener: Listener | undefined

  private readonly time: ManualClock = makeManualClock()
  private readonly runtime = Effect.runSync(Effect.withClock(Effect.runtime<never>(), this.time.clock))
  private readonly scope = Effect.runSync(Scope.make())

  private constructor(private readonly setting: Setting) {}

  breaker!: CircuitBreaker.Service

  static readonly start = async (setting: Setting): Promise<Process> => {
    const process = new Process(setting)
    const { scope } = process
    const { breaker, shared } = setting
    process.breaker = await process.run(
      Effect.flatMap(
        Layer.build(
          Layer.provide(RedisCircuitBreaker.layer(shared), Layer.succeed(RedisConnection, process.connection))
        ),
        (fleet) => Effect.provide(CircuitBreaker.make({ name: "payments", ...breaker }), fleet)
      ).pipe(Scope.extend(scope))
    )
    return process
  }

  /** As code of this process: under its clock. */
  readonly run = <A>(effect: Effect.Effect<A>): Promise<A> => Runtime.runPromise(this.runtime)(effect)

  private get connection(): RedisConnection.Service {
    const { redis } = this.setting
    return Object.create(redis, {
      id: { value: `life-${lives++}` },
      unsafeFlush: { value: () => {} },
      subscribe: {
        value: (_: string, on: Listener) =>
          Effect.sync(() => {
            this.listener = on
          })
      },
      unsafeRun: {
        value: (...[script, keys, args, settled]: Parameters<RedisConnection.Service["unsafeRun"]>) => {
          if (this.isMute) {
            this.answers.push(() => settled(this.unavailable, null))
            return
          }
          this.onTheWay.add(
            new Promise((resolve) =>
              redis.unsafeRun(script, keys, args, (error, reply) => {
                this.answers.push((lost) => {
                  if (lost || !Array.isArray(reply)) return settled(error ?? this.unavailable, null)
                  this.leaseEnds = Number(reply[6]) + this.setting.lease
                  settled(error, reply)
                })
                resolve()
              })
            )
          )
        }
      }
    }) as RedisConnection.Service
  }

  private readonly unavailable = { _tag: "RedisUnavailableError" } as never

  /** All that it asked has reached the server, and all that can run now has run; whether it asked anything. */
  async settle(): Promise<boolean> {
    await turns(2)
    const asked = this.onTheWay.size > 0
    while (this.onTheWay.size > 0) {
      const all = [...this.onTheWay]
      await Promise.all(all)
      for (const one of all) this.onTheWay.delete(one)
      await turns(1)
    }
    return asked
  }

  readonly call = (): Promise<void> => {
    const { calls } = this.setting
    const body = Effect.flatMap(
      this.breaker.metrics,
      ({ shared, state }) =>
        Effect.flatMap(Deferred.make<void, "down">(), (deferred) => {
          // One that asked while its circuit was half-open may get its lease when that has opened by itself again.
          const isProbe = (state === "HalfOpen" || state === "Open") && shared?.state === "HalfOpen"
          const call: Call = {
            process: this,
            state,
            probeOf: isProbe ? shared.epoch : undefined,
            leaseEnds: this.leaseEnds,
            outcome: undefined,
            end: (outcome) => {
              call.outcome ??= outcome
              Deferred.unsafeDone(deferred, outcome === "success" ? Exit.void : Exit.fail("down"))
            }
          }
          calls.push(call)
          return Deferred.await(deferred)
        })
    )
    return this.run(Effect.asVoid(Effect.forkIn(Effect.ignore(this.breaker.withBreaker(body)), this.scope)))
  }

  /** An answer that came, or is lost. */
  async answer(at: number, lost = false): Promise<void> {
    const [answer] = this.answers.splice(at % Math.max(1, this.answers.length), 1)
    if (answer !== undefined) await this.run(Effect.sync(() => answer(lost)))
  }

  /** All answers, those to what it asks then too. */
  async hearAnswers(): Promise<void> {
    while (this.answers.length > 0) {
      await this.answer(0)
      await this.settle()
    }
  }

  /** The message that came first. */
  async hear(): Promise<void> {
    const message = this.inbox.shift()
    if (message !== undefined) await this.run(Effect.sync(() => this.listener?.onMessage(message)))
  }

  /** All messages that are on their way are lost. */
  async gap(): Promise<void> {
    this.inbox.length = 0
    await this.run(Effect.sync(() => this.listener?.onGap()))
  }

  /** Its own clock goes on: answers that are not there by now are not waited for. */
  async pass(micros: number): Promise<void> {
    while (micros >= longestWait && this.answers.length > 0) await this.answer(0, true)
    this.time.adjust(Duration.micros(BigInt(micros)))
  }

  get state(): Promise<{ readonly own: string; readonly fleet: string; readonly epoch: number }> {
    return this.run(
      Effect.map(this.breaker.metrics, ({ shared, state }) => ({
        own: state,
        fleet: shared?.state ?? "none",
        epoch: shared?.epoch ?? 0
      }))
    )
  }

  /** kill -9: what it would have said is never said. */
  async kill(): Promise<void> {
    this.isMute = true
    for (const call of this.setting.calls) if (call.process === this) call.outcome ??= "killed"
    await Effect.runPromise(Scope.close(this.scope, Exit.void))
    this.answers.length = 0
  }
}
