import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, ExecutionStrategy, Exit, Fiber, Logger, Scope, Stream } from "effect"
import { reasonOf } from "../src/internal/failure.js"
import { script } from "../src/internal/script.js"
import { ask, askOrNothing } from "./utils/ask.js"
import { ledger } from "./utils/load.js"
import { Proxy } from "./utils/proxy.js"
import { long, scale } from "./utils/scale.js"
import { canStart, freePort, Server } from "./utils/server.js"
import { until } from "./utils/until.js"
import { Worker } from "./utils/worker.js"

const write = (redis: RedisConnection.Service) => Effect.flip(redis.run(ledger, ["l"], ["c0"]))
const worker = new URL("./workers/connection.ts", import.meta.url)

class ReplyError extends Error {
  override readonly name = "ReplyError"
}

describe("what an error says", () => {
  it("RN14: each has its reason, in the words of every version", () => {
    const cases: ReadonlyArray<[Error, string]> = [
      [
        new ReplyError("READONLY You can't write against a read only replica. script: 1, on @user_script:3."),
        "ReadOnly"
      ],
      [
        new ReplyError(
          "ERR Error running script (call to f_1): @user_script:5: @user_script: 5: -READONLY You can't write against"
        ),
        "ReadOnly"
      ],
      [new ReplyError("OOM command not allowed when used memory > 'maxmemory'."), "OutOfMemory"],
      [new ReplyError("-OOM command not allowed"), "OutOfMemory"],
      [new ReplyError("NOREPLICAS Not enough good replicas to write."), "ReadOnly"],
      [new ReplyError("LOADING Redis is loading the dataset in memory"), "Loading"],
      [new ReplyError("BUSY Redis is busy running a script."), "Busy"],
      [new ReplyError("MASTERDOWN Link with MASTER is down"), "Disconnected"],
      [new ReplyError("CLUSTERDOWN Hash slot not served"), "ClusterDown"],
      [new ReplyError("NOAUTH Authentication required."), "Denied"],
      [new ReplyError("NOPERM User u has no permissions"), "Denied"],
      [
        new ReplyError(
          "ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:12."
        ),
        "Denied"
      ],
      [
        new ReplyError(
          "ERR ACL failure in script: User reader has no permissions to run the 'set' command script: 1, on @user_script:1."
        ),
        "Denied"
      ],
      [new ReplyError("ERR value is not an integer"), "Reply"],
      [new Error("Stream isn't writeable and enableOfflineQueue options is false"), "NotReady"],
      [new Error("Connection is closed."), "Disconnected"],
      [new Error("connect ETIMEDOUT"), "Timeout"],
      [
        Object.assign(new Error("Failed to refresh slots cache."), { lastNodeError: new ReplyError("NOAUTH") }),
        "Denied"
      ]
    ]
    for (const [error, reason] of cases) expect([error.message, reasonOf(error)]).toEqual([error.message, reason])
  })
})

