import { RedisConnection } from "@effect-resilience/redis"
import { describe } from "@effect/vitest"
import { inject } from "vitest"
import { storeLaws } from "./utils/storeLaws.js"

const url = inject("redisUrl")

describe.skipIf(url === undefined)("laws, by one server", () => {
  storeLaws((prefix) =>
    RedisConnection.make({
      server: { _tag: "Standalone", url: String(url) },
      prefix,
      commandTimeout: "5 seconds",
      socketTimeout: "5 seconds"
    })
  )
})
