import { option } from "@effect-resilience/core/extension"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import type { HttpFallback } from "../HttpFallback.js"
import { StaleStore } from "../StaleStore.js"
import { infoOf } from "./platform.js"
import type { RequestInfo } from "./request.js"
import { stale } from "./stale/substitute.js"
import { watchStale } from "./stale/watch.js"
import type { Substitute } from "./substitute.js"
import { counted, fallback, fallbackFields, staleFields } from "./substitute.js"

/** What the options say of other answers. @internal */
export interface SubstituteParts {
  readonly staleIfError: option.Resolved<typeof staleFields> | false
  readonly fallback: option.Resolved<typeof fallbackFields> | false
}

/** Throws for bad options. @internal */
export const substituteParts = (
  name: string,
  parts: {
    readonly staleIfError: HttpFallback.StaleOptions | false
    readonly fallback: HttpFallback.Options | false
  }
): SubstituteParts => ({
  staleIfError: parts.staleIfError !== false &&
    option.resolve("HttpResilience.staleIfError", name, staleFields, { ...parts.staleIfError }),
  fallback: parts.fallback !== false &&
    option.resolve("HttpResilience.fallback", name, fallbackFields, { ...parts.fallback })
})

/** Only where the chain looks at all. */
const where = (applies: (request: RequestInfo) => boolean, substitute: Substitute): Substitute => ({
  applies: (request, failure) => applies(infoOf(request)) && substitute.applies(request, failure),
  answer: substitute.answer,
  observe: (request, response) =>
    substitute.observe !== undefined && applies(infoOf(request)) ? substitute.observe(request, response) : Effect.void
})

/** What was seen before comes before what the options say. @internal */
export const substitutesOf = (
  name: string,
  { fallback: other, staleIfError }: SubstituteParts,
  applies: (request: RequestInfo) => boolean
): Effect.Effect<ReadonlyArray<Substitute>, never, Scope> =>
  Effect.gen(function*() {
    const substitutes: Array<Substitute> = []
    if (staleIfError !== false) {
      const shared = yield* Effect.serviceOption(StaleStore)
      const store = Option.isSome(shared) ? shared.value : yield* StaleStore.makeMemory()
      const limit = Option.isSome(shared) ? staleIfError.timeout : undefined
      const watch = yield* watchStale(name, store)
      substitutes.push(yield* counted(`${name}-stale`, stale(name, staleIfError, store, limit, watch)))
    }
    if (other !== false) substitutes.push(yield* fallback(name, other))
    return substitutes.map((substitute) => where(applies, substitute))
  })
