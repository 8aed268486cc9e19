import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Logger, Stream } from "effect"
import { ask } from "./utils/ask.js"
import { ClusterServers } from "./utils/cluster.js"
import { ledger } from "./utils/load.js"
import { canStart, freePort, Server } from "./utils/server.js"
import { eventually } from "./utils/until.js"

const told = (server: Server, command: string, ...args: ReadonlyArray<string>) =>
  Effect.promise(() => ask(server.port, command, ...args))
const refuse = (server: Server) => told(server, "config", "set", "maxmemory", "1")
const allow = (server: Server) => told(server, "config", "set", "maxmemory", "0")

const logged = <A, E, R>(body: (lines: Array<string>) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      lines.push(`${logLevel.label} ${String(message)}`)
    })
    return Effect.provide(body(lines), Logger.replace(Logger.defaultLogger, logger))
  })

const statusIs = (redis: RedisConnection.Service, status: RedisConnection.Health["status"]) =>
  eventually(`it is ${status}`, Effect.map(redis.health, (health) => health.status === status))

/** A caller who writes whatever happens. */
const writing = (redis: RedisConnection.Service) =>
  Effect.forkScoped(Effect.forever(Effect.zipRight(Effect.ignore(redis.run(ledger, ["l"], ["c0"])), Effect.sleep(5))))

const started = (server: RedisConnection.Options["server"], options: RedisConnection.Options = {}) =>
  RedisConnection.make({ server, prefix: "shop:", commandTimeout: "1 second", ...options })

