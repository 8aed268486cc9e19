import { EventBus, Registry, ResilienceLive } from "@effect-resilience/core"
import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Logger, Metric, Stream, TestClock } from "effect"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { script } from "../src/internal/script.js"
import { ask } from "./utils/ask.js"
import { ClusterServers } from "./utils/cluster.js"
import { ledger } from "./utils/load.js"
import { Proxy } from "./utils/proxy.js"
import { Sentinels } from "./utils/sentinel.js"
import { canStart, Server } from "./utils/server.js"
import { patient } from "./utils/storeLaws.js"
import { until } from "./utils/until.js"

const url = inject("redisUrl")
const echo = script("echo", "return {KEYS[1], ARGV[1], #ARGV, string.format('%.0f', now)}")
const untilEffect = (what: string, holds: Effect.Effect<boolean>, millis?: number) =>
  Effect.promise(() => until(what, () => Effect.runPromise(holds), millis))

/** Hears a channel, and remembers. */
const hearing = (redis: RedisConnection.Service, channel: string) => {
  const heard: Array<string> = []
  const on = { onMessage: (message: string) => void heard.push(message), onGap: () => void heard.push("gap") }
  return Effect.as(redis.subscribe(channel, on), heard)
}

/** What a connection does wherever the server is. */
const laws = (server: RedisConnection.Options["server"]) =>
  Effect.gen(function*() {
    const prefix = `${randomUUID()}:`
    const redis = yield* RedisConnection.make({
      server,
      prefix,
      ...patient
    })
    // A script that no server knows, with its keys, its arguments and the server's time.
    const reply = (yield* redis.run(echo, [`${prefix}{k}`], ["v"])) as ReadonlyArray<unknown>
    expect(reply.slice(0, 3)).toEqual([`${prefix}{k}`, "v", 1])
    expect(Math.abs(Number(reply[3]) / 1000 - Date.now())).toBeLessThan(60_000)
    expect(yield* redis.command("set", `${prefix}{k}`, "v", "PX", 10_000)).toBe("OK")
    expect(yield* redis.command("get", `${prefix}{k}`)).toBe("v")
    expect(yield* redis.command("get", `${prefix}{none}`)).toBe(null)
    // Messages, and a connection that waits.
    const heard = yield* hearing(redis, `${prefix}c`)
    yield* redis.command("publish", `${prefix}c`, "hello")
    yield* untilEffect("the message is here", Effect.sync(() => heard.length > 0))
    expect(heard).toEqual(["hello"])
    const dedicated = yield* redis.dedicated
    const read = dedicated.xread("BLOCK", 2000, "STREAMS", `${prefix}{s}`, "0")
    yield* redis.command("xadd", `${prefix}{s}`, "*", "a", "1")
    yield* redis.command("pexpire", `${prefix}{s}`, 10_000)
    expect((yield* Effect.promise(() => read))?.[0]?.[0]).toBe(`${prefix}{s}`)
    // Others with the same prefix are counted, and those who left are not.
    const left = yield* Effect.scoped(Effect.gen(function*() {
      yield* RedisConnection.make({ server, prefix, name: "second", ...patient })
      yield* untilEffect("there are two", Effect.map(redis.processes, (count) => count === 2))
      return true
    }))
    expect(left).toBe(true)
    expect(yield* redis.command("zcard", `${prefix}{processes}`)).toBe(1)
    expect(yield* redis.metrics).toMatchObject({ state: "up", failures: 0, outages: 0, pending: 0, down: [] })
  })

