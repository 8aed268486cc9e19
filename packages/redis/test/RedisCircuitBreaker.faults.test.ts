import { CircuitBreaker } from "@effect-resilience/core"
import { PrometheusMetrics } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { inject } from "vitest"
import {
  all,
  fail,
  fresh,
  haveAsked,
  hearersOf,
  inProcess,
  member,
  membersOf,
  openAll,
  wereTold,
  works
} from "./utils/circuits.js"
import { Proxy } from "./utils/proxy.js"
import { canStart, Server } from "./utils/server.js"
import { eventually } from "./utils/until.js"

const url = inject("redisUrl")

describe.skipIf(url === undefined)("a shared circuit breaker, when something breaks", () => {
  it.scopedLive("RC5: ignores what a probe says whose lease is over", () =>
    Effect.gen(function*() {
      const where = fresh()
      const options = { openDuration: "100 millis", halfOpenMaxCalls: 1, successThreshold: 1 } as const
      const shared = { probeLease: "100 millis" } as const
      const members = yield* membersOf(2, where, options, shared)
      const [a, b] = members
      yield* openAll(members)
      yield* eventually("it is time to probe", a.breaker.wouldAdmit)
      const slow = yield* Effect.fork(a.breaker.withBreaker(Effect.sleep(500)))
      yield* Effect.sleep(150)
      const before = yield* a.epoch
      // The next probe fails: open again, under another epoch. The late success of the first closes nothing.
      yield* eventually(
        "a probe fails",
        Effect.map(Effect.exit(b.breaker.withBreaker(fail)), (exit) => String(exit).includes("down"))
      )
      yield* all(members, "Open")
      yield* Effect.flatMap(b.breaker.forceOpen("1 minute"), () => all(members, "ForcedOpen"))
      yield* Fiber.join(slow)
      yield* Effect.sleep(50)
      expect([yield* a.breaker.state, yield* b.breaker.state]).toEqual(["ForcedOpen", "ForcedOpen"])
      expect(yield* a.epoch).toBeGreaterThan(before)
    }))

  it.scopedLive("RC13: opens again for a probe that hangs, as a circuit that is alone", () =>
    Effect.gen(function*() {
      const where = fresh()
      const options = {
        openDuration: "300 millis",
        halfOpenMaxCalls: 1,
        successThreshold: 1,
        halfOpenTimeout: "200 millis"
      } as const
      const shared = { reportEvery: "20 millis" } as const
      const members = yield* membersOf(2, where, options, shared)
      const [a, b] = members
      yield* Effect.all([a.trip, b.trip])
      yield* wereTold(members, "fleet Open")
      const began: Array<number> = []
      const hang = Effect.zipRight(Effect.sync(() => began.push(performance.now())), Effect.sleep("1 second"))
      yield* Effect.forEach(members, ({ breaker }) =>
        Effect.forkScoped(
          Effect.forever(
            Effect.zipRight(Effect.fork(Effect.ignore(breaker.withBreaker(hang))), Effect.sleep("5 millis"))
          )
        ))
      yield* eventually("four probes began", Effect.sync(() => began.length >= 4))
      // From one probe to the next: the time that it may take, and the time that the circuit is open.
      const between = began.slice(1).map((time, i) => time - Number(began[i]))
      expect(Math.min(...between)).toBeGreaterThan(450)
    }))

  it.scopedLive("RC13: opens again for a probe that hangs where Redis is slow to answer", () =>
    Effect.gen(function*() {
      if (!canStart) return
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const where = { ...fresh(server.url), commandTimeout: 2000 }
      const options = {
        openDuration: "300 millis",
        halfOpenMaxCalls: 1,
        successThreshold: 1,
        halfOpenTimeout: "300 millis"
      } as const
      const a = yield* member({ ...where, url: proxy.url }, options)
      // It hears of what is told to all, and asks nothing.
      const b = yield* member(where, options, { reportEvery: "1 hour" })
      yield* openAll([a, b])
      yield* wereTold([a, b], "fleet Open")
      // The server knows all scripts then.
      yield* eventually("it is time to probe", b.breaker.wouldAdmit)
      yield* Effect.exit(b.breaker.withBreaker(fail))
      yield* b.is("Open")
      const epoch = yield* b.epoch
      yield* eventually("the other has heard", Effect.map(a.epoch, (now) => now === epoch))
      yield* eventually("it is time to probe", a.breaker.wouldAdmit)
      // The lease is known of when most of it is over.
      proxy.mode = { _tag: "delay", millis: () => 250 }
      yield* Effect.forkScoped(Effect.ignore(a.breaker.withBreaker(Effect.never)))
      yield* eventually("the fleet is open again", Effect.map(b.epoch, (now) => now > epoch), 3)
    }))

  it.scopedLive("RC9: loses no lease, whenever a probe is interrupted", () =>
    Effect.gen(function*() {
      const where = fresh()
      const options = { openDuration: "50 millis", halfOpenMaxCalls: 1, successThreshold: 1 } as const
      const members = yield* membersOf(2, where, options)
      const [a, b] = members
      yield* openAll(members)
      yield* eventually("it is time to probe", a.breaker.wouldAdmit)
      let begun = 0
      const out = Effect.orDie(a.redis.command("zcard", `${where.prefix}cb:{payments}:p`))
      const noneOut = Effect.map(out, (leases) => leases === 0)
      for (let n = 0; n < 150; n++) {
        const probe = yield* Effect.fork(
          a.breaker.withBreaker(Effect.zipRight(Effect.sync(() => begun++), Effect.never))
        )
        // Before the question, while it is asked, and after: the whole of a round trip and more.
        if (n % 3 === 0) yield* Effect.repeatN(Effect.yieldNow(), n % 20)
        else yield* Effect.sleep((n % 15) / 10)
        yield* Fiber.interrupt(probe)
        yield* eventually("no probe is out", noneOut)
      }
      expect(begun).toBeGreaterThan(5)
      expect(begun).toBeLessThan(150)
      // All leases are there: the other process gets the only one, long before one would be over.
      yield* eventually(
        "the other gets the lease",
        Effect.map(Effect.exit(b.breaker.withBreaker(Effect.void)), Exit.isSuccess),
        1
      )
      yield* all(members, "Closed")
    }))

  it.scopedLive(
    "RC7: whose Redis is gone keeps its time and then probes by itself, and meets the fleet again",
    () =>
      Effect.gen(function*() {
        if (!canStart) return
        const server = yield* Server.start()
        const where = fresh(server.url)
        const options = { openDuration: "400 millis", halfOpenMaxCalls: 1, successThreshold: 1 } as const
        const shared = { reportEvery: "50 millis" } as const
        const members = yield* membersOf(3, where, options, shared)
        const [a, b, c] = members
        const began = performance.now()
        yield* Effect.all([a.trip, b.trip])
        yield* c.is("Open")
        yield* Effect.promise(() => server.kill())
        expect(Exit.isFailure(yield* Effect.exit(c.breaker.withBreaker(Effect.void)))).toBe(true)
        yield* eventually(
          "it probes by itself",
          Effect.map(Effect.exit(c.breaker.withBreaker(Effect.void)), Exit.isSuccess)
        )
        const took = performance.now() - began
        expect(took).toBeGreaterThan(390)
        expect(took).toBeLessThan(400 + 300 + 300)
        yield* c.is("Closed")
        yield* wereTold([c], "fleet Unknown")
        expect((yield* c.breaker.metrics).shared).toMatchObject({ state: "Unknown" })
        // It goes on alone.
        yield* c.trip
        yield* c.is("Open")
        yield* c.breaker.reset
        const alone = "Redis cannot be asked, so reset holds in this process alone"
        yield* wereTold([c], alone)
        // And with the fleet, where there is one again: it remembers nothing, but two are still open and say so.
        yield* Effect.promise(() => server.start())
        yield* c.is("Open")
        yield* works(members)
      }),
    30_000
  )

  it.scopedLive("RC25: counts the reports that Redis did not get, where its metrics are scraped too", () =>
    Effect.gen(function*() {
      if (!canStart) return
      const server = yield* Server.start()
      const context = yield* inProcess(fresh(server.url), { reportEvery: "20 millis" })
      const breaker = yield* Effect.provide(CircuitBreaker.make({ name: "unheard" }), context)
      const scraped = Effect.map(
        PrometheusMetrics.text(),
        (text) =>
          text.split("\n").filter((line) =>
            line.startsWith("resilience_circuit_breaker_reports_dropped_total{") && line.includes(`"unheard"`)
          ).map((line) => Number(line.split(" ").at(-1)))
      )
      const dropped = Effect.map(breaker.metrics, ({ shared }) => shared?.dropped)
      expect([yield* dropped, yield* scraped]).toEqual([0, [0]])
      yield* Effect.promise(() => server.kill())
      yield* breaker.withBreaker(Effect.void)
      yield* eventually("a report is given up", Effect.map(dropped, (count) => count === 1))
      // Nothing new to tell: what is asked in vain is no report.
      yield* Effect.sleep("60 millis")
      expect([yield* dropped, yield* scraped]).toEqual([1, [1]])
    }))

  it.scopedLive("RC8: that Redis forgot closes nothing, and those that are open say so again", () =>
    Effect.gen(function*() {
      const where = fresh()
      const options = { openDuration: "300 millis", halfOpenMaxCalls: 1, successThreshold: 1 } as const
      const shared = { reportEvery: "20 millis" } as const
      const members = yield* membersOf(3, where, options, shared)
      const [, , c] = members
      yield* openAll(members)
      yield* haveAsked(members)
      const epoch = yield* c.epoch
      yield* c.redis.command("del", `${where.prefix}cb:{payments}:s`)
      // Two are open by themselves and say so again, to a fleet that begins with a later epoch than any before.
      yield* eventually("the fleet is open again", Effect.map(c.epoch, (now) => now > epoch))
      yield* all(members, "Open")
      expect(c.told).not.toContain("Closed Shared")
      yield* Effect.sleep(310)
      yield* works(members)
    }))

  it.scopedLive("RC12: takes what an operator did long ago, and a fail-over brought back, for no operator's action", () =>
    Effect.gen(function*() {
      const where = fresh()
      const shared = { reportEvery: "20 millis" } as const
      const members = yield* membersOf(2, where, {}, shared)
      const [a, b] = members
      const key = `${where.prefix}cb:{payments}:s`
      yield* a.breaker.reset
      const before = (yield* Effect.orDie(a.redis.command("hgetall", key))) as ReadonlyArray<string> | object
      const old = Array.isArray(before) ? before.map(String) : Object.entries(before).flat().map(String)
      expect(old.length).toBe(18)
      const epochs = Effect.forEach(members, ({ epoch }) => epoch)
      /** The server has what it had then, and both have heard so. */
      const failOver = Effect.gen(function*() {
        yield* haveAsked(members)
        const known = yield* epochs
        yield* Effect.orDie(a.redis.command("hset", key, ...old))
        yield* eventually("both have heard", Effect.map(epochs, (now) => now.every((epoch, i) => epoch !== known[i])))
        yield* Effect.sleep(60)
      })
      yield* Effect.all([a.trip, b.trip])
      yield* wereTold(members, "fleet Open")
      yield* failOver
      expect([yield* a.breaker.state, yield* b.breaker.state]).toEqual(["Open", "Open"])
      for (const { told } of members) expect(told).not.toContain("Closed Shared")
      yield* b.breaker.disable
      yield* all(members, "Disabled")
      yield* failOver
      expect([yield* a.breaker.state, yield* b.breaker.state]).toEqual(["Disabled", "Disabled"])
      // What an operator does now counts.
      yield* a.breaker.reset
      yield* all(members, "Closed")
    }))

  it.scopedLive("RC6: that lost its messages asks as soon as it hears again", () =>
    Effect.gen(function*() {
      if (!canStart) return
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const where = fresh(server.url)
      const rarely = { reportEvery: "1 hour" } as const
      const [a, b, c] = yield* Effect.all([
        member({ ...where, deaf: true }, {}, rarely),
        member({ ...where, deaf: true }, {}, rarely),
        member({ ...where, url: proxy.url }, {}, rarely)
      ])
      // It can ask all the time, and hears nothing.
      proxy.refuses = true
      yield* a.redis.command("client", "kill", "type", "pubsub")
      yield* Effect.all([a.trip, b.trip])
      yield* wereTold([b], "fleet Open")
      expect(c.told).toEqual([])
      expect(yield* c.redis.command("ping")).toBe("PONG")
      expect(yield* hearersOf(a.redis, `${where.prefix}cb:`)).toBe(0)
      proxy.refuses = false
      yield* eventually("it hears again", Effect.map(hearersOf(a.redis, `${where.prefix}cb:`), (count) => count === 1))
      yield* c.is("Open")
      expect(c.told).toEqual(["fleet Open", "Open Shared"])
    }))
})
