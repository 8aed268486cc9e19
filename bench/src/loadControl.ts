/** The shedder, backpressure and the adaptive limit, beside what bounds calls elsewhere. */
import { AdaptiveConcurrency, Backpressure, LoadShedder } from "@effect-resilience/core"
import { Limit } from "@effect-resilience/core/Limit"
import type { Guard } from "@effect-resilience/core/Pattern"
import Bottleneck from "bottleneck"
import { Effect, Option } from "effect"
import pLimit from "p-limit"
import { async_, build, fiber, ours, promises, rejected, rejectedPromises, type Setup, sync, work } from "./cases.js"

const shedder = Effect.map(LoadShedder.make({ name: "s" }), ({ on, withShedding }) => ({ guard: withShedding, on }))
const backpressure = Effect.map(
  Backpressure.make({ name: "b" }),
  ({ on, withBackpressure }) => ({ guard: withBackpressure, on })
)
/** A limit that learns, and has room for all callers of a case. */
const adaptive = Effect.map(
  AdaptiveConcurrency.make({ name: "a", minLimit: 200, initialLimit: 1000 }),
  ({ on, withPermit }) => ({ guard: withPermit, on })
)

/** What Effect itself offers to turn away what is too much. */
const ifRoom = (semaphore: Effect.Semaphore) =>
  Effect.flatMap(
    semaphore.withPermitsIfAvailable(1)(sync),
    Option.match({ onNone: () => Effect.fail("full"), onSome: Effect.succeed })
  )

/** A hundred callers, of which ten run. */
const waiting = (guard: Guard<unknown>) => fiber("effect, 100 callers", guard(async_), 100)

export const loadControl: Readonly<Record<string, Setup>> = {
  ...ours("shedder", { make: shedder, live: LoadShedder.Live, static: LoadShedder.withShedding }),
  "shedder: stock Effect": async () => fiber("effect", ifRoom(await build(Effect.makeSemaphore(1000)))),
  "shed: ours": async () => {
    const full = await build(LoadShedder.make({ name: "full", maxInFlight: 1, maxQueueDepth: 0 }))
    await build(full.acquire.pipe(Effect.orDie))
    return rejected(full.withShedding(sync))
  },
  "shed: stock Effect": async () => {
    const full = await build(Effect.makeSemaphore(1))
    await build(full.take(1))
    return rejected(ifRoom(full))
  },
  "shed: bottleneck": async () => {
    const full = new Bottleneck({ maxConcurrent: 1, highWater: 0, strategy: Bottleneck.strategy.OVERFLOW })
    void full.schedule(() => new Promise(() => {})).catch(() => {})
    return rejectedPromises(() => full.schedule(work))
  },

  ...ours("backpressure", { make: backpressure, live: Backpressure.Live, static: Backpressure.withBackpressure }),
  "backpressure: bottleneck": async () => {
    const limiter = new Bottleneck({ maxConcurrent: 1000 })
    return promises(() => limiter.schedule(work))
  },
  "waiting: ours": async () => {
    const narrow = await build(Backpressure.make({ name: "w", highWaterMark: 10, lowWaterMark: 5 }))
    return waiting(narrow.withBackpressure)
  },
  "waiting: stock Effect": async () => waiting((await build(Effect.makeSemaphore(10))).withPermits(1)),
  "waiting: p-limit": async () => {
    const limit = pLimit(10)
    return promises(() => limit(work), 100)
  },
  "waiting: bottleneck": async () => {
    const limiter = new Bottleneck({ maxConcurrent: 10 })
    return promises(() => limiter.schedule(work), 100)
  },

  ...ours("adaptive", { make: adaptive, live: AdaptiveConcurrency.Live, static: AdaptiveConcurrency.withPermit }),
  "limited: ours": async () => {
    const full = await build(AdaptiveConcurrency.make({ name: "full", algorithm: Limit.fixed(1), maxQueued: 0 }))
    await build(full.acquire.pipe(Effect.orDie))
    return rejected(full.withPermit(sync))
  }
}
