import type { RateLimiterStore } from "@effect-resilience/core"
import { nowMillis } from "@effect-resilience/core/extension"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as RuntimeFlags from "effect/RuntimeFlags"
import type { RedisConnection } from "../../RedisConnection.js"
import { later, realNow } from "../realTime.js"
import type { Asking, Caller, Listener } from "./batches.js"
import { Batches } from "./batches.js"
import { DeniedKeys } from "./denied.js"
import type { LeaseOptions, Lender, Pool } from "./leases.js"
import { Leased, Leases } from "./leases.js"
import type { Plan, Plans } from "./plan.js"
import { unfit } from "./plan.js"
import { Singles } from "./singles.js"
import { changes } from "./store.js"

/** @internal */
export interface FrontOptions {
  readonly batching: boolean
  /** Milliseconds for which a denial is told again. */
  readonly deniedFor: number
  readonly maxDeniedKeys: number
  readonly leases: LeaseOptions | undefined
}

class FiberCaller implements Caller {
  constructor(
    readonly resume: Caller["resume"],
    private readonly fiber: Fiber.RuntimeFiber<unknown, unknown>,
    private readonly mayLeave: boolean
  ) {}

  /** What it does after its interruption may take long; who may not be interrupted waits for its answer. */
  isGone(): boolean {
    return this.fiber.unsafePoll() !== null ||
      (this.mayLeave && !Cause.isEmpty(this.fiber.getFiberRef(FiberRef.interruptedCause)))
  }
}

/** How long the number of processes is taken for known, in milliseconds: they are counted once a second. */
const processesKnownFor = 100

/**
 * What makes the store fast: what can be decided in this process is, and what cannot shares its round trip with all that
 * wait at the same moment.
 *
 * @internal
 */
export class Front implements RateLimiterStore.Service, Lender {
  readonly settlesWithin: Duration.Duration
  private readonly changes: ReturnType<typeof changes>
  private readonly asking: Asking
  private readonly denied: DeniedKeys
  private readonly leases: Leases | undefined
  /** The last request that could not be decided at once: whoever asks for the same next has asked already. */
  private missed: RateLimiterStore.Request | undefined
  private missedAt = 0
  private stopSweep: (() => void) | undefined
  private closed = false

  constructor(
    private readonly redis: RedisConnection.Service,
    private readonly plans: Plans,
    private readonly options: FrontOptions
  ) {
    // A batch may wait for the one before it, and a timer rings late.
    this.settlesWithin = Duration.sum(redis.commandTimeout, Duration.millis(20))
    this.changes = changes(redis, plans)
    this.denied = new DeniedKeys(options.maxDeniedKeys, options.deniedFor)
    this.leases = options.leases && new Leases(options.leases, this)
    const listener: Listener = {
      generation: () => this.denied.generation,
      decided: (request, plan, decision, asked, generation) =>
        this.denied.remember(request, plan, decision, asked, generation)
    }
    this.asking = options.batching
      ? new Batches(redis, Duration.toMillis(redis.commandTimeout), listener)
      : new Singles(redis, listener)
  }

  private known = 1
  private knownUntil = 0

  readonly processes = (): number => {
    const now = realNow()
    if (now >= this.knownUntil) {
      this.known = Effect.runSync(this.redis.processes)
      this.knownUntil = now + processesKnownFor
    }
    return this.known
  }

  private lastRates: RateLimiterStore.Target["rates"] | undefined
  private lastAlgorithm: RateLimiterStore.Algorithm | undefined
  private lastPlan: Plan | undefined

  /** The plan of a target, which mostly is that of the last one. */
  private planOf(target: RateLimiterStore.Target): Plan {
    const { algorithm, rates } = target
    if (rates === this.lastRates && algorithm === this.lastAlgorithm && this.lastPlan !== undefined) {
      return this.lastPlan
    }
    this.lastPlan = this.plans.of(target)
    this.lastRates = rates
    this.lastAlgorithm = algorithm
    return this.lastPlan
  }

  readonly decideAtOnce = (request: RateLimiterStore.Request): RateLimiterStore.Decision | undefined => {
    const plan = this.planOf(request)
    const leased = this.leased(request, plan)
    if (leased !== undefined) return leased
    const now = nowMillis()
    const denied = this.denied.find(request, plan, now)
    if (denied !== undefined) return denied
    this.missed = request
    this.missedAt = now
    return undefined
  }

  /** Whether it was asked at once, and in vain, just before. */
  private isMissed(request: RateLimiterStore.Request): boolean {
    const { missed } = this
    return missed !== undefined && missed.key === request.key && missed.instance === request.instance &&
      missed.rates === request.rates && missed.cost === request.cost && missed.mode === request.mode
  }

