/**
 * A connection to Redis that fails fast: the services of this package share one.
 *
 * @since 0.1.0
 */
import type { ConfigOf, InternalError } from "@effect-resilience/core"
import { callSite, layerFromConfig } from "@effect-resilience/core/extension"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Redacted } from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { Stream } from "effect/Stream"
import type { ConnectionOptions } from "node:tls"
import type { Client } from "./internal/client.js"
import { openConnection, useClient } from "./internal/open.js"
import { namingServer, resolveConnection } from "./internal/options.js"
import type { Script } from "./internal/script.js"
import { RedisUnavailableError } from "./RedisUnavailableError.js"

const State = Schema.Literal("Up", "Degraded", "Down")

const StateChanged = Schema.TaggedStruct("StateChanged", {
  pattern: Schema.Literal("RedisConnection"),
  instance: Schema.String,
  /** Milliseconds since the epoch, of the `Clock`. */
  timestamp: Schema.Finite,
  from: State,
  to: State,
  /** The node of a cluster. */
  node: Schema.optional(Schema.String),
  /** What the last command that was sent to it failed with, or what it refuses with what is written. */
  reason: Schema.optional(RedisUnavailableError.fields.reason),
  /** How long it was down or degraded, in milliseconds. */
  lasted: Schema.optional(Schema.NonNegative)
})

/**
 * The connection. One `Live` at the edge of the program, provided to all services of this package.
 *
 * A command fails within its time, whatever the server does, and is never sent twice. After `downAfter` failures in a row
 * that say that the server is not there, commands fail at once, until the server answers a probe. All of it happens in
 * real time, whatever `Clock` the program has.
 *
 * @example
 * import { RedisConnection } from "@effect-resilience/redis"
 * import { Config } from "effect"
 *
 * const RedisLive = RedisConnection.layerConfig({
 *   server: Config.redacted("REDIS_URL"),
 *   prefix: "shop:"
 * })
 *
 * @since 0.1.0
 * @category models
 */
export class RedisConnection
  extends Context.Tag("@effect-resilience/redis/RedisConnection")<RedisConnection, RedisConnection.Service>()
{
  /** A connection with options, closed with the scope. Fails where the server is not there, unless `startup` says not to. */
  static readonly make = (
    options: RedisConnection.Options = {}
  ): Effect.Effect<RedisConnection.Service, RedisUnavailableError, Scope> => openConnection(options, callSite())

  /** `make` as a layer. */
  static readonly layer = (
    options: RedisConnection.Options = {}
  ): Layer.Layer<RedisConnection, RedisUnavailableError> =>
    Layer.scoped(RedisConnection, openConnection(options, callSite()))

  /** `layer` with options from `Config`, as they are, in part or as a whole: bad ones fail with a `ConfigError`. */
  static readonly layerConfig = (
    config: ConfigOf<RedisConnection.Options>
  ): Layer.Layer<RedisConnection, RedisUnavailableError | ConfigError> =>
    layerFromConfig(namingServer(config), resolveConnection, RedisConnection.layer)

  /**
   * A connection by a client of your own, which is never closed here. Of its options those are checked that let a command
   * wait, run twice or answer otherwise; `allowUnsafe` takes it as it is. Its `keyPrefix` begins every key, before `prefix`.
   * It stays in the database of its options: one that `SELECT` moved is refused.
   */
  static readonly fromClient = (
    client: Client,
    options: RedisConnection.ClientOptions = {}
  ): Effect.Effect<RedisConnection.Service, RedisUnavailableError, Scope> => useClient(client, options, callSite())

  /** `fromClient` as a layer. */
  static readonly layerClient = (
    client: Client,
    options: RedisConnection.ClientOptions = {}
  ): Layer.Layer<RedisConnection, RedisUnavailableError> =>
    Layer.scoped(RedisConnection, useClient(client, options, callSite()))

  /** `redis://127.0.0.1:6379` with the defaults. */
  static readonly Live: Layer.Layer<RedisConnection, RedisUnavailableError> = RedisConnection.layer()

  /** That a server went or came back, as a schema for the wire. */
  static readonly StateChanged = StateChanged
}

/**
 * @since 0.1.0
 */
