import { option, optionChecks } from "@effect-resilience/core/extension"
import type { DurationInput } from "effect/Duration"
import * as Predicate from "effect/Predicate"
import type { HttpResilience } from "../HttpResilience.js"
import { isFieldName, isFieldValue } from "./fields.js"

/*
 * What a part takes is read where the policy is made. Its pattern reads its own options again when it is built, which is
 * at the first request: too late to say that one is wrong.
 */

type Fields = Record<string, option.Field<any, any>>

const accepting = <A>(is: (input: unknown) => boolean, requirement: string) =>
  option.optional(option.field<A, A>(undefined as never, (input) => {
    if (is(input)) return input
    throw new option.Requirement(requirement)
  }))

const aFunction = accepting(Predicate.isFunction, "a function")

const areFields = (input: unknown): boolean =>
  Predicate.isRecord(input) && Object.entries(input).every(([name, value]) => isFieldName(name) && isFieldValue(value))

const floor = option.parseDuration({ min: 0 })

const lookFields = {
  status: option.optional(option.integer(503, { min: 400, max: 599 })),
  message: accepting<string>(Predicate.isString, "a text"),
  headers: accepting<Readonly<Record<string, string>>>(areFields, "header fields"),
  retryAfter: option.field<HttpResilience.PartOptions["retryAfter"], unknown>("jittered", (input) => {
    if (input === "jittered" || Predicate.isFunction(input)) return input
    try {
      return floor(input as DurationInput)
    } catch {
      throw new option.Requirement("\"jittered\", a duration or a function")
    }
  })
} satisfies Fields

const rejectingFields = { ...lookFields, dryRun: option.boolean(false) }

const timeoutFields = { ...rejectingFields, duration: option.duration("30 seconds", { above: 0, infinite: true }) }

const deadlineFields = {
  dryRun: option.boolean(false),
  headers: accepting(
    (input) => Array.isArray(input) && input.every(isFieldName),
    "a list of names of header fields"
  )
}

const ofRateLimit = {
  key: aFunction,
  onMissingKey: option.literal<"reject" | "shared" | "skip">("reject", "reject", "shared", "skip"),
  cost: aFunction,
  rateFor: aFunction
}

/** Options of a pattern, its instance's name among them. */
type Check = (options: any) => unknown

/** The parts that reject: what they take beside the options of their pattern, and who reads those. */
const rejecting = {
  loadShedder: [{ cohort: aFunction }, optionChecks.LoadShedder],
  rateLimit: [ofRateLimit, optionChecks.RateLimiter],
  backpressure: [{}, optionChecks.Backpressure],
  longLived: [{ key: aFunction }, optionChecks.Bulkhead],
  bulkhead: [{ key: aFunction }, optionChecks.Bulkhead],
  adaptiveConcurrency: [{ key: aFunction }, optionChecks.AdaptiveConcurrency],
  circuitBreaker: [{}, optionChecks.CircuitBreaker]
} satisfies { readonly [K in keyof HttpResilience.Options]?: readonly [Fields, Check] }

type Part = keyof typeof rejecting
const parts = Object.entries<readonly [Fields, Check]>(rejecting)

/** Who stands in one line has no line of its own. */
const checkKeys = (
  name: string,
  options: Readonly<Record<"bulkhead" | "longLived" | "adaptiveConcurrency", object | false>>
) => {
  for (const part of ["bulkhead", "longLived", "adaptiveConcurrency"] as const) {
    const { fair, key }: { readonly fair?: unknown; readonly key?: unknown } = options[part] || {}
    if (fair !== false || key === undefined) continue
    const needed = "true, weights or absent, for there is a key"
    throw new option.InvalidOptionError("HttpResilience", name, `${part}.fair`, fair, needed)
  }
}

/** Throws for a bad option of a part. @internal */
export const checkParts = (
  name: string,
  options: { readonly [K in Part]: object | false } & {
    readonly timeout: object | false
    readonly deadline: object | false
  }
): void => {
  checkKeys(name, options)
  const read = (part: string, fields: Fields, given: object) =>
    void option.resolve(`HttpResilience.${part}`, name, fields, { ...given })
  for (const [part, [own, check]] of parts) {
    const given = options[part as Part]
    if (given === false) continue
    const fields: Fields = { ...rejectingFields, ...own }
    const isHttp = ([key]: readonly [string, unknown]) => Object.hasOwn(fields, key)
    const entries = Object.entries(given)
    read(part, fields, Object.fromEntries(entries.filter(isHttp)))
    check({
      ...Object.fromEntries(entries.filter((entry) => !isHttp(entry))),
      name: part === "longLived" ? longLivedName(name) : name
    })
  }
  if (options.timeout !== false) read("timeout", timeoutFields, options.timeout)
  if (options.deadline !== false) read("deadline", deadlineFields, options.deadline)
}

/** The instance of those that stay. @internal */
export const longLivedName = (name: string): string => `${name}-long-lived`
