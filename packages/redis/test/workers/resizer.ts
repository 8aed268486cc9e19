import { ResilienceLive } from "@effect-resilience/core"
import { Admin } from "@effect-resilience/http"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { Effect, Layer } from "effect"
import { tell } from "../utils/parent.js"

/* A process whose operator changes the limit of a bulkhead for a while. */

export interface Setup {
  readonly url: string
  readonly name: string
  readonly maxConcurrent: number
  readonly to: number
  readonly seconds: number
}

const { maxConcurrent, name, seconds, to, url }: Setup = JSON.parse(String(process.argv[2]))

const connection = RedisConnection.layer({ server: { _tag: "Standalone", url }, commandTimeout: "2 seconds" })

const program = Effect.gen(function*() {
  yield* RedisBulkhead.make({ name, maxConcurrent })
  const order = { pattern: "Bulkhead", instance: name, action: "resize", input: to, reason: "a test" }
  const { previous } = yield* Effect.flatMap(
    Admin,
    ({ apply }) => apply({ ...order, ttl: seconds * 1000 }, { name: "operator" })
  )
  tell(previous)
  yield* Effect.never
}).pipe(Effect.scoped, Effect.provide(connection), Effect.provide(Admin.Live.pipe(Layer.provideMerge(ResilienceLive))))

void Effect.runPromise(program)
