import type { RateLimiter } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Admin, ForbiddenError } from "../../Admin.js"
import type { Refusal } from "../hosts.js"

/** What is answered instead, where somebody asks too often. @internal */
export const tooOften = ({ allowed, retryAfter }: RateLimiter.Decision): Refusal | undefined =>
  allowed ? undefined : {
    status: 429,
    problem: "Too many requests.",
    headers: { "retry-after": String(Math.ceil(Duration.toSeconds(retryAfter))) }
  }

const named = (verb: string, { instance, pattern }: { readonly instance: string; readonly pattern: string }) =>
  // The words of a stranger: they may be long, and look like other lines.
  `${verb} of ${pattern} "${instance}"`.replace(/[\p{C}\p{Z}]+/gu, " ").slice(0, 200)

const describe = (action: Admin.Action): string => {
  switch (action._tag) {
    case "Look":
      return "a look"
    case "Act":
      return named(action.action, action)
    case "Return":
      return named("return", action)
  }
}

/** Who may not is told so and logged, as often as is bounded for one client. @internal */
export const turnAway = (admin: Admin.Service, client: string, action: Admin.Action, error: ForbiddenError) =>
  Effect.gen(function*() {
    const excess = tooOften(yield* admin.consumeRefused(client))
    if (excess !== undefined) return yield* Effect.fail(excess)
    const { challenge, message } = error
    yield* Effect.annotateLogs(Effect.logWarning(`An admin refused ${describe(action)}`), {
      package: "@effect-resilience/http",
      client,
      reason: message
    })
    return yield* Effect.fail<Refusal>(
      challenge === undefined
        ? { status: 403, problem: message }
        : { status: 401, problem: message, headers: { "www-authenticate": challenge } }
    )
  })
