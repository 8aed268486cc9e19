import { option } from "@effect-resilience/core/extension"
import type { ClusterOptions, RedisOptions } from "ioredis"
import { Cluster, Redis } from "ioredis"
import { afterReadOnly, noSearch } from "./master.js"
import type { Target } from "./options.js"
import { cancelTimer, realNow } from "./realTime.js"

/** @internal */
export type Client = Redis | Cluster

const firstDelay = 150
const longestDelay = 1400

/**
 * Milliseconds before the next attempt to connect: spread, so that a fleet that lost its server does not come back as one,
 * and about three in the first second.
 *
 * @internal
 */
export const backoff = (attempt: number, random: () => number): number =>
  (0.3 + 0.7 * random()) * Math.min(firstDelay * 2 ** (attempt - 1), longestDelay)

/** @internal */
export interface Settings {
  readonly connectTimeout: number
  readonly socketTimeout: number
  readonly random: () => number
}

/** Connects anew where the server is no master any more, with back-off. */
const lookForMaster = (random: () => number): (error: Error) => boolean => {
  let search = noSearch
  return (error) => {
    if (!error.message.includes("READONLY")) return false
    const after = afterReadOnly(search, realNow(), random)
    search = after.search
    return after.isDue
  }
}

/** How long a closed connection may take to say goodbye. */
const disconnectTimeout = 100

/**
 * What makes a dead server fail at once: nothing queues, nothing is sent twice, nothing hangs. Each of them was measured
 * against the defaults, which let a command wait for ever or run twice.
 */
const safe = ({ connectTimeout, random, socketTimeout }: Settings): RedisOptions => ({
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
  // The command is not sent again.
  reconnectOnError: lookForMaster(random),
  disconnectTimeout
})

const safeCluster = (settings: Settings, access: RedisOptions): ClusterOptions => {
  const { retryStrategy: _, enableOfflineQueue: __, ...ofNodes } = safe(settings)
  return {
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: (attempt) => backoff(attempt, settings.random),
    slotsRefreshTimeout: settings.connectTimeout,
    // Or a command whose connection broke is sent again, although it may have run.
    retryDelayOnFailover: 0,
    // These say that it did not run; who waits for it decides.
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: 20,
    redisOptions: { ...ofNodes, ...access }
  }
}

/** @internal */
export const makeClient = (target: Target, settings: Settings): Client => {
  const { access, sentinelAccess } = target
  switch (target._tag) {
    case "Standalone":
      return new Redis({ ...safe(settings), ...access, ...target.place })
    case "Sentinel":
      return new Redis({
        ...safe(settings),
        ...access,
        ...(sentinelAccess.username === undefined ? {} : { sentinelUsername: sentinelAccess.username }),
        ...(sentinelAccess.password === undefined ? {} : { sentinelPassword: sentinelAccess.password }),
        // Or ioredis speaks to all of them as if there were no TLS.
        ...(access.tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: access.tls }),
        sentinels: [...target.sentinels],
        name: target.master,
        failoverDetector: true,
        // A sentinel that is stopped, too, must not be waited for.
        sentinelCommandTimeout: settings.connectTimeout,
        sentinelRetryStrategy: (attempt) => backoff(attempt, settings.random)
      })
    case "Cluster":
      return new Cluster([...target.nodes], safeCluster(settings, access))
  }
}

/** How long a connection of one's own may hear nothing while it waits for an answer. @internal */
export const dedicatedSilence = 10_000

/**
 * A connection of its own to the same servers, for commands that wait: they may be asked for before it is there, and they
 * fail where it breaks.
 *
 * @internal
 */
export const dedicatedClient = (client: Client, settings: Settings): Client => {
  const own = { ...safe(settings), socketTimeout: dedicatedSilence, commandTimeout: undefined, keyPrefix: "" }
  if (client instanceof Cluster) {
    const { retryStrategy: _, enableOfflineQueue: __, ...ofNodes } = own
    return client.duplicate([], {
      ...safeCluster(settings, { ...client.options.redisOptions, ...ofNodes }),
      enableOfflineQueue: true,
      keyPrefix: ""
    })
  }
  return client.duplicate({ ...own, enableOfflineQueue: true })
}