describe.skipIf(!canStart)("a server that is there, and refuses what is written", () => {
  it.scopedLive("RN21: is degraded while its memory is full, with the reason, told once each way", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const redis = yield* started(server.url)
        const events: Array<unknown> = []
        yield* Effect.forkScoped(Stream.runForEach(redis.events, (event) => Effect.sync(() => events.push(event))))
        yield* Effect.yieldNow()
        expect(yield* redis.health).toMatchObject({ status: "up" })
        yield* refuse(server)
        yield* writing(redis)
        yield* statusIs(redis, "degraded")
        const refusal = expect.objectContaining({ _tag: "RedisUnavailableError", reason: "OutOfMemory" })
        expect(yield* redis.health).toMatchObject({ refusal })
        expect(yield* redis.metrics).toMatchObject({ state: "degraded", refusal: "OutOfMemory", outages: 0 })
        yield* eventually("it is told", Effect.sync(() => lines.length > 0))
        // Who shares it is heard all the same.
        yield* started(server.url, { name: "other" })
        yield* eventually("the other is counted", Effect.map(redis.processes, (count) => count === 2))
        yield* allow(server)
        yield* statusIs(redis, "up")
        expect(yield* redis.health).not.toHaveProperty("refusal")
        const at = `Redis "redis" at 127.0.0.1:${server.port}`
        yield* eventually("it is told", Effect.sync(() => lines.some((line) => line.startsWith(`INFO ${at}`))))
        const own = lines.filter((line) => line.includes(at))
        expect(own).toEqual([
          expect.stringContaining(`WARN ${at} refuses what is written (OutOfMemory: OOM command not allowed`),
          expect.stringMatching(/^INFO .* takes what is written again after [\d.]+ s$/)
        ])
        expect(events).toMatchObject([
          { _tag: "StateChanged", from: "Up", to: "Degraded", reason: "OutOfMemory" },
          { _tag: "StateChanged", from: "Degraded", to: "Up", lasted: expect.any(Number) }
        ])
      })
    ))

  it.scopedLive("RN21: and while it is a replica: it is looked for anew with back-off, and told once each way", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const redis = yield* started(server.url)
        yield* writing(redis)
        yield* told(server, "replicaof", "127.0.0.1", String(yield* Effect.promise(freePort)))
        yield* statusIs(redis, "degraded")
        expect(yield* redis.health).toMatchObject({ refusal: { reason: "ReadOnly" } })
        yield* Effect.sleep("4 seconds")
        const { outages, reconnects } = yield* redis.metrics
        // At once, and after half a second, one, two: less up to 70 % by chance.
        expect(reconnects).toBeGreaterThan(0)
        expect(reconnects).toBeLessThanOrEqual(6)
        expect(outages).toBeLessThanOrEqual(reconnects)
        yield* told(server, "replicaof", "no", "one")
        yield* statusIs(redis, "up")
        yield* eventually("it is told", Effect.sync(() => lines.length > 1))
        expect(lines).toEqual([
          expect.stringContaining("refuses what is written (ReadOnly: READONLY"),
          expect.stringContaining("takes what is written again")
        ])
      })
    ))

  it.scopedLive("RN21: fails the layer where it never takes any of it, or the layer begins as degraded", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const fails = (options: RedisConnection.Options, url: RedisConnection.Options["server"] = server.url) =>
          Effect.flip(Effect.scoped(Effect.asVoid(started(url, options))))
        yield* refuse(server)
        // Services do without what is new, and memory comes back.
        yield* statusIs(yield* started(server.url), "degraded")
        yield* allow(server)

        yield* told(server, "acl", "setuser", "elsewhere", "on", ">secret", "~other:*", "&*", "+@all")
        yield* told(server, "acl", "setuser", "scriptless", "on", ">secret", "~*", "&*", "+@all", "-@scripting")
        for (const username of ["elsewhere", "scriptless"]) {
          const as = { _tag: "Standalone", url: server.url, username, password: "secret" } as const
          const begin = performance.now()
          const error = yield* fails({ connectTimeout: "5 seconds" }, as)
          expect(performance.now() - begin).toBeLessThan(2000)
          expect(error).toMatchObject({ command: "connect", reason: "Denied" })
          expect(error.message).toContain("what is written under \"shop:\" is refused: NOPERM")
          yield* statusIs(yield* started(as, { startup: "degrade", name: username }), "degraded")
        }

        const replica = yield* Server.start(["--replicaof", "127.0.0.1", String(yield* Effect.promise(freePort))])
        expect(yield* fails({ connectTimeout: "500 millis" }, replica.url)).toMatchObject({
          command: "connect",
          reason: "ReadOnly"
        })
        expect(lines.filter((line) => line.includes(" down"))).toEqual([])
      })
    ))
  it.scopedLive("RN28: of a cluster any node, though no call goes there: degraded, with the node, told once each way", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const cluster = yield* ClusterServers.start({ replicas: 1 })
        const redis = yield* started(cluster.options, { connectTimeout: "10 seconds" })
        const home = cluster.masterOf(redis.slotOf("shop:{processes}"))
        const [full, old] = cluster.masters.filter((master) => master !== home) as [Server, Server]
        const events: Array<RedisConnection.Event> = []
        yield* Effect.forkScoped(Stream.runForEach(redis.events, (event) => Effect.sync(() => events.push(event))))
        yield* Effect.yieldNow()
        yield* statusIs(redis, "up")
        yield* refuse(full)
        yield* statusIs(redis, "degraded")
        const node = `127.0.0.1:${full.port}`
        expect(yield* redis.health).toMatchObject({ refusal: { reason: "OutOfMemory", server: node } })
        expect(yield* redis.metrics).toMatchObject({ refusal: "OutOfMemory", outages: 0, processes: 1 })
        yield* refuse(old)
        yield* eventually("both are told of", Effect.sync(() => events.length === 2))
        // One that hands over to its replica is written to no more, whatever it would say.
        yield* told(cluster.replicas[cluster.masters.indexOf(old)] as Server, "cluster", "failover", "takeover")
        yield* allow(full)
        yield* statusIs(redis, "up")
        yield* eventually("both are told of", Effect.sync(() => events.length === 4))
        const former = `127.0.0.1:${old.port}`
        for (const place of [node, former]) {
          expect(events.filter((event) => "node" in event && event.node === place)).toMatchObject([
            { from: "Up", to: "Degraded", reason: "OutOfMemory" },
            { from: "Degraded", to: "Up" }
          ])
        }
        const at = (place: string) => lines.filter((line) => line.includes(`Redis "redis" at ${place} `))
        expect(at(node)).toEqual([
          expect.stringMatching(/^WARN .* refuses what is written \(OutOfMemory/),
          expect.stringMatching(/^INFO .* takes what is written again after/)
        ])
        expect(at(former)).toEqual([
          expect.stringMatching(/^WARN .* refuses what is written \(OutOfMemory/),
          expect.stringMatching(/^INFO .* is written to no more after/)
        ])
        expect(lines.length).toBe(4)
      })
    ))
})
