import * as App from "@effect/platform/HttpApp"
import * as HttpBody from "@effect/platform/HttpBody"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as ServerRequest from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { connectionOf, peerOf } from "./peer.js"

/** The request, and the scope that every request has, though the types of an app do not say so. @internal */
export const current = (fiber: Fiber.RuntimeFiber<any, any>) => ({
  request: Context.unsafeGet(fiber.currentContext, ServerRequest.HttpServerRequest),
  scope: Context.unsafeGet(fiber.currentContext as Context.Context<Scope.Scope>, Scope.Scope)
})

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

interface Moments {
  readonly answered: (response: HttpServerResponse) => Effect.Effect<HttpServerResponse>
  readonly sent: Effect.Effect<void>
}

/**
 * Has `answered` run when the response is known, before it is sent, and `sent` once when it is sent or never will be.
 *
 * The scope of a request is closed when the response is sent, with three exceptions: that of a `HEAD` on a route that
 * streams never is, on the web; that of a stream whose client is gone is when the host finds out, on the web; and that of
 * a response whose client went before it never is, on Node. So a response whose client is gone counts as sent. That a
 * client goes is not enough: its handler may still be at work.
 *
 * @internal
 */
export const served = (request: HttpServerRequest, scope: Scope.Scope, on: Moments): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) => servedIn(fiber, request, scope, on))

/** The same within a step of the fiber of the request. @internal */
export const servedIn = (
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  request: HttpServerRequest,
  scope: Scope.Scope,
  on: Moments
): Effect.Effect<void> => {
  const peer = peerOf(request)
  let isEnded = false
  let isOver = false
  const release = Effect.suspend(() => {
    if (isOver) return Effect.void
    isOver = true
    revoke()
    return on.sent
  })
  const revoke = peer.onGone(() => {
    if (isEnded) Effect.runFork(release)
  })
  const ended = (response: HttpServerResponse) => {
    isEnded = true
    const final = Effect.succeed(cutWhereItFails(request, response))
    return peer.isGone() || request.method === "HEAD" ? Effect.zipRight(release, final) : final
  }
  // What a timeout around it left behind takes its handlers along: no response of it will ever be known.
  fiber.addObserver(() => {
    isEnded = true
    if (!isOver && peer.isGone()) Effect.runFork(release)
  })
  return Effect.zipRight(
    Scope.addFinalizer(scope, release),
    App.appendPreResponseHandler((_, response) => Effect.flatMap(on.answered(response), ended))
  )
}
