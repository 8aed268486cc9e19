import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { Quota } from "./rateLimitHeaders.js"
import { sourceOf } from "./turnedAway.js"

/*
 * What the limiters of all policies have said of a request, outermost first: a response tells of all of them, whichever
 * policy writes its header fields.
 */
const noted = new WeakMap<object, ReadonlyArray<Quota>>()

/** A limiter that looks twice counts with what it said last. @internal */
export const noteQuotas = (request: HttpServerRequest, quotas: ReadonlyArray<Quota>): void => {
  if (quotas.length === 0) return
  const source = sourceOf(request)
  const earlier = noted.get(source)
  if (earlier === undefined) return void noted.set(source, quotas)
  const names = new Set(quotas.map(({ name }) => name))
  noted.set(source, [...earlier.filter(({ name }) => !names.has(name)), ...quotas])
}

/** @internal */
export const notedQuotas = (request: HttpServerRequest): ReadonlyArray<Quota> => noted.get(sourceOf(request)) ?? []
