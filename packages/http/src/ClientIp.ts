/**
 * Who calls: the address of the client, behind as many proxies as are trusted, and no more.
 *
 * Anybody can send an `X-Forwarded-For`. So nothing is trusted by default, and there is no setting that trusts all: a rule
 * says which proxies there are, and their entries are read from the right, where the nearest proxy wrote, to the first
 * that is not one of them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Option from "effect/Option"
import type { Address, Range } from "./internal/address.js"
import { isWithin, mask, parseAddress, parseRange } from "./internal/address.js"
import { elementsOf, forOf } from "./internal/forwarded.js"
import type { RequestInfo } from "./internal/request.js"

/** Entries that are looked at, from the right. */
const longestChain = 16
const longestHeader = 4096

const peerOf = (request: RequestInfo): Address | undefined =>
  Option.getOrUndefined(Option.flatMapNullable(request.remoteAddress, parseAddress))

const rangesOf = (name: string, input: ReadonlyArray<string>): ReadonlyArray<Range> => {
  const problem = (text: string) => new Error(`ClientIp.${name}: ${text}`)
  if (!Array.isArray(input) || input.length === 0) {
    throw problem("names no trusted address; without proxies use ClientIp.fromSocket")
  }
  return input.map((text: unknown) => {
    const range = typeof text === "string" ? parseRange(text) : undefined
    if (range === undefined) throw problem(`${JSON.stringify(text)} is not an address or a range like "10.0.0.0/8"`)
    return range
  })
}

const hopsOf = (name: string, hops: number): number => {
  if (Number.isInteger(hops) && hops >= 1 && hops <= longestChain) return hops
  throw new Error(`ClientIp.${name}: hops must be a whole number from 1 to ${longestChain}, not ${hops}`)
}

/** From the right: past those that are trusted, to the first that is not. What cannot be read ends the walk. */
const walk = (
  peer: Address | undefined,
  chain: ReadonlyArray<string>,
  trusted: ReadonlyArray<Range>
): Address | undefined => {
  let client = peer
  for (let i = chain.length - 1; client !== undefined && isWithin(client, trusted) && i >= 0; i--) {
    const next = parseAddress(chain[i] ?? "")
    if (next === undefined) return client
    client = next
  }
  return client
}

/** The entry that the outermost of so many proxies wrote. A chain that is shorter did not come through all of them. */
const count = (peer: Address | undefined, chain: ReadonlyArray<string>, hops: number): Address | undefined =>
  peer === undefined || chain.length < hops ? undefined : parseAddress(chain[chain.length - hops] ?? "")

const rule = (find: (request: RequestInfo) => Address | undefined): ClientIp.Rule => (request) =>
  Option.map(Option.fromNullable(find(request)), (address) => address.toString())

const chained = (
  name: string,
  proxies: ClientIp.Proxies,
  chainOf: (request: RequestInfo) => ReadonlyArray<string>
): ClientIp.Rule => {
  const last = (request: RequestInfo) => chainOf(request).slice(-longestChain)
  if (proxies.hops !== undefined) {
    const hops = hopsOf(name, proxies.hops)
    return rule((request) => count(peerOf(request), last(request), hops))
  }
  const trusted = rangesOf(name, proxies.trusted)
  return rule((request) => walk(peerOf(request), last(request), trusted))
}

/** Only the end of a header that is too long: the nearest proxies wrote it. */
const header = (request: RequestInfo, name: string): string => (request.headers[name] ?? "").slice(-longestHeader)

const list = (text: string): ReadonlyArray<string> => text === "" ? [] : text.split(",")

const checkPrefix = (field: string, bits: number, longest: number): number => {
  if (Number.isInteger(bits) && bits >= 1 && bits <= longest) return bits
  throw new Error(`ClientIp.keyOf: ${field} must be a whole number from 1 to ${longest}, not ${bits}`)
}

