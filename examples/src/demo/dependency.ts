/** A real HTTP server on loopback that behaves as it is told: a few workers, and a queue before them. */
import { Effect, type Scope } from "effect"
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Mode } from "./script.js"

/** A request that reached the server. Times are milliseconds of one clock that only goes on. */
export interface Arrival {
  readonly method: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
  readonly at: number
  /** None where its client went away, or the server did. */
  answer: { readonly status: number; readonly at: number } | undefined
}

export interface Dependency {
  readonly url: string
  readonly become: (mode: Mode) => Effect.Effect<void>
  /** What it has seen, the oldest first. */
  readonly arrivals: ReadonlyArray<Arrival>
  /** Connections that are open now. */
  readonly sockets: () => number
}

const workers = 6
/**
 * Milliseconds of work for a request. A server that comes back is cold, and needs four times as long at first. In the
 * crowd each request is work of a heavier kind: six workers do 40 of them in a second.
 */
const workOf = (mode: Mode, sinceChange: number) =>
  mode === "slow" ? 1500 : mode === "crowded" ? 150 : mode === "recovering" && sinceChange < 4000 ? 60 : 15

/** Seconds after which it wants to be asked again, when it answers with an error. */
export const retryAfter = 1

interface Waiting {
  readonly arrival: Arrival
  readonly response: ServerResponse
}

class Upstream {
  mode: Mode = "healthy"
  readonly arrivals: Array<Arrival> = []
  private changed = Date.now()
  private busy = 0
  private readonly queue: Array<Waiting> = []
  readonly sockets = new Set<Socket>()
  readonly server: Server

  constructor() {
    this.server = createServer((request, response) => {
      const at = performance.now()
      let body = ""
      request.setEncoding("utf8").on("data", (text: string) => body += text).on("end", () => {
        const { headers, method = "" } = request
        const arrival: Arrival = { method, headers, body, at, answer: undefined }
        this.arrivals.push(arrival)
        this.queue.push({ arrival, response })
        this.work()
      })
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
      const next = this.queue.shift()
      if (next === undefined || next.response.destroyed) continue
      const { arrival, response } = next
      this.busy++
      setTimeout(() => {
        this.busy--
        const failed = this.mode === "erroring" && Math.random() < 0.25
        const status = failed ? 503 : 200
        if (!response.destroyed) arrival.answer = { status, at: performance.now() }
        response.writeHead(status, failed ? { "retry-after": `${retryAfter}` } : {}).end(failed ? "no" : "fresh")
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
    arrivals: upstream.arrivals,
    sockets: () => upstream.sockets.size
  }
})
