import { RedisConnection } from "@effect-resilience/redis"
import { RedisIdempotencyStore, RedisStaleStore } from "@effect-resilience/redis/http"
import { afterAll, beforeAll, describe } from "@effect/vitest"
import type { Scope } from "effect"
import { Effect, Exit, Scope as Scopes } from "effect"
import { inject } from "vitest"
import { laws as idempotencyLaws } from "../../http/test/IdempotencyStore.laws.js"
import { laws as staleLaws } from "../../http/test/StaleStore.laws.js"
import { ClusterServers } from "./utils/cluster.js"
import { freshPrefix } from "./utils/connected.js"
import { topologies } from "./utils/scale.js"
import { Sentinels } from "./utils/sentinel.js"
import { canStart } from "./utils/server.js"
import { SkewedClock } from "./utils/skewed.js"

/** A machine that is busy may take its time. */
const patient = { commandTimeout: "5 seconds", connectTimeout: "20 seconds", socketTimeout: "5 seconds" } as const

/** The laws by servers that are started once for all of them, on one connection. */
const lawsOf = (servers: Effect.Effect<NonNullable<RedisConnection.Options["server"]>, never, Scope.Scope>) => {
  const clock = new SkewedClock()
  const scope = Effect.runSync(Scopes.make())
  let redis: RedisConnection.Service
  beforeAll(async () => {
    const connected = Effect.flatMap(servers, (server) => clock.connect({ server, prefix: freshPrefix(), ...patient }))
    redis = await Effect.runPromise(Scopes.extend(connected, scope))
  }, 60_000)
  afterAll(() => Effect.runPromise(Scopes.close(scope, Exit.void)), 60_000)
  const on = <A, R>(make: Effect.Effect<A, never, RedisConnection | R>) =>
    Effect.suspend(() => Effect.provideService(make, RedisConnection, redis))
  describe("idempotency", () => idempotencyLaws({ make: on(RedisIdempotencyStore.make()), advance: clock.advance }))
  describe("stale", () => staleLaws({ make: on(RedisStaleStore.make()), advance: clock.advance }))
}

describe.skipIf(inject("redisUrl") === undefined)(
  "laws, by one server",
  () => lawsOf(Effect.succeed(String(inject("redisUrl"))))
)

if (topologies) {
  describe.skipIf(!canStart)("laws, by Sentinel", () => lawsOf(Effect.map(Sentinels.start(), ({ options }) => options)))

  describe.skipIf(!canStart)(
    "laws, on a cluster",
    () => lawsOf(Effect.map(ClusterServers.start(), ({ options }) => options))
  )
}
