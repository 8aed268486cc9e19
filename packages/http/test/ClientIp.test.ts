import { ClientIp } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc, Option } from "effect"

const request = (peer: string | undefined, headers: Record<string, string> = {}) => ({
  method: "GET",
  path: "/",
  headers,
  remoteAddress: Option.fromNullable(peer)
})
const found = (rule: ClientIp.Rule, peer: string | undefined, headers: Record<string, string> = {}) =>
  Option.getOrUndefined(rule(request(peer, headers)))

const xff = (value: string) => ({ "x-forwarded-for": value })
const forwarded = (value: string) => ({ forwarded: value })
const behindLan = ClientIp.fromForwardedFor({ trusted: ["10.0.0.0/8", "fd00::/8"] })
const oneHop = ClientIp.fromForwardedFor({ hops: 1 })
const twoHops = ClientIp.fromForwardedFor({ hops: 2 })
const twoHops7239 = ClientIp.fromForwarded({ hops: 2 })
const behindLan7239 = ClientIp.fromForwarded({ trusted: ["10.0.0.0/8"] })
const cloudflare = ClientIp.fromHeader("CF-Connecting-IP", { onlyFrom: ["10.0.0.1"] })

type Row = readonly [
  what: string,
  rule: ClientIp.Rule,
  peer: string | undefined,
  headers: Record<string, string>,
  client: string | undefined
]