/**
 * Stops the timer of the silence of a socket that is gone. ioredis lets it run on, which keeps the process alive, and in
 * version 5 breaks off the next connection.
 */
const stopSilence = (client: Redis): void => {
  const its = client as unknown as { socketTimeoutTimer?: unknown }
  cancelTimer(its.socketTimeoutTimer)
  its.socketTimeoutTimer = undefined
}

/**
 * Stops it whenever a connection ends; returns what undoes that.
 *
 * @internal
 */
export const mindSilence = (client: Client): () => void => {
  if (client instanceof Cluster) return () => {}
  const stop = () => stopSilence(client)
  client.on("close", stop)
  return () => void client.off("close", stop)
}

/** Whether an error says that the server refused the database. @internal */
export const isOfSelect = (error: Error & { readonly command?: { readonly name: string } }): boolean =>
  error.name === "ReplyError" && error.command?.name === "select"

/** What the server says of a database, and of which. @internal */
export const ofDatabase = (client: Client, error: Error): string =>
  client instanceof Cluster ? error.message : `database ${client.options.db}: ${error.message}`

/**
 * Where the server refused the database: breaks the connection off before it is used, as for a password, and tries again.
 *
 * @internal
 */
export const leaveWrongDatabase = (client: Client, error: Error): boolean => {
  if (client instanceof Cluster || !isOfSelect(error)) return false
  client.disconnect(true)
  return true
}

/** The database that a client means to be in, now and by its options: `SELECT` moves it, and nothing else that is opened by them. */
const databasesOf = (client: Redis) => {
  const { db = 0 } = client.options
  const { condition } = client as unknown as { readonly condition: { readonly select?: number } | undefined }
  return { now: condition?.select ?? db, own: db }
}

/** The database that a client means to be in; a cluster has one. @internal */
export const databaseOf = (client: Client): number => client instanceof Cluster ? 0 : databasesOf(client).own

/**
 * Asks for the database once more, of a client that was ready before we heard of it: where it was refused ioredis goes on
 * with database 0. Fails with the error of the server.
 *
 * @internal
 */
export const confirmDatabase = async (client: Client): Promise<void> => {
  if (client instanceof Cluster) return
  const { own } = databasesOf(client)
  if (own !== 0) await client.select(own)
}

/** Calls `moved` when a client is moved to another database; returns what undoes that. @internal */
export const mindMoves = (client: Client, moved: (to: number, from: number) => void): () => void => {
  if (client instanceof Cluster) return () => {}
  const { own } = databasesOf(client)
  const see = (to: number) => to !== own && moved(to, own)
  client.on("select", see)
  return () => void client.off("select", see)
}

/** Disconnects. @internal */
export const hangUp = (client: Client): void => {
  const nodes = client instanceof Cluster ? client.nodes() : [client]
  client.disconnect()
  for (const node of nodes) stopSilence(node)
}

/**
 * A connection to hear channels by, which does not come back by itself: whoever hears decides when. In a cluster any node
 * has all messages; there is none to connect to while no node is known.
 *
 * @internal
 */
export const subscriberClient = (client: Client, settings: Settings): Redis | undefined => {
  const of = client instanceof Cluster ? client.nodes("master")[0] ?? client.nodes()[0] : client
  return of?.duplicate({
    ...safe(settings),
    enableOfflineQueue: true,
    readOnly: false,
    commandTimeout: undefined,
    keyPrefix: "",
    retryStrategy: null
  })
}

/** The key of the node that has a slot; one name for all where that is not known. @internal */
export const nodeOf = (cluster: Cluster, slot: number): string =>
  (cluster as unknown as { readonly slots: ReadonlyArray<ReadonlyArray<string> | undefined> }).slots[slot]?.[0] ?? ""

