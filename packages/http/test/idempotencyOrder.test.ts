import { HttpResilience, Idempotency, IdempotencyStore } from "@effect-resilience/http"
import type { HttpApp } from "@effect/platform"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Ref } from "effect"
import { runtimes } from "./utils/servers.js"

const idempotency = Idempotency.middleware({ name: "payments", principal: Idempotency.byAuthorization })
const policy = HttpResilience.standard({
  name: "payments",
  bulkhead: { maxConcurrent: 1, maxQueued: 0 },
  fallback: { respond: HttpServerResponse.text("sorry") }
})

const key = (text: string) => ({ headers: { "idempotency-key": JSON.stringify(text) } })

for (const [runtime, serve] of Object.entries(runtimes)) {
  /** One payment holds what there is, a second one comes, and comes again when the first is done. */
  const second = (
    protect: <E, R>(app: HttpApp.Default<E, R>) => HttpApp.Default<E, R | HttpResilience | IdempotencyStore>
  ) =>
    Effect.gen(function*() {
      const store = yield* IdempotencyStore.makeMemory()
      const entered = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const send = yield* serve(protect(HttpRouter.empty.pipe(
        HttpRouter.post(
          "/pay",
          Effect.zipRight(
            Deferred.succeed(entered, undefined),
            Effect.as(Deferred.await(gate), HttpServerResponse.text("paid", { status: 201 }))
          )
        )
      ))).pipe(Effect.provide(Layer.merge(Layer.succeed(IdempotencyStore, store), HttpResilience.Live)))
      const first = yield* Effect.fork(send("/pay", key("first")))
      yield* Deferred.await(entered)
      const during = yield* send("/pay", key("second"))
      const { done } = yield* store.metrics
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(first)
      const after = yield* send("/pay", key("second"))
      return { during: during.body, kept: done, after: after.body, replayed: after.headers["idempotency-replayed"] }
    })

  describe(`idempotency keys and a policy, ${runtime}`, () => {
    it.scopedLive("inside of it, who is turned away has his key still", () =>
      Effect.gen(function*() {
        expect(yield* second((app) => policy(idempotency(app)))).toEqual({
          during: "sorry",
          kept: 0,
          after: "paid",
          replayed: undefined
        })
      }))

    it.scopedLive("control: outside of it, he would be told sorry for a day", () =>
      Effect.gen(function*() {
        expect(yield* second((app) => idempotency(policy(app)))).toEqual({
          during: "sorry",
          kept: 1,
          after: "sorry",
          replayed: "true"
        })
      }))

    for (const [where, runs] of [["inside", 1], ["outside", 2]] as const) {
      it.scopedLive(`${where} of it, a handler that the timeout left behind is carried out ${runs === 1 ? "once" : "twice"}`, () =>
        Effect.gen(function*() {
          const store = yield* IdempotencyStore.makeMemory()
          const gate = yield* Deferred.make<void>()
          const entered = yield* Ref.make(0)
          const timeout = HttpResilience.timeout({ name: "payments", duration: "50 millis" })
          const app = HttpRouter.empty.pipe(
            HttpRouter.post(
              "/pay",
              Effect.uninterruptible(Effect.zipRight(
                Ref.update(entered, (n) => n + 1),
                Effect.as(Deferred.await(gate), HttpServerResponse.empty())
              ))
            )
          )
          const send = yield* serve(where === "inside" ? timeout(idempotency(app)) : idempotency(timeout(app))).pipe(
            Effect.provide(Layer.merge(Layer.succeed(IdempotencyStore, store), HttpResilience.Live))
          )
          const statuses = yield* Effect.forEach([1, 2], () => send("/pay", key("same")))
          expect(statuses.map(({ status }) => status)).toEqual([504, runs === 1 ? 409 : 504])
          expect(yield* Ref.get(entered)).toBe(runs)
          yield* Deferred.succeed(gate, undefined)
        }))
    }
  })
}
