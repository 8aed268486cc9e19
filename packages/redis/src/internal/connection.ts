import calculateSlot from "cluster-key-slot"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Scope } from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Redis } from "ioredis"
import { Cluster, Command } from "ioredis"
import type { RedisConnection } from "../RedisConnection.js"
import type { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Client } from "./client.js"
import {
  connectNode,
  connectNodes,
  databaseOf,
  hangUp,
  leaveWrongDatabase,
  mastersOf,
  mindMoves,
  mindSilence,
  ofDatabase
} from "./client.js"
import { Commands } from "./commands.js"
import { reasonOf } from "./failure.js"
import { saysRefused } from "./outage.js"
import type { Parts } from "./parts.js"
import { realNow, soon } from "./realTime.js"
import { Servers } from "./servers.js"
import { connected, mindEviction, roundTrip, usable } from "./startup.js"
import type { Watch } from "./watch.js"

const utf8 = { replyEncoding: "utf8" } as const
const ignore = () => {}

/** What is asked of a connection, by way of its servers and commands. @internal */
export class Connection implements RedisConnection.Service {
  readonly name: string
  readonly prefix: string
  readonly commandTimeout: Duration.Duration
  readonly id: string
  readonly events: Stream.Stream<RedisConnection.Event>
  private readonly client: Client
  private readonly cluster: Cluster | undefined
  private readonly watch: Watch
  private readonly commands: Commands
  private readonly servers: Servers
  private leaveSilence = ignore
  private leaveMoves = ignore
  private isMoved = false

  constructor(private readonly parts: Parts) {
    this.name = parts.name
    this.prefix = parts.prefix
    this.commandTimeout = Duration.millis(parts.timeout)
    this.id = parts.id
    this.events = parts.events
    this.client = parts.client
    this.cluster = parts.client instanceof Cluster ? parts.client : undefined
    this.watch = parts.watch
    this.commands = new Commands(parts, {
      missed: (peer, error) => this.servers.missed(peer, error),
      late: () => this.servers.beat()
    })
    this.servers = new Servers(parts, this.commands)
  }

  // Opening and closing.

  /** Connects; succeeds with what went wrong where it does not do what services need within `patience` ms. */
  open(patience: number): Effect.Effect<RedisUnavailableError | undefined> {
    return Effect.suspend(() => {
      const { client } = this
      // Said to each command already; without a listener it would end the process.
      client.on("error", this.onError)
      client.on("+node", this.onNode).on("node error", this.onNodeError)
      this.leaveSilence = mindSilence(client)
      if (!this.parts.isOwn) this.leaveMoves = mindMoves(client, this.onMove)
      const end = realNow() + patience
      return Effect.flatMap(connected(client, patience), (missing) => {
        client.on("ready", this.onReady)
        if (missing !== undefined) {
          // It may have been ready, and not all of it answered: that is not said again.
          if (client.status === "ready") this.onReady()
          return Effect.succeed(this.unusable(missing.reason, missing.detail))
        }
        this.begin()
        mindEviction(client, (policy) => this.watch.evicts(this.servers.only, policy))
        return Effect.flatMap(usable(this.servers.beaten, end), (error) => this.explained(error, patience))
      })
    })
  }

  private unusable(reason: RedisUnavailableError["reason"], detail?: string): RedisUnavailableError {
    return this.commands.failed(this.servers.only, "connect", reason, detail)
  }

  /** Why a server that is there cannot be used, in words for the one who has set it up. */
  private explained(
    error: RedisUnavailableError | undefined,
    patience: number
  ): Effect.Effect<RedisUnavailableError | undefined> {
    if (error === undefined) return Effect.succeed(undefined)
    const { detail = "", reason } = error
    if (saysRefused(reason)) {
      return Effect.succeed(this.unusable(reason, `what is written under "${this.prefix}" is refused: ${detail}`))
    }
    if (reason !== "Timeout") return Effect.succeed(this.unusable(reason, error.detail))
    return Effect.map(roundTrip(this.client, patience), (millis) => {
      const took = millis === undefined ? "" : `, and a PING took ${Math.ceil(millis)} ms`
      return this.unusable(reason, `no answer within the commandTimeout of ${this.parts.timeout} ms${took}`)
    })
  }

  /** It could not be used from the beginning. */
  beginWithout(error: RedisUnavailableError): void {
    // One that is there and refuses what is written is degraded, and asked.
    if (!this.servers.refusesBeats) this.servers.beginDown(error)
  }

  close(): void {
    const { client, parts } = this
    this.servers.close()
    this.commands.close()
    this.watch.close()
    parts.subscriptions.close()
    client.off("ready", this.onReady).off("+node", this.onNode).off("node error", this.onNodeError)
    if (parts.isOwn) return hangUp(client)
    this.leaveSilence()
    this.leaveMoves()
    client.off("error", this.onError)
  }

  private readonly onError = (error: Error): void => {
    // That it is gone is no reason why: ioredis asks for more while it is being broken off.
    if (reasonOf(error) !== "NotReady") this.servers.lost(error)
    // Its database is not there: ioredis would go on with database 0.
    if (!leaveWrongDatabase(this.client, error)) return
    this.servers.beginDown(
      this.commands.failed(this.servers.only, "select", reasonOf(error), ofDatabase(this.client, error))
    )
  }

