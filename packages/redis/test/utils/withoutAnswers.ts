import { RedisConnection, RedisUnavailableError } from "@effect-resilience/redis"
import { Effect } from "effect"

/** A connection that loses the answers of scripts while it is told to: the server has done what it was asked. */
export class WithoutAnswers {
  heard = 0
  lost = 0
  losing = false
  /** What an answer takes to be lost. */
  waits: Effect.Effect<void> = Effect.void
  readonly redis: RedisConnection.Service

  constructor(redis: RedisConnection.Service) {
    this.redis = Object.assign(Object.create(redis) as RedisConnection.Service, {
      run: (...[script, keys, args]: Parameters<RedisConnection.Service["run"]>) =>
        Effect.tap(redis.run(script, keys, args), () => {
          if (!this.losing) return Effect.sync(() => this.heard++)
          this.lost++
          return Effect.zipRight(
            this.waits,
            new RedisUnavailableError({ connection: redis.name, command: script.name, reason: "Timeout" })
          )
        })
    })
  }

  readonly provide = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provideService(effect, RedisConnection, this.redis)
}