/**
 * Connects to a node of a cluster before it is asked: what is sent while that is under way is turned away. Resolves when it
 * is there, or could not be had: some clients try that again for ever.
 *
 * @internal
 */
export const connectNode = (node: Redis): Promise<void> =>
  new Promise((resolve) => {
    if (node.status === "ready" || node.status === "end" || node.options.readOnly === true) return resolve()
    node.once("ready", resolve).once("close", resolve)
    if (node.status === "wait") node.connect().catch(() => {})
  })

/** @internal */
export const mastersOf = (client: Client): ReadonlyArray<Redis> =>
  client instanceof Cluster ? client.nodes("master") : [client]

/**
 * Connects to all masters: a cluster says that it is ready as soon as it knows who they are.
 *
 * @internal
 */
export const connectNodes = (client: Client): Promise<unknown> =>
  client instanceof Cluster ? Promise.all(mastersOf(client).map(connectNode)) : Promise.resolve()

/** @internal */
export const keyPrefixOf = (client: Client): string => String(client.options.keyPrefix ?? "")

interface Rule {
  readonly field: string
  readonly value: unknown
  readonly set: unknown
}

/** What a client of the user's has to be set to, or a command can wait for ever, run twice, or answer otherwise. */
const rulesOf = (client: Client): ReadonlyArray<Rule> => {
  const rules = (path: string, options: RedisOptions): ReadonlyArray<Rule> => [
    { field: `${path}maxRetriesPerRequest`, value: options.maxRetriesPerRequest, set: 0 },
    { field: `${path}autoResendUnfulfilledCommands`, value: options.autoResendUnfulfilledCommands, set: false },
    { field: `${path}stringNumbers`, value: options.stringNumbers ?? false, set: false }
  ]
  if (!(client instanceof Cluster)) {
    const { options } = client
    return [
      { field: "enableOfflineQueue", value: options.enableOfflineQueue, set: false },
      ...rules("", options),
      // Or it is used before it is known whether its database is there.
      ...(options.db ? [{ field: "enableReadyCheck", value: options.enableReadyCheck, set: true }] : [])
    ]
  }
  const { options } = client
  return [
    { field: "enableOfflineQueue", value: options.enableOfflineQueue, set: false },
    { field: "retryDelayOnFailover", value: options.retryDelayOnFailover, set: 0 },
    { field: "scaleReads", value: options.scaleReads, set: "master" },
    ...rules("redisOptions.", { ...options.redisOptions } as RedisOptions)
  ]
}

/** Throws an `InvalidOptionError` for a client that is none of ours to use. @internal */
export const checkClient = (name: string, client: unknown, allowUnsafe: boolean): Client => {
  if (!(client instanceof Redis) && !(client instanceof Cluster)) {
    const one = "a Redis or Cluster of the ioredis that this package resolves"
    throw new option.InvalidOptionError("RedisConnection", name, "client", typeof client, one)
  }
  if (/[{}]/.test(keyPrefixOf(client))) {
    throw new option.InvalidOptionError("RedisConnection", name, "keyPrefix", keyPrefixOf(client), "without braces")
  }
  if (allowUnsafe) return client
  const broken = rulesOf(client).find(({ set, value }) => value !== set)
  if (broken !== undefined) {
    throw new option.InvalidOptionError(
      "RedisConnection",
      name,
      broken.field,
      broken.value,
      `${option.show(broken.set)} in the options of the client, or a command may wait for long, run twice or answer ` +
        `otherwise; allowUnsafe: true takes it as it is`
    )
  }
  if (client instanceof Redis) {
    const { now, own } = databasesOf(client)
    const there = `the database that the client is in, which SELECT made ${now}`
    if (now !== own) throw new option.InvalidOptionError("RedisConnection", name, "db", own, there)
  }
  return client
}
