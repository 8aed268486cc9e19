import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Logger, Stream } from "effect"
import { ask } from "./utils/ask.js"
import { ClusterServers } from "./utils/cluster.js"
import type { Server } from "./utils/server.js"
import { canStart } from "./utils/server.js"
import { eventually } from "./utils/until.js"

const told = (server: Server, command: string, ...args: ReadonlyArray<string>) =>
  Effect.promise(() => ask(server.port, command, ...args))

/** A connection that nobody uses, what it tells, and a master on which processes are not counted. */
const watched = (downAfter: number) =>
  Effect.gen(function*() {
    // So long that no test is over only because the others think that it is gone.
    const cluster = yield* ClusterServers.start({ nodeTimeout: 60_000 })
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
    const redis = yield* Effect.provide(
      RedisConnection.make({
        server: cluster.options,
        prefix: "shop:",
        commandTimeout: "1 second",
        connectTimeout: "10 seconds",
        socketTimeout: "1 minute",
        downAfter
      }),
      Logger.replace(Logger.defaultLogger, logger)
    )
    const changes: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(redis.events, (event) =>
        Effect.sync(() => {
          if (event._tag === "StateChanged") changes.push(`${event.from} ${event.to}`)
        }))
    )
    yield* Effect.yieldNow()
    const home = cluster.masterOf(redis.slotOf("shop:{processes}"))
    const quiet = cluster.masters.find((master) => master !== home) as Server
    yield* told(quiet, "config", "set", "maxmemory", "1")
    yield* eventually("it is degraded", Effect.map(redis.health, ({ status }) => status === "degraded"))
    yield* eventually("it is told", Effect.sync(() => lines.length === 1))
    const changed = (...all: ReadonlyArray<string>) =>
      eventually(`there was ${all.join(", ")}`, Effect.sync(() => changes.join() === all.join()))
    return { changed, changes, lines, node: `127.0.0.1:${quiet.port}`, quiet, redis }
  })

describe.skipIf(!canStart)("a master of a cluster to which no call goes", () => {
  it.scopedLive("RN28: does not answer: it is down once, is asked itself whether it is back, and refuses as before", () =>
    Effect.gen(function*() {
      const { changed, changes, lines, node, quiet, redis } = yield* watched(2)
      quiet.pause()
      yield* changed("Up Degraded", "Up Down")
      // By now another node would have answered.
      yield* Effect.sleep("2500 millis")
      expect(yield* redis.metrics).toMatchObject({ outages: 1, down: [node], refusal: null })
      expect(yield* redis.health).not.toHaveProperty("refusal")
      expect(changes.length).toBe(2)
      quiet.resume()
      yield* changed("Up Degraded", "Up Down", "Down Up")
      yield* eventually("it refuses", Effect.map(redis.health, ({ status }) => status === "degraded"))
      yield* told(quiet, "config", "set", "maxmemory", "0")
      yield* changed("Up Degraded", "Up Down", "Down Up", "Degraded Up")
      expect(yield* redis.metrics).toMatchObject({ state: "up", outages: 1, down: [] })
      expect(lines).toEqual([
        expect.stringContaining("refuses what is written (OutOfMemory"),
        expect.stringContaining("is down (Timeout"),
        expect.stringContaining("is up again after"),
        expect.stringContaining("takes what is written again after")
      ])
    }))

  it.scopedLive("RN28: loses its connection: it has its slots, is connected to again, and is told of when it takes what is written", () =>
    Effect.gen(function*() {
      const { changed, changes, lines, quiet, redis } = yield* watched(5)
      yield* told(quiet, "client", "kill", "type", "normal")
      // Some beats, by the first of which it is not among the nodes.
      yield* Effect.sleep("2500 millis")
      expect(changes).toEqual(["Up Degraded"])
      expect(yield* redis.health).toMatchObject({ status: "degraded", refusal: { reason: "OutOfMemory" } })
      yield* told(quiet, "config", "set", "maxmemory", "0")
      yield* changed("Up Degraded", "Degraded Up")
      expect(lines).toEqual([
        expect.stringContaining("refuses what is written (OutOfMemory"),
        expect.stringContaining("takes what is written again after")
      ])
    }))
})
