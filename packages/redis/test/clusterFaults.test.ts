import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { ask, askOrNothing } from "./utils/ask.js"
import { ClusterServers } from "./utils/cluster.js"
import { Load, quantile } from "./utils/load.js"
import { scale } from "./utils/scale.js"
import { canStart } from "./utils/server.js"
import { until } from "./utils/until.js"

const wait = (millis: number) => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, millis)))

/** A key of each master's own. */
const keysOf = (cluster: ClusterServers, redis: RedisConnection.Service, name: string) =>
  cluster.masters.map((master) => {
    for (let n = 0;; n++) if (cluster.masterOf(redis.slotOf(`{${name}${n}}`)) === master) return `{${name}${n}}`
  })

/** One for both tests: that of the slot is first, for the other one leaves a master dead. */
class Cluster extends Context.Tag("Cluster")<Cluster, { readonly cluster: ClusterServers }>() {
  static readonly Live = Layer.scoped(
    Cluster,
    Effect.map(
      ClusterServers.start({ replicas: 1, nodeTimeout: scale(500, 1000) }),
      (cluster) => ({ cluster })
    )
  )
}

describe.skipIf(!canStart)("faults of a cluster", () => {
  layer(Cluster.Live, { excludeTestServices: true })((it) => {
    it.scoped("RN11: a slot moves while it is asked: no call fails, none runs twice", () =>
      Effect.gen(function*() {
        const { cluster } = yield* Cluster
        const redis = yield* RedisConnection.make({
          server: cluster.options,
          commandTimeout: "1 second",
          connectTimeout: "10 seconds"
        })
        const [key = ""] = keysOf(cluster, redis, "moved")
        const slot = redis.slotOf(key)
        const [from, to] = cluster.masters
        const load = yield* Load.start(redis, key, 300)
        yield* wait(200)
        yield* Effect.promise(async () => {
          const [source, target] = [from?.port ?? 0, to?.port ?? 0]
          const [sourceId, targetId] = await Promise.all([
            ask(source, "cluster", "myid"),
            ask(target, "cluster", "myid")
          ])
          await ask(target, "cluster", "setslot", slot, "importing", String(sourceId))
          await ask(source, "cluster", "setslot", slot, "migrating", String(targetId))
          await ask(source, "migrate", "127.0.0.1", target, "", 0, 1000, "keys", key)
          await new Promise((resolve) => setTimeout(resolve, 100))
          for (const port of [target, source]) await ask(port, "cluster", "setslot", slot, "node", String(targetId))
        })
        yield* wait(300)
        yield* load.stop
        expect(load.reasons()).toEqual({})
        const entries = yield* Effect.promise(async () =>
          await ask(to?.port ?? 0, "lrange", key, 0, -1) as Array<string>
        )
        expect(load.verdict(entries)).toEqual({ twice: 0, late: 0, ran: load.calls.length })
      }))

    it.scoped("RN11: a master dies: only its keys fail, and its replica takes over", () =>
      Effect.gen(function*() {
        const { cluster } = yield* Cluster
        const redis = yield* RedisConnection.make({
          server: cluster.options,
          commandTimeout: "1 second",
          connectTimeout: "10 seconds"
        })
        const keys = keysOf(cluster, redis, "kept")
        const loads = yield* Effect.forEach(keys, (key) => Load.start(redis, key, 300))
        yield* wait(scale(100, 500))
        const begin = performance.now()
        yield* Effect.promise(() => cluster.masters[1]?.kill() ?? Promise.resolve())
        yield* Effect.promise(() =>
          until("it is down", async () => (await Effect.runPromise(redis.metrics)).down.length > 0)
        )
        expect((yield* redis.health).status).toBe("up")
        const [, dead] = loads
        yield* Effect.promise(() =>
          until("its replica is asked", () => Number(dead?.recoveredAfter(begin + 300)) < Infinity, 10_000)
        )
        yield* wait(scale(300, 3000))
        yield* Effect.forEach(loads, ({ stop }) => stop)
        for (const [index, load] of loads.entries()) {
          const durations = load.durations()
          console.log(
            `master ${index}: ${JSON.stringify(load.reasons())}; longest gap ${load.longestGap().toFixed(0)} ms, ` +
              `p99.9 ${quantile(durations, 0.999).toFixed(1)} ms, longest ${quantile(durations, 1).toFixed(1)} ms`
          )
          expect(load.pending).toBe(0)
          expect(quantile(durations, 0.999)).toBeLessThanOrEqual(1020)
          if (index !== 1) expect(load.reasons()).toEqual({})
        }
        const replicas = cluster.replicas.map(({ port }) => port)
        const lists = yield* Effect.promise(() =>
          Promise.all(replicas.map(async (port) => await askOrNothing(port, "lrange", keys[1] ?? "", 0, -1)))
        )
        const entries = lists.find((list) => Array.isArray(list)) as Array<string>
        expect(dead?.verdict(entries)).toMatchObject({ twice: 0, late: 0 })
        yield* Effect.promise(() =>
          until("all is up", async () => (await Effect.runPromise(redis.metrics)).down.length === 0)
        )
      }))
  })
})
