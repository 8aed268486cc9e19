/**
 * A shop that stays up: an HTTP API with its client, a dashboard at /resilience, /metrics, /health and /ready.
 *
 * What it does and by which policies is in `app/shop.ts`; what it depends on, in `app/warehouse.ts`; what it runs on, in
 * `app/run.ts`. This file says where everything is kept, by Layers alone: in the memory of this process. `app-redis.ts` is
 * the same shop, shared by many. It shows itself and ends; with `PORT=3000` it stays.
 */
import { RateLimiterStore } from "@effect-resilience/core"
import { HttpResilience, IdempotencyStore, ResilientHttpClient, StaleStore } from "@effect-resilience/http"
import { Layer } from "effect"
import { run } from "./app/run.js"
import { Till } from "./app/shop.js"

/** Where it is kept what requests used, and what they were answered. */
const StoresLive = Layer.mergeAll(
  RateLimiterStore.layerMemory(),
  IdempotencyStore.layerMemory(),
  StaleStore.layerMemory()
)

/** Where circuits, permits and budgets are kept. */
const PoliciesLive = Layer.mergeAll(
  HttpResilience.Live,
  ResilientHttpClient.Live,
  Till.Live
)

run(PoliciesLive.pipe(Layer.provideMerge(StoresLive)))
