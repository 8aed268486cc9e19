import * as Duration from "effect/Duration"
import * as Exit from "effect/Exit"
import { OptionThrewError } from "../../Outcome.js"
import type { RateLimiter, RateLimitExceededError } from "../../RateLimiter.js"
import type { Emitter } from "../hub.js"
import * as option from "../options.js"
import type { Nanos } from "../time.js"
import { fromNanos } from "../time.js"
import { Plan } from "./plan.js"
import type { AlgorithmName, Rate, RateInput } from "./rate.js"
import { parseRates, showRate } from "./rate.js"

/** The options of a limiter, read. @internal */
export interface LimiterConfig {
  readonly name: string
  readonly rate: RateInput | ReadonlyArray<RateInput>
  readonly algorithm: AlgorithmName
  readonly burst: number | undefined
  readonly mode: "fail" | "wait"
  readonly maxWait: Duration.Duration
  readonly maxWaiters: number
  readonly maxKeys: number
  readonly onFull: "reject" | "admit"
  readonly rateFor: ((key: string) => RateLimiter.Rates | undefined) | undefined
  readonly revealKey: boolean
}

/** Where a limiter tells what happens. @internal */
export interface LimiterWatch {
  readonly emitter: Emitter<RateLimiter.Event>
  readonly decided: { readonly [R in "allowed" | "delayed" | "rejected" | "store_error"]: () => void }
  readonly canceled: () => void
  readonly rejected: (reason: RateLimiter.Reason) => void
  readonly waited: (seconds: number, result: "acquired" | "rejected" | "canceled") => void
  readonly keys: (count: number) => void
  readonly error: (
    reason: RateLimiter.Reason,
    retryAfter: Duration.Duration | undefined,
    limit: number,
    remaining: number
  ) => RateLimitExceededError
}

/** Plans held by the text of their rates, for rates that come with the calls. */
const maxPlans = 1024

/** Stands for the key in events, where it is not to be seen. */
const redacted = "<redacted>"

/**
 * What both kinds of limiter have: the rates, the counters, and what is told.
 *
 * @internal
 */
export class Limits {
  plan: Plan
  allowed = 0
  rejected = 0
  canceled = 0
  storeErrors = 0
  private readonly plans = new Map<string, Plan>()

  constructor(readonly config: LimiterConfig, readonly watch: LimiterWatch) {
    this.plan = this.read(config.rate, config.burst, "rate")
  }

  /** The plan of a call: its own rate, its key's, or that of the instance. */
  planOf(key: string, rate: RateLimiter.Rates | undefined): Plan {
    if (rate !== undefined) return this.parse(rate)
    const { name, rateFor } = this.config
    if (rateFor === undefined) return this.plan
    let own: RateLimiter.Rates | undefined
    try {
      own = rateFor(key)
    } catch (error) {
      throw new OptionThrewError("RateLimiter", name, "rateFor", error)
    }
    return own === undefined ? this.plan : this.parse(own, "rateFor")
  }

  /** A rate that comes later. One alone has the burst of the instance, if it has none of its own; several have no burst. */
  parse(input: RateLimiter.Rates, from: "rate" | "rateFor" = "rate"): Plan {
    const known = typeof input === "string" ? this.plans.get(input) : undefined
    if (known !== undefined) return known
    const plan = this.read(input, Array.isArray(input) && input.length > 1 ? undefined : this.config.burst, from)
    if (typeof input === "string") this.plans.set(input, plan)
    return plan
  }

  /** A rate that cannot be read is a bug of whoever wrote it: nothing passes. */
  private read(input: RateLimiter.Rates, burst: number | undefined, from: "rate" | "rateFor"): Plan {
    const { algorithm, name } = this.config
    let rates: ReadonlyArray<Rate>
    try {
      rates = parseRates(input, algorithm, burst)
    } catch (error) {
      if (!(error instanceof option.Requirement)) throw error
      const { text } = error
      throw from === "rate"
        ? new option.InvalidOptionError("RateLimiter", name, from, input, text)
        : new option.InvalidOptionError(
          "RateLimiter",
          name,
          from,
          input,
          text,
          `option rateFor must give ${text}, or undefined, but gave ${option.show(input)}`
        )
    }
    const text = rates.map(({ burst, limit, window }) => `${limit} ${window} ${burst}`).join()
    const plan = this.plans.get(text) ?? new Plan(algorithm, rates)
    if (this.plans.size >= maxPlans) this.plans.clear()
    this.plans.set(text, plan)
    return plan
  }

  cost(cost: number): number {
    if (Number.isSafeInteger(cost) && cost >= 1) return cost
    throw new option.InvalidOptionError("RateLimiter", this.config.name, "cost", cost, "an integer of at least 1")
  }

  /** A call passes; `remaining` is asked for where somebody listens. */
  allow(key: string, plan: Plan, remaining: () => number, delayed = false): void {
    this.count(delayed)
    if (this.listening) this.tellAllowed(key, plan, remaining())
  }

  count(delayed: boolean): void {
    this.allowed++
    if (delayed) this.watch.decided.delayed()
    else this.watch.decided.allowed()
  }

  get listening(): boolean {
    return this.watch.emitter.listening
  }

  tellAllowed(key: string, plan: Plan, remaining: number): void {
    const { emitter } = this.watch
    emitter.emit({ _tag: "Allowed", ...emitter.call(), ...this.shown(key), rate: showRates(plan), remaining })
  }

  /** A call is turned away; `wait` is asked for where somebody listens, and is `undefined` where waiting would not help. */
  turnAway(key: string, plan: Plan, reason: RateLimiter.Reason, wait: () => Nanos | undefined): void {
    this.rejected++
    this.watch.decided.rejected()
    this.watch.rejected(reason)
    const { emitter } = this.watch
    if (!emitter.listening) return
    const nanos = wait()
    emitter.emit({
      _tag: "Exceeded",
      ...emitter.call(),
      ...this.shown(key),
      rate: showRates(plan),
      reason,
      retryAfter: nanos === undefined ? Duration.infinity : fromNanos(nanos)
    })
  }

  /** A call is turned away, and fails. */
  refuse(
    key: string,
    plan: Plan,
    reason: RateLimiter.Reason,
    wait: Nanos | undefined,
    limit: number,
    remaining: number
  ): Exit.Exit<never, RateLimitExceededError> {
    this.turnAway(key, plan, reason, () => wait)
    return Exit.fail(this.watch.error(reason, wait === undefined ? undefined : fromNanos(wait), limit, remaining))
  }

  change(plan: Plan): void {
    const from = this.plan
    this.plan = plan
    const { emitter } = this.watch
    if (emitter.listening) emitter.emit({ _tag: "LimitChanged", from: showRates(from), to: showRates(plan) })
  }

  private shown(key: string): { readonly key?: string } {
    return key === "" ? {} : { key: this.config.revealKey ? key : redacted }
  }
}

/** @internal */
export const showRates = (plan: Plan): string => plan.rates.map(showRate).join(", ")
