import type { Bulkhead } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { Effect, Option } from "effect"
import { Redis } from "ioredis"
import { write } from "../utils/bulkheads.js"

/*
 * A process that uses a bulkhead, and writes into the ledger of the test when its calls begin and end: in one step of the
 * server, which counts the calls of all processes that run at that instant.
 */

export interface Task {
  readonly url: string
  readonly bulkhead: Bulkhead.Options & { readonly name: string }
  readonly options?: RedisBulkhead.Options
  /** Calls at once, and how long each takes; `hold`: each takes its permits and keeps them. */
  readonly callers: number
  readonly millis: number
  readonly hold?: boolean
}

export type Said =
  | { readonly _tag: "running"; readonly name: string; readonly fence: number | undefined }
  | {
    readonly _tag: "ended"
    readonly name: string
    readonly exit: string
    readonly at: string
    readonly written: unknown
  }
  | { readonly _tag: "done"; readonly calls: number; readonly longest: number; readonly failed: ReadonlyArray<string> }

/** KEYS: running calls of each process, the most at once. */
const note = `redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
local running = 0
for _, calls in ipairs(redis.call('HVALS', KEYS[1])) do running = running + calls end
if running > tonumber(redis.call('GET', KEYS[2]) or '0') then redis.call('SET', KEYS[2], running) end
return running`

const tasks: ReadonlyArray<Task> = JSON.parse(String(process.argv[2]))
const url = String(tasks[0]?.url)
const say = (said: Said) => process.send?.(said)
const ledger = new Redis(url)
const noted = (name: string, by: 1 | -1) =>
  Effect.promise(() => ledger.eval(note, 2, `ledger:${name}`, `ledger:${name}:most`, String(process.pid), by))

const load = (task: Task, bulkhead: Bulkhead.Service) =>
  Effect.gen(function*() {
    let calls = 0
    let longest = 0
    let stopped = false
    const failed: Array<string> = []
    process.on("message", () => {
      stopped = true
    })
    say({ _tag: "running", name: bulkhead.name, fence: undefined })
    yield* Effect.forEach(
      Array.from({ length: task.callers }),
      () =>
        Effect.gen(function*() {
          while (!stopped) {
            const since = performance.now()
            const call = Effect.suspend(() => {
              longest = Math.max(longest, performance.now() - since)
              return Effect.ensuring(
                Effect.zipRight(noted(bulkhead.name, 1), Effect.sleep(task.millis)),
                noted(bulkhead.name, -1)
              )
            })
            const exit = yield* Effect.either(bulkhead.withPermit(call))
            if (exit._tag === "Left") failed.push(exit.left.reason)
            calls++
          }
        }),
      { concurrency: "unbounded" }
    )
    say({ _tag: "done", calls, longest, failed })
  })

const holding = (task: Task, { name, ...bulkhead }: Bulkhead.Service) =>
  Effect.forEach(Array.from({ length: task.callers }), () =>
    Effect.gen(function*() {
      let written: unknown
      const call = Effect.gen(function*() {
        const fence = Option.getOrUndefined(yield* RedisBulkhead.fence)
        say({ _tag: "running", name, fence })
        yield* Effect.async<void>((resume) => void process.once("message", () => resume(Effect.void)))
        if (fence !== undefined) {
          written = yield* Effect.promise(() => ledger.eval(write, 1, `resource:${name}`, fence))
        }
      })
      const exit = yield* Effect.either(bulkhead.withPermit(call))
      const at = String(process.hrtime.bigint())
      say({ _tag: "ended", name, exit: exit._tag === "Left" ? exit.left.reason : "Success", at, written })
    }), { concurrency: "unbounded" })

const program = Effect.forEach(
  tasks,
  (task) =>
    Effect.flatMap(
      RedisBulkhead.make(task.bulkhead, task.options),
      (bulkhead) => task.hold === true ? holding(task, bulkhead) : load(task, bulkhead)
    ),
  { concurrency: "unbounded" }
).pipe(
  Effect.scoped,
  Effect.provide(RedisConnection.layer({ server: { _tag: "Standalone", url }, commandTimeout: "2 seconds" }))
)

void Effect.runPromise(program).then(() => ledger.disconnect())
