/* A process with a connection to the server at its argument, which it opens, and closes when it is told to. */
import { RedisConnection } from "@effect-resilience/redis"
import { Effect } from "effect"
import { leave, tell, told } from "../utils/parent.js"

const [, , server = ""] = process.argv

void Effect.gen(function*() {
  const redis = yield* RedisConnection.make({ server })
  const dedicated = yield* redis.dedicated
  yield* redis.subscribe("channel", { onMessage: () => {}, onGap: () => {} })
  dedicated.xread("BLOCK", 0, "STREAMS", "nothing", "$").catch(() => {})
  tell("ready")
  yield* told
}).pipe(
  Effect.scoped,
  Effect.zipRight(Effect.sync(() => leave("closed"))),
  Effect.runPromise
)
