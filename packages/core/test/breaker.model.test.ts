import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import type { Config, Period, State } from "../src/internal/breaker/state.js"
import { admit, closed, command, overdue, settle, totals, wouldAdmit } from "../src/internal/breaker/state.js"
import { CountWindow, DurationWindow } from "../src/internal/breaker/window.js"

const second = 1_000_000_000

type Step =
  | { readonly _tag: "call" }
  | {
    readonly _tag: "end"
    readonly pick: number
    readonly outcome: "success" | "failure" | "ignored"
    readonly openFor: boolean
  }
  | { readonly _tag: "pass"; readonly seconds: number }
  | { readonly _tag: "command"; readonly command: "forceOpen" | "disable" | "metricsOnly" | "reset" }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.constant({ _tag: "call" as const }) },
  {
    weight: 8,
    arbitrary: fc.record({
      _tag: fc.constant("end" as const),
      pick: fc.nat(30),
      outcome: fc.constantFrom("success" as const, "failure" as const, "failure" as const, "ignored" as const),
      openFor: fc.oneof({ weight: 20, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) })
    })
  },
  { weight: 4, arbitrary: fc.record({ _tag: fc.constant("pass" as const), seconds: fc.integer({ min: 1, max: 12 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      _tag: fc.constant("command" as const),
      command: fc.constantFrom("forceOpen" as const, "disable" as const, "metricsOnly" as const, "reset" as const)
    })
  }
)

/** A call that is out. */
interface Flight {
  readonly generation: number
  readonly start: number
}

/** The table of the documentation, written down as plainly as possible: whole seconds, lists, no windows of buckets. */
class Model {
  state: State["_tag"] = "Closed"
  generation = 0
  since = 0
  until = 0
  opens = 0
  row = 0
  /** When the probes began that have not come back. */
  out: Array<number> = []
  good = 0
  bad = 0
  constructor(readonly failures: number, readonly m: number, readonly s: number) {}

  become(state: State["_tag"], now: number) {
    this.state = state
    this.generation++
    this.since = now
    this.out = []
    this.row =
      this.good =
      this.bad =
        0
  }
  trip(now: number) {
    const quiet = this.state === "Closed" && now - this.since >= 30
    const again = this.opens > 0 && !quiet
    this.opens = again ? this.opens + 1 : 1
    this.become("Open", now)
    this.until = now + (again ? 10 : 5)
  }
  hangs(now: number): boolean {
    return this.out.some((start) => now - start >= 10)
  }
  /** The generation of an admitted call; undefined for a rejected one. */
  call(now: number): number | undefined {
    if (this.state === "Open") {
      if (now < this.until) return undefined
      this.become("HalfOpen", now)
    } else if (this.state === "HalfOpen" && this.hangs(now)) {
      this.trip(now)
      return undefined
    }
    if (this.state === "ForcedOpen") return undefined
    if (this.state === "HalfOpen") {
      if (this.out.length >= this.m) return undefined
      this.out.push(now)
    }
    return this.generation
  }
  end({ generation, start }: Flight, outcome: "success" | "failure" | "ignored", openFor: boolean, now: number) {
    if (generation !== this.generation) return
    if (this.state === "HalfOpen") {
      const hung = this.hangs(now)
      this.out.splice(this.out.indexOf(start), 1)
      if (openFor) return this.openFor(now)
      if (outcome === "ignored") return
      if (hung) return this.trip(now)
      if (outcome === "success" && ++this.good >= this.s) {
        this.become("Closed", now)
      } else if (outcome === "failure" && ++this.bad > this.m - this.s) this.trip(now)
    } else if (this.state === "Closed") {
      if (openFor) return this.openFor(now)
      if (outcome === "success") this.row = 0
      else if (outcome === "failure" && ++this.row >= this.failures) this.trip(now)
    }
  }
  openFor(now: number) {
    this.become("Open", now)
    this.until = now + 42
  }
  operate(command: "forceOpen" | "disable" | "metricsOnly" | "reset", now: number) {
    this.opens = 0
    this.become(
      ({ forceOpen: "ForcedOpen", disable: "Disabled", metricsOnly: "MetricsOnly", reset: "Closed" } as const)[command],
      now
    )
  }
}

describe("the circuit, against a model", () => {
  it("moves as the table says, and no stale outcome moves it", () => {
    const shape = fc.integer({ min: 1, max: 4 }).chain((m) =>
      fc.record({ failures: fc.integer({ min: 1, max: 4 }), m: fc.constant(m), s: fc.integer({ min: 1, max: m }) })
    )
    fc.assert(
      fc.property(shape, fc.array(step, { maxLength: 60 }), ({ failures, m, s }, steps) => {
        const config: Config = {
          consecutiveFailures: failures,
          failureRate: 1,
          minimumCalls: 1_000_000,
          slowCallDuration: undefined,
          slowCallRate: 1,
          halfOpenMaxCalls: m,
          successThreshold: s,
          halfOpenTimeout: BigInt(10 * second),
          rampUp: undefined,
          quietAfter: BigInt(30 * second),
          window: () => new DurationWindow(BigInt(30 * second))
        }
        const times = { first: BigInt(5 * second), next: BigInt(10 * second) }
        const model = new Model(failures, m, s)
        let state: State = closed(config, 0n, times, 0, false)
        let now = 0
        const flying: Array<Flight & { readonly period: Period }> = []
        for (const one of steps) {
          const nanos = BigInt(now * second)
          switch (one._tag) {
            case "pass":
              now += one.seconds
              break
            case "command": {
              const action = one.command === "forceOpen"
                ? { _tag: one.command, length: 1n << 80n } as const
                : { _tag: one.command }
              state = command(config, state, action, nanos)[1]
              model.operate(one.command, now)
              break
            }
            case "call": {
              const hint = wouldAdmit(config, state, nanos)
              const [admission, next] = admit(config, state, nanos, 0)
              state = next
              const generation = model.call(now)
              expect(admission._tag).toBe(generation === undefined ? "Rejected" : "Admitted")
              expect(hint).toBe(admission._tag === "Admitted")
              if (admission._tag === "Admitted" && generation !== undefined) {
                flying.push({ period: admission.period, generation, start: now })
              }
              break
            }
            case "end": {
              const [call] = flying.splice(one.pick % Math.max(1, flying.length), 1)
              if (call === undefined) break
              const result = {
                outcome: one.outcome,
                start: BigInt(call.start * second),
                slow: false,
                recorded: false,
                openFor: one.openFor ? BigInt(42 * second) : undefined
              }
              state = settle(config, state, call.period, result, nanos)[1]
              model.end(call, one.outcome, one.openFor, now)
            }
          }
          expect(state._tag).toBe(model.state)
          expect(state.opens).toBe(model.opens)
          if (state._tag === "HalfOpen") {
            expect([state.out.length, state.succeeded, state.failed]).toEqual([model.out.length, model.good, model.bad])
            expect(state.out.length).toBeLessThanOrEqual(m)
          }
          if (state._tag === "Open") expect(state.until).toBe(BigInt(model.until * second))
        }
      }),
      { numRuns: 10_000 }
    )
  }, 60_000)

  it("a slow call counts once, whether it is seen while it runs, when it ends, or both", () => {
    const slowStep = fc.oneof(
      fc.constant({ _tag: "call" as const }),
      fc.record({ _tag: fc.constant("pass" as const), seconds: fc.integer({ min: 1, max: 3 }) }),
      fc.record({
        _tag: fc.constant("end" as const),
        pick: fc.nat(30),
        outcome: fc.constantFrom("success" as const, "failure" as const, "ignored" as const)
      })
    )
    const limit = BigInt(2 * second)
    const windows = { count: () => new CountWindow(1000), time: () => new DurationWindow(BigInt(1_000_000 * second)) }
    fc.assert(
      fc.property(
        fc.constantFrom("count" as const, "time" as const),
        fc.array(slowStep, { maxLength: 60 }),
        (kind, steps) => {
          const config: Config = {
            consecutiveFailures: false,
            failureRate: 1,
            minimumCalls: 1_000_000,
            slowCallDuration: limit,
            slowCallRate: 1,
            halfOpenMaxCalls: 1,
            successThreshold: 1,
            halfOpenTimeout: limit,
            rampUp: undefined,
            quietAfter: limit,
            window: windows[kind]
          }
          let state: State = closed(config, 0n, { first: limit, next: limit }, 0, false)
          let now = 0n
          const expected = { calls: 0, failures: 0, slow: 0 }
          const flying: Array<{ readonly period: Period; readonly start: bigint; recorded: boolean }> = []
          for (const one of steps) {
            if (one._tag === "pass") now += BigInt(one.seconds * second)
            else if (one._tag === "call") {
              const late = flying.filter(({ recorded, start }) => !recorded && now - start >= limit)
              for (const call of late) call.recorded = true
              state = overdue(config, state, now, late.length)[1]
              expected.calls += late.length
              expected.slow += late.length
              flying.push({ period: state.period, start: now, recorded: false })
            } else {
              const [call] = flying.splice(one.pick % Math.max(1, flying.length), 1)
              if (call === undefined) continue
              const { outcome } = one
              const slow = now - call.start >= limit
              const result = { outcome, start: call.start, slow, recorded: call.recorded, openFor: undefined }
              state = settle(config, state, call.period, result, now)[1]
              if (!call.recorded && (slow || outcome !== "ignored")) expected.calls++
              if (!call.recorded && slow) expected.slow++
              if (outcome === "failure") expected.failures++
            }
            expect(totals(state, now)).toEqual(expected)
          }
        }
      ),
      { numRuns: 10_000 }
    )
  }, 60_000)

  it("a window of time holds what the last window's length of calls was, to a bucket", () => {
    const calls = fc.array(fc.record({ gap: fc.integer({ min: 0, max: 4000 }), failed: fc.boolean() }), {
      maxLength: 60
    })
    fc.assert(
      fc.property(calls, (calls) => {
        const window = new DurationWindow(10_000n)
        const log: Array<{ readonly at: number; readonly failed: boolean }> = []
        let now = 0
        for (const { failed, gap } of calls) {
          now += gap
          window.record(BigInt(now), 1, failed ? 1 : 0, 0)
          log.push({ at: now, failed })
          const within = (length: number) => log.filter(({ at }) => now - at < length)
          const { calls, failures } = window.totals(BigInt(now))
          // A bucket leaves as a whole: nothing older than the window is left, nothing younger than nine tenths is gone.
          expect(calls).toBeLessThanOrEqual(within(10_000).length)
          expect(calls).toBeGreaterThanOrEqual(within(9_000).length)
          expect(failures).toBeLessThanOrEqual(within(10_000).filter(({ failed }) => failed).length)
        }
        expect(window.totals(BigInt(now + 10_000)).calls).toBe(0)
      }),
      { numRuns: 10_000 }
    )
  }, 60_000)

  it("a window of calls holds the last of them", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10 }), fc.array(fc.boolean(), { maxLength: 40 }), (size, outcomes) => {
        const window = new CountWindow(size)
        outcomes.forEach((failed, i) => {
          window.record(0n, 1, failed ? 1 : 0, failed ? 0 : 1)
          const last = outcomes.slice(Math.max(0, i + 1 - size), i + 1)
          const failures = last.filter((failed) => failed).length
          expect(window.totals()).toEqual({ calls: last.length, failures, slow: last.length - failures })
        })
      }),
      { numRuns: 10_000 }
    )
  }, 60_000)
})
