import calculateSlot from "cluster-key-slot"
import { Cluster, Command } from "ioredis"
import type { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Args } from "./ask.js"
import { beat, beatEvery } from "./beat.js"
import { nodeOf } from "./client.js"
import type { Commands } from "./commands.js"
import { reasonOfReply } from "./failure.js"
import { afterFailure, afterProbe, probeDelay, saysAbsent, saysRefused, up } from "./outage.js"
import type { Parts } from "./parts.js"
import { Peer } from "./peer.js"
import { placeOf } from "./place.js"
import { later, realNow } from "./realTime.js"
import { afterRefusal, afterTaken } from "./refusal.js"
import type { Watch } from "./watch.js"

const utf8 = { replyEncoding: "utf8" } as const
const ignore = () => {}
const isDown = ({ outage }: Peer) => outage._tag === "Down"

/**
 * What is known of the servers: whether they are there, what time they have, and how many processes share them. Asks them
 * once a second, and those that are down by probes.
 *
 * @internal
 */
export class Servers {
  /** How many processes share them, as last heard; before that, as expected. */
  processes: number
  private readonly cluster: Cluster | undefined
  private readonly watch: Watch
  private readonly peers = new Map<string, Peer>()
  /** The only server there is, outside of a cluster; there it stands for all. */
  readonly only: Peer
  private readonly beatKey: string
  private isBeating = false
  /** Those who wait to hear what becomes of a beat. */
  private waiting: Array<(error: RedisUnavailableError | undefined) => void> = []
  private stopBeating = ignore
  private closed = false

  constructor(private readonly parts: Parts, private readonly commands: Commands) {
    this.cluster = parts.client instanceof Cluster ? parts.client : undefined
    this.watch = parts.watch
    this.processes = parts.expectedProcesses
    this.beatKey = beat.key(parts.prefix)
    this.only = this.peer("")
  }

  close(): void {
    const { client, id } = this.parts
    // Those who share a limit hear at once that one is gone.
    if (client.status === "ready") client.sendCommand(new Command("zrem", [this.beatKey, id], utf8, ignore))
    this.closed = true
    this.stopBeating()
    for (const peer of this.peers.values()) peer.cancelProbe()
  }

  /** There is a connection, anew. */
  connected(): void {
    this.only.cause = undefined
    this.only.at = placeOf(this.parts.client)
    for (const peer of this.peers.values()) {
      // Perhaps another server, by another clock.
      peer.forgetClock()
      if (peer.outage._tag === "Down") this.probe(peer)
    }
    this.beat()
  }

  private peer(node: string): Peer {
    let peer = this.peers.get(node)
    if (peer === undefined) {
      this.peers.set(node, peer = new Peer(node, node === "" ? placeOf(this.parts.client) : node))
    }
    return peer
  }

  /** What the connection to it, or to a node that is asked, was lost by; undefined where it is there again. */
  lost(cause: string | undefined, node = ""): void {
    const peer = this.peers.get(node)
    if (peer !== undefined) peer.cause = cause
  }

  /** Who has that key. */
  peerOf(key: string | undefined): Peer {
    const { cluster } = this
    if (cluster === undefined || key === undefined) return this.only
    const peer = this.peer(nodeOf(cluster, calculateSlot(key)))
    peer.key = key
    return peer
  }

  /** It did not do what it was asked, or did not say so. */
  missed(peer: Peer, error: RedisUnavailableError): void {
    this.watch.failed(error)
    // That there is still no answer says no more.
    const isNews = peer.outage._tag === "Up" || error.reason !== "Timeout" || peer.lastError?.reason !== "Timeout"
    if (isNews) peer.lastError = error
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
    this.only.lastError = error
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
    this.commands.transmit(peer, name, name, args, (error) => {
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
  readonly beat = (): void => {
    if (this.closed || this.isBeating) return
    this.stopBeating()
    this.parts.subscriptions.ping()
    this.watch.measure(this.commands.pending)
    const home = this.peerOf(this.beatKey)
    const next = (error: RedisUnavailableError | undefined) => {
      this.isBeating = false
      if (!this.closed) this.stopBeating = later(beatEvery, this.beat)
      this.watch.seen(!this.areDown, this.refusal !== undefined, this.processes)
      for (const told of this.waiting.splice(0)) told(error)
    }
    this.askTime(home)
    if (home.outage._tag === "Down") return next(home.lastError)
    this.isBeating = true
    const sent = realNow()
    const args = this.commands.evalArgs(beat.script, "sha", [this.beatKey], [this.parts.id, String(beat.aliveFor)], "0")
    this.commands.transmit(home, beat.script.name, "evalsha", args, (error, reply) => {
      if (error === undefined && Array.isArray(reply)) {
        home.hear(Number(reply[0]), sent, realNow())
        this.processes = Number(reply[1])
      }
      next(this.written(home, error, reply))
    }, beat.script)
  }

  /** What a beat says of the server: it is a script that writes under the prefix, as all of the services are. */
  private written(home: Peer, error: RedisUnavailableError | undefined, reply: unknown) {
    const said = error === undefined && Array.isArray(reply) ? String(reply[2] ?? "") : ""
    const text = said.replace(/^-/, "")
    const refused = said === "" ? error : this.commands.failed(home, beat.script.name, reasonOfReply(said), text)
    if (said !== "" && refused !== undefined) this.missed(home, refused)
    const { refusal } = home
    if (refused === undefined) {
      home.refusal = afterTaken(refusal)
      if (refusal?.told === true && home.refusal === undefined) this.watch.takesAgain(home, refusal)
    } else if (saysRefused(refused.reason)) {
      home.refusal = afterRefusal(refusal, refused, realNow())
      if (home.refusal.told && refusal?.told !== true) this.watch.refuses(home, home.refusal)
    }
    return refused
  }

  /** What becomes of the next beat: why the server does not do what services need, if it does not. */
  readonly beaten = (told: (error: RedisUnavailableError | undefined) => void): void => {
    this.waiting.push(told)
    this.beat()
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

  // What is seen of them.

  /** The names of those that are down. */
  get down(): ReadonlyArray<string> {
    return [...this.peers.values()].filter(isDown).map(({ node }) => node)
  }

  /** Why one that is there refuses what is written, where it does. */
  get refusal(): RedisUnavailableError | undefined {
    return this.peerOf(this.beatKey).refusal?.error
  }

  get areDown(): boolean {
    // In a cluster the nameless one stands for all nodes, while none is known.
    const asked = this.cluster === undefined ? [this.only] : [...this.peers.values()].filter(({ node }) => node !== "")
    return this.only.outage._tag === "Down" || (asked.length > 0 && asked.every(isDown))
  }
}
