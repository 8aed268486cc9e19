import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Option from "effect/Option"
import { isWithin, parseAddress, parseRange } from "../address.js"

/** Why a request is not looked at any further. @internal */
export interface Refusal {
  readonly status: number
  readonly problem: string
  readonly headers?: Readonly<Record<string, string>>
}

/** The field that a form of another site cannot send. @internal */
export const customHeader = "x-resilience-admin"

/** More bytes than any order needs. @internal */
export const largestBody = 16 * 1024

/** The host that a request names, without its port, in lower case. */
const hostName = (host: string | undefined): string => (host ?? "").toLowerCase().replace(/:\d+$/, "")

/**
 * A page whose name was made to point here still sends that name.
 *
 * @internal
 */
export const checkHost = ({ headers }: HttpServerRequest, hosts: ReadonlyArray<string>): Refusal | undefined =>
  hosts.includes(hostName(headers["host"]))
    ? undefined
    : { status: 421, problem: "The host that the request names is not among `hosts`." }

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

const loopback = ["127.0.0.0/8", "::1"].flatMap((range) => parseRange(range) ?? [])

/** The fields by which a proxy says for whom it asks. */
const isForwarded = (name: string) =>
  name.startsWith("x-forwarded-") || ["forwarded", "via", "x-real-ip"].includes(name)

/** Whether the peer of the socket is this machine, and asks for itself. @internal */
export const isLoopback = ({ headers, remoteAddress }: HttpServerRequest): boolean => {
  const address = Option.flatMapNullable(remoteAddress, parseAddress)
  return Option.isSome(address) && isWithin(address.value, loopback) && !Object.keys(headers).some(isForwarded)
}
