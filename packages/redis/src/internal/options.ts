import type { ConfigOf } from "@effect-resilience/core"
import { option } from "@effect-resilience/core/extension"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import type { RedisOptions } from "ioredis"
import type { ConnectionOptions } from "node:tls"
import type { RedisConnection } from "../RedisConnection.js"

/** A server as ioredis has it. */
type Place = Pick<RedisOptions, "host" | "port" | "path">
type Access = Pick<RedisOptions, "username" | "password" | "db" | "tls">
type Address = RedisConnection.Address

/** Where to connect to, read and checked. @internal */
export type Target =
  & (
    | { readonly _tag: "Standalone"; readonly place: Place }
    | { readonly _tag: "Sentinel"; readonly sentinels: ReadonlyArray<Address>; readonly master: string }
    | { readonly _tag: "Cluster"; readonly nodes: ReadonlyArray<Address> }
  )
  & { readonly access: Access; readonly sentinelAccess: Pick<Access, "username" | "password"> }

const must = (text: string): never => {
  throw new option.Requirement(text)
}

const secretKeys = ["password", "sentinelPassword"]
const serverKeys = new Set(["_tag", "sentinels", "master", "nodes", "username", "db", "sentinelUsername"])

/** Text that was to be a URL, without what may be a password: all before the last `@`, and what no URL of ours has. */
const maskedUrl = (text: string): string => {
  if (/[?#].*@/s.test(text)) return "<redacted>"
  return text.replace(/^(rediss?:\/\/)?.*@/s, "$1<redacted>@").replace(/([?#]).*/s, "$1<redacted>")
}

/** Of what was to be secret as a whole only what looks like an address is shown: all else may be a password. */
const maskedSecret = (secret: unknown): string => {
  const text = Predicate.isString(secret) ? maskedUrl(secret) : ""
  return /^(\w+:\/\/|<redacted>@)/.test(text) ? text : "<redacted>"
}

const masked = (value: unknown): unknown => {
  if (Redacted.isRedacted(value)) return maskedSecret(Redacted.value(value))
  if (Predicate.isString(value)) return maskedUrl(value)
  if (!Predicate.isRecord(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [
      key,
      part === undefined
        ? undefined
        : secretKeys.includes(key) || key === "tls"
        ? "<redacted>"
        : key === "url"
        ? masked(part)
        // What is no field of a server may be a password by another name.
        : serverKeys.has(key)
        ? part
        : "<redacted>"
    ])
  )
}

/** A server in an error, without what is secret, however it is printed. */
class Shown {
  readonly #server: RedisConnection.Options["server"]
  constructor(server: RedisConnection.Options["server"]) {
    this.#server = server
  }
  static readonly reveal = (shown: Shown) => shown.#server
  toJSON() {
    return masked(this.#server)
  }
}

const reveal = (value: unknown, what: string): string | undefined => {
  const plain = Redacted.isRedacted(value) ? Redacted.value(value) : value
  if (plain === undefined || Predicate.isString(plain)) return plain
  return must(`a server whose ${what} is a string, or one in Redacted`)
}

const port = (value: unknown, of: string): number =>
  Predicate.isNumber(value) && Number.isInteger(value) && value > 0 && value < 65_536
    ? value
    : must(`a server whose ${of} have ports from 1 to 65535`)

const addresses = (value: unknown, of: string): ReadonlyArray<Address> =>
  Array.isArray(value) && value.length > 0
    ? value.map((one: Partial<Address> | undefined) => ({
      host: Predicate.isString(one?.host) && one.host !== "" ? one.host : must(`a server whose ${of} have hosts`),
      port: port(one?.port, of)
    }))
    : must(`a server with ${of}, at least one`)

const database = (value: unknown): number | undefined =>
  value === undefined || (Predicate.isNumber(value) && Number.isInteger(value) && value >= 0)
    ? value
    : must("a server whose db is an integer of at least 0")

const urls = "redis://host:port/db, rediss://host:port/db (TLS), or the path of a socket"
const encoded = "percent-encode user and password"

const decode = (part: string): string | undefined => {
  try {
    return part === "" ? undefined : decodeURIComponent(part)
  } catch {
    return must("a URL whose user and password are percent-encoded")
  }
}

const parseUrl = (text: string): { readonly place: Place; readonly access: Access } => {
  if (text.startsWith("/")) return { place: { path: text }, access: {} }
  const url = URL.canParse(text) ? new URL(text) : must(`${urls}; ${encoded}`)
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") must(`${urls}; ${encoded}`)
  if (url.hostname === "" || url.search !== "" || url.hash !== "") must(`${urls}, and no more; ${encoded}`)
  const db = url.pathname.replace(/^\//, "")
  if (!/^\d*$/.test(db)) must(`${urls}; ${encoded}`)
  const username = decode(url.username)
  const password = decode(url.password)
  return {
    place: { host: url.hostname.replace(/^\[|\]$/g, ""), port: url.port === "" ? 6379 : Number(url.port) },
    access: {
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(db === "" ? {} : { db: Number(db) }),
      ...(url.protocol === "rediss:" ? { tls: {} } : {})
    }
  }
}

const tlsOf = (value: unknown): ConnectionOptions | undefined =>
  value === true ? {} : value === undefined || value === false
    ? undefined
    : Predicate.isRecord(value)
    ? value
    : must("a server whose tls is true, or options of node:tls")

const defined = <A extends object>(fields: A): { [K in keyof A]?: Exclude<A[K], undefined> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof A]?: Exclude<A[K], undefined>
  }

const known: Record<RedisConnection.Server["_tag"], ReadonlyArray<string>> = {
  Standalone: ["url", "username", "password", "db", "tls"],
  Sentinel: ["sentinels", "master", "username", "password", "db", "tls", "sentinelUsername", "sentinelPassword"],
  Cluster: ["nodes", "username", "password", "tls"]
}

const parseServer = (shown: Shown | RedisConnection.Options["server"]): Target => {
  const input = shown instanceof Shown ? Shown.reveal(shown) : shown
  if (Predicate.isString(input) || Redacted.isRedacted(input)) {
    return { _tag: "Standalone", ...parseUrl(reveal(input, "url") ?? ""), sentinelAccess: {} }
  }
  if (!Predicate.isRecord(input) || !Object.hasOwn(known, String(input._tag))) {
    return must("a URL, or a server of one of the tags Standalone, Sentinel, Cluster")
  }
  const server = input as RedisConnection.Server
  const stranger = Object.keys(server).find((key) => key !== "_tag" && !known[server._tag].includes(key))
  if (stranger !== undefined) must(`a ${server._tag} with ${known[server._tag].join(", ")}, and not ${stranger}`)
  const access: Access = defined({
    username: reveal(server.username, "username"),
    password: reveal(server.password, "password"),
    db: server._tag === "Cluster" ? undefined : database(server.db),
    tls: tlsOf(server.tls)
  })
  switch (server._tag) {
    case "Standalone": {
      const { access: own, place } = parseUrl(reveal(server.url, "url") ?? must("a Standalone with a url"))
      return { _tag: "Standalone", place, access: { ...own, ...access }, sentinelAccess: {} }
    }
    case "Sentinel":
      return {
        _tag: "Sentinel",
        sentinels: addresses(server.sentinels, "sentinels"),
        master: Predicate.isString(server.master) && server.master !== ""
          ? server.master
          : must("a Sentinel with the name of a master"),
        access,
        sentinelAccess: defined({
          username: reveal(server.sentinelUsername, "sentinelUsername"),
          password: reveal(server.sentinelPassword, "sentinelPassword")
        })
      }
    case "Cluster":
      return { _tag: "Cluster", nodes: addresses(server.nodes, "nodes"), access, sentinelAccess: {} }
  }
}

const parsePrefix = (input: unknown): string =>
  Predicate.isString(input) && input !== "" && !/[{}]/.test(input)
    ? input
    : must("a string that is not empty and has no braces")

/** What a connection and the use of a client have in common. */
const shared = {
  name: option.field<string, string>("redis", (name) => name),
  prefix: option.field<string, string>("resilience:", parsePrefix),
  commandTimeout: option.duration("100 millis", { min: 1 }),
  connectTimeout: option.duration("1 second", { min: 1 }),
  startup: option.literal<RedisConnection.Startup>("require", "require", "degrade"),
  downAfter: option.integer(5, { min: 1 }),
  expectedProcesses: option.integer(1, { min: 1 })
}

/** What the table of the documentation says. @internal */
export const connectionFields = {
  ...shared,
  server: option.field<RedisConnection.Options["server"], Target>("redis://127.0.0.1:6379", parseServer),
  socketTimeout: option.optional(option.duration("1 second", { min: 1 }), `"1 second"`)
} satisfies option.Fields<RedisConnection.Options>

/** @internal */
export const clientFields = {
  ...shared,
  allowUnsafe: option.boolean(false)
} satisfies option.Fields<RedisConnection.ClientOptions>

/** @internal */
export type Common = option.Resolved<typeof shared>

/** A connection may be silent for so long, or for the time of a command where that is longer. */
const silence = Duration.seconds(1)

/** What resolves the options of a connection of our own. Throws an `InvalidOptionError` that shows no password. @internal */
export const resolveConnection = (options: RedisConnection.Options) => {
  const name = options.name ?? "redis"
  const server = options.server === undefined ? {} : { server: new Shown(options.server) }
  const resolved = option.resolve("RedisConnection", name, connectionFields, { ...options, ...server })
  const { commandTimeout, socketTimeout = Duration.max(silence, commandTimeout) } = resolved
  if (Duration.lessThan(socketTimeout, commandTimeout)) {
    const least = `at least the commandTimeout (${Duration.toMillis(commandTimeout)} ms)`
    throw new option.InvalidOptionError("RedisConnection", name, "socketTimeout", socketTimeout, least)
  }
  return { ...resolved, socketTimeout }
}

/** The name of a variable, as far as its absence would tell it; that of a secret or of what is made of it is found nowhere else. */
const pathOf = (config: Config.Config<unknown>): Array<string> => {
  const absent = Effect.runSync(Effect.either(ConfigProvider.fromMap(new Map()).load(config)))
  return Either.isLeft(absent) && ConfigError.isMissingData(absent.left) ? [...absent.left.path] : ["server"]
}

/** The same, where a bad server is told of by the name of the variable that it came from. @internal */
export const namingServer = (config: ConfigOf<RedisConnection.Options>): ConfigOf<RedisConnection.Options> => {
  if (Config.isConfig(config) || !Config.isConfig(config.server)) return config
  const name = Predicate.isString(config.name) ? config.name : undefined
  const own: Config.Config<RedisConnection.Options["server"]> = config.server
  // Mapped, or a `Config` would put a name before the path by itself, but only where it is neither secret nor mapped.
  const server = Config.mapOrFail(Config.map(own, (server) => server), (server) => {
    try {
      resolveConnection({ name, server })
      return Either.right(server)
    } catch (error) {
      if (!(error instanceof option.InvalidOptionError)) throw error
      return Either.left(ConfigError.InvalidData(pathOf(own), error.message))
    }
  })
  return { ...config, server }
}

/** @internal */
export const resolveClient = (options: RedisConnection.ClientOptions) =>
  option.resolve("RedisConnection", options.name ?? "redis", clientFields, { ...options })
