/**
 * A shop that stays up: an HTTP API with its client, a dashboard at /resilience, /metrics, /health and /ready.
 *
 * What it does and by which policies is in `app/shop.ts`; what it depends on, in `app/warehouse.ts`. This file says where
 * everything is kept and what it runs on, by Layers alone. It shows itself and ends; with `PORT=3000` it stays.
 */
import { RateLimiterStore, ResilienceLive } from "@effect-resilience/core"
import { Dashboard, HttpResilience, IdempotencyStore, ResilientHttpClient, StaleStore } from "@effect-resilience/http"
import { NodeDrain } from "@effect-resilience/http/node"
import { HttpServer } from "@effect/platform"
import { NodeHttpClient, NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer, Option } from "effect"
import { createServer } from "node:http"
import { calls, ShopLive, Till } from "./app/shop.js"
import { tour } from "./app/tour.js"
import { Trouble, WarehouseLive } from "./app/warehouse.js"

/** Where it is kept what requests used, and what they were answered: here, in the memory of this process. */
const StoresLive = Layer.mergeAll(
  RateLimiterStore.layerMemory(),
  IdempotencyStore.layerMemory(),
  StaleStore.layerMemory()
)

/** Where circuits, permits and budgets are kept. */
const PoliciesLive = Layer.mergeAll(HttpResilience.Live, ResilientHttpClient.Live, Till.Live)

/** The client of all that the shop calls. */
const ClientLive = ResilientHttpClient.layer(calls).pipe(Layer.provide(NodeHttpClient.layerUndici))

const AppLive = ShopLive.pipe(
  Layer.provide([ClientLive, WarehouseLive, Dashboard.layer({ title: "Shop" })]),
  Layer.provide(PoliciesLive),
  Layer.provide(StoresLive),
  Layer.provide(ResilienceLive)
)

/** Says where it listens. */
const Told = Layer.effectDiscard(
  HttpServer.addressFormattedWith((address) => Effect.logInfo(`Shop at ${address}, dashboard at ${address}/resilience`))
)

/** Serves until it is told to stop, and drains then. */
const serve = (port: number) =>
  Told.pipe(
    Layer.provideMerge(AppLive),
    Layer.provide(NodeDrain.layer(createServer, { port })),
    Layer.provide(Trouble.Live),
    Layer.launch
  )

const show = tour.pipe(
  Effect.provide(NodeHttpClient.layer),
  Effect.provide(AppLive.pipe(
    Layer.provideMerge(NodeDrain.layer(createServer, { host: "127.0.0.1", port: 0 }, { delay: "100 millis" })),
    Layer.provideMerge(Trouble.Live)
  ))
)

NodeRuntime.runMain(
  Effect.flatMap(Config.option(Config.port("PORT")), Option.match({ onNone: () => show, onSome: serve }))
)
