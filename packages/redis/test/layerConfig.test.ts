import type { EventBus, Registry } from "@effect-resilience/core"
import { Fleet, ResilienceLive } from "@effect-resilience/core"
import {
  RedisCircuitBreaker,
  RedisConnection,
  RedisEventStream,
  RedisFleet,
  RedisRateLimiterStore
} from "@effect-resilience/redis"
import { RedisIdempotencyStore, RedisStaleStore } from "@effect-resilience/redis/http"
import { describe, expect, it } from "@effect/vitest"
import type { ConfigError } from "effect"
import { Config, ConfigProvider, Effect, Layer } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"

const url = inject("redisUrl")

const redis = Layer.provideMerge(
  ResilienceLive,
  Layer.orDie(RedisConnection.layer({ server: { _tag: "Standalone", url: String(url) }, prefix: `${randomUUID()}:` }))
)

/** Builds a layer where `OPTION` is so. */
const build = (
  layer: Layer.Layer<never, ConfigError.ConfigError, EventBus | Registry | RedisConnection>,
  option: string
) =>
  Layer.build(Layer.provide(layer, redis)).pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["OPTION", option]])))
  )

const integer = Config.integer("OPTION")
const duration = Config.duration("OPTION")

describe.skipIf(url === undefined)("layers with options from Config", () => {
  const cases = {
    RedisCircuitBreaker: [RedisCircuitBreaker.layerConfig({ quorum: integer, only: ["a"] }), "3", "0", "quorum"],
    RedisEventStream: [RedisEventStream.layerConfig({ queue: integer, stream: "events" }), "5", "0", "queue"],
    RedisFleet: [RedisFleet.layerConfig({ interval: duration }), "1 second", "4 seconds", "expireAfter"],
    RedisRateLimiterStore: [RedisRateLimiterStore.layerConfig({ maxDeniedKeys: integer }), "5", "0", "maxDeniedKeys"],
    RedisIdempotencyStore: [RedisIdempotencyStore.layerConfig({ maxBytes: integer }), "5", "-1", "maxBytes"],
    RedisStaleStore: [RedisStaleStore.layerConfig({ maxBytes: integer, name: "stale" }), "5", "-1", "maxBytes"]
  } as const

  for (const [name, [layer, good, bad, field]] of Object.entries(cases)) {
    it.scopedLive(`${name}: good ones build it, and a bad one fails it by name`, () =>
      Effect.gen(function*() {
        yield* build(layer, good)
        const error = yield* Effect.flip(build(layer, bad))
        expect(error).toMatchObject({ _op: "InvalidData", path: [field] })
        expect(String(error)).toContain(" must be ")
      }))
  }

  it.scopedLive("what they say is what is done", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(RedisFleet.layerConfig({ label: Config.string("LABEL") })).pipe(
        Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["LABEL", "from config"]])))
      )
      const { processes } = yield* Effect.provide(Effect.flatMap(Fleet, ({ view }) => view), context)
      expect(processes.map(({ label }) => label)).toEqual(["from config"])
    }).pipe(Effect.provide(redis)))
})
