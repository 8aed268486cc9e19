import { CircuitBreaker, Registry, ResilienceLive } from "@effect-resilience/core"
import { Admin } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Option } from "effect"
import { inject } from "vitest"
import { ask } from "./utils/ask.js"
import type { Where } from "./utils/circuits.js"
import { all, fresh, haveAsked, inProcess, member, openAll, wereTold } from "./utils/circuits.js"
import { Proxy } from "./utils/proxy.js"
import { canStart, Server } from "./utils/server.js"
import { eventually } from "./utils/until.js"
import { Worker } from "./utils/worker.js"
import type { Setup } from "./workers/operator.js"

const url = inject("redisUrl")

const states = { forceOpen: "ForcedOpen", disable: "Disabled", metricsOnly: "MetricsOnly" } as const
const actions = ["forceOpen", "disable", "metricsOnly"] as const

const order = (action: string, ttl: Duration.DurationInput) => ({
  pattern: "CircuitBreaker",
  instance: "payments",
  action,
  reason: "a test",
  ttl
})
const alice = { name: "alice" }
const bob = { name: "bob" }
const live = Admin.Live.pipe(Layer.provideMerge(ResilienceLive))

/** A process with a breaker and an admin. */
const operated = (where: Where, reportEvery: Duration.DurationInput = "50 millis") =>
  Effect.gen(function*() {
    const both = Effect.zip(Admin, member(where, {}, { reportEvery }))
    const [{ apply, giveBack, overrides }, own] = yield* Effect.provide(both, yield* Layer.build(Layer.fresh(live)))
    const end = giveBack({ pattern: "CircuitBreaker", instance: "payments", setting: "state", reason: "a test" }, alice)
    return { ...own, apply, end, overrides }
  })

/** All know of the same change as one of them. */
const know = (members: ReadonlyArray<{ readonly epoch: Effect.Effect<number> }>, epoch: number) =>
  eventually(
    "all have heard",
    Effect.map(Effect.forEach(members, (one) => one.epoch), (known) => known.every((one) => one === epoch))
  )

