import { FetchHttpClient } from "@effect/platform"
import { NodeHttpClient, Undici } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import * as http from "node:http"

/** A request as a server saw it. */
export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
  /** Milliseconds, monotonic. */
  readonly at: number
}

/** A bare server on a free port of the loopback interface, which remembers what it saw. */
export const backend = (handle: (response: http.ServerResponse, seen: Seen, count: number) => void) =>
  Effect.acquireRelease(
    Effect.async<{
      readonly url: string
      readonly port: number
      readonly seen: Array<Seen>
      readonly sockets: { open: number; opened: number }
      /** Answers that were cut off before they were sent. */
      readonly cuts: { count: number }
    }>((resume) => {
      const seen: Array<Seen> = []
      const sockets = { open: 0, opened: 0 }
      const cuts = { count: 0 }
      const server = http.createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("error", () => {})
        response.on("error", () => {})
        response.on("close", () => {
          if (!response.writableFinished) cuts.count++
        })
        request.on("data", (chunk: Buffer) => chunks.push(chunk))
        request.on("end", () => {
          const one = {
            method: request.method ?? "",
            path: request.url ?? "",
            headers: request.headers,
            body: Buffer.concat(chunks).toString(),
            at: performance.now()
          }
          handle(response, one, seen.push(one))
        })
      })
      server.on("connection", (socket) => {
        sockets.open++
        sockets.opened++
        socket.on("close", () => sockets.open--)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(
          Effect.succeed(Object.assign({ url: `http://127.0.0.1:${port}`, port, seen, sockets, cuts }, { server }))
        )
      })
    }),
    (running) =>
      Effect.async<void>((resume) => {
        const { server } = running as typeof running & { readonly server: http.Server }
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )

/** A port on which nobody listens. */
export const deadPort = Effect.map(Effect.scoped(backend(() => {})), ({ port }) => port)

/** The transports; those that can have a pool have one connection. */
export const transports = {
  undici: NodeHttpClient.layerUndiciWithoutDispatcher.pipe(
    Layer.provide(Layer.scoped(
      NodeHttpClient.Dispatcher,
      Effect.acquireRelease(
        Effect.sync(() => new Undici.Agent({ connections: 1 })),
        (agent) => Effect.promise(() => agent.destroy())
      )
    ))
  ),
  node: NodeHttpClient.layerWithoutAgent.pipe(
    Layer.provide(NodeHttpClient.makeAgentLayer({ maxSockets: 1, keepAlive: true }))
  ),
  fetch: FetchHttpClient.layer
}
