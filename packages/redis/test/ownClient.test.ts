import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Logger } from "effect"
import type { RedisOptions } from "ioredis"
import { Redis } from "ioredis"
import { ask } from "./utils/ask.js"
import { canStart, Server } from "./utils/server.js"
import { eventually, until } from "./utils/until.js"

/** A client as a program may have it, and what it was told. */
const clientOf = (url: string, options: RedisOptions = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Redis(url, {
        enableOfflineQueue: false,
        maxRetriesPerRequest: 0,
        autoResendUnfulfilledCommands: false,
        retryStrategy: () => 20,
        ...options
      })
      return client.on("error", () => {})
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const isReady = (client: Redis) => Effect.promise(() => until("it is ready", () => client.status === "ready"))
const size = (server: Server) => Effect.promise(() => ask(server.port, "dbsize"))

describe.skipIf(!canStart)("a client of the user's", () => {
  it.scopedLive("RN17: that is ready on database 0, and means another that is not there, is not used", () =>
    Effect.gen(function*() {
      const server = yield* Server.start(["--databases", "4"])
      const client = yield* clientOf(`${server.url}/99`)
      yield* isReady(client)
      const error = yield* Effect.flip(Effect.as(Effect.scoped(RedisConnection.fromClient(client)), "it was used"))
      expect(error).toMatchObject({
        command: "connect",
        reason: "Reply",
        detail: "database 99: ERR DB index is out of range"
      })

      yield* isReady(client)
      const redis = yield* RedisConnection.fromClient(client, { startup: "degrade" })
      expect((yield* redis.health).status).toBe("down")
      for (let n = 0; n < 50; n++) {
        expect(Exit.isSuccess(yield* Effect.exit(redis.command("set", "k", "v")))).toBe(false)
        yield* Effect.sleep("5 millis")
      }
      expect(yield* size(server)).toBe(0)
      // It is used as soon as it is there.
      yield* Effect.promise(() => server.kill())
      yield* Server.start(["--databases", "100"], server.port)
      yield* Effect.promise(() =>
        until("it is up", async () => (await Effect.runPromise(redis.health)).status === "up")
      )
      yield* redis.command("set", "k", "v")
      expect(yield* size(server)).toBe(0)
    }))

  it.scopedLive("RN23: that is ready, and whose database is confirmed only after connectTimeout, has connected once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const client = yield* clientOf(`${server.url}/1`)
      yield* isReady(client)
      server.pause()
      const redis = yield* RedisConnection.fromClient(client, {
        startup: "degrade",
        commandTimeout: "1 second",
        connectTimeout: "300 millis"
      })
      expect((yield* redis.health).status).toBe("down")
      server.resume()
      const isUp = Effect.map(redis.health, ({ status }) => status === "up")
      yield* eventually("it is up", isUp)
      expect((yield* redis.metrics).reconnects).toBe(0)
      client.disconnect(true)
      yield* eventually("it is seen to come back", Effect.map(redis.metrics, ({ reconnects }) => reconnects === 1))
    }))

  it.scopedLive("RN17: that is ready before it knows whether its database is there is refused", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const hasty = { lazyConnect: true, enableReadyCheck: false }
      const other = yield* clientOf(`${server.url}/2`, hasty)
      const exit = yield* Effect.exit(Effect.scoped(RedisConnection.fromClient(other)))
      expect(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "").toContain("option enableReadyCheck must be true")
      yield* RedisConnection.fromClient(yield* clientOf(server.url, hasty))
    }))

  it.scopedLive("RN17: that was moved by SELECT is refused: what is opened by its options would be elsewhere", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const client = yield* clientOf(server.url)
      yield* isReady(client)
      yield* Effect.promise(() => client.select(3))
      const exit = yield* Effect.exit(Effect.scoped(RedisConnection.fromClient(client)))
      expect(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "").toContain(
        "option db must be the database that the client is in, which SELECT made 3, but is 0"
      )
      yield* Effect.promise(() => client.select(0))
      yield* RedisConnection.fromClient(client)
    }))

  it.scopedLive("RN17: that is moved by SELECT later is told of, once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const client = yield* clientOf(server.url)
      yield* isReady(client)
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      yield* Effect.gen(function*() {
        const redis = yield* RedisConnection.fromClient(client)
        for (const db of [3, 0, 3]) yield* Effect.promise(() => client.select(db))
        const what = "the client was moved to database 3: what is in database 0 is not seen there"
        expect((yield* redis.health).lastError).toMatchObject({ command: "select", reason: "Reply", detail: what })
        yield* Effect.promise(() => until("it is told", () => lines.length > 0))
        expect(lines).toEqual([expect.stringContaining(what)])
      }).pipe(Effect.scoped, Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      expect(client.listenerCount("select")).toBe(0)
    }))
})
