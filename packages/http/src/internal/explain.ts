import * as Duration from "effect/Duration"
import type { HttpResilience } from "../HttpResilience.js"
import { timeoutHeaders } from "./intake.js"
import type { SubstituteParts } from "./substitutes.js"

/** The parts of a chain, read. */
type Parts =
  & Omit<HttpResilience.Options, keyof HttpResilience.Common | "timeout" | keyof SubstituteParts>
  & SubstituteParts
  & {
    readonly exclude: ReadonlyArray<string>
    readonly timeout: HttpResilience.TimeoutOptions | false
  }

/** The options of a part that are given, as a person writes them. */
const given = (part: object): string =>
  Object.entries(part)
    .filter(([, value]) => value !== undefined && typeof value !== "function")
    .map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ")

const line = (title: string, part: object | false | undefined, what: string) => part ? [{ title, part, what }] : []

/** A part without what its line tells already. */
const without = (part: object | false | undefined, told: string) =>
  part && Object.fromEntries(Object.entries(part).filter(([key]) => key !== told))

const levelOf = (part: HttpResilience.PriorityOptions | false | undefined) =>
  `what the caller says, if it is lower${(part || {}).trust === undefined ? "" : " or trusted"}`

const callerSays = (part: HttpResilience.DeadlineOptions | false | undefined) =>
  `what the caller says: ${((part || {}).headers ?? timeoutHeaders).join(", ")}`

const untilHeaders = (part: HttpResilience.TimeoutOptions | false) =>
  `${Duration.format(Duration.decode((part || {}).duration ?? "30 seconds"))} until the headers: 504`

/** What a request goes through, outermost first, a line for each part that is on. @internal */
export const explain = (name: string, chain: Parts): string => {
  const { fallback, staleIfError } = chain
  const lines = [
    ...line("fallback", fallback && { on: [...fallback.on] }, "answers where there is no answer"),
    ...line(
      "stale if error",
      staleIfError && { staleIfError: Duration.format(staleIfError.staleIfError), on: [...staleIfError.on] },
      "the last good response to a GET"
    ),
    ...line("deadline", without(chain.deadline, "headers"), callerSays(chain.deadline)),
    ...line("priority", chain.priority, levelOf(chain.priority)),
    ...line("load shedder", chain.loadShedder, "sheds by priority under load: 503"),
    ...line("rate limit", chain.rateLimit, "for each client: 429"),
    ...line("backpressure", chain.backpressure, "waits between two marks: 503"),
    ...line("long-lived", chain.longLived, "streams of events and upgrades have a bulkhead of their own: 503"),
    ...line("bulkhead", chain.bulkhead, "so many at once, until they are sent: 503"),
    ...line("adaptive concurrency", chain.adaptiveConcurrency, "as many as latency allows, until they are sent: 503"),
    ...line("circuit breaker", chain.circuitBreaker, "stops when handlers fail: 503"),
    ...line("timeout", without(chain.timeout, "duration"), untilHeaders(chain.timeout))
  ]
  const width = Math.max(0, ...lines.map(({ title }) => title.length))
  return [
    `HttpResilience "${name}", outermost first; not for ${chain.exclude.join(", ") || "no path"}`,
    ...lines.map(({ part, title, what }, i) => {
      const options = given(part)
      return `${String(i + 1).padStart(2)}. ${title.padEnd(width)}  ${what}${options && ` (${options})`}`
    }),
    "    handler"
  ].join("\n")
}
