import type { ResilienceError } from "@effect-resilience/core"
import {
  AdaptiveConcurrency,
  Backpressure,
  Bulkhead,
  CircuitBreaker,
  LoadShedder,
  Registry
} from "@effect-resilience/core"
import { describe } from "@effect/vitest"
import { Effect, Option, Scope } from "effect"
import type { Subject } from "../../core/test/utils/sweep.js"
import { caught, whole } from "../../core/test/utils/sweepTests.js"
import type { Admit, Step, Ticket } from "../src/internal/engine.js"
import { Engine, Refused } from "../src/internal/engine.js"
import * as parts from "../src/internal/parts.js"

/*
 * A request is interrupted at every operation of its way in, and whatever it held is back: as the adapter of a server
 * does it, with all that can be held at once.
 */

const request = { method: "GET", path: "/", headers: {}, remoteAddress: Option.none() }

const stepOf = (pattern: string, admit: Effect.Effect<Ticket, Refused, Scope.Scope>): Step => ({
  pattern,
  look: { detail: "minimal" },
  dryRun: false,
  admit: () => admit
})

const none: Ticket = {}

/** Nothing but the steps. */
const open = {
  isExcluded: () => false,
  isDraining: () => false,
  isLongLived: () => false,
  longLived: undefined,
  holdsThatStay: undefined,
  priorityOf: () => "normal" as const,
  timeoutOf: () => undefined,
  forms: [],
  detail: "minimal" as const
}

const all = Effect.scoped(Effect.all({
  bulkhead: Bulkhead.make({ name: "b", maxConcurrent: 1, maxQueued: 5 }),
  shedder: LoadShedder.make({ name: "s", maxInFlight: 1 }),
  backpressure: Backpressure.make({ name: "p", maxPending: 5, highWaterMark: 1, lowWaterMark: 0 }),
  adaptive: AdaptiveConcurrency.make({ name: "a", initialLimit: 1, minLimit: 1, maxLimit: 1 }),
  breaker: CircuitBreaker.make({ name: "c" }),
  longLived: Bulkhead.make({ name: "l", maxConcurrent: 1, maxQueued: 5 })
}))

/** What the adapter does with a request, in short: with one that stays, too. */
const serve = (stays: boolean) => (engine: Engine): Subject["with"] => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.scoped(
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        engine.decide(request, restore),
        (decision): Effect.Effect<A, E | ResilienceError, R | Scope.Scope> =>
          decision._tag === "Reject"
            ? decision.error ?? Effect.dieMessage("it does not drain")
            : Effect.zipRight(
              Effect.addFinalizer(() => decision.sent),
              Effect.tap(
                restore(stays ? Effect.zipRight(decision.stays, effect) : effect),
                decision.answered("success")
              )
            )
      )
    )
  )

const subject = (around: (engine: Engine) => Subject["with"], isHeld = false) =>
  Effect.map(all, ({ adaptive, backpressure, breaker, bulkhead, longLived, shedder }): Subject => {
    const place = stepOf(
      "Bulkhead",
      Effect.mapBoth(bulkhead.acquire, { onSuccess: () => none, onFailure: (_) => new Refused(_) })
    )
    const engine = new Engine({
      name: "api",
      steps: [
        stepOf(
          "LoadShedder",
          Effect.mapBoth(shedder.acquire, { onSuccess: () => none, onFailure: (_) => new Refused(_) })
        ),
        stepOf(
          "Backpressure",
          Effect.mapBoth(backpressure.acquire, { onSuccess: () => none, onFailure: (_) => new Refused(_) })
        ),
        place,
        stepOf(
          "AdaptiveConcurrency",
          Effect.mapBoth(adaptive.acquire, {
            onSuccess: (permit): Ticket => ({ sent: permit.settle }),
            onFailure: (_) => new Refused(_)
          })
        ),
        stepOf(
          "CircuitBreaker",
          Effect.mapBoth(breaker.acquire, {
            onSuccess: (permit): Ticket => ({ answered: permit.settle }),
            onFailure: (_) => new Refused(_)
          })
        )
      ],
      ...open,
      ...(isHeld ? { holdsThatStay: place } : {
        longLived: stepOf(
          "Bulkhead",
          Effect.mapBoth(longLived.acquire, { onSuccess: () => none, onFailure: (_) => new Refused(_) })
        )
      })
    })
    return {
      with: around(engine),
      whole: Effect.gen(function*() {
        const held = [
          (yield* shedder.metrics).running,
          (yield* backpressure.metrics).pending,
          (yield* bulkhead.metrics).active,
          (yield* bulkhead.metrics).waiting,
          (yield* adaptive.metrics).active,
          (yield* breaker.metrics).running,
          (yield* longLived.metrics).active,
          (yield* longLived.metrics).waiting
        ]
        return held.every((count) => count === 0)
      })
    }
  })

/** The parts of a policy, as they are built. */
const partsSubject = (built: Effect.Effect<ReadonlyArray<Step>, never, Scope.Scope>) =>
  Effect.gen(function*() {
    // The instances stay in the registry for as long as their scope is open.
    const steps = yield* Scope.extend(built, yield* Scope.make())
    const { snapshot } = yield* Registry
    return {
      with: serve(false)(new Engine({ name: "api", steps, ...open })),
      whole: Effect.map(snapshot, ({ instances }) =>
        instances.length === 3 &&
        instances.every(({ metrics }) =>
          "active" in metrics && metrics.active === 0 && "waiting" in metrics && metrics.waiting === 0
        ))
    } satisfies Subject
  }).pipe(Effect.provide(Registry.Live))

const key = () => Option.some("client")

/** Those that look for whose request it is. */
const fairSubject = partsSubject(Effect.all([
  parts.loadShedder("s", { maxInFlight: 1, cohort: key }, "minimal"),
  parts.bulkhead("b", { maxConcurrent: 1, maxQueued: 5, fair: true, key }, "minimal"),
  parts.adaptiveConcurrency("a", { initialLimit: 1, minLimit: 1, maxLimit: 1, fair: true, key }, "minimal")
]))

/** Only the last has a request wait, or turns it away: those before let it in at once. */
const lastWaits = (maxQueued: number) =>
  partsSubject(Effect.all([
    parts.loadShedder("s", {}, "minimal"),
    parts.bulkhead("b", { maxConcurrent: 5 }, "minimal"),
    parts.adaptiveConcurrency("a", { initialLimit: 1, minLimit: 1, maxLimit: 1, maxQueued }, "minimal")
  ]))

describe("a request on its way in", () => {
  whole("gives everything back", subject(serve(false)), { budgets: [12], steps: 25 })
  whole("gives everything back when it stays", subject(serve(true)), { budgets: [12], steps: 40 })
  whole("gives everything back when it stays where it is", subject(serve(true), true), { budgets: [12], steps: 40 })
  whole("gives everything back when it ends by itself", subject(serve(false)), {
    body: Effect.yieldNow(),
    budgets: [12],
    steps: 25
  })

  whole("gives back its place in fair lines", fairSubject, { budgets: [12], steps: 25 })
  whole("gives back what came at once while it waits for more", lastWaits(5), { budgets: [30], steps: 8 })
  whole("gives back what came at once where more is not to be had", lastWaits(0), { budgets: [30], steps: 8 })

  caught(
    "an adapter that takes what is decided after the mask",
    subject((engine) => (effect) =>
      Effect.scoped(Effect.flatMap(
        Effect.uninterruptibleMask((restore) => engine.decide(request, restore)),
        (decision) => Effect.zipRight(Effect.addFinalizer(() => (decision as Admit).sent), effect)
      ))
    ),
    [true]
  )
})
