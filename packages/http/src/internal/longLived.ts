import type { ResilienceError } from "@effect-resilience/core"
import type * as App from "@effect/platform/HttpApp"
import type { RequestError } from "@effect/platform/HttpServerError"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as ServerRequest from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { isEventStreamType } from "./eventStream.js"
import type { RequestInfo } from "./request.js"

/*
 * A request stays for long where its answer says so: it is a stream of events, or its handler takes the upgrade. What a
 * client writes into its header decides nothing.
 */

/** One that went well: with another status there is nobody who would read on. @internal */
export const isEventStream = ({ body, headers, status }: HttpServerResponse): boolean =>
  status < 400 && (body._tag === "Stream" || body._tag === "Raw") &&
  isEventStreamType(headers["content-type"] ?? body.contentType ?? "")

/** Whether a client asks for an upgrade; its handler may take it or not. @internal */
export const mayUpgrade = ({ connection, upgrade }: RequestInfo["headers"]): boolean =>
  upgrade !== undefined && /(?:^|,)\s*upgrade\s*(?:,|$)/i.test(connection ?? "")

/** The request, with something before its upgrade. @internal */
export const watched = (request: HttpServerRequest, before: Effect.Effect<void, RequestError>): HttpServerRequest =>
  Object.create(request, {
    upgrade: { get: () => Effect.zipRight(before, request.upgrade) },
    modify: { value: (options: Parameters<HttpServerRequest["modify"]>[0]) => watched(request.modify(options), before) }
  }) as HttpServerRequest

/**
 * Runs an app that may take the upgrade, and `onUpgrade` before it does. The time of a handler is until then: the rest is
 * that of the socket, which knows of no deadline.
 *
 * @internal
 */
export const withUpgrade = <E, R>(
  app: App.Default<E, R>,
  options: {
    readonly request: HttpServerRequest
    readonly onUpgrade: Effect.Effect<void, RequestError>
    /** The time there is until then; `undefined` where there is no limit. */
    readonly within: ((answer: Effect.Effect<unknown>) => Effect.Effect<unknown, ResilienceError>) | undefined
  }
): App.Default<E | ResilienceError, R> =>
  Effect.flatMap(Deferred.make<void>(), (upgraded) => {
    const { onUpgrade, request, within } = options
    const before = Effect.zipRight(onUpgrade, Deferred.succeed(upgraded, undefined))
    const watching = Effect.provideService(
      app,
      ServerRequest.HttpServerRequest,
      watched(request, Effect.asVoid(before))
    )
    if (within === undefined) return watching
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(Effect.forkDaemon(restore(watching)), (fiber) => {
        const answer = Effect.raceFirst(Fiber.await(fiber), Deferred.await(upgraded))
        return Effect.zipRight(
          Effect.onError(restore(within(answer)), () => Fiber.interruptFork(fiber)),
          Effect.flatMap(
            Effect.onInterrupt(restore(Fiber.await(fiber)), () => Fiber.interrupt(fiber)),
            (exit) => Effect.zipRight(fiber.inheritAll, exit)
          )
        )
      })
    )
  })
