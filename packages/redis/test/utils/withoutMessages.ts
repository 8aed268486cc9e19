import { RedisConnection } from "@effect-resilience/redis"
import { Effect, Layer } from "effect"

/** A connection that hears no message. */
export const deaf = Layer.effect(
  RedisConnection,
  Effect.map(
    RedisConnection,
    (redis): RedisConnection.Service => Object.create(redis, { subscribe: { value: () => Effect.void } })
  )
)
