import type * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Deadline } from "../Deadline.js"
import type { Outcome } from "../Outcome.js"
import type { Priority } from "../Priority.js"
import type { RateLimiter } from "../RateLimiter.js"
import { deadlineOf } from "./ambient.js"
import { now } from "./time.js"

/*
 * Admission in one synchronous step, for callers that hold a permit themselves. Most calls find one free, and then a scope,
 * a finalizer and their steps of the run loop are dearer than all that the pattern does.
 */

/** What a call says of itself, as it has no context of its own yet. @internal */
export interface Arrival {
  readonly priority: Priority.Level
  /** Defaults to the ambient one. */
  readonly deadline: Deadline.Instant | undefined
}

/** Gives back what was taken, when it is called and once. What is left to do is mostly nothing. @internal */
export type Leave = (outcome: Outcome) => Effect.Effect<void>

/**
 * Takes what is free. `undefined`: nothing has happened, and the call has to ask by `acquire`, for it may have to wait. It
 * must be called by a running fiber, in a region that cannot be interrupted.
 *
 * @internal
 */
export type EnterAtOnce<E, By = void> = (arrival: Arrival, by: By) => Leave | E | undefined

const known = new WeakMap<object, EnterAtOnce<any, any>>()

/** Has an instance let in at once, too. @internal */
export const lettingInAtOnce = <S extends object, E, By>(instance: S, enter: EnterAtOnce<E, By>): S => {
  known.set(instance, enter)
  return instance
}

/** How an instance lets in at once, where it can. @internal */
export const enterAtOnce = <E, By = void>(instance: object): EnterAtOnce<E, By> | undefined => known.get(instance)

/** A decision of a rate limiter in one step, or nothing has happened and `consume` has to be asked. @internal */
export type ConsumeAtOnce = (args: RateLimiter.Args) => RateLimiter.Decision | undefined

const limiters = new WeakMap<object, ConsumeAtOnce>()

/** Has a rate limiter decide at once, too. @internal */
export const decidingAtOnce = <S extends object>(instance: S, consume: ConsumeAtOnce): S => {
  limiters.set(instance, consume)
  return instance
}

/** How a rate limiter decides at once, where it can: that of this process. @internal */
export const consumeAtOnce = (instance: object): ConsumeAtOnce | undefined => limiters.get(instance)

/** Whether the time of a call is over. @internal */
export const isTooLate = ({ deadline }: Arrival): boolean => {
  const fiber = Fiber.getCurrentFiber()
  const instant = deadline ?? (fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined)
  return instant !== undefined && instant.at <= now()
}
