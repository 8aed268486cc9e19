import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Runtime } from "effect"
import { inject } from "vitest"
import { keysOf } from "../src/internal/circuit/fleet.js"
import { readMessage } from "../src/internal/circuit/link.js"
import * as scripts from "../src/internal/circuit/scripts.js"
import type { Script } from "../src/internal/script.js"
import { Skew } from "../src/internal/skew.js"
import * as model from "./utils/circuitModel.js"
import { scale } from "./utils/scale.js"

const url = inject("redisUrl")

const second = 1_000_000

interface Report {
  readonly _tag: "report"
  readonly who: number
  readonly calls: number
  readonly failures: number
  readonly failing: boolean
  readonly tripped: boolean
}

type Step =
  | Report
  | { readonly _tag: "probe"; readonly most: number }
  | { readonly _tag: "result"; readonly pick: number; readonly outcome: string; readonly need: number }
  | { readonly _tag: "command"; readonly to: number; readonly seconds: number }
  | { readonly _tag: "pass"; readonly micros: number }
  /** The next step brings the epoch of this long ago. */
  | { readonly _tag: "stale"; readonly back: number }
  /** The server forgets everything. */
  | { readonly _tag: "lose" }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      _tag: fc.constant("report" as const),
      who: fc.nat(3),
      calls: fc.nat(6),
      failures: fc.nat(6),
      failing: fc.nat(3).map((n) => n > 0),
      tripped: fc.nat(3).map((n) => n === 0)
    }).map((r) => ({ ...r, failures: Math.min(r.failures, r.calls) }))
  },
  { weight: 8, arbitrary: fc.record({ _tag: fc.constant("probe" as const), most: fc.integer({ min: 1, max: 3 }) }) },
  {
    weight: 8,
    arbitrary: fc.record({
      _tag: fc.constant("result" as const),
      pick: fc.nat(5),
      outcome: fc.constantFrom("success", "success", "failure", "ignored", "open"),
      need: fc.integer({ min: 1, max: 2 })
    })
  },
  {
    weight: 1,
    arbitrary: fc.record({
      _tag: fc.constant("command" as const),
      to: fc.constantFrom(0, 3, 4, 5),
      seconds: fc.integer({ min: -1, max: 20 })
    })
  },
  {
    weight: 6,
    // Most of it around the open times; now and then a clock that is set back.
    arbitrary: fc.oneof(
      { weight: 8, arbitrary: fc.integer({ min: 1, max: 8 * second }) },
      { weight: 1, arbitrary: fc.integer({ min: 30 * second, max: 70 * second }) },
      { weight: 1, arbitrary: fc.integer({ min: -5 * second, max: 0 }) }
    ).map((micros) => ({ _tag: "pass" as const, micros }))
  },
  { weight: 2, arbitrary: fc.nat(3).map((back) => ({ _tag: "stale" as const, back })) },
  { weight: 1, arbitrary: fc.nat(2).map((n) => ({ _tag: n === 0 ? "lose" as const : "stale" as const, back: 1 })) }
)

const shape = fc.record({
  window: fc.constantFrom(2 * second, 30 * second),
  minimum: fc.integer({ min: 1, max: 8 }),
  failureRate: fc.constantFrom(0.1, 0.5, 1),
  quorum: fc.integer({ min: 1, max: 3 }),
  length: fc.constantFrom(4 * second, 2 * second, 4 * second, -1),
  most: fc.integer({ min: 1, max: 3 }),
  advisory: fc.nat(4).map((n) => n === 0)
})

const lease = 3 * second

