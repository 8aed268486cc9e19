/// <reference types="node" />
/**
 * The patterns around routes that are not of `@effect/platform`: in Express, Connect, and whatever else takes
 * `(request, response, next)`.
 *
 * @since 0.1.0
 */
import type { Outcome } from "@effect-resilience/core"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Runtime from "effect/Runtime"
import { AsyncResource } from "node:async_hooks"
import type { IncomingMessage, ServerResponse } from "node:http"
import { admission, type HttpResilience } from "./HttpResilience.js"
import type { Admit, Engine, Reject } from "./internal/engine.js"
import { onEventStream } from "./internal/head.js"
import { pathOf } from "./internal/paths.js"
import type { Peer } from "./internal/peer.js"
import { peerOf } from "./internal/peer.js"
import { hasUnreadBody, outcomeOf } from "./internal/platform.js"
import { bodyOf } from "./internal/rejection.js"
import type { RequestInfo } from "./internal/request.js"
import { markTurnedAway } from "./internal/turnedAway.js"

/**
 * @since 0.1.0
 * @category models
 */
export interface Handler {
  (request: IncomingMessage, response: ServerResponse, next: () => void): void
}

/** Only `set-cookie`, which no request has, would be a list. */
const headersOf = ({ headers }: IncomingMessage) => headers as RequestInfo["headers"]

/** Express takes what a handler is mounted at from `url`, and keeps what the client sent. */
const originalUrl = (request: IncomingMessage): string =>
  Predicate.hasProperty(request, "originalUrl") && Predicate.isString(request.originalUrl)
    ? request.originalUrl
    : request.url ?? "/"

const infoOf = (request: IncomingMessage): RequestInfo => ({
  method: request.method ?? "GET",
  path: pathOf({ originalUrl: originalUrl(request) }),
  headers: headersOf(request),
  remoteAddress: Option.fromNullable(request.socket.remoteAddress)
})

const turnAway = (request: IncomingMessage, response: ServerResponse, rejection: Reject): void => {
  // Somebody else has answered while it waited.
  if (response.headersSent) return
  markTurnedAway({ source: request }, rejection.status)
  const isUnread = hasUnreadBody({ headers: headersOf(request), source: request })
  response.writeHead(rejection.status, {
    "content-type": "application/problem+json",
    ...rejection.headers,
    ...(isUnread ? { connection: "close" } : {})
  })
  response.end(bodyOf(rejection))
}

/** Of a client that went away the answer says nothing. */
const outcome = (request: IncomingMessage, response: ServerResponse): Outcome =>
  response.writableFinished ? outcomeOf({ source: request }, response.statusCode) : "ignored"

const letIn = (
  request: IncomingMessage,
  response: ServerResponse,
  { done, headers, stays }: Admit,
  closed: Promise<void>,
  next: () => void
) =>
  Effect.suspend(() => {
    // Somebody else may have answered while it waited: there is nothing to tell then, but there is to hold.
    const fields = response.headersSent ? [] : Object.entries(headers)
    for (const [name, value] of fields) response.setHeader(name, value)
    // What a handler throws is no business of this fiber.
    process.nextTick(next)
    return Effect.async<void>((resume) => {
      void closed.then(() => resume(Effect.void))
      // Its head is written: one that finds no room cannot be turned away, and goes on with what it holds.
      onEventStream(response, () => resume(Effect.zipRight(stays, Effect.promise(() => closed))))
    })
  }).pipe(Effect.ensuring(Effect.suspend(() => done(outcome(request, response)))))

const handle = (
  engine: Engine,
  request: IncomingMessage,
  response: ServerResponse,
  closed: Promise<void>,
  next: () => void
): Effect.Effect<void> =>
  Effect.uninterruptible(
    Effect.flatMap(engine.decide(infoOf(request), Effect.interruptible), (decision) =>
      decision._tag === "Reject"
        ? Effect.sync(() => turnAway(request, response, decision))
        : letIn(request, response, decision, closed, next))
  ).pipe(
    // A function of the options that throws. Who is gone needs no answer.
    Effect.catchAllCause((cause) =>
      Cause.isInterruptedOnly(cause) ? Effect.void : Effect.zipRight(
        Effect.logError("A request could not be decided about", cause),
        Effect.sync(() => {
          if (!response.headersSent) response.writeHead(500).end()
        })
      )
    )
  )

/** When a response is sent, or its client is gone: Node does not tell every response of a connection that it is over. */
const whenOver = (peer: Peer, response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const revoke = peer.onGone(resolve)
    response.once("close", () => {
      revoke()
      resolve()
    })
  })

/**
 * A handler that lets requests in or turns them away, to be used before those that answer. What a request takes is given
 * back when its response is sent, or its client is gone, whatever the handlers after it do. It cannot end what they have
 * begun: there is no timeout, and a caller's deadline counts on arrival alone. Paths are as the
 * client sent them, wherever the handler is mounted. A request that a handler before has begun to answer goes on and
 * counts for nothing; one whose client has gone meanwhile ends here.
 *
 * A stream of events moves to the bulkhead `longLived` when its head is written; where that is full it goes on with what
 * it holds, for then it is too late to turn it away. Where that must not be, say by `isLongLived` which requests they are.
 *
 * With a policy, or its options, the same object, it is that policy at another place, without what has none here.
 *
 * @example
 * import { HttpResilience } from "@effect-resilience/http"
 * import { middleware } from "@effect-resilience/http/connect"
 * import { ManagedRuntime } from "effect"
 * import { createServer } from "node:http"
 *
 * const runtime = ManagedRuntime.make(HttpResilience.Live)
 *
 * const protect = await runtime.runPromise(middleware({ name: "api", rateLimit: { rate: "100/minute" } }))
 *
 * createServer((request, response) => protect(request, response, () => response.end("hello")))
 *
 * @since 0.1.0
 * @category constructors
 */
export const middleware = (
  policy: HttpResilience.AdmissionOptions | HttpResilience.Middleware
): Effect.Effect<Handler, never, HttpResilience> =>
  Effect.gen(function*() {
    const { engine } = yield* Effect.flatten(admission(policy))
    const run = Runtime.runFork(yield* Effect.runtime())
    return (request, response, next) => {
      if (response.headersSent) return next()
      const peer = peerOf({ source: request })
      if (response.destroyed || peer.isGone()) return
      // Before anything waits, or it might be missed.
      const closed = whenOver(peer, response)
      // Who waited goes on in its own asynchronous context, not in that of the request which made room for it.
      const fiber = run(handle(engine, request, response, closed, AsyncResource.bind(next)))
      void closed.then(() => fiber.unsafeInterruptAsFork(FiberId.none))
    }
  })
