import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import type { Socket } from "node:net"
import { inject } from "vitest"
import { until } from "./utils/until.js"

const url = inject("redisUrl")

/** How many of these commands each write of a socket has. */
const writesOf = (socket: Socket, command: string) => {
  const writes: Array<number> = []
  const count = (texts: ReadonlyArray<string | Buffer>) =>
    writes.push(texts.join("").split(`\r\n${command}\r\n`).length - 1)
  const { _write, _writev } = socket
  socket._write = (chunk, encoding, done) => {
    count([chunk])
    _write.call(socket, chunk, encoding, done)
  }
  socket._writev = (chunks, done) => {
    count(chunks.map(({ chunk }) => chunk))
    _writev?.call(socket, chunks, done)
  }
  return writes
}

describe.skipIf(url === undefined)("commands of one turn", () => {
  it.scopedLive("leave in few writes, and none of them is so long that the server waits for it", () =>
    Effect.gen(function*() {
      const client = yield* Effect.acquireRelease(
        Effect.sync(() =>
          new Redis(String(url), {
            enableOfflineQueue: false,
            maxRetriesPerRequest: 0,
            autoResendUnfulfilledCommands: false
          })
        ),
        (client) => Effect.sync(() => client.disconnect())
      )
      yield* Effect.promise(() => until("it is ready", () => client.status === "ready"))
      const redis = yield* RedisConnection.fromClient(client, { commandTimeout: "5 seconds" })
      const writes = writesOf(client.stream as Socket, "echo")
      const texts = Array.from({ length: 100 }, (_, n) => `text ${n}`)
      expect(yield* Effect.forEach(texts, (text) => redis.command("echo", text), { concurrency: "unbounded" }))
        .toEqual(texts)
      expect(writes.reduce((sum, commands) => sum + commands, 0)).toBe(100)
      expect(Math.max(...writes)).toBe(16)
      expect(writes.length).toBeLessThanOrEqual(8)
    }))
})
