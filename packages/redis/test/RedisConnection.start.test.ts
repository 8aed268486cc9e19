import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import type { AddressInfo } from "node:net"
import { createServer } from "node:net"
import { Proxy } from "./utils/proxy.js"
import { canStart, Server } from "./utils/server.js"
import { eventually } from "./utils/until.js"

describe.skipIf(!canStart)("what a connection says at the start", () => {
  it.scopedLive("RN23: an answer takes longer than a command may: both figures, and not a failure of each call", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      proxy.mode = { _tag: "delay", millis: () => 130 }
      const start = (options: RedisConnection.Options) =>
        Effect.scoped(Effect.asVoid(RedisConnection.make({ server: proxy.url, ...options })))
      const error = yield* Effect.flip(start({}))
      expect(error).toMatchObject({ command: "connect", reason: "Timeout" })
      expect(error.detail).toMatch(
        /^no answer within the commandTimeout of 100 ms, and a PING took (1[3-9]|[2-9]\d)\d ms$/
      )
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      yield* Effect.scoped(
        Effect.zipRight(
          RedisConnection.make({ server: proxy.url, startup: "degrade" }),
          eventually("it is told", Effect.sync(() => lines.length > 0))
        )
      ).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      expect(lines).toEqual([
        expect.stringMatching(/ is down \(Timeout: .* of 100 ms, and a PING took (1[3-9]|[2-9]\d)\d ms\)/)
      ])
      yield* start({ commandTimeout: "1 second" })
      // An answer that is late once is no reason.
      let asked = 0
      proxy.mode = { _tag: "delay", millis: () => ++asked === 4 ? 130 : 1 }
      yield* start({})
    }))

  it.scopedLive("RN25: what it may be where TLS is on one side only, and which database is not there", () =>
    Effect.gen(function*() {
      const server = yield* Server.start(["--databases", "4"])
      const failing = (server: string) =>
        Effect.map(Effect.flip(Effect.scoped(Effect.asVoid(RedisConnection.make({ server })))), ({ detail }) => detail)
      expect(yield* failing(server.url.replace("redis:", "rediss:"))).toBe(
        "no connection within 1000 ms; does the server speak TLS (rediss://)?"
      )
      // As a server does that is spoken to without.
      const listener = createServer((socket) => void socket.once("data", () => socket.destroy()).on("error", () => {}))
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve))),
        () => Effect.sync(() => listener.close())
      )
      const { port } = listener.address() as AddressInfo
      expect(yield* failing(`redis://127.0.0.1:${port}`)).toBe(
        "there is no connection; does the server speak TLS alone (rediss://)?"
      )
      expect(yield* failing(`${server.url}/9`)).toBe("database 9: ERR DB index is out of range")
    }))

  it.scopedLive("RN23: the server makes room by keys of ours: said once, with its policy", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        lines.push(`${logLevel.label} ${String(message)}`)
      })
      const of = (policy: string) =>
        Effect.gen(function*() {
          const server = yield* Server.start(["--maxmemory-policy", policy])
          const redis = yield* RedisConnection.make({ server: server.url, name: policy, commandTimeout: "1 second" })
          yield* redis.command("ping")
          return server
        }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      yield* of("noeviction")
      const server = yield* of("allkeys-lru")
      yield* eventually("it is told", Effect.sync(() => lines.length > 0))
      expect(lines).toEqual([
        expect.stringContaining(
          `WARN Redis "allkeys-lru" at 127.0.0.1:${server.port} has maxmemory-policy allkeys-lru: `
        )
      ])
    }))
})
