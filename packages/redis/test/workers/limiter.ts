import { RedisConnection } from "@effect-resilience/redis"
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import { batch, decode, encode, repliesOf } from "../../src/internal/rate/codec.js"
import { Plans } from "../../src/internal/rate/plan.js"
import { decideScript } from "../../src/internal/rate/scripts.js"
import { withBody } from "../utils/fixedClock.js"

/*
 * Asks for one limit of each algorithm, so many times a second, and tells when each call was let through by the server's
 * time: `{ server, prefix, limits, perSecond, seconds }` as JSON.
 */
const { limits, perSecond, prefix, seconds, server } = JSON.parse(process.argv[2] ?? "{}")

/** The script, whose answer comes with the time at which it ran. */
const timed = withBody(decideScript, (body) => `local function run()\n${body}\nend\nreturn {run(), now}`)

const plans = new Plans()
const admitted: Record<string, Array<number>> = {}
const failed: Record<string, number> = {}

const call = (redis: RedisConnection.Service, name: string) => {
  const { algorithm, burst, limit } = limits[name]
  const rates = [{ limit, window: Duration.seconds(1), burst }]
  const request = {
    instance: name,
    key: "all",
    algorithm,
    rates,
    cost: 1,
    mode: "all",
    maxWait: Duration.zero
  } as const
  const entry = encode(redis.prefix, plans.of(request), request)
  return Effect.match(redis.run(timed, ...batch([entry])), {
    onSuccess: (reply) => {
      const [answer = 0, now] = reply as ReadonlyArray<RedisConnection.Reply>
      if (decode(entry, repliesOf(answer)[0] ?? 0).granted > 0) (admitted[name] ??= []).push(Number(now))
    },
    onFailure: ({ reason }) => {
      failed[reason] = (failed[reason] ?? 0) + 1
    }
  })
}

const program = Effect.gen(function*() {
  const redis = yield* RedisConnection.make({ server, prefix, name: randomUUID(), commandTimeout: "1 second" })
  yield* Effect.sync(() => process.send?.("ready"))
  yield* Effect.async<void>((resume) => {
    process.once("message", () => resume(Effect.void))
  })
  const began = performance.now()
  let sent = 0
  while (performance.now() - began < seconds * 1000) {
    const due = Math.floor((performance.now() - began) / 1000 * perSecond)
    for (; sent < due; sent++) {
      for (const name of Object.keys(limits)) yield* Effect.forkScoped(call(redis, name))
    }
    yield* Effect.sleep("5 millis")
  }
  yield* Effect.sleep("1100 millis")
})

await Effect.runPromise(Effect.scoped(program))
process.send?.({ admitted, failed })
process.disconnect()
