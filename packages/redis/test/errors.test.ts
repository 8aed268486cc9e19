import { EventBus, ResilienceLive } from "@effect-resilience/core"
import type { RedisUnavailableError } from "@effect-resilience/redis"
import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, ExecutionStrategy, Exit, Logger, Redacted, Schema, Scope, Stream } from "effect"
import { Cluster, Redis } from "ioredis"
import { join } from "node:path"
import { ClusterServers } from "./utils/cluster.js"
import { ledger } from "./utils/load.js"
import { Proxy } from "./utils/proxy.js"
import { masterName, Sentinels } from "./utils/sentinel.js"
import { canStart, freePort, Server } from "./utils/server.js"
import { eventually, until } from "./utils/until.js"

/** What ioredis says of itself and of its options. */
const ofIoredis =
  /writeable|isn't ready|enableOfflineQueue|maxRetriesPerRequest|Connection is closed|Command aborted|slots cache|from scratch|Expecting data|Cluster is ended/

type Asked = Effect.Effect<unknown, RedisUnavailableError>

/** Asks until nothing is asked any more; what each of them was told. */
const untilDown = (asked: Asked) =>
  Effect.gen(function*() {
    const errors: Array<RedisUnavailableError> = []
    const once = Effect.matchEffect(asked, {
      onFailure: (error) => Effect.as(Effect.delay(Effect.sync(() => errors.push(error)), "5 millis"), error.reason),
      onSuccess: () => Effect.as(Effect.sleep("5 millis"), "None")
    })
    yield* Effect.repeat(once, { until: (reason) => reason === "Down" }).pipe(Effect.timeout("8 seconds"))
    return errors
  })

const expectOurWords = (errors: ReadonlyArray<RedisUnavailableError>, server: string) => {
  expect(errors.length).toBeGreaterThan(0)
  for (const { message } of errors) {
    expect(message).not.toMatch(ofIoredis)
    expect(message).toContain(server)
  }
}

/** What a connection that cannot be opened fails with. */
const unopened = (
  server: RedisConnection.Options["server"],
  connectTimeout: RedisConnection.Options["connectTimeout"]
) => Effect.flip(Effect.scoped(RedisConnection.make({ server, name: "shop", connectTimeout })))

const safe = {
  lazyConnect: true,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false
}

