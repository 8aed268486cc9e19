import * as Predicate from "effect/Predicate"
import type { Limit } from "../../Limit.js"

/** Whether a value has the shape of an algorithm. @internal */
export const isLimit = (input: unknown): input is Limit.Any =>
  Predicate.isRecord(input) && Predicate.isString(input["name"]) && "initial" in input &&
  ["limit", "onAdmit", "onReject", "onSample", "onDrop", "onIgnore", "inspect"].every((key) =>
    Predicate.isFunction(input[key])
  )
