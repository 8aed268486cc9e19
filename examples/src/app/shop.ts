/** The shop: what it offers, what it does, and by which policies. It says nothing of where anything is kept. */
import { Bulkhead } from "@effect-resilience/core"
import type { ResilientHttpClient } from "@effect-resilience/http"
import {
  ClientIp,
  Dashboard,
  Health,
  HttpResilience,
  HttpServerMetrics,
  Idempotency,
  PrometheusMetrics
} from "@effect-resilience/http"
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiClient,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApiSchema,
  HttpApp,
  HttpRouter,
  HttpServerResponse
} from "@effect/platform"
import { Effect, Layer, Schema } from "effect"
import { OutOfStock, Product, WarehouseApi, WarehouseUrl } from "./warehouse.js"

// --- what it offers

export class NoSuchProduct extends Schema.TaggedError<NoSuchProduct>()(
  "NoSuchProduct",
  { id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

export class WarehouseUnavailable extends Schema.TaggedError<WarehouseUnavailable>()(
  "WarehouseUnavailable",
  {},
  HttpApiSchema.annotations({ status: 503 })
) {}

export class Order extends Schema.Class<Order>("Order")({ product: Product, quantity: Schema.Int }) {}

const byId = Schema.Struct({ id: Schema.String })

export class ShopApi extends HttpApi.make("shop")
  .add(
    HttpApiGroup.make("products")
      .add(HttpApiEndpoint.get("all", "/products").addSuccess(Schema.Array(Product)))
      .add(
        HttpApiEndpoint.get("one", "/products/:id").setPath(byId).addSuccess(Product).addError(NoSuchProduct)
      )
      .addError(WarehouseUnavailable)
  )
  .add(
    HttpApiGroup.make("orders")
      .add(
        HttpApiEndpoint.post("place", "/orders")
          .setPayload(Schema.Struct({ id: Schema.String, quantity: Schema.Int }))
          .addSuccess(Order, { status: 201 })
          .addError(OutOfStock)
          .addError(WarehouseUnavailable)
      )
  )
  // What the policies answer stands in OpenAPI, and in the errors of the derived client.
  .addError(Idempotency.Failure)
  .addError(HttpResilience.Failure)
{}

// --- by which policies

/** Behind a proxy on this machine, which says who the client is. */
const clientIp = ClientIp.fromForwardedFor({ trusted: ["127.0.0.0/8"] })

/** Around all of the API, outermost last. */
const around = Effect.gen(function*() {
  const idempotent = yield* Idempotency.middlewareEffect({ name: "orders", principal: Idempotency.byAuthorization })
  const resilient = yield* HttpResilience.middlewareEffect(HttpResilience.standard({
    name: "shop",
    clientIp,
    exclude: [...HttpResilience.healthPaths, "/resilience/**"],
    rateLimit: { rate: "20/minute" },
    timeout: "5 seconds",
    staleIfError: { staleIfError: "1 hour" }
  }))
  const measured = HttpServerMetrics.middleware()
  return (app: HttpApp.Default) => app.pipe(idempotent, resilient, measured)
})

/** The till serves two at once. */
export class Till extends Bulkhead.Tag<Till>()("till", { maxConcurrent: 2, maxQueued: 1 }) {}

/** For whatever the shop calls: a circuit for each server, retries of what may be sent twice, and limits of time. */
export const calls: ResilientHttpClient.Options = {
  name: "shop-calls",
  timeout: "3 seconds",
  attemptTimeout: "1 second",
  retry: { initialDelay: "20 millis" },
  circuitBreaker: { consecutiveFailures: 5, openDuration: "1 second" }
}

// --- what it does

/** The warehouse, as the shop knows it. */
class Warehouse extends Effect.Service<Warehouse>()("shop/Warehouse", {
  effect: Effect.gen(function*() {
    const client = yield* HttpApiClient.make(WarehouseApi, { baseUrl: yield* WarehouseUrl })
    // All that it may fail with beside its own answers: out of reach, too slow, an open circuit.
    const unavailable = () => new WarehouseUnavailable()
    const all = client.stock.all().pipe(Effect.mapError(unavailable))
    const take = (id: string) =>
      client.stock.take({ path: { id } }).pipe(
        Effect.mapError((error) => error._tag === "OutOfStock" ? error : unavailable())
      )
    return { all, take }
  })
}) {}

/** Anybody may be shown these, also when they are old and the warehouse is down. */
const forAnybody = HttpApp.appendPreResponseHandler((_, response) =>
  Effect.succeed(HttpServerResponse.setHeader(response, "cache-control", "public, max-age=5"))
)

const ProductsLive = HttpApiBuilder.group(ShopApi, "products", (handlers) =>
  Effect.map(Warehouse, ({ all }) =>
    handlers
      .handle("all", () => Effect.zipLeft(all, forAnybody))
      .handle("one", ({ path: { id } }) =>
        Effect.flatMap(all, (products) => {
          const product = products.find((product) => product.id === id)
          return product === undefined ? new NoSuchProduct({ id }) : Effect.as(forAnybody, product)
        }))))

const OrdersLive = HttpApiBuilder.group(ShopApi, "orders", (handlers) =>
  Effect.gen(function*() {
    const till = yield* Till
    const { take } = yield* Warehouse
    return handlers.handle("place", ({ payload: { id, quantity } }) =>
      take(id).pipe(
        Effect.map((product) => new Order({ product, quantity })),
        till.withPermit,
        // It answers for itself: 503, with Retry-After.
        Effect.catchTag("BulkheadFullError", Effect.die)
      ))
  }))

/** What operators see, on the same port. */
const OperatorsLive = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function*() {
    const dashboard = yield* Dashboard
    yield* router.get("/health", Health.live())
    yield* router.get("/ready", Health.ready())
    yield* router.get("/metrics", PrometheusMetrics.app())
    yield* router.mount("/resilience", HttpRouter.provideService(Dashboard.router, Dashboard, dashboard))
  })
)

/** The program: an HTTP server away from being a service. */
export const ShopLive = HttpApiBuilder.serve().pipe(
  Layer.provide([HttpApiBuilder.middleware(around), OperatorsLive]),
  Layer.provide(HttpApiBuilder.api(ShopApi)),
  Layer.provide([ProductsLive, OrdersLive]),
  Layer.provide(Warehouse.Default)
)
