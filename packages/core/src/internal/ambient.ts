import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import type { Deadline } from "../Deadline.js"
import { Priority } from "../Priority.js"
import type { Nanos } from "./time.js"

/** @internal */
export const deadlineKey = "@effect-resilience/Deadline"

/** The key of `Deadline`, for what `Deadline` itself is built on. @internal */
export const DeadlineTag = Context.GenericTag<never, Deadline.Instant | undefined>(deadlineKey)

/**
 * A deadline that is enforced: the region of `limit`. A fiber may outlive the region it was forked in and still has it in
 * its context, so the region knows whether it stands. Its instant cannot: several regions may share one.
 *
 * @internal
 */
export class Region implements Deadline.Instant {
  readonly at: Nanos
  readonly origin: Deadline.Origin
  /** Whether the effect that it limits has ended. */
  over = false
  private armed = true
  private relying: Set<() => void> | undefined

  constructor({ at, origin }: Deadline.Instant, public outer: Deadline.Instant | undefined) {
    this.at = at
    this.origin = origin
  }

  /**
   * Spares a timer to whoever has a later limit. `task` is called when this region interrupts nothing any more; where
   * that is so already, the answer is `undefined`. Otherwise it is what takes the task back.
   */
  relyOn(task: () => void): (() => void) | undefined {
    if (!this.armed) return undefined
    const relying = this.relying ??= new Set()
    relying.add(task)
    return () => relying.delete(task)
  }

  /** It has interrupted, or never will. */
  disarm(): void {
    this.armed = false
    const relying = this.relying
    this.relying = undefined
    relying?.forEach((task) => task())
  }

  end(): void {
    this.over = true
    this.disarm()
  }
}

/** The innermost that stands, from this one outwards. */
const standing = (instant: Deadline.Instant | undefined): Deadline.Instant | undefined => {
  let one = instant
  while (one instanceof Region && one.over) one = one.outer
  return one
}

/** The first to come of those that stand. Regions that are over are dropped on the way, or a chain could grow for ever. */
const first = (innermost: Deadline.Instant): Deadline.Instant | undefined => {
  let one = standing(innermost)
  let found = one
  while (one instanceof Region) {
    one = one.outer = standing(one.outer)
    if (one !== undefined && found !== undefined && one.at <= found.at) found = one
  }
  return found
}

/** The ambient deadline, read from the fiber without a run-loop step. @internal */
export const deadlineOf = (fiber: Fiber.RuntimeFiber<any, any>): Deadline.Instant | undefined => {
  const innermost = innermostOf(fiber)
  return innermost && first(innermost)
}

/** The innermost region, which may be over. @internal */
export const innermostOf = (fiber: Fiber.RuntimeFiber<any, any>): Deadline.Instant | undefined =>
  fiber.currentContext.unsafeMap.get(deadlineKey)

/** The ambient priority, read from the fiber without a run-loop step. @internal */
export const priorityOf = (fiber: Fiber.RuntimeFiber<any, any>): Priority.Level =>
  fiber.currentContext.unsafeMap.get(Priority.key) ?? "normal"

/** The rank of the ambient priority. Outside of a fiber it is the usual one. @internal */
export const rankOf = (fiber: Option.Option<Fiber.RuntimeFiber<any, any>>): number =>
  Priority.rank(fiber._tag === "Some" ? priorityOf(fiber.value) : "normal")