const rows: ReadonlyArray<Row> = [
  // The socket.
  ["no header is read without a rule", ClientIp.fromSocket, "203.0.113.9", xff("1.1.1.1"), "203.0.113.9"],
  ["a dual-stack listener shows IPv4", ClientIp.fromSocket, "::ffff:203.0.113.9", {}, "203.0.113.9"],
  ["the same in hexadecimal", ClientIp.fromSocket, "::ffff:cb00:7109", {}, "203.0.113.9"],
  ["a zone is no part of the address", ClientIp.fromSocket, "fe80::1%eth0", {}, "fe80::1"],
  ["a server that does not know the peer", ClientIp.fromSocket, undefined, xff("1.1.1.1"), undefined],
  // Trusted addresses.
  ["a peer that is not trusted is the client", behindLan, "203.0.113.9", xff("1.1.1.1"), "203.0.113.9"],
  ["the entry of a trusted proxy", behindLan, "10.0.0.1", xff("198.51.100.7"), "198.51.100.7"],
  [
    "what the client itself wrote stands left of it",
    behindLan,
    "10.0.0.1",
    xff("1.1.1.1, 198.51.100.7"),
    "198.51.100.7"
  ],
  ["past all trusted proxies", behindLan, "10.0.0.1", xff("1.1.1.1, 198.51.100.7, 10.0.0.3,10.0.0.2"), "198.51.100.7"],
  ["lines of one name are one list", behindLan, "10.0.0.1", xff("1.1.1.1, 2.2.2.2, 198.51.100.7"), "198.51.100.7"],
  ["a client that claims to be a proxy", behindLan, "10.0.0.1", xff("10.9.9.9, 198.51.100.7"), "198.51.100.7"],
  ["all are trusted: the first of them", behindLan, "10.0.0.1", xff("10.0.0.5, 10.0.0.4"), "10.0.0.5"],
  ["a trusted proxy that says nothing", behindLan, "10.0.0.1", {}, "10.0.0.1"],
  ["an empty header", behindLan, "10.0.0.1", xff(""), "10.0.0.1"],
  ["garbage ends the walk", behindLan, "10.0.0.1", xff("198.51.100.7, unknown"), "10.0.0.1"],
  ["garbage behind the client does not matter", behindLan, "10.0.0.1", xff("<script>, 198.51.100.7"), "198.51.100.7"],
  ["an empty entry is garbage", behindLan, "10.0.0.1", xff("198.51.100.7,"), "10.0.0.1"],
  ["a port", behindLan, "10.0.0.1", xff("198.51.100.7:4711"), "198.51.100.7"],
  ["IPv6", behindLan, "fd00::1", xff("2001:db8::7"), "2001:db8::7"],
  ["IPv6 in brackets with a port", behindLan, "fd00::1", xff("[2001:DB8::7]:443"), "2001:db8::7"],
  ["IPv6 with a zone", behindLan, "fd00::1", xff("2001:db8::7%en0"), "2001:db8::7"],
  ["a proxy that is mapped into IPv6", behindLan, "::ffff:10.0.0.1", xff("198.51.100.7"), "198.51.100.7"],
  ["a client that is mapped into IPv6", behindLan, "10.0.0.1", xff("::ffff:198.51.100.7"), "198.51.100.7"],
  ["octal notation is garbage", behindLan, "10.0.0.1", xff("0306.51.100.7"), "10.0.0.1"],
  ["so is hexadecimal", behindLan, "10.0.0.1", xff("0xc6.51.100.7"), "10.0.0.1"],
  ["so is a number", behindLan, "10.0.0.1", xff("3325256711"), "10.0.0.1"],
  ["so are three parts", behindLan, "10.0.0.1", xff("198.51.7"), "10.0.0.1"],
  ["so is a name", behindLan, "10.0.0.1", xff("localhost"), "10.0.0.1"],
  [
    "only the last sixteen entries are looked at",
    behindLan,
    "10.0.0.1",
    xff(`1.1.1.1${",10.0.0.2".repeat(16)}`),
    "10.0.0.2"
  ],
  ["a header of a megabyte", behindLan, "10.0.0.1", xff(`${"9".repeat(1_000_000)}, 198.51.100.7`), "198.51.100.7"],
  // A number of proxies.
  ["the last entry, by one proxy", oneHop, "192.0.2.1", xff("1.1.1.1, 198.51.100.7"), "198.51.100.7"],
  ["the last but one, by two", twoHops, "192.0.2.1", xff("1.1.1.1, 198.51.100.7, 192.0.2.2"), "198.51.100.7"],
  ["who came past a proxy is not known", twoHops, "192.0.2.1", xff("198.51.100.7"), undefined],
  ["who came past the only one is not known", oneHop, "198.51.100.7", {}, undefined],
  ["garbage is not known", oneHop, "192.0.2.1", xff("unknown"), undefined],
  // Forwarded.
  ["Forwarded", behindLan7239, "10.0.0.1", forwarded("for=198.51.100.7;proto=https"), "198.51.100.7"],
  ["its names are in any case", behindLan7239, "10.0.0.1", forwarded("proto=https; For=198.51.100.7"), "198.51.100.7"],
  ["quoted, with a port", behindLan7239, "10.0.0.1", forwarded("for=\"198.51.100.7:80\""), "198.51.100.7"],
  ["IPv6, quoted", behindLan7239, "10.0.0.1", forwarded("for=\"[2001:db8::7]:80\";by=10.0.0.1"), "2001:db8::7"],
  ["several", behindLan7239, "10.0.0.1", forwarded("for=1.1.1.1, for=198.51.100.7, for=10.0.0.2"), "198.51.100.7"],
  ["unknown", behindLan7239, "10.0.0.1", forwarded("for=1.1.1.1, for=unknown"), "10.0.0.1"],
  ["obfuscated", behindLan7239, "10.0.0.1", forwarded("for=1.1.1.1, for=_hidden"), "10.0.0.1"],
  ["an element without for", behindLan7239, "10.0.0.1", forwarded("for=1.1.1.1, proto=https"), "10.0.0.1"],
  ["a comma in quotes", behindLan7239, "10.0.0.1", forwarded("for=\"1.1.1.1, for=2.2.2.2\""), "10.0.0.1"],
  ["quotes that do not close", behindLan7239, "10.0.0.1", forwarded("for=\"1.1.1.1, for=198.51.100.7"), "10.0.0.1"],
  [
    "a quote that opens after the client swallows no proxy",
    twoHops7239,
    "10.0.0.2",
    forwarded("for=6.6.6.6, for=\", for=203.0.113.9, for=10.0.0.1"),
    undefined
  ],
  [
    "a quote that closes swallows no proxy either",
    twoHops7239,
    "10.0.0.2",
    forwarded("for=6.6.6.6, for=\",\", for=203.0.113.9, for=10.0.0.1"),
    "203.0.113.9"
  ],
  ["for, twice", behindLan7239, "10.0.0.1", forwarded("for=198.51.100.7;for=1.1.1.1"), "10.0.0.1"],
  ["X-Forwarded-For is not Forwarded", behindLan7239, "10.0.0.1", xff("198.51.100.7"), "10.0.0.1"],
  // A header of one value.
  ["the header of a gateway", cloudflare, "10.0.0.1", { "cf-connecting-ip": "198.51.100.7" }, "198.51.100.7"],
  ["the same from somebody else", cloudflare, "203.0.113.9", { "cf-connecting-ip": "1.1.1.1" }, "203.0.113.9"],
  ["twice: the last", cloudflare, "10.0.0.1", { "cf-connecting-ip": "1.1.1.1, 198.51.100.7" }, "198.51.100.7"],
  ["garbage in it", cloudflare, "10.0.0.1", { "cf-connecting-ip": "me" }, "10.0.0.1"],
  ["without it", cloudflare, "10.0.0.1", {}, "10.0.0.1"]
]

