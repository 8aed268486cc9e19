import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { ask, askOrNothing } from "./utils/ask.js"
import { ClusterServers } from "./utils/cluster.js"
import { Load } from "./utils/load.js"
import { scale } from "./utils/scale.js"
import { canStart } from "./utils/server.js"
import { entriesOf, expectShort, untilBack } from "./utils/underLoad.js"
import { until } from "./utils/until.js"

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

/** A connection to it, which has time: the machine may be busy. */
const connected = Effect.flatMap(Cluster, ({ cluster }) =>
  Effect.map(
    RedisConnection.make({ server: cluster.options, commandTimeout: "1 second", connectTimeout: "10 seconds" }),
    (redis) => ({ cluster, redis })
  ))

describe.skipIf(!canStart)("faults of a cluster", () => {
  layer(Cluster.Live, { excludeTestServices: true })((it) => {
    it.scoped("RN11: a slot moves while it is asked: no call fails, none runs twice", () =>
      Effect.gen(function*() {
        const { cluster, redis } = yield* connected
        const [key = ""] = keysOf(cluster, redis, "moved")
        const slot = redis.slotOf(key)
        const [from, to] = cluster.masters
        const load = yield* Load.start(redis, key, 300)
        yield* Effect.sleep(200)
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
        yield* Effect.sleep(300)
        yield* load.stop
        expect(load.reasons()).toEqual({})
        expect(load.verdict(yield* entriesOf(to?.port ?? 0, key))).toEqual({
          twice: 0,
          late: 0,
          ran: load.calls.length
        })
      }))

    it.scoped("RN11: a master dies: only its keys fail, and its replica takes over", () =>
      Effect.gen(function*() {
        const { cluster, redis } = yield* connected
        const keys = keysOf(cluster, redis, "kept")
        const loads = yield* Effect.forEach(keys, (key) => Load.start(redis, key, 300))
        yield* Effect.sleep(scale(100, 500))
        const begin = performance.now()
        yield* Effect.promise(() => cluster.masters[1]?.kill() ?? Promise.resolve())
        yield* Effect.promise(() =>
          until("it is down", async () => (await Effect.runPromise(redis.metrics)).down.length > 0)
        )
        expect((yield* redis.health).status).toBe("up")
        const dead = loads[1] as Load
        yield* untilBack(dead, begin + 300, 10_000)
        yield* Effect.sleep(scale(300, 3000))
        yield* Effect.forEach(loads, ({ stop }) => stop)
        for (const [index, load] of loads.entries()) {
          expectShort(load, `master ${index}`, 1000)
          if (index !== 1) expect(load.reasons()).toEqual({})
        }
        const replicas = cluster.replicas.map(({ port }) => port)
        const lists = yield* Effect.promise(() =>
          Promise.all(replicas.map(async (port) => await askOrNothing(port, "lrange", keys[1] ?? "", 0, -1)))
        )
        const entries = lists.find((list) => Array.isArray(list)) as Array<string>
        expect(dead.verdict(entries)).toMatchObject({ twice: 0, late: 0 })
        yield* Effect.promise(() =>
          until("all is up", async () => (await Effect.runPromise(redis.metrics)).down.length === 0)
        )
      }))
  })
})
