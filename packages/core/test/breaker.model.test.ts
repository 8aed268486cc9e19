import { describe, expect, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import type { Config, Period, State } from "../src/internal/breaker/state.js"
import {
  admit,
  closed,
  command,
  imageOf,
  isOverridden,
  overdue,
  restore,
  settle,
  totals,
  wouldAdmit
} from "../src/internal/breaker/state.js"
import { CountWindow, DurationWindow } from "../src/internal/breaker/window.js"
import { holds } from "./utils/holds.js"

const second = 1_000_000_000

type Step =
  /** `draw`, in hundredths, decides while a ramp lasts. */
  | { readonly _tag: "call"; readonly draw: number }
  | {
    readonly _tag: "end"
    readonly pick: number
    readonly outcome: "success" | "failure" | "ignored"
    readonly openFor: boolean
  }
  | { readonly _tag: "pass"; readonly seconds: number }
  | {
    readonly _tag: "command"
    readonly command: "forceOpen" | "disable" | "metricsOnly" | "reset"
    /** How long it lasts; 0 for good. */
    readonly seconds: number
  }
  /** A new process with a clock of its own, and a snapshot of the old one. */
  | { readonly _tag: "restart"; readonly clock: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ _tag: fc.constant("call" as const), draw: fc.nat(99) }) },
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
      command: fc.constantFrom("forceOpen" as const, "disable" as const, "metricsOnly" as const, "reset" as const),
      seconds: fc.nat(10)
    })
  },
  { weight: 2, arbitrary: fc.record({ _tag: fc.constant("restart" as const), clock: fc.nat(1_000_000) }) }
)

/** A call that is out. */
interface Flight {
  readonly generation: number
  readonly start: number
}

/** What is drawn once for a circuit. */
interface Shape {
  readonly failures: number | false
  readonly m: number
  readonly s: number
  /** The failure rate, in hundredths. */
  readonly percent: number
  readonly minimum: number
  /** Calls that the window holds; none for a window of time that is longer than the test. */
  readonly size: number | undefined
  readonly ramp: number | undefined
}

