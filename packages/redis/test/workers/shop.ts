import type { IdempotencyStore } from "@effect-resilience/http"
import { Idempotency } from "@effect-resilience/http"
import { RedisConnection } from "@effect-resilience/redis"
import { RedisIdempotencyStore } from "@effect-resilience/redis/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Duration, Effect, Layer, Schema } from "effect"
import { serveNode } from "../../../http/test/utils/servers.js"

/**
 * A shop of which several processes serve the same orders: it says on which port, and counts in Redis what it carries out.
 * The lease of an order is the name of its path, in milliseconds.
 */
const [, , url = "", prefix = "", ...leases] = process.argv

const program = Effect.gen(function*() {
  const redis = yield* RedisConnection
  const place = Effect.gen(function*() {
    const { id, millis } = yield* HttpServerRequest.schemaBodyJson(
      Schema.Struct({ id: Schema.String, millis: Schema.Number })
    )
    const count = yield* redis.command("incr", `${prefix}carried-out:${id}`)
    process.send?.({ began: id })
    yield* Effect.sleep(millis)
    return yield* HttpServerResponse.json({ id, count, by: process.pid }, { status: 201 })
  })
  const orders = (lease: string) =>
    Idempotency.middleware({ name: lease, principal: Idempotency.anybody, lease: Duration.millis(Number(lease)) })(
      place
    )
  const app = leases.reduce(
    (router, lease) => HttpRouter.post(router, `/${lease}`, orders(lease)),
    HttpRouter.empty as HttpRouter.HttpRouter<unknown, IdempotencyStore>
  )
  const { port } = yield* serveNode(app)
  process.send?.({ port })
  yield* Effect.never
})

const live = RedisIdempotencyStore.layer().pipe(
  Layer.provideMerge(
    RedisConnection.layer({ server: { _tag: "Standalone", url }, prefix, commandTimeout: "2 seconds" })
  )
)

Effect.runFork(Effect.scoped(Effect.provide(program, live)))
