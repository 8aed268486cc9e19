/**
 * Failures of the library's own helpers.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { error, eventFields } from "./internal/event.js"

/**
 * A helper of ours failed: a subscriber's handler, a sampler, a store, a full table of keys. Calls are not affected. It
 * is an event of the instance and a logged warning, even where `EventLog` is absent.
 *
 * @since 0.1.0
 * @category events
 */
export const InternalError = Schema.TaggedStruct("InternalError", {
  ...eventFields("Internal"),
  pattern: Schema.String,
  source: Schema.Literal("Subscriber", "Keys", "Sampler", "Store", "Registry", "Option"),
  error
})

/**
 * @since 0.1.0
 * @category events
 */
export type InternalError = typeof InternalError.Type
