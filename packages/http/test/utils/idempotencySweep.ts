import { Idempotency, IdempotencyStore } from "@effect-resilience/http"
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Deferred, Effect, Fiber } from "effect"

const pad = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.flatMap(Effect.void, () => pad(n - 1))

/** Lets others run, digests, sockets and timers too. */
export const turns = (n: number): Effect.Effect<void> =>
  n === 0 ? Effect.void : Effect.zipRight(
    n % 3 === 0 ? Effect.promise(() => new Promise((resolve) => setImmediate(resolve))) : Effect.yieldNow(),
    turns(n - 1)
  )

const makeRequest = () =>
  HttpServerRequest.fromWeb(
    new Request("http://localhost/pay", { method: "POST", body: "1", headers: { "idempotency-key": "\"a\"" } })
  )

export const places = ["start", "begin", "handler", "renew", "complete"] as const
export type Place = (typeof places)[number]

/**
 * Serves a request with a key and interrupts it `n` turns after it has come to a place, in a store that is empty and takes
 * `late` turns to do and as many to answer. Returns whether its handler came to its end.
 */
export const interrupted = (
  inner: IdempotencyStore.Service,
  place: Place,
  late: number,
  n: number,
  phase: number,
  budget: number
): Effect.Effect<boolean> =>
  Effect.gen(function*() {
    const reached = yield* Deferred.make<void>()
    const at = (here: Place) => here === place ? Deferred.succeed(reached, undefined) : Effect.void
    let isDone = false
    let begun = 0
    const slowly = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.zipRight(turns(late), Effect.zipLeft(effect, turns(late)))
    const store: IdempotencyStore.Service = {
      begin: (request) =>
        begun++ === 0
          ? Effect.zipRight(at("begin"), slowly(inner.begin(request)))
          // As a command that is sent: it lands, whatever becomes of who sent it, and may be overtaken.
          : Effect.uninterruptible(
            Effect.zipRight(at("renew"), Effect.zipRight(turns(3 * late), slowly(inner.begin(request))))
          ),
      complete: (request) => Effect.zipRight(at("complete"), slowly(inner.complete(request))),
      release: (owner) => slowly(inner.release(owner))
    }
    const handler = Effect.gen(function*() {
      yield* at("handler")
      yield* turns(2)
      // Until its lease was renewed, and some turns more.
      if (place === "renew") yield* Effect.zipRight(Deferred.await(reached), turns(4))
      isDone = true
      return HttpServerResponse.text("paid")
    })
    const app = Idempotency.middleware({
      name: "pay",
      principal: Idempotency.anybody,
      lease: place === "renew" ? "3 millis" : "5 minutes"
    })(Effect.interruptible(handler))
    // As a server runs it: uninterruptible but for the handler.
    const served = Effect.scoped(Effect.uninterruptible(app)).pipe(
      Effect.provideService(HttpServerRequest.HttpServerRequest, makeRequest()),
      Effect.provideService(IdempotencyStore, store)
    )
    const fiber = yield* Effect.fork(
      Effect.withMaxOpsBeforeYield(Effect.zipRight(Effect.zipRight(at("start"), pad(phase)), served), budget)
    )
    yield* Deferred.await(reached)
    yield* turns(n)
    yield* Fiber.interrupt(fiber)
    return isDone
  })