const shape: fc.Arbitrary<Shape> = fc.record({
  failures: fc.constantFrom<number | false>(1, 2, 3, 4, 8, false),
  m: fc.integer({ min: 1, max: 4 }),
  s: fc.integer({ min: 1, max: 4 }),
  percent: fc.constantFrom(29, 50, 75, 100),
  minimum: fc.integer({ min: 1, max: 6 }),
  room: fc.option(fc.nat(5), { nil: undefined }),
  ramp: fc.constantFrom(undefined, 20)
}).map(({ room, s, ...rest }) => ({
  ...rest,
  s: Math.min(s, rest.m),
  size: room === undefined ? undefined : rest.minimum + room
}))

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
  /** The calls of the window, the oldest first: which of them failed. */
  window: Array<boolean> = []
  rampUntil = 0
  cause = ""
  constructor(readonly shape: Shape) {}

  become(state: State["_tag"], now: number, cause: string) {
    this.state = state
    this.cause = cause
    this.generation++
    this.since = now
    this.out = []
    this.window = []
    this.rampUntil = 0
    this.row =
      this.good =
      this.bad =
        0
  }
  trip(now: number, cause: string) {
    const quiet = this.state === "Closed" && now - this.since >= 30
    const again = this.opens > 0 && !quiet
    this.opens = again ? this.opens + 1 : 1
    this.become("Open", now, cause)
    this.until = now + (again ? 10 : 5)
  }
  hangs(now: number): boolean {
    return this.out.some((start) => now - start >= 10)
  }
  /** The generation of an admitted call; undefined for a rejected one. */
  call(now: number, draw: number): number | undefined {
    if (this.state === "Open") {
      if (now < this.until) return undefined
      this.become("HalfOpen", now, "OpenDurationOver")
    } else if (this.state === "HalfOpen" && this.hangs(now)) {
      this.trip(now, "HalfOpenTimeout")
      return undefined
    } else if (this.state === "ForcedOpen") {
      if (now < this.until) return undefined
      this.opens = 0
      this.become("Closed", now, "ForcedOpenOver")
    } else if ((this.state === "Disabled" || this.state === "MetricsOnly") && now >= this.until) {
      this.become("Closed", now, "OverrideOver")
    } else if (this.state === "Closed" && now < this.rampUntil) {
      const share = Math.max(0.1, (now - this.since) / (this.rampUntil - this.since))
      if (draw >= share) return undefined
    }
    if (this.state === "HalfOpen") {
      if (this.out.length >= this.shape.m) return undefined
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
      if (hung) return this.trip(now, "HalfOpenTimeout")
      if (outcome === "success" && ++this.good >= this.shape.s) {
        this.become("Closed", now, "ProbesSucceeded")
        this.rampUntil = now + (this.shape.ramp ?? 0)
      } else if (outcome === "failure" && ++this.bad > this.shape.m - this.shape.s) this.trip(now, "ProbesFailed")
    } else if (this.state === "Closed") {
      if (openFor) return this.openFor(now)
      if (outcome !== "ignored") this.record(outcome === "failure", now)
    }
  }
  record(failed: boolean, now: number) {
    const { failures, minimum, percent, size } = this.shape
    const before = this.window.length
    this.window.push(failed)
    if (size !== undefined && this.window.length > size) this.window.shift()
    this.row = failed ? this.row + 1 : 0
    if (failures !== false && this.row >= failures) return this.trip(now, "ConsecutiveFailures")
    const calls = this.window.length
    if (calls < minimum || !(failed || before < minimum)) return
    if (this.window.filter((failed) => failed).length * 100 >= percent * calls) this.trip(now, "FailureRate")
  }
  openFor(now: number) {
    this.become("Open", now, "OpenOn")
    this.until = now + 42
  }
  operate(command: "forceOpen" | "disable" | "metricsOnly" | "reset", seconds: number, now: number) {
    this.opens = 0
    this.become(
      ({ forceOpen: "ForcedOpen", disable: "Disabled", metricsOnly: "MetricsOnly", reset: "Closed" } as const)[command],
      now,
      "Operator"
    )
    this.until = seconds === 0 ? Infinity : now + seconds
  }
  /** The calls of the old process are not those of the new one; else all is as it was. */
  restart() {
    this.generation++
    this.out = []
    this.good = this.bad = 0
  }
}

/** `expect` costs microseconds, and there are millions of comparisons: it only tells of those that fail. */
const agree = (actual: unknown, expected: unknown) => {
  if (actual !== expected) expect(actual).toBe(expected)
}

