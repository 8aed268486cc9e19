import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Option from "effect/Option"
import type { Refusal } from "../hosts.js"
import { isLoopbackAddress } from "../hosts.js"

/** The field that a form of another site cannot send. @internal */
export const customHeader = "x-resilience-admin"

/** More bytes than any order needs. @internal */
export const largestBody = 16 * 1024

/** What reads comes from here, or from no page at all. @internal */
export const checkReader = ({ headers }: HttpServerRequest): Refusal | undefined => {
  const site = headers["sec-fetch-site"]
  return site === undefined || site === "same-origin" || site === "none"
    ? undefined
    : { status: 403, problem: "The request comes from another site." }
}

/**
 * What changes something was sent by a page from here, or by no browser: a form cannot send JSON, a script of another site
 * cannot send the field without asking first, and a browser says itself where a page is from.
 *
 * @internal
 */
export const checkWriter = ({ headers }: HttpServerRequest): Refusal | undefined => {
  if (!/^application\/json\s*(;|$)/i.test(headers["content-type"] ?? "")) {
    return { status: 415, problem: "The content type must be application/json." }
  }
  if (Number(headers["content-length"] ?? 0) > largestBody) {
    return { status: 413, problem: "The body is too large.", headers: { connection: "close" } }
  }
  if (headers[customHeader] === undefined) {
    return { status: 403, problem: `The header field ${customHeader} is missing.` }
  }
  const site = headers["sec-fetch-site"]
  if (site !== undefined && site !== "same-origin") {
    return { status: 403, problem: "The request comes from another site." }
  }
  const { origin } = headers
  const from = /^https?:\/\/([^/]+)$/i.exec(origin ?? "")?.[1]
  if (origin !== undefined && from?.toLowerCase() !== (headers["host"] ?? "").toLowerCase()) {
    return { status: 403, problem: "The origin of the request is another one." }
  }
  return undefined
}

/** The fields by which a proxy says for whom it asks. */
const isForwarded = (name: string) =>
  name.startsWith("x-forwarded-") || ["forwarded", "via", "x-real-ip"].includes(name)

/** Whether the peer of the socket is this machine, and asks for itself. @internal */
export const isLoopback = ({ headers, remoteAddress }: HttpServerRequest): boolean => {
  return Option.exists(remoteAddress, isLoopbackAddress) && !Object.keys(headers).some(isForwarded)
}