export declare namespace RedisConnection {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Address {
    readonly host: string
    readonly port: number
  }

  /**
   * Where the server is. `tls: true` trusts whom Node trusts, and is for the sentinels too; `db` counts from 0, and a cluster has only that one.
   *
   * @since 0.1.0
   * @category models
   */
  export type Server =
    & (
      | {
        readonly _tag: "Standalone"
        /** `redis://host:port/db`, `rediss://…` for TLS, or the path of a unix socket. */
        readonly url: string | Redacted<string>
        readonly db?: number | undefined
      }
      | {
        readonly _tag: "Sentinel"
        readonly sentinels: ReadonlyArray<Address>
        readonly master: string
        readonly db?: number | undefined
        /** Of the sentinels, where they have their own. */
        readonly sentinelUsername?: string | undefined
        readonly sentinelPassword?: string | Redacted<string> | undefined
      }
      | { readonly _tag: "Cluster"; readonly nodes: ReadonlyArray<Address> }
    )
    & {
      readonly username?: string | undefined
      readonly password?: string | Redacted<string> | undefined
      readonly tls?: boolean | ConnectionOptions | undefined
    }

  /**
   * @since 0.1.0
   * @category models
   */
  export type Startup = "require" | "degrade"

  /**
   * @since 0.1.0
   * @category models
   */
  export interface CommonOptions {
    /** What it is called in metrics, errors and the `Registry`. Defaults to `"redis"`. */
    readonly name?: string | undefined
    /** Begins every key and channel, before their hash tag. Defaults to `"resilience:"`. */
    readonly prefix?: string | undefined
    /** The time for the answer to a command. Defaults to `"100 millis"`. */
    readonly commandTimeout?: Duration.DurationInput | undefined
    /** The time for a connection, and for the first one until the layer is there or fails. Defaults to `"1 second"`. */
    readonly connectTimeout?: Duration.DurationInput | undefined
    /**
     * Where the server is not there within `connectTimeout`: `"require"` fails the layer, `"degrade"` starts without it, as
     * down. A password that is refused fails the first at once, and so does a user who may not write under `prefix`. Defaults to `"require"`.
     */
    readonly startup?: Startup | undefined
    /** How many failures in a row that say that the server is not there take it down. Defaults to `5`. */
    readonly downAfter?: number | undefined
    /**
     * How many processes share the limits, until the server has said how many there are: what `onStoreError: "local"` divides by in
     * a process that started while Redis was away. Defaults to `1`: such a process then takes the whole limit for its own.
     */
    readonly expectedProcesses?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options extends CommonOptions {
    /** Where it is: a URL, or more. Defaults to `"redis://127.0.0.1:6379"`. */
    readonly server?: string | Redacted<string> | Server | undefined
    /**
     * A connection that hears nothing for so long, although an answer is due, is broken off: at
     * least `commandTimeout`. Defaults to `"1 second"`, or to `commandTimeout` where that is longer.
     */
    readonly socketTimeout?: Duration.DurationInput | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface ClientOptions extends CommonOptions {
    /** Takes a client whose options let commands wait, run twice or answer otherwise. Defaults to `false`. */
    readonly allowUnsafe?: boolean | undefined
  }

  /**
   * How it does. `"degraded"` is one that is there and refuses what is written: it is a replica, its memory is full, or the
   * user has not the rights. In a cluster it is `"down"` where all nodes are that were asked, and `"degraded"` where one of
   * its masters is.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Health {
    readonly status: "connecting" | "up" | "degraded" | "down"
    /** Milliseconds until an answer came, on average over the last ones. */
    readonly latency: number
    /** Why it is degraded, where it is. */
    readonly refusal?: RedisUnavailableError
    /** What the last command that failed did so with, however long ago; `"Down"` is what others are told since. */
    readonly lastError?: RedisUnavailableError
  }

