import type { Borrower, Lender } from "@effect-resilience/core/extension"
import { metric } from "@effect-resilience/core/extension"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { RedisConnection } from "../../RedisConnection.js"
import type { RedisUnavailableError } from "../../RedisUnavailableError.js"
import { afterReading, realNow } from "../realTime.js"
import { Bell } from "./bell.js"
import { Calls } from "./calls.js"
import { Lease } from "./lease.js"
import { Limit } from "./limit.js"
import { Peak } from "./peak.js"
import type { Plan } from "./plan.js"
import { aloneLimit, plan } from "./plan.js"
import { Questions } from "./questions.js"
import type { Answer } from "./settle.js"

/** @internal */
export interface Settings {
  /** How long a process holds its permits without a word, in milliseconds. */
  readonly lease: number
  readonly onLeaseLost: "interrupt" | "report"
  readonly onStoreError: "fail" | "open" | "closed" | "local"
  readonly fences: boolean
  readonly strict: boolean
}

/** A process that holds or waits asks again after so many milliseconds at the latest, whatever it hears. */
const poll = 1000
/** It asks so long before that at the earliest, so that not all ask together. */
const early = 0.25
/** A process keeps for so long what it was given, or permits would go round faster than calls end. */
const turn = 20
/** After a failure. */
const retry = 200

/** What has come meanwhile is read. */
const reading = Effect.async<void>((resume) => afterReading(() => resume(Effect.void)))

/**
 * Lends a bulkhead of this process what the process holds by its lease. One fiber asks, one question at a time, and another
 * sees the lease end; all else is synchronous, and no call waits for Redis while the process has permits that are free.
 */
class RedisLender {
  private readonly questions: Questions
  private readonly lease: Lease
  private readonly calls: Calls
  private readonly peak = new Peak()
  /** What it may hold while others wait that come before it. */
  private spare: number | undefined
  private waits = false
  private readonly limit: Limit
  /** That, as it was told to the bulkhead. */
  private most: number
  /** Whether that is what Redis says, or an operator: others may have changed it before. */
  private isKnown = false
  /** It may be another by now: it is asked for, though this process may hold nothing and want nothing. */
  private isNews = false
  /** When to ask again; Infinity for one that neither holds nor waits. */
  private due = Infinity
  /** It is first in line, and something is free. */
  private called = false
  private failure: RedisUnavailableError | undefined
  /** It asks again what it has not heard the answer to. */
  private repeated = false
  /** Permits that calls asked for which were turned away since the last time it asked. */
  private unmet = 0
  private closed = false
  /** There is something to say. */
  private readonly bell = new Bell()
  /** It holds something. */
  private readonly holds = new Bell()
  private readonly lost: (by: number) => void

  constructor(
    private readonly redis: RedisConnection.Service,
    private readonly borrower: Borrower,
    private readonly settings: Settings,
    private readonly random: () => number
  ) {
    this.questions = new Questions(redis, borrower.name, settings)
    this.lease = new Lease(settings.lease)
    this.most = borrower.maxConcurrent
    this.limit = new Limit(this.most)
    this.calls = new Calls({
      covers: () => this.lease.covers(borrower.used()),
      fence: () => this.lease.fence,
      error: () => borrower.error("LeaseLost")
    }, { interrupt: settings.onLeaseLost === "interrupt", fences: settings.fences })
    this.lost = metric.counter(
      "resilience.bulkhead.leases.lost",
      "Leases that ended while calls ran by them",
      metric.attributes("Bulkhead", borrower.name)
    )
    // Or the first is no increase to who scrapes.
    this.lost(0)
  }

  get lender(): Lender {
    return {
      used: this.used,
      queued: this.queued,
      around: this.calls.around,
      resize: (most, lasts) =>
        Effect.suspend(() => {
          this.limit.resize(most, lasts && Duration.toMillis(lasts), realNow())
          this.resized()
          if (this.closed) return Effect.succeed(false)
          this.due = 0
          this.bell.ring()
          return Effect.tap(this.limit.taken(), (isTaken) => isTaken ? Effect.void : this.ordersAlone(most))
        })
    }
  }

  get listener() {
    return {
      channel: this.questions.channel,
      onMessage: this.heard,
      onGap: () => {
        this.due = 0
        this.isNews = !this.questions.isFirst
        this.bell.ring()
      }
    }
  }

  private readonly used = (used: number): void => {
    this.peak.note(used)
    const { lease: { held }, spare } = this
    // Others wait, and this process has something for them.
    if (spare !== undefined && used < held && (spare < held || this.borrower.waiting() === 0)) this.bell.ring()
  }

  private readonly queued = (): void => {
    if (!this.waits && this.failure === undefined) this.bell.ring()
  }

