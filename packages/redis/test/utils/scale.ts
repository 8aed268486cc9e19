/** `npm run test:redis` takes its time; among all tests a shorter version of the long ones runs. */
export const long = process.env.REDIS_LONG === "1"

/** Sentinel and a cluster with both versions of ioredis take the time of the whole. */
export const topologies = long || process.env.IOREDIS !== "6"

/** So long, or so many: among all tests, and alone. */
export const scale = (short: number, whole: number): number => long ? whole : short
