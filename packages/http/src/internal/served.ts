import * as App from "@effect/platform/HttpApp"
import * as HttpBody from "@effect/platform/HttpBody"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as ServerRequest from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** The request, and the scope that every request has, though the types of an app do not say so. @internal */
export const current = (fiber: Fiber.RuntimeFiber<any, any>) => ({
  request: Context.unsafeGet(fiber.currentContext, ServerRequest.HttpServerRequest),
  scope: Context.unsafeGet(fiber.currentContext as Context.Context<Scope.Scope>, Scope.Scope)
})

/** What is used of an `AbortSignal`. */
interface Signal {
  addEventListener(type: "abort", listener: () => void, options: { readonly once: boolean }): void
  removeEventListener(type: "abort", listener: () => void): void
}

/** On the web a request says itself when its client is gone. */
const clientSignal = ({ source }: HttpServerRequest): Signal | undefined =>
  Predicate.hasProperty(source, "signal") && Predicate.hasProperty(source.signal, "addEventListener")
    ? source.signal as Signal
    : undefined

/** What is used of the connection of a request that came by HTTP/1.1 to Node. */
interface Connection {
  destroy(): void
}

const connectionOf = ({ source }: HttpServerRequest): Connection | undefined =>
  Predicate.hasProperty(source, "httpVersionMajor") && source.httpVersionMajor === 1 &&
    Predicate.hasProperty(source, "socket") && Predicate.hasProperty(source.socket, "destroy")
    ? source.socket as Connection
    : undefined

/**
 * A server of Node ends a response whose stream fails as if it were whole. With its connection cut the client knows
 * better. On the web the body fails by itself.
 */
const cutWhereItFails = (request: HttpServerRequest, response: HttpServerResponse): HttpServerResponse => {
  const { body } = response
  const connection = body._tag === "Stream" ? connectionOf(request) : undefined
  if (body._tag !== "Stream" || connection === undefined) return response
  const stream = Stream.onError(body.stream, () => Effect.sync(() => connection.destroy()))
  const contentType = response.headers["content-type"] ?? body.contentType
  return ServerResponse.setBody(response, HttpBody.stream(stream, contentType, body.contentLength))
}

/**
 * Runs `answered` when the response is known, before it is sent, and `sent` once when it is sent or never will be.
 *
 * The scope of a request is closed when the response is sent, with two exceptions, both on the web: that of a `HEAD` on a
 * route that streams never is, and that of a stream whose client is gone is when the host finds out.
 *
 * @internal
 */
export const served = (
  request: HttpServerRequest,
  scope: Scope.Scope,
  on: {
    readonly answered: (response: HttpServerResponse) => Effect.Effect<HttpServerResponse>
    readonly sent: Effect.Effect<void>
  }
): Effect.Effect<void> => {
  const signal = clientSignal(request)
  let isOver = false
  const release = Effect.suspend(() => {
    if (isOver) return Effect.void
    isOver = true
    signal?.removeEventListener("abort", abandoned)
    return on.sent
  })
  const abandoned = () => Effect.runFork(release)
  signal?.addEventListener("abort", abandoned, { once: true })
  return Effect.zipRight(
    Scope.addFinalizer(scope, release),
    App.appendPreResponseHandler((_, response) => {
      const answer = Effect.map(on.answered(response), (final) => cutWhereItFails(request, final))
      return request.method === "HEAD" ? Effect.zipLeft(answer, release) : answer
    })
  )
}
