import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { keysOf } from "../src/internal/circuit/fleet.js"
import * as scripts from "../src/internal/circuit/scripts.js"
import { Skew } from "../src/internal/skew.js"
import { ask } from "./utils/ask.js"
import { canStart, Server } from "./utils/server.js"

const second = 1_000_000
const hour = 3600 * second

/** The scripts of a circuit that is open for four seconds when one process has opened it, and a clock that a test sets. */
const circuit = Effect.gen(function*() {
  const server = yield* Server.start()
  const clock = { us: 0 }
  const redis = yield* RedisConnection.make({ server: server.url, commandTimeout: "2 seconds" }).pipe(
    Effect.provideService(Skew, () => clock.us)
  )
  let names = 0
  /** Another circuit with each. */
  const make = () => {
    const name = `c${names++}`
    const keys = keysOf(redis.prefix, name, 1000)
    const run = (script: typeof scripts.report, ...args: ReadonlyArray<string | number>) =>
      Effect.map(redis.run(script, keys, ["channel", name, 0, ...args]), (reply) => {
        const [st, ep, left, k, op, granted] = reply as ReadonlyArray<number>
        return { state: scripts.states[st!], epoch: ep!, left: left!, k: k!, op: op!, granted: granted! }
      })
    return {
      trip: (epoch: number) =>
        run(scripts.report, "p", epoch, 1, 1, 0, 1, 1, second, 30 * second, 1, 0.5, 1, 1, 4 * second, 30 * second),
      look: run(scripts.report, "p", 0, 0, 0, 0, 0, 0, second, 30 * second, 1, 0.5, 1, 1, 4 * second, 30 * second),
      probe: run(scripts.probe, "q", 1, second),
      succeed: (epoch: number) => run(scripts.result, "q", epoch, "success", 1, 1, 4 * second),
      reset: (epoch: number) => run(scripts.command, epoch, 0, 0)
    }
  }
  const fill = Effect.promise(() => ask(server.port, "config", "set", "maxmemory", "1"))
  return { clock, fill, make }
})

describe.skipIf(!canStart)("a shared circuit, when the server's clock is set back", () => {
  it.scopedLive("RC16: works where the server's memory is full, too", () =>
    Effect.gen(function*() {
      const { clock, fill, make } = yield* circuit
      const [told, probed, reset] = [make(), make(), make()]
      for (const one of [told, probed, reset]) expect(yield* one.trip(0)).toMatchObject({ state: "Open" })
      yield* fill
      clock.us -= hour
      const { left } = yield* told.look
      expect(left).toBeGreaterThan(3 * second)
      expect(left).toBeLessThanOrEqual(4 * second)
      expect(yield* probed.probe).toMatchObject({ state: "Open", granted: 0 })
      expect(yield* reset.reset(0)).toMatchObject({ state: "Closed", granted: 1 })
      clock.us += 4 * second
      expect(yield* told.look).toMatchObject({ state: "Open", left: 0 })
      expect(yield* probed.probe).toMatchObject({ state: "HalfOpen", granted: 1 })
    }))

  it.scopedLive("RC16: forgets how often it was open, when it has been closed for long", () =>
    Effect.gen(function*() {
      const { clock, make } = yield* circuit
      const { look, probe, succeed, trip } = make()
      yield* trip(0)
      clock.us += 4 * second
      const { epoch } = yield* probe
      const closed = yield* succeed(epoch)
      expect(closed).toMatchObject({ state: "Closed", k: 1 })
      clock.us -= hour
      yield* look
      clock.us += 31 * second
      expect(yield* trip(closed.epoch)).toMatchObject({ state: "Open", k: 1 })
    }))
})
