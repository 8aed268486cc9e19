import * as Error from "@effect/platform/HttpClientError"
import * as ClientRequest from "@effect/platform/HttpClientRequest"
import type * as ClientResponse from "@effect/platform/HttpClientResponse"
import { TypeId } from "@effect/platform/HttpClientResponse"
import * as IncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { isEventStreamType } from "../eventStream.js"
import { readAhead } from "./ahead.js"
import { targetOf } from "./outgoing.js"
import { web } from "./web.js"

/** What is read of a body that nobody wants: more is cheaper to cut off, and so is a slower one. */
const worthDraining = 64 * 1024
const drainTime = "500 millis"
/** How long the body of an error or a redirect, of which more than that is left, waits for somebody to read it. */
const errorTime = Duration.seconds(1)

/**
 * What an attempt holds until its body is read or given up: the wire, whose scope aborts it when it is closed, and what
 * else is to be given back.
 *
 * @internal
 */
export class Hold {
  private ended = false

  get isEnded(): boolean {
    return this.ended
  }

  constructor(readonly wire: Scope.CloseableScope, readonly rest: Scope.CloseableScope) {}

  static readonly make: Effect.Effect<Hold> = Effect.zipWith(
    Scope.make(),
    Scope.make(),
    (wire, rest) => new Hold(wire, rest)
  )

  /** Gives everything back, once. A body that was read to its end leaves the connection to the next request. */
  readonly end = (readToEnd: boolean): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (this.ended) return Effect.void
      this.ended = true
      const rest = Scope.close(this.rest, Exit.void)
      return Effect.uninterruptible(readToEnd ? rest : Effect.zipRight(Scope.close(this.wire, Exit.void), rest))
    })
}

type Body = Stream.Stream<Uint8Array, Error.ResponseError>

const isEmptyBody = (error: Error.ResponseError): boolean => error.reason === "EmptyBody"

/** A stream of events may be still for long, and is read or closed by whoever asked for it. */
const isQuiet = ({ headers }: ClientResponse.HttpClientResponse): boolean =>
  isEventStreamType(headers["content-type"] ?? "")

/** Whether reading ahead may come to the end of the body. */
const mayBeShort = (response: ClientResponse.HttpClientResponse): boolean => {
  const { headers, request, status } = response
  if (request.method === "HEAD" || status === 204 || status === 205 || status === 304) return true
  return !(status < 300 && isQuiet(response)) && !(Number(headers["content-length"]) > worthDraining)
}

/**
 * A response that holds its permit and its connection until its body is read, or given up.
 *
 * - What is not read to its end is aborted: an interruption, an early end of the stream, a decoder that fails.
 * - A body that nobody begins to read, or that stands still, is aborted after `idle`.
 * - Bodies are often not read at all. So the first 64 KiB of what may be short are read ahead: then everything is back without
 *   anybody's doing. A longer one of an error or a redirect is aborted if nobody begins to read within a second.
 *
 * @internal
 */
export class HeldResponse extends Inspectable.Class implements ClientResponse.HttpClientResponse {
  readonly [IncomingMessage.TypeId]: IncomingMessage.TypeId = IncomingMessage.TypeId
  readonly [TypeId]: ClientResponse.TypeId = TypeId

  private claimed = false
  private idled = false
  private readToEnd = false
  private ahead: Body | undefined

  constructor(
    readonly original: ClientResponse.HttpClientResponse,
    private readonly hold: Hold,
    private readonly idle: Duration.Duration | undefined
  ) {
    super()
  }

  get request() {
    return this.original.request
  }
  get status() {
    return this.original.status
  }
  get headers() {
    return this.original.headers
  }
  get cookies() {
    return this.original.cookies
  }
  /** Whether `fetch` was led by a redirect to another server, which gave this answer. */
  get isOfAnother(): boolean {
    const source: unknown = Predicate.hasProperty(this.original, "source") ? this.original.source : undefined
    if (!Predicate.hasProperty(source, "redirected") || source.redirected !== true) return false
    if (!Predicate.hasProperty(source, "url") || !Predicate.isString(source.url)) return false
    return targetOf(ClientRequest.get(source.url))?.authority !== targetOf(this.request)?.authority
  }
  get remoteAddress() {
    return this.original.remoteAddress
  }

  toJSON(): unknown {
    return { _id: "@effect/platform/HttpClientResponse", request: this.request.toJSON(), status: this.status }
  }

  private fail(reason: Error.ResponseError["reason"], description: string, cause?: unknown): Error.ResponseError {
    return new Error.ResponseError({ request: this.request, response: this, reason, description, cause })
  }

  private readonly givenUp = () => this.fail("Decode", "the body was given up before it was read")

  /** The body as it comes, with its end noted. */
  private readonly source: Body = Stream.suspend(() => {
    const { idle, original } = this
    const bounded = idle === undefined || isQuiet(original) ? original.stream : Stream.timeoutFail(
      original.stream,
      () => this.fail("Decode", "the body stood still for too long"),
      idle
    )
    const noted = Effect.sync(() => {
      this.readToEnd = true
    })
    return Stream.concat(bounded, Stream.execute(noted)).pipe(
      Stream.tapError((error) => isEmptyBody(error) ? noted : Effect.void)
    )
  })

