import { describe, expect, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { failureLine } from "../src/internal/failureLine.js"
import { onceAMinute, trouble } from "../src/internal/onceAMinute.js"

const timeout = { reason: "Timeout" }
const full = { reason: "Full" }

describe("trouble", () => {
  it.effect("is told once a minute, and of another kind at once", () =>
    Effect.gen(function*() {
      const told: Array<unknown> = []
      const failed = onceAMinute((error) => Effect.sync(() => void told.push(error)))
      const error = new Error("a")
      for (const each of [timeout, timeout, full, error, timeout, full, new Error("b")]) yield* failed(each)
      expect(told).toEqual([timeout, full, error])
      // Each has a minute of its own.
      yield* TestClock.adjust("59 seconds")
      yield* failed(full)
      expect(told).toHaveLength(3)
      yield* TestClock.adjust("1 second")
      yield* failed(full)
      yield* failed(full)
      expect(told.slice(3)).toEqual([full])
    }))

  it.effect("of one outage whose reasons change is told as one, where its errors say so", () =>
    Effect.gen(function*() {
      const told: Array<unknown> = []
      const failed = onceAMinute((error) => Effect.sync(() => void told.push(error)))
      yield* failed({ kind: "Absent", reason: "Timeout" })
      yield* failed({ kind: "Absent", reason: "Down" })
      expect(told).toHaveLength(1)
    }))

  it.effect("of ever new kinds ten are told in a minute", () =>
    Effect.gen(function*() {
      let told = 0
      const failed = onceAMinute(() => Effect.sync(() => void told++))
      for (let n = 0; n < 100; n++) yield* failed({ reason: `r${n}` })
      expect(told).toBe(10)
    }))

  it.effect("is over once, when there was none for five seconds, and may begin anew", () =>
    Effect.gen(function*() {
      const told: Array<string> = []
      const tell = (text: string) => Effect.sync(() => void told.push(text))
      const { failed, worked } = trouble(() => tell("failed"), tell("over"))
      yield* worked
      expect(told).toEqual([])
      yield* failed(timeout)
      // It works now and then.
      for (let n = 0; n < 10; n++) {
        yield* TestClock.adjust("4 seconds")
        yield* worked
        yield* failed(timeout)
      }
      expect(told).toEqual(["failed"])
      yield* TestClock.adjust("5 seconds")
      yield* worked
      yield* worked
      expect(told).toEqual(["failed", "over"])
      yield* failed(timeout)
      expect(told).toEqual(["failed", "over", "failed"])
    }))
})

describe("what is logged of a failure", () => {
  it("is one line where it was expected, and all there is of any other", () => {
    const expected = Object.assign(new Error("is full"), { _tag: "StoreError" })
    expect(failureLine("store failed", expected, "as \"open\" has it")).toEqual([
      "store failed (as \"open\" has it): is full"
    ])
    const defect = new TypeError("x is not a function")
    expect(failureLine("store failed", defect)).toEqual(["store failed", defect])
    expect(failureLine("store failed", "why")).toEqual(["store failed", "why"])
  })
})
