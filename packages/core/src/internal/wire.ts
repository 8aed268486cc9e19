import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"

/** What JSON can hold. @internal */
export type Json = string | number | boolean | null | ReadonlyArray<Json> | { readonly [key: string]: Json }

const deepest = 6

/**
 * Metrics and the fields of events as JSON: durations in milliseconds, an absent value and what has no end as `null`.
 * Whatever else it meets becomes text, so that no metric of anybody can break the page.
 *
 * @internal
 */
export const toWire = (value: unknown, depth = 0): Json => {
  if (value === undefined || value === null) return null
  if (Predicate.isString(value) || Predicate.isBoolean(value)) return value
  if (Predicate.isNumber(value)) return Number.isFinite(value) ? value : null
  if (Duration.isDuration(value)) return Duration.isFinite(value) ? Duration.toMillis(value) : null
  if (Option.isOption(value)) return Option.isSome(value) ? toWire(value.value, depth) : null
  if (depth === deepest) return "…"
  if (Array.isArray(value)) return value.map((item) => toWire(item, depth + 1))
  if (Predicate.isRecord(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toWire(item, depth + 1)]))
  }
  return typeof value === "symbol" || typeof value === "function" ? typeof value : String(value)
}
