/** `npm run test:redis` takes its time; among all tests a shorter version of the long ones runs. */
export const long = process.env.REDIS_LONG === "1"

/** So long, or so many: among all tests, and alone. */
export const scale = (short: number, whole: number): number => long ? whole : short
