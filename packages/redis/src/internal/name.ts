import { option } from "@effect-resilience/core/extension"
import * as Predicate from "effect/Predicate"

/** A name that becomes part of a key, or is shown. Braces would move the key to another slot. @internal */
export const name = (fallback: string, shown?: string): option.Field<string, string> =>
  option.field<string, string>(fallback, (input) => {
    if (Predicate.isString(input) && /^[^{}\r\n]{1,100}$/.test(input)) return input
    throw new option.Requirement("a string of 1 to 100 characters without braces")
  }, shown)
