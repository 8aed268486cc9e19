import { option, orDie } from "@effect-resilience/core/extension"
import calculateSlot from "cluster-key-slot"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { RedisOptions } from "ioredis"
import { Command } from "ioredis"
import { randomUUID } from "node:crypto"
import type { RedisConnection } from "../RedisConnection.js"
import { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Client, Settings } from "./client.js"
import { makeClient } from "./client.js"
import { reasonOf } from "./failure.js"
import { Inflight } from "./inflight.js"
import { later, realNow } from "./realTime.js"
import type { Script } from "./script.js"
import { late, script } from "./script.js"
import { Subscriptions } from "./subscriptions.js"

/** What the table of the documentation says. @internal */
export const connectionFields = {
  name: option.field<string, string>("redis", (name) => name),
  server: option.field<RedisConnection.Server, RedisConnection.Server>(
    { _tag: "Standalone", url: "redis://127.0.0.1:6379" },
    (server) => server
  ),
  prefix: option.field<string, string>("resilience:", (prefix) => prefix),
  commandTimeout: option.duration("100 millis")
} satisfies option.Fields<RedisConnection.Options>

type Settled = (error: RedisUnavailableError | undefined, reply: RedisConnection.Reply) => void

/** A test moves the time of the server: microseconds by which its clock is ahead. @internal */
export class Skew extends Context.Reference<Skew>()("@effect-resilience/redis/Skew", {
  defaultValue: (): (() => number) | undefined => undefined
}) {}

/** Says that this process is there, and hears the server's time and how many there are. */
const beat = script(
  "beat",
  `redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] * 1000)
redis.call('ZADD', KEYS[1], time[1] * 1000 + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
return {time[1] * 1000000 + time[2], redis.call('ZCARD', KEYS[1])}`
)

/** How often a process says that it is there, and for how long that counts. */
const beatEvery = 1000
const aliveFor = 3500

/** How many of the last beats the server's time is reckoned from. */
const beatsKept = 10

class Connection implements RedisConnection.Service {
  readonly name: string
  readonly prefix: string
  private readonly inflight: Inflight
  private readonly timeout: number
  private known = 1
  /** The server's time less ours, in microseconds, as of the last beats; each is too small by what its answer took. */
  private offsets: Array<number> = []
  private stopBeating = () => {}
  private closed = false

  constructor(
    readonly id: string,
    options: option.Resolved<typeof connectionFields>,
    private readonly client: Client,
    private readonly subscriptions: Subscriptions,
    private readonly skew: (() => number) | undefined
  ) {
    this.name = options.name
    this.prefix = options.prefix
    this.timeout = Duration.toMillis(options.commandTimeout)
    this.inflight = new Inflight(this.timeout)
  }

  open(): Promise<void> {
    const { client } = this
    // Said to each command already; without a listener it would end the process.
    client.on("error", () => {})
    client.on("ready", () => {
      // Perhaps another server, by another clock.
      this.offsets = []
      this.beat()
    })
    return client.connect().catch(() => {})
  }

  close(): void {
    this.closed = true
    this.stopBeating()
    this.inflight.close()
    this.subscriptions.close()
    this.client.disconnect()
  }

  private readonly beat = (): void => {
    this.stopBeating()
    if (this.closed) return
    const args = [this.id, String(aliveFor)]
    this.send(
      beat.name,
      "evalsha",
      this.evalArgs(beat, "sha", [`{${this.prefix}}processes`], args, 0),
      (error, reply) => {
        if (error === undefined && Array.isArray(reply)) {
          this.offsets.push(Number(reply[0]) - realNow() * 1000)
          if (this.offsets.length > beatsKept) this.offsets.shift()
          this.known = Number(reply[1])
        }
        this.stopBeating()
        if (!this.closed) this.stopBeating = later(beatEvery, this.beat)
      },
      beat
    )
  }

  /** The server's time at which a command sent now is too late; 0 where it is not known. */
  private deadline(): number {
    if (this.offsets.length === 0) return 0
    return Math.floor((realNow() + this.timeout) * 1000 + Math.max(...this.offsets))
  }

