import { CircuitBreaker, EventBus, Registry, SharedCircuits } from "@effect-resilience/core"
import { Enforced } from "@effect-resilience/core/extension"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, FastCheck as fc, Fiber, Layer, Option, Queue, Scope, TestClock } from "effect"
import type { View } from "../src/internal/breaker/follow.js"
import { follow } from "../src/internal/breaker/follow.js"
import type { Config, State } from "../src/internal/breaker/state.js"
import { admit, closed, command, imageOf, settle } from "../src/internal/breaker/state.js"
import { CountWindow, DurationWindow } from "../src/internal/breaker/window.js"
import { holds } from "./utils/holds.js"
import { MemoryFleet } from "./utils/memoryFleet.js"
import type { Subject } from "./utils/sweep.js"
import { caught, whole } from "./utils/sweepTests.js"

const fail = Effect.fail("down")

const open = (fleet: MemoryFleet, options: CircuitBreaker.Options = {}) =>
  CircuitBreaker.make({ name: "b", ...options }).pipe(Effect.provideService(SharedCircuits, fleet))

describe("a circuit that follows its fleet", () => {
  it.scoped("opens with it, says truly for how long, and closes with it", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make()
      const breaker = yield* open(fleet)
      const events = yield* breaker.subscribe
      yield* fleet.tell("Open", { left: 400 })
      yield* TestClock.adjust("100 millis")
      const error = yield* Effect.flip(breaker.withBreaker(Effect.void))
      expect([error.reason, error.retryAfter]).toEqual(["Open", Option.some(Duration.millis(300))])
      yield* fleet.tell("Closed", { epoch: 2 })
      yield* breaker.withBreaker(Effect.void)
      yield* Effect.repeatN(Effect.yieldNow(), 5)
      const told = [...(yield* Queue.takeAll(events))].flatMap((event) =>
        event._tag === "StateChanged" ?
          [[event.to, event.cause]]
          : event._tag === "FleetChanged"
          ? [["fleet", event.state]]
          : []
      )
      expect(told).toEqual([["fleet", "Open"], ["Open", "Shared"], ["fleet", "Closed"], ["Closed", "Shared"]])
    }))

  it.scoped("probes by a lease, and leaves it to the fleet what the probes mean", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make(2)
      const breaker = yield* open(fleet, { halfOpenMaxCalls: 3, successThreshold: 1 })
      yield* fleet.tell("Open", { left: 10 })
      yield* TestClock.adjust("10 millis")
      yield* breaker.withBreaker(Effect.void)
      yield* Effect.exit(breaker.withBreaker(fail))
      expect(yield* breaker.state).toBe("HalfOpen")
      expect([fleet.ended, fleet.questions, fleet.out]).toEqual([["success", "failure"], 2, 0])
      // All leases are out: refused, and not asked again until it may have changed.
      const probes = yield* Effect.forEach([1, 2], () => Effect.fork(breaker.withBreaker(Effect.never)))
      yield* Effect.repeatN(Effect.yieldNow(), 20)
      expect(fleet.out).toBe(2)
      const refused = yield* Effect.forEach([1, 2, 3], () => Effect.flip(breaker.withBreaker(Effect.void)))
      expect(refused.map(({ reason }) => reason)).toEqual(["HalfOpenFull", "HalfOpenFull", "HalfOpenFull"])
      expect(fleet.questions).toBe(5)
      yield* Fiber.interruptAll(probes)
      expect(fleet.out).toBe(0)
    }))

  it.scoped("may be told of the fleet at once when it says how a probe ended", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make()
      const prompt: SharedCircuits.Service = {
        join: (circuit) => {
          const link = fleet.join(circuit)
          const settled = () => Effect.runSync(circuit.follow(fleet.view("Closed", { epoch: 2 })))
          return {
            ...link,
            lease: (answered) =>
              link.lease((lease) =>
                answered(
                  lease && {
                    settle: (...ended) => {
                      lease.settle(...ended)
                      settled()
                    }
                  }
                )
              )
          }
        }
      }
      const breaker = yield* CircuitBreaker.make({ name: "b" }).pipe(Effect.provideService(SharedCircuits, prompt))
      yield* fleet.tell("HalfOpen")
      yield* breaker.withBreaker(Effect.void)
      expect([fleet.ended, yield* breaker.state]).toEqual([["success"], "Closed"])
    }))

  it.scoped("probes by itself where the fleet cannot be asked", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make()
      const breaker = yield* open(fleet, { halfOpenMaxCalls: 1, successThreshold: 1 })
      yield* fleet.tell("Open", { left: 10 })
      fleet.away = true
      expect((yield* Effect.flip(breaker.withBreaker(Effect.void))).reason).toBe("Open")
      yield* TestClock.adjust("10 millis")
      expect(yield* breaker.withBreaker(Effect.succeed(1))).toBe(1)
      expect(yield* breaker.state).toBe("Closed")
      expect(fleet.questions).toBe(1)
    }))

  it.scoped("says which of its changes are its own, and asks nobody about a closed one", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make()
      const breaker = yield* open(fleet, { consecutiveFailures: 2, openDuration: "1 second" })
      const [circuit] = fleet.circuits
      yield* Effect.repeatN(breaker.withBreaker(Effect.void), 99)
      expect([circuit?.tally()?.ever(), fleet.questions]).toEqual([{ calls: 100, failures: 0, slow: 0 }, 0])
      const tally = circuit?.tally()
      yield* Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 1)
      expect(tally?.ever()).toEqual({ calls: 102, failures: 2, slow: 0 })
      expect([fleet.changes, circuit?.tally(), circuit?.openFor()]).toEqual([
        [{ from: "Closed", to: "Open", cause: "ConsecutiveFailures" }],
        undefined,
        1000
      ])
      yield* breaker.reset
      expect(fleet.commands).toEqual([{ _tag: "reset" }])
    }))

  it.scoped("tells the fleet until when an operator's action lasts, and the operator whom it reached", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make()
      yield* open(fleet)
      class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts") {}
      const hosts = yield* Layer.build(Layer.provide(Hosts.Live, Layer.succeed(SharedCircuits, fleet)))
      yield* Effect.provide(Hosts.withBreakerBy({ key: "h" })(Effect.void), hosts)
      const minute = Duration.minutes(1)
      const act = (instance: string, ...order: [action: string, input?: unknown, lasts?: Duration.Duration]) =>
        Registry.act("CircuitBreaker", instance, ...order)
      expect(yield* act("b", "forceOpen", "30 seconds", minute)).toBe("fleet")
      yield* act("b", "forceOpen", "2 minutes", minute)
      yield* act("b", "forceOpen", undefined, minute)
      yield* act("b", "forceOpen")
      yield* act("b", "disable", undefined, minute)
      yield* act("b", "metricsOnly", undefined, minute)
      yield* act("b", "disable")
      yield* act("b", "reset", "alice", minute)
      yield* act("hosts", "forceOpen", "h", minute)
      expect(fleet.commands).toEqual([
        ...[30_000, 60_000, 60_000, Infinity].map((length) => ({ _tag: "forceOpen", length })),
        { _tag: "disable", length: 60_000 },
        { _tag: "metricsOnly", length: 60_000 },
        { _tag: "disable", length: Infinity },
        { _tag: "reset" },
        { _tag: "forceOpen", length: 60_000 }
      ])
      fleet.away = true
      expect(yield* act("b", "forceOpen", undefined, minute)).toBe("process")
      const alone = yield* CircuitBreaker.make({ name: "alone" })
      expect(yield* act("alone", "forceOpen", undefined, minute)).toBe("process")
      // Here it ends as well, whoever acted.
      for (const action of ["forceOpen", "disable", "metricsOnly"]) {
        yield* act("alone", action, undefined, minute)
        yield* TestClock.adjust("59 seconds")
        yield* Effect.exit(alone.withBreaker(Effect.void))
        expect(yield* alone.state).not.toBe("Closed")
        yield* TestClock.adjust("1 second")
        yield* alone.withBreaker(Effect.void)
        expect(yield* alone.state).toBe("Closed")
      }
    }).pipe(Effect.provide(Registry.Live)))

  it.scoped("of a key joins when it is made and leaves when it is forgotten", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make()
      class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts", { maxKeys: 2 }) {}
      const scope = yield* Scope.make()
      const hosts = yield* Effect.provide(
        Hosts,
        yield* Layer.buildWithScope(Hosts.Live.pipe(Layer.provide(Layer.succeed(SharedCircuits, fleet))), scope)
      )
      const call = (key: string) => Effect.exit(hosts.withBreakerBy({ key })(Effect.void))
      yield* Effect.forEach(["a", "b", "c"], call)
      expect([...fleet.circuits].map(({ key }) => key)).toEqual(["b", "c"])
      yield* fleet.tell("Open", { left: 1000 })
      expect((yield* hosts.metrics).open.map(({ key }) => key)).toEqual(["b", "c"])
      yield* fleet.tell("Closed", { epoch: 2 })
      yield* Scope.close(scope, Exit.void)
      expect(fleet.circuits.size).toBe(0)
      // Nobody would make it leave.
      yield* call("d")
      expect(fleet.circuits.size).toBe(0)
    }))

  it.scoped("that only tries out joins no fleet", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make()
      yield* open(fleet).pipe(Effect.provideService(Enforced, false))
      expect(fleet.circuits.size).toBe(0)
    }))

  it.scoped("tells of a fleet that it does not follow", () =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make()
      const breaker = yield* open(fleet)
      const bus = yield* EventBus.subscribe
      yield* fleet.tell("Open", { left: 1000, followed: false })
      yield* breaker.withBreaker(Effect.void)
      yield* Effect.repeatN(Effect.yieldNow(), 5)
      const told = [...(yield* Queue.takeAll(bus))].filter(({ _tag }) => _tag !== "CallSucceeded")
      expect(told).toMatchObject([{ _tag: "FleetChanged", state: "Open", followed: false }])
      const { instances } = yield* Registry.snapshot
      expect(instances[0]?.metrics).toMatchObject({ state: "Closed", shared: { epoch: 1 } })
    }).pipe(Effect.provide(Layer.merge(EventBus.Live, Registry.Live))))
})

