import type { RequestError } from "@effect/platform/HttpServerError"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Multipart from "@effect/platform/Multipart"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import { decodeText } from "../digest.js"

/** The body is larger than is read. @internal */
export class BodyTooLarge {
  readonly _tag = "BodyTooLarge"
}

/** On the web a request says when it has no body; its stream would fail. */
const isEmpty = ({ source }: HttpServerRequest): boolean =>
  Predicate.hasProperty(source, "body") && source.body === null

/**
 * The whole body, if it is not too large. What is left of one that is stays unread until the response is sent: to close it
 * at once would be to close the connection, and nobody would hear why.
 *
 * @internal
 */
export const readBody = (
  request: HttpServerRequest,
  maxBytes: number
): Effect.Effect<Uint8Array, BodyTooLarge | RequestError, Scope> => {
  if (Number(request.headers["content-length"] ?? 0) > maxBytes) return Effect.fail(new BodyTooLarge())
  if (isEmpty(request)) return Effect.succeed(new Uint8Array())
  return Effect.flatMap(Stream.toPull(request.stream), (pull) => {
    const chunks: Array<Uint8Array> = []
    let size = 0
    const readAll: Effect.Effect<never, Option.Option<RequestError> | BodyTooLarge> = Effect.flatMap(pull, (pulled) => {
      for (const chunk of Chunk.toReadonlyArray(pulled)) {
        chunks.push(chunk)
        size += chunk.byteLength
      }
      return size > maxBytes ? Effect.fail(new BodyTooLarge()) : readAll
    })
    return Effect.catchAll(readAll, (end): Effect.Effect<Uint8Array, BodyTooLarge | RequestError> => {
      if (!Option.isOption(end)) return Effect.fail(end)
      return Option.isSome(end) ? Effect.fail(end.value) : Effect.succeed(concat(chunks, size))
    })
  })
}

const concat = (chunks: ReadonlyArray<Uint8Array>, size: number): Uint8Array => {
  const out = new Uint8Array(size)
  let at = 0
  for (const chunk of chunks) {
    out.set(chunk, at)
    at += chunk.byteLength
  }
  return out
}

/**
 * The request with a body that was read: handlers read it as ever, in any form and as often as they like. All else is the
 * request's own.
 *
 * @internal
 */
export const withBody = (request: HttpServerRequest, bytes: Uint8Array): HttpServerRequest => {
  const parts = () =>
    Stream.pipeThroughChannel(
      Stream.succeed(bytes),
      Multipart.makeChannel(request.headers)
    )
  const own = {
    // `json` and `urlParamsBody` are made of it, as the server has it.
    text: { get: () => Effect.succeed(decodeText(bytes)) },
    arrayBuffer: { get: () => Effect.sync(() => bytes.slice().buffer) },
    stream: { get: () => Stream.succeed(bytes) },
    multipart: { get: () => Multipart.toPersisted(parts()) },
    multipartStream: { get: parts },
    modify: { value: (options: Parameters<HttpServerRequest["modify"]>[0]) => withBody(request.modify(options), bytes) }
  } satisfies PropertyDescriptorMap
  const copy: HttpServerRequest = Object.create(request, own)
  return copy
}
