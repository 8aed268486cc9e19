import * as Context from "effect/Context"
import type * as Fiber from "effect/Fiber"
import type { Deadline } from "../Deadline.js"
import { Priority } from "../Priority.js"

/** @internal */
export const deadlineKey = "@effect-resilience/Deadline"

/** The key of `Deadline`, for what `Deadline` itself is built on. @internal */
export const DeadlineTag = Context.GenericTag<never, Deadline.Instant | undefined>(deadlineKey)

/** The ambient deadline, read from the fiber without a run-loop step. @internal */
export const deadlineOf = (fiber: Fiber.RuntimeFiber<any, any>): Deadline.Instant | undefined =>
  fiber.currentContext.unsafeMap.get(deadlineKey)

/** The ambient priority, read from the fiber without a run-loop step. @internal */
export const priorityOf = (fiber: Fiber.RuntimeFiber<any, any>): Priority.Level =>
  fiber.currentContext.unsafeMap.get(Priority.key) ?? "normal"