describe.skipIf(!canStart)("what a server refuses", () => {
  it.scopedLive("RN14: memory, a replica, a busy script, a user and a slot have their reasons, and are no defects", () =>
    Effect.gen(function*() {
      const server = yield* Server.start(["--busy-reply-threshold", "50"])
      const set = (name: string, value: string) => Effect.promise(() => ask(server.port, "config", "set", name, value))
      const redis = yield* RedisConnection.make({ server: server.url, commandTimeout: "1 second" })
      yield* set("maxmemory", "1")
      expect(yield* write(redis)).toMatchObject({ reason: "OutOfMemory" })
      yield* set("maxmemory", "0")
      // What is refused says that the server is there.
      expect((yield* redis.metrics).outages).toBe(0)

      yield* Effect.promise(() =>
        ask(server.port, "acl", "setuser", "reader", "on", ">secret", "~*", "+@read", "+info")
      )
      const reader = yield* RedisConnection.make({
        server: { _tag: "Standalone", url: server.url, username: "reader", password: "secret" },
        startup: "degrade"
      })
      expect(yield* write(reader)).toMatchObject({ reason: "Denied" })

      const spin = script("spin", "local n = 0 while true do n = n + 1 end")
      const spinning = yield* Effect.fork(redis.run(spin, ["l"], []))
      yield* Effect.sleep(200)
      expect(yield* Effect.flip(reader.command("get", "l"))).toMatchObject({ reason: "Busy" })
      yield* Effect.promise(() =>
        until("it is stopped", async () => await askOrNothing(server.port, "script", "kill") === "OK")
      )
      yield* Fiber.await(spinning)

      const bare = yield* Server.start(["--cluster-enabled", "yes"])
      const other = RedisConnection.make({ server: bare.url, commandTimeout: "1 second" })
      expect(yield* Effect.flip(Effect.asVoid(other))).toMatchObject({ reason: "ClusterDown" })

      const replica = yield* Server.start(["--replicaof", "127.0.0.1", String(yield* Effect.promise(freePort))])
      const follower = yield* RedisConnection.make({
        server: replica.url,
        connectTimeout: "100 millis",
        startup: "degrade",
        downAfter: 1000
      })
      // Such an answer makes it look for the master anew: until it has looked it is not connected.
      const connected = Effect.delay(write(follower), "10 millis")
      expect(yield* Effect.repeat(connected, { until: ({ reason }) => reason !== "NotReady" })).toMatchObject({
        reason: "ReadOnly"
      })
    }))

  it.scopedLive("RN16: a channel that the user may not hear is told of once, and asked for again, and hinders no other", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const user = (...rules: ReadonlyArray<string>) =>
        Effect.promise(() => ask(server.port, "acl", "setuser", "user", ...rules))
      yield* user("on", ">secret", "~*", "+@all", "resetchannels", "&open")
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      yield* Effect.gen(function*() {
        const redis = yield* RedisConnection.make({
          server: { _tag: "Standalone", url: server.url, username: "user", password: "secret" }
        })
        const events: Array<unknown> = []
        yield* Effect.forkScoped(Stream.runForEach(redis.events, (event) => Effect.sync(() => events.push(event))))
        yield* Effect.yieldNow()
        const hear = (channel: string, heard: Array<string>) =>
          redis.subscribe(channel, { onMessage: (text) => void heard.push(text), onGap: () => void heard.push("gap") })
        const shut: Array<string> = []
        const open: Array<string> = []
        yield* hear("shut", shut)
        yield* hear("open", open)
        const says = `Redis "redis" at 127.0.0.1:${server.port}: subscribe failed (Denied): shut: NOPERM`
        const { lastError } = yield* redis.health
        expect(lastError?.message).toContain(says)

        // All are asked for anew.
        yield* Effect.promise(() => ask(server.port, "client", "kill", "type", "pubsub"))
        yield* Effect.promise(() => until("the other is heard again", () => open.includes("gap")))
        yield* Effect.promise(() => ask(server.port, "publish", "open", "hello"))
        yield* Effect.promise(() => until("it is heard", () => open.includes("hello")))
        const refusals = async () => {
          const [entry] = (await ask(server.port, "acl", "log")) as ReadonlyArray<ReadonlyArray<unknown>>
          return Number(entry?.[entry.indexOf("count") + 1])
        }
        yield* Effect.promise(() => until("it is asked for again", async () => await refusals() > 3))
        expect(events).toMatchObject([{ _tag: "InternalError", source: "Store", error: { reason: "Denied" } }])
        expect(lines.length).toBe(1)

        expect(shut).toEqual([])
        yield* user("&shut")
        yield* Effect.promise(() => until("it is heard", () => shut.includes("gap")))
        yield* Effect.promise(() => ask(server.port, "publish", "shut", "hello"))
        yield* Effect.promise(() => until("it is heard", () => shut.includes("hello")))
        expect(shut).toEqual(["gap", "hello"])
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
    }))

  it.scopedLive("RN6: a server that is not there fails the layer in time, or the layer begins without it", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      const server = `redis://127.0.0.1:${port}`
      const begin = performance.now()
      const error = yield* Effect.flip(Effect.scoped(RedisConnection.make({ server, connectTimeout: "300 millis" })))
      expect(error).toMatchObject({ _tag: "RedisUnavailableError", command: "connect", reason: "Disconnected" })
      expect(error.message).toContain("ECONNREFUSED")
      expect(performance.now() - begin).toBeLessThan(1300)

      const redis = yield* RedisConnection.make({ server, connectTimeout: "100 millis", startup: "degrade" })
      expect(yield* redis.health).toMatchObject({ status: "down" })
      expect(yield* Effect.flip(redis.command("ping"))).toMatchObject({ reason: "Down" })
      yield* Server.start([], port)
      const up = performance.now()
      yield* Effect.promise(() =>
        until("it is up", async () => (await Effect.runPromise(redis.health)).status === "up")
      )
      expect(performance.now() - up).toBeLessThan(2500)
      expect(yield* redis.command("ping")).toBe("PONG")
    }))

  it.scopedLive("RN17: a database that the server does not have fails the layer, or is down, and is never database 0", () =>
    Effect.gen(function*() {
      const own = yield* Server.start(["--databases", "4"])
      const begin = performance.now()
      for (
        const server of [`${own.url}/99`, { _tag: "Standalone", url: own.url, db: 99 }] satisfies ReadonlyArray<
          RedisConnection.Options["server"]
        >
      ) {
        const error = yield* Effect.flip(Effect.scoped(RedisConnection.make({ server, connectTimeout: "5 seconds" })))
        expect(error).toMatchObject({ command: "connect", reason: "Reply" })
        expect(error.message).toContain("DB index is out of range")
      }
      expect(performance.now() - begin).toBeLessThan(4000)

      const redis = yield* RedisConnection.make({ server: `${own.url}/99`, startup: "degrade" })
      const dedicated = yield* redis.dedicated
      const written = dedicated.set("dedicated", "v").then(() => true, () => false)
      const refused = yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => Effect.zipRight(Effect.sleep(10), Effect.flip(redis.command("set", "k", "v")))
      )
      expect(refused.filter(({ message }) => !message.includes("DB index is out of range"))).toEqual([])
      expect(yield* redis.health).toMatchObject({ status: "down", lastError: { reason: expect.any(String) } })
      expect((yield* redis.metrics).state).toBe("down")
      expect(yield* Effect.promise(() => ask(own.port, "dbsize"))).toBe(0)
      expect(yield* Effect.promise(() => Promise.race([written, new Promise((resolve) => setTimeout(resolve, 1))]))).not
        .toBe(true)
    }))

  it.scopedLive("RN17: a database that is gone after a restart takes the connection down", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      const own = yield* Effect.scope
      // Each ends with its own scope, and where the test fails with that of the test.
      const first = yield* Scope.fork(own, ExecutionStrategy.sequential)
      const large = yield* Scope.extend(Server.start([], port), first)
      const redis = yield* RedisConnection.make({ server: `${large.url}/9`, commandTimeout: "1 second" })
      expect(yield* redis.command("set", "k", "v")).toBe("OK")
      yield* Scope.close(first, Exit.void)
      const second = yield* Scope.fork(own, ExecutionStrategy.sequential)
      yield* Scope.extend(Server.start(["--databases", "4"], port), second)
      yield* Effect.promise(() =>
        until("it is down", async () => {
          await Effect.runPromise(Effect.ignore(redis.command("set", "k", "v")))
          const { lastError, status } = await Effect.runPromise(redis.health)
          return status === "down" && lastError?.detail?.includes("DB index is out of range") === true
        })
      )
      expect(yield* Effect.promise(() => ask(port, "dbsize"))).toBe(0)
      yield* Scope.close(second, Exit.void)
      yield* Server.start([], port)
      yield* Effect.promise(() =>
        until("it is up", async () => (await Effect.runPromise(redis.health)).status === "up", 5000)
      )
    }))

  it.scopedLive("while it is down, a call costs about what a local one does", () =>
    Effect.gen(function*() {
      const port = yield* Effect.promise(freePort)
      const redis = yield* RedisConnection.make({
        server: `redis://127.0.0.1:${port}`,
        connectTimeout: "50 millis",
        startup: "degrade"
      })
      const failure = Exit.fail("local")
      const local = Effect.async<never, string>((resume) => resume(failure))
      const measure = (effect: Effect.Effect<unknown, unknown>) =>
        Effect.map(
          Effect.forEach(Array.from({ length: scale(5_000, 40_000) }), () =>
            Effect.sync(() => performance.now()).pipe(
              Effect.flatMap((begin) => Effect.map(Effect.exit(effect), () => performance.now() - begin))
            )),
          (all) => {
            all.sort((a, b) => a - b)
            const at = (q: number) => all[Math.floor(all.length * q)] ?? 0
            return { median: at(0.5) * 1000, p99: at(0.99) * 1000 }
          }
        )
      yield* measure(local)
      const compared = { local: yield* measure(local), down: yield* measure(redis.run(ledger, ["l"], ["c0"])) }
      console.log(`while down (µs): ${JSON.stringify(compared)}`)
      // Both are a few microseconds; a question to the server is at least fifty.
      expect(compared.down.median).toBeLessThan(compared.local.median + 20)
    }))
})