describe.skipIf(!canStart)("what people read of an outage", () => {
  it.scopedLive("RN18: says in words of ours what happened and where, to callers, to the log and on the bus", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const at = `127.0.0.1:${server.port}`
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      yield* Effect.gen(function*() {
        const redis = yield* RedisConnection.make({ server: server.url, name: "shop" })
        const onBus: Array<unknown> = []
        const bus = yield* EventBus
        yield* Effect.forkScoped(Stream.runForEach(bus.events, (event) => Effect.sync(() => onBus.push(event))))
        yield* redis.command("ping")
        yield* Effect.promise(() => server.kill())
        const errors = yield* untilDown(redis.run(ledger, ["l"], ["c0"]))
        expectOurWords(errors, `Redis "shop" at ${at}: ledger failed (`)
        yield* Effect.promise(() => until("it is told", () => lines.length > 0))
        const cause = `there is no connection: connect ECONNREFUSED ${at}`
        expect(lines).toEqual([
          `Redis "shop" at ${at} is down (NotReady: ${cause}) and is not asked until it answers a probe`
        ])
        expect(onBus).toMatchObject([{ error: { reason: "NotReady", server: at, detail: cause } }])
        // By now those who are not even sent are told of the cause, too.
        const refused = yield* Effect.flip(redis.command("ping"))
        expect(refused.message).toBe(`Redis "shop" at ${at}: ping failed (Down): ${cause}`)
        expect((yield* redis.health).lastError?.message).toContain(`Redis "shop" at ${at}: `)

        yield* Effect.promise(() => server.start())
        yield* Effect.promise(() => until("it is told", () => lines.length > 1))
        expect(lines[1]).toMatch(new RegExp(`^Redis "shop" at ${at} is up again after `))
        // What was is no cause of what comes.
        yield* Effect.promise(() => server.kill())
        const [first] = yield* untilDown(redis.run(ledger, ["l"], ["c0"]))
        expect(first?.detail).not.toContain("ECONNREFUSED")
      }).pipe(Effect.provide(ResilienceLive), Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    }))

  it.scopedLive("RN29: tells of an outage again where its cause is another by now, and not each time that it is", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      const own = yield* Effect.scope
      const begin = (...args: ReadonlyArray<string>) =>
        Effect.gen(function*() {
          const scope = yield* Scope.fork(own, ExecutionStrategy.sequential)
          yield* Scope.extend(Server.start(args, port), scope)
          return Scope.close(scope, Exit.void)
        })
      const end = yield* begin()
      const at = `Redis "shop" at 127.0.0.1:${port}`
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      yield* Effect.gen(function*() {
        const redis = yield* RedisConnection.make({ server: `redis://127.0.0.1:${port}`, name: "shop" })
        const onBus: Array<unknown> = []
        const bus = yield* EventBus
        yield* Effect.forkScoped(Stream.runForEach(bus.events, (event) => Effect.sync(() => onBus.push(event))))
        yield* Effect.forkScoped(
          Effect.forever(Effect.zipRight(Effect.ignore(redis.command("ping")), Effect.sleep(5)))
        )
        const says = (text: string) =>
          eventually(text, Effect.map(redis.health, ({ lastError }) => lastError?.detail?.includes(text) === true))
        const told = (count: number) => eventually(`line ${count}`, Effect.sync(() => lines.length === count))
        yield* end
        yield* told(1)
        const stop = yield* begin("--requirepass", "another")
        yield* told(2)
        // Another is no news within a minute, where it was told of in that.
        yield* stop
        yield* says("ECONNREFUSED")
        const again = yield* begin("--requirepass", "another")
        yield* says("NOAUTH")
        yield* again
        yield* begin()
        yield* told(3)
        expect(lines).toEqual([
          expect.stringContaining(`${at} is down (NotReady: there is no connection: connect ECONNREFUSED`),
          expect.stringContaining(
            `${at} is still down, for another reason now (NotReady: there is no connection: NOAUTH`
          ),
          expect.stringContaining(`${at} is up again after`)
        ])
        expect(onBus).toMatchObject([
          { _tag: "InternalError", error: { detail: expect.stringContaining("ECONNREFUSED") } },
          { _tag: "InternalError", error: { detail: expect.stringContaining("NOAUTH") } }
        ])
      }).pipe(Effect.provide(ResilienceLive), Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    }))

  it.scopedLive("RN18: so it does where a server does not answer, or breaks off", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const redis = yield* RedisConnection.make({ server: proxy.url, socketTimeout: "150 millis", downAfter: 3 })
      const at = `127.0.0.1:${proxy.port}`
      proxy.mode = { _tag: "dropReply" }
      const broken = yield* Effect.flip(redis.command("ping"))
      expect(broken.message).toBe(
        `Redis "redis" at ${at}: ping failed (Disconnected): the connection broke before the answer`
      )
      yield* Effect.promise(() =>
        until("it is up", async () => Exit.isSuccess(await Effect.runPromiseExit(redis.command("ping"))))
      )
      server.pause()
      const silent = yield* Effect.flip(redis.command("ping"))
      expect(silent.message).toBe(`Redis "redis" at ${at}: ping failed (Timeout): no answer within 100 ms`)
      expectOurWords(yield* untilDown(redis.command("ping")), at)
      server.resume()
    }))

  it.scopedLive("RN18: names the server that refuses, and never a password", () =>
    Effect.gen(function*() {
      const socket = join("/tmp", `resilience-${process.pid}.sock`)
      const server = yield* Server.start(["--requirepass", "right", "--unixsocket", socket])
      const at = `127.0.0.1:${server.port}`
      const wrong = Redacted.make("hunter2")
      const errors: ReadonlyArray<[RedisUnavailableError, string]> = [
        [yield* unopened(server.url, "5 seconds"), `Redis "shop" at ${at}: connect failed (Denied): NOAUTH`],
        [
          yield* unopened(server.url.replace("//", "//:hunter2@"), "5 seconds"),
          `Redis "shop" at ${at}: connect failed (Denied): WRONGPASS`
        ],
        [
          yield* unopened({ _tag: "Standalone", url: server.url, username: "u", password: wrong }, "5 seconds"),
          `Redis "shop" at ${at}: connect failed (Denied): WRONGPASS`
        ],
        [yield* unopened(socket, "5 seconds"), `Redis "shop" at ${socket}: connect failed (Denied): NOAUTH`]
      ]
      for (const [error, text] of errors) {
        expect(error.message).toContain(text)
        expect(JSON.stringify(Schema.encodeSync(Schema.Any)({ ...error }))).not.toContain("hunter2")
        expect(error.message).not.toContain("hunter2")
      }
      const own = new Redis(server.url.replace("//", "//:hunter2@"), safe)
      yield* Effect.addFinalizer(() => Effect.sync(() => own.disconnect()))
      const { message } = yield* Effect.flip(Effect.scoped(RedisConnection.fromClient(own)))
      expect(message).toContain(`at ${at}: connect failed (Denied): WRONGPASS`)
    }))

  it.scopedLive("RN18: names those it looks for where there is nobody", () =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.promise(() => Promise.all([freePort(), freePort()]))
      const both = `127.0.0.1:${one}, 127.0.0.1:${two}`
      const nodes = [one, two].map((port) => ({ host: "127.0.0.1", port }))
      const standalone = yield* unopened(`redis://127.0.0.1:${one}`, "200 millis")
      expect(standalone.message).toBe(
        `Redis "shop" at 127.0.0.1:${one}: connect failed (Disconnected): connect ECONNREFUSED 127.0.0.1:${one}`
      )
      const sentinel = yield* unopened({ _tag: "Sentinel", sentinels: nodes, master: "main" }, "200 millis")
      expect(sentinel.message).toContain(
        `Redis "shop" at the master "main" of ${both}: connect failed (Disconnected): no sentinel names it`
      )
      const cluster = yield* unopened({ _tag: "Cluster", nodes }, "200 millis")
      expect(cluster.message).toContain(
        `Redis "shop" at ${both}: connect failed (Disconnected): no node of the cluster answers`
      )
      expectOurWords([sentinel, cluster], `Redis "shop" at `)
      // Of a client of the user's, however its nodes are written.
      const own = new Cluster([`redis://:hunter2@127.0.0.1:${one}`, two], {
        lazyConnect: true,
        enableOfflineQueue: false,
        retryDelayOnFailover: 0,
        scaleReads: "master",
        redisOptions: { maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false }
      })
      yield* Effect.addFinalizer(() => Effect.sync(() => own.disconnect()))
      const exit = yield* Effect.exit(Effect.scoped(RedisConnection.fromClient(own, { connectTimeout: "200 millis" })))
      const message = Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : ""
      expect(message).toContain(`at ${both}: connect failed`)
      expect(message).not.toContain("hunter2")
    }))

  it.scopedLive("RN18: names the node of a cluster that is gone, and why the cluster lets nobody in", () =>
    Effect.gen(function*() {
      const servers = yield* ClusterServers.start()
      const redis = yield* RedisConnection.make({
        server: servers.options,
        commandTimeout: "1 second",
        connectTimeout: "10 seconds"
      })
      const node = servers.masterOf(redis.slotOf("l"))
      yield* redis.command("set", "l", "v", "PX", 10_000)
      yield* Effect.promise(() => node.kill())
      expectOurWords(
        yield* untilDown(redis.command("get", "l")),
        `Redis "redis" at 127.0.0.1:${node.port}: get failed (`
      )
      yield* Effect.promise(() => node.start())

      const locked = yield* Server.start(["--cluster-enabled", "yes", "--requirepass", "right"])
      const nodes = [{ host: "127.0.0.1", port: locked.port }]
      const denied = yield* unopened({ _tag: "Cluster", nodes }, "5 seconds")
      expect(denied.message).toContain(
        `Redis "shop" at 127.0.0.1:${locked.port}: connect failed (Denied): no node of the cluster answers: NOAUTH`
      )
    }))

  it.scopedLive("RN18: names the master that the sentinels have named, and a sentinel's refusal", () =>
    Effect.gen(function*() {
      const sentinels = yield* Sentinels.start({ replicas: 0 })
      const redis = yield* RedisConnection.make({ server: sentinels.options, connectTimeout: "10 seconds" })
      const master = yield* Effect.promise(sentinels.master)
      yield* Effect.promise(() => master.kill())
      const errors = yield* untilDown(redis.command("ping"))
      expectOurWords(errors, `Redis "redis" at 127.0.0.1:${master.port} (master "${masterName}"): ping failed (`)
      const unknown = yield* unopened({ ...sentinels.options, master: "other" } as RedisConnection.Server, "300 millis")
      expect(unknown.message).toContain("(Disconnected): no sentinel names it")
    }))
})
