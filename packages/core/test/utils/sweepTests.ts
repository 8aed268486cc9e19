import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Subject } from "./sweep.js"
import { sweep } from "./sweep.js"

/** Nothing is lost, wherever the interruption comes. */
export const whole = (name: string, make: Effect.Effect<Subject>, options?: Parameters<typeof sweep>[1]) =>
  it.live(name, () =>
    Effect.gen(function*() {
      const { leaks, runs } = yield* sweep(make, options)
      expect(runs).toBeGreaterThan(100)
      expect(leaks).toEqual([])
    }), 60_000)

/** A leak that the sweep must find, or it would find none. */
export const caught = (name: string, make: Effect.Effect<Subject>, contended = [false, true]) =>
  it.live(`control: the sweep catches ${name}`, () =>
    Effect.gen(function*() {
      const { leaks } = yield* sweep(make, { contended })
      expect(leaks.length).toBeGreaterThan(0)
    }), 60_000)
