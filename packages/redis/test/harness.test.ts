import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { ask } from "./utils/ask.js"
import { ClusterServers } from "./utils/cluster.js"
import { Proxy } from "./utils/proxy.js"
import { Sentinels } from "./utils/sentinel.js"
import { canStart, Server } from "./utils/server.js"

describe.skipIf(!canStart)("the servers of the tests", () => {
  it.scopedLive("a cluster has three masters, and a command finds its own", () =>
    Effect.gen(function*() {
      const cluster = yield* ClusterServers.start()
      const redis = yield* RedisConnection.make({ server: cluster.options, connectTimeout: "10 seconds" })
      const keys = Array.from({ length: 30 }, (_, index) => `k${index}`)
      yield* Effect.forEach(keys, (key) => redis.command("set", key, "v", "PX", 10_000))
      const sizes = yield* Effect.promise(() => Promise.all(cluster.masters.map(({ port }) => ask(port, "dbsize"))))
      expect(sizes.map(Number).every((size) => size > 0)).toBe(true)
      const [key = ""] = keys
      const home = cluster.masterOf(redis.slotOf(key))
      expect(yield* Effect.promise(() => ask(home.port, "get", key))).toBe("v")
    }))

  it.scopedLive("sentinels name a master", () =>
    Effect.gen(function*() {
      const sentinels = yield* Sentinels.start()
      const redis = yield* RedisConnection.make({ server: sentinels.options, connectTimeout: "10 seconds" })
      yield* redis.command("set", "k", "v", "PX", 10_000)
      const master = yield* Effect.promise(sentinels.master)
      expect(yield* Effect.promise(() => ask(master.port, "get", "k"))).toBe("v")
    }))

  it.scopedLive("a proxy stands between", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      expect(yield* Effect.promise(() => ask(proxy.port, "ping"))).toBe("PONG")
      expect(proxy.accepted).toBe(1)
    }))
})
