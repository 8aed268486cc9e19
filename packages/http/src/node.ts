/// <reference types="node" />
/**
 * What needs Node: a server that drains before it closes.
 *
 * @since 0.1.0
 */
import type * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import type * as Etag from "@effect/platform/Etag"
import type * as App from "@effect/platform/HttpApp"
import type * as Middleware from "@effect/platform/HttpMiddleware"
import type * as HttpPlatform from "@effect/platform/HttpPlatform"
import * as HttpServer from "@effect/platform/HttpServer"
import type { ServeError } from "@effect/platform/HttpServerError"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import type * as http from "node:http"
import type * as net from "node:net"
import type { Duplex } from "node:stream"
import { Drain, make } from "./Drain.js"
import { bodyOf, comingUp } from "./internal/rejection.js"

const destroy = (request: HttpServerRequest): void => void NodeHttpServerRequest.toServerResponse(request).destroy()

/** The sockets that a server has given away to an upgrade, as long as they are open: it waits for them, and forgets them. */
const trackUpgrades = (server: http.Server): Effect.Effect<ReadonlySet<Duplex>, never, Scope> =>
  Effect.suspend(() => {
    const open = new Set<Duplex>()
    const track = (_: http.IncomingMessage, socket: Duplex) => {
      open.add(socket)
      socket.once("close", () => open.delete(socket))
    }
    server.on("upgrade", track)
    return Effect.as(Effect.addFinalizer(() => Effect.sync(() => server.off("upgrade", track))), open)
  })

/** Takes no more connections, and ends those that there are, the upgraded among them. */
const close = (server: http.Server, upgraded: ReadonlySet<Duplex>): Effect.Effect<void> =>
  Effect.async((resume) => {
    if (!server.listening) return resume(Effect.void)
    server.close(() => resume(Effect.void))
    server.closeAllConnections()
    for (const socket of upgraded) socket.destroy()
  })

/**
 * A server listens before there is a handler, and Node would leave a request unanswered for ever to which nobody listens.
 */
const answerEarly = (server: http.Server): void => {
  const headers = { ...comingUp.headers, "content-type": "application/problem+json", "connection": "close" }
  server.on("request", (_, response) => {
    if (server.listenerCount("request") > 1) return
    response.writeHead(comingUp.status, headers).end(bodyOf(comingUp))
  })
}

const makeServer = (
  evaluate: () => http.Server,
  listen: net.ListenOptions,
  options: Drain.Options | undefined
): Effect.Effect<Context.Context<Drain | HttpServer.HttpServer>, ServeError, Scope> =>
  Effect.gen(function*() {
    const drain = yield* make(options)
    const server = yield* Effect.sync(evaluate)
    answerEarly(server)
    const inner = yield* NodeHttpServer.make(() => server, listen)
    // The last finalizer is the first to run: the handler is still there while the requests end. And a listener for upgrades
    // comes after that of the handler, for with one Node lets go of a socket.
    const last = Effect.flatMap(trackUpgrades(server), (upgraded) =>
      Effect.addFinalizer(() => Effect.zipRight(drain.drain, close(server, upgraded))))
    const serve = (app: App.Default<unknown>, middleware?: Middleware.HttpMiddleware) => {
      const guarded = drain.guard(app, destroy)
      return Effect.zipRight(middleware === undefined ? inner.serve(guarded) : inner.serve(guarded, middleware), last)
    }
    return Context.make(Drain, drain).pipe(
      Context.add(HttpServer.HttpServer, HttpServer.make({ address: inner.address, serve }))
    )
  })

/**
 * @since 0.1.0
 * @category layers
 */
export class NodeDrain {
  /**
   * In the place of `NodeHttpServer.layer`: when the scope of what is served closes, as on `SIGTERM` under
   * `NodeRuntime.runMain`, it drains before it closes. No middleware is needed. See `Drain` for the phases.
   * A request that comes before `serve` has its handler in place gets 503 with `Retry-After: 1` and `Connection: close`.
   *
   * @example
   * import { Health } from "@effect-resilience/http"
   * import { NodeDrain } from "@effect-resilience/http/node"
   * import { HttpRouter, HttpServer } from "@effect/platform"
   * import { Layer } from "effect"
   * import { createServer } from "node:http"
   *
   * const ServerLive = HttpServer.serve(HttpRouter.empty.pipe(Health.route())).pipe(
   *   Layer.provide(NodeDrain.layer(createServer, { port: 3000 }, { delay: "5 seconds", limit: "20 seconds" }))
   * )
   */
  static readonly layer = (
    evaluate: () => http.Server,
    listen: net.ListenOptions,
    options?: Drain.Options
  ): Layer.Layer<
    Drain | HttpServer.HttpServer | HttpPlatform.HttpPlatform | Etag.Generator | NodeContext.NodeContext,
    ServeError
  > => Layer.merge(Layer.scopedContext(makeServer(evaluate, listen, options)), NodeHttpServer.layerContext)
}
