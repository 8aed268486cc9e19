import { BulkheadFullError } from "@effect-resilience/core"
import { notBegun } from "@effect-resilience/core/extension"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, FiberRef, Option } from "effect"
import { Calls } from "../src/internal/bulkhead/calls.js"
import { pad, yields } from "./utils/moments.js"

const leaseLost = new BulkheadFullError({
  instance: "b",
  reason: "LeaseLost",
  retryAfter: Option.none(),
  active: 1,
  waiting: 0
})

const make = () => {
  let good = true
  const calls = new Calls({ covers: () => good, fence: () => Option.some(1), error: () => leaseLost }, {
    interrupt: true,
    fences: false
  })
  return {
    calls,
    lose: Effect.sync(() => {
      good = false
      calls.interruptAll()
    }),
    renew: Effect.sync(() => {
      good = true
    })
  }
}

/** What a fiber does after its call: it can be interrupted, and is not. */
const after = Effect.flatMap(
  Effect.zipRight(yields(3), FiberRef.get(FiberRef.interruptedCause)),
  (cause) => Cause.isEmpty(cause) ? Effect.void : Effect.dieMessage("it is interrupted still")
)

const told = <A>(exit: Exit.Exit<A, unknown>) =>
  Exit.isSuccess(exit)
    ? String(exit.value)
    : exit.cause === notBegun
    ? "not begun"
    : Cause.isInterruptedOnly(exit.cause)
    ? "interrupted"
    : Option.match(Cause.failureOption(exit.cause), {
      onNone: () => Cause.pretty(exit.cause),
      onSome: (error) => (error as { readonly reason: string }).reason
    })

describe("the calls by a lease", () => {
  it.live("lost at any operation: the call fails, has its answer or does not begin, and its caller goes on", () =>
    Effect.gen(function*() {
      const seen: Record<string, number> = {}
      for (const budget of [12, 17]) {
        for (let phase = 0; phase <= budget; phase++) {
          for (let steps = 0; steps <= 16; steps++) {
            const { calls, lose } = make()
            let began = false
            const body = Effect.suspend(() => {
              began = true
              return Effect.as(pad(12), "answer")
            })
            const fiber = yield* Effect.fork(Effect.withMaxOpsBeforeYield(
              Effect.zipRight(
                pad(phase),
                Effect.flatMap(
                  Effect.exit(calls.around(body)),
                  (exit) => Effect.as(after, exit)
                )
              ),
              budget
            ))
            yield* yields(steps)
            yield* lose
            const end = told(yield* Fiber.join(fiber))
            seen[end] = (seen[end] ?? 0) + 1
            if (end === "not begun") expect(began).toBe(false)
          }
        }
      }
      expect(Object.keys(seen).sort()).toEqual(["LeaseLost", "answer", "not begun"])
    }))

  it.live("a caller that is interrupted too, before or after, is interrupted", () =>
    Effect.gen(function*() {
      for (const first of ["caller", "lease"] as const) {
        for (let steps = 0; steps <= 10; steps++) {
          for (let between = 0; between <= 3; between++) {
            const { calls, lose } = make()
            let finalized = 0
            const fiber = yield* Effect.fork(
              Effect.zipRight(
                calls.around(Effect.ensuring(Effect.never, Effect.sync(() => finalized++))).pipe(
                  Effect.catchAll(() => Effect.never)
                ),
                after
              )
            )
            yield* yields(2 + steps)
            const interrupt = Effect.sync(() => fiber.unsafeInterruptAsFork(fiber.id()))
            yield* first === "caller" ? interrupt : lose
            yield* yields(between)
            yield* first === "caller" ? lose : interrupt
            expect(told(yield* Fiber.await(fiber))).toBe("interrupted")
            expect(finalized).toBe(1)
          }
        }
      }
    }))

  it.live("of two leases, one in the other, each ends its own call", () =>
    Effect.gen(function*() {
      for (const which of ["inner", "outer", "both"] as const) {
        const [outer, inner] = [make(), make()]
        const running = yield* Deferred.make<void>()
        const fiber = yield* Effect.fork(Effect.flatMap(
          Effect.exit(outer.calls.around(
            inner.calls.around(Effect.zipRight(Deferred.succeed(running, void 0), Effect.never)).pipe(
              Effect.catchAll(() => Effect.as(yields(3), "went on"))
            )
          )),
          (exit) => Effect.as(after, exit)
        ))
        yield* Deferred.await(running)
        if (which !== "outer") yield* inner.lose
        if (which !== "inner") yield* outer.lose
        expect(told(yield* Fiber.join(fiber))).toBe(which === "inner" ? "went on" : "LeaseLost")
      }
    }))

  it.live("one that cannot be interrupted goes on, keeps its answer, and so does its caller", () =>
    Effect.gen(function*() {
      const { calls, lose, renew } = make()
      const gate = yield* Deferred.make<string>()
      const fiber = yield* Effect.fork(
        Effect.zipLeft(Effect.uninterruptible(calls.around(Deferred.await(gate))), after)
      )
      yield* yields(5)
      yield* lose
      yield* yields(5)
      yield* Deferred.succeed(gate, "answer")
      expect(yield* Fiber.join(fiber)).toBe("answer")
      // What begins without a lease does not run, and what begins with the next one does.
      expect(told(yield* Effect.exit(calls.around(Effect.dieMessage("it ran"))))).toBe("not begun")
      yield* renew
      expect(yield* calls.around(Effect.succeed("ran"))).toBe("ran")
    }))

  it.live("its own error and its defects are told, whether the lease is lost or not", () =>
    Effect.gen(function*() {
      const { calls, lose } = make()
      expect(yield* Effect.flip(calls.around(Effect.fail("mine")))).toBe("mine")
      const running = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(calls.around(
        Effect.zipRight(Deferred.succeed(running, void 0), Effect.never).pipe(
          Effect.onInterrupt(() => Effect.dieMessage("cleaning up failed"))
        )
      ))
      yield* Deferred.await(running)
      yield* lose
      const exit = yield* Fiber.await(fiber)
      expect(told(exit)).toBe("LeaseLost")
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("cleaning up failed")
    }))
})
