import type { Json } from "@effect-resilience/core/extension"
import { toWire } from "@effect-resilience/core/extension"
import * as Predicate from "effect/Predicate"

export { type Json, toWire }

/** The status of a response that counted as a failure, also where a retry gave it up. */
const statusOf = (error: unknown): number | undefined => {
  const answer = Predicate.isTagged(error, "RetryResultRejectedError") && "value" in error ? error.value : error
  return !(answer instanceof Error) && Predicate.hasProperty(answer, "status") && Predicate.isNumber(answer.status)
    ? answer.status
    : undefined
}

/** Errors of ours whose messages say `failed (Timeout)`. */
const ofStores = ["RedisUnavailableError", "IdempotencyStoreError"]

/** Why, of an error of ours: a word of a list of ours, which tells nothing of anybody. */
const reasonOf = (error: unknown): string | undefined => {
  const { identifier } = Object(Predicate.hasProperty(error, "constructor") ? error.constructor : undefined) as {
    readonly identifier?: unknown
  }
  const isOurs = Predicate.isString(identifier) && identifier.startsWith("@effect-resilience/")
  if (isOurs && Predicate.hasProperty(error, "reason") && Predicate.isString(error.reason)) return error.reason
  // Of another process come name and message alone.
  const isOfStore = error instanceof Error && ofStores.includes(error.name)
  return isOfStore ? /failed \((\w+)\)/.exec(error.message)?.[1] : undefined
}

/** What a helper of ours failed with: as `errorText`, and why. @internal */
export const failureText = (error: unknown, shown: "name" | "message"): string => {
  const reason = shown === "name" ? reasonOf(error) : undefined
  return `${errorText(error, shown)}${reason === undefined ? "" : ` (${reason})`}`
}

/** The name of an error, or more of it where that may be shown; of a response its status. @internal */
export const errorText = (error: unknown, shown: "name" | "message"): string => {
  const status = statusOf(error)
  if (status !== undefined) return `status ${status}`
  const name = Predicate.hasProperty(error, "_tag") && Predicate.isString(error._tag)
    ? error._tag
    : error instanceof Error
    ? error.name
    : typeof error
  if (shown === "name") return name
  const message = error instanceof Error ? error.message : Predicate.isString(error) ? error : ""
  return (message === "" ? name : `${name}: ${message}`).slice(0, 300)
}
