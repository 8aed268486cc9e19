import { Deferred, Effect, Fiber } from "effect"

/** What a sweep interrupts: a guard, and whether everything it hands out is back. */
export interface Subject {
  readonly with: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, any, R>
  readonly whole: Effect.Effect<boolean>
}

const pad = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.flatMap(Effect.void, () => pad(n - 1))

const yields = (n: number): Effect.Effect<void> =>
  n === 0 ? Effect.void : Effect.zipRight(Effect.yieldNow(), yields(n - 1))

/**
 * Interrupts a guarded call at every operation and returns where something was lost.
 *
 * The fiber yields after `budget` operations; a growing prefix of no-ops moves that yield over every operation of the
 * guard, and the interruption arrives after a growing number of steps. A yield is the only place where another fiber can
 * run, so this reaches every point at which an interruption can be seen. Budgets below 10 never make progress.
 *
 * With `contended`, another call holds the only permit and lets it go just before the interruption, so that a waiter is
 * interrupted while it waits, while it is handed the permit, and after.
 */
export const sweep = (
  make: Effect.Effect<Subject>,
  options: {
    readonly budgets?: ReadonlyArray<number>
    readonly contended?: ReadonlyArray<boolean>
    readonly body?: Effect.Effect<unknown, unknown>
    readonly steps?: number
  } = {}
): Effect.Effect<{ readonly runs: number; readonly leaks: ReadonlyArray<string> }> =>
  Effect.gen(function*() {
    const leaks: Array<string> = []
    let runs = 0
    for (const budget of options.budgets ?? [12, 16, 23]) {
      for (const contended of options.contended ?? [false, true]) {
        for (let phase = 0; phase <= budget; phase++) {
          for (let steps = 0; steps <= (options.steps ?? 12); steps++) {
            const subject = yield* make
            const gate = yield* Deferred.make<void>()
            const holder = contended ? yield* Effect.fork(subject.with(Deferred.await(gate))) : undefined
            yield* yields(2)
            const victim = yield* Effect.fork(Effect.withMaxOpsBeforeYield(
              Effect.zipRight(pad(phase), subject.with(options.body ?? Effect.never)),
              budget
            ))
            if (contended) {
              yield* pad(50)
              yield* yields(3)
              yield* Deferred.succeed(gate, void 0)
            }
            yield* yields(steps)
            yield* Fiber.interrupt(victim)
            if (holder !== undefined) yield* Fiber.await(holder)
            yield* yields(2)
            runs++
            if (!(yield* subject.whole)) {
              leaks.push(`budget ${budget}, phase ${phase}, steps ${steps}${contended ? ", contended" : ""}`)
            }
          }
        }
      }
    }
    return { runs, leaks }
  })
