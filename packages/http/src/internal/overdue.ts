import { metric } from "@effect-resilience/core/extension"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { RequestInfo } from "./request.js"

/** A limit of time in a dry run: nobody is cut off, and who would be is counted when all is over. @internal */
export interface Overdue {
  /** In milliseconds. */
  readonly limitOf: (request: RequestInfo) => number | undefined
  readonly count: () => void
}

/** @internal */
export const overdue = (
  pattern: "Timeout" | "Deadline",
  name: string,
  limitOf: Overdue["limitOf"]
): Overdue => {
  const rejected = metric.rejections<"LimitExceeded" | "Expired">(pattern, name, false)
  return { limitOf, count: () => rejected(pattern === "Timeout" ? "LimitExceeded" : "Expired") }
}

/** Counts by all of these how long an effect takes. @internal */
export const watchTime = <A, E, R>(
  limits: ReadonlyArray<Overdue>,
  request: RequestInfo,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  limits.length === 0 ? effect : Effect.flatMap(Clock.currentTimeNanos, (start) =>
    Effect.ensuring(
      effect,
      Effect.map(Clock.currentTimeNanos, (now) => {
        const took = Number(now - start) / 1e6
        for (const { count, limitOf } of limits) if (took >= (limitOf(request) ?? Infinity)) count()
      })
    ))
