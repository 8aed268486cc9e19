import { stackless } from "@effect-resilience/core/extension"
import calculateSlot from "cluster-key-slot"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Scope } from "effect/Scope"
import type * as Stream from "effect/Stream"
import { Cluster, Command } from "ioredis"
import type { RedisConnection } from "../RedisConnection.js"
import { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Args, Settled } from "./ask.js"
import { Ask } from "./ask.js"
import { beat, beatEvery } from "./beat.js"
import type { Client } from "./client.js"
import { connectNode, hangUp, mindSilence, nodeOf } from "./client.js"
import type { Reason } from "./failure.js"
import { reasonOf } from "./failure.js"
import { Inflight } from "./inflight.js"
import { afterFailure, afterProbe, probeDelay, saysAbsent, up } from "./outage.js"
import { Peer } from "./peer.js"
import { later, realNow, soon } from "./realTime.js"
import type { Script } from "./script.js"
import { late } from "./script.js"
import { connected } from "./startup.js"
import type { Subscriptions } from "./subscriptions.js"
import type { Watch } from "./watch.js"

export { Skew } from "./skew.js"

/** What a connection is made of. @internal */
export interface Parts {
  readonly name: string
  readonly prefix: string
  readonly id: string
  /** Milliseconds. */
  readonly timeout: number
  readonly downAfter: number
  readonly client: Client
  /** Whether the client is closed with the connection. */
  readonly isOwn: boolean
  readonly subscriptions: Subscriptions
  readonly dedicated: () => Client
  readonly watch: Watch
  readonly events: Stream.Stream<RedisConnection.Event>
  readonly skew: (() => number) | undefined
  readonly random: () => number
}

const utf8 = { replyEncoding: "utf8" } as const
const ignore = () => {}
const isDown = ({ outage }: Peer) => outage._tag === "Down"

/** @internal */
export class Connection implements RedisConnection.Service {
  readonly name: string
  readonly prefix: string
  readonly commandTimeout: Duration.Duration
  readonly id: string
  readonly events: Stream.Stream<RedisConnection.Event>
  private readonly client: Client
  private readonly cluster: Cluster | undefined
  private readonly watch: Watch
  private readonly inflight: Inflight
  private readonly peers = new Map<string, Peer>()
  /** The only server there is, outside of a cluster. */
  private readonly only: Peer
  private readonly beatKey: string
  /** Those that a server did not know: the next one is told of them before it is asked. */
  private readonly scripts = new Set<Script>()
  private known = 1
  private leaveSilence = ignore
  private isBeating = false
  private stopBeating = ignore
  private closed = false
  private lastError: RedisUnavailableError | undefined

  constructor(private readonly parts: Parts) {
    this.name = parts.name
    this.prefix = parts.prefix
    this.commandTimeout = Duration.millis(parts.timeout)
    this.id = parts.id
    this.events = parts.events
    this.client = parts.client
    this.cluster = parts.client instanceof Cluster ? parts.client : undefined
    this.watch = parts.watch
    this.inflight = new Inflight(parts.timeout)
    this.beatKey = beat.key(parts.prefix)
    this.only = this.peer("")
  }

  // Opening and closing.

  /** Connects; succeeds with what went wrong where it is not there within `patience` ms. */
  open(patience: number): Effect.Effect<RedisUnavailableError | undefined> {
    return Effect.suspend(() => {
      const { client } = this
      // Said to each command already; without a listener it would end the process.
      client.on("error", ignore)
      client.on("ready", this.onReady).on("+node", connectNode)
      this.leaveSilence = mindSilence(client)
      if (client.status === "ready") this.onReady()
      return Effect.map(
        connected(client, patience),
        (missing) => missing && this.failed("connect", missing.reason, missing.detail)
      )
    })
  }

  close(): void {
    const { client, inflight, parts, watch } = this
    // Those who share a limit hear at once that one is gone.
    if (client.status === "ready") client.sendCommand(new Command("zrem", [this.beatKey, this.id], utf8, ignore))
    this.closed = true
    this.stopBeating()
    for (const peer of this.peers.values()) peer.cancelProbe()
    inflight.close()
    watch.close()
    parts.subscriptions.close()
    client.off("ready", this.onReady).off("+node", connectNode)
    if (parts.isOwn) return hangUp(client)
    this.leaveSilence()
    client.off("error", ignore)
  }

  private textOf({ skewed, text }: Script): string {
    return this.parts.skew === undefined ? text : skewed.text
  }

  private readonly onReady = (): void => {
    this.watch.connects++
    for (const server of this.cluster?.nodes("master") ?? [this.client]) {
      for (const script of this.scripts) {
        this.watch.roundTrips++
        server.sendCommand(new Command("script", ["load", this.textOf(script)], utf8, ignore))
      }
    }
    for (const peer of this.peers.values()) {
      // Perhaps another server, by another clock.
      peer.forgetClock()
      if (peer.outage._tag === "Down") this.probe(peer)
    }
    this.beat()
  }

  // The servers.

