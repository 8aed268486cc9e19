import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { Client } from "./client.js"

/** @internal */
export interface Listener {
  readonly onMessage: (message: string) => void
  readonly onGap: () => void
}

/** One connection that hears all channels: begun with the first of them. */
export class Subscriptions {
  private readonly channels = new Map<string, Set<Listener>>()
  private client: Client | undefined
  private lost = false

  constructor(private readonly connect: () => Client) {}

  close(): void {
    this.client?.disconnect()
  }

  private open(): Client {
    if (this.client !== undefined) return this.client
    const client = this.client = this.connect()
    client.on("error", () => {})
    client.on("close", () => {
      this.lost = true
    })
    client.on("ready", () => {
      const names = [...this.channels.keys()]
      if (names.length === 0) return
      client.subscribe(...names).then(() => {
        if (!this.lost) return
        this.lost = false
        for (const listeners of this.channels.values()) for (const { onGap } of listeners) onGap()
      }, () => {})
    })
    client.on("message", (channel: string, message: string) => {
      for (const { onMessage } of this.channels.get(channel) ?? []) onMessage(message)
    })
    client.connect().catch(() => {})
    return client
  }

  subscribe(channel: string, listener: Listener): Effect.Effect<void, never, Scope> {
    return Effect.acquireRelease(
      Effect.promise(async () => {
        const client = this.open()
        const listeners = this.channels.get(channel) ?? new Set()
        this.channels.set(channel, listeners.add(listener))
        if (client.status === "ready" && listeners.size === 1) await client.subscribe(channel).catch(() => {})
      }),
      () =>
        Effect.sync(() => {
          const listeners = this.channels.get(channel)
          listeners?.delete(listener)
          if (listeners === undefined || listeners.size > 0) return
          this.channels.delete(channel)
          this.client?.unsubscribe(channel).catch(() => {})
        })
    )
  }
}