describe("a probe of the fleet, interrupted", () => {
  /** A half-open circuit: whole when no lease and no slot is out. */
  const probing = (turns: number): Effect.Effect<Subject> =>
    Effect.gen(function*() {
      const fleet = yield* MemoryFleet.make(1, turns)
      const breaker = yield* Scope.extend(
        open(fleet, { halfOpenMaxCalls: 1, successThreshold: 1 }),
        yield* Scope.make()
      )
      yield* fleet.tell("HalfOpen")
      return {
        with: breaker.withBreaker,
        // Whoever is let in now has asked, and runs.
        whole: Effect.gen(function*() {
          const { questions } = fleet
          const admits = (yield* breaker.wouldAdmit) && fleet.out === 0
          return admits && (yield* breaker.withBreaker(Effect.succeed(true))) && fleet.questions === questions + 1
        }).pipe(Effect.orElseSucceed(() => false))
      }
    })
  whole("gives the lease back that comes at once", probing(1), { steps: 6, budgets: [12, 16] })
  whole("gives the lease back that comes late", probing(9), { steps: 16, budgets: [13] })
  caught(
    "a lease that comes after its caller went",
    Effect.map(
      MemoryFleet.make(1, 3),
      (fleet): Subject => ({
        with: (effect) =>
          Effect.acquireUseRelease(
            Effect.interruptible(Effect.async<SharedCircuits.Lease | undefined>((resume) => {
              fleet.join({ follow: () => Effect.void } as unknown as SharedCircuits.Circuit)
                .lease((lease) => resume(Effect.succeed(lease)))
            })),
            () => effect,
            (lease) => Effect.sync(() => lease?.settle("ignored", undefined))
          ),
        whole: Effect.sync(() => fleet.out === 0)
      })
    )
  )
})

