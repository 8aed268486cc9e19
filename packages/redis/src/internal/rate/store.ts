import type { RateLimiterStore } from "@effect-resilience/core"
import * as Effect from "effect/Effect"
import type { RedisConnection } from "../../RedisConnection.js"
import type { RedisUnavailableError } from "../../RedisUnavailableError.js"
import type { Reservation } from "./codec.js"
import { base, keysOf, logKeys, rateArgs } from "./codec.js"
import type { Plan, Plans } from "./plan.js"
import { unfit, type UnfitRateError } from "./plan.js"
import { changeScript } from "./scripts.js"

/** A plan, or why there is none. */
const planFor = (plans: Plans, target: RateLimiterStore.Target): Effect.Effect<Plan, UnfitRateError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(plans.of(target))
    } catch (error) {
      return unfit(error)
    }
  })

/** All but the decisions. @internal */
export const changes = (
  redis: RedisConnection.Service,
  plans: Plans
): Omit<RateLimiterStore.Service, "decide"> => {
  const mark = (target: RateLimiterStore.Target) => `${base(redis.prefix, target)}d`
  type What = "+" | "-" | "c" | "d" | "x"
  const send = (
    plan: Plan,
    target: RateLimiterStore.Target,
    what: What,
    n: number,
    reservation: ReadonlyArray<string | number> = []
  ) =>
    redis.run(
      changeScript,
      [...keysOf(redis.prefix, plan, target), mark(target)],
      [plan.kind, what, n, ...reservation, ...rateArgs(plan)]
    )
  const change = (
    target: RateLimiterStore.Target,
    what: What,
    n: number,
    reservation?: ReadonlyArray<string | number>
  ) => Effect.flatMap(planFor(plans, target), (plan) => send(plan, target, what, n, reservation))
  /** A log forgets all windows that it has, or asks for it again with those that were not named. */
  const forgetLog = (
    target: RateLimiterStore.Target,
    windows: ReadonlyArray<string>
  ): Effect.Effect<void, RedisUnavailableError> =>
    Effect.flatMap(
      redis.run(
        changeScript,
        [...logKeys(redis.prefix, target, windows), mark(target)],
        ["l", "x", windows.length, ...windows]
      ),
      (reply) => Array.isArray(reply) ? forgetLog(target, reply.map(String)) : Effect.void
    )
  return {
    refund: (request, { granted, reservation }) => {
      if (reservation !== undefined) {
        const place = reservation as Reservation
        const { after, before, wait } = place
        return Effect.suspend(() => {
          // Its time has come already, or it was given back; or nobody knows, and it is not tried twice.
          if (wait === 0 || place.back) return Effect.succeed(false)
          place.back = true
          return Effect.map(change(request, "c", granted, [wait, before, after]), (reply) => reply === 1)
        })
      }
      return granted === 0 ? Effect.succeed(false) : Effect.as(change(request, "-", granted), true)
    },
    adjust: (target, by) => by === 0 ? Effect.void : Effect.asVoid(change(target, by > 0 ? "+" : "-", Math.abs(by))),
    drain: (target) => Effect.asVoid(change(target, "d", 0)),
    reset: (target) =>
      Effect.flatMap(planFor(plans, target), (plan) =>
        plan.kind === "l"
          ? forgetLog(target, plan.rates.map(({ name }) => name))
          : Effect.asVoid(send(plan, target, "x", 0)))
  }
}
