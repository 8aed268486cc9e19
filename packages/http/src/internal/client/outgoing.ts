import { Deadline, Priority } from "@effect-resilience/core"
import * as ClientRequest from "@effect/platform/HttpClientRequest"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { web } from "./web.js"

/** Where a request goes. @internal */
export interface Target {
  /** Scheme, host and port: what has one state. */
  readonly authority: string
  readonly host: string
  readonly hostname: string
  readonly port: number
  readonly href: string
}

/** The part of a URL that is used. The library is compiled without the types of the web. */
interface Url {
  readonly host: string
  readonly hostname: string
  readonly protocol: string
  readonly port: string
  readonly href: string
}

/** Where a request goes, if its URL can be read. @internal */
export const targetOf = (request: ClientRequest.HttpClientRequest): Target | undefined => {
  const parsed = UrlParams.makeUrl(request.url, request.urlParams, request.hash)
  if (parsed._tag === "Left") return undefined
  const { host, hostname, href, port, protocol }: Url = parsed.right
  const usual = protocol === "https:" ? 443 : 80
  return { authority: `${protocol}//${host}`, host, hostname, href, port: port === "" ? usual : Number(port) }
}

/** `api.example.com`, `localhost:8080`, or `*.example.com` for whatever is below it. @internal */
export const isOneOf = (hosts: ReadonlyArray<string>, { host, hostname }: Target): boolean =>
  hosts.some((pattern) =>
    pattern.startsWith("*.") ? hostname.endsWith(pattern.slice(1)) : pattern === host || pattern === hostname
  )

/** Milliseconds in the form that a header has: gRPC's takes eight digits and a unit. */
const written = (header: string, millis: number): string => {
  if (header !== "grpc-timeout") return String(millis)
  return millis < 1e8 ? `${millis}m` : `${Math.min(99_999_999, Math.floor(millis / 1000))}S`
}

/** @internal */
export interface Propagation {
  readonly hosts: ReadonlyArray<string>
  readonly deadline: string | false
  readonly priority: string | false
}

/** Says the time that is left and the priority. Run where the attempt's own time counts. @internal */
export const propagated = (
  { deadline, priority }: Propagation,
  request: ClientRequest.HttpClientRequest
): Effect.Effect<ClientRequest.HttpClientRequest> =>
  Effect.map(Effect.zip(Deadline.remaining, Priority), ([left, level]) => {
    const timed = deadline === false || Option.isNone(left) || !Duration.isFinite(left.value)
      ? request
      : ClientRequest.setHeader(request, deadline, written(deadline, Math.ceil(Duration.toMillis(left.value))))
    return priority === false ? timed : ClientRequest.setHeader(timed, priority, level)
  })

/** @internal */
export const idempotencyHeader = "idempotency-key"

/** A key, a string of structured fields, for a request that has none: the same for all its attempts. @internal */
export const withIdempotencyKey = (
  request: ClientRequest.HttpClientRequest
): Effect.Effect<ClientRequest.HttpClientRequest> =>
  Effect.sync(() =>
    request.headers[idempotencyHeader] === undefined
      ? ClientRequest.setHeader(request, idempotencyHeader, `"${web.crypto.randomUUID()}"`)
      : request
  )

/** Whether the body can be sent again. A stream is read once. @internal */
export const isReplayable = ({ body }: ClientRequest.HttpClientRequest): boolean =>
  body._tag === "Empty" || body._tag === "Uint8Array" || body._tag === "FormData"
