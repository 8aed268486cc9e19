import { RedisConnection } from "@effect-resilience/redis"
import { Effect } from "effect"

/** A connection that counts the calls of scripts, and holds their answers back while it is told to. */
export class Spied {
  calls = 0
  /** Keys of each call. */
  readonly keys: Array<number> = []
  private held: Array<() => void> | undefined

  readonly redis: RedisConnection.Service

  constructor(redis: RedisConnection.Service) {
    this.redis = Object.assign(Object.create(redis) as RedisConnection.Service, {
      unsafeRun: (...[script, keys, args, settled]: Parameters<RedisConnection.Service["unsafeRun"]>) => {
        this.calls++
        this.keys.push(keys.length)
        redis.unsafeRun(script, keys, args, (error, reply) => {
          if (this.held === undefined) settled(error, reply)
          else this.held.push(() => settled(error, reply))
        })
      }
    })
  }

  hold(): void {
    this.held ??= []
  }

  release(): void {
    const held = this.held ?? []
    this.held = undefined
    for (const answer of held) answer()
  }

  readonly provide = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provideService(effect, RedisConnection, this.redis)
}
