import type { Limit } from "@effect-resilience/core"
import { AdaptiveConcurrency } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, FastCheck as fc, Fiber } from "effect"
import { makeManualClock } from "./utils/clock.js"

/*
 * The whole limiter with real fibers, under a clock that is moved by hand and an algorithm whose limit jumps. What must hold
 * is checked whenever all fibers are still: what runs, what the algorithm was told, and what the metrics say are one.
 */

const step = fc.record({
  what: fc.constantFrom("call", "call", "call", "end", "end", "fail", "interrupt", "pass"),
  key: fc.constantFrom("a", "b"),
  n: fc.nat(20),
  limit: fc.integer({ min: 1, max: 4 })
})

const still = async () => {
  for (let turn = 0; turn < 12; turn++) await Promise.resolve()
}

const story = async (fair: boolean, steps: ReadonlyArray<typeof step extends fc.Arbitrary<infer A> ? A : never>) => {
  const manual = makeManualClock()
  const told = { onAdmit: 0, onReject: 0, onSample: 0, onDrop: 0, onIgnore: 0 }
  let limit = 2
  let highest = 2
  let running = 0
  const tell = (what: keyof typeof told) => (state: null, at: Limit.Moment) => {
    told[what]++
    if (!(at.inFlight >= 0 && at.random >= 0 && at.random < 1)) throw new Error("odd moment")
    return state
  }
  const algorithm: Limit<null> = {
    name: "jumping",
    initial: null,
    limit: () => limit,
    onAdmit: tell("onAdmit"),
    onReject: tell("onReject"),
    onSample: tell("onSample"),
    onDrop: tell("onDrop"),
    onIgnore: tell("onIgnore"),
    inspect: () => ({ reason: "jump" })
  }
  const limiter = Effect.runSync(Effect.scoped(
    AdaptiveConcurrency.make({ name: "model", algorithm, maxQueued: 3, maxWait: "50 millis", fair })
  ))
  const calls: Array<{
    state: "new" | "running" | "done"
    end: (exit: Exit.Exit<void, string>) => void
    fiber?: Fiber.RuntimeFiber<void, unknown>
  }> = []
  const wrong: Array<string> = []
  const check = async () => {
    await still()
    const metrics = Effect.runSync(limiter.metrics)
    expect(wrong).toEqual([])
    expect(metrics.active).toBe(running)
    expect(metrics.waiting).toBe(calls.filter(({ state }) => state === "new").length)
    // A permit that is free while somebody waits is a lost one. The limiter learns of a jump with its next step.
    if (metrics.waiting > 0) expect(metrics.active).toBeGreaterThanOrEqual(metrics.limit)
    expect(metrics.offered).toBe(metrics.admitted + metrics.rejected)
    expect(metrics.admitted).toBe(metrics.succeeded + metrics.failed + metrics.ignored + metrics.running)
    expect(metrics.offered + metrics.canceled + metrics.waiting).toBe(calls.length)
    expect([told.onAdmit, told.onSample, told.onDrop, told.onIgnore]).toEqual([
      metrics.admitted,
      metrics.succeeded,
      metrics.failed,
      metrics.ignored
    ])
    highest = limit
  }
  for (const { key, limit: jump, n, what } of steps) {
    const live = calls.filter(({ state }) => state === "running")
    if (what === "call") {
      const call: (typeof calls)[number] = { state: "new", end: () => {} }
      calls.push(call)
      const body = Effect.suspend(() => {
        running++
        call.state = "running"
        if (running > Math.max(highest, Effect.runSync(limiter.state).limit)) wrong.push("over the limit")
        return Effect.onExit(
          Effect.async<void, string>((resume) => {
            call.end = resume
          }),
          () => Effect.sync(() => running--)
        )
      })
      call.fiber = Effect.runFork(
        body.pipe(
          limiter.withPermitBy(fair ? { key } : {}),
          Effect.onExit(() =>
            Effect.sync(() => {
              call.state = "done"
            })
          ),
          Effect.withClock(manual.clock)
        )
      )
    } else if (what === "pass") manual.adjust(`${n * 4} millis`)
    else if (what === "interrupt") {
      const fiber = calls.filter(({ state }) => state !== "done")[n % Math.max(1, calls.length)]?.fiber
      if (fiber !== undefined) Effect.runFork(Fiber.interruptFork(fiber))
    } else {
      if (n % 3 === 0) {
        limit = jump
        highest = Math.max(highest, limit)
      }
      live[n % Math.max(1, live.length)]?.end(what === "end" ? Exit.void : Exit.fail("no"))
    }
    await check()
  }
  for (let left = calls.length; left >= 0; left--) {
    for (const call of calls) if (call.state === "running") call.end(Exit.void)
    await check()
  }
  expect(Effect.runSync(limiter.metrics)).toMatchObject({ active: 0, waiting: 0, running: 0 })
  expect(manual.sleepers()).toBe(0)
}

/** `STORIES=10000` plays so many in all; a short run is enough to see that nothing broke lately. */
const stories = Number(process.env.STORIES ?? 2000)

describe("calls of every kind, under a limit that jumps", () => {
  for (const fair of [false, true]) {
    it(
      `no permit is lost or doubled, and the algorithm is told of each call once (${fair ? "fair" : "one line"})`,
      () =>
        fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 25 }), (steps) => story(fair, steps)), {
          numRuns: stories / 2
        }),
      Math.max(60_000, 30 * stories)
    )
  }
})
