import * as Option from "effect/Option"
import { parseItem } from "structured-headers"

/** Longer ones are nobody's keys. */
const longest = 255

/** A key that is no structured string, as many clients send it: a bare word. */
const bare = /^[\x21\x23-\x2b\x2d-\x7e]+$/

/**
 * The key of an `Idempotency-Key` field: a string of structured fields (RFC 9651), `"8e03978e-…"` with its quotes. Lines
 * that came twice are no key.
 *
 * @internal
 */
export const parseKey = (field: string, allowUnquoted: boolean): Option.Option<string> => {
  const text = field.trim()
  const key = allowUnquoted && bare.test(text) ? text : stringOf(text)
  return key !== undefined && key.length > 0 && key.length <= longest ? Option.some(key) : Option.none()
}

const stringOf = (text: string): string | undefined => {
  try {
    const [value] = parseItem(text)
    return typeof value === "string" ? value : undefined
  } catch {
    return undefined
  }
}
