/**
 * How important a call is. Read per call by whatever has to choose between calls: bulkheads, shedders, limiters.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Order from "effect/Order"
import * as Schema from "effect/Schema"
import * as option from "./internal/options.js"
import type { Guard } from "./Pattern.js"

const ranks = { critical: 4, high: 3, normal: 2, low: 1, sheddable: 0 } as const

/**
 * The ambient priority, `"normal"` unless a region says otherwise.
 *
 * @example
 * import { Priority } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * const checkout = Effect.void.pipe(Priority.within("critical"))
 *
 * @since 0.1.0
 * @category references
 */
export class Priority extends Context.Reference<Priority>()("@effect-resilience/Priority", {
  defaultValue: (): Priority.Level => "normal"
}) {
  /** Sets the priority of a region. Costs some microseconds; what is forked inside inherits it. */
  static readonly within = (level: Priority.Level): Guard => {
    if (!Priority.levels.includes(level)) {
      throw new option.InvalidOptionError("Priority", "within", "level", level, `one of ${Priority.levels.join(", ")}`)
    }
    return (effect) => Effect.provideService(effect, Priority, level)
  }

  /** `4` for critical down to `0` for sheddable. */
  static readonly rank = (level: Priority.Level): number => ranks[level]

  /** Orders levels by importance, the least important first. */
  static readonly Order: Order.Order<Priority.Level> = Order.mapInput(Order.number, Priority.rank)

  /** The levels, the most important first. */
  static readonly levels: ReadonlyArray<Priority.Level> = ["critical", "high", "normal", "low", "sheddable"]

  /** The level as a schema, for headers and configuration. */
  static readonly Level = Schema.Literal("critical", "high", "normal", "low", "sheddable")
}

/**
 * @since 0.1.0
 */
export declare namespace Priority {
  /**
   * @since 0.1.0
   * @category models
   */
  export type Level = "critical" | "high" | "normal" | "low" | "sheddable"
}
