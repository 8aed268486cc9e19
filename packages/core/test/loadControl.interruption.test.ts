import { Backpressure, LoadShedder, SystemLoad } from "@effect-resilience/core"
import { describe } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { Permits } from "../src/internal/permits.js"
import { Waiters } from "../src/internal/waiters.js"
import type { Waiter } from "../src/internal/watermark.js"
import { Watermark } from "../src/internal/watermark.js"
import type { Subject } from "./utils/sweep.js"
import { caught, whole } from "./utils/sweepTests.js"

/** High mark 1 and low mark 0: the first item holds the second up until it is done. */
const backpressure = (guard: (b: Backpressure.Service) => Subject["with"]) =>
  Effect.map(
    Effect.scoped(Backpressure.make({ name: "b", maxPending: 5, highWaterMark: 1, lowWaterMark: 0 })),
    (b): Subject => ({
      with: guard(b),
      whole: Effect.map(
        b.metrics,
        ({ admitted, failed, ignored, pending, producers, running, state, succeeded, waiting }) =>
          state === "low" && pending === 0 && waiting === 0 && producers === 0 && running === 0 &&
          admitted === succeeded + failed + ignored
      )
    })
  )

describe("backpressure", () => {
  whole("has every item leave", backpressure((b) => b.withBackpressure))
  whole("has an item with a wait of its own leave", backpressure((b) => b.withBackpressureBy({ maxWait: "1 minute" })))
  whole(
    "has the item of a scope leave",
    backpressure((b) => (effect) => Effect.scoped(Effect.zipRight(b.acquire, effect)))
  )
  whole(
    "has every producer leave the gate",
    backpressure((b) => (effect) => Effect.zipRight(b.ready, b.withBackpressure(effect)))
  )
  whole(
    "has an item leave while somebody listens",
    backpressure((b) => (effect) => Effect.scoped(Effect.zipRight(b.subscribe, b.withBackpressure(effect))))
  )
  whole("has an item leave that ends by itself", backpressure((b) => b.withBackpressure), { body: Effect.yieldNow() })

  caught(
    "a line whose interrupted item forgets that it was let in",
    Effect.sync(() => {
      const water = new Watermark(5, 1, 0, 5, () => {})
      return {
        with: (effect) =>
          Effect.uninterruptibleMask((restore) =>
            Effect.flatMap(
              Effect.suspend(() => {
                if (water.take()) return Effect.void
                return Effect.flatMap(Deferred.make<void>(), (turn) => {
                  const waiter: Waiter = {
                    place: "Waiting",
                    isProducer: false,
                    ticket: 0,
                    before: undefined,
                    behind: undefined,
                    admit: () => Deferred.unsafeDone(turn, Effect.void)
                  }
                  water.enqueue(waiter)
                  return Effect.onInterrupt(restore(Deferred.await(turn)), () =>
                    Effect.sync(() => {
                      if (waiter.place === "Waiting") water.abandon(waiter)
                    }))
                })
              }),
              () => Effect.ensuring(restore(effect), Effect.sync(() => water.release()))
            )
          ),
        whole: Effect.sync(() => water.pending === 0 && water.waiting === 0)
      } satisfies Subject
    })
  )
})

/** Nothing is in flight afterwards, nobody waits, and each call was counted once. */
const shedder = (options: LoadShedder.Options, guard: (s: LoadShedder.Service) => Subject["with"]) =>
  Effect.map(Effect.scoped(LoadShedder.make({ name: "s", maxInFlight: 1, maxQueueWait: "1 minute", ...options })), (
    s
  ): Subject => ({
    with: guard(s),
    whole: Effect.map(
      s.metrics,
      ({ active, admitted, failed, ignored, level, running, succeeded, waiting }) =>
        active === 0 && waiting === 0 && running === 0 && level === "normal" &&
        admitted === succeeded + failed + ignored
    )
  }))

describe("load shedder", () => {
  whole("has every call leave", shedder({}, (s) => s.withShedding))
  whole("has every call leave where nobody may wait", shedder({ maxQueueDepth: 0 }, (s) => s.withShedding))
  whole("has a dear call leave", shedder({ maxInFlight: 2 }, (s) => s.withSheddingBy({ cost: 2, cohort: "a" })))
  whole(
    "has the call of a scope leave",
    shedder({}, (s) => (effect) => Effect.scoped(Effect.zipRight(s.acquire, effect)))
  )
  whole(
    "has the dear call of a scope leave",
    shedder(
      { maxInFlight: 2 },
      (s) => (effect) => Effect.scoped(Effect.zipRight(s.acquireBy({ cost: 2, cohort: "a" }), effect))
    )
  )
  whole(
    "has a call leave while somebody listens",
    shedder({}, (s) => (effect) => Effect.scoped(Effect.zipRight(s.subscribe, s.withShedding(effect))))
  )
  whole("has a call leave that ends by itself", shedder({}, (s) => s.withShedding), { body: Effect.yieldNow() })
  whole(
    "has a call leave that was let in by chance",
    Effect.map(
      Effect.scoped(
        Effect.gen(function*() {
          const s = yield* LoadShedder.make({ name: "s", maxInFlight: 1, maxQueueWait: "1 minute" })
          yield* Effect.repeatN(Effect.yieldNow(), 5)
          return s
        }).pipe(Effect.provide(SystemLoad.layerTest({ signal: 0.01 })))
      ),
      (s): Subject => ({
        with: s.withShedding,
        whole: Effect.map(
          s.metrics,
          ({ active, pressure, running, waiting }) =>
            pressure === 0.01 && active === 0 && waiting === 0 && running === 0
        )
      })
    ),
    { budgets: [12] }
  )

  caught(
    "a call that is counted in flight one step before the mask",
    Effect.sync(() => {
      const permits = new Permits(1, 5, new Waiters("adaptive"))
      return {
        with: (effect) =>
          Effect.flatMap(
            Effect.sync(() => permits.take(1, 2, () => 0n)),
            (taken) =>
              Effect.uninterruptibleMask((restore) =>
                Effect.ensuring(
                  restore(taken ? effect : Effect.interrupt),
                  Effect.sync(() => {
                    if (taken) permits.release(1, 0n)
                  })
                )
              )
          ),
        whole: Effect.sync(() => permits.used === 0)
      } satisfies Subject
    })
  )
})
