import { Idempotency, IdempotencyStore, IdempotencyStoreError } from "@effect-resilience/http"
import { HttpRouter } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, TestClock } from "effect"
import { turns } from "./utils/idempotencySweep.js"
import { serveWeb } from "./utils/servers.js"

/** A handler that never ends holds a key, in a process that is well, or from which nothing more is heard. */
const held = (isWell: boolean, tellsLease = true) =>
  Effect.gen(function*() {
    const memory = yield* IdempotencyStore.makeMemory()
    const gone = Effect.fail(new IdempotencyStoreError({ operation: "begin", reason: "Unavailable" }))
    const store: IdempotencyStore.Service = {
      ...memory,
      begin: (request) =>
        request.isRenewal === true && !isWell ? gone : Effect.map(
          memory.begin(request),
          (begun) => begun._tag === "InFlight" && !tellsLease ? { ...begun, leaseLeft: undefined } : begun
        )
    }
    const entered = yield* Deferred.make<void>()
    const handler = yield* Effect.provide(
      serveWeb(HttpRouter.empty.pipe(
        HttpRouter.post("/pay", Effect.zipRight(Deferred.succeed(entered, undefined), Effect.never)),
        Idempotency.middleware({ name: "pay", principal: Idempotency.anybody })
      )),
      Layer.succeed(IdempotencyStore, store)
    )
    const pay = () =>
      handler(new Request("http://x.test/pay", { method: "POST", headers: { "idempotency-key": "\"a\"" } }))
    void pay()
    yield* Deferred.await(entered)
    const ask = Effect.promise(async () => {
      const reply = await pay()
      expect(reply.status).toBe(409)
      const { detail } = (await reply.json()) as { readonly detail: string }
      return { after: Number(reply.headers.get("retry-after")), detail }
    })
    return ask
  })

const seconds = (n: number) => Effect.zipRight(TestClock.adjust(`${n} seconds`), turns(12))

/** What `Retry-After` says: never less, and up to a tenth more, or a second. */
const about = (after: number, least: number) => {
  expect(after).toBeGreaterThanOrEqual(least)
  expect(after).toBeLessThanOrEqual(least + Math.ceil(least / 10))
}

describe("when to come back for a key that is in flight", () => {
  it.effect("RS10: where its process has died: as long as it has been silent, and at last when it is free", () =>
    Effect.gen(function*() {
      const ask = yield* held(false)
      let { after, detail } = yield* ask
      about(after, 1)
      expect(detail).toBe(
        "A request with this Idempotency-Key is under way. If its process has died, the key is free in 300 s"
      )
      yield* seconds(8)
      about((yield* ask).after, 8)
      yield* seconds(112)
      about((yield* ask).after, 120)
      yield* seconds(100)
      ;({ after, detail } = yield* ask)
      about(after, 80)
      expect(detail).toContain("free in 80 s")
      yield* seconds(79.9)
      about((yield* ask).after, 1)
    }))

  it.effect("where it is well: soon again, whenever the lease was renewed", () =>
    Effect.gen(function*() {
      const ask = yield* held(true)
      yield* seconds(90)
      about((yield* ask).after, 90)
      yield* seconds(10)
      about((yield* ask).after, 1)
      yield* seconds(100)
      about((yield* ask).after, 1)
    }))

  it.effect("where the store does not tell: as the option has it", () =>
    Effect.gen(function*() {
      const ask = yield* held(false, false)
      yield* seconds(90)
      const { after, detail } = yield* ask
      about(after, 1)
      expect(detail).toBe("A request with this Idempotency-Key is under way")
    }))
})