/**
 * The client's address, for handlers behind a middleware that looks for it (its option `clientIp`): `Option.none()` where
 * it is not known. Where several look, the innermost counts.
 *
 * @example
 * import { ClientIp } from "@effect-resilience/http"
 *
 * // Behind a load balancer in the private network, which writes X-Forwarded-For.
 * const clientIp = ClientIp.fromForwardedFor({ trusted: ClientIp.privateRanges })
 *
 * @since 0.1.0
 * @category references
 */
export class ClientIp extends Context.Reference<ClientIp>()("@effect-resilience/http/ClientIp", {
  defaultValue: (): Option.Option<string> => Option.none()
}) {
  /** The peer of the socket; no header is ever read. Behind a proxy that is the proxy, for all its clients. */
  static readonly fromSocket: ClientIp.Rule = rule(peerOf)

  /**
   * A header that holds one address, such as `cf-connecting-ip`; its last value, where it came twice. It counts only
   * when the peer is one of `onlyFrom`; others are who they are.
   */
  static readonly fromHeader = (
    name: string,
    options: { readonly onlyFrom: ReadonlyArray<string> }
  ): ClientIp.Rule => {
    const trusted = rangesOf("fromHeader", options.onlyFrom)
    const field = name.toLowerCase()
    return rule((request) => walk(peerOf(request), list(header(request, field)).slice(-1), trusted))
  }

  /** `X-Forwarded-For`, by the addresses of the proxies, or by how many there are. */
  static readonly fromForwardedFor = (proxies: ClientIp.Proxies): ClientIp.Rule =>
    chained("fromForwardedFor", proxies, (request) => list(header(request, "x-forwarded-for")))

  /** `Forwarded` (RFC 7239), by the addresses of the proxies, or by how many there are. */
  static readonly fromForwarded = (proxies: ClientIp.Proxies): ClientIp.Rule =>
    chained("fromForwarded", proxies, (request) => elementsOf(header(request, "forwarded")).map(forOf))

  /** Loopback, link-local and private addresses (RFC 1918, RFC 6598, RFC 4193). */
  static readonly privateRanges: ReadonlyArray<string> = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "::1",
    "fc00::/7",
    "fe80::/10"
  ]

  /**
   * The key of a client for limits. An IPv6 client owns a whole /64, so addresses are masked to it, and a limit per
   * address would be none.
   */
  static readonly keyOf = (
    find: ClientIp.Rule,
    options: ClientIp.KeyOptions = {}
  ): (request: RequestInfo) => Option.Option<string> => {
    const v4 = checkPrefix("ipv4Prefix", options.ipv4Prefix ?? 32, 32)
    const v6 = checkPrefix("ipv6Prefix", options.ipv6Prefix ?? 64, 128)
    return (request) =>
      Option.flatMapNullable(find(request), (text) => {
        const address = parseAddress(text)
        return address && mask(address, address.kind() === "ipv4" ? v4 : v6)
      })
  }
}

/**
 * @since 0.1.0
 */
export declare namespace ClientIp {
  /**
   * Finds the client of a request: `Option.none()` where it is not known, as where a request did not come through the
   * proxies it should have come through.
   *
   * @since 0.1.0
   * @category models
   */
  export type Rule = (request: RequestInfo) => Option.Option<string>

  /**
   * Which proxies are in front: those with `trusted` addresses (addresses, or ranges like `"10.0.0.0/8"`), or exactly
   * so many `hops`, the one that connects to us included. Addresses are better: who reaches us past a proxy cannot
   * make himself one of them.
   *
   * @since 0.1.0
   * @category models
   */
  export type Proxies =
    | { readonly trusted: ReadonlyArray<string>; readonly hops?: undefined }
    | { readonly hops: number; readonly trusted?: undefined }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface KeyOptions {
    /** Bits of an IPv4 address that tell clients apart. Defaults to `32`. */
    readonly ipv4Prefix?: number | undefined
    /** Bits of an IPv6 address that tell clients apart. Defaults to `64`. */
    readonly ipv6Prefix?: number | undefined
  }
}
