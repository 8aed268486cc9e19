import { option } from "@effect-resilience/core/extension"
import type { DurationInput } from "effect/Duration"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import { ClientIp } from "../ClientIp.js"
import type { HttpFallback } from "../HttpFallback.js"
import type { HttpResilience } from "../HttpResilience.js"
import { checkParts } from "./partChecks.js"
import { excludeField, pathMatcher } from "./paths.js"
import { priorityOf } from "./priority.js"
import type { Form } from "./rateLimitHeaders.js"
import { forms, isPolicyName } from "./rateLimitHeaders.js"
import type { RequestInfo } from "./request.js"
import type { SubstituteParts } from "./substitutes.js"
import { substituteParts } from "./substitutes.js"

const part = <O>(fallback: O | false) =>
  option.field<O | false, O | false>(fallback, (input) => {
    if (input === false || Predicate.isRecord(input)) return input as O | false
    throw new option.Requirement("options or false")
  }, fallback === false ? "false" : JSON.stringify(fallback))

/** The options, their defaults and what they accept. @internal */
export const httpResilienceFields = {
  exclude: excludeField("HttpResilience.healthPaths"),
  detail: option.literal<"minimal" | "full">("minimal", "minimal", "full"),
  render: option.optional(option.fn<NonNullable<HttpResilience.Options["render"]>>(undefined as never, "—")),
  rateLimitHeaders: option.field<ReadonlyArray<Form>, ReadonlyArray<Form>>(["draft-10"], (input) => {
    if (Array.isArray(input) && input.every((form) => forms.includes(form))) return input
    throw new option.Requirement(`a list of ${forms.join(", ")}`)
  }),
  clientIp: option.optional(option.fn<ClientIp.Rule>(ClientIp.fromSocket, "—")),
  isLongLived: option.fn<(request: RequestInfo) => boolean>(() => false, "—"),
  deadline: part<HttpResilience.DeadlineOptions>({}),
  priority: part<HttpResilience.PriorityOptions>({}),
  loadShedder: part<HttpResilience.LoadShedderOptions>({}),
  rateLimit: part<HttpResilience.RateLimitOptions>(false),
  backpressure: part<HttpResilience.BackpressureOptions>(false),
  bulkhead: part<HttpResilience.BulkheadOptions>(false),
  longLived: part<HttpResilience.BulkheadOptions>({ maxConcurrent: 1000, maxQueued: 0 }),
  adaptiveConcurrency: part<HttpResilience.AdaptiveConcurrencyOptions>({}),
  circuitBreaker: part<HttpResilience.CircuitBreakerOptions>(false),
  timeout: option.field<HttpResilience.TimeoutOptions | DurationInput | false, HttpResilience.TimeoutOptions | false>(
    "30 seconds",
    (input) =>
      input === false || (Predicate.isRecord(input) && !Duration.isDuration(input))
        ? input as HttpResilience.TimeoutOptions | false
        : { duration: option.parseDuration({ above: 0, infinite: true })(input as DurationInput) }
  ),
  staleIfError: part<HttpFallback.StaleOptions>(false),
  fallback: part<HttpFallback.Options>(false)
} satisfies option.Fields<Omit<HttpResilience.Options, "name">>

/** The options, read. @internal */
export type Resolved = Omit<option.Resolved<typeof httpResilienceFields>, keyof SubstituteParts> & SubstituteParts & {
  readonly isExcluded: (path: string) => boolean
  readonly priorityOf: ReturnType<typeof priorityOf>
}

/** Throws for bad options. @internal */
export const check = (options: HttpResilience.Options): Resolved => {
  const resolved = option.resolve("HttpResilience", options.name, httpResilienceFields, { ...options })
  if (!isPolicyName(options.name)) {
    throw new option.InvalidOptionError(
      "HttpResilience",
      options.name,
      "name",
      options.name,
      "printable ASCII, for it stands in header fields"
    )
  }
  checkParts(options.name, resolved)
  return {
    ...resolved,
    isExcluded: pathMatcher(resolved.exclude),
    priorityOf: priorityOf(options.name, resolved.priority),
    ...substituteParts(options.name, resolved)
  }
}