describe.skipIf(url === undefined)("the scripts of a shared circuit", () => {
  it.scopedLive(
    "RC5 RC10 RC16: answer as the model does, with epochs that only grow, and every key ends",
    () =>
      Effect.gen(function*() {
        let skew = 0
        const redis = yield* RedisConnection.make({
          server: { _tag: "Standalone", url: String(url) },
          prefix: `cm${process.pid}:`,
          commandTimeout: "5 seconds"
        }).pipe(Effect.provideService(Skew, () => skew))
        const heard: Array<string> = []
        const channel = `cm${process.pid}`
        yield* redis.subscribe(channel, { onMessage: (message) => heard.push(message), onGap: () => {} })
        const run = Runtime.runPromise(yield* Effect.runtime<never>())
        let runs = 0
        const seen = { granted: 0, opened: 0, closed: 0, fenced: 0, published: 0 }

        const property = fc.asyncProperty(shape, fc.array(step, { minLength: 30, maxLength: 90 }), async (s, steps) => {
          const name = `c ${runs++}}\n`
          const settings = { ...s, bucket: Math.max(second, s.window / 10), slowRate: 1 }
          const keys = keysOf(redis.prefix, name, settings.bucket / 1000)
          const begun = [channel, name, s.advisory ? 1 : 0]
          const given: Array<{ readonly id: string; readonly epoch: number }> = []
          const epochs = [0]
          let back = 0
          let m = model.empty
          skew = 0
          for (const one of steps) {
            if (one._tag === "pass") skew += one.micros
            if (one._tag === "stale") back = one.back
            if (one._tag === "lose") {
              await run(redis.command("del", ...keys))
              m = model.empty
            }
            if (one._tag === "pass" || one._tag === "stale" || one._tag === "lose") continue
            const epoch = epochs.at(-1 - back) ?? 0
            const before = m
            let extra = [0, 0]
            const ask = async (script: Script, args: ReadonlyArray<string | number>) =>
              (await run(redis.run(script, keys, [...begun, ...args]))) as ReadonlyArray<number>
            let reply: ReadonlyArray<number>
            const now = () => Number(reply[6])
            if (one._tag === "report") {
              const { calls, failing, failures, tripped, who } = one
              const instance = `p${who}`
              reply = await ask(scripts.report, [
                ...[instance, epoch, calls, failures, 0, failing ? 1 : 0, tripped ? 1 : 0, settings.bucket],
                ...[s.window, s.minimum, s.failureRate, 1, s.quorum, s.length, s.window]
              ])
              const r = { instance, epoch, calls, failures, slow: 0, failing, tripped, length: s.length }
              m = model.report(m, r, settings, now(), s.advisory)
            } else if (one._tag === "probe") {
              const id = `q${given.length}`
              reply = await ask(scripts.probe, [id, one.most, lease])
              const [granted, full, after] = model.probe(m, id, one.most, lease, now(), s.advisory)
              m = after
              extra = [granted ? 1 : 0, full]
              given.push({ id, epoch: m.ep })
              if (granted) seen.granted++
            } else if (one._tag === "result") {
              const { epoch, id } = given[one.pick % Math.max(given.length, 1)] ?? { id: "none", epoch: 0 }
              const { need, outcome } = one
              const r = { id, epoch: back === 0 ? epoch : epoch - 1, outcome, length: s.length }
              reply = await ask(scripts.result, [id, r.epoch, outcome, s.most, Math.min(need, s.most), s.length])
              m = model.result(m, r, s.most, Math.min(need, s.most), now(), s.advisory)
              if (m === before) seen.fenced++
            } else {
              const length = one.seconds * second
              reply = await ask(scripts.command, [epoch, one.to, length])
              const [done, after] = model.command(m, epoch, one.to, length, now(), s.advisory)
              m = after
              extra = [done ? 1 : 0, 0]
            }
            const [granted = 0, full = 0] = extra
            expect(reply.slice(0, 6), JSON.stringify(one)).toEqual([
              m.st,
              m.ep,
              m.st === 2 ? full : model.left(m, now()),
              m.k,
              m.op,
              granted
            ])
            if (m.ep !== before.ep) {
              expect(m.ep).toBeGreaterThan(before.ep)
              epochs.push(m.ep)
              if (m.st === 1) seen.opened++
              if (m.st === 0) seen.closed++
            }
            back = 0
          }
          for (const key of keys) {
            const ttl = Number(await run(redis.command("pttl", key)))
            expect(ttl, key).not.toBe(-1)
            // What is older than the window counts for nothing, and takes no room.
            const isVotes = keys.indexOf(key) > 0 && keys.indexOf(key) < 5
            const longest = isVotes ? (s.window + settings.bucket) / 1000 : scripts.remembered + 70_000
            expect(ttl, key).toBeLessThanOrEqual(longest)
          }
          for (const message of heard.splice(0)) {
            const told = readMessage(message)
            if (told?.name === name) {
              seen.published++
              // Not only the last: a script may end one state and begin another.
              expect(told.epoch).toBeLessThanOrEqual(Math.max(...epochs))
              expect(told.state).not.toBe(2)
            }
          }
        })
        yield* Effect.promise(() => fc.assert(property, { numRuns: scale(250, 4000) }))
        // All of it happened: a model that nothing reaches shows nothing.
        for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(20)
      }),
    120_000
  )
})