const second = 1_000_000_000n
const config: Config = {
  consecutiveFailures: 3,
  failureRate: 0.5,
  slowCallDuration: undefined,
  slowCallRate: 1,
  minimumCalls: 20,
  halfOpenMaxCalls: 2,
  successThreshold: 2,
  halfOpenTimeout: 10n * second,
  rampUp: undefined,
  quietAfter: 30n * second,
  window: () => new DurationWindow(30n * second)
}

const view: fc.Arbitrary<View> = fc.record({
  state: fc.constantFrom("Closed", "Open", "HalfOpen", "ForcedOpen", "Disabled", "MetricsOnly", "Unknown"),
  left: fc.nat(9).map((n) => BigInt(n) * second),
  opens: fc.nat(3),
  operator: fc.boolean(),
  acted: fc.constant(0)
})

const step = fc.oneof(
  { weight: 4, arbitrary: view.map((heard) => ({ _tag: "hear" as const, heard })) },
  {
    weight: 8,
    arbitrary: fc.constantFrom("success" as const, "failure" as const).map((outcome) => ({
      _tag: "call" as const,
      outcome
    }))
  },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 8 }).map((seconds) => ({ _tag: "pass" as const, seconds })) },
  {
    weight: 1,
    arbitrary: fc.constantFrom("forceOpen" as const, "disable" as const, "reset" as const).map((act) => ({
      _tag: "act" as const,
      act
    }))
  }
)

