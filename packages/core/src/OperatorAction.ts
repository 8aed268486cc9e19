/**
 * What operators did to instances at run time.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { eventFields } from "./internal/event.js"

/**
 * Somebody acted on an instance by hand, or tried to: the audit trail. What lasts for a while only has two of these, one
 * when it is applied and one when it is returned.
 *
 * @since 0.1.0
 * @category events
 */
export const OperatorAction = Schema.TaggedStruct("OperatorAction", {
  ...eventFields("Operator"),
  pattern: Schema.String,
  /** Who. */
  actor: Schema.String,
  /** What, as the `Registry` names it. */
  action: Schema.String,
  /** The input of the action as JSON, where there is one. */
  input: Schema.optional(Schema.String),
  /** Why, in the words of who did it. */
  reason: Schema.String,
  /** `Refused` is what the instance did not take. */
  phase: Schema.Literal("Applied", "Returned", "Refused"),
  /** When it will be returned, in milliseconds since the epoch. */
  until: Schema.optional(Schema.Finite)
})

/**
 * @since 0.1.0
 * @category events
 */
export type OperatorAction = typeof OperatorAction.Type