  readonly decide = (
    request: RateLimiterStore.Request
  ): Effect.Effect<RateLimiterStore.Decision, Error> =>
    Effect.withFiberRuntime((fiber, { runtimeFlags }) => {
      try {
        const decision = this.isMissed(request) ? undefined : this.decideAtOnce(request)
        if (decision !== undefined) return Exit.succeed(decision)
      } catch (error) {
        return unfit(error)
      }
      this.missed = undefined
      const plan = this.planOf(request)
      const asked = this.missedAt
      const mayLeave = RuntimeFlags.interruptible(runtimeFlags)
      // No canceler, which would be most of the price: an interrupted caller is gone when its turn comes.
      return Effect.async<RateLimiterStore.Decision, Error>((resume) =>
        this.asking.ask(request, plan, new FiberCaller(resume, fiber, mayLeave), asked)
      )
    })

  readonly refund = (request: RateLimiterStore.Request, decision: RateLimiterStore.Decision) =>
    // Used already: who takes from a lease has nothing to wait for.
    decision instanceof Leased
      ? Effect.succeed(false)
      : this.givingBack(request, this.changes.refund(request, decision))

  readonly adjust = (target: RateLimiterStore.Target, by: number) => {
    const change = this.changes.adjust(target, by)
    return by < 0 ? this.givingBack(target, change) : change
  }

  readonly drain = (target: RateLimiterStore.Target) =>
    Effect.suspend(() => {
      this.leases?.forget(target)
      return this.changes.drain(target)
    })

  readonly reset = (target: RateLimiterStore.Target) =>
    Effect.suspend(() => {
      this.leases?.forget(target)
      return this.givingBack(target, this.changes.reset(target))
    })

  /** Before and after: until the server has changed the key, it is denied, and that is remembered. */
  private givingBack<A>(target: RateLimiterStore.Target, change: Effect.Effect<A, Error>): Effect.Effect<A, Error> {
    const forget = Effect.sync(() => this.denied.forget(target))
    return Effect.zipRight(forget, Effect.ensuring(change, forget))
  }

  // Leases.

  private leased(request: RateLimiterStore.Request, plan: Plan): RateLimiterStore.Decision | undefined {
    const { leases } = this
    if (leases === undefined || this.closed) return undefined
    const decision = leases.take(request, plan, realNow())
    if (this.stopSweep === undefined && leases.size > 0) this.armSweep()
    return decision
  }

  readonly borrow = (pool: Pool, tokens: number): void => {
    const request: RateLimiterStore.Request = { ...pool.target, cost: tokens, mode: "atMost", maxWait: Duration.zero }
    this.borrowing++
    const lent = (exit: Exit.Exit<RateLimiterStore.Decision, Error>) => {
      const decision = Exit.isSuccess(exit) ? exit.value : undefined
      this.leases?.lent(pool, decision, realNow())
      if (--this.borrowing === 0) this.answered()
    }
    this.asking.ask(request, pool.plan, { resume: lent, isGone: () => false }, realNow())
  }

  readonly giveBack = (pool: Pool, tokens: number): void => {
    // Where it fails they count as used.
    this.returns.push(Effect.ignore(this.adjust(pool.target, -tokens)))
    if (this.returns.length > 1 || this.closed) return
    queueMicrotask(() => {
      if (this.closed) return
      Effect.runFork(Effect.all(this.returns.splice(0), { concurrency: "unbounded", discard: true }))
    })
  }

  private readonly returns: Array<Effect.Effect<void>> = []

  private armSweep(): void {
    const { leases, options } = this
    if (leases === undefined || options.leases === undefined || this.closed) return
    this.stopSweep = later(options.leases.heldFor, () => {
      this.stopSweep = undefined
      leases.sweep(realNow())
      if (leases.size > 0) this.armSweep()
    })
  }

  /** Questions for leases without an answer, and who waits until there is none: they end within the command's time. */
  private borrowing = 0
  private answered = () => {}

  private readonly allAnswered = Effect.async<void>((resume) => {
    this.answered = () => resume(Effect.void)
    if (this.borrowing === 0) this.answered()
  })

  /** Gives back what is leased, and what is on its way here. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    this.stopSweep?.()
    this.leases?.close()
    const giveBack = Effect.suspend(() =>
      Effect.all(this.returns.splice(0), { concurrency: "unbounded", discard: true })
    )
    return Effect.zipRight(this.allAnswered, giveBack)
  })
}
