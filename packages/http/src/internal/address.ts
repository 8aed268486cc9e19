import ipaddr from "ipaddr.js"

/** @internal */
export type Address = ipaddr.IPv4 | ipaddr.IPv6

/** Addresses that share a prefix. @internal */
export interface Range {
  readonly base: Address
  readonly bits: number
}

/** Those that were read last: a client sends many requests, and to read an address takes longer than most decisions. */
const known = new Map<string, Address>()
const mostKnown = 1000

/**
 * Reads an address: in brackets, with a port or a zone too, for gateways send them so. An IPv4 address mapped into IPv6
 * is the IPv4 one, for so the clients of a dual-stack listener look. Only the common notations count: `010.1`, `0x7f.1`
 * and the like mean different hosts to different readers.
 *
 * @internal
 */
export const parseAddress = (input: string): Address | undefined => {
  const found = known.get(input)
  if (found !== undefined) return found
  const address = read(input)
  if (address === undefined) return undefined
  if (known.size >= mostKnown) known.clear()
  known.set(input, address)
  return address
}

const read = (input: string): Address | undefined => {
  const text = input.trim()
  if (text.length === 0 || text.length > 64) return undefined
  const bracketed = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(text)
  const v4 = /^([\d.]+)(?::\d{1,5})?$/.exec(text)
  const host = bracketed?.[1] ?? v4?.[1] ?? text
  // It throws inside where there is more than digits, which takes ten times as long as all the rest.
  const isV4 = /^[\d.]+$/.test(host) && ipaddr.IPv4.isValidFourPartDecimal(host)
  if (isV4) return bracketed === null ? ipaddr.IPv4.parse(host) : undefined
  const unzoned = host.replace(/%[\w.~-]+$/, "")
  if (!unzoned.includes(":") || !ipaddr.IPv6.isValid(unzoned)) return undefined
  const address = ipaddr.IPv6.parse(unzoned)
  return address.isIPv4MappedAddress() ? address.toIPv4Address() : address
}

/** Reads `10.0.0.0/8`, `fd00::/8` or a single address. @internal */
export const parseRange = (input: string): Range | undefined => {
  const slash = input.indexOf("/")
  const base = parseAddress(slash < 0 ? input : input.slice(0, slash))
  if (base === undefined) return undefined
  const width = base.kind() === "ipv4" ? 32 : 128
  if (slash < 0) return { base, bits: width }
  const digits = input.slice(slash + 1)
  const bits = Number(digits)
  return /^\d{1,3}$/.test(digits) && bits <= width ? { base, bits } : undefined
}

/** @internal */
export const isWithin = (address: Address, ranges: ReadonlyArray<Range>): boolean =>
  ranges.some(({ base, bits }) => address.kind() === base.kind() && address.match(base, bits))

/** The network of an address, written with its prefix; the address alone where the prefix is all of it. @internal */
export const mask = (address: Address, bits: number): string => {
  const bytes = address.toByteArray()
  if (bits >= bytes.length * 8) return address.toString()
  const masked = bytes.map((byte, i) => byte & (0xff << Math.max(0, 8 - Math.max(0, bits - i * 8))))
  return `${ipaddr.fromByteArray(masked.map((byte) => byte & 0xff)).toString()}/${bits}`
}
