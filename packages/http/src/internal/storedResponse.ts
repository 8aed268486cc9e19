import * as Cookies from "@effect/platform/Cookies"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import type { StoredResponse } from "../StoredResponse.js"

/** About the connection or about this one exchange: whoever sends the response again says it anew. */
const ofExchange =
  /^(connection|keep-alive|transfer-encoding|content-length|date|x-?ratelimit.*|ratelimit.*|access-control-.*|set-cookie)$/

const none = new Uint8Array()

const bodyOf = ({ body }: HttpServerResponse): Uint8Array | null =>
  body._tag === "Empty" ? none : body._tag === "Uint8Array" ? body.body : null

/** What is kept of a response. A body that streams, or is larger than `maxBytes`, is not. @internal */
export const capture = (response: HttpServerResponse, maxBytes: number): StoredResponse => {
  const body = bodyOf(response)
  return {
    status: response.status,
    headers: Object.fromEntries(Object.entries(response.headers).filter(([name]) => !ofExchange.test(name))),
    cookies: Cookies.toSetCookieHeaders(response.cookies),
    body: body === null || body.byteLength > maxBytes ? null : body
  }
}

/** The response again, with further header fields. @internal */
export const revive = (stored: StoredResponse, headers: Readonly<Record<string, string>>): HttpServerResponse => {
  const options = {
    status: stored.status,
    headers: { ...stored.headers, ...headers },
    cookies: Cookies.fromSetCookie(stored.cookies)
  }
  const { body } = stored
  if (body === null || body.byteLength === 0) return ServerResponse.empty(options)
  return ServerResponse.uint8Array(body, {
    ...options,
    contentType: stored.headers["content-type"] ?? "application/octet-stream"
  })
}

/** About how many bytes it takes to keep it. @internal */
export const sizeOf = ({ body, cookies, headers }: StoredResponse): number => {
  const lines = [...Object.entries(headers).flat(), ...cookies]
  return lines.reduce((size, text) => size + text.length, body?.byteLength ?? 0)
}
