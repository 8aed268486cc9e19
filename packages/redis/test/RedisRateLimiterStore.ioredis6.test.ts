import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Redis } from "ioredis"
import { Redis as Redis6 } from "ioredis6"
import { inject, vi } from "vitest"
import { patient, storeLaws } from "./utils/storeLaws.js"

vi.mock("ioredis", () => import("ioredis6"))

const url = inject("redisUrl")

describe.skipIf(url === undefined)("laws, with ioredis 6", () => {
  it("is what the package is given here", () => {
    expect(Redis).toBe(Redis6)
  })
  storeLaws((prefix) => RedisConnection.make({ server: String(url), prefix, ...patient }))
})