describe.skipIf(url === undefined)("what an operator does to a shared circuit for a while", () => {
  it.scopedLive("RC22: is over for all when its time is, though the process that acted was killed", () =>
    Effect.gen(function*() {
      const where = fresh()
      const context = yield* inProcess(where, { reportEvery: "100 millis" })
      const witness = yield* Effect.forEach(
        actions,
        (name) => Effect.provide(CircuitBreaker.make({ name }), context)
      )
      const now = Effect.forEach(witness, ({ state }) => state)
      const are = (expected: ReadonlyArray<string>) =>
        eventually(expected.join(), Effect.map(now, (now) => now.join() === expected.join()))
      const setup: Setup = { url: where.url, prefix: where.prefix, actions, seconds: 4 }
      const { child, next } = yield* Worker.start(
        new URL("./workers/operator.ts", import.meta.url),
        JSON.stringify(setup)
      )
      expect(yield* next).toEqual(["fleet", "fleet", "fleet"])
      child.kill("SIGKILL")
      yield* are(actions.map((action) => states[action]))
      const { retryAfter } = yield* Effect.flip(witness[0]!.withBreaker(Effect.void))
      expect(Duration.toMillis(Option.getOrThrow(retryAfter))).toBeLessThanOrEqual(4000)
      yield* are(["Closed", "Closed", "Closed"])
      // And for one that starts now.
      const late = yield* Effect.provide(CircuitBreaker.make({ name: "forceOpen" }), yield* inProcess(where))
      yield* eventually("it has heard", Effect.map(late.metrics, ({ shared }) => (shared?.epoch ?? 0) > 0))
      expect(yield* late.state).toBe("Closed")
    }))

  it.scopedLive("is put back by the process that acted, without a problem, and what was before it comes back", () =>
    Effect.gen(function*() {
      const where = fresh()
      const own = Effect.zip(Admin, member(where, {}, { reportEvery: "50 millis" }))
      const [{ apply }, a] = yield* Effect.provide(own, yield* Layer.build(live))
      const members = [a, yield* member(where, {}, { reportEvery: "50 millis" })]
      yield* a.breaker.metricsOnly
      yield* all(members, "MetricsOnly")
      expect((yield* apply(order("forceOpen", "1 second"), alice)).reach).toBe("fleet")
      yield* all(members, "ForcedOpen")
      yield* all(members, "MetricsOnly")
      yield* a.breaker.reset
      yield* all(members, "Closed")
      for (const { told } of members) expect(told.filter((text) => text.startsWith("problem"))).toEqual([])
    }))

  for (const action of ["forceOpen", "disable"] as const) {
    it.scopedLive(`RC23: is not ended by the timer of who acted before: ${action} after forceOpen`, () =>
      Effect.gen(function*() {
        const where = fresh()
        const members = yield* Effect.replicateEffect(operated(where), 2)
        const [a, b] = members as [typeof members[0], typeof members[0]]
        yield* a.apply(order("forceOpen", "1 second"), alice)
        yield* all(members, "ForcedOpen")
        yield* b.apply(order(action, "1 minute"), bob)
        const epoch = yield* b.epoch
        yield* know(members, epoch)
        expect([yield* a.overrides, yield* a.end, (yield* b.overrides).length]).toEqual([[], undefined, 1])
        yield* Effect.sleep("1200 millis")
        yield* haveAsked(members)
        yield* know(members, epoch)
        yield* all(members, states[action])
        // What was before it has had its time.
        expect(yield* b.end).toBe("fleet")
        yield* all(members, "Closed")
        for (const { told } of members) expect(told.filter((text) => text.startsWith("problem"))).toEqual([])
      }))
  }

  it.scopedLive("RC23: is not ended by who had not heard of it, when it acted and when its time was over", () =>
    Effect.gen(function*() {
      const where = fresh()
      const deaf = yield* Effect.replicateEffect(operated({ ...where, deaf: true }, "1 hour"), 2)
      const [early, late] = deaf as [typeof deaf[0], typeof deaf[0]]
      const b = yield* operated(where)
      expect((yield* early.apply(order("forceOpen", "1 second"), alice)).reach).toBe("fleet")
      yield* b.is("ForcedOpen")
      expect((yield* b.apply(order("disable", "1 minute"), bob)).reach).toBe("fleet")
      const epoch = yield* b.epoch
      // The fleet does not take it, and this process follows what it hears then.
      const refused = yield* Effect.flip(late.apply(order("metricsOnly", "1 second"), alice))
      expect(refused.message).toContain("another operator acted first")
      expect([yield* late.breaker.state, yield* late.overrides]).toEqual(["Disabled", []])
      yield* Effect.sleep("1200 millis")
      // One asked when its time was over; what it did was no action of an operator then.
      yield* wereTold([late], "another operator acted before")
      expect(early.told.filter((text) => text.startsWith("problem"))).toEqual([])
      yield* know([early, late, b], epoch)
      yield* all([early, late, b], "Disabled")
    }))

  it.scopedLive("RC23: gives what another operator did before what is left of its time, and no more", () =>
    Effect.gen(function*() {
      const where = fresh()
      const members = yield* Effect.replicateEffect(operated(where), 2)
      const [a, b] = members as [typeof members[0], typeof members[0]]
      yield* a.apply(order("disable", "3 seconds"), alice)
      yield* all(members, "Disabled")
      yield* b.apply(order("forceOpen", "1 second"), bob)
      yield* all(members, "ForcedOpen")
      yield* all(members, "Disabled")
      for (const { breaker } of members) {
        expect(Duration.toMillis((yield* breaker.snapshot).left ?? Duration.infinity)).toBeLessThanOrEqual(2000)
      }
      yield* all(members, "Closed")
    }))

  it.scopedLive("RC24: is over in all processes when its time is, though Redis forgot it and the process that acted is gone", () =>
    Effect.gen(function*() {
      if (!canStart) return
      const server = yield* Server.start()
      const where = fresh(server.url)
      const inFleet = (name: string) =>
        Effect.flatMap(
          inProcess(where, { reportEvery: "50 millis" }),
          (context) => Effect.provide(CircuitBreaker.make({ name }), context)
        )
      const witness = yield* Effect.forEach(actions, inFleet)
      const now = Effect.forEach(witness, ({ state }) => state)
      const are = (expected: ReadonlyArray<string>) =>
        eventually(expected.join(), Effect.map(now, (now) => now.join() === expected.join()))
      yield* Effect.forEach(
        actions,
        (name) =>
          Effect.zipRight(inFleet(name), Registry.act("CircuitBreaker", name, name, undefined, Duration.seconds(2)))
      ).pipe(
        Effect.scoped,
        Effect.provide(Registry.Live)
      )
      yield* are(actions.map((action) => states[action]))
      yield* haveAsked(witness.map((breaker) => ({ breaker })))
      yield* Effect.promise(() => ask(server.port, "flushall"))
      yield* eventually(
        "all know that it forgot",
        Effect.map(
          Effect.forEach(witness, ({ metrics }) => metrics),
          (all) => all.every(({ shared }) => shared?.epoch === 0)
        )
      )
      expect(yield* now).toEqual(actions.map((action) => states[action]))
      yield* Effect.sleep("2 seconds")
      for (const { withBreaker } of witness) yield* withBreaker(Effect.void)
      expect(yield* now).toEqual(["Closed", "Closed", "Closed"])
    }))

  it.scopedLive("RC24: stays where it has no end and Redis forgot it, until an operator acts", () =>
    Effect.gen(function*() {
      const where = fresh()
      const shared = { reportEvery: "50 millis" } as const
      const members = yield* Effect.replicateEffect(member(where, {}, shared), 2)
      yield* members[0]!.breaker.disable
      yield* all(members, "Disabled")
      yield* haveAsked(members)
      yield* members[0]!.redis.command("del", `${where.prefix}cb:{payments}:s`)
      yield* know(members, 0)
      const late = yield* member(where, {}, shared)
      yield* Effect.sleep("100 millis")
      const states = Effect.forEach([...members, late], ({ breaker }) => breaker.state)
      expect(yield* states).toEqual(["Disabled", "Disabled", "Closed"])
      for (const { told } of members) expect(told.slice(-2)).toEqual(["fleet Unknown", "fleet Closed"])
      yield* late.breaker.reset
      yield* all(members, "Closed")
      for (const { told } of [...members, late]) expect(told.filter((text) => text.startsWith("problem"))).toEqual([])
    }))

  for (const action of ["forceOpen", "disable"] as const) {
    it.scopedLive(`RC26: leaves a circuit with its fleet when it is over that this process alone had: ${action}`, () =>
      Effect.gen(function*() {
        const where = fresh()
        const options = { openDuration: "1 minute" } as const
        const registry = yield* Layer.build(Layer.fresh(ResilienceLive))
        const own = yield* Effect.provide(member(where, options, { operators: "local" }), registry)
        const others = yield* Effect.replicateEffect(member(where, options), 2)
        const second = Duration.seconds(1)
        yield* Effect.provide(Registry.act("CircuitBreaker", "payments", action, undefined, second), registry)
        yield* openAll(others)
        yield* wereTold([own, ...others], "fleet Open")
        const heard = performance.now()
        expect(yield* own.breaker.state).toBe(states[action])
        yield* Effect.sleep(second)
        const since = performance.now() - heard
        // The call that finds it over is the last of a closed circuit.
        yield* own.breaker.withBreaker(Effect.void)
        const { reason, retryAfter } = yield* Effect.flip(own.breaker.withBreaker(Effect.void))
        expect(reason).toBe("Open")
        expect(Duration.toMillis(Option.getOrThrow(retryAfter))).toBeLessThanOrEqual(60_001 - since)
        const cause = action === "disable" ? "OverrideOver" : "ForcedOpenOver"
        yield* wereTold([own], "Open Shared")
        expect(own.told.slice(-2)).toEqual([`Closed ${cause}`, "Open Shared"])
      }))
  }

  it.scopedLive("RC26: leaves the fleet open when an admin gives back what Redis did not hear of", () =>
    Effect.gen(function*() {
      if (!canStart) return
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const where = fresh(server.url)
      const own = yield* operated({ ...where, url: proxy.url }, "50 millis")
      const others = yield* Effect.replicateEffect(member(where, { openDuration: "1 minute" }), 2)
      proxy.mode = { _tag: "delay", millis: () => 400 }
      expect((yield* own.apply(order("disable", "2 seconds"), alice)).reach).toBe("process")
      proxy.mode = { _tag: "pass" }
      yield* openAll(others)
      yield* wereTold([own, ...others], "fleet Open")
      const epoch = yield* others[0]!.epoch
      expect(yield* own.breaker.state).toBe("Disabled")
      yield* own.is("Open")
      yield* haveAsked(others)
      yield* know([own, ...others], epoch)
      yield* all(others, "Open")
    }))

  it.scopedLive("says that it reached this process only where others do not follow", () =>
    Effect.gen(function*() {
      const reached = (shared: Parameters<typeof member>[2]) =>
        Effect.gen(function*() {
          const { is } = yield* member(fresh(), {}, shared)
          const reach = yield* Registry.act("CircuitBreaker", "payments", "forceOpen", "1 minute")
          yield* is("ForcedOpen")
          return reach
        }).pipe(Effect.scoped)
      expect(yield* reached({})).toBe("fleet")
      expect(yield* reached({ operators: "local" })).toBe("process")
      expect(yield* reached({ mode: "advisory" })).toBe("process")
      expect(yield* reached({ except: ["payments"] })).toBe("process")
      // One that had not heard of another operator.
      const where = fresh()
      const deaf = yield* member({ ...where, deaf: true }, {}, { reportEvery: "1 hour" })
      yield* Effect.scoped(Effect.flatMap(member(where, {}), ({ breaker }) => breaker.disable))
      expect(yield* Registry.act("CircuitBreaker", "payments", "forceOpen", "1 minute")).toBe("process")
      yield* wereTold([deaf], "the fleet did not take forceOpen")
    }).pipe(Effect.provide(Registry.Live)))
})
