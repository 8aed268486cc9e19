import type { Guard } from "@effect-resilience/core/Pattern"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Ref } from "effect"
import type { Handlers } from "../src/internal/guard.js"
import { hold, observe, observeOwned } from "../src/internal/guard.js"

const pad = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.flatMap(Effect.void, () => pad(n - 1))

describe("the fact that the guards rest on", () => {
  it.live(
    "a Ref operation and the callback after it are one step: nothing runs between, at any budget",
    () =>
      Effect.gen(function*() {
        for (const budget of [10, 11, 12, 13, 16, 23, 64]) {
          for (let phase = 0; phase <= budget; phase++) {
            const ref = yield* Ref.make(0)
            let torn = 0
            const step = Effect.flatMap(Ref.modify(ref, (n) => [n + 1, n + 1]), (mine) => {
              if (Effect.runSync(Ref.get(ref)) !== mine) torn++
              return Effect.void
            })
            const loop = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.zipRight(step, loop(n - 1))
            const fibers = yield* Effect.forEach(
              [0, 1, 2],
              () => Effect.fork(Effect.withMaxOpsBeforeYield(Effect.zipRight(pad(phase), loop(20)), budget))
            )
            yield* Fiber.joinAll(fibers)
            expect([torn, yield* Ref.get(ref)]).toEqual([0, 60])
          }
        }
      }),
    60_000
  )

  it.live("control: with one operation between, other fibers get in", () =>
    Effect.gen(function*() {
      let torn = 0
      for (let phase = 0; phase <= 12; phase++) {
        const ref = yield* Ref.make(0)
        const step = Effect.flatMap(Ref.modify(ref, (n) => [n + 1, n + 1]), (mine) =>
          Effect.flatMap(Ref.get(ref), (now) =>
            Effect.sync(() => {
              if (now !== mine) {
                torn++
              }
            })))
        const loop = (n: number): Effect.Effect<void> =>
          n === 0 ? Effect.void : Effect.zipRight(step, loop(n - 1))
        const fibers = yield* Effect.forEach([0, 1, 2], () =>
          Effect.fork(Effect.withMaxOpsBeforeYield(Effect.zipRight(pad(phase), loop(20)), 12)))
        yield* Fiber.joinAll(fibers)
      }
      expect(torn).toBeGreaterThan(0)
    }))
})

const counting = () => {
  const log: Array<string> = []
  const handlers: Handlers = {
    onSuccess: (value) => {
      log.push("success")
      return Exit.succeed(value)
    },
    onFailure: (cause) => {
      log.push("failure")
      return Exit.failCause(cause)
    }
  }
  return { handlers, log }
}

describe("hold", () => {
  it.effect("settles every admitted call once, however it ends", () =>
    Effect.gen(function*() {
      const { handlers, log } = counting()
      const guard = hold((_, run) => run(handlers))
      yield* guard(Effect.void)
      yield* Effect.exit(guard(Effect.fail("no")))
      yield* Effect.exit(guard(Effect.die("bug")))
      const call = yield* Effect.fork(guard(Effect.never))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(call)
      expect(log).toEqual(["success", "failure", "failure", "failure"])
    }))

  it.effect("keeps a caller that cannot be interrupted so", () =>
    Effect.gen(function*() {
      const { handlers, log } = counting()
      const guard = hold((_, run) => run(handlers))
      const body = Effect.zipRight(Effect.yieldNow(), Effect.sync(() => log.push("body")))
      const call = yield* Effect.fork(Effect.uninterruptible(guard(body)))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(call)
      expect(log).toEqual(["body", "success"])
    }))

  it.effect("a guarded effect can be run by many fibers at once", () =>
    Effect.gen(function*() {
      const { handlers, log } = counting()
      const call = hold((_, run) => run(handlers))(Effect.yieldNow())
      yield* Effect.all(Array.from({ length: 100 }, () => call), { concurrency: "unbounded" })
      expect(log).toHaveLength(100)
    }))
})

describe("observe", () => {
  it.effect("follows the state: handlers for some, another guard for others", () =>
    Effect.gen(function*() {
      const { handlers, log } = counting()
      const ref = yield* Ref.make<"open" | "closed">("closed")
      const guard = observe<"open" | "closed", "rejected">(Ref.get(ref), (state) =>
        state === "closed" ? handlers : () => Effect.fail("rejected"))
      const call = guard(Effect.succeed(1))
      expect(yield* call).toBe(1)
      yield* Ref.set(ref, "open")
      expect(yield* Effect.flip(call)).toBe("rejected")
      yield* Ref.set(ref, "closed")
      expect(yield* call).toBe(1)
      expect(log).toEqual(["success", "success"])
    }))

  it.effect("does not see a call that is interrupted from outside", () =>
    Effect.gen(function*() {
      const { handlers, log } = counting()
      const guard = observe(Effect.void, () => handlers)
      const call = yield* Effect.fork(guard(Effect.never))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(call)
      expect(log).toEqual([])
    }))
})

describe("observeOwned", () => {
  it.effect("decides anew with each call, in the step that has the fiber, and builds once for each choice", () =>
    Effect.gen(function*() {
      const { handlers, log } = counting()
      let built = 0
      const other: Guard = (effect) => {
        built++
        return effect
      }
      const full = Exit.fail("full")
      const choices = [other, handlers, full, handlers, other, other]
      const fibers: Array<unknown> = []
      const call = observeOwned((fiber) => {
        fibers.push(fiber.id())
        return choices.shift() ?? full
      })(Effect.succeed("ran"))
      const ended: Array<unknown> = []
      for (let i = 0; i < 7; i++) ended.push(yield* Effect.merge(call))
      expect(ended).toEqual(["ran", "ran", "full", "ran", "ran", "ran", "full"])
      expect(log).toEqual(["success", "success"])
      expect(built).toBe(2)
      expect(new Set(fibers)).toEqual(new Set([yield* Effect.fiberId]))
    }))
})
