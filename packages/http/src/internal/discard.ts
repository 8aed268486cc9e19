import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"

/** A stream of the web, the `Response` that has one, or a stream of Node: how it is given up. */
const cancelOf = (body: unknown): (() => unknown) | undefined => {
  if (!Predicate.isObject(body)) return undefined
  if (Predicate.hasProperty(body, "cancel") && Predicate.isFunction(body.cancel)) return () => (body as any).cancel()
  if (Predicate.hasProperty(body, "destroy") && Predicate.isFunction(body.destroy)) return () => (body as any).destroy()
  return Predicate.hasProperty(body, "body") ? cancelOf(body.body) : undefined
}

/**
 * Gives up the raw body of a response that is not sent: nobody else would, and what it reads from would be kept. What goes
 * wrong then is nobody's concern. A `Stream` of Effect has not begun, and all else holds nothing.
 *
 * @internal
 */
export const discard = ({ body }: HttpServerResponse): Effect.Effect<void> => {
  const cancel = body._tag === "Raw" ? cancelOf(body.body) : undefined
  return cancel === undefined
    ? Effect.void
    : Effect.ignore(Effect.try(() => void Promise.resolve(cancel()).catch(() => {})))
}
