import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Predicate from "effect/Predicate"
import { isWithin, parseAddress, parseRange } from "./address.js"

/** Why a request is not looked at any further. @internal */
export interface Refusal {
  readonly status: number
  readonly problem: string
  readonly headers?: Readonly<Record<string, string>>
}

const loopback = ["127.0.0.0/8", "::1"].flatMap((range) => parseRange(range) ?? [])

/** @internal */
export const isLoopbackAddress = (text: string): boolean => {
  const address = parseAddress(text)
  return address !== undefined && isWithin(address, loopback)
}

/** Where a request was sent to, by its own words and by its socket. @internal */
export interface Target {
  readonly host: string | undefined
  /** Our end of the socket, where the server tells. */
  readonly localAddress: string | undefined
}

/** @internal */
export const targetOf = ({ headers, source }: HttpServerRequest): Target => {
  const socket = Predicate.hasProperty(source, "socket") ? source.socket : undefined
  const localAddress = Predicate.hasProperty(socket, "localAddress") ? socket.localAddress : undefined
  return { host: headers["host"], localAddress: Predicate.isString(localAddress) ? localAddress : undefined }
}

/** Without its port, in lower case. */
const nameOf = ({ host = "" }: Target): string => host.toLowerCase().replace(/:\d+$/, "")

/** What no name server points elsewhere: names of the machine itself, and addresses. */
const isFixed = (name: string) => /^(.+\.)?localhost$/.test(name) || parseAddress(name) !== undefined

/**
 * A page whose name was made to point here still sends that name. Where no hosts are given, one that came to this machine
 * by its loopback interface was not meant for any other name; what a host is called in a network cannot be known.
 *
 * @internal
 */
export const checkHost = (target: Target, hosts: ReadonlyArray<string> | undefined): Refusal | undefined => {
  const name = nameOf(target)
  const isOwn = hosts?.includes(name) ??
    (target.localAddress === undefined || !isLoopbackAddress(target.localAddress) || isFixed(name))
  if (isOwn) return undefined
  return {
    status: 421,
    problem: `The host that the request names is not ${hosts === undefined ? "this machine, nor " : ""}among \`hosts\`.`
  }
}

/** What the option `hosts` has to be. @internal */
export const hostsForm = "a list of the names of this host, without ports"

/** Reads the option `hosts`: in lower case, or nothing where it is bad. @internal */
export const parseHosts = (input: unknown): ReadonlyArray<string> | undefined =>
  Array.isArray(input) && input.length > 0 &&
    input.every((host) => Predicate.isString(host) && /^(\[[\da-f:.]+\]|[^\s:/]+)$/i.test(host))
    ? input.map((host) => String(host).toLowerCase())
    : undefined
