import { defineProject, mergeConfig } from "vitest/config"
import redis from "./vitest.config.js"

const include = process.env.REDIS_LONG === "1"
  ? ["test/**/*.test.ts"]
  : ["test/{RedisConnection,options,*[lL]aws}.test.ts"]

/**
 * Tests once more with the other major version of ioredis: those of the connection and the laws of the services, and at
 * full length all. Other processes that tests start have the first version.
 */
export default mergeConfig(
  { ...redis, test: { ...redis.test, include: [] } },
  defineProject({
    resolve: { alias: { ioredis: "ioredis6" } },
    test: { name: "redis-ioredis6", include, env: { IOREDIS: "6" } }
  })
)
