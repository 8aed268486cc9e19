/** The service that the shop depends on: its API, which both know, and a server of it that can be put in trouble. */
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup, HttpApiSchema, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, Ref, Schema } from "effect"
import { createServer } from "node:http"

export class Product extends Schema.Class<Product>("Product")({
  id: Schema.String,
  title: Schema.String,
  price: Schema.Number
}) {}

export class OutOfStock extends Schema.TaggedError<OutOfStock>()(
  "OutOfStock",
  { id: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** What a server says that does not do well. */
export class Down extends Schema.TaggedError<Down>()("Down", {}, HttpApiSchema.annotations({ status: 503 })) {}

export class WarehouseApi extends HttpApi.make("warehouse").add(
  HttpApiGroup.make("stock")
    .add(HttpApiEndpoint.get("all", "/stock").addSuccess(Schema.Array(Product)))
    .add(
      HttpApiEndpoint.post("take", "/stock/:id/take")
        .setPath(Schema.Struct({ id: Schema.String }))
        .addSuccess(Product)
        .addError(OutOfStock)
    )
    .addError(Down)
) {}

/** How the warehouse does. */
export class Trouble extends Context.Tag("warehouse/Trouble")<Trouble, {
  readonly become: (trouble: "none" | "once" | "slow" | "down") => Effect.Effect<void>
  /** Requests that reached it. */
  readonly reached: Effect.Effect<number>
  /** What every request goes through. */
  readonly pass: Effect.Effect<void, Down>
}>() {
  static readonly Live = Layer.effect(
    Trouble,
    Effect.gen(function*() {
      const trouble = yield* Ref.make<"none" | "once" | "slow" | "down">("none")
      const requests = yield* Ref.make(0)
      return {
        become: (next) => Ref.set(trouble, next),
        reached: Ref.get(requests),
        pass: Effect.gen(function*() {
          yield* Ref.update(requests, (n) => n + 1)
          switch (yield* Ref.get(trouble)) {
            case "none":
              return
            case "slow":
              return yield* Effect.sleep("600 millis")
            case "once":
              yield* Ref.set(trouble, "none")
              return yield* new Down()
            case "down":
              return yield* new Down()
          }
        })
      }
    })
  )
}

const products = [
  new Product({ id: "ulysses", title: "Ulysses", price: 18 }),
  new Product({ id: "emma", title: "Emma", price: 12 })
]

const StockLive = HttpApiBuilder.group(WarehouseApi, "stock", (handlers) =>
  Effect.map(Trouble, ({ pass }) =>
    handlers
      .handle("all", () => Effect.as(pass, products))
      .handle("take", ({ path: { id } }) => {
        const product = products.find((product) => product.id === id)
        return Effect.zipRight(pass, product === undefined ? new OutOfStock({ id }) : Effect.succeed(product))
      })))

/** Where the warehouse is. */
export class WarehouseUrl extends Context.Tag("warehouse/Url")<WarehouseUrl, string>() {}

const ServerLive = NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 })

/** On a free port. Fresh, for what is built with it is an API of its own. */
export const WarehouseLive: Layer.Layer<WarehouseUrl, never, Trouble> = Layer.fresh(
  Layer.effect(WarehouseUrl, HttpServer.addressFormattedWith(Effect.succeed)).pipe(
    Layer.merge(HttpApiBuilder.serve()),
    Layer.provide(HttpApiBuilder.api(WarehouseApi)),
    Layer.provide(StockLive),
    Layer.provide(ServerLive),
    Layer.orDie
  )
)
