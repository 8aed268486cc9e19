import * as Predicate from "effect/Predicate"
import type { FairQueue } from "../FairQueue.js"
import { OptionThrewError } from "../Outcome.js"
import * as option from "./options.js"
import type { Share } from "./waiters.js"

type Input = boolean | FairQueue.Options

const isOptions = (input: unknown): input is FairQueue.Options =>
  Predicate.isRecord(input) && Object.keys(input).every((key) => key === "weight") &&
  (input["weight"] === undefined || Predicate.isFunction(input["weight"]))

/** The option `fair`: absent is one line for all. @internal */
export const parseFair = (input: Input): FairQueue.Options | undefined => {
  if (input === false) return undefined
  if (input === true) return {}
  if (isOptions(input)) return input
  throw new option.Requirement("true, false, or { weight } where weight is a function of the key")
}

/** @internal */
export const fairField: option.Field<Input, FairQueue.Options | undefined> = option.field<
  Input,
  FairQueue.Options | undefined
>(false, parseFair)

const parseWeight = option.parseNumber({ min: 0.01, max: 100 })

/** The share of a key. A key without the option, or a weight that is none, is a bug of the caller. @internal */
export const shareOf = (
  pattern: string,
  instance: string,
  fair: FairQueue.Options | undefined,
  key: string | undefined
): Share | undefined => {
  if (key === undefined) return undefined
  if (fair === undefined || !Predicate.isString(key)) {
    const needed = fair === undefined ? "absent, because the option fair is not set" : "a string"
    throw new option.InvalidOptionError(pattern, instance, "key", key, needed)
  }
  let weight: number
  try {
    weight = fair.weight?.(key) ?? 1
  } catch (error) {
    throw new OptionThrewError(pattern, instance, "fair.weight", error)
  }
  try {
    return { key, weight: parseWeight(weight) }
  } catch {
    throw new option.InvalidOptionError(
      pattern,
      instance,
      "fair.weight",
      weight,
      "a number from 0.01 to 100 of each key"
    )
  }
}
