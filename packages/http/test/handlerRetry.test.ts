import { classifyWith, Retry } from "@effect-resilience/core"
import type { HttpApp } from "@effect/platform"
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option, TestClock } from "effect"

/*
 * The snippet of docs/http-server.md: a handler is run again by the status of its response, where the method is safe.
 */

class Handlers extends Retry.Tag<Handlers>()("handlers", {
  maxAttempts: 3,
  classify: classifyWith({
    failureTags: [],
    failureWhen: (answer) => HttpServerResponse.isServerResponse(answer) && [502, 503, 504].includes(answer.status)
  })
}) {}

const retried = <E, R>(handler: HttpApp.Default<E, R>) =>
  Effect.flatMap(
    HttpServerRequest.HttpServerRequest,
    ({ method }) => method === "GET" || method === "HEAD" ? Handlers.withRetry(handler) : handler
  )

/** What comes of a handler that answers with these statuses, one after the other, and how often it ran. */
const ask = (method: string, ...statuses: ReadonlyArray<number>) =>
  Effect.gen(function*() {
    let runs = 0
    const handler = Effect.suspend(() => {
      const status = statuses[runs++]
      return status === undefined ? Effect.fail("broken") : HttpServerResponse.empty({ status })
    })
    const request = HttpServerRequest.fromWeb(new Request("http://localhost/", { method }))
    const fiber = yield* Effect.fork(
      Effect.provideService(retried(handler), HttpServerRequest.HttpServerRequest, request)
    )
    yield* TestClock.adjust("1 minute")
    const exit = yield* Fiber.await(fiber)
    return [
      runs,
      Exit.match(exit, {
        onFailure: (cause) => Option.getOrUndefined(Cause.failureOption(cause)),
        onSuccess: ({ status }) => status
      })
    ]
  }).pipe(Effect.provide(Handlers.Live))

describe("a handler that is retried by the status of its response", () => {
  it.effect("GET and HEAD", () =>
    Effect.gen(function*() {
      for (const method of ["GET", "HEAD"]) expect(yield* ask(method, 503, 502, 200)).toEqual([3, 200])
    }))

  it.effect("no other method", () =>
    Effect.gen(function*() {
      for (const method of ["POST", "PUT", "PATCH", "DELETE"]) expect(yield* ask(method, 503, 200)).toEqual([1, 503])
    }))

  it.effect("the last answer is given when there are no more attempts", () =>
    Effect.gen(function*() {
      expect(yield* ask("GET", 503, 502, 504, 200)).toEqual([3, 504])
    }))

  it.effect("no other status, and no failure", () =>
    Effect.gen(function*() {
      expect(yield* ask("GET", 404, 200)).toEqual([1, 404])
      expect(yield* ask("GET", 500, 200)).toEqual([1, 500])
      expect(yield* ask("GET")).toEqual([1, "broken"])
    }))
})
