import { Effect, Fiber } from "effect"

/** What a sweep interrupts: something around an effect, and whether everything it counts is back. */
export interface Subject {
  readonly with: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<any, any, R>
  readonly whole: Effect.Effect<boolean>
}

const pad = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.flatMap(Effect.void, () => pad(n - 1))

const yields = (n: number): Effect.Effect<void> =>
  n === 0 ? Effect.void : Effect.zipRight(Effect.yieldNow(), yields(n - 1))

/**
 * Interrupts at every operation, as the sweep of core does where nobody waits for anything, and returns where something
 * was lost: a growing prefix of no-ops moves the yield of a fiber over every operation, and the interruption comes after a
 * growing number of steps.
 */
export const sweep = (make: Effect.Effect<Subject>) =>
  Effect.gen(function*() {
    const leaks: Array<string> = []
    let runs = 0
    for (const budget of [12, 16, 23]) {
      for (let phase = 0; phase <= budget; phase++) {
        for (let steps = 0; steps <= 12; steps++) {
          const subject = yield* make
          const victim = yield* Effect.fork(
            Effect.withMaxOpsBeforeYield(Effect.zipRight(pad(phase), subject.with(Effect.never)), budget)
          )
          yield* yields(steps)
          yield* Fiber.interrupt(victim)
          yield* yields(2)
          runs++
          if (!(yield* subject.whole)) leaks.push(`budget ${budget}, phase ${phase}, steps ${steps}`)
        }
      }
    }
    return { runs, leaks }
  })
