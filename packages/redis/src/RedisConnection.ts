/**
 * A connection to Redis that fails fast: the services of this package share one.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import type { Client } from "./internal/client.js"
import { openConnection } from "./internal/connection.js"
import type { Script } from "./internal/script.js"
import type { RedisUnavailableError } from "./RedisUnavailableError.js"

/**
 * The connection. One `Live` at the edge of the program, provided to all services of this package.
 *
 * @since 0.1.0
 * @category models
 */
export class RedisConnection
  extends Context.Tag("@effect-resilience/redis/RedisConnection")<RedisConnection, RedisConnection.Service>()
{
  /** A connection with options. */
  static readonly make = (options: RedisConnection.Options): Effect.Effect<RedisConnection.Service, never, Scope> =>
    openConnection(options)

  /** `make` as a layer. */
  static readonly layer = (options: RedisConnection.Options = {}): Layer.Layer<RedisConnection> =>
    Layer.scoped(RedisConnection, openConnection(options))

  /** `redis://127.0.0.1:6379` with the defaults. */
  static readonly Live: Layer.Layer<RedisConnection> = RedisConnection.layer()
}

/**
 * @since 0.1.0
 */
export declare namespace RedisConnection {
  /**
   * Where the server is.
   *
   * @since 0.1.0
   * @category models
   */
  export type Server =
    & (
      | { readonly _tag: "Standalone"; readonly url: string }
      | {
        readonly _tag: "Sentinel"
        readonly sentinels: ReadonlyArray<{ readonly host: string; readonly port: number }>
        readonly master: string
      }
      | { readonly _tag: "Cluster"; readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }> }
    )
    & {
      readonly username?: string | undefined
      readonly password?: string | undefined
      readonly tls?: object | undefined
    }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** What it is called in metrics and errors. Defaults to `"redis"`. */
    readonly name?: string | undefined
    /** Defaults to one server at `redis://127.0.0.1:6379`. */
    readonly server?: Server | undefined
    /** Begins every key and channel. Defaults to `"resilience:"`. */
    readonly prefix?: string | undefined
    /** The time for the answer to a command. Defaults to `"100 millis"`. */
    readonly commandTimeout?: Duration.DurationInput | undefined
  }

  /**
   * How it does.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Health {
    readonly status: "connecting" | "up" | "down"
  }

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
    /** A single command, within `commandTimeout`. */
    readonly command: (
      name: string,
      ...args: ReadonlyArray<string | number>
    ) => Effect.Effect<Reply, RedisUnavailableError>
    /**
     * Hears what is published on a channel, from when this returns until the scope closes. Messages are hints: some are
     * lost whenever the connection is, and then `onGap` is called, once it is there again.
     */
    readonly subscribe: (
      channel: string,
      on: { readonly onMessage: (message: string) => void; readonly onGap: () => void }
    ) => Effect.Effect<void, never, Scope>
    /** A connection of one's own, for commands that wait; closed with the scope. */
    readonly dedicated: Effect.Effect<Client, never, Scope>
    /** How many processes share the server with this connection's prefix, as last heard, itself among them. */
    readonly processes: Effect.Effect<number>
    /** Which keys may be in one script: those of one slot. Always 0 where there is one server. */
    readonly slotOf: (key: string) => number
    readonly health: Effect.Effect<Health>
  }
}
