import { Idempotency, IdempotencyStore } from "@effect-resilience/http"
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"

/*
 * A request with a key is interrupted at every operation. Whenever it comes, nothing stays in flight, and a handler that
 * whose response was to be kept has it kept.
 */

const pad = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.flatMap(Effect.void, () => pad(n - 1))

/** Lets others run, digests and timers too. */
const turns = (n: number): Effect.Effect<void> =>
  n === 0 ? Effect.void : Effect.zipRight(
    n % 3 === 0 ? Effect.promise(() => new Promise((resolve) => setImmediate(resolve))) : Effect.yieldNow(),
    turns(n - 1)
  )

const makeRequest = () =>
  HttpServerRequest.fromWeb(
    new Request("http://localhost/pay", { method: "POST", body: "1", headers: { "idempotency-key": "\"a\"" } })
  )

const places = ["start", "begin", "handler", "renew", "complete"] as const

/** What is interrupted `n` turns after it has come to a place, with a store that takes `late` turns to do and as many to answer. */
const interrupted = (place: (typeof places)[number], late: number, n: number, phase: number, budget: number) =>
  Effect.gen(function*() {
    const memory = yield* IdempotencyStore.makeMemory()
    const reached = yield* Deferred.make<void>()
    const at = (here: (typeof places)[number]) => here === place ? Deferred.succeed(reached, undefined) : Effect.void
    let isDone = false
    let begun = 0
    const slowly = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.zipRight(turns(late), Effect.zipLeft(effect, turns(late)))
    const store: IdempotencyStore.Service = {
      begin: (request) =>
        begun++ === 0
          ? Effect.zipRight(at("begin"), slowly(memory.begin(request)))
          // As a command that is sent: it lands, whatever becomes of who sent it, and may be overtaken.
          : Effect.uninterruptible(
            Effect.zipRight(at("renew"), Effect.zipRight(turns(3 * late), slowly(memory.begin(request))))
          ),
      complete: (request) => Effect.zipRight(at("complete"), slowly(memory.complete(request))),
      release: (owner) => slowly(memory.release(owner))
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
    yield* turns(6 + (place === "renew" ? 8 : 3) * late)
    return { isDone, ...yield* memory.metrics }
  })

describe("interrupted at every operation", () => {
  for (const late of [0, 2]) {
    for (const place of places) {
      it.live(`from ${place} on, nothing stays in flight, in a store that takes ${late} turns`, () =>
        Effect.gen(function*() {
          const lost: Array<string> = []
          for (const budget of [12, 23]) {
            for (let phase = 0; phase < budget; phase++) {
              for (let n = 0; n <= 8; n++) {
                const { done, inFlight, isDone } = yield* interrupted(place, late, n, phase, budget)
                const where = `budget ${budget}, phase ${phase}, turns ${n}`
                if (inFlight !== 0) lost.push(`in flight: ${where}`)
                if (done > 0 && !isDone) lost.push(`kept what nobody did: ${where}`)
                if (place === "complete" && done === 0) lost.push(`forgot what was done: ${where}`)
              }
            }
          }
          expect(lost).toEqual([])
        }))
    }
  }
})
