import * as Cookies from "@effect/platform/Cookies"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as Option from "effect/Option"

/** The directives of a `Cache-Control` field, in lower case; the first of a name counts. @internal */
export const directivesOf = (field: string | undefined): ReadonlyMap<string, string> => {
  const directives = new Map<string, string>()
  for (const [, name = "", quoted, plain] of (field ?? "").matchAll(/([\w-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,]*)))?/g)) {
    const key = name.toLowerCase()
    if (!directives.has(key)) directives.set(key, quoted ?? plain ?? "")
  }
  return directives
}

/** Seconds; what cannot be read says nothing. */
const secondsOf = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined

/** The fields by which responses differ, sorted; `undefined` where nobody can tell. */
const varyOf = (field: string | undefined): ReadonlyArray<string> | undefined => {
  const names = (field ?? "").toLowerCase().split(",").map((name) => name.trim()).filter((name) => name !== "")
  return names.includes("*") ? undefined : [...new Set(names)].sort()
}

/** Whoever forbids that a response is stored, or used when it is stale. */
const forbidding = ["no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate"]

/** Whoever says that others than the one who asked may have it (RFC 9111, section 3). */
const sharing = ["public", "max-age", "s-maxage", "stale-if-error"]

/** Whether the client does without what was kept. @internal */
export const isRefusedBy = (request: HttpServerRequest): boolean => {
  const directives = directivesOf(request.headers["cache-control"])
  return directives.has("no-store") || directives.has("no-cache")
}

/** How a response may be kept. @internal */
export interface Keeping {
  readonly vary: ReadonlyArray<string>
  /** All in seconds. */
  readonly maxAge: number
  readonly age: number
  readonly staleIfError: number
}

/**
 * Whether and for how long a response may be served when there is an error (RFC 9111, RFC 5861): a 200 to a `GET` that
 * nobody forbids to store or to use stale, and that sets no cookie. One that is kept for `"anybody"` has to say that
 * anybody may have it: by which field a service knows its clients, only it knows.
 *
 * @internal
 */
export const keepingOf = (
  request: HttpServerRequest,
  response: HttpServerResponse,
  staleIfError: number,
  whose: "anybody" | "principal"
): Option.Option<Keeping> => {
  if (request.method !== "GET" || response.status !== 200) return Option.none()
  if (directivesOf(request.headers["cache-control"]).has("no-store")) return Option.none()
  const directives = directivesOf(response.headers["cache-control"])
  if (forbidding.some((name) => directives.has(name))) return Option.none()
  if (whose === "anybody" && !sharing.some((name) => directives.has(name))) return Option.none()
  if (!Cookies.isEmpty(response.cookies) || response.headers["set-cookie"] !== undefined) return Option.none()
  const vary = varyOf(response.headers["vary"])
  if (vary === undefined) return Option.none()
  const keeping = {
    vary,
    maxAge: secondsOf(directives.get("s-maxage")) ?? secondsOf(directives.get("max-age")) ?? 0,
    age: secondsOf(response.headers["age"]) ?? 0,
    staleIfError: secondsOf(directives.get("stale-if-error")) ?? staleIfError
  }
  return keeping.staleIfError > 0 ? Option.some(keeping) : Option.none()
}
