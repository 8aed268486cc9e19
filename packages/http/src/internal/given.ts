import { option } from "@effect-resilience/core/extension"
import * as Predicate from "effect/Predicate"
import type { HttpResilience } from "../HttpResilience.js"

const made = new WeakMap<object, HttpResilience.Options>()

/** A policy remembers what it was made of. @internal */
export const remember = (policy: HttpResilience.Middleware, options: HttpResilience.Options): typeof policy => {
  made.set(policy, options)
  return policy
}

/**
 * The options that are given, or those of a policy: the same object each time. Throws for a function that is no policy,
 * which the types let through, for each has a `name`.
 *
 * @internal
 */
export const optionsOf = <O extends HttpResilience.AdmissionOptions>(given: O | HttpResilience.Middleware) => {
  if (!Predicate.isFunction(given)) return given
  const options = made.get(given)
  if (options !== undefined) return options
  const requirement = "options, or a policy as HttpResilience made it"
  throw new option.InvalidOptionError("HttpResilience", given.name, "policy", given, requirement)
}
