import type { Borrower, Lender } from "@effect-resilience/core/extension"
import { metric } from "@effect-resilience/core/extension"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { RedisConnection } from "../../RedisConnection.js"
import { RedisUnavailableError } from "../../RedisUnavailableError.js"
import { afterReading, realNow } from "../realTime.js"
import { Bell } from "./bell.js"
import { Calls } from "./calls.js"
import type { Plan } from "./plan.js"
import { plan } from "./plan.js"
import type { Answer } from "./settle.js"
import { answerOf, argsOf, keysOf, settle } from "./settle.js"

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
/** How long one that waits is believed to be there. */
const patience = 2500
/** A process keeps for so long what it was given, or permits would go round faster than calls end. */
const turn = 20
/** After a failure. */
const retry = 200
/** The part of a lease that is not used, for clocks that do not run alike and for an event loop that is busy. */
const margin = 0.05

/** What has come meanwhile is read. */
const reading = Effect.async<void>((resume) => afterReading(() => resume(Effect.void)))

/**
 * Lends a bulkhead of this process what the process holds by its lease. One fiber asks, one question at a time, and another
 * sees the lease end; all else is synchronous, and no call waits for Redis while the process has permits that are free.
 */
class RedisLender {
  /** Among all that share the permits: a process may have several bulkheads of one name, by mistake. */
  private readonly id = randomUUID()
  private held = 0
  /** Until when it may use what it holds. */
  private until = 0
  private fence = 0
  private spare: number | undefined
  private gained = 0
  private waits = false
  private most: number
  private resizeTo = 0
  private seq = 0
  /** When it asked what it has no answer to yet. */
  private asked: number | undefined
  /** When to ask again; Infinity for one that neither holds nor waits. */
  private due = Infinity
  /** It is first in line, and something is free. */
  private called = false
  private failure: RedisUnavailableError | undefined
  /** It lends what nobody has lent it, as Redis cannot be asked. */
  private alone = false
  /** It asks again what it has not heard the answer to. */
  private repeated = false
  /** Permits that calls asked for which were turned away since the last time it asked. */
  private unmet = 0
  private peak = 0
  private formerPeak = 0
  private peakSince = 0
  private processes = 1
  private closed = false
  /** There is something to say. */
  private readonly bell = new Bell()
  /** It holds something. */
  private readonly holds = new Bell()
  private readonly isGood = (): boolean => realNow() < this.until
  /** Another lease than that of its permit may have begun before a call does, and hold less. */
  private readonly covers = (): boolean => this.isGood() && (this.alone || this.borrower.used() <= this.held)
  private readonly calls: Calls
  private readonly keys: ReadonlyArray<string>
  private readonly channel: string
  private readonly lost: (by: number) => void

  constructor(
    private readonly redis: RedisConnection.Service,
    private readonly borrower: Borrower,
    private readonly settings: Settings,
    private readonly random: () => number
  ) {
    const { channel, keys } = keysOf(redis.prefix, borrower.name)
    this.keys = keys
    this.channel = channel
    this.most = borrower.maxConcurrent
    this.calls = new Calls({
      covers: this.covers,
      fence: () => this.alone ? Option.none() : Option.some(this.fence),
      error: () => borrower.error("LeaseLost")
    }, { interrupt: settings.onLeaseLost === "interrupt", fences: settings.fences })
    this.lost = metric.counter(
      "resilience.bulkhead.leases.lost",
      "Leases that ended while calls ran by them",
      metric.attributes("Bulkhead", borrower.name)
    )
  }

  get lender(): Lender {
    return {
      used: this.used,
      queued: this.queued,
      around: this.calls.around,
      resize: (most) =>
        Effect.sync(() => {
          this.resizeTo = most
          this.resized(most)
          this.due = 0
          this.bell.ring()
        })
    }
  }

  get listener() {
    return {
      onMessage: this.heard,
      onGap: () => {
        this.due = 0
        this.bell.ring()
      }
    }
  }

  private readonly used = (used: number): void => {
    if (used > this.peak) this.peak = used
    const { held, spare } = this
    // Others wait, and this process has something for them.
    if (spare !== undefined && used < held && (spare < held || this.borrower.waiting() === 0)) this.bell.ring()
  }

  private readonly queued = (): void => {
    if (!this.waits && this.failure === undefined) this.bell.ring()
  }

