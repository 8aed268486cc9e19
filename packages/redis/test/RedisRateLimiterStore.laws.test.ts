import { RedisConnection } from "@effect-resilience/redis"
import { describe } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { ClusterServers } from "./utils/cluster.js"
import { topologies } from "./utils/scale.js"
import { Sentinels } from "./utils/sentinel.js"
import { canStart } from "./utils/server.js"
import { patient, storeLaws } from "./utils/storeLaws.js"

const url = inject("redisUrl")

describe.skipIf(url === undefined)("laws, by one server", () => {
  storeLaws((prefix) => RedisConnection.make({ server: String(url), prefix, ...patient }))
})

if (topologies) {
  describe.skipIf(!canStart)("laws, by a master that sentinels name", () => {
    storeLaws((prefix) =>
      Effect.flatMap(Sentinels.start(), ({ options }) => RedisConnection.make({ server: options, prefix, ...patient }))
    )
  })

  describe.skipIf(!canStart)("laws, by a cluster", () => {
    storeLaws((prefix) =>
      Effect.flatMap(
        ClusterServers.start(),
        ({ options }) => RedisConnection.make({ server: options, prefix, ...patient })
      )
    )
  })
}
