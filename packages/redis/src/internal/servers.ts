import calculateSlot from "cluster-key-slot"
import { Cluster, Command } from "ioredis"
import type { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Args } from "./ask.js"
import { beat, beatEvery } from "./beat.js"
import { nodeOf } from "./client.js"
import type { Commands } from "./commands.js"
import { detailOf, reasonOf, reasonOfReply } from "./failure.js"
import { afterFailure, afterProbe, probeDelay, saysAbsent, saysRefused, up } from "./outage.js"
import type { Parts } from "./parts.js"
import { Peer } from "./peer.js"
import { placeOf } from "./place.js"
import { later, realNow } from "./realTime.js"
import { afterRefusal, afterTaken } from "./refusal.js"
import type { Watch } from "./watch.js"

const utf8 = { replyEncoding: "utf8" } as const
const ignore = () => {}
/** Among a hundred nodes one is found within some beats; they take less than a tenth of a millisecond. */
const guessesPerBeat = 100
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
    // Its nodes may be there only when nobody asks any more.
    if (this.closed) return
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
  lost(error: Error | undefined, node = ""): void {
    const peer = this.peers.get(node)
    if (peer === undefined) return
    peer.cause = error === undefined ? undefined : { reason: reasonOf(error), detail: detailOf(error) }
  }

  /** Who has that key. */
  peerOf(key: string | undefined): Peer {
    if (this.cluster === undefined || key === undefined) return this.only
    const peer = this.peer(this.nodeOf(key))
    peer.key = key
    return peer
  }

  /** Empty where it is not known, or there are no nodes. */
  private nodeOf(key: string): string {
    return this.cluster === undefined ? "" : nodeOf(this.cluster, calculateSlot(key))
  }

  /** It did not do what it was asked, or did not say so. */
  missed(peer: Peer, error: RedisUnavailableError): void {
    this.watch.failed(error)
    // That there is still no answer says no more.
    const isNews = peer.outage._tag === "Up" || error.reason !== "Timeout" || peer.lastError?.reason !== "Timeout"
    if (isNews) peer.lastError = error
    if (this.closed) return
    if (peer.outage._tag === "Down") return this.watch.stillDown(peer, error)
    if (!saysAbsent(error.reason)) return
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

  /** Says that this process is there, and asks the servers for their time and whether they take what is written. */
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
    this.beatOthers(home)
    if (home.outage._tag === "Down") return next(home.lastError)
    this.isBeating = true
    this.beatOn(home, this.beatKey, (error, count) => {
      if (count !== undefined) this.processes = count
      next(error)
    })
  }

  /** `count`: how many processes are counted there. */
  private beatOn(
    peer: Peer,
    key: string,
    told: (error: RedisUnavailableError | undefined, count: number | undefined) => void
  ): void {
    const { name } = beat.script
    const sent = realNow()
    const args = this.commands.evalArgs(beat.script, "sha", [key], [this.parts.id, String(beat.aliveFor)], "0")
    this.commands.transmit(peer, name, "evalsha", args, (error, reply) => {
      const isHeard = error === undefined && Array.isArray(reply)
      if (isHeard) peer.hear(Number(reply[0]), sent, realNow())
      told(this.written(peer, error, reply), isHeard ? Number(reply[1]) : undefined)
    }, beat.script)
  }

  /** On the other masters of a cluster: each may be full, or another user's, by itself. */
  private beatOthers(home: Peer): void {
    const masters = new Set([home])
    for (const node of this.cluster?.nodes("master") ?? []) {
      const peer = this.peer(`${node.options.host}:${node.options.port}`)
      masters.add(peer)
      if (peer === home || node.status !== "ready" || peer.outage._tag === "Down") continue
      const key = this.keyOn(peer)
      if (key !== undefined) this.beatOn(peer, key, ignore)
    }
    for (const peer of this.peers.values()) {
      const { beatKey, refusal } = peer
      if (refusal === undefined || masters.has(peer)) continue
      if (beatKey !== undefined && this.nodeOf(beatKey) === peer.node) {
        // Its connection broke: it has its slots all the same, and is no node again before it is asked something.
        if (!isDown(peer)) this.beatOn(peer, beatKey, ignore)
        continue
      }
      peer.refusal = undefined
      if (refusal.told) this.watch.refusesNoMore(peer, refusal, "is written to no more")
    }
  }

  /** A key that a node has: guessed, some with each beat. One without slots has none. */
  private keyOn(peer: Peer): string | undefined {
    for (let guess = 0; guess < guessesPerBeat; guess++) {
      const key = peer.beatKey ?? beat.guess(this.parts.prefix, peer.guesses++)
      // A probe needs it, too: what has no key is asked of any node.
      if (this.nodeOf(key) === peer.node) return peer.key = peer.beatKey = key
      peer.beatKey = undefined
    }
    return undefined
  }

  /** What a beat says of the server: it is a script that writes under the prefix, as all of the services are. */
  private written(peer: Peer, error: RedisUnavailableError | undefined, reply: unknown) {
    const said = error === undefined && Array.isArray(reply) ? String(reply[2] ?? "") : ""
    const text = said.replace(/^-/, "")
    const refused = said === "" ? error : this.commands.failed(peer, beat.script.name, reasonOfReply(said), text)
    if (said !== "" && refused !== undefined) this.missed(peer, refused)
    const { refusal } = peer
    if (refused === undefined) {
      peer.refusal = afterTaken(refusal)
      if (refusal?.told === true && peer.refusal === undefined) {
        this.watch.refusesNoMore(peer, refusal, "takes what is written again")
      }
    } else if (saysRefused(refused.reason)) {
      peer.refusal = afterRefusal(refusal, refused, realNow())
      if (peer.refusal.told && refusal?.told !== true) this.watch.refuses(peer, peer.refusal)
    }
    return refused
  }

  /** What becomes of the next beat: why the server does not do what services need, if it does not. */
  readonly beaten = (told: (error: RedisUnavailableError | undefined) => void): void => {
    this.waiting.push(told)
    this.beat()
  }

  // What is seen of them.

  /** The names of those that are down. */
  get down(): ReadonlyArray<string> {
    return [...this.peers.values()].filter(isDown).map(({ node }) => node)
  }

  /** Why one that is there refuses what is written, where one does. */
  get refusal(): RedisUnavailableError | undefined {
    return [...this.peers.values()].find((peer) => peer.refusal !== undefined && !isDown(peer))?.refusal?.error
  }

  /** Whether the one that counts processes does. */
  get refusesBeats(): boolean {
    return this.peerOf(this.beatKey).refusal !== undefined
  }

  get areDown(): boolean {
    // In a cluster the nameless one stands for all nodes, while none is known.
    const asked = this.cluster === undefined ? [this.only] : [...this.peers.values()].filter(({ node }) => node !== "")
    return this.only.outage._tag === "Down" || (asked.length > 0 && asked.every(isDown))
  }
}
