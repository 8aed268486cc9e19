import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { Redis } from "ioredis"
import { backoff, hangUp } from "./client.js"
import { awaited, later } from "./realTime.js"

/** @internal */
export interface Listener {
  readonly onMessage: (message: string) => void
  readonly onGap: () => void
}

const ignore = () => {}

/** A channel and those who listen to it. */
class Channel {
  readonly listeners = new Set<Listener>()
  /** Whether the server has said that it sends its messages. */
  isHeard = false
  /** Whether messages may have been lost since somebody began to listen. */
  isMissed = false
  /** Those who wait until it is heard. */
  readonly waiting = new Set<() => void>()
  /** How often the server refused it since it was heard. */
  refusals = 0
  askAgainNot: () => void = ignore
}

/**
 * One connection that hears all channels: begun with the first of them, and begun again whenever it breaks and the server
 * is there.
 *
 * @internal
 */
export class Subscriptions {
  private readonly channels = new Map<string, Channel>()
  private client: Redis | undefined
  private attempts = 0
  private cancel: () => void = ignore
  private closed = false

  constructor(
    /** A new client; undefined while there is nothing to connect to. */
    private readonly connect: () => Redis | undefined,
    private readonly random: () => number,
    private readonly failed: (error: unknown) => void,
    /** The server does not let us hear a channel; `isNews` until it did. */
    private readonly refused: (error: Error, channel: string, isNews: boolean) => void
  ) {}

  close(): void {
    this.closed = true
    this.cancel()
    for (const channel of this.channels.values()) channel.askAgainNot()
    if (this.client !== undefined) hangUp(this.client)
  }

  /** Asks for a sign of life: a connection that hears nothing does not see that it is dead. */
  ping(): void {
    if (this.client?.status === "ready") this.client.ping().catch(ignore)
  }

  private readonly open = (): void => {
    this.cancel()
    if (this.closed || this.client !== undefined || this.channels.size === 0) return
    const client = this.client = this.connect()
    if (client === undefined) return this.again()
    client.on("error", ignore)
    client.on("message", (name: string, message: string) => {
      const channel = this.channels.get(name)
      if (channel !== undefined) this.tell(channel, (listener) => listener.onMessage(message))
    })
    client.on("ready", () => {
      this.attempts = 0
      for (const [name, channel] of this.channels) this.hear(name, channel)
    })
    client.on("end", () => {
      this.client = undefined
      for (const channel of this.channels.values()) {
        channel.isHeard = false
        channel.isMissed = true
      }
      this.again()
    })
    client.connect().catch(ignore)
  }

  private again(): void {
    if (!this.closed) this.cancel = later(backoff(++this.attempts, this.random), this.open)
  }

  /** Each by a command of its own: the server refuses a command as a whole. */
  private hear(name: string, channel: Channel): void {
    const { client } = this
    channel.askAgainNot()
    if (client?.status !== "ready") return
    const isOver = () => this.closed || this.client !== client || this.channels.get(name) !== channel
    client.subscribe(name).then(() => {
      if (isOver()) return
      channel.isHeard = true
      channel.refusals = 0
      for (const done of channel.waiting) done()
      if (!channel.isMissed) return
      channel.isMissed = false
      this.tell(channel, (listener) => listener.onGap())
    }, (error: Error) => {
      // Where the connection broke, all are asked for by the next one.
      if (isOver() || error.name !== "ReplyError") return
      channel.isMissed = true
      this.refused(error, name, ++channel.refusals === 1)
      channel.askAgainNot = later(backoff(channel.refusals, this.random), () => this.hear(name, channel))
    })
  }

  private tell(channel: Channel, what: (listener: Listener) => void): void {
    for (const listener of [...channel.listeners]) {
      try {
        what(listener)
      } catch (error) {
        this.failed(error)
      }
    }
  }

  /** Returns when the channel is heard, or after `patience` ms: then `onGap` is called as soon as it is. */
  subscribe(name: string, listener: Listener, patience: number): Effect.Effect<void, never, Scope> {
    const begin = Effect.async<void>((resume) => {
      const channel = this.channels.get(name) ?? new Channel()
      const isNew = channel.listeners.size === 0
      this.channels.set(name, channel)
      channel.listeners.add(listener)
      if (channel.isHeard) return resume(Effect.void)
      const done = (): void => {
        stop()
        channel.waiting.delete(done)
        resume(Effect.void)
      }
      const stop = awaited(patience, () => {
        channel.isMissed = true
        done()
      })
      channel.waiting.add(done)
      if (this.client === undefined) this.open()
      else if (isNew) this.hear(name, channel)
    })
    return Effect.acquireRelease(begin, () => Effect.sync(() => this.leave(name, listener)))
  }

  private leave(name: string, listener: Listener): void {
    const channel = this.channels.get(name)
    channel?.listeners.delete(listener)
    if (channel === undefined || channel.listeners.size > 0) return
    this.channels.delete(name)
    channel.askAgainNot()
    if (this.client?.status === "ready") this.client.unsubscribe(name).catch(ignore)
  }
}
