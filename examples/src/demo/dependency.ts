/** A real HTTP server on loopback that behaves as it is told: a few workers, and a queue before them. */
import { Effect, type Scope } from "effect"
import { createServer, type Server, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Mode } from "./script.js"

export interface Dependency {
  readonly url: string
  readonly become: (mode: Mode) => Effect.Effect<void>
  /** Requests that reached the server. */
  readonly reached: () => number
}

const workers = 6
/**
 * Milliseconds of work for a request. A server that comes back is cold, and needs four times as long at first. In the
 * crowd each request is work of a heavier kind: six workers do 40 of them in a second.
 */
const workOf = (mode: Mode, sinceChange: number) =>
  mode === "slow" ? 1500 : mode === "crowded" ? 150 : mode === "recovering" && sinceChange < 4000 ? 60 : 15

class Upstream {
  mode: Mode = "healthy"
  reached = 0
  private changed = Date.now()
  private busy = 0
  private readonly queue: Array<ServerResponse> = []
  private readonly sockets = new Set<Socket>()
  readonly server: Server

  constructor() {
    this.server = createServer((_request, response) => {
      this.reached++
      this.queue.push(response)
      this.work()
    })
    this.server.on("connection", (socket) => {
      this.sockets.add(socket)
      socket.on("close", () => this.sockets.delete(socket))
    })
  }

  /** Each worker takes the oldest request. One whose client has gone is not worked on. */
  private work(): void {
    // A slow answer keeps no worker: it is slow because something behind it is.
    while (this.mode !== "hanging" && this.queue.length > 0 && (this.busy < workers || this.mode === "slow")) {
      const response = this.queue.shift()
      if (response === undefined || response.destroyed) continue
      this.busy++
      setTimeout(() => {
        this.busy--
        const failed = this.mode === "erroring" && Math.random() < 0.25
        response.writeHead(failed ? 503 : 200).end(failed ? "no" : "fresh")
        this.work()
      }, workOf(this.mode, Date.now() - this.changed))
    }
  }

  async become(mode: Mode, port: number): Promise<void> {
    const before = this.mode
    this.mode = mode
    this.changed = Date.now()
    if (mode === "refusing") await this.close()
    else if (before === "refusing") await this.listen(port)
    this.work()
  }

  listen(port: number): Promise<number> {
    return new Promise((resolve) =>
      this.server.listen(port, "127.0.0.1", () => resolve((this.server.address() as AddressInfo).port))
    )
  }

  close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    this.queue.length = 0
    return new Promise((resolve) => this.server.close(() => resolve()))
  }
}

export const makeDependency: Effect.Effect<Dependency, never, Scope.Scope> = Effect.gen(function*() {
  const upstream = new Upstream()
  const port = yield* Effect.acquireRelease(
    Effect.promise(() => upstream.listen(0)),
    () => Effect.promise(() => upstream.close())
  )
  return {
    url: `http://127.0.0.1:${port}/`,
    become: (mode) => Effect.promise(() => upstream.become(mode, port)),
    reached: () => upstream.reached
  }
})
