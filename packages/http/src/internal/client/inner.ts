import * as HttpClient from "@effect/platform/HttpClient"
import type { HttpClientRequest } from "@effect/platform/HttpClientRequest"
import { setHeaders } from "@effect/platform/HttpClientRequest"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"

/*
 * The one file that knows how a client of `@effect/platform` is put together: `preprocess` makes a request ready, once;
 * `postprocess` sends what is ready, here once for each attempt. `HttpClient.transform` would send the same request each
 * time, but the time that is left differs.
 */

interface Parts<E, R> {
  readonly preprocess: HttpClient.HttpClient.Preprocess<E, R>
  readonly postprocess: HttpClient.HttpClient.Postprocess<E, R>
}

/** @internal */
export const partsOf = <E, R>(client: HttpClient.HttpClient.With<E, R>) => {
  const { preprocess } = client as HttpClient.HttpClient.With<E, R> & Parts<E, R>
  const scoped = HttpClient.withScope(client) as HttpClient.HttpClient.With<E, R | Scope> & Parts<E, R | Scope>
  // `withScope` finds what aborts a request by the object. A copy for each attempt, for one may be sent twice at once.
  const copied = (request: HttpClientRequest) => Effect.sync(() => setHeaders(request, {}))
  return { preprocess, send: (request: HttpClientRequest) => scoped.postprocess(copied(request)) }
}
