import { RequestInit } from "@effect/platform/FetchHttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as ClientRequest from "@effect/platform/HttpClientRequest"
import { fromWeb } from "@effect/platform/HttpClientResponse"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Chain, Send } from "./chain.js"
import type { HeldResponse } from "./held.js"
import type { WebRequest, WebResponse, WebSignal } from "./web.js"
import { web } from "./web.js"

type Init = Readonly<Record<string, unknown>> & { readonly signal?: WebSignal | null; readonly body?: unknown }

type WebFetch = (input: unknown, init?: unknown) => Promise<WebResponse>

/** The request as the chain sees it. What is sent is what the caller gave. */
const requestOf = (request: WebRequest): ClientRequest.HttpClientRequest => {
  const headers: Record<string, string> = {}
  request.headers.forEach((value, name) => {
    headers[name] = value
  })
  return ClientRequest.make(request.method as "GET")(request.url, { headers })
}

/** Whether a body can be sent again: a stream cannot, and that of a `Request` is one. */
const canReplay = (input: unknown, { body }: Init): boolean =>
  body === undefined || body === null
    ? !(Predicate.isObject(input) && Predicate.hasProperty(input, "body") && input.body !== null)
    : !Predicate.hasProperty(body, "getReader") && !Predicate.hasProperty(body, Symbol.asyncIterator)

/** Sends by `fetch`, with the headers that the chain has added. */
const sending = (
  fetch: WebFetch,
  input: unknown,
  init: Init,
  answers: WeakMap<object, WebResponse>
): Send<HttpClientError.RequestError, never> =>
(request) =>
  Effect.flatMap(
    Effect.acquireRelease(
      Effect.sync(() => new web.AbortController()),
      (controller) => Effect.sync(() => controller.abort())
    ),
    (controller) =>
      Effect.map(
        Effect.tryPromise({
          try: () => fetch(input, { ...init, headers: request.headers, signal: controller.signal }),
          catch: (cause) => new HttpClientError.RequestError({ request, reason: "Transport", cause })
        }),
        (answer) => {
          const response = fromWeb(request, answer as never)
          answers.set(response, answer)
          return response
        }
      )
  )

/** A stream of the web that begins with its first reader. What is cancelled before that never began: it cannot end by itself. */
const toWeb = (body: Stream.Stream<Uint8Array, unknown>, abort: Effect.Effect<void>): unknown => {
  const chunks = Stream.toAsyncIterable(body)[Symbol.asyncIterator]()
  return new web.ReadableStream({
    pull: async (controller) => {
      const next = await chunks.next()
      if (next.done === true) controller.close()
      else controller.enqueue(next.value)
    },
    cancel: async () => {
      await Effect.runPromise(abort)
      await chunks.return?.()
    }
  }, { highWaterMark: 0 })
}

/** The answer, whose body tells the chain when it is read. The signal ends it, too, and so does the end of the scope. */
const answerOf = (
  held: HeldResponse,
  answer: WebResponse,
  signal: WebSignal | undefined,
  scope: Scope.Scope
): Effect.Effect<WebResponse> => {
  const body = answer.body === null
    ? Effect.as(held.discard, null)
    : Effect.succeed(
      toWeb(
        Stream.mapError(held.stream, (error) => signal?.aborted ? signal.reason : error.cause ?? error),
        held.abort
      )
    )
  const abort = () => {
    Effect.runFork(held.abort)
  }
  signal?.addEventListener("abort", abort, { once: true })
  const unlisten = Effect.sync(() => signal?.removeEventListener("abort", abort))
  const listening = Effect.flatMap(Scope.fork(scope, ExecutionStrategy.sequential), (own) =>
    Effect.zipRight(
      Scope.addFinalizer(own, held.abort),
      held.onEnd(Effect.zipRight(unlisten, Scope.close(own, Exit.void)))
    ))
  return Effect.map(Effect.zipRight(listening, body), (readable) => {
    const { headers, redirected, status, statusText, type, url } = answer
    // What only `fetch` itself can set.
    return Object.defineProperties(new web.Response(readable, { headers, status, statusText }), {
      url: { value: url },
      redirected: { value: redirected },
      type: { value: type }
    })
  })
}

/** What `fetch` would reject with. */
const rejection = (error: unknown): unknown => {
  if (HttpClientError.isHttpClientError(error) && error._tag === "RequestError") return error.cause
  if (!Predicate.isTagged(error, "TimeoutExceededError")) return error
  const message = error instanceof Error ? error.message : "no answer in time"
  return Object.assign(new web.DOMException(message, "TimeoutError"), { cause: error })
}

/** Where the calls of a `fetch` live: they end, and so do their bodies, when the scope is closed. @internal */
export interface Home<R> {
  readonly name: string
  readonly chain: Effect.Effect<Chain, never, R>
  readonly scope: Scope.Scope
  readonly fork: (effect: Effect.Effect<WebResponse, unknown, R>) => Fiber.RuntimeFiber<WebResponse, unknown>
}

/** `fetch` with a chain around it. @internal */
export const fetchAround = <R>(
  given: (input: never, init?: never) => Promise<unknown>,
  { chain, fork, name, scope }: Home<R>
): Effect.Effect<(input: unknown, init?: Init) => Promise<WebResponse>> => {
  const fetch = given as unknown as WebFetch
  let isClosed = false
  const closed = () => new web.DOMException(`resilientFetch "${name}" was closed`, "AbortError")
  const call = (input: unknown, init: Init = {}): Promise<WebResponse> =>
    new Promise((resolve, reject) => {
      const asked = input instanceof web.Request ? input : undefined
      // One of null detaches the request from its own.
      const signal = init.signal === undefined ? asked?.signal : init.signal ?? undefined
      // Without its body, which is read by whoever sends it.
      const request = new web.Request(asked?.url ?? input, {
        method: init["method"] ?? asked?.method,
        headers: init["headers"] ?? asked?.headers,
        redirect: init["redirect"] ?? asked?.redirect
      })
      const answers = new WeakMap<object, WebResponse>()
      const calling = Effect.flatMap(chain, ({ call }) =>
        Effect.flatMap(
          call(requestOf(request), sending(fetch, input, init, answers), canReplay(input, init)).pipe(
            Effect.provideService(RequestInit, { redirect: request.redirect })
          ),
          (held) => answerOf(held, answers.get(held.original) as WebResponse, signal, scope)
        ))
      if (signal?.aborted) return reject(signal.reason)
      if (isClosed) return reject(closed())
      const fiber = fork(calling)
      const abort = () => fiber.unsafeInterruptAsFork(fiber.id())
      signal?.addEventListener("abort", abort, { once: true })
      fiber.addObserver((exit) => {
        signal?.removeEventListener("abort", abort)
        if (exit._tag === "Success") return resolve(exit.value)
        if (signal?.aborted) return reject(signal.reason)
        return reject(Cause.isInterruptedOnly(exit.cause) ? closed() : rejection(Cause.squash(exit.cause)))
      })
    })
  const closing = Effect.sync(() => {
    isClosed = true
  })
  return Effect.as(Scope.addFinalizer(scope, closing), call)
}
