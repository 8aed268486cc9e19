import type { ClusterOptions, RedisOptions } from "ioredis"
import { Cluster, Redis } from "ioredis"
import type { RedisConnection } from "../RedisConnection.js"

/** @internal */
export type Client = Redis | Cluster

/** Full jitter: a fleet that lost its server does not come back as one. */
const backoff = (attempt: number, random: () => number): number => random() * Math.min(2 ** attempt * 50, 2000)

/** @internal */
export interface Settings {
  readonly connectTimeout: number
  readonly socketTimeout: number
  readonly random: () => number
}

/**
 * What makes a dead server fail at once: nothing queues, nothing is sent twice, nothing hangs. Each of them was measured
 * against the defaults, which let a command wait for ever or run twice.
 */
const redisOptions = ({ connectTimeout, random, socketTimeout }: Settings): RedisOptions => ({
  lazyConnect: true,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  enableAutoPipelining: false,
  connectTimeout,
  socketTimeout,
  keepAlive: 5000,
  retryStrategy: (attempt) => backoff(attempt, random),
  // A former master: look for the new one, and do not send the command again.
  reconnectOnError: (error) => error.message.startsWith("READONLY")
})

const clusterOptions = (settings: Settings, own: RedisOptions): ClusterOptions => {
  const { retryStrategy: _, enableOfflineQueue: __, ...redisOptionsOfNodes } = redisOptions(settings)
  return {
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: (attempt) => backoff(attempt, settings.random),
    // Or a command whose connection broke is sent again, although it may have run.
    retryDelayOnFailover: 0,
    redisOptions: { ...redisOptionsOfNodes, ...own }
  }
}

/** @internal */
export const makeClient = (server: RedisConnection.Server, settings: Settings): Client => {
  const own: RedisOptions = {
    ...(server.username === undefined ? {} : { username: server.username }),
    ...(server.password === undefined ? {} : { password: server.password }),
    ...(server.tls === undefined ? {} : { tls: server.tls })
  }
  switch (server._tag) {
    case "Standalone":
      return new Redis(server.url, { ...redisOptions(settings), ...own })
    case "Sentinel":
      return new Redis({
        ...redisOptions(settings),
        ...own,
        sentinels: [...server.sentinels],
        name: server.master,
        failoverDetector: true,
        sentinelRetryStrategy: (attempt) => backoff(attempt, settings.random)
      })
    case "Cluster":
      return new Cluster([...server.nodes], clusterOptions(settings, own))
  }
}
