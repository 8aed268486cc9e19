/*
 * A process with a connection. `node … <url> leave` opens and closes one when it is told to, `stay` keeps one and counts
 * the lines of its log.
 */
import { RedisConnection } from "@effect-resilience/redis"
import { Effect, Logger } from "effect"

const [, , url = "", mode = ""] = process.argv
let lines = 0
const counting = Logger.replace(
  Logger.defaultLogger,
  Logger.make(() => {
    lines++
  })
)
for (const name of ["log", "warn", "error"] as const) {
  console[name] = () => {
    lines++
  }
}
process.on("uncaughtException", (error) => {
  process.send?.(`uncaught: ${error.message}`)
})

const told = Effect.async<void>((resume) => {
  process.once("message", () => resume(Effect.void))
})

const leave = Effect.gen(function*() {
  const redis = yield* RedisConnection.make({ server: url })
  const dedicated = yield* redis.dedicated
  yield* redis.subscribe("channel", { onMessage: () => {}, onGap: () => {} })
  dedicated.xread("BLOCK", 0, "STREAMS", "nothing", "$").catch(() => {})
  process.send?.("ready")
  yield* told
}).pipe(
  Effect.scoped,
  Effect.tap(() => Effect.sync(() => process.send?.("closed"))),
  Effect.tap(() => Effect.sync(() => process.disconnect()))
)

const stay = Effect.gen(function*() {
  const redis = yield* RedisConnection.make({ server: url, startup: "degrade" })
  yield* redis.subscribe("channel", { onMessage: () => {}, onGap: () => {} })
  process.send?.("ready")
  // A caller every few milliseconds, who goes on whatever happens.
  yield* Effect.fork(Effect.forever(Effect.zipRight(Effect.ignore(redis.command("ping")), Effect.sleep(5))))
  for (;;) {
    yield* told
    process.send?.({ lines, state: (yield* redis.health).status })
  }
}).pipe(Effect.scoped)

void Effect.runPromise(Effect.provide(mode === "leave" ? leave : stay, counting))