describe.skipIf(url === undefined)("RedisConnection", () => {
  it("runs with the version of ioredis that this project is about", () => {
    const client = new Redis({ lazyConnect: true })
    expect("protocol" in client.options).toBe(process.env.IOREDIS === "6")
  })

  it.scopedLive("runs scripts and commands, hears channels, waits and counts on one server", () => laws(url))

  describe.skipIf(!canStart)("elsewhere", () => {
    it.scopedLive("so it does with Sentinel", () => Effect.flatMap(Sentinels.start(), ({ options }) => laws(options)))

    it.scopedLive("so it does with a cluster", () =>
      Effect.flatMap(ClusterServers.start(), ({ options }) => laws(options)))

    it.scopedLive("RN27: a cluster answers from the first question on, whichever node is connected last", () =>
      Effect.gen(function*() {
        const { options } = yield* ClusterServers.start()
        const begin = (n: number) =>
          Effect.gen(function*() {
            const redis = yield* RedisConnection.make({ server: options, prefix: `${randomUUID()}:`, ...patient })
            yield* Effect.forEach(["a", "b", "c", "d"], (key) => redis.command("get", `{${key}${n}}`))
            const { failures, reconnects } = yield* redis.metrics
            return failures + reconnects
          })
        const begun = yield* Effect.forEach(Array.from({ length: 200 }, (_, n) => n), (n) => Effect.scoped(begin(n)))
        expect(begun.filter((missed) => missed > 0)).toEqual([])
      }))

    it.scopedLive("so it does with a password and a database", () =>
      Effect.gen(function*() {
        const server = yield* Server.start(["--requirepass", "pass"])
        yield* laws({ _tag: "Standalone", url: server.url, password: "pass", db: 1 })
        const error = yield* Effect.flip(RedisConnection.make({ server: server.url, connectTimeout: "5 seconds" }))
        expect(error).toMatchObject({ command: "connect", reason: "Denied" })
      }))
  })

  it.scoped("keeps its deadlines in real time, whatever clock the program has", () =>
    Effect.gen(function*() {
      const redis = yield* RedisConnection.make({ server: url })
      yield* TestClock.adjust("1 hour")
      expect(yield* redis.command("ping")).toBe("PONG")
    }))

  it.scopedLive("RN12: clocks of the process that jump change nothing", () =>
    Effect.gen(function*() {
      const redis = yield* RedisConnection.make({ server: url, commandTimeout: "1 second" })
      const key = randomUUID()
      const real = Date.now
      yield* Effect.addFinalizer(() => Effect.sync(() => void (Date.now = real)))
      for (const jump of [3_600_000, -3_600_000]) {
        Date.now = () => real() + jump
        const reply = (yield* redis.run(echo, [key], ["v"])) as ReadonlyArray<unknown>
        expect(Math.abs(Number(reply[3]) / 1000 - real())).toBeLessThan(60_000)
      }
    }))

  it.scopedLive("an interrupted run settles nothing twice, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const redis = yield* RedisConnection.make({ server: url, commandTimeout: "1 second" })
      const key = `{${randomUUID()}}`
      for (let n = 0; n < 200; n++) {
        const fiber = yield* Effect.fork(redis.run(ledger, [key], [`c${n}`]))
        for (let turns = 0; turns < n % 5; turns++) yield* Effect.promise(() => Promise.resolve())
        if (n % 3 === 0) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        yield* Fiber.interrupt(fiber)
      }
      yield* untilEffect("all are answered", Effect.map(redis.metrics, ({ pending }) => pending === 0))
      const entries = (yield* redis.command("lrange", key, 0, -1)) as ReadonlyArray<string>
      const ids = entries.map((entry) => entry.split(" ")[0])
      expect(new Set(ids).size).toBe(ids.length)
      expect(ids.length).toBeGreaterThan(100)
    }))

  it.scopedLive("counts what is sent and what fails, and measures answers", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const redis = yield* RedisConnection.make({ server: url, name, commandTimeout: "1 second" })
      for (let n = 0; n < 5; n++) yield* redis.command("ping")
      yield* Effect.flip(redis.command("get"))
      const figures = Effect.map(Metric.snapshot, (pairs) =>
        Object.fromEntries(
          pairs.filter(({ metricKey }) => metricKey.tags.some(({ value }) => value === name)).map((pair) => {
            const state = pair.metricState as { readonly count?: number; readonly value?: number }
            const reason = pair.metricKey.tags.find(({ key }) => key === "reason")?.value
            return [
              [pair.metricKey.name, reason].filter((part) => part !== undefined).join(" "),
              state.count ?? state.value
            ]
          })
        ))
      yield* untilEffect(
        "they are brought up to date",
        Effect.map(figures, (all) => Number(all["resilience.redis.round_trips"]) > 6)
      )
      const all = yield* figures
      expect(all).toMatchObject({ "resilience.redis.errors reply": 1, "resilience.redis.pending": 0 })
      expect(all["resilience.redis.command.duration"]).toBeGreaterThanOrEqual(5)
      expect(yield* redis.metrics).toMatchObject({ commands: 6, failures: 1, outages: 0 })
    }))

  it.scopedLive("a client of the user's is used and not closed, and its prefix is there once", () =>
    Effect.gen(function*() {
      const client = yield* Effect.acquireRelease(
        Effect.sync(() =>
          new Redis(String(url), {
            lazyConnect: true,
            keyPrefix: "own:",
            enableOfflineQueue: false,
            maxRetriesPerRequest: 0,
            autoResendUnfulfilledCommands: false
          })
        ),
        (client) => Effect.sync(() => client.disconnect())
      )
      const name = randomUUID()
      yield* Effect.scoped(Effect.gen(function*() {
        const redis = yield* RedisConnection.fromClient(client, { prefix: `${name}:` })
        expect(redis.prefix).toBe(`own:${name}:`)
        yield* redis.command("set", `${redis.prefix}k`, "v", "PX", 10_000)
        const heard = yield* hearing(redis, `${redis.prefix}c`)
        yield* redis.command("publish", `${redis.prefix}c`, "hello")
        yield* untilEffect("the message is here", Effect.sync(() => heard.length > 0))
        const dedicated = yield* redis.dedicated
        expect(yield* Effect.promise(() => dedicated.get(`${redis.prefix}k`))).toBe("v")
      }))
      expect(client.status).toBe("ready")
      expect(client.listenerCount("ready") + client.listenerCount("error")).toBe(0)
      expect(yield* Effect.promise(() => client.get(`${name}:k`))).toBe("v")
    }))

  it.scopedLive("is closed for all who ask later or still wait", () =>
    Effect.gen(function*() {
      const scoped = yield* Effect.scoped(RedisConnection.make({ server: url }))
      expect(yield* Effect.flip(scoped.command("ping"))).toMatchObject({ reason: "NotReady" })
      const settled = yield* Deferred.make<string>()
      scoped.unsafeRun(
        echo,
        ["k"],
        [],
        (error) => void Effect.runFork(Deferred.succeed(settled, String(error?.reason)))
      )
      expect(yield* Deferred.await(settled)).toBe("NotReady")
    }))
})