  /** Somebody waits: `<who is first> <what others may hold> <what is free>`. */
  private readonly heard = (message: string): void => {
    const [head, spare, free] = message.split(" ")
    if (head === this.id) {
      this.spare = undefined
      this.called = Number(free) > 0
    } else if (this.held > 0) {
      this.spare = Number(spare)
    }
    this.bell.ring()
  }

  private plan(): Plan {
    const { borrower, held, most, spare } = this
    const wanted = borrower.wanted()
    return plan({
      held,
      most,
      spare,
      used: borrower.used(),
      peak: Math.max(this.peak, this.formerPeak),
      wanted: { all: wanted.all + this.unmet, most: wanted.most },
      settled: realNow() >= this.gained + turn
    })
  }

  /** Whether there is something to say before the time comes. */
  private wouldAsk({ keep, want }: Plan): boolean {
    if (this.failure !== undefined) return false
    return this.called || keep < this.held || (want > this.held && !this.waits)
  }

  /** Asks whenever there is something to say, for as long as the scope is open. */
  readonly run: Effect.Effect<never> = Effect.forever(Effect.suspend(() => {
    const now = realNow()
    this.agePeak(now)
    const planned = this.plan()
    if (now < this.due && !this.wouldAsk(planned)) {
      // What is above its part goes to nobody here from now on.
      if (this.failure === undefined && planned.limit < this.held) this.lend(planned.limit)
      return this.bell.until(this.nextTime(now))
    }
    if (this.held === 0 && planned.want === 0 && !this.waits && this.resizeTo === 0 && this.failure === undefined) {
      this.due = Infinity
      return this.bell.until(this.due)
    }
    return this.ask(planned)
  }))

  /** Sees the lease end, though the answer to a question may be still to come. */
  readonly watch: Effect.Effect<never> = Effect.forever(Effect.suspend(() => {
    if (this.held === 0) return this.holds.until(Infinity)
    return this.isGood() ? this.holds.until(this.until) : this.ended()
  }))

  private nextTime(now: number): number {
    const settled = this.gained + turn
    const parting = this.spare !== undefined && this.held > 0 && settled > now ? settled : Infinity
    return Math.min(this.due, parting)
  }

  private agePeak(now: number): void {
    // With each of its asks, or what was used once would count for another second.
    if (now < this.peakSince + poll * (1 - early)) return
    this.formerPeak = this.peak
    this.peak = this.borrower.used()
    this.peakSince = now
  }

  private ask(planned: Plan): Effect.Effect<void> {
    if (!this.alone) {
      // From here on it uses no more than what it says to keep.
      this.held = planned.keep
      this.lend(planned.limit)
    }
    this.called = false
    const sent = this.asked = realNow()
    const { resizeTo } = this
    return Effect.matchEffect(this.send(planned, resizeTo), {
      onSuccess: (answer) =>
        Effect.suspend(() => {
          this.asked = undefined
          if (resizeTo === this.resizeTo) this.resizeTo = 0
          return answer === undefined ? Effect.void : this.answered(answer, sent)
        }),
      onFailure: (error) =>
        Effect.suspend(() => {
          this.asked = undefined
          return this.failed(error)
        })
    })
  }

  private send({ keep, need, want }: Plan, resize: number) {
    const { lease, strict } = this.settings
    return Effect.map(
      this.redis.run(
        settle,
        this.keys,
        argsOf({
          id: this.id,
          seq: ++this.seq,
          keep,
          want,
          need: Math.min(need, this.most),
          lease: Math.ceil(lease * 1000),
          patience: patience * 1000,
          most: this.most,
          resize,
          strict,
          unheard: this.failure !== undefined || this.repeated,
          channel: this.channel
        })
      ),
      answerOf
    )
  }

  private answered(answer: Answer, sent: number): Effect.Effect<void> {
    const now = realNow()
    // From when it was sent: the server's lease began after that.
    const until = answer.held > 0 ? sent + this.settings.lease * (1 - margin) : 0
    if (answer.held > 0 && now >= until) return this.answeredTooLate()
    const lost = answer.lost ? this.lose() : Effect.void
    this.failure = undefined
    this.repeated = false
    this.held = answer.held
    this.alone = false
    this.until = until
    this.holds.ring()
    if (answer.fence > 0) {
      this.fence = answer.fence
      this.gained = now
    }
    this.spare = answer.spare
    this.waits = answer.waits
    this.unmet = 0
    // An answer from before an operator changed it knows nothing of that.
    if (this.resizeTo === 0) this.resized(answer.most)
    const { lease } = this.settings
    const again = Math.min(lease / 3, poll) * (1 - early * this.random())
    const soon = answer.waits && answer.soon !== undefined ? answer.soon + 1 + 4 * this.random() : Infinity
    this.due = answer.held > 0 || answer.waits ? now + Math.min(again, soon) : Infinity
    this.lend(this.plan().limit)
    return lost
  }

