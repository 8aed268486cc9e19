import { RedisConnection } from "@effect-resilience/redis"
import { Effect } from "effect"
import { randomUUID } from "node:crypto"

/** A prefix that no other test has. */
export const freshPrefix = (): string => `${randomUUID()}:`

/** A connection with keys of its own to a server that is there. */
export const connect = (server: string, options: RedisConnection.Options = {}) =>
  Effect.orDie(RedisConnection.make({ server, prefix: freshPrefix(), commandTimeout: "1 second", ...options }))
