/**
 * Permits of a bulkhead that processes share: what each costs in round trips, while they are wanted more than there are.
 *
 * By itself: `node --conditions=@effect-resilience/source --import tsx bench/src/redis/bulkhead.ts redis://127.0.0.1:6379`.
 */
import type { Bulkhead } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { Effect } from "effect"
import { pathToFileURL } from "node:url"

/** Round trips for each permit, at most. */
export const target = 0.02

export interface BulkheadCase {
  readonly name: string
  readonly target: number
  /** Round trips for each permit. */
  readonly measured: number
  readonly met: boolean
  readonly permitsPerSecond: number
}

interface Load {
  readonly name: string
  /** Connections that share the permits, as so many processes do. */
  readonly processes: number
  readonly permits: number
  readonly callers: number
  /** How long a call takes, in milliseconds; 0 for one that ends with the turn of the event loop. */
  readonly millis: number
}

const loads: ReadonlyArray<Load> = [
  { name: "1 process, calls of one turn", processes: 1, permits: 64, callers: 64, millis: 0 },
  { name: "1 process, 64 permits for 256 callers", processes: 1, permits: 64, callers: 256, millis: 1 },
  { name: "2 processes, 64 permits for 256 callers", processes: 2, permits: 64, callers: 256, millis: 1 },
  { name: "4 processes, 10 permits for 256 callers", processes: 4, permits: 10, callers: 256, millis: 1 }
]

const turn = Effect.async<void>((resume) => void setImmediate(() => resume(Effect.void)))

const measure = (url: string, load: Load, millis: number) =>
  Effect.gen(function*() {
    const connect = RedisConnection.make({ server: { _tag: "Standalone", url }, commandTimeout: "5 seconds" })
    const options = {
      name: load.name,
      maxConcurrent: load.permits,
      maxQueued: load.callers,
      maxWait: "1 minute"
    } as const
    const admin = yield* connect
    const bulkheads = yield* Effect.replicateEffect(
      Effect.flatMap(connect, (redis) => Effect.provideService(RedisBulkhead.make(options), RedisConnection, redis)),
      load.processes
    )
    const scripts = Effect.map(
      admin.command("info", "commandstats"),
      (text) =>
        [...String(text).matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce((sum, [, n]) => sum + Number(n), 0)
    )
    let permits = 0
    let stopped = false
    const body = load.millis === 0 ? turn : Effect.sleep(load.millis)
    const caller = (bulkhead: Bulkhead.Service) => {
      const call = bulkhead.withPermit(body)
      return Effect.whileLoop({ while: () => !stopped, body: () => call, step: () => permits++ })
    }
    yield* Effect.forkScoped(Effect.forEach(
      bulkheads,
      (bulkhead) =>
        Effect.forEach(Array.from({ length: load.callers / load.processes }), () => caller(bulkhead), {
          concurrency: "unbounded"
        }),
      { concurrency: "unbounded" }
    ))
    yield* Effect.sleep(300)
    const [before, from, since] = [yield* scripts, permits, performance.now()]
    yield* Effect.sleep(millis)
    const [after, to, end] = [yield* scripts, permits, performance.now()]
    stopped = true
    const measured = (after - before) / (to - from)
    const result: BulkheadCase = {
      name: `bulkhead: ${load.name}`,
      target,
      measured: Number(measured.toPrecision(3)),
      met: measured <= target,
      permitsPerSecond: Math.round((to - from) / (end - since) * 1000)
    }
    return result
  }).pipe(Effect.scoped)

/** All cases, one after the other, `millis` each, against the server at `url`: a URL or the path of a socket. */
export const bulkheadCases = (url: string, millis: number): Promise<ReadonlyArray<BulkheadCase>> =>
  Effect.runPromise(Effect.forEach(loads, (load) => measure(url, load, millis)))

const [, self, url] = process.argv
if (self !== undefined && import.meta.url === pathToFileURL(self).href) {
  if (url === undefined) throw new Error("which server? pass its URL")
  for (const one of await bulkheadCases(url, 2000)) console.error(JSON.stringify(one))
}
