import type { RedisConnection } from "@effect-resilience/redis"
import { Effect } from "effect"
import { askOrNothing } from "./ask.js"
import { Proxy } from "./proxy.js"
import { freePort, Server } from "./server.js"
import { until } from "./until.js"

export const masterName = "main"

const ids = [1, 2, 3].map((n) => String(n).repeat(40))

/** A master, its replicas, and three sentinels that move to a replica when the master is silent for a second. */
export class Sentinels {
  constructor(
    readonly servers: ReadonlyArray<Server>,
    readonly sentinels: ReadonlyArray<Server>,
    /** Stands between the first master and all others, where that was asked for. */
    readonly link: Proxy | undefined
  ) {}

  get options(): RedisConnection.Server {
    return {
      _tag: "Sentinel",
      master: masterName,
      sentinels: this.sentinels.map(({ port }) => ({ host: "127.0.0.1", port }))
    }
  }

  /** The server that the sentinels name as the master. */
  readonly master = async (): Promise<Server> => {
    for (const { port } of this.sentinels) {
      const found = await askOrNothing(port, "sentinel", "get-master-addr-by-name", masterName)
      const at = Array.isArray(found) ? Number(found[1]) : undefined
      const server = at !== undefined && at === this.link?.port
        ? this.servers[0]
        : this.servers.find(({ port }) => port === at)
      if (server !== undefined) return server
    }
    throw new Error("no sentinel knows the master")
  }

  /** With `linked` all but the clients see the first master through a proxy, by whose port the sentinels call it. */
  static readonly start = ({ downAfter = 1000, linked = false, replicas = 1 } = {}) =>
    Effect.gen(function*() {
      const quick = ["--repl-diskless-sync-delay", "0"]
      const master = yield* Server.start(quick)
      const link = linked ? yield* Proxy.start(master.port) : undefined
      const masterPort = link?.port ?? master.port
      const followers = yield* Effect.forEach(
        Array.from({ length: replicas }),
        () => Server.start([...quick, "--replicaof", "127.0.0.1", String(masterPort)])
      )
      // They are told of each other, or they would take seconds to find out.
      const places = yield* Effect.promise(() => Promise.all(ids.map(async (id) => ({ id, port: await freePort() }))))
      const sentinels = yield* Effect.forEach(
        places,
        ({ id, port }) =>
          Server.startSentinel([
            `sentinel myid ${id}`,
            `sentinel monitor ${masterName} 127.0.0.1 ${masterPort} 2`,
            `sentinel down-after-milliseconds ${masterName} ${downAfter}`,
            `sentinel failover-timeout ${masterName} 3000`,
            ...followers.map(({ port }) => `sentinel known-replica ${masterName} 127.0.0.1 ${port}`),
            ...places.filter((other) => other.id !== id)
              .map((other) => `sentinel known-sentinel ${masterName} 127.0.0.1 ${other.port} ${other.id}`)
          ], port),
        { concurrency: 3 }
      )
      yield* Effect.promise(() =>
        until("the sentinels know each other and the replicas", async () => {
          for (const { port } of sentinels) {
            const others = await askOrNothing(port, "sentinel", "sentinels", masterName)
            const known = await askOrNothing(port, "sentinel", "replicas", masterName)
            if (!Array.isArray(others) || others.length < 2) return false
            if (!Array.isArray(known) || known.length < replicas) return false
            if (known.some((replica) => !String(replica).includes("master-link-status,ok"))) return false
          }
          const links = await Promise.all(followers.map(({ port }) => askOrNothing(port, "info", "replication")))
          return links.every((link) => String(link).includes("master_link_status:up"))
        }, 15_000)
      )
      return new Sentinels([master, ...followers], sentinels, link)
    })
}
