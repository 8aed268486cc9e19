import type { Bulkhead } from "../../Bulkhead.js"
import type { KeyedOptions } from "../../Pattern.js"
import { fairField } from "../fair.js"
import { keyedFields } from "../keyed.js"
import * as option from "../options.js"

/** Of each pool. */
const poolFields = {
  maxConcurrent: option.integer(10, { min: 1 }),
  maxQueued: option.integer(10, { min: 0 }),
  maxWait: option.duration("1 second", { min: 0, infinite: true }),
  order: option.literal("fifo", "fifo", "lifo", "adaptive")
} satisfies option.Fields<Bulkhead.PoolOptions>

/** The options, their defaults and what they accept. @internal */
export const bulkheadFields = { ...poolFields, fair: fairField } satisfies option.Fields<Bulkhead.Options>

/** @internal */
export type Named = Bulkhead.Options & { readonly name: string }

/** Reads the options of a bulkhead. Throws an `InvalidOptionError` for a bad one. @internal */
export const check = (options: Named) => option.resolve("Bulkhead", options.name, bulkheadFields, options)

/** Reads the options of a pool. Throws an `InvalidOptionError` for a bad one. @internal */
export const checkPool = ({ name, ...given }: Bulkhead.PoolOptions & { readonly name: string }) =>
  option.resolve("Bulkhead", name, poolFields, given)

/** @internal */
export type KeyedOwn = Bulkhead.PoolOptions & KeyedOptions<Bulkhead.PoolOptions>

/** Reads the options of a keyed bulkhead. Throws an `InvalidOptionError` for a bad one. @internal */
export const checkKeyed = ({ name, ...given }: KeyedOwn & { readonly name: string }) => {
  const keyed = option.resolve("Bulkhead", name, { ...poolFields, ...keyedFields<Bulkhead.PoolOptions>() }, given)
  return { keyed, own: option.pick(given, poolFields) }
}

const parsePermits = option.parseInteger({ min: 1 })

/** A number that a call gives: nonsense is a bug of the caller. */
const orThrow = (field: string) => (name: string, input: number): number => {
  try {
    return parsePermits(input)
  } catch {
    throw new option.InvalidOptionError("Bulkhead", name, field, input, "an integer of at least 1")
  }
}

/** The number of permits of a call. @internal */
export const permitsOrDie = orThrow("permits")

/** What a bulkhead is resized to. @internal */
export const limitOrDie = orThrow("maxConcurrent")
