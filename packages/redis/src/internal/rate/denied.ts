import type { RateLimiterStore } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import { ByKey } from "./byKey.js"
import type { Plan } from "./plan.js"
import { Told } from "./told.js"

interface Denied {
  readonly plan: Plan
  /** Whoever asks for as much or more is denied. */
  readonly cost: number
  /** When it makes sense to ask again, and from when this is not told any more: milliseconds of this process. */
  readonly readyAt: number
  readonly until: number
  readonly resetAt: number
  readonly decision: RateLimiterStore.Decision
}

/**
 * Keys that the store has denied, until it makes sense to ask again.
 *
 * The store said how long that is, from its own time of the decision, which was not before the question was sent: so a
 * denial that is told again from here never lasts longer than there. Nothing but a refund, a reward and a reset can make it
 * shorter. Those of this process are known here (`forget`), and those of others are seen after `maxMillis`.
 *
 * @internal
 */
export class DeniedKeys {
  private readonly keys: ByKey<Denied>
  /** Changes with each `forget`: what was asked before and is answered after is not remembered. */
  generation = 0

  constructor(maxKeys: number, private readonly maxMillis: number) {
    this.keys = new ByKey(maxKeys)
  }

  get size(): number {
    return this.keys.size
  }

  /** The denial of a request, if it is certain. */
  find(request: RateLimiterStore.Request, plan: Plan, now: number): RateLimiterStore.Decision | undefined {
    if (this.keys.size === 0) return undefined
    const denied = this.keys.get(request.instance, request.key)
    if (denied === undefined || denied.plan !== plan || request.mode === "atMost" || request.cost < denied.cost) {
      return undefined
    }
    if (now >= denied.until) {
      this.keys.delete(request.instance, request.key)
      return undefined
    }
    const wait = denied.readyAt - now
    // One that may wait for so long gets its reservation.
    if (request.mode === "reserve" && wait <= Duration.toMillis(request.maxWait)) return undefined
    const { limit, remaining, window } = denied.decision
    return new Told(0, limit, window, remaining, Math.ceil(wait * 1000), Math.ceil((denied.resetAt - now) * 1000))
  }

  /** A decision of the store on a request that came at that time, and was sent when `generation` was as given. */
  remember(
    request: RateLimiterStore.Request,
    plan: Plan,
    decision: RateLimiterStore.Decision,
    asked: number,
    generation: number
  ): void {
    if (decision.granted > 0 || decision.full === true || request.mode === "atMost") return
    if (generation !== this.generation || this.maxMillis <= 0) return
    // Rounded down: the store rounds what it says up to the next microsecond.
    const readyAt = asked + Duration.toMillis(decision.wait) - 0.001
    this.keys.set(request.instance, request.key, {
      plan,
      cost: request.cost,
      readyAt,
      until: Math.min(readyAt, asked + this.maxMillis),
      resetAt: asked + Duration.toMillis(decision.resetAfter),
      decision
    })
  }

  /** Something is given back to the key. Call it before that is sent, and when it is done. */
  forget({ instance, key }: RateLimiterStore.Target): void {
    this.generation++
    this.keys.delete(instance, key)
  }
}