  /** What it was given is over already: it asks for it again. */
  private answeredTooLate(): Effect.Effect<void> {
    const lost = this.held > 0 ? this.lose() : Effect.void
    this.due = 0
    return lost
  }

  private resized(to: number): void {
    if (to === this.most) return
    const { emitter } = this.borrower
    if (emitter.listening) emitter.emit({ _tag: "Resized", from: this.most, to })
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
    if (this.held === 0) return Effect.zipRight(this.goOn, told)
    this.lend(this.held)
    return told
  }

  /** The first failure is told, and those after it are not. */
  private cannotAsk(error: RedisUnavailableError): Effect.Effect<void> {
    const first = this.failure === undefined
    this.failure = error
    return first ? this.borrower.emitter.internalError("Store", error) : Effect.void
  }

  /** The time of the lease is over, and Redis has not given it more. */
  private ended(): Effect.Effect<void> {
    const { asked } = this
    if (!["open", "local"].includes(this.settings.onStoreError)) return this.lose()
    if (this.failure !== undefined || this.repeated) return this.goOn
    if (asked === undefined) return this.lose()
    // If this process stood still, the answer may be there, and is read after the timers.
    return Effect.zipRight(
      reading,
      Effect.suspend(() => {
        if (this.asked !== asked) return Effect.void
        const error = new RedisUnavailableError({
          connection: this.redis.name,
          command: settle.name,
          reason: "Timeout",
          detail: "no answer before the end of the lease"
        })
        return Effect.zipRight(this.goOn, this.cannotAsk(error))
      })
    )
  }

  /** It holds nothing, and Redis cannot be asked. */
  private readonly goOn: Effect.Effect<void> = Effect.suspend(() =>
    Effect.map(this.redis.processes, (processes) => {
      this.held = 0
      this.processes = processes
      this.goOnAlone()
    })
  )

  /** What it does while Redis cannot be asked and it holds nothing. */
  private goOnAlone(): void {
    const { borrower, most, settings } = this
    const limit = {
      fail: 0,
      closed: 0,
      open: most,
      local: Math.max(1, Math.floor(most / this.processes))
    }[settings.onStoreError]
    this.alone = limit > 0
    if (this.alone) this.until = Infinity
    borrower.lend({
      limit,
      isGood: this.isGood,
      hoped: 0,
      shut: settings.onStoreError === "fail" ? "StoreUnavailable" : undefined
    })
  }

  private lose(): Effect.Effect<void> {
    const { borrower, settings } = this
    const active = borrower.used()
    this.held = 0
    this.until = 0
    this.peak = this.formerPeak = 0
    this.waits = false
    if (this.failure === undefined) {
      this.due = 0
      this.lend(0)
      this.bell.ring()
    } else {
      this.goOnAlone()
    }
    if (active === 0) return Effect.void
    return Effect.sync(() => {
      this.lost(1)
      const { emitter } = borrower
      if (emitter.listening) emitter.emit({ _tag: "LeaseLost", active })
      if (settings.onLeaseLost === "interrupt") this.calls.interruptAll()
    })
  }

  /** Hands out so many, of those it holds. */
  private lend(limit: number): void {
    if (this.closed) return
    const { failure, held, most, waits } = this
    const hoped = waits || failure !== undefined ? 0 : Math.max(0, most - held)
    this.unmet += this.borrower.lend({ limit, isGood: this.isGood, hoped, shut: undefined })
  }

  open(): void {
    this.lend(0)
  }

  /** What runs keeps its permits until the lease ends; all others go back. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    const used = Math.min(this.borrower.used(), this.held)
    // Nobody lends any more, and who waited would wait for ever.
    this.borrower.lend({ limit: 0, hoped: 0, shut: "StoreUnavailable" })
    if (this.seq === 0) return Effect.void
    return Effect.ignore(this.send({ limit: 0, keep: used, want: used, need: 1 }, 0))
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
      yield* redis.subscribe(keysOf(redis.prefix, borrower.name).channel, lender.listener)
      yield* Effect.forkScoped(Effect.interruptible(lender.run))
      yield* Effect.forkScoped(Effect.interruptible(lender.watch))
      return lender.lender
    })
