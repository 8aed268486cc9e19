import type { RedisConnection } from "@effect-resilience/redis"
import { Effect } from "effect"
import { ask, askOrNothing } from "./ask.js"
import { Server } from "./server.js"
import { until } from "./until.js"

const slots = 16_384

/** Three masters with a third of the slots each, and as many replicas of each as were asked for. */
export class ClusterServers {
  constructor(readonly masters: ReadonlyArray<Server>, readonly replicas: ReadonlyArray<Server>) {}

  get options(): RedisConnection.Server {
    return { _tag: "Cluster", nodes: this.masters.map(({ port }) => ({ host: "127.0.0.1", port })) }
  }

  /** The master that had a slot from the beginning. */
  readonly masterOf = (slot: number): Server => this.masters[Math.floor(slot / slots * 3)] as Server

  static readonly start = ({ nodeTimeout = 1000, replicas = 0 } = {}) =>
    Effect.gen(function*() {
      const node = () =>
        Server.start([
          "--cluster-enabled",
          "yes",
          "--cluster-node-timeout",
          String(nodeTimeout),
          "--cluster-require-full-coverage",
          "no",
          "--repl-diskless-sync-delay",
          "0"
        ])
      const masters = yield* Effect.forEach([0, 1, 2], node, { concurrency: 3 })
      const followers = yield* Effect.forEach(Array.from({ length: 3 * replicas }), node, { concurrency: 6 })
      const all = [...masters, ...followers]
      yield* Effect.promise(async () => {
        await Promise.all(masters.map(({ port }, index) => {
          const own = Array.from({ length: slots }, (_, slot) => slot).filter((slot) =>
            Math.floor(slot / slots * 3) === index
          )
          return ask(port, "cluster", "addslots", ...own)
        }))
        await Promise.all(all.map(({ port }, index) => ask(port, "cluster", "set-config-epoch", index + 1)))
        for (const { port } of all.slice(1)) await ask(all[0]?.port ?? 0, "cluster", "meet", "127.0.0.1", port)
        const knowEachOther = async () => {
          const infos = await Promise.all(all.map(({ port }) => askOrNothing(port, "cluster", "info")))
          return infos.every((info) => String(info).includes(`cluster_known_nodes:${all.length}`))
        }
        await until("the nodes know each other", knowEachOther)
        const ids = await Promise.all(masters.map(({ port }) => ask(port, "cluster", "myid")))
        await Promise.all(followers.map(({ port }, index) =>
          until("a node follows its master", async () => {
            await askOrNothing(port, "cluster", "replicate", String(ids[index % 3]))
            return String(await askOrNothing(port, "info", "replication")).includes("master_link_status:up")
          })
        ))
        await until("the cluster is there", async () => {
          const infos = await Promise.all(all.map(({ port }) => askOrNothing(port, "cluster", "info")))
          // A node says "ok" while it has not heard who has the slots of the others.
          return infos.every((info) => /cluster_state:ok[^]*cluster_slots_ok:16384/.test(String(info)))
        })
      })
      return new ClusterServers(masters, followers)
    })
}