  private peer(node: string): Peer {
    let peer = this.peers.get(node)
    if (peer === undefined) this.peers.set(node, peer = new Peer(node))
    return peer
  }

  private peerOf(key: string | undefined): Peer {
    const { cluster } = this
    if (cluster === undefined || key === undefined) return this.only
    const peer = this.peer(nodeOf(cluster, calculateSlot(key)))
    peer.key = key
    return peer
  }

  /** It did not do what it was asked, or did not say so. */
  private missed(peer: Peer, error: RedisUnavailableError): void {
    this.watch.failed(error)
    if (this.closed || peer.outage._tag === "Down" || !saysAbsent(error.reason)) return
    const outage = afterFailure(peer.outage, this.parts.downAfter)
    if (outage._tag === "Down") this.takeDown(peer, error)
    else peer.outage = outage
  }

  /** From now on nobody asks it but a probe. */
  private takeDown(peer: Peer, error: RedisUnavailableError): void {
    peer.outage = { _tag: "Down", probes: 0 }
    this.watch.wentDown(peer, error)
    this.probeLater(peer)
  }

  /** It was not there from the beginning. */
  beginDown(error: RedisUnavailableError): void {
    this.watch.failed(error)
    if (this.only.outage._tag === "Up") this.takeDown(this.only, error)
  }

  private probeLater(peer: Peer): void {
    peer.cancelProbe()
    if (peer.outage._tag === "Up" || this.closed) return
    peer.cancelProbe = later(probeDelay(peer.outage.probes, this.parts.random()), () => this.probe(peer))
  }

  private probe(peer: Peer): void {
    peer.cancelProbe()
    const [name, args]: [string, Args] = peer.key === undefined ? ["ping", []] : ["exists", [peer.key]]
    this.transmit(peer, name, name, args, (error) => {
      if (peer.outage._tag === "Up") return
      if (error === undefined) {
        peer.outage = up
        this.watch.cameBack(peer)
        // Another node has its slots now: it may never be heard of again.
        if (this.peerOf(peer.key) !== peer) this.peers.delete(peer.node)
        return this.beat()
      }
      peer.outage = afterProbe(peer.outage)
      this.probeLater(peer)
    })
  }

  /** Says that this process is there, and asks the servers for their time. */
  private readonly beat = (): void => {
    if (this.closed || this.isBeating) return
    this.stopBeating()
    this.parts.subscriptions.ping()
    this.watch.measure(this.inflight.pending)
    const next = () => {
      this.isBeating = false
      if (!this.closed) this.stopBeating = later(beatEvery, this.beat)
    }
    const home = this.peerOf(this.beatKey)
    this.askTime(home)
    if (home.outage._tag === "Down") return next()
    this.isBeating = true
    const sent = realNow()
    const args = this.evalArgs(beat.script, "sha", [this.beatKey], [this.id, String(beat.aliveFor)], "0")
    this.transmit(home, beat.script.name, "evalsha", args, (error, reply) => {
      if (error === undefined && Array.isArray(reply)) {
        home.hear(Number(reply[0]), sent, realNow())
        this.known = Number(reply[1])
      }
      next()
    }, beat.script)
  }

  /** Of the other nodes of a cluster. */
  private askTime(home: Peer): void {
    for (const node of this.cluster?.nodes("master") ?? []) {
      const peer = this.peer(`${node.options.host}:${node.options.port}`)
      if (peer === home || node.status !== "ready" || peer.outage._tag === "Down") continue
      const sent = realNow()
      node.sendCommand(
        new Command("time", [], utf8, (error, reply) => {
          if (error || !Array.isArray(reply)) return
          peer.hear(Number(reply[0]) * 1_000_000 + Number(reply[1]), sent, realNow())
        })
      )
    }
  }

  // Commands.

  private failed(command: string, reason: Reason, detail?: string): RedisUnavailableError {
    const last = this.lastError
    if (last?.command === command && last.reason === reason && last.detail === detail) return last
    // Building an error is most of what a refusal costs, and an outage says the same to everybody.
    return this.lastError = stackless(() =>
      new RedisUnavailableError({
        connection: this.name,
        command,
        reason,
        ...(detail === undefined ? {} : { detail })
      }, true)
    )
  }

  private evalArgs(
    script: Script,
    by: "sha" | "text",
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>,
    deadline: string
  ): Args {
    const { skew } = this.parts
    return skew === undefined
      ? [script[by], keys.length, ...keys, ...args, deadline]
      : [script.skewed[by], keys.length, ...keys, ...args, Math.floor(skew()), deadline]
  }

  /** Why a command is not even sent. */
  private refusal(peer: Peer, label: string): RedisUnavailableError | undefined {
    this.watch.commands++
    if (this.closed) return this.failed(label, "NotReady", "the connection was closed")
    if (peer.outage._tag === "Up") return undefined
    const error = this.failed(label, "Down")
    this.watch.failed(error)
    return error
  }

