import { RedisConnection } from "@effect-resilience/redis"
import { Duration, Effect } from "effect"
import { Skew } from "../../src/internal/connection.js"

let made = 0

/** A prefix that no other test has. */
export const freshPrefix = (): string => `test-${process.pid}-${Date.now()}-${++made}:`

export const standalone = (url: string) => ({ _tag: "Standalone", url }) as const

/** A connection with keys of its own. */
export const connect = (url: string, options: RedisConnection.Options = {}) =>
  RedisConnection.make({ server: standalone(url), prefix: freshPrefix(), commandTimeout: "1 second", ...options })

/** A connection to a server whose clock the test moves. */
export const withClock = (url: string) => {
  let ahead = 0
  return {
    connect: Effect.provideService(connect(url), Skew, () => ahead),
    advance: (span: Duration.DurationInput) =>
      Effect.sync(() => {
        ahead += Duration.toMillis(span) * 1000
      })
  }
}
