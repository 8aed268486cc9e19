/// <reference types="node" />
/**
 * What needs Node: the figures of the process and its container.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import { readFile } from "node:fs/promises"
import { availableParallelism, totalmem } from "node:os"
import { join } from "node:path"
import { performance } from "node:perf_hooks"
import * as timers from "node:timers"
import { getHeapStatistics } from "node:v8"
import * as cgroup from "./internal/cgroup.js"
import { LeastLag } from "./internal/lag.js"
import * as option from "./internal/options.js"
import { orDie } from "./internal/tag.js"
import type { Nanos } from "./internal/time.js"
import { fromNanos, liveClock, toMillis } from "./internal/time.js"
import { SystemLoad } from "./SystemLoad.js"

const fields = {
  every: option.duration("200 millis", { min: 10 }),
  tick: option.duration("20 millis", { min: 1, max: 100 }),
  cgroup: option.field<string, string>("/sys/fs/cgroup", (path) => {
    if (typeof path !== "string" || path === "") throw new option.Requirement("the path of a folder")
    return path
  })
} satisfies option.Fields<NodeSystemLoad.Options>

/** How late a timer rings is what is measured, so these timers are bare, of Node and of the real time. */
const watchLag = (tickMillis: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const now = () => liveClock.unsafeCurrentTimeNanos()
      const lag = new LeastLag(now())
      const tick = BigInt(Math.round(tickMillis * 1e6))
      let timer: NodeJS.Timeout | undefined
      let due = 0n
      const late = (time: Nanos) => time > due ? time - due : 0n
      const arm = () => {
        due = now() + tick
        timer = timers.setTimeout(() => {
          const time = now()
          lag.record(late(time), time)
          arm()
        }, tickMillis).unref()
      }
      arm()
      return {
        least: () => lag.value,
        // The timer became due after the data of the call, or the loop would have rung it before it read them.
        now: () => toMillis(late(now())),
        stop: () => timers.clearTimeout(timer)
      }
    }),
    ({ stop }) => Effect.sync(stop)
  )

interface Container {
  /** Processor time that the container has used, in microseconds. */
  readonly used: number | undefined
  /** Processors, where they are limited. */
  readonly processors: number | undefined
  /** Bytes, where they are limited. */
  readonly memory: number | undefined
}

/** What the kernel says of the container, as far as there is one. Files are read without blocking. */
const readContainer = async (folder: string): Promise<Container> => {
  const read = (file: string | undefined) =>
    file === undefined ? undefined : readFile(join(folder, file), "utf8").catch(() => undefined)
  for (const files of cgroup.files) {
    const [usage, quota, period, memory] = await Promise.all(
      [files.cpuUsage, files.cpuQuota, files.cpuPeriod, files.memoryLimit].map(read)
    )
    if (usage === undefined && quota === undefined && memory === undefined) continue
    return {
      used: usage === undefined ? undefined : cgroup.cpuMicros(files.version, usage),
      processors: quota === undefined ? undefined : cgroup.cpuLimit(quota, period),
      memory: memory === undefined ? undefined : cgroup.memoryLimit(memory, totalmem())
    }
  }
  return { used: undefined, processors: undefined, memory: undefined }
}

const ratio = (used: number, of: number): number => Math.min(1, Math.max(0, used / of))

const build = (options: NodeSystemLoad.Options): Effect.Effect<SystemLoad.Service, never, Scope> =>
  Effect.gen(function*() {
    const { cgroup, every, tick } = yield* orDie(() => option.resolve("SystemLoad", "node", fields, options))
    const lag = yield* watchLag(Duration.toMillis(tick))
    const micros = () => Number(liveClock.unsafeCurrentTimeNanos() / 1000n)
    const processUsed = () => {
      const { system, user } = process.cpuUsage()
      return system + user
    }
    let slow: SystemLoad.Sample = {}
    let before = { at: micros(), process: processUsed(), loop: performance.eventLoopUtilization() }
    let container: Container = yield* Effect.promise(() => readContainer(cgroup))

    const measure = async () => {
      const now = { at: micros(), process: processUsed(), loop: performance.eventLoopUtilization() }
      const was = container
      container = await readContainer(cgroup)
      const processors = container.processors ?? availableParallelism()
      const elapsed = Math.max(1, now.at - before.at) * processors
      const ofProcess = ratio(now.process - before.process, elapsed)
      // Of a whole machine without a limit, the container's figure is that of its neighbours too.
      const ofContainer = container.processors === undefined || container.used === undefined || was.used === undefined
        ? 0
        : ratio(container.used - was.used, elapsed)
      const heap = getHeapStatistics()
      slow = {
        cpu: Math.max(ofProcess, ofContainer),
        memory: Math.max(
          ratio(heap.used_heap_size, heap.heap_size_limit),
          ratio(process.memoryUsage.rss(), container.memory ?? totalmem())
        ),
        eventLoopUtilization: ratio(performance.eventLoopUtilization(now.loop, before.loop).utilization, 1)
      }
      before = now
    }
    // What cannot be measured is not known: nothing is shed by it. A test's clock does not move what is measured.
    const again = Effect.promise(() =>
      measure().catch(() => {
        slow = {}
      })
    )
    yield* again.pipe(Effect.schedule(Schedule.spaced(every)), Effect.withClock(liveClock), Effect.forkScoped)
    return {
      sample: Effect.sync(() => {
        const least = lag.least()
        return least === undefined ? slow : { ...slow, eventLoopDelay: fromNanos(least) }
      }),
      eventLoopLag: lag.now
    }
  })

const Live = Layer.scoped(SystemLoad, build({}))

/**
 * `SystemLoad` of a Node process: processor time and memory of process and container (cgroups 1 and 2), and how late the
 * event loop is. All is measured aside; asking for a sample only reads.
 *
 * @example
 * import { LoadShedder } from "@effect-resilience/core"
 * import { NodeSystemLoad } from "@effect-resilience/core/node"
 * import { Layer } from "effect"
 *
 * const layer = LoadShedder.Live.pipe(Layer.provide(NodeSystemLoad.Live))
 *
 * @since 0.1.0
 * @category layers
 */
export const NodeSystemLoad = {
  Live,
  /** With other options. Name the result once and reuse it. */
  layer: (options?: NodeSystemLoad.Options): Layer.Layer<SystemLoad> =>
    options === undefined ? Live : Layer.scoped(SystemLoad, build(options))
}

/**
 * @since 0.1.0
 */
export declare namespace NodeSystemLoad {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** How often processor time and memory are measured, at least 10 ms. Defaults to `"200 millis"`. */
    readonly every?: Duration.DurationInput | undefined
    /** The timer whose lateness is the event loop's, 1 to 100 ms. Defaults to `"20 millis"`. */
    readonly tick?: Duration.DurationInput | undefined
    /** Where the kernel tells of the container. Defaults to `"/sys/fs/cgroup"`. */
    readonly cgroup?: string | undefined
  }
}