describe.skipIf(!canStart)("leaving", () => {
  for (const fault of ["nothing", "a paused server", "a dead server"] as const) {
    const happens = (server: Server) => {
      if (fault === "a paused server") server.pause()
      return fault === "a dead server" ? Effect.promise(() => server.kill()) : Effect.void
    }

    it.scopedLive(`RN15: the layer is released within a second, with ${fault} in the way`, () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const scope = yield* Scope.make()
        yield* Effect.gen(function*() {
          const redis = yield* RedisConnection.make({ server: server.url })
          const dedicated = yield* redis.dedicated
          yield* redis.subscribe("channel", { onMessage: () => {}, onGap: () => {} })
          dedicated.xread("BLOCK", 0, "STREAMS", "nothing", "$").catch(() => {})
          yield* Effect.sleep(50)
          yield* happens(server)
          yield* Effect.sleep(50)
          yield* Effect.fork(redis.run(ledger, ["l"], ["c0"]))
        }).pipe(Scope.extend(scope))
        const begin = performance.now()
        yield* Scope.close(scope, Exit.void)
        expect(performance.now() - begin).toBeLessThan(1000)
      }))

    // Another process takes seconds to begin: the paused one stands for all where time is short.
    if (fault === "a paused server" || long) {
      it.scopedLive(`RN15: and the process ends, with ${fault} in the way`, () =>
        Effect.gen(function*() {
          const server = yield* Server.start()
          const process = yield* Worker.start(worker, server.url)
          expect(yield* process.next).toBe("ready")
          const gone = new Promise((resolve) => process.child.once("exit", resolve))
          yield* happens(server)
          yield* Effect.sleep(100)
          const begin = performance.now()
          process.send("leave")
          expect(yield* process.next).toBe("closed")
          expect(yield* Effect.promise(() => gone)).toBe(0)
          console.log(`${fault}: ended after ${(performance.now() - begin).toFixed(0)} ms`)
          expect(performance.now() - begin).toBeLessThan(1500)
          expect(process.stderr).toBe("")
        }))
    }
  }

  /** The most attempts in so many milliseconds: a back-off of 150 ms doubles up to 1400, less up to seven tenths by chance. */
  const mostAttempts = (millis: number): number => {
    let attempts = 0
    for (let at = 0; (at += 0.3 * Math.min(150 * 2 ** attempts, 1400)) <= millis;) attempts++
    return attempts
  }

  it.scopedLive("RN13: many connections come back spread, ask seldom and say little", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const fleet = yield* Effect.forEach(Array.from({ length: scale(4, 20) }), () =>
        Effect.gen(function*() {
          const proxy = yield* Proxy.start(server.port)
          const lines: Array<unknown> = []
          const log = Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(message)))
          // Nothing is late before the server is gone, however busy the machine is.
          const redis = yield* Effect.provide(
            RedisConnection.make({ server: proxy.url, commandTimeout: "5 seconds", connectTimeout: "5 seconds" }),
            log
          )
          yield* redis.subscribe("channel", { onMessage: () => {}, onGap: () => {} })
          // A caller who goes on whatever happens.
          yield* Effect.forkScoped(
            Effect.forever(Effect.zipRight(Effect.ignore(redis.command("ping")), Effect.sleep(5)))
          )
          return { redis, proxy, lines, before: proxy.accepted }
        }))
      const begin = performance.now()
      yield* Effect.promise(() => server.kill())
      yield* Effect.sleep(scale(1500, 5000))
      const attempts = fleet.map(({ before, proxy }) => proxy.accepted - before)
      const millis = performance.now() - begin
      yield* Effect.promise(() => server.start())
      const times = yield* Effect.forEach(fleet, ({ redis }) =>
        Effect.promise(async () => {
          await until("it is up", async () => (await Effect.runPromise(redis.health)).status === "up")
          return performance.now()
        }), { concurrency: "unbounded" })
      const mean = times.reduce((sum, at) => sum + at, 0) / times.length
      const deviation = Math.sqrt(times.reduce((sum, at) => sum + (at - mean) ** 2, 0) / times.length)
      const lines = Math.max(...fleet.map(({ lines }) => lines.length))
      console.log(
        `storm: ${Math.max(...attempts)} attempts in ${millis.toFixed(0)} ms at most, back within ${
          deviation.toFixed(0)
        } ms ` +
          `(standard deviation), ${lines} lines at most`
      )
      expect(Math.max(...attempts)).toBeLessThanOrEqual(mostAttempts(millis))
      expect(lines).toBeLessThanOrEqual(2)
      expect(Math.min(...attempts)).toBeGreaterThan(0)
      if (long) expect(deviation).toBeGreaterThan(150)
    }))
})

it.effect("a bad layer of options is a defect that names it", () =>
  Effect.gen(function*() {
    const exit = yield* Effect.exit(Effect.scoped(RedisConnection.make({ downAfter: 1.5 })))
    expect(Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "").toContain("option downAfter")
  }))