  /** Somebody has moved the user's client to another database. */
  private readonly onMove = (to: number, from: number): void => {
    if (this.isMoved) return
    this.isMoved = true
    const detail = `the client was moved to database ${to}: what is in database ${from} is not seen there`
    const error = this.commands.failed(this.servers.only, "select", "Reply", detail)
    this.watch.failed(error)
    this.watch.internal("Store", error)
  }

  private readonly onNodeError = (error: Error, node: string): void => this.servers.lost(error, node)

  private readonly onNode = (node: Redis): void => {
    node.once("ready", () => this.servers.lost(undefined, `${node.options.host}:${node.options.port}`))
    // While the cluster is being looked up, ioredis turns its own question away where a node is half connected.
    if (this.client.status === "ready") void connectNode(node)
  }

  private readonly onReady = (): void => void connectNodes(this.client).then(this.begin)

  private readonly begin = (): void => {
    this.watch.connects++
    this.commands.load(mastersOf(this.client))
    this.servers.connected()
  }

  // Commands.

  readonly unsafeRun: RedisConnection.Service["unsafeRun"] = (script, keys, args, settled) => {
    const peer = this.servers.peerOf(keys[0])
    const refusal = this.commands.refusal(peer, script.name)
    if (refusal !== undefined) return soon(() => settled(refusal, null))
    this.commands.run(peer, script, keys, args, settled)
  }

  readonly unsafeFlush = (): void => this.commands.flush()

  readonly run: RedisConnection.Service["run"] = (script, keys, args) =>
    Effect.async((resume) => {
      const peer = this.servers.peerOf(keys[0])
      const refusal = this.commands.refusal(peer, script.name)
      if (refusal !== undefined) return resume(Exit.fail(refusal))
      this.commands.run(
        peer,
        script,
        keys,
        args,
        (error, reply) => resume(error === undefined ? Exit.succeed(reply) : Exit.fail(error))
      )
    })

  readonly failure: RedisConnection.Service["failure"] = (script, keys, reason, detail) =>
    this.commands.failed(this.servers.peerOf(keys[0]), script.name, reason, detail)

  readonly command: RedisConnection.Service["command"] = (name, ...args) =>
    Effect.async((resume) => {
      // Which of its arguments are keys only ioredis knows.
      const key = this.cluster === undefined ? undefined : new Command(name, [...args], utf8, ignore).getKeys()[0]
      const peer = this.servers.peerOf(key === undefined ? undefined : String(key))
      const refusal = this.commands.refusal(peer, name)
      if (refusal !== undefined) return resume(Exit.fail(refusal))
      this.commands.transmit(
        peer,
        name,
        name,
        [...args],
        (error, reply) => resume(error === undefined ? Exit.succeed(reply) : Exit.fail(error))
      )
    })

  readonly channel = (name: string): string => {
    const database = databaseOf(this.client)
    return database === 0 ? name : `${name}@${database}`
  }

  readonly subscribe: RedisConnection.Service["subscribe"] = (channel, on) =>
    this.parts.subscriptions.subscribe(channel, on, this.parts.timeout)

  readonly dedicated: Effect.Effect<Client, never, Scope> = Effect.acquireRelease(
    Effect.sync(() => {
      const client = this.parts.dedicated()
      client.on("error", (error: Error) => leaveWrongDatabase(client, error))
      mindSilence(client)
      client.connect().catch(ignore)
      return client
    }),
    (client) => Effect.sync(() => hangUp(client))
  )

  readonly processes = Effect.sync(() => this.servers.processes)

  readonly slotOf = (key: string): number => this.cluster === undefined ? 0 : calculateSlot(key)

  // What is seen of it.

  private get status(): RedisConnection.Health["status"] {
    if (this.servers.areDown) return "down"
    if (this.servers.refusal !== undefined) return "degraded"
    return this.client.status === "ready" ? "up" : "connecting"
  }

  readonly health: Effect.Effect<RedisConnection.Health> = Effect.sync(() => {
    const { lastError, latency } = this.watch
    const { refusal } = this.servers
    return {
      status: this.status,
      latency,
      ...(refusal === undefined ? {} : { refusal }),
      ...(lastError === undefined ? {} : { lastError })
    }
  })

  readonly metrics: Effect.Effect<RedisConnection.Metrics> = Effect.sync(() => {
    const { commands, connects, downFor, failures, lastError, latency, outages, roundTrips } = this.watch
    return {
      state: this.status,
      refusal: this.servers.refusal?.reason ?? null,
      processes: this.servers.processes,
      commands,
      roundTrips,
      failures,
      outages,
      reconnects: Math.max(connects - 1, 0),
      pending: this.commands.pending,
      latency,
      down: this.servers.down,
      ...(downFor === undefined ? {} : { downFor, ...(lastError === undefined ? {} : { reason: lastError.reason }) })
    }
  })
}