  private transmit(
    peer: Peer,
    label: string,
    name: string,
    args: Args,
    settled: Settled,
    script?: Script,
    now = realNow()
  ): void {
    const ask = new Ask(this, peer, label, args, settled, script, now)
    this.inflight.add(ask)
    this.send(name, args, ask)
  }

  private send(name: string, args: Args, ask: Ask): void {
    this.watch.roundTrips++
    this.client.sendCommand(new Command(name, args, utf8, ask.answered))
  }

  /** The answer to what was sent, where somebody still waits for it. @internal */
  answered(ask: Ask, error: Error | null | undefined, reply: unknown): void {
    const { peer, script } = ask
    if (error && script !== undefined && error.message.startsWith("NOSCRIPT")) {
      // Said before it did anything. It is the same command, in what is left of its time.
      this.scripts.add(script)
      return this.send("eval", [this.textOf(script), ...ask.args.slice(1)], ask)
    }
    this.inflight.settle(ask)
    if (error) return this.fail(ask, reasonOf(error), error.message)
    this.watch.answered(ask.sent)
    if (peer.outage !== up && peer.outage._tag === "Up") peer.outage = up
    if (reply !== late) return ask.settle(undefined, reply as RedisConnection.Reply)
    // It came in time, so the server's clock is ahead of what we know.
    this.beat()
    this.fail(ask, "Late")
  }

  /** @internal */
  fail(ask: Ask, reason: Reason, detail?: string): void {
    const error = this.failed(ask.label, reason, detail)
    this.missed(ask.peer, error)
    ask.settle(error, null)
  }

  private sendScript(
    peer: Peer,
    script: Script,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>,
    settled: Settled
  ): void {
    const now = realNow()
    const all = this.evalArgs(script, "sha", keys, args, peer.deadline(now, this.parts.timeout))
    this.transmit(peer, script.name, "evalsha", all, settled, script, now)
  }

  readonly unsafeRun: RedisConnection.Service["unsafeRun"] = (script, keys, args, settled) => {
    const peer = this.peerOf(keys[0])
    const refusal = this.refusal(peer, script.name)
    if (refusal !== undefined) return soon(() => settled(refusal, null))
    this.sendScript(peer, script, keys, args, settled)
  }

  readonly run: RedisConnection.Service["run"] = (script, keys, args) =>
    Effect.async((resume) => {
      const peer = this.peerOf(keys[0])
      const refusal = this.refusal(peer, script.name)
      if (refusal !== undefined) return resume(Exit.fail(refusal))
      this.sendScript(
        peer,
        script,
        keys,
        args,
        (error, reply) => resume(error === undefined ? Exit.succeed(reply) : Exit.fail(error))
      )
    })

  readonly command: RedisConnection.Service["command"] = (name, ...args) =>
    Effect.async((resume) => {
      // Which of its arguments are keys only ioredis knows.
      const key = this.cluster === undefined ? undefined : new Command(name, [...args], utf8, ignore).getKeys()[0]
      const peer = this.peerOf(key === undefined ? undefined : String(key))
      const refusal = this.refusal(peer, name)
      if (refusal !== undefined) return resume(Exit.fail(refusal))
      this.transmit(
        peer,
        name,
        name,
        [...args],
        (error, reply) => resume(error === undefined ? Exit.succeed(reply) : Exit.fail(error))
      )
    })

  readonly subscribe: RedisConnection.Service["subscribe"] = (channel, on) =>
    this.parts.subscriptions.subscribe(channel, on, this.parts.timeout)

  readonly dedicated: Effect.Effect<Client, never, Scope> = Effect.acquireRelease(
    Effect.sync(() => {
      const client = this.parts.dedicated()
      client.on("error", ignore)
      mindSilence(client)
      client.connect().catch(ignore)
      return client
    }),
    (client) => Effect.sync(() => hangUp(client))
  )

  readonly processes = Effect.sync(() => this.known)

  readonly slotOf = (key: string): number => this.cluster === undefined ? 0 : calculateSlot(key)

  // What is seen of it.

  private get status(): RedisConnection.Health["status"] {
    // In a cluster the nameless one stands for all nodes, while none is known.
    const asked = this.cluster === undefined ? [this.only] : [...this.peers.values()].filter(({ node }) => node !== "")
    if (this.only.outage._tag === "Down" || (asked.length > 0 && asked.every(isDown))) return "down"
    return this.client.status === "ready" ? "up" : "connecting"
  }

  readonly health: Effect.Effect<RedisConnection.Health> = Effect.sync(() => {
    const { lastError, latency } = this.watch
    return { status: this.status, latency, ...(lastError === undefined ? {} : { lastError }) }
  })

  readonly metrics: Effect.Effect<RedisConnection.Metrics> = Effect.sync(() => {
    const { commands, connects, failures, latency, outages, roundTrips } = this.watch
    return {
      state: this.status,
      processes: this.known,
      commands,
      roundTrips,
      failures,
      outages,
      reconnects: Math.max(connects - 1, 0),
      pending: this.inflight.pending,
      latency,
      down: [...this.peers.values()].filter(isDown).map(({ node }) => node)
    }
  })
}
