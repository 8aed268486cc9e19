/** The test projects. */
export default ["packages/*", "packages/redis/vitest.ioredis6.config.ts"]