  private readonly leave = Effect.suspend(() => this.hold.end(this.readToEnd))

  /** Cares for the body of a response that is handed out. Uninterruptible. */
  readonly watch: Effect.Effect<this> = Effect.suspend(() => {
    const isAnswer = this.status < 300
    const patience = isAnswer ? this.idle : Duration.min(errorTime, this.idle ?? errorTime)
    const abandon = Effect.suspend(() => {
      if (this.claimed) return Effect.void
      this.idled = !this.readToEnd
      return this.hold.end(false)
    })
    const { rest } = this.hold
    const unclaimed = patience === undefined
      ? Effect.void
      : Effect.forkIn(Effect.interruptible(Effect.delay(abandon, patience)), rest)
    if (!mayBeShort(this)) return Effect.as(unclaimed, this)
    const reading = readAhead({
      source: this.source,
      most: worthDraining,
      onEnd: this.leave,
      givenUp: this.givenUp
    })
    return Effect.zipRight(
      unclaimed,
      Effect.map(Scope.extend(reading, rest), (body) => {
        this.ahead = body
        return this
      })
    )
  })

  /** Gives the body up. */
  readonly abort: Effect.Effect<void> = Effect.suspend(() => {
    this.claimed = true
    return this.hold.end(false)
  })

  /** Runs when everything is given back, or at once where it is. */
  readonly onEnd = (effect: Effect.Effect<void>): Effect.Effect<void> => Scope.addFinalizer(this.hold.rest, effect)

  get stream(): Body {
    return Stream.suspend(() => {
      this.claimed = true
      if (this.idled) return Stream.fail(this.fail("Decode", "nobody read the body for too long"))
      if (this.ahead !== undefined) return Stream.ensuring(this.ahead, this.leave)
      return this.hold.isEnded && !this.readToEnd
        ? Stream.fail(this.givenUp())
        : Stream.ensuring(this.source, this.leave)
    })
  }

  /** For a response that is not the last word: its connection is kept where that is cheap. */
  readonly discard: Effect.Effect<void> = Effect.suspend(() => {
    this.claimed = true
    let size = 0
    const little = Stream.takeWhile(this.source, (bytes) => (size += bytes.length) <= worthDraining)
    return Stream.runDrain(little).pipe(Effect.timeoutOption(drainTime), Effect.ignore, Effect.ensuring(this.leave))
  })

  private readonly read = Effect.runSync(Effect.cached(Effect.flatMap(IncomingMessage.MaxBodySize, (limit) => {
    const most = Option.match(limit, { onNone: () => Infinity, onSome: Number })
    const whole = { parts: [] as Array<Uint8Array>, size: 0 }
    return Stream.runFoldEffect(this.stream, whole, (sum, bytes) => {
      sum.parts.push(bytes)
      sum.size += bytes.length
      return sum.size > most
        ? Effect.fail(this.fail("Decode", `the body has more than ${most} bytes`))
        : Effect.succeed(sum)
    }).pipe(
      Effect.catchIf(isEmptyBody, () => Effect.succeed(whole)),
      Effect.map(({ parts, size }) => {
        const bytes = new Uint8Array(size)
        let at = 0
        for (const part of parts) {
          bytes.set(part, at)
          at += part.length
        }
        return bytes
      })
    )
  })))

  /** The whole body, read once. A reader who was interrupted has given it up for all. */
  private readonly bytes = Effect.catchAllCause(
    this.read,
    (cause) => Cause.isInterruptedOnly(cause) ? Effect.fail(this.givenUp()) : Effect.failCause(cause)
  )

  get arrayBuffer(): Effect.Effect<ArrayBuffer, Error.ResponseError> {
    return Effect.map(this.bytes, (bytes) => bytes.buffer)
  }

  get text(): Effect.Effect<string, Error.ResponseError> {
    return Effect.map(this.bytes, (bytes) => new web.TextDecoder().decode(bytes))
  }

  get json(): Effect.Effect<unknown, Error.ResponseError> {
    return Effect.tryMap(this.text, {
      try: (text): unknown => text === "" ? null : JSON.parse(text),
      catch: (cause) => this.fail("Decode", "the body is no JSON", cause)
    })
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, Error.ResponseError> {
    return Effect.map(this.text, (text) => UrlParams.fromInput(new web.URLSearchParams(text)))
  }

  get formData(): ClientResponse.HttpClientResponse["formData"] {
    return Effect.flatMap(this.bytes, (bytes) =>
      Effect.tryPromise({
        try: () =>
          new web.Response(bytes, { headers: { "content-type": this.headers["content-type"] ?? "" } }).formData(),
        catch: (cause) => this.fail("Decode", "the body is no form", cause)
      })) as ClientResponse.HttpClientResponse["formData"]
  }
}
