import { Effect } from "effect"
import type { Server as Listener, Socket } from "node:net"
import { connect, createServer } from "node:net"

/**
 * What a proxy does with what it gets.
 *
 * - `pass`: hands it on. `delay`: does so after `millis`, both ways together.
 * - `dropReply`: the next reply is lost, and its connection with it; then it passes.
 * - `blackHole`: nothing arrives, and nothing tells either side so.
 */
export type Mode =
  | { readonly _tag: "pass" }
  | { readonly _tag: "delay"; readonly millis: () => number }
  | { readonly _tag: "dropReply" }
  | { readonly _tag: "blackHole" }

/** Stands between a client and a server on loopback. */
export class Proxy {
  mode: Mode = { _tag: "pass" }
  /** Whoever comes anew is sent away; those who are connected stay. */
  refuses = false
  /** How many connections were asked for. */
  accepted = 0
  private readonly pairs = new Set<readonly [client: Socket, server: Socket]>()
  private readonly dues = new WeakMap<Socket, number>()
  private listener: Listener | undefined

  private constructor(readonly target: number, public port = 0) {}

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }
  get open(): number {
    return this.pairs.size
  }

  private readonly relay = (client: Socket): void => {
    if (this.refuses) return void client.destroy()
    this.accepted++
    const server = connect(this.target, "127.0.0.1")
    const pair = [client, server] as const
    this.pairs.add(pair)
    const close = () => {
      this.pairs.delete(pair)
      client.destroy()
      server.destroy()
    }
    for (const side of pair) side.setNoDelay(true).on("error", close).on("close", close)
    client.on("data", (data) => this.pass(data, server, false))
    server.on("data", (data) => {
      if (this.mode._tag !== "dropReply") return this.pass(data, client, true)
      this.mode = { _tag: "pass" }
      close()
    })
  }

  private pass(data: Buffer, to: Socket, delayed: boolean): void {
    const { mode } = this
    if (mode._tag === "blackHole") return
    const millis = mode._tag === "delay" && delayed ? mode.millis() : 0
    const before = this.dues.get(to) ?? 0
    const now = performance.now()
    if (millis === 0 && before < now) return void to.write(data)
    // In order, whatever the delays are.
    const due = Math.max(before, now + millis)
    this.dues.set(to, due)
    setTimeout(() => to.write(data), due - now)
  }

  /** Ends all connections at once, as a crashed machine that came back would. */
  cut(): void {
    for (const [client, server] of this.pairs) {
      client.resetAndDestroy()
      server.destroy()
    }
    this.pairs.clear()
  }

  /** The server says that it will say no more, and still listens. */
  halfClose(): void {
    for (const [client] of this.pairs) client.end()
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      const listener = createServer({ allowHalfOpen: true }, this.relay).on("error", reject)
      this.listener = listener.listen(this.port, "127.0.0.1", () => {
        const address = listener.address()
        if (typeof address === "object" && address !== null) this.port = address.port
        resolve()
      })
    })
  }

  /** From now on nobody answers here, until `listen`. */
  async close(): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.listener?.close(resolve) ?? resolve(undefined))
  }

  static readonly start = (target: number) =>
    Effect.acquireRelease(
      Effect.promise(async () => {
        const proxy = new Proxy(target)
        await proxy.listen()
        return proxy
      }),
      (proxy) => Effect.promise(() => proxy.close())
    )
}
