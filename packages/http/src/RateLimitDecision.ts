/**
 * What the rate limiter in front of a handler has decided.
 *
 * @since 0.1.0
 */
import type { RateLimiter } from "@effect-resilience/core"
import * as Context from "effect/Context"
import * as Option from "effect/Option"

/**
 * The decision about the request, for its handler: how much is left, and until when. `Option.none()` where no limiter
 * looked at it.
 *
 * @example
 * import { RateLimitDecision } from "@effect-resilience/http"
 * import { HttpServerResponse } from "@effect/platform"
 * import { Effect, Option } from "effect"
 *
 * const handler = Effect.gen(function*() {
 *   const decision = yield* RateLimitDecision
 *   const left = Option.match(decision, { onNone: () => Infinity, onSome: ({ remaining }) => remaining })
 *   return yield* HttpServerResponse.json({ left })
 * })
 *
 * @since 0.1.0
 * @category references
 */
export class RateLimitDecision extends Context.Reference<RateLimitDecision>()(
  "@effect-resilience/http/RateLimitDecision",
  { defaultValue: (): Option.Option<RateLimiter.Decision> => Option.none() }
) {}