describe("the circuit, against a model", () => {
  it("moves as the table says, and no stale outcome moves it", () => {
    return holds(
      fc.property(shape, fc.array(step, { maxLength: 60 }), (shape, steps) => {
        const { failures, m, minimum, percent, ramp, s, size } = shape
        const config: Config = {
          consecutiveFailures: failures,
          failureRate: percent / 100,
          minimumCalls: minimum,
          slowCallDuration: undefined,
          slowCallRate: 1,
          halfOpenMaxCalls: m,
          successThreshold: s,
          halfOpenTimeout: BigInt(10 * second),
          rampUp: ramp === undefined ? undefined : BigInt(ramp * second),
          quietAfter: BigInt(30 * second),
          window: () => size === undefined ? new DurationWindow(BigInt(100_000 * second)) : new CountWindow(size)
        }
        const times = { first: BigInt(5 * second), next: BigInt(10 * second) }
        const model = new Model(shape)
        // It begins as one that has just closed: few random walks would come as far as that.
        let state: State = closed(config, 0n, times, 0, true)
        model.rampUntil = ramp ?? 0
        let now = 0
        /** Where the clock of this process stands when that of the model begins. */
        let origin = 0n
        let flying: Array<Flight & { readonly period: Period }> = []
        const nanos = (seconds: number) => origin + BigInt(seconds * second)
        const same = (change: { readonly cause: string } | undefined, generation: number) => {
          const moved = model.generation !== generation
          agree(change?.cause, moved ? model.cause : undefined)
        }
        for (const one of steps) {
          const { generation: before } = model
          switch (one._tag) {
            case "pass":
              now += one.seconds
              break
            case "restart": {
              const image = imageOf(state, nanos(now))
              origin = BigInt(one.clock * second)
              state = restore(config, image, times, nanos(now))
              model.restart()
              flying = []
              break
            }
            case "command": {
              const length = one.seconds === 0 ? 1n << 80n : BigInt(one.seconds * second)
              const action = one.command === "reset" ? { _tag: one.command } : { _tag: one.command, length }
              state = command(config, state, action, nanos(now))[1]
              model.operate(one.command, one.seconds, now)
              break
            }
            case "call": {
              const hint = wouldAdmit(config, state, nanos(now))
              const [admission, next] = admit(config, state, nanos(now), one.draw / 100)
              state = next
              const generation = model.call(now, one.draw / 100)
              agree(admission._tag, generation === undefined ? "Rejected" : "Admitted")
              same(admission.change, before)
              // A ramp is left to chance, so the hint does not speak of it.
              const refused = admission._tag === "Rejected" && admission.reason !== "RampUp"
              agree(hint, !refused)
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
                start: nanos(call.start),
                slow: false,
                recorded: false,
                openFor: one.openFor ? BigInt(42 * second) : undefined
              }
              const [settlement, next] = settle(config, state, call.period, result, nanos(now))
              state = next
              model.end(call, one.outcome, one.openFor, now)
              same(settlement.change, before)
            }
          }
          agree(state._tag, model.state)
          agree(state.opens, model.opens)
          if (state._tag === "HalfOpen") {
            agree(state.out.length, model.out.length)
            agree(state.succeeded, model.good)
            agree(state.failed, model.bad)
          }
          if (state._tag === "Closed") {
            const { calls, failures } = totals(state, nanos(now))
            agree(calls, model.window.length)
            agree(failures, model.window.filter((failed) => failed).length)
          }
          if (state._tag === "Open" || (isOverridden(state) && model.until < Infinity)) {
            // Once it is over, no snapshot tells for how long.
            const left = state.until - nanos(now)
            agree(left > 0n ? left : 0n, BigInt(Math.max(0, model.until - now) * second))
          }
        }
      }),
      10_000
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
    return holds(
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
            const { calls, failures, slow } = totals(state, now)
            agree(calls, expected.calls)
            agree(failures, expected.failures)
            agree(slow, expected.slow)
          }
        }
      ),
      10_000
    )
  }, 60_000)

  it("a window of time holds what the last window's length of calls was, to a bucket", () => {
    const calls = fc.array(fc.record({ gap: fc.integer({ min: 0, max: 4000 }), failed: fc.boolean() }), {
      maxLength: 60
    })
    return holds(
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
          const longest = within(10_000)
          agree(Math.min(calls, longest.length), calls)
          agree(Math.max(calls, within(9_000).length), calls)
          agree(Math.min(failures, longest.filter(({ failed }) => failed).length), failures)
        }
        expect(window.totals(BigInt(now + 10_000)).calls).toBe(0)
      }),
      10_000
    )
  }, 60_000)

  it("a window of calls holds the last of them", () => {
    return holds(
      fc.property(fc.integer({ min: 1, max: 10 }), fc.array(fc.boolean(), { maxLength: 40 }), (size, outcomes) => {
        const window = new CountWindow(size)
        outcomes.forEach((failed, i) => {
          window.record(0n, 1, failed ? 1 : 0, failed ? 0 : 1)
          const last = outcomes.slice(Math.max(0, i + 1 - size), i + 1)
          const failures = last.filter((failed) => failed).length
          expect(window.totals()).toEqual({ calls: last.length, failures, slow: last.length - failures })
        })
      }),
      10_000
    )
  }, 60_000)
})
