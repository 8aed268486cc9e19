import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { RedisUnavailableError } from "../RedisUnavailableError.js"

/** The form of what is kept. A change of it is another letter: what an older or newer program has kept is not read. */
const form = "1"

/** Values as text, by their form on the wire. @internal */
export interface Codec<A> {
  readonly encode: (value: A) => string
  /** None where another form was kept. */
  readonly decode: (text: string) => Option.Option<A>
}

/** @internal */
export const codec = <A, I>(schema: Schema.Schema<A, I>): Codec<A> => {
  const json = Schema.parseJson(schema)
  const encode = Schema.encodeSync(json)
  const decode = Schema.decodeUnknownEither(json)
  return {
    encode: (value) => form + encode(value),
    decode: (text) => text.startsWith(form) ? Either.getRight(decode(text.slice(form.length))) : Option.none()
  }
}

/** Microseconds of a hundred years: whatever is longer is for ever, and has an end all the same. */
const longest = 100 * 365 * 86_400e6

/** A span of time for a script, in whole microseconds and at least one. @internal */
export const toMicros = (span: Duration.Duration): number =>
  Math.min(Math.max(1, Math.ceil(Duration.toMillis(span) * 1000)), longest)

/** A text of any length in one of 43 characters, which tells nothing of it. @internal */
export const digest = (text: string): string => createHash("sha256").update(text).digest("base64url")

/** Why a store failed, as the stores of `@effect-resilience/http` have it. @internal */
export const storeReason = ({ reason }: RedisUnavailableError): "Timeout" | "Full" | "Unavailable" =>
  reason === "Timeout" || reason === "Late" ? "Timeout" : reason === "OutOfMemory" ? "Full" : "Unavailable"
