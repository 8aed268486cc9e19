import type { RateLimiterStore } from "@effect-resilience/core"
import * as Exit from "effect/Exit"
import type { RedisConnection } from "../../RedisConnection.js"
import type { Asking, Caller, Listener } from "./batches.js"
import { unanswered } from "./batches.js"
import { batch, decisionOf, decode, encode, keysOf, repliesOf } from "./codec.js"
import type { Plan } from "./plan.js"
import { decideScript } from "./scripts.js"

/** Each decision in a round trip of its own. @internal */
export class Singles implements Asking {
  constructor(private readonly redis: RedisConnection.Service, private readonly listener: Listener) {}

  ask(request: RateLimiterStore.Request, plan: Plan, caller: Caller, asked: number): void {
    const { listener, redis } = this
    const entry = encode(keysOf(redis.prefix, plan, request), plan, request)
    const [keys, args] = batch([entry])
    const generation = listener.generation()
    redis.unsafeRun(decideScript, keys, args, (error, reply) => {
      if (error !== undefined) return caller.resume(Exit.fail(error))
      const [first] = repliesOf(reply)
      if (first === undefined) return caller.resume(Exit.fail(unanswered(redis, keys)))
      const decision = decisionOf(entry, decode(entry, first))
      listener.decided(request, plan, decision, asked, generation)
      caller.resume(Exit.succeed(decision))
    })
  }
}