describe.skipIf(!canStart)("a server that goes and comes back", () => {
  it.scopedLive("is told of once each way, to the log, to events and to the Registry", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        lines.push(`${logLevel.label} ${String(message)}`)
      })
      yield* Effect.gen(function*() {
        const redis = yield* RedisConnection.make({ server: server.url, name: "shop" })
        const heard: Array<unknown> = []
        yield* Effect.forkScoped(Stream.runForEach(redis.events, (event) => Effect.sync(() => heard.push(event))))
        const onBus: Array<unknown> = []
        const bus = yield* EventBus
        yield* Effect.forkScoped(Stream.runForEach(bus.events, (event) => Effect.sync(() => onBus.push(event))))
        yield* Effect.promise(() => server.kill())
        const caller = yield* Effect.fork(
          Effect.forever(Effect.zipRight(Effect.ignore(redis.command("ping")), Effect.sleep(2)))
        )
        yield* untilEffect("it is told", Effect.sync(() => heard.length > 0))
        const reason = expect.stringMatching(/NotReady|Disconnected/)
        const { instances } = yield* Registry.snapshot
        expect(instances.find(({ pattern }) => pattern === "RedisConnection")).toMatchObject({
          instance: "shop",
          // The cause of it, and not what all have been told since.
          metrics: { state: "down", outages: 1, down: [""], downFor: expect.any(Number), reason }
        })
        const gone = expect.objectContaining({ _tag: "RedisUnavailableError", reason })
        expect(yield* redis.health).toMatchObject({ status: "down", lastError: gone })
        expect(onBus).toMatchObject([{ _tag: "InternalError", source: "Store", instance: "shop", error: gone }])
        yield* Effect.promise(() => server.start())
        yield* untilEffect("it is told", Effect.sync(() => heard.length > 1), 4000)
        yield* Fiber.interrupt(caller)
        const metrics = yield* redis.metrics
        expect([metrics.state, metrics.downFor, metrics.reason]).toEqual(["up", undefined, undefined])
        expect(heard).toMatchObject([
          { _tag: "StateChanged", instance: "shop", from: "Up", to: "Down" },
          { _tag: "StateChanged", instance: "shop", from: "Down", to: "Up", lasted: expect.any(Number) }
        ])
        expect(lines.map((line) => line.replace(/ at [\d.:]+/, "").replace(/ \(.*\)| after.*/, ""))).toEqual([
          "WARN Redis \"shop\" is down and is not asked until it answers a probe",
          "INFO Redis \"shop\" is up again"
        ])
      }).pipe(Effect.provide(ResilienceLive), Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    }))

  it.scopedLive("a connection that is made anew is not broken off by the silence of the one before", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const redis = yield* RedisConnection.make({ server: proxy.url, socketTimeout: "600 millis" })
      proxy.mode = { _tag: "blackHole" }
      yield* Effect.ignore(redis.command("ping"))
      proxy.cut()
      proxy.mode = { _tag: "pass" }
      yield* untilEffect("it is up again", Effect.map(redis.metrics, ({ reconnects }) => reconnects === 1), 3000)
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 700)))
      expect(yield* redis.metrics).toMatchObject({ reconnects: 1 })
    }))

  it.scopedLive("a gap is told when channels are heard again, and at once where they could not be from the beginning", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* RedisConnection.make({ server: server.url })
      const first = yield* hearing(redis, "c")
      yield* Effect.promise(() => ask(server.port, "client", "kill", "type", "pubsub"))
      yield* untilEffect("the gap is told", Effect.sync(() => first.includes("gap")), 4000)
      yield* redis.command("publish", "c", "one")
      yield* untilEffect("the message is here", Effect.sync(() => first.includes("one")))
      expect(first).toEqual(["gap", "one"])
      yield* Effect.promise(() => server.kill())
      yield* Effect.promise(() =>
        until("it is seen", async () => (await Effect.runPromise(redis.health)).status !== "up")
      )
      const second = yield* hearing(redis, "d")
      expect(second).toEqual([])
      yield* Effect.promise(() => server.start())
      yield* untilEffect("the gaps are told", Effect.sync(() => second.length > 0 && first.length > 2), 5000)
      yield* untilEffect("it is up", Effect.map(redis.health, ({ status }) => status === "up"), 4000)
      yield* redis.command("publish", "d", "two")
      yield* untilEffect("the message is here", Effect.sync(() => second.includes("two")))
      expect(second).toEqual(["gap", "two"])
      expect(first).toEqual(["gap", "one", "gap"])
    }))
})
