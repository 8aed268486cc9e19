/** Runs the shop, wherever it keeps what it has to remember: what that is made of is all that it is told. */
import type { EventBus, RateLimiterStore, Registry } from "@effect-resilience/core"
import { ResilienceLive } from "@effect-resilience/core"
import type { HttpResilience, IdempotencyStore, StaleStore } from "@effect-resilience/http"
import { Dashboard, ResilientHttpClient } from "@effect-resilience/http"
import { NodeDrain } from "@effect-resilience/http/node"
import { HttpServer } from "@effect/platform"
import { NodeHttpClient, NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer, Option } from "effect"
import { createServer } from "node:http"
import type { Till } from "./shop.js"
import { calls, ShopLive } from "./shop.js"
import { tour } from "./tour.js"
import { Trouble, WarehouseLive } from "./warehouse.js"

/** What requests used and were answered, and circuits, permits and budgets. */
type Kept = RateLimiterStore | IdempotencyStore | StaleStore | HttpResilience | ResilientHttpClient | Till

/** The client of all that the shop calls. */
const ClientLive = ResilientHttpClient.layer(calls).pipe(Layer.provide(NodeHttpClient.layerUndici))

/** Says where it listens. */
const Told = Layer.effectDiscard(
  HttpServer.addressFormattedWith((address) => Effect.logInfo(`Shop at ${address}, dashboard at ${address}/resilience`))
)

/** It shows itself and ends; with `PORT=3000` it serves until it is told to stop, and drains then. */
export const run = <E>(KeptLive: Layer.Layer<Kept, E, EventBus | Registry>) => {
  const AppLive = ShopLive.pipe(
    Layer.provide([ClientLive, WarehouseLive, Dashboard.layer({ title: "Shop" })]),
    Layer.provide(KeptLive),
    Layer.provide(ResilienceLive)
  )
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
}
