import { Idempotency } from "@effect-resilience/http/Idempotency"
import { RedisIdempotencyStore } from "@effect-resilience/redis/http"
import { RedisConnection } from "@effect-resilience/redis/RedisConnection"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

// Of several processes, in which all orders of one id are one order. It imports what it needs and no more: it has to begin
// soon. Its requests come from the process that started it.

const [, , url = "", prefix = ""] = process.argv

/** An order: the lease of its key, and how long it takes, in milliseconds. */
export interface Order {
  readonly n: number
  readonly id: string
  readonly lease: number
  readonly takes: number
}

/** That one is being carried out, or what came of a request. */
export type Told = { readonly began: string } | {
  readonly n: number
  readonly status: number
  readonly isReplayed: boolean
  readonly body: string
}

const tell = (told: Told) => process.send?.(told)

const program = Effect.gen(function*() {
  const redis = yield* RedisConnection
  const place = ({ id, takes }: Order) =>
    Effect.gen(function*() {
      yield* redis.command("incr", `${prefix}carried-out:${id}`)
      tell({ began: id })
      yield* Effect.sleep(takes)
      return HttpServerResponse.text(`by ${process.pid}`, { status: 201 })
    })
  const runtime = yield* Effect.runtime<Layer.Layer.Success<typeof live>>()
  process.on("message", (order: Order) => {
    const app = Idempotency.middleware({
      name: "orders",
      principal: Idempotency.anybody,
      lease: Duration.millis(order.lease)
    })(place(order))
    const request = new Request("http://localhost/orders", {
      method: "POST",
      headers: { "idempotency-key": `"${order.id}"` }
    })
    HttpApp.toWebHandlerRuntime(runtime)(app)(request).then(async (response) =>
      tell({
        n: order.n,
        status: response.status,
        isReplayed: response.headers.get("idempotency-replayed") === "true",
        body: await response.text()
      })
    )
  })
  tell({ began: "" })
  yield* Effect.never
})

const live = RedisIdempotencyStore.layer().pipe(
  Layer.provideMerge(
    RedisConnection.layer({ server: url, prefix, commandTimeout: "2 seconds", socketTimeout: "2 seconds" })
  )
)

Effect.runFork(
  Effect.tapErrorCause(
    Effect.provide(program, live),
    (cause) => Effect.sync(() => console.error(cause.toString()))
  )
)
