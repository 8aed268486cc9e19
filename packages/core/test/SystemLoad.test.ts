import { SystemLoad } from "@effect-resilience/core"
import { NodeSystemLoad } from "@effect-resilience/core/node"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Layer, Schedule } from "effect"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as cgroup from "../src/internal/cgroup.js"
import { LeastLag } from "../src/internal/lag.js"

describe("the load of a system", () => {
  it.effect("is what a test says", () =>
    Effect.gen(function*() {
      expect(yield* SystemLoad.sample).toEqual({ cpu: 0.2 })
      yield* SystemLoad.set({ cpu: 0.9, signal: 0.5 })
      expect(yield* SystemLoad.sample).toEqual({ cpu: 0.9, signal: 0.5 })
    }).pipe(Effect.provide(SystemLoad.layerTest({ cpu: 0.2 }))))

  it.effect("has room for signals of one's own", () =>
    Effect.gen(function*() {
      expect(yield* SystemLoad.sample).toEqual({ cpu: 0.2, signal: 0.7 })
      expect((yield* SystemLoad).eventLoopLag?.()).toBe(3)
    }).pipe(Effect.provide(
      SystemLoad.layerWith(Effect.succeed({ signal: 0.7 })).pipe(
        Layer.provide(Layer.succeed(SystemLoad, { sample: Effect.succeed({ cpu: 0.2 }), eventLoopLag: () => 3 }))
      )
    )))
})

describe("the least lag", () => {
  const lags = (...readings: ReadonlyArray<readonly [at: number, lag: number]>) => {
    const least = new LeastLag(0n)
    for (const [at, lag] of readings) least.record(BigInt(lag), BigInt(at) * 1_000_000n)
    return least.value
  }
  it("is unknown before a window is full", () => {
    expect(lags([20, 1], [99, 1])).toBeUndefined()
  })
  it("is the least of the last full window", () => {
    expect(lags([20, 9], [60, 7], [100, 8])).toBe(7n)
    expect(lags([20, 9], [60, 7], [100, 8], [150, 3], [190, 50], [210, 5])).toBe(3n)
  })
  it("is not that of a single pause, however long", () => {
    expect(lags([20, 1], [3000, 2900])).toBe(1n)
    expect(lags([50, 1], [100, 1], [3000, 2900], [3020, 1])).toBe(1n)
  })
})

describe("cgroups", () => {
  it("of version 2", () => {
    expect(cgroup.cpuMicros(2, "usage_usec 4242\nuser_usec 1\n")).toBe(4242)
    expect(cgroup.cpuMicros(2, "nonsense")).toBeUndefined()
    expect(cgroup.cpuLimit("150000 100000\n", undefined)).toBe(1.5)
    expect(cgroup.cpuLimit("max 100000\n", undefined)).toBeUndefined()
    expect(cgroup.memoryLimit("536870912\n", 2 ** 40)).toBe(536870912)
    expect(cgroup.memoryLimit("max\n", 2 ** 40)).toBeUndefined()
  })
  it("of version 1", () => {
    expect(cgroup.cpuMicros(1, "4242000\n")).toBe(4242)
    expect(cgroup.cpuLimit("50000\n", "100000\n")).toBe(0.5)
    expect(cgroup.cpuLimit("-1\n", "100000\n")).toBeUndefined()
    expect(cgroup.memoryLimit("9223372036854771712\n", 2 ** 40)).toBeUndefined()
  })
})

/** Reads until a sample is as it should be, while the runner's patience lasts. */
const until = (is: (sample: SystemLoad.Sample) => boolean) =>
  Effect.repeat(SystemLoad.sample, { until: is, schedule: Schedule.spaced("5 millis") }).pipe(
    Effect.zipRight(SystemLoad.sample)
  )

const container = (files: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const folder = mkdtempSync(join(tmpdir(), "cgroup-"))
      for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
      return folder
    }),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  )

