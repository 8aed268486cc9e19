/**
 * The shop of `app.ts`, of which any number of processes may run: what they remember they keep in one Redis. Only the
 * Layers differ. `REDIS_URL` says where it is.
 */
import { HttpResilience, ResilientHttpClient } from "@effect-resilience/http"
import {
  RedisBulkhead,
  RedisCircuitBreaker,
  RedisConnection,
  RedisEventStream,
  RedisRateLimiterStore
} from "@effect-resilience/redis"
import { RedisIdempotencyStore, RedisStaleStore } from "@effect-resilience/redis/http"
import { Config, Layer } from "effect"
import { run } from "./app/run.js"
import { Till } from "./app/shop.js"

/** Where it is kept what requests used, and what they were answered. */
const StoresLive = Layer.mergeAll(
  RedisRateLimiterStore.Live,
  RedisIdempotencyStore.layer(),
  RedisStaleStore.layer()
)

/** Where circuits, permits and budgets are kept. */
const PoliciesLive = Layer.mergeAll(
  HttpResilience.Live,
  ResilientHttpClient.Live,
  RedisBulkhead.layer(Till)
).pipe(Layer.provide(RedisCircuitBreaker.layer()))

/** The server, and the events of all shops in one stream. */
const RedisLive = RedisEventStream.Live.pipe(Layer.provideMerge(RedisConnection.layerConfig({
  server: Config.redacted("REDIS_URL"),
  prefix: Config.withDefault(Config.string("REDIS_PREFIX"), "shop:"),
  // Longer than the default of 100 ms: processes that have just begun, on a machine of any speed, answer late themselves.
  commandTimeout: "500 millis"
})))

run(PoliciesLive.pipe(Layer.provideMerge(StoresLive), Layer.provide(RedisLive)))
