import { Priority } from "@effect-resilience/core"
import { option } from "@effect-resilience/core/extension"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { HttpResilience } from "../HttpResilience.js"
import { isWithin, parseAddress, parseRange } from "./address.js"
import { isFieldName } from "./fields.js"
import type { RequestInfo } from "./request.js"

type Trust = NonNullable<HttpResilience.PriorityOptions["trust"]>
type Trusts = (request: RequestInfo) => boolean

const requirement = "a function, or addresses and ranges like \"10.0.0.0/8\""

/** Whom the peer of the socket has to be. */
const byAddress = (input: ReadonlyArray<string>): Trusts => {
  const ranges = input.map((text) => {
    const range = Predicate.isString(text) ? parseRange(text) : undefined
    if (range === undefined) throw new option.Requirement(requirement)
    return range
  })
  return ({ remoteAddress }) => {
    const peer = Option.getOrUndefined(Option.flatMapNullable(remoteAddress, parseAddress))
    return peer !== undefined && isWithin(peer, ranges)
  }
}

const fields = {
  header: option.field<string, string>("x-priority", (input) => {
    if (isFieldName(input)) return input.toLowerCase()
    throw new option.Requirement("the name of a header field")
  }),
  default: option.optional(option.literal<Priority.Level>("normal", ...Priority.levels)),
  trust: option.field<Trust, Trusts>(() => false, (input) => {
    if (Predicate.isFunction(input)) return input as Trusts
    if (Array.isArray(input) && input.length > 0) return byAddress(input)
    throw new option.Requirement(requirement)
  }, "nobody")
} satisfies option.Fields<HttpResilience.PriorityOptions>

/**
 * The priority of a request, by the ambient one. A header may only lower it, unless its sender is trusted. Throws for bad
 * options.
 *
 * @internal
 */
export const priorityOf = (
  name: string,
  part: HttpResilience.PriorityOptions | false
): (request: RequestInfo, ambient: Priority.Level) => Priority.Level => {
  if (part === false) return (_, ambient) => ambient
  const { default: own, header, trust } = option.resolve("HttpResilience.priority", name, fields, { ...part })
  return (request, ambient) => {
    const highest = own ?? ambient
    const text = request.headers[header]?.split(",").at(-1)?.trim().toLowerCase()
    const asked = text === undefined ? undefined : Priority.levels.find((level) => level === text)
    if (asked === undefined) return highest
    return Priority.rank(asked) <= Priority.rank(highest) || trust(request) ? asked : highest
  }
}
