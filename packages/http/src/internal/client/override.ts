import { option } from "@effect-resilience/core/extension"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type { ResilientHttpClient } from "../../ResilientHttpClient.js"
import { limit } from "./options.js"

/*
 * What some requests want otherwise than their client.
 */

/** @internal */
export const overrideFields = {
  timeout: option.optional(limit("30 seconds")),
  attemptTimeout: option.optional(limit("10 seconds")),
  retry: option.optional(option.boolean(false))
} satisfies option.Fields<ResilientHttpClient.Override>

/** @internal */
export type Override = Partial<option.Resolved<typeof overrideFields>>

/** What the region wants otherwise. Read once for each call. @internal */
export class CurrentOverride extends Context.Reference<CurrentOverride>()(
  "@effect-resilience/http/ResilientHttpClient/Override",
  { defaultValue: (): Override => ({}) }
) {}

/** Throws an `InvalidOptionError`. @internal */
export const checkOverride = (options: ResilientHttpClient.Override): Override => {
  const [pattern, name] = ["ResilientHttpClient", "withOverride"]
  const resolved = option.resolve(pattern, name, overrideFields, { ...options })
  const { attemptTimeout = false, timeout = false } = resolved
  if (timeout !== false && attemptTimeout !== false && Duration.greaterThan(attemptTimeout, timeout)) {
    const most = `at most timeout (${Duration.format(timeout)})`
    throw new option.InvalidOptionError(pattern, name, "attemptTimeout", attemptTimeout, most)
  }
  return resolved
}
