/** All that is measured, by name. */
import { captured, connection, limiters, ours } from "./ours.js"
import { bare, experimental, flexible, leastAtOnce, leastThatWaits, type Subject, trivial } from "./peers.js"

const bareOfOurs = async (url: string): Promise<Subject> => {
  const { of, script } = await captured(url)
  return bare(url, script, (key) => of[key] ?? { keys: [], args: [] })
}

export const subjects: Readonly<Record<string, (url: string) => Promise<Subject>>> = {
  "bare EVALSHA, trivial": trivial,
  "bare EVALSHA, our script": bareOfOurs,
  "our connection, trivial": connection,
  "rate-limiter-flexible": flexible,
  "@effect/experimental": experimental,
  "an Effect that waits": async () => leastThatWaits,
  "an Effect that does not": async () => leastAtOnce,
  ...ours,
  ...Object.fromEntries(Object.entries(limiters).map(([name, make]) => [`RateLimiter, ${name}`, make]))
}
