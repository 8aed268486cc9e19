/**
 * Idempotency keys that many processes share, for `Idempotency` of `@effect-resilience/http`.
 *
 * @since 0.1.0
 */
import type { ConfigOf } from "@effect-resilience/core"
import { layerFromConfig, onceAMinute, openInstance, option, orDie } from "@effect-resilience/core/extension"
import { IdempotencyStore, IdempotencyStoreError } from "@effect-resilience/http/IdempotencyStore"
import { StoredResponse } from "@effect-resilience/http/StoredResponse"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import { begin, complete, release } from "./internal/idempotency.js"
import { name as nameField } from "./internal/name.js"
import { codec, storeReason, toMicros } from "./internal/stored.js"
import { RedisConnection } from "./RedisConnection.js"
import type { RedisUnavailableError } from "./RedisUnavailableError.js"

/** What the table of the documentation says. @internal */
export const redisIdempotencyStoreFields = {
  name: nameField("redis"),
  maxBytes: option.integer(2 * 1024 * 1024, { min: 0 })
} satisfies option.Fields<RedisIdempotencyStore.Options>

const responses = codec(StoredResponse)

/** What is kept of a response that cannot be repeated: that there was one. */
const without = (status: number): StoredResponse => ({ status, headers: {}, cookies: [], body: null })

const check = (options: RedisIdempotencyStore.Options) =>
  option.resolve("RedisIdempotencyStore", options.name ?? "redis", redisIdempotencyStoreFields, { ...options })

const make = (
  options: RedisIdempotencyStore.Options = {}
): Effect.Effect<IdempotencyStore.Service, never, RedisConnection | Scope> =>
  Effect.gen(function*() {
    const { maxBytes, name } = yield* orDie(() => check(options))
    const redis = yield* RedisConnection
    const { emitter } = yield* openInstance("IdempotencyStore", name)
    const failed = (operation: IdempotencyStoreError["operation"]) => (error: RedisUnavailableError) =>
      new IdempotencyStoreError({ operation, reason: storeReason(error), detail: error.message })
    /** Whoever is interrupted knows that the step is over: a key that he then lets go is not taken by it any more. */
    const step = (
      operation: IdempotencyStoreError["operation"],
      script: RedisConnection.AnyScript,
      key: string,
      ...args: ReadonlyArray<string | number>
    ) =>
      Effect.uninterruptible(
        Effect.mapError(redis.run(script, [`${redis.prefix}idempotency:{${name}:${key}}`], args), failed(operation))
      )
    const warn = () => onceAMinute((problem) => emitter.internalError("Store", problem))
    const [unreadable, tooLarge] = [warn(), warn()]

    /** A response in another form cannot be repeated, but was given: its request is not carried out again. */
    const done = (fingerprint: string, text: string): Effect.Effect<IdempotencyStore.Begun> =>
      Option.match(responses.decode(text), {
        onSome: (response) => Effect.succeed({ _tag: "Done", fingerprint, response }),
        onNone: () =>
          Effect.as(
            unreadable(
              new Error("a response was kept in a form that this version does not read: it cannot be repeated")
            ),
            { _tag: "Done", fingerprint, response: without(200) }
          )
      })

    /** The text of a response; of one that is too large, only that it was given. */
    const textOf = (response: StoredResponse): Effect.Effect<string> => {
      const text = responses.encode(response)
      const bytes = Buffer.byteLength(text)
      if (bytes <= maxBytes) return Effect.succeed(text)
      const problem = new Error(`a response takes ${bytes} bytes, and maxBytes is ${maxBytes}: it cannot be repeated`)
      return Effect.as(tooLarge(problem), responses.encode(without(response.status)))
    }

    return {
      begin: ({ fingerprint, key, lease, token }) =>
        Effect.flatMap(
          step("begin", begin, key, token, fingerprint, toMicros(lease)),
          (reply): Effect.Effect<IdempotencyStore.Begun> => {
            const [tag, whose, more] = reply as readonly [tag: string, fingerprint: string, more: string | number]
            if (tag === "New") return Effect.succeed({ _tag: "New" })
            const fingerprint = String(whose)
            if (tag === "Done") return done(fingerprint, String(more))
            return Effect.succeed({ _tag: "InFlight", fingerprint, leaseLeft: Duration.micros(BigInt(more)) })
          }
        ),
      complete: ({ fingerprint, key, response, token, ttl }) =>
        Effect.flatMap(
          textOf(response),
          (text) =>
            Effect.map(step("complete", complete, key, token, fingerprint, toMicros(ttl), text), (reply) => reply === 1)
        ),
      release: ({ key, token }) => Effect.map(step("release", release, key, token), (reply) => reply === 1)
    }
  })

/**
 * An `IdempotencyStore` in Redis, with the meaning of the one in memory: of all requests with a key, whichever process they
 * reach, one is carried out, and the others get its response. Each operation is one atomic step by the server's clock, and
 * one round trip; every key expires by itself.
 *
 * When Redis does not answer within `commandTimeout` of the connection, an operation fails with `IdempotencyStoreError`, and
 * `onStoreError` of `Idempotency` decides.
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisIdempotencyStore = {
  /** The store alone. */
  make,
  /** `make` as a layer, watched: it stands in the `Registry`, and what it does is measured. */
  layer: (options: RedisIdempotencyStore.Options = {}): Layer.Layer<IdempotencyStore, never, RedisConnection> =>
    Layer.scoped(
      IdempotencyStore,
      Effect.flatMap(make(options), (store) => IdempotencyStore.watched(options.name ?? "redis", store))
    ),
  /** `layer` with options from `Config`: each a value or a `Config`. A bad one fails the layer with a `ConfigError`. */
  layerConfig: (
    config: ConfigOf<RedisIdempotencyStore.Options>
  ): Layer.Layer<IdempotencyStore, ConfigError, RedisConnection> =>
    layerFromConfig(config, check, RedisIdempotencyStore.layer)
}

/**
 * @since 0.1.0
 */
export declare namespace RedisIdempotencyStore {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** Stores of one name share their keys; what it is called in the `Registry` and in metrics, too. Defaults to `"redis"`. */
    readonly name?: string | undefined
    /**
     * Bytes of a response as it is kept: its body takes a third more there. A larger one cannot be repeated, which is told
     * as an `InternalError`. Defaults to `2097152`, 2 MiB.
     */
    readonly maxBytes?: number | undefined
  }
}
