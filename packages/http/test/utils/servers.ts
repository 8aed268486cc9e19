import type { HttpServerRequest } from "@effect/platform"
import { HttpApp, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import type { Runtime, Scope } from "effect"
import * as http from "node:http"

/** Serves on a free port of the loopback interface; the address is returned. */
export const serveNode = <E, R>(app: HttpApp.Default<E, R>, options: http.ServerOptions = {}) =>
  Effect.gen(function*() {
    const server = http.createServer(options)
    const context = yield* Layer.build(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" }))
    yield* Effect.provide(HttpServer.serveEffect(app), context)
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    return { port, server, url: `http://127.0.0.1:${port}` }
  })

/** The handler of the web. */
export const serveWeb = <E, R>(app: HttpApp.Default<E, R>) =>
  Effect.map(
    Effect.runtime<Exclude<R, Scope.Scope | HttpServerRequest.HttpServerRequest>>(),
    (runtime) => HttpApp.toWebHandlerRuntime(runtime as Runtime.Runtime<any>)(app as HttpApp.Default<E, any>)
  )

/** What came of a request over a socket. */
export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
  /** Whether the body came whole. */
  readonly complete: boolean
}

/** A request over a socket of its own; `onHead` and `onChunk` may destroy it. */
export const fetchNode = (
  url: string,
  options: http.RequestOptions & {
    readonly body?: string | Uint8Array | undefined
    readonly onSent?: ((request: http.ClientRequest) => void) | undefined
    readonly onHead?: ((response: http.IncomingMessage, request: http.ClientRequest) => void) | undefined
  } = {}
): Promise<Answer | undefined> =>
  new Promise((resolve) => {
    const { body, onHead, onSent, ...rest } = options
    const request = http.request(url, { agent: false, ...rest }, (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      const end = () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(),
          complete: response.complete
        })
      response.on("close", end)
      response.on("error", () => {})
      onHead?.(response, request)
    })
    request.on("error", () => resolve(undefined))
    request.end(body)
    onSent?.(request)
  })

/** What a server of either runtime answers. */
export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}
/** Sends a request; `POST` where nothing else is said. */
export type Send = (path: string, init?: {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: string | Uint8Array
}) => Effect.Effect<Reply>

/** The servers that there are. */
export const runtimes = {
  "on Node": <E, R>(app: HttpApp.Default<E, R>) =>
    Effect.map(serveNode(app), ({ url }): Send => (path, init) =>
      Effect.map(
        Effect.promise(() => fetchNode(url + path, { method: "POST", ...init })),
        (answer) => answer ?? { status: 0, headers: {}, body: "" }
      )),
  "on the web": <E, R>(app: HttpApp.Default<E, R>) =>
    Effect.map(serveWeb(app), (handler): Send => (path, init) =>
      Effect.promise(async () => {
        const response = await handler(
          new Request(`http://localhost${path}`, { method: "POST", ...init as RequestInit })
        )
        return {
          status: response.status,
          headers: Object.fromEntries(response.headers),
          body: await response.text()
        }
      }))
}
