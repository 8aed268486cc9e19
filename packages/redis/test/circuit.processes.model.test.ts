import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Runtime } from "effect"
import { inject } from "vitest"
import { Skew } from "../src/internal/skew.js"
import type { Outcome } from "./utils/circuitFleet.js"
import type { Ground } from "./utils/circuitWorld.js"
import { openFor, Seen, World } from "./utils/circuitWorld.js"
import { scale } from "./utils/scale.js"

const url = inject("redisUrl")

const second = 1_000_000
const count = 3

type Step =
  /** A call that ends at once, or later by `end`. */
  | { readonly _tag: "call"; readonly who: number; readonly outcome: Outcome | undefined; readonly answered: boolean }
  | { readonly _tag: "end"; readonly pick: number; readonly outcome: Outcome }
  | { readonly _tag: "answer"; readonly who: number; readonly pick: number; readonly lost: boolean }
  | { readonly _tag: "hear" | "gap" | "mute" | "speak" | "restart"; readonly who: number }
  /** Two fail until all are open; then it may be time to probe. */
  | { readonly _tag: "outage"; readonly waits: boolean }
  /** The time of an open circuit is over, and probes go well until all hear that it is closed. */
  | { readonly _tag: "repair" }
  /** The server and all processes, or one process, or the server's clock alone. */
  | { readonly _tag: "pass"; readonly micros: number }
  | { readonly _tag: "jump"; readonly who: number; readonly micros: number }
  | { readonly _tag: "server"; readonly micros: number }
  | { readonly _tag: "hearAll" | "restartAll" | "flushAll" }

const who = fc.nat(count - 1)
const weighted = <T>(weight: number, arbitrary: fc.Arbitrary<T>) => ({ weight, arbitrary })
const tagged = <const T extends string, R>(_tag: T, rest: { readonly [K in keyof R]: fc.Arbitrary<R[K]> }) =>
  fc.record({ _tag: fc.constant(_tag), ...rest } as never) as unknown as fc.Arbitrary<{ readonly _tag: T } & R>

const step: fc.Arbitrary<Step> = fc.oneof(
  weighted(
    14,
    tagged("call", {
      who,
      outcome: fc.constantFrom<Outcome | undefined>("failure", "success", undefined, undefined),
      answered: fc.nat(3).map((n) => n > 0)
    })
  ),
  weighted(8, tagged("end", { pick: fc.nat(9), outcome: fc.constantFrom<Outcome>("success", "success", "failure") })),
  weighted(8, tagged("answer", { who, pick: fc.nat(3), lost: fc.nat(7).map((n) => n === 0) })),
  weighted(3, fc.constant({ _tag: "hearAll" as const })),
  weighted(4, tagged("outage", { waits: fc.boolean() })),
  weighted(3, fc.constant({ _tag: "repair" as const })),
  weighted(6, fc.record({ _tag: fc.constantFrom("hear" as const, "hear" as const, "gap" as const), who })),
  weighted(2, fc.record({ _tag: fc.constantFrom("mute" as const, "speak" as const, "speak" as const), who })),
  weighted(6, tagged("pass", { micros: fc.constantFrom(second / 10, second, 2 * second, openFor) })),
  weighted(1, tagged("jump", { who, micros: fc.constantFrom(2 * second, 60 * second) })),
  weighted(1, tagged("server", { micros: fc.constantFrom(-20 * second, -second, 20 * second) })),
  weighted(2, fc.record({ _tag: fc.constant("restart" as const), who })),
  weighted(1, fc.constant({ _tag: "restartAll" as const })),
  weighted(1, fc.constant({ _tag: "flushAll" as const }))
)

/** What once failed. */
const kept: ReadonlyArray<ReadonlyArray<Step>> = [
  // Two leases are heard of after the server's clock was set back, and their time passes before anybody looks at them.
  [
    { _tag: "outage", waits: true },
    { _tag: "restart", who: 0 },
    { _tag: "call", who: 1, outcome: undefined, answered: false },
    { _tag: "server", micros: -20 * second },
    { _tag: "jump", who: 0, micros: 2 * second },
    { _tag: "outage", waits: true },
    { _tag: "call", who: 0, outcome: undefined, answered: false }
  ]
]

const take = async (world: World, ground: Ground, one: Step): Promise<void> => {
  const { calls, open, processes } = world
  const process = "who" in one ? processes[one.who]! : processes[0]!
  switch (one._tag) {
    case "call": {
      const { length } = calls
      await process.call()
      await process.settle()
      if (one.answered) await process.hearAnswers()
      const begun = calls.slice(length)
      return begun.forEach(({ end }) => one.outcome !== undefined && end(one.outcome))
    }
    case "end":
      return open[one.pick % Math.max(1, open.length)]?.end(one.outcome)
    case "answer":
      return process.answer(one.pick, one.lost)
    case "outage":
      await world.outage()
      return one.waits ? world.pass(openFor) : undefined
    case "repair":
      return world.repair()
    case "hear":
      return process.hear()
    case "gap":
      return process.gap()
    case "mute":
    case "speak":
      process.isMute = one._tag === "mute"
      return
    case "restart":
      return world.restart(one.who)
    case "pass":
      return world.pass(one.micros)
    case "jump":
      return process.pass(one.micros)
    case "server":
      ground.skew += one.micros
      return
    case "hearAll":
      return world.hearAll()
    case "restartAll":
      return world.restartAll()
    case "flushAll":
      return world.forget()
  }
}

describe.skipIf(url === undefined)("the processes of a shared circuit", () => {
  it.scopedLive(
    "RC15: whatever is lost, late, restarted or set wrong: no probe too many, no closing without probes, and all work again",
    () =>
      Effect.gen(function*() {
        const clock = { skew: 0, deliver: (_: string) => {} }
        const redis = yield* RedisConnection.make({
          server: { _tag: "Standalone", url: String(url) },
          prefix: `cp${process.pid}:`,
          commandTimeout: "5 seconds"
        }).pipe(Effect.provideService(Skew, () => clock.skew))
        const run = Runtime.runPromise(yield* Effect.runtime<never>())
        const ground: Ground = Object.assign(clock, { redis, run })
        const onMessage = (message: string) => ground.deliver(message)
        yield* redis.subscribe(`${redis.prefix}cb:`, { onMessage, onGap: () => {} })
        const seen = new Seen()
        const steps: fc.Arbitrary<ReadonlyArray<Step>> = fc.array(step, { minLength: 15, maxLength: 50 })
        const property = fc.asyncProperty(steps, async (steps) => {
          const world = await World.make(ground, seen, count)
          for (const one of steps) {
            await take(world, ground, one)
            await world.settle()
            await world.check()
          }
          await world.recover()
        })
        yield* Effect.promise(() =>
          fc.assert(property, { numRuns: scale(60, 1500), examples: kept.map((steps) => [steps]) })
        )
        // All of it happened.
        for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(0)
      }),
    300_000
  )
})
