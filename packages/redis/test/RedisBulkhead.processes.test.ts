import { RedisBulkhead } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { Redis } from "ioredis"
import { bulkheadOf, connect, eventually, stateOf, write } from "./utils/bulkheads.js"
import { long, scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"
import { Worker } from "./utils/worker.js"
import type { Said, Task } from "./workers/bulkhead.js"

const file = new URL("./workers/bulkhead.ts", import.meta.url)
const begin = (...tasks: ReadonlyArray<Task>) => Worker.start(file, JSON.stringify(tasks))
const next = (worker: Worker) => Effect.map(worker.next, (said) => said as Said)

const raw = (url: string) =>
  Effect.acquireRelease(Effect.sync(() => new Redis(url)), (redis) => Effect.sync(() => redis.disconnect()))

describe.skipIf(!canStart)("RedisBulkhead over processes", () => {
  it.scopedLive(
    "RB1: of several processes one is killed: never more calls than permits, and its own are free after the lease",
    () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const redis = yield* raw(server.url)
        const lease = 1000
        const workers = yield* Effect.forEach(long ? [1, 4, 16, 32] : [1, 8, 32], (callers) =>
          begin({
            url: server.url,
            bulkhead: { name: "load", maxConcurrent: 5, maxQueued: 1000, maxWait: "30 seconds" },
            options: { lease },
            callers,
            millis: 5
          }))
        yield* Effect.forEach(workers, next)
        const half = scale(1500, 15_000)
        yield* Effect.sleep(half)

        const own = yield* connect(server.url)
        const [killed, ...others] = [...workers].reverse()
        const { child } = killed!
        const { ends } = yield* stateOf(own, "load")
        const since = performance.now()
        child.kill("SIGKILL")
        yield* Effect.async<void>((resume) => void child.once("exit", () => resume(Effect.void)))
        // Its calls ended with it. Its permits nobody has before its lease is over.
        yield* Effect.promise(() => redis.hdel("ledger:load", String(child.pid)))
        yield* eventually(
          "its permits are free",
          Effect.map(stateOf(own, "load"), (now) => [...ends].every(([id, end]) => now.ends.get(id) !== end))
        )
        // The lease, 50 ms, and what this machine does meanwhile.
        expect(performance.now() - since).toBeLessThan(lease + 50 + 100)
        yield* Effect.sleep(half)

        for (const worker of others) worker.send("stop")
        const said = yield* Effect.forEach(others, next)
        expect(Number(yield* Effect.promise(() => redis.get("ledger:load:most")))).toBe(5)
        for (const one of said) {
          if (one._tag !== "done") throw new Error(`it said ${one._tag}`)
          expect(one.failed).toEqual([])
          expect(one.calls).toBeGreaterThan(20)
          // The turns of all others, and the lease of the one that was killed.
          expect(one.longest).toBeLessThan(3000)
        }
        yield* eventually(
          "all is given back",
          Effect.map(stateOf(own, "load"), ({ holders, line, used }) => used + holders.size + line.length === 0)
        )
      }),
    60_000
  )

  it.scopedLive(
    "RB2: a stopped process learns that it lost its lease, and a fence keeps its writes out",
    () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const redis = yield* raw(server.url)
        const tasks = (["interrupt", "report"] as const).map((name) => ({
          url: server.url,
          bulkhead: { name, maxConcurrent: 1, maxWait: "20 seconds" as const },
          options: { lease: 600, fences: true, onLeaseLost: name },
          callers: 1,
          millis: 0,
          hold: true
        }))
        const worker = yield* begin(...tasks)
        const before = new Map<string, number>()
        for (const said of yield* Effect.replicateEffect(next(worker), 2)) {
          if (said._tag === "running") before.set(said.name, Number(said.fence))
        }
        expect(before.size).toBe(2)

        // Stopped: others get its permits, with larger fences, and write.
        worker.child.kill("SIGSTOP")
        for (const { bulkhead, options } of tasks) {
          const other = yield* bulkheadOf(server.url, bulkhead, options)
          const fence = yield* other.withPermit(Effect.map(RedisBulkhead.fence, Option.getOrThrow))
          expect(fence).toBeGreaterThan(before.get(bulkhead.name)!)
          expect(yield* Effect.promise(() => redis.eval(write, 1, `resource:${bulkhead.name}`, fence))).toBe(1)
        }
        const continued = process.hrtime.bigint()
        worker.child.kill("SIGCONT")
        const lost = yield* next(worker)
        if (lost._tag !== "ended") throw new Error(`it said ${lost._tag}`)
        expect(lost).toMatchObject({ name: "interrupt", exit: "LeaseLost" })
        // 100 ms, and what this machine does meanwhile.
        expect(Number(BigInt(lost.at) - continued) / 1e6).toBeLessThan(100 + 100)
        // The other goes on, as it was asked to, and what it writes is refused.
        worker.send("go on")
        expect(yield* next(worker)).toMatchObject({ name: "report", exit: "Success", written: 0 })
      }),
    40_000
  )
})
