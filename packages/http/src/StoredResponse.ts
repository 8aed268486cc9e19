/**
 * A response as it is kept, to be sent again.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * Its encoded form is JSON, for stores outside of this process.
 *
 * @since 0.1.0
 * @category models
 */
export const StoredResponse = Schema.Struct({
  status: Schema.Int,
  headers: Schema.Record({ key: Schema.String, value: Schema.String }),
  /** The values of `Set-Cookie`. */
  cookies: Schema.Array(Schema.String),
  /** `null` where the response cannot be repeated: a stream, or more than was to be kept. */
  body: Schema.NullOr(Schema.Uint8ArrayFromBase64)
})

/**
 * @since 0.1.0
 * @category models
 */
export type StoredResponse = typeof StoredResponse.Type
