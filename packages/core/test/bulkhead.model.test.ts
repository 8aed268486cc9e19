import { Bulkhead, Deadline, Priority } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, FastCheck as fc, Fiber } from "effect"
import { afterEach, vi } from "vitest"
import { Permits } from "../src/internal/permits.js"
import type { Waiter } from "../src/internal/waiters.js"
import { makeManualClock } from "./utils/clock.js"

/*
 * The whole bulkhead with real fibers, under a clock that is moved by hand: calls come, end, fail, are interrupted, run
 * out of time, and the limit changes, several of it at once. What must hold is checked whenever all fibers are still.
 */

type Step =
  & { readonly together: boolean }
  & (
    | {
      readonly _tag: "call"
      readonly permits: number
      readonly level: Priority.Level
      readonly deadline: number | undefined
    }
    | { readonly _tag: "end" | "fail" | "interrupt"; readonly pick: number }
    | { readonly _tag: "resize"; readonly limit: number }
    | { readonly _tag: "pass"; readonly millis: number }
  )

const together = fc.boolean()
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      _tag: fc.constant("call" as const),
      together,
      permits: fc.integer({ min: 1, max: 3 }),
      level: fc.constantFrom<Priority.Level>("low", "normal", "critical"),
      deadline: fc.option(fc.integer({ min: 0, max: 120 }), { nil: undefined })
    })
  },
  {
    weight: 5,
    arbitrary: fc.record({
      _tag: fc.constantFrom("end" as const, "end" as const, "fail" as const, "interrupt" as const),
      together,
      pick: fc.nat(20)
    })
  },
  {
    weight: 1,
    arbitrary: fc.record({ _tag: fc.constant("resize" as const), together, limit: fc.integer({ min: 1, max: 4 }) })
  },
  {
    weight: 2,
    arbitrary: fc.record({ _tag: fc.constant("pass" as const), together, millis: fc.integer({ min: 1, max: 80 }) })
  }
)

interface Call {
  readonly id: number
  readonly permits: number
  readonly rank: number
  /** When its wait is over at the latest, and why. */
  readonly due: number
  readonly deadline: number | undefined
  state: "new" | "running" | "done"
  end: (exit: Exit.Exit<void, string>) => void
  fiber: Fiber.RuntimeFiber<void, unknown> | undefined
}

const still = async () => {
  for (let turn = 0; turn < 12; turn++) await Promise.resolve()
}

const maxWait = 50

const orderOf = (order: "fifo" | "lifo" | "adaptive" | "fair"): Bulkhead.Options =>
  order === "fair" ? { fair: { weight: (key) => key === "a" ? 2 : 1 } } : { order }