  /**
   * Somebody waits: `<who is first> <what others may hold> <what is free>`. Or an operator has changed the limit:
   * `* <by which process>`.
   */
  private readonly heard = (message: string): void => {
    const [head, spare, free] = message.split(" ")
    if (head === "*") {
      if (spare === this.questions.id) return
      this.isNews = true
    } else if (head === this.questions.id) {
      this.spare = undefined
      this.called = Number(free) > 0
    } else if (this.lease.held > 0) {
      this.spare = Number(spare)
    }
    this.bell.ring()
  }

  private plan(): Plan {
    const { borrower, lease: { gained, held }, most, spare } = this
    const wanted = borrower.wanted()
    return plan({
      held,
      most,
      spare,
      used: borrower.used(),
      peak: this.peak.most,
      wanted: { all: wanted.all + this.unmet, most: wanted.most },
      settled: realNow() >= gained + turn
    })
  }

  /** Whether there is something to say before the time comes. */
  private wouldAsk({ keep, want }: Plan): boolean {
    if (this.failure !== undefined) return false
    const { held } = this.lease
    return this.called || this.limit.order !== undefined || keep < held || (want > held && !this.waits)
  }

  /** Asks whenever there is something to say, for as long as the scope is open. */
  readonly run: Effect.Effect<never> = Effect.forever(Effect.suspend(() => {
    const now = realNow()
    const { alone, held } = this.lease
    if (this.limit.lapse(now)) {
      this.resized()
      this.isNews = true
    }
    // With each of its asks, or what was used once would count for another second.
    this.peak.age(now, poll * (1 - early), this.borrower.used())
    const planned = this.plan()
    if (now < this.due && !this.isNews && !this.wouldAsk(planned)) {
      // What is above its part goes to nobody here from now on.
      if (this.failure === undefined && planned.limit < held) this.lend(planned.limit)
      return this.bell.until(this.nextTime(now))
    }
    const isIdle = held === 0 && planned.want === 0 && !this.waits && !this.isNews && !this.repeated &&
      this.limit.order === undefined
    if (isIdle && !alone && this.failure === undefined) {
      this.due = Infinity
      return this.bell.until(this.nextTime(now))
    }
    return this.ask(planned)
  }))

  /** Sees the lease end, though the answer to a question may be still to come. */
  readonly watch: Effect.Effect<never> = Effect.forever(Effect.suspend(() => {
    const { held, isGood, until } = this.lease
    if (held === 0) return this.holds.until(Infinity)
    return isGood() ? this.holds.until(until) : this.ended()
  }))

  private nextTime(now: number): number {
    const { gained, held } = this.lease
    const settled = gained + turn
    const parting = this.spare !== undefined && held > 0 && settled > now ? settled : Infinity
    return Math.min(this.due, parting, this.limit.until)
  }

  private ask(planned: Plan): Effect.Effect<void> {
    if (!this.lease.alone) {
      // From here on it uses no more than what it says to keep.
      this.lease.held = planned.keep
      this.lend(planned.limit)
    }
    this.called = this.isNews = false
    const sent = realNow()
    const { order } = this.limit
    return Effect.matchEffect(this.send(planned), {
      onSuccess: (answer) =>
        Effect.suspend(() => {
          if (answer === undefined) return Effect.void
          this.limit.heard(answer, order, realNow())
          this.resized()
          return this.answered(answer, sent)
        }),
      onFailure: (error) => this.failed(error)
    })
  }

  private send({ keep, need, want }: Omit<Plan, "limit">) {
    const unheard = this.failure !== undefined || this.repeated
    const { lasting: most, order } = this.limit
    return this.questions.send({ keep, need, want, most, ...Limit.argsOf(order, realNow()), unheard })
  }

  private answered(answer: Answer, sent: number): Effect.Effect<void> {
    if (this.lease.isTooLate(answer, sent)) {
      const lost = this.lease.held > 0 ? this.lose() : Effect.void
      this.due = 0
      return lost
    }
    // First: what is lost while Redis answers is no reason to go on alone.
    this.failure = undefined
    this.repeated = false
    const lost = answer.lost ? this.lose() : Effect.void
    this.lease.renew(answer, sent)
    this.holds.ring()
    this.spare = answer.spare
    this.waits = answer.waits
    this.unmet = 0
    const { lease } = this.settings
    const again = Math.min(lease / 3, poll) * (1 - early * this.random())
    const soon = answer.waits && answer.soon !== undefined ? answer.soon + 1 + 4 * this.random() : Infinity
    this.due = answer.held > 0 || answer.waits ? realNow() + Math.min(again, soon) : Infinity
    this.lend(this.plan().limit)
    return lost
  }

  private resized(): void {
    const { borrower: { emitter }, limit: { most: to } } = this
    if (to === this.most && this.isKnown) return
    if (to !== this.most && emitter.listening) emitter.emit({ _tag: "Resized", from: this.most, to })
    this.isKnown = true
    this.most = to
    this.borrower.allow(to)
  }

