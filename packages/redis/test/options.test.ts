import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Config, ConfigProvider, Effect, Exit, Layer, Redacted } from "effect"
import { Cluster, Redis } from "ioredis"
import { inspect } from "node:util"
import { makeClient } from "../src/internal/client.js"
import { resolveConnection } from "../src/internal/options.js"

const standalone = (server: RedisConnection.Options["server"]) => {
  const { server: target } = resolveConnection({ server })
  return target._tag === "Standalone" ? { ...target.place, ...target.access } : target
}

const messageOf = (exit: Exit.Exit<unknown, unknown>): string =>
  // As it would be printed, with all of its fields.
  Exit.isFailure(exit) ? inspect(Cause.squash(exit.cause), { depth: 5 }) : "it succeeded"

const refused = (options: RedisConnection.Options) =>
  Effect.map(Effect.exit(Effect.scoped(RedisConnection.make(options))), messageOf)

describe("the options of a connection", () => {
  it("a server may be a URL, a secret one, a socket, or more", () => {
    expect(standalone("redis://r1")).toEqual({ host: "r1", port: 6379 })
    expect(standalone(Redacted.make("rediss://u:p%40ss@r1:7000/2"))).toEqual({
      host: "r1",
      port: 7000,
      username: "u",
      password: "p@ss",
      db: 2,
      tls: {}
    })
    expect(standalone("/run/redis.sock")).toEqual({ path: "/run/redis.sock" })
    expect(standalone("redis://[::1]:7000")).toEqual({ host: "::1", port: 7000 })
    expect(standalone({ _tag: "Standalone", url: "redis://r1", password: Redacted.make("x"), db: 3 })).toEqual({
      host: "r1",
      port: 6379,
      password: "x",
      db: 3
    })
    expect(standalone({ _tag: "Cluster", nodes: [{ host: "r1", port: 1 }], username: "u", tls: true })).toMatchObject({
      nodes: [{ host: "r1", port: 1 }],
      access: { username: "u", tls: {} }
    })
    expect(standalone({ _tag: "Sentinel", sentinels: [{ host: "r1", port: 1 }], master: "m", sentinelPassword: "s" }))
      .toMatchObject({ master: "m", sentinelAccess: { password: "s" } })
  })

  it("TLS is for the sentinels and the server that they name", () => {
    const server = { _tag: "Sentinel", sentinels: [{ host: "r1", port: 1 }], master: "m", tls: { ca: "own" } } as const
    const settings = { connectTimeout: 1, socketTimeout: 1, random: () => 0 }
    expect(makeClient(resolveConnection({ server }).server, settings).options).toMatchObject({
      enableTLSForSentinelMode: true,
      sentinelTLS: { ca: "own" },
      tls: { ca: "own" }
    })
  })

  it.effect("bad ones are refused by name, and no message has a password", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<[RedisConnection.Options, string]> = [
        [{ server: "http://u:secret@r1" }, "must be redis://host:port/db"],
        [{ server: "redis://:secret@r1:6379/two" }, "//<redacted>@r1:6379/two"],
        [{ server: "redis://r1?family=6" }, "and no more"],
        [{ server: "r1:6379" }, "must be redis://"],
        [{ server: "shop:secret@cache:6379" }, "but is \"<redacted>@cache:6379\""],
        [{ server: "redis:secret@cache" }, "but is \"<redacted>@cache\""],
        [{ server: "redis:/:secret@cache" }, "but is \"<redacted>@cache\""],
        [{ server: "http://u:secret@secret@r1" }, "but is \"<redacted>@r1\""],
        [{ server: "http://u:secret\n@r1" }, "but is \"<redacted>@r1\""],
        [{ server: "redis://r1?password=secret" }, "but is \"redis://r1?<redacted>\""],
        [{ server: "redis://r1?a=b@secret" }, "but is \"<redacted>\""],
        [{ server: "redis://r1#secret" }, "but is \"redis://r1#<redacted>\""],
        [{ server: { _tag: "Standalone", url: "shop:secret@cache" } }, "<redacted>@cache"],
        [
          { server: "redis://u:secret%zz@h" },
          "whose user and password are percent-encoded, but is \"redis://<redacted>@h\""
        ],
        [{ server: "redis://%zz:secret@h" }, "but is \"redis://<redacted>@h\""],
        [{ server: { _tag: "Standalone", url: "ftp://:secret@r1", password: "secret" } }, "<redacted>"],
        [{ server: { _tag: "Other" } as never }, "of one of the tags Standalone, Sentinel, Cluster"],
        [{ server: { _tag: "Cluster", nodes: [], password: "secret" } }, "nodes, at least one"],
        [{ server: { _tag: "Cluster", nodes: [{ host: "r1", port: 0 }] } }, "ports from 1 to 65535"],
        [{ server: { _tag: "Cluster", nodes: [{ host: "r1", port: 1 }], db: 1 } as never }, "and not db"],
        [{ server: { _tag: "Standalone", url: "redis://r1", pasword: "secret" } as never }, "and not pasword"],
        [{ server: { _tag: "Sentinel", sentinels: [{ host: "r1", port: 1 }], master: "" } }, "the name of a master"],
        [{ server: { _tag: "Standalone", url: "redis://r1", db: -1 } }, "db is an integer of at least 0"],
        [{ server: { _tag: "Standalone", url: "redis://r1", password: 5 } as never }, "password is a string"],
        [{ prefix: "a{b}" }, "option prefix must be a string that is not empty and has no braces, but is \"a{b}\""],
        [{ prefix: "" }, "option prefix"],
        [{ commandTimeout: 0 }, "option commandTimeout"],
        [
          { commandTimeout: "2 seconds", socketTimeout: "1 second" },
          "socketTimeout must be at least the commandTimeout (2000 ms)"
        ],
        [{ server: "redis://:secret#1@127.0.0.1:6379" }, "percent-encode user and password"],
        [{ server: "redis://:secret/1@127.0.0.1:6379" }, "percent-encode user and password"],
        [{ server: ":secret@127.0.0.1:6379" }, "percent-encode user and password"],
        [{ startup: "wait" as never }, "option startup must be one of \"require\", \"degrade\""],
        [{ downAfter: 0 }, "option downAfter must be an integer of at least 1, but is 0"],
        [{ timeout: 5 } as never, "has no option \"timeout\""],
        [{ name: " " }, "a non-empty string"]
      ]
      for (const [options, text] of bad) {
        const message = yield* refused(options)
        expect(message).toContain("RedisConnection")
        expect(message).toContain(text)
        expect(message).not.toContain("secret")
      }
    }))

  it.effect("from Config bad ones fail the layer, without the password", () =>
    Effect.gen(function*() {
      const build = (url: string, server: Config.Config<Redacted.Redacted | string> = Config.redacted("URL")) =>
        Layer.build(RedisConnection.layerConfig({ server, prefix: "p:" })).pipe(
          Effect.scoped,
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["URL", url]]))),
          Effect.flip
        )
      const bad: ReadonlyArray<[string, string]> = [
        ["redis://127.0.0.1:7900?family=6", "but is \"redis://127.0.0.1:7900?<redacted>\""],
        ["redis://u:secret@127.0.0.1:7900/two", "but is \"redis://<redacted>@127.0.0.1:7900/two\""],
        ["http://cache:6379", "but is \"http://cache:6379\""],
        ["ftp://:secret@r1", "but is \"<redacted>@r1\""],
        ["secret@r1", "but is \"<redacted>@r1\""],
        ["redis://:secret%zz@r1", "but is \"redis://<redacted>@r1\""],
        // Nothing says that it is not a password in the wrong place.
        ["secret", "but is \"<redacted>\""],
        ["secret:6379", "but is \"<redacted>\""]
      ]
      for (const [url, text] of bad) {
        const error = yield* build(url)
        // By the name that it has where it was set.
        expect(error).toMatchObject({ _op: "InvalidData", path: ["URL"] })
        expect(String(error)).toContain("Invalid data at URL: \"RedisConnection \"redis\": option server must be ")
        expect(String(error)).toContain(text)
        expect(String(error)).not.toContain("secret")
      }
      // However it is read.
      for (const server of [Config.string("URL"), Config.map(Config.string("URL"), Redacted.make)]) {
        expect(yield* build("http://cache:6379", server)).toMatchObject({ path: ["URL"] })
      }
      const withDefault = Config.withDefault(Config.redacted("URL"), Redacted.make("redis://cache"))
      expect(yield* build("http://cache:6379", withDefault)).toMatchObject({ path: ["server"] })
    }))

  it.effect("a client of the user's is refused for what would hurt, by option and value", () =>
    Effect.gen(function*() {
      const lazy = { lazyConnect: true } as const
      const safe = {
        ...lazy,
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        autoResendUnfulfilledCommands: false
      }
      const node = [{ host: "127.0.0.1", port: 1 }]
      const clients: ReadonlyArray<[Redis | Cluster, string]> = [
        [new Redis(lazy), "option enableOfflineQueue must be false"],
        [new Redis({ ...safe, maxRetriesPerRequest: 20 }), "option maxRetriesPerRequest must be 0"],
        [new Redis({ ...safe, autoResendUnfulfilledCommands: true }), "autoResendUnfulfilledCommands must be false"],
        [new Redis({ ...safe, stringNumbers: true }), "option stringNumbers must be false"],
        [new Redis({ ...safe, keyPrefix: "{a}" }), "option keyPrefix must be without braces, but is \"{a}\""],
        [new Cluster(node, lazy), "option enableOfflineQueue must be false"],
        [new Cluster(node, { ...lazy, enableOfflineQueue: false }), "option retryDelayOnFailover must be 0"],
        [
          new Cluster(node, { ...lazy, enableOfflineQueue: false, retryDelayOnFailover: 0 }),
          "option redisOptions.maxRetriesPerRequest must be 0"
        ],
        [
          new Cluster(node, { ...lazy, enableOfflineQueue: false, retryDelayOnFailover: 0, scaleReads: "slave" }),
          "option scaleReads must be \"master\""
        ],
        [{} as Redis, "option client must be a Redis or Cluster"]
      ]
      for (const [client, text] of clients) {
        const exit = yield* Effect.exit(Effect.scoped(RedisConnection.fromClient(client)))
        expect(messageOf(exit)).toContain(text)
      }
    }))
})