const story = async (
  order: "fifo" | "lifo" | "adaptive" | "fair",
  limitAtFirst: number,
  maxQueued: number,
  steps: ReadonlyArray<Step>
) => {
  const manual = makeManualClock()
  const bulkhead = Effect.runSync(Effect.scoped(
    Bulkhead.make({
      name: "model",
      maxConcurrent: limitAtFirst,
      maxQueued,
      maxWait: `${maxWait} millis`,
      ...orderOf(order)
    })
  ))
  const calls: Array<Call> = []
  const wrong: Array<string> = []
  let now = 0
  let limit = limitAtFirst
  let used = 0
  const waiting = () => calls.filter(({ state }) => state === "new")

  const start = ({ deadline, level, permits }: Extract<Step, { readonly _tag: "call" }>) => {
    const at = deadline === undefined ? undefined : now + deadline
    const call: Call = {
      id: calls.length,
      permits,
      rank: Priority.rank(level),
      deadline: at,
      due: Math.min(now + maxWait, at ?? Infinity),
      state: "new",
      end: () => {},
      fiber: undefined
    }
    calls.push(call)
    const body = Effect.suspend(() => {
      if (used + permits > highest) wrong.push(`${call.id} started over the limit`)
      if (call.deadline !== undefined && now >= call.deadline) wrong.push(`${call.id} started after its deadline`)
      if (order === "fifo") {
        overtaken.push(...waiting().filter(({ id, rank }) => id < call.id && rank >= call.rank && inLine.has(id)))
      }
      used += permits
      call.state = "running"
      return Effect.async<void, string>((resume) => {
        call.end = resume
      }).pipe(Effect.onExit(() =>
        Effect.sync(() => {
          used -= permits
        })
      ))
    })
    const guarded = body.pipe(
      order === "fair"
        ? bulkhead.withPermitBy({ key: level === "low" ? "a" : "b", permits })
        : bulkhead.withPermitsBy(permits),
      Effect.onExit(() =>
        Effect.sync(() => {
          call.state = "done"
        })
      )
    )
    call.fiber = Effect.runFork(guarded.pipe(
      (effect) =>
        at === undefined
          ? effect
          : Effect.provideService(effect, Deadline, { at: BigInt(at) * 1_000_000n, origin: "own" as const }),
      Effect.provideService(Priority, level),
      Effect.withClock(manual.clock)
    ))
  }
  // Calls that were in line when all fibers were last still: nobody that matters no more may pass these.
  let inLine = new Set<number>()
  // Those that were not running when a later call started. Each must have had its permit already, or its answer.
  let overtaken: Array<Call> = []
  // The highest limit since then: a permit is granted under it, and its call may start after the limit shrank again.
  let highest = limit

  const check = async () => {
    await still()
    const metrics = Effect.runSync(bulkhead.metrics)
    const line = waiting()
    inLine = new Set(line.map(({ id }) => id))
    highest = limit
    expect(wrong).toEqual([])
    expect(overtaken.filter(({ state }) => state === "new")).toEqual([])
    overtaken = []
    expect(metrics.active).toBe(used)
    expect(metrics.waiting).toBe(line.length)
    expect(line.length).toBeLessThanOrEqual(maxQueued)
    expect(line.filter(({ due }) => due <= now)).toEqual([])
    const [first] = [...line].sort((a, b) => b.rank - a.rank || a.id - b.id)
    // A permit that is free while the first in line could have it is a lost one.
    if (order === "fifo" && first !== undefined) expect(used + first.permits).toBeGreaterThan(limit)
    expect(metrics.offered).toBe(metrics.admitted + metrics.rejected)
    expect(metrics.admitted).toBe(metrics.succeeded + metrics.failed + metrics.ignored + metrics.running)
    expect(metrics.offered + metrics.canceled + metrics.waiting).toBe(calls.length)
  }

  for (const one of steps) {
    const live = calls.filter(({ state }) => state !== "done")
    const pick = <A>(from: ReadonlyArray<A>) => "pick" in one ? from[one.pick % Math.max(1, from.length)] : undefined
    const running = live.filter(({ state }) => state === "running")
    if (one._tag === "call") start(one)
    else if (one._tag === "end") pick(running)?.end(Exit.void)
    else if (one._tag === "fail") pick(running)?.end(Exit.fail("no"))
    else if (one._tag === "interrupt") {
      const fiber = pick(live)?.fiber
      if (fiber !== undefined) Effect.runFork(Fiber.interruptFork(fiber))
    } else if (one._tag === "resize") {
      limit = one.limit
      highest = Math.max(highest, limit)
      Effect.runSync(Effect.withClock(bulkhead.resize(limit), manual.clock))
    } else if (one._tag === "pass") {
      now += one.millis
      manual.adjust(`${one.millis} millis`)
    }
    if (!one.together) await check()
  }
  await check()
  // All that runs ends: everybody in line is served, nobody starves.
  for (let left = calls.length; left >= 0; left--) {
    for (const call of calls) if (call.state === "running") call.end(Exit.void)
    await check()
  }
  expect(calls.filter(({ state }) => state !== "done")).toEqual([])
  expect(Effect.runSync(bulkhead.metrics)).toMatchObject({ active: 0, waiting: 0, running: 0 })
  expect(manual.sleepers()).toBe(0)
}

const property = (order: "fifo" | "lifo" | "adaptive" | "fair") =>
  fc.asyncProperty(
    fc.integer({ min: 1, max: 4 }),
    fc.nat(3),
    fc.array(step, { maxLength: 25 }),
    (limit, maxQueued, steps) => story(order, limit, maxQueued, steps)
  )

describe("calls of every kind, against what must hold", () => {
  for (const order of ["fifo", "lifo", "adaptive", "fair"] as const) {
    it(
      `no permit is lost or doubled, nobody starves, and each call is counted once (${order})`,
      () => fc.assert(property(order), { numRuns: order === "fifo" ? 4000 : 3000 }),
      60_000
    )
  }
})

describe("controls: the property catches", () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })
  const caught = async () => {
    const { failed } = await fc.check(property("fifo"), { numRuns: 3000, endOnFailure: true })
    expect(failed).toBe(true)
  }

  it("a waiter that is interrupted with a permit in its hand and keeps it", () => {
    const abandon = Permits.prototype.abandon
    vi.spyOn(Permits.prototype, "abandon").mockImplementation(function(this: Permits, waiter: Waiter, now) {
      if (waiter.place !== "Granted") abandon.call(this, waiter, now)
    })
    return caught()
  }, 60_000)

  it("a newcomer that takes what is free although others wait", () => {
    vi.spyOn(Permits.prototype, "take").mockImplementation(function(this: Permits, permits) {
      if (this.used + permits > this.limit) return false
      this.used += permits
      return true
    })
    return caught()
  }, 60_000)

  it("permits that are given back twice", () => {
    const release = Permits.prototype.release
    vi.spyOn(Permits.prototype, "release").mockImplementation(function(this: Permits, permits, now) {
      release.call(this, permits, now)
      if (this.used > 0 && permits === 2) release.call(this, 1, now)
    })
    return caught()
  }, 60_000)

  it("a limit that grows and lets nobody in", () => {
    vi.spyOn(Permits.prototype, "resize").mockImplementation(function(this: Permits, limit) {
      this.limit = limit
    })
    return caught()
  }, 60_000)
})
