import { stackless } from "@effect-resilience/core/extension"
import type { Redis } from "ioredis"
import { Cluster, Command } from "ioredis"
import type { RedisConnection } from "../RedisConnection.js"
import { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Args, Settled } from "./ask.js"
import { Ask } from "./ask.js"
import type { Reason } from "./failure.js"
import { detailOf, reasonOf } from "./failure.js"
import { Inflight } from "./inflight.js"
import { up } from "./outage.js"
import type { Parts } from "./parts.js"
import type { Peer } from "./peer.js"
import { realNow } from "./realTime.js"
import type { Script } from "./script.js"
import { late } from "./script.js"

const utf8 = { replyEncoding: "utf8" } as const
const ignore = () => {}

/** Commands in one write: of more, the server works on the first while the others are written. */
const mostInOneWrite = 16

const writeNow = (corked: Redis["stream"]): void => {
  corked.uncork()
  corked.cork()
}

/** Who is told what commands say of their servers. */
interface Heard {
  /** It did not do what it was asked, or did not say so. */
  readonly missed: (peer: Peer, error: RedisUnavailableError) => void
  /** It saw a command in time that was too late by what is known of its clock. */
  readonly late: () => void
}

/**
 * Commands on their way: each is sent once, within its deadline, and answered once.
 *
 * @internal
 */
export class Commands {
  private readonly inflight: Inflight
  /** Those that a server did not know: the next one is told of them before it is asked. */
  private readonly scripts = new Set<Script>()
  private lastError: RedisUnavailableError | undefined
  private closed = false
  /** What is written to in this turn: a stream that takes its place meanwhile is another. */
  private corked: Redis["stream"] | undefined
  private gathered = 0
  private flushed = false

  constructor(private readonly parts: Parts, private readonly heard: Heard) {
    this.inflight = new Inflight(parts.timeout)
  }

  get pending(): number {
    return this.inflight.pending
  }

  close(): void {
    this.closed = true
    this.inflight.close()
  }

  /** Tells servers that are new of all scripts that one did not know. */
  load(servers: ReadonlyArray<Redis>): void {
    for (const server of servers) {
      for (const script of this.scripts) {
        this.parts.watch.roundTrips++
        server.sendCommand(new Command("script", ["load", this.textOf(script)], utf8, ignore))
      }
    }
  }

  private textOf({ skewed, text }: Script): string {
    return this.parts.skew === undefined ? text : skewed.text
  }

  /** The error of a command. */
  failed({ at }: Peer, command: string, reason: Reason, detail?: string): RedisUnavailableError {
    const last = this.lastError
    if (last?.command === command && last.reason === reason && last.detail === detail && last.server === at) return last
    // Building an error is most of what a refusal costs, and an outage says the same to everybody.
    return this.lastError = stackless(() =>
      new RedisUnavailableError({
        connection: this.parts.name,
        server: at,
        command,
        reason,
        ...(detail === undefined ? {} : { detail })
      }, true)
    )
  }

  /** The arguments of a script, as the server takes them. */
  evalArgs(
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
  refusal(peer: Peer, label: string): RedisUnavailableError | undefined {
    this.parts.watch.commands++
    if (this.closed) return this.failed(peer, label, "NotReady", "the connection was closed")
    if (peer.outage._tag === "Up") return undefined
    const error = this.failed(peer, label, "Down", peer.lastError?.detail)
    this.parts.watch.failed(error)
    return error
  }

  /** Sends a command, whoever it is for: also while its server is down. */
  transmit(
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
    this.parts.watch.roundTrips++
    this.gather()
    this.parts.client.sendCommand(new Command(name, args, utf8, ask.answered))
  }

  /** What is sent in one turn leaves in few writes: one for each command costs more than all else that is done to send it. */
  private gather(): void {
    if (this.corked !== undefined) {
      if (++this.gathered % mostInOneWrite === 0) writeNow(this.corked)
      return
    }
    const { client } = this.parts
    if (client instanceof Cluster || !client.stream) return
    const { stream } = client
    this.corked = stream
    stream.cork()
    process.nextTick(() => {
      this.corked = undefined
      this.flushed = false
      stream.uncork()
    })
  }

  /** What waits for the end of the turn leaves now; once in a turn, or a write for each command would be the rule again. */
  flush(): void {
    const { corked } = this
    if (corked === undefined || this.flushed) return
    this.flushed = true
    writeNow(corked)
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
    if (error) return this.fail(ask, reasonOf(error), detailOf(error, peer.cause?.detail))
    this.parts.watch.answered(ask.sent)
    if (peer.outage !== up && peer.outage._tag === "Up") peer.outage = up
    if (reply !== late) return ask.settle(undefined, reply as RedisConnection.Reply)
    // It came in time, so the server's clock is ahead of what we know.
    this.heard.late()
    this.fail(ask, "Late")
  }

  /** No answer came in time, or none will because the connection was closed. @internal */
  expired(ask: Ask, closed: boolean): void {
    if (closed) this.fail(ask, "Disconnected", "the connection was closed")
    else this.fail(ask, "Timeout", `no answer within ${this.parts.timeout} ms`)
  }

  private fail(ask: Ask, reason: Reason, detail?: string): void {
    const error = this.failed(ask.peer, ask.label, reason, detail)
    this.heard.missed(ask.peer, error)
    ask.settle(error, null)
  }

  /** Sends a script with its deadline. */
  run(
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
}