describe("ClientIp", () => {
  it.each(rows)("%s", (_what, rule, peer, headers, client) => {
    expect(found(rule, peer, headers)).toBe(client)
  })

  it("whatever a client sends, it cannot be taken for another behind trusted proxies", () => {
    const entry = fc.oneof(fc.ipV4(), fc.ipV6(), fc.string(), fc.constant("10.0.0.7"), fc.constant("\""))
    fc.assert(fc.property(fc.array(entry), (entries) => {
      expect(found(behindLan, "10.0.0.1", xff([...entries, "198.51.100.7"].join(",")))).toBe("198.51.100.7")
      expect(found(oneHop, "10.0.0.1", xff([...entries, "198.51.100.7"].join(", ")))).toBe("198.51.100.7")
      // Quotes may swallow what the proxy wrote: then it is nobody, rather than somebody else.
      expect(["198.51.100.7", "10.0.0.1"]).toContain(
        found(
          behindLan7239,
          "10.0.0.1",
          forwarded([...entries.map((text) => `for=${text}`), "for=198.51.100.7"].join(","))
        )
      )
    }))
  })

  it("whatever a client sends, so many proxies make of it the client or nobody", () => {
    const junk = fc.oneof(
      fc.constantFrom("for=6.6.6.6", "for=\"", "\"", "for=\"6.6.6.6", "for=\"\\", "for=\"6.6.6.6\"", "6.6.6.6"),
      fc.string(),
      fc.stringOf(fc.constantFrom("\"", "\\", ",", ";", "=", "for=", "6.6.6.6", " "), { maxLength: 20 }),
      fc.string({ minLength: 4090, maxLength: 4200 })
    )
    const proxy = fc.constantFrom("10.0.0.1", "10.0.0.2", "2001:db8::2")
    const quoted = (address: string) => address.includes(":") ? `for="[${address}]"` : `for=${address}`
    const proxies = fc.array(proxy, { maxLength: 2 })
    const client = fc.constantFrom("198.51.100.7", "2001:db8::7")
    fc.assert(
      fc.property(fc.array(junk, { maxLength: 4 }), client, proxies, (sent, client, proxies) => {
        const written = [client, ...proxies]
        const hops = written.length
        const from = (rule: ClientIp.Rule, headers: Record<string, string>) => found(rule, "192.0.2.1", headers)
        expect(from(ClientIp.fromForwardedFor({ hops }), xff([...sent, ...written].join(", ")))).toBe(client)
        const header = forwarded([...sent, ...written.map(quoted)].join(", "))
        expect([client, undefined]).toContain(from(ClientIp.fromForwarded({ hops }), header))
        // And where the proxies' addresses are known, it is nobody but the client or the proxy that calls.
        const trusted = [...proxies, "192.0.2.1"]
        expect([client, "192.0.2.1"]).toContain(from(ClientIp.fromForwarded({ trusted }), header))
      }),
      { numRuns: 2000 }
    )
  })

  describe("keyOf", () => {
    const keyOf = (peer: string, options?: ClientIp.KeyOptions) =>
      Option.getOrUndefined(ClientIp.keyOf(ClientIp.fromSocket, options)(request(peer)))

    it("is the address of IPv4, and the /64 of IPv6", () => {
      expect(keyOf("203.0.113.9")).toBe("203.0.113.9")
      expect(keyOf("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2::/64")
      expect(keyOf("2001:db8:1:2:ffff::1")).toBe(keyOf("2001:db8:1:2::1"))
      expect(keyOf("2001:db8:1:3::1")).not.toBe(keyOf("2001:db8:1:2::1"))
    })

    it("tells IPv4 clients of a dual-stack listener apart", () => {
      expect(keyOf("::ffff:203.0.113.9")).toBe("203.0.113.9")
      expect(keyOf("::ffff:203.0.113.10")).toBe("203.0.113.10")
    })

    it("takes other prefixes", () => {
      expect(keyOf("203.0.113.9", { ipv4Prefix: 24 })).toBe("203.0.113.0/24")
      expect(keyOf("203.0.113.9", { ipv4Prefix: 20 })).toBe("203.0.112.0/20")
      expect(keyOf("2001:db8:1:2::1", { ipv6Prefix: 56 })).toBe("2001:db8:1::/56")
      expect(keyOf("2001:db8::1", { ipv6Prefix: 128 })).toBe("2001:db8::1")
    })

    it("is nothing where the client is not known", () => {
      expect(ClientIp.keyOf(ClientIp.fromSocket)(request(undefined))).toEqual(Option.none())
    })
  })

  it("refuses rules that mean nothing", () => {
    const bad = [
      [() => ClientIp.fromForwardedFor({ trusted: [] }), "names no trusted address"],
      [() => ClientIp.fromForwardedFor({ trusted: ["10.0.0.0/33"] }), "\"10.0.0.0/33\" is not an address or a range"],
      [() => ClientIp.fromForwardedFor({ trusted: ["*"] }), "\"*\" is not an address or a range"],
      [() => ClientIp.fromForwarded({ trusted: ["10.0.0/8"] }), "ClientIp.fromForwarded: \"10.0.0/8\""],
      [() => ClientIp.fromForwardedFor({ hops: 0 }), "hops must be a whole number from 1 to 16, not 0"],
      [() => ClientIp.fromForwardedFor({ hops: 1.5 }), "not 1.5"],
      [() => ClientIp.fromForwardedFor({ hops: NaN }), "not NaN"],
      [() => ClientIp.fromHeader("x-real-ip", { onlyFrom: [] }), "names no trusted address"],
      [() => ClientIp.keyOf(ClientIp.fromSocket, { ipv6Prefix: 0 }), "ipv6Prefix must be a whole number from 1 to 128"],
      [() => ClientIp.keyOf(ClientIp.fromSocket, { ipv4Prefix: 64 }), "ipv4Prefix must be a whole number from 1 to 32"]
    ] as const
    for (const [build, message] of bad) expect(build).toThrow(message)
  })
})