  private evalArgs(
    script: Script,
    by: "sha" | "text",
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>,
    deadline: number
  ): Array<string | number> {
    const { skew } = this
    return skew === undefined
      ? [script[by], keys.length, ...keys, ...args, deadline]
      : [script.skewed[by], keys.length, ...keys, ...args, Math.floor(skew()), deadline]
  }

  private failed(command: string, reason: RedisUnavailableError["reason"], detail?: string): RedisUnavailableError {
    return new RedisUnavailableError({
      connection: this.name,
      command,
      reason,
      ...(detail === undefined ? {} : { detail })
    })
  }

  private send(
    label: string,
    name: string,
    args: Array<string | number>,
    settled: Settled,
    script?: Script
  ): void {
    const waiting = this.inflight.add(() => settled(this.failed(label, "Timeout"), null))
    const command = new Command(name, args, { replyEncoding: "utf8" }, (error, reply) => {
      if (waiting.settled) return
      waiting.settled = true
      if (!error) {
        if (reply === late) settled(this.failed(label, "Late"), null)
        else settled(undefined, reply as RedisConnection.Reply)
        return
      }
      // Said before it did anything.
      if (script !== undefined && name === "evalsha" && error.message.startsWith("NOSCRIPT")) {
        const [, ...rest] = args
        return this.send(label, "eval", [this.skew === undefined ? script.text : script.skewed.text, ...rest], settled)
      }
      settled(this.failed(label, reasonOf(error), error.message), null)
    })
    this.client.sendCommand(command)
  }

  readonly unsafeRun = (
    script: Script,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>,
    settled: Settled
  ): void => {
    this.send(script.name, "evalsha", this.evalArgs(script, "sha", keys, args, this.deadline()), settled, script)
  }

  readonly run = (script: Script, keys: ReadonlyArray<string>, args: ReadonlyArray<string | number>) =>
    Effect.async<RedisConnection.Reply, RedisUnavailableError>((resume) =>
      this.unsafeRun(
        script,
        keys,
        args,
        (error, reply) => resume(error === undefined ? Effect.succeed(reply) : Effect.fail(error))
      )
    )

  readonly command = (name: string, ...args: ReadonlyArray<string | number>) =>
    Effect.async<RedisConnection.Reply, RedisUnavailableError>((resume) =>
      this.send(
        name,
        name,
        [...args],
        (error, reply) => resume(error === undefined ? Effect.succeed(reply) : Effect.fail(error))
      )
    )

  readonly subscribe: RedisConnection.Service["subscribe"] = (channel, on) => this.subscriptions.subscribe(channel, on)

  readonly dedicated: Effect.Effect<Client, never, Scope> = Effect.acquireRelease(
    Effect.sync(() => {
      const client = duplicate(this.client)
      client.on("error", () => {})
      client.connect().catch(() => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

  readonly processes = Effect.sync(() => this.known)

  readonly slotOf = (key: string): number => this.client.isCluster ? calculateSlot(key) : 0

  readonly health: Effect.Effect<RedisConnection.Health> = Effect.sync(() => ({
    status: this.client.status === "ready" ? "up" : "connecting"
  }))
}

const waits: Partial<RedisOptions> & Array<never> = Object.assign([], { enableOfflineQueue: true })

/** The same servers and options, without what makes a command that waits fail. */
const duplicate = (client: Client): Client =>
  client.isCluster
    ? client.duplicate([], { enableOfflineQueue: true })
    : client.duplicate(waits)

/** @internal */
export const openConnection = (
  options: RedisConnection.Options
): Effect.Effect<RedisConnection.Service, never, Scope> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() =>
      option.resolve("RedisConnection", options.name ?? "redis", connectionFields, { ...options })
    )
    const skew = yield* Skew
    const random = yield* Effect.random
    const settings: Settings = { connectTimeout: 1000, socketTimeout: 1000, random: () => Effect.runSync(random.next) }
    return yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const client = makeClient(resolved.server, settings)
        const connection = new Connection(
          randomUUID(),
          resolved,
          client,
          new Subscriptions(() => duplicate(client)),
          skew
        )
        await connection.open()
        return connection
      }),
      (connection) => Effect.sync(() => connection.close())
    )
  })