  /**
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics {
    readonly state: Health["status"]
    /** Why it is degraded, where it is. */
    readonly refusal: RedisUnavailableError["reason"] | null
    /** As `processes`. */
    readonly processes: number
    /** What was asked for, and what of that failed. */
    readonly commands: number
    readonly failures: number
    /** What was sent: a script that the server did not know twice, and the beats and probes of the connection. */
    readonly roundTrips: number
    /** How often a server went down, and how often a connection came back. */
    readonly outages: number
    readonly reconnects: number
    /** Commands that wait for their answer. */
    readonly pending: number
    /** As in `Health`. */
    readonly latency: number
    /** The nodes that are down; a server that is no node is `""`. */
    readonly down: ReadonlyArray<string>
    /** For how many milliseconds one of them has been, the longest; absent where none is. */
    readonly downFor?: number
    /** What the last command that was sent failed with, while one of them is down. */
    readonly reason?: RedisUnavailableError["reason"]
  }

  /**
   * @since 0.1.0
   * @category events
   */
  export type StateChanged = typeof StateChanged.Type

  /**
   * @since 0.1.0
   * @category events
   */
  export type Event = StateChanged | InternalError

  /**
   * A script of one atomic step.
   *
   * @since 0.1.0
   * @category models
   */
  export type AnyScript = Script

  /**
   * What a script or a command answers.
   *
   * @since 0.1.0
   * @category models
   */
  export type Reply = number | string | null | ReadonlyArray<Reply>

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    readonly name: string
    readonly prefix: string
    /** Within this time each command is answered, or fails. */
    readonly commandTimeout: Duration.Duration
    /** This process, among those that share the server: random, and new for each connection. */
    readonly id: string
    /** One step on the server, in one round trip and within `commandTimeout`. It is never run twice. */
    readonly run: (
      script: AnyScript,
      keys: ReadonlyArray<string>,
      args: ReadonlyArray<string | number>
    ) => Effect.Effect<Reply, RedisUnavailableError>
    /** `run` for those who ask for many at once: `settled` is called once, and never before this returns. */
    readonly unsafeRun: (
      script: AnyScript,
      keys: ReadonlyArray<string>,
      args: ReadonlyArray<string | number>,
      settled: (error: RedisUnavailableError | undefined, reply: Reply) => void
    ) => void
    /**
     * Sends at once what was asked for. What is asked for in one turn of the event loop leaves when that is over, in one
     * write; this does so sooner for what cannot wait, once in a turn.
     */
    readonly unsafeFlush: () => void
    /** The error of a script that was not sent, or whose answer is waited for no longer, with its place, as `run` fails with it. */
    readonly failure: (
      script: AnyScript,
      keys: ReadonlyArray<string>,
      reason: RedisUnavailableError["reason"],
      detail: string
    ) => RedisUnavailableError
    /** A single command, within `commandTimeout`. It is not sent twice either, but may run after it has failed. */
    readonly command: (
      name: string,
      ...args: ReadonlyArray<string | number>
    ) => Effect.Effect<Reply, RedisUnavailableError>
    /**
     * The name of a channel of this database, which `subscribe` takes and scripts publish on. Redis sends a message to
     * all of its databases: in one other than 0 the name ends with it, as `"resilience:cb:@2"`.
     */
    readonly channel: (name: string) => string
    /**
     * Hears what is published on a channel, from when this returns until the scope closes. Messages are hints: some are
     * lost whenever the connection is, and then `onGap` is called, once it is there again. Where it is not there at the
     * beginning this returns after `commandTimeout`, with a first gap to come.
     */
    readonly subscribe: (
      channel: string,
      on: { readonly onMessage: (message: string) => void; readonly onGap: () => void }
    ) => Effect.Effect<void, never, Scope>
    /**
     * A connection of one's own, for commands that wait, up to five seconds each; closed with the scope. They may be asked
     * for before it is there, and fail where it breaks: it comes back by itself.
     */
    readonly dedicated: Effect.Effect<Client, never, Scope>
    /**
     * How many processes share the server with this connection's prefix, as last heard, itself among them; before that
     * `expectedProcesses`.
     */
    readonly processes: Effect.Effect<number>
    /** Which keys may be in one script: those of one slot. Always 0 where there is one server. */
    readonly slotOf: (key: string) => number
    readonly health: Effect.Effect<Health>
    readonly metrics: Effect.Effect<Metrics>
    /** That the server, or a node of a cluster, went down or came back. */
    readonly events: Stream<Event>
  }
}