  private failed(error: RedisUnavailableError): Effect.Effect<void> {
    // The answer may only be late, or lost: it is asked once more before calls are turned away.
    if (!this.repeated && (error.reason === "Timeout" || error.reason === "Late")) {
      this.repeated = true
      this.due = 0
      return Effect.void
    }
    const told = this.cannotAsk(error)
    this.waits = false
    this.due = realNow() + retry * (0.5 + this.random())
    const { held } = this.lease
    if (held === 0) return Effect.zipRight(this.goOn, told)
    this.lend(held)
    return told
  }

  private ordersAlone(most: number): Effect.Effect<void> {
    const problem = `Redis cannot be asked, so the limit of ${most} holds in this process alone until it can`
    return this.borrower.emitter.internalError("Store", new Error(problem))
  }

  /** The first failure is told, and those after it are not. */
  private cannotAsk(error: RedisUnavailableError): Effect.Effect<void> {
    this.limit.tell(false)
    const first = this.failure === undefined
    this.failure = error
    return first ? this.borrower.emitter.internalError("Store", error) : Effect.void
  }

  /** The time of the lease is over, and Redis has not given it more. */
  private ended(): Effect.Effect<void> {
    if (!["open", "local"].includes(this.settings.onStoreError)) return this.lose()
    if (this.failure !== undefined || this.repeated) return this.goOn
    const { asked, noAnswer } = this.questions
    if (asked === undefined) return this.lose()
    // If this process stood still, the answer may be there, and is read after the timers.
    return Effect.zipRight(
      reading,
      Effect.suspend(() =>
        this.questions.asked === asked ? Effect.zipRight(this.goOn, this.cannotAsk(noAnswer)) : Effect.void
      )
    )
  }

  /** It holds nothing, and Redis cannot be asked. */
  private readonly goOn: Effect.Effect<void> = Effect.suspend(() =>
    Effect.map(this.redis.processes, (processes) => this.goOnAlone(processes))
  )

  private goOnAlone(processes: number): void {
    const { borrower, lease, most, settings: { onStoreError } } = this
    const limit = aloneLimit(onStoreError, most, processes)
    lease.goOn(limit > 0)
    const shut = onStoreError === "fail" ? "StoreUnavailable" : undefined
    borrower.lend({ limit, isGood: lease.isGood, hoped: 0, shut })
  }

  private lose(): Effect.Effect<void> {
    const { borrower, settings } = this
    const active = borrower.used()
    this.lease.end()
    this.peak.forget()
    this.waits = false
    if (this.failure === undefined) {
      this.due = 0
      this.lend(0)
      this.bell.ring()
    }
    const next = this.failure === undefined ? Effect.void : this.goOn
    if (active === 0) return next
    return Effect.map(next, () => {
      this.lost(1)
      const { emitter } = borrower
      if (emitter.listening) emitter.emit({ _tag: "LeaseLost", active })
      if (settings.onLeaseLost === "interrupt") this.calls.interruptAll()
    })
  }

  /** Hands out so many, of those it holds. */
  private lend(limit: number): void {
    if (this.closed) return
    const { failure, lease: { held, isGood }, most, waits } = this
    const hoped = waits || failure !== undefined ? 0 : Math.max(0, most - held)
    this.unmet += this.borrower.lend({ limit, isGood, hoped, shut: undefined })
  }

  open(): void {
    this.lend(0)
  }

  /** What runs keeps its permits until the lease ends; all others go back. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    const used = Math.min(this.borrower.used(), this.lease.held)
    // Nobody lends any more, and who waited would wait for ever.
    this.borrower.lend({ limit: 0, hoped: 0, shut: "StoreUnavailable" })
    if (this.questions.isFirst && this.limit.order === undefined) return Effect.void
    // An operator's order goes with it, if it has not gone before.
    const sent = Effect.isSuccess(this.send({ keep: used, want: used, need: 1 }))
    return Effect.map(sent, (isTaken) => this.limit.tell(isTaken))
  })
}

/** @internal */
export const lendBy =
  (redis: RedisConnection.Service, settings: Settings) => (borrower: Borrower): Effect.Effect<Lender, never, Scope> =>
    Effect.gen(function*() {
      const random = yield* Effect.random
      const lender = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const lender = new RedisLender(redis, borrower, settings, () => Effect.runSync(random.next))
          lender.open()
          return lender
        }),
        ({ close }) => close
      )
      yield* redis.subscribe(lender.listener.channel, lender.listener)
      yield* Effect.forkScoped(Effect.interruptible(lender.run))
      yield* Effect.forkScoped(Effect.interruptible(lender.watch))
      return lender.lender
    })