const shared = (state: State): boolean => (state._tag === "Open" || state._tag === "HalfOpen") && state.shared

describe("following, as a property", () => {
  it("makes a circuit stricter, ends what it began, and nothing else", () =>
    holds(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let now = 1_000n * second
        let state: State = closed(config, now, { first: 5n * second, next: 5n * second }, 0, false)
        for (const s of steps) {
          if (s._tag === "pass") now += BigInt(s.seconds) * second
          if (s._tag === "act") state = command(config, state, { _tag: s.act, length: 5n * second }, now)[1]
          if (s._tag === "call") {
            const [admission, next] = admit(config, state, now, 0)
            // Only a circuit that follows asks for a lease, and for each of its probes.
            if (admission._tag === "Admitted") expect(admission.asks === true).toBe(shared(next) && admission.probe)
            state = next
            if (admission._tag === "Admitted") {
              const result = { outcome: s.outcome, start: now, slow: false, recorded: false, openFor: undefined }
              state = settle(config, state, admission.period, result, now)[1]
            }
          }
          if (s._tag !== "hear") continue
          const { heard } = s
          const before = state
          const [{ change }, after] = follow(config, before, heard, now)
          state = after
          if (change !== undefined) {
            expect([change.from, change.to, change.cause]).toEqual([before._tag, after._tag, "Shared"])
          } else expect(after._tag).toBe(before._tag)
          const byHand = ["ForcedOpen", "Disabled", "MetricsOnly"].includes(before._tag) && !heard.operator
          // One that is over is a closed circuit that no call has found yet.
          const isOver = "until" in before && before.until <= now
          if (byHand && (!isOver || heard.state === "Closed" || heard.state === "Unknown")) {
            expect(after).toBe(before)
            continue
          }
          if (heard.state === "Unknown") {
            expect(after._tag).toBe(before._tag)
            expect(shared(after)).toBe(false)
            // It is never pinned: its time stays what it was, or ends sooner where it is the fleet's.
            if (before._tag === "Open" && after._tag === "Open") {
              const isEarlier = before.shared && now + heard.left < before.until
              expect(after.until).toBe(isEarlier ? now + heard.left : before.until)
            }
          } else if (heard.state === "Open" || heard.state === "HalfOpen") {
            expect(shared(after) && after._tag !== "Closed").toBe(true)
            if (before._tag === "Open" && !shared(before) && now < before.until) {
              expect(after._tag === "Open" && after.until >= before.until).toBe(true)
            }
          } else if (heard.state === "Closed") {
            const stays = (before._tag === "Open" || before._tag === "HalfOpen") && !shared(before) && !heard.operator
            expect(after._tag).toBe(stays ? before._tag : "Closed")
          } else {
            expect(after._tag).toBe(heard.state)
            // It is over by itself, and no sooner, whatever becomes of the fleet.
            expect(imageOf(after, now).left).toBe(heard.left)
            if (heard.left > 0n) expect(admit(config, after, now, 0)[1]._tag).toBe(after._tag)
            expect(admit(config, after, now + heard.left, 0)[1]._tag).toBe("Closed")
          }
        }
      }),
      2000
    ))

  it("what was ever recorded is all that was recorded, whatever has left the window", () =>
    holds(
      fc.property(
        fc.boolean(),
        fc.array(fc.tuple(fc.nat(20), fc.nat(1), fc.nat(1)), { maxLength: 200 }),
        (byCount, records) => {
          const window = byCount ? new CountWindow(7) : new DurationWindow(30n * second)
          let now = second
          let failures = 0
          for (const [gap, failed, success] of records) {
            now += BigInt(gap) * second
            if (success === 1 && failed === 0) window.success(now)
            else window.record(now, 1, failed, 0)
            failures += failed
          }
          expect(window.ever()).toEqual({ calls: records.length, failures, slow: 0 })
        }
      ),
      1000
    ))
})
