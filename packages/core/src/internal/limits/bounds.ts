import type { Limit } from "../../Limit.js"
import * as option from "../options.js"

/** The options that all algorithms have. @internal */
export const boundsFields = {
  initialLimit: option.integer(20, { min: 1 }),
  minLimit: option.integer(2, { min: 1 }),
  maxLimit: option.integer(1000, { min: 1 })
} satisfies option.Fields<Limit.Bounds>

/** @internal */
export interface Bounds {
  readonly initialLimit: number
  readonly minLimit: number
  readonly maxLimit: number
}

/** Refuses bounds that contradict each other, rather than to start outside of them. @internal */
export const checkBounds = <B extends Bounds>(pattern: string, instance: string, bounds: B): B => {
  const { initialLimit, maxLimit, minLimit } = bounds
  const fail = (field: string, value: number, requirement: string): never => {
    throw new option.InvalidOptionError(pattern, instance, field, value, requirement)
  }
  if (maxLimit < minLimit) fail("maxLimit", maxLimit, `at least minLimit (${minLimit})`)
  if (initialLimit < minLimit) fail("initialLimit", initialLimit, `at least minLimit (${minLimit})`)
  if (initialLimit > maxLimit) fail("initialLimit", initialLimit, `at most maxLimit (${maxLimit})`)
  return bounds
}

/** The options of an algorithm, with bounds that fit together. @internal */
export const resolveLimit = <F extends typeof boundsFields & Record<string, option.Field<any, any>>>(
  name: string,
  fields: F,
  options: { readonly [K in keyof F]?: unknown }
): option.Resolved<F> & Bounds => {
  const resolved = option.resolve("Limit", name, fields, options) as option.Resolved<F> & Bounds
  // Bounds that were not asked for give way to those that were.
  const given = (field: keyof Bounds) => options[field] !== undefined
  const minLimit = given("minLimit")
    ? resolved.minLimit
    : Math.min(resolved.minLimit, given("initialLimit") ? resolved.initialLimit : Infinity, resolved.maxLimit)
  const maxLimit = given("maxLimit")
    ? resolved.maxLimit
    : Math.max(resolved.maxLimit, given("initialLimit") ? resolved.initialLimit : 0, minLimit)
  const initialLimit = given("initialLimit")
    ? resolved.initialLimit
    : Math.min(Math.max(resolved.initialLimit, minLimit), maxLimit)
  return checkBounds("Limit", name, { ...resolved, initialLimit, minLimit, maxLimit })
}

/** @internal */
export const clamp = ({ maxLimit, minLimit }: Bounds, limit: number): number =>
  Math.max(minLimit, Math.min(maxLimit, limit))

/** What an operator sets, within the bounds. What is no number leaves the limit where it is. @internal */
export const wished = (bounds: Bounds, wish: number, current: number): number =>
  Number.isNaN(wish) ? current : clamp(bounds, Math.floor(wish))

/** Whether a latency can be believed: a clock that was stepped gives odd ones. @internal */
export const isLatency = (latency: number): boolean => Number.isFinite(latency) && latency >= 0