describe("the load of a Node process", () => {
  it.live("is measured, each signal from 0 to 1", () =>
    Effect.gen(function*() {
      const sample = yield* until(({ cpu, eventLoopDelay }) => cpu !== undefined && eventLoopDelay !== undefined)
      for (const value of [sample.cpu, sample.memory, sample.eventLoopUtilization]) {
        expect(value).toBeGreaterThanOrEqual(0)
        expect(value).toBeLessThanOrEqual(1)
      }
      expect(sample.memory).toBeGreaterThan(0)
      expect(Duration.isFinite(sample.eventLoopDelay ?? Duration.infinity)).toBe(true)
    }).pipe(Effect.provide(NodeSystemLoad.layer({ every: "10 millis", tick: "10 millis" }))), 30_000)

  it.live("knows the limits of its container", () =>
    Effect.gen(function*() {
      const folder = yield* container({
        "cpu.stat": "usage_usec 0\n",
        // A thousandth of a processor, and a memory of 1 MB: both are full at once.
        "cpu.max": "1000 1000000\n",
        "memory.max": "1000000\n"
      })
      const layer = NodeSystemLoad.layer({ every: "10 millis", cgroup: folder })
      const busy = Effect.sync(() => {
        for (let n = 0; n < 1e6; n++) Math.sqrt(n)
      })
      const sample = yield* Effect.provide(
        Effect.zipRight(
          Effect.fork(Effect.forever(Effect.zipRight(busy, Effect.yieldNow()))),
          until(({ cpu }) => cpu === 1)
        ),
        layer
      )
      expect(sample).toMatchObject({ cpu: 1, memory: 1 })
    }).pipe(Effect.scoped), 30_000)

  it.live("sees an event loop that is late all the time", () =>
    Effect.gen(function*() {
      // Each turn of the loop takes longer than the timer's period.
      const turn = Effect.async<void>((resume) => {
        const end = performance.now() + 40
        while (performance.now() < end);
        setImmediate(() => resume(Effect.void))
      })
      yield* Effect.fork(Effect.forever(turn))
      const sample = yield* until(({ eventLoopDelay }) =>
        eventLoopDelay !== undefined && Duration.toMillis(eventLoopDelay) > 5
      )
      expect(Duration.toMillis(sample.eventLoopDelay ?? 0)).toBeGreaterThan(1)
    }).pipe(Effect.scoped, Effect.provide(NodeSystemLoad.layer({ tick: "10 millis" }))), 30_000)

  it.live("tells how late the loop is while it is", () =>
    Effect.gen(function*() {
      const { eventLoopLag } = yield* SystemLoad
      const end = performance.now() + 300
      while (performance.now() < end);
      // No timer has rung since, but that of the watch is due.
      const lag = eventLoopLag?.()
      expect(lag).toBeGreaterThanOrEqual(270)
      expect(lag).toBeLessThan(30_000)
    }).pipe(Effect.provide(NodeSystemLoad.layer({ tick: "10 millis" }))))

  it.effect("refuses bad options", () =>
    Effect.gen(function*() {
      const message = (options: object) =>
        Effect.map(
          Effect.exit(Effect.scoped(Layer.build(NodeSystemLoad.layer(options)))),
          (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "taken"
        )
      expect(yield* message({ every: 0 })).toContain(`SystemLoad "node": option every must be a duration`)
      expect(yield* message({ tick: "1 second" })).toContain("option tick must be")
      expect(yield* message({ cgroup: "" })).toContain("option cgroup must be the path of a folder")
    }))

  it("is all that needs Node: nothing else imports it", () => {
    const src = join(import.meta.dirname, "../src")
    const files = readdirSync(src, { recursive: true }).map(String).filter((file) => file.endsWith(".ts"))
    expect(files.length).toBeGreaterThan(40)
    const needing = files.filter((file) =>
      /from "(node:|\.\/node\.js|\.\.\/node\.js)/.test(readFileSync(join(src, file), "utf8"))
    )
    expect(needing).toEqual(["node.ts"])
  })
})
