/**
 * Last good responses that many processes share, for `staleIfError` of `@effect-resilience/http`.
 *
 * @since 0.1.0
 */
import type { ConfigOf } from "@effect-resilience/core"
import { fromNanos, layerFromConfig, option, orDie } from "@effect-resilience/core/extension"
import { StaleStore, StaleStoreError } from "@effect-resilience/http/StaleStore"
import type { ConfigError } from "effect/ConfigError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { name as nameField } from "./internal/name.js"
import { drop, get, put } from "./internal/stale.js"
import { codec, digest, storeReason, toMicros } from "./internal/stored.js"
import { RedisConnection } from "./RedisConnection.js"
import type { RedisUnavailableError } from "./RedisUnavailableError.js"

/** What the table of the documentation says. @internal */
export const redisStaleStoreFields = {
  name: nameField("redis"),
  maxBytes: option.integer(2 * 1024 * 1024, { min: 0 })
} satisfies option.Fields<RedisStaleStore.Options>

const entries = codec(StaleStore.Entry)

const check = (options: RedisStaleStore.Options) =>
  option.resolve("RedisStaleStore", options.name ?? "redis", redisStaleStoreFields, { ...options })

const make = (
  options: RedisStaleStore.Options = {}
): Effect.Effect<StaleStore.Service, never, RedisConnection> =>
  Effect.gen(function*() {
    const { maxBytes, name } = yield* orDie(() => check(options))
    const redis = yield* RedisConnection
    // Keys are made of URLs and of who asked: long, and no business of whoever reads the keys of a server.
    const keyOf = (key: string) => `${redis.prefix}stale:{${name}:${digest(key)}}`
    const failed = (operation: StaleStoreError["operation"]) => (error: RedisUnavailableError) =>
      new StaleStoreError({ operation, reason: storeReason(error), detail: error.message })
    return {
      get: (key) =>
        Effect.mapBoth(redis.run(get, [keyOf(key)], []), {
          onFailure: failed("get"),
          onSuccess: (reply) => {
            const [text, micros] = reply as readonly [text?: string, micros?: number]
            const entry = text === undefined ? Option.none() : entries.decode(text)
            return Option.map(entry, (entry) => ({ entry, age: fromNanos(BigInt(micros ?? 0) * 1000n) }))
          }
        }),
      put: (key, entry, ttl) =>
        Effect.suspend(() => {
          const text = entries.encode(entry)
          const bytes = Buffer.byteLength(text)
          if (bytes <= maxBytes) {
            return Effect.mapError(redis.run(put, [keyOf(key)], [toMicros(ttl), text]), failed("put"))
          }
          // What was there is older than what there would be.
          const detail = `an entry takes ${bytes} bytes, and maxBytes is ${maxBytes}`
          return Effect.zipRight(
            Effect.mapError(redis.run(drop, [keyOf(key)], []), failed("put")),
            Effect.fail(new StaleStoreError({ operation: "put", detail }))
          )
        })
    }
  })

/**
 * A `StaleStore` in Redis, with the meaning of the one in memory: what one process has kept, each of them serves when there
 * is an error. Each operation is one atomic step by the server's clock, and one round trip; every key expires by itself.
 *
 * When Redis does not answer within `commandTimeout` of the connection nothing is kept or served, and requests are answered
 * as if there were no store.
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisStaleStore = {
  /** The store alone. */
  make,
  /** `make` as a layer. `HttpResilience` has it in the `Registry`, under the name of each policy that uses it. */
  layer: (options: RedisStaleStore.Options = {}): Layer.Layer<StaleStore, never, RedisConnection> =>
    Layer.effect(StaleStore, make(options)),
  /** `layer` with options from `Config`: each a value or a `Config`. A bad one fails the layer with a `ConfigError`. */
  layerConfig: (
    config: ConfigOf<RedisStaleStore.Options>
  ): Layer.Layer<StaleStore, ConfigError, RedisConnection> => layerFromConfig(config, check, RedisStaleStore.layer)
}

/**
 * @since 0.1.0
 */
export declare namespace RedisStaleStore {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** Stores of one name share their entries. Defaults to `"redis"`. */
    readonly name?: string | undefined
    /**
     * Bytes of an entry as it is kept: a body takes a third more there. A larger one is not kept, which fails `put` and is
     * told once a minute. Defaults to `2097152`, 2 MiB.
     */
    readonly maxBytes?: number | undefined
  }
}
