import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import type { RateLimiterStore } from "../../RateLimiterStore.js"
import type { Nanos } from "../time.js"
import { currentClock, fromNanos, toNanos } from "../time.js"
import type { Place } from "./line.js"
import { Plan } from "./plan.js"
import type { RateTable } from "./table.js"

/** What a key has left, as part of a decision. @internal */
export const standing = (table: RateTable, key: string, plan: Plan, now: Nanos) => {
  const { freeAt, rate } = plan.tightest(table.state(key, plan, now), now)
  return {
    limit: rate.limit,
    window: fromNanos(rate.window),
    remaining: table.available(key, plan, now),
    resetAfter: fromNanos(freeAt - now)
  }
}

/** Of a penalty and a drain, which have to be remembered. */
const noRoom = Effect.suspend(() =>
  Effect.fail(new Error("all keys of the store are live, so what a new key is charged is lost"))
)

/** Plans held by their text: rates come with each request. */
const maxPlans = 256

/**
 * The store of this process. It behaves as a remote one: what was reserved is counted at once, and is given back until its
 * time comes.
 *
 * @internal
 */
export const memoryStore = (ref: Ref.Ref<RateTable>, maxReservations: number): RateLimiterStore.Service => {
  const plans = new Map<string, Plan>()
  const planOf = ({ algorithm, rates }: RateLimiterStore.Target): Plan => {
    const text = `${algorithm} ${
      rates.map(({ burst, limit, window }) => `${limit}/${toNanos(window)}/${burst}`).join()
    }`
    let plan = plans.get(text)
    if (plan === undefined) {
      if (plans.size >= maxPlans) plans.clear()
      plan = new Plan(algorithm, rates.map(({ burst, limit, window }) => ({ limit, window: toNanos(window), burst })))
      plans.set(text, plan)
    }
    return plan
  }
  const on = <Target extends RateLimiterStore.Target, A>(
    target: Target,
    f: (table: RateTable, key: string, plan: Plan, now: Nanos) => A
  ): Effect.Effect<A> =>
    Effect.map(Ref.get(ref), (table) => {
      const key = `${target.instance}\u0000${target.algorithm}\u0000${target.key}`
      return f(table, key, planOf(target), currentClock().unsafeCurrentTimeNanos())
    })

  const full: RateLimiterStore.Decision = {
    granted: 0,
    limit: 0,
    window: fromNanos(0n),
    remaining: 0,
    wait: fromNanos(0n),
    resetAfter: fromNanos(0n),
    full: true
  }
  return {
    decide: (request) =>
      on(request, (table, key, plan, now) => {
        const clock = currentClock()
        const cost = request.mode === "atMost"
          ? Math.min(request.cost, Math.max(1, table.available(key, plan, now)))
          : request.cost
        const at = request.mode === "all" || request.mode === "atMost"
          ? table.take(key, plan, cost, now, clock)
          : table.ready(key, plan, cost, now)
        if (at === undefined) return full
        let reservation: Place | undefined
        const latest = now + toNanos(request.maxWait)
        if (request.mode === "reserve" && at <= latest && (at <= now || table.hasPlace(maxReservations, now))) {
          reservation = table.join(key, { plan, cost, latest, pinned: true, taken: true, wake: () => {} }, now, clock)
          if (reservation === undefined) return full
        }
        return {
          granted: at <= now || reservation !== undefined ? cost : 0,
          wait: fromNanos(at - now),
          reservation,
          ...standing(table, key, plan, now)
        }
      }),
    refund: (request, { granted, reservation }) =>
      on(request, (table, key, plan, now) => {
        if (reservation !== undefined) return table.leave(key, reservation as Place, now, currentClock())
        if (granted === 0) return false
        table.reward(key, plan, granted, now, currentClock())
        return true
      }),
    adjust: (target, by) =>
      Effect.flatten(on(target, (table, key, plan, now) => {
        if (by > 0) return table.penalize(key, plan, by, now, currentClock()) ? Effect.void : noRoom
        table.reward(key, plan, -by, now, currentClock())
        return Effect.void
      })),
    drain: (target) =>
      Effect.flatten(
        on(target, (table, key, plan, now) => table.drain(key, plan, now, currentClock()) ? Effect.void : noRoom)
      ),
    reset: (target) => on(target, (table, key, _plan, now) => table.reset(key, now, currentClock()))
  }
}
