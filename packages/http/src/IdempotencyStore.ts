/**
 * Where it is kept which idempotency keys were used, and what came of them.
 *
 * @since 0.1.0
 */
import { option, orDie, toNanos } from "@effect-resilience/core/extension"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import { IdempotencyTable } from "./internal/idempotency/table.js"
import { watched } from "./internal/idempotency/watch.js"
import { StoredResponse } from "./StoredResponse.js"

/**
 * The store could not say or keep.
 *
 * - `"Unavailable"`: it failed.
 * - `"Timeout"`: it did not answer in time.
 * - `"Full"`: all it can hold is in flight.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyStoreError
  extends Schema.TaggedError<IdempotencyStoreError>("@effect-resilience/http/IdempotencyStoreError")(
    "IdempotencyStoreError",
    {
      operation: Schema.Literal("begin", "complete", "release"),
      reason: Schema.Literal("Unavailable", "Timeout", "Full"),
      /** What the store said. */
      detail: Schema.optional(Schema.String)
    }
  )
{
  /** What it is told as: one outage has several reasons, and is one. */
  get kind(): "Full" | "Absent" {
    return this.reason === "Full" ? "Full" : "Absent"
  }

  override get message(): string {
    const said = this.detail === undefined ? "" : `: ${this.detail}`
    return `IdempotencyStore: ${this.operation} failed (${this.reason})${said}`
  }
}

/** What the table of the documentation says. @internal */
export const idempotencyStoreFields = {
  name: option.field<string, string>("memory", (input) => {
    if (Predicate.isString(input) && input !== "") return input
    throw new option.Requirement("a string that is not empty")
  }),
  maxEntries: option.integer(10_000, { min: 1 }),
  maxBytes: option.integer(64 * 1024 * 1024, { min: 0 })
} satisfies option.Fields<IdempotencyStore.Options>

const makeMemory = (options: IdempotencyStore.Options = {}): Effect.Effect<IdempotencyStore.Memory> =>
  Effect.gen(function*() {
    const { maxBytes, maxEntries } = yield* orDie(() =>
      option.resolve("IdempotencyStore", options.name ?? "memory", idempotencyStoreFields, { ...options })
    )
    const table = yield* Ref.make(new IdempotencyTable(maxEntries, maxBytes))
    /** A step of the table at a moment: nothing can come between. */
    const step = <A>(f: (table: IdempotencyTable, now: bigint) => A) =>
      Effect.flatMap(Clock.currentTimeNanos, (now) => Effect.map(Ref.get(table), (table) => f(table, now)))
    return {
      begin: (request) =>
        Effect.flatMap(
          step((table, now) => table.begin(now, request, toNanos(request.lease))),
          (begun) =>
            begun === "Full"
              ? Effect.fail(new IdempotencyStoreError({ operation: "begin", reason: "Full" }))
              : Effect.succeed(begun)
        ),
      complete: (request) => step((table, now) => table.complete(now, request, toNanos(request.ttl))),
      release: ({ key, token }) => step((table, now) => table.release(now, key, token)),
      metrics: step((table) => table.metrics())
    }
  })

/**
 * The seam for shared stores. Each operation is one atomic step: a script, or a command with a condition, in Redis. An
 * entry in flight belongs to whoever knows its token, for the length of its lease; when that has passed it is nobody's, so
 * that the key of a process that died is free again.
 *
 * @since 0.1.0
 * @category models
 */
export class IdempotencyStore
  extends Context.Tag("@effect-resilience/http/IdempotencyStore")<IdempotencyStore, IdempotencyStore.Service>()
{
  /** A store in this process: enough where a client's retries reach the same one. */
  static readonly makeMemory = makeMemory
  /** `makeMemory` as a layer, watched. */
  static readonly layerMemory = (options: IdempotencyStore.Options = {}): Layer.Layer<IdempotencyStore> =>
    Layer.scoped(
      IdempotencyStore,
      Effect.flatMap(makeMemory(options), (store) => watched(options.name ?? "memory", store))
    )

  /** A store of your own as operators see it: it stands in the `Registry`, and what it does and holds is measured. */
  static readonly watched = watched

  /** What a store answers and keeps, with its form on the wire. */
  static readonly Begun = Schema.Union(
    Schema.TaggedStruct("New", {}),
    Schema.TaggedStruct("InFlight", {
      fingerprint: Schema.String,
      /** For how long its owner has the key still, where the store tells. */
      leaseLeft: Schema.optional(Schema.DurationFromMillis)
    }),
    Schema.TaggedStruct("Done", { fingerprint: Schema.String, response: StoredResponse })
  )
}

/**
 * @since 0.1.0
 */
export declare namespace IdempotencyStore {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** What it is called in the `Registry` and in metrics. Defaults to `"memory"`. */
    readonly name?: string | undefined
    /** Keys held at once; the oldest that is done goes first, one in flight never. Defaults to `10000`. */
    readonly maxEntries?: number | undefined
    /** Bytes of the responses held, about. Defaults to `67108864`, 64 MiB. */
    readonly maxBytes?: number | undefined
  }

  /**
   * An entry in flight, and who owns it.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Owner {
    /** A digest: it tells nothing of the client. */
    readonly key: string
    /** Known to the owner alone. */
    readonly token: string
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Begin extends Owner {
    /** What the request asks for, as a digest. */
    readonly fingerprint: string
    /** For how long the key is held from now on. */
    readonly lease: Duration.Duration
    /** Whether its owner has the key, and wants it for longer. */
    readonly isRenewal?: boolean | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Complete extends Owner {
    readonly fingerprint: string
    readonly response: StoredResponse
    /** For how long the response is repeated. */
    readonly ttl: Duration.Duration
  }

  /**
   * `New`: the key is the caller's now. Whether the fingerprint is that of the request is for the caller to compare.
   *
   * @since 0.1.0
   * @category models
   */
  export type Begun = typeof IdempotencyStore.Begun.Type

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    /**
     * Takes the key, if nobody has it. The same token may ask again, and has the key for another lease: its answer may have
     * been lost, or its request takes long.
     */
    readonly begin: (request: Begin) => Effect.Effect<Begun, IdempotencyStoreError>
    /** Keeps the response, if the key is the caller's or nobody's; `false` where it is another's by now. */
    readonly complete: (request: Complete) => Effect.Effect<boolean, IdempotencyStoreError>
    /** Frees the key, if it is in flight for the caller; `false` otherwise. */
    readonly release: (owner: Owner) => Effect.Effect<boolean, IdempotencyStoreError>
    /** How much it holds, where it can tell without asking anybody: for the metrics. */
    readonly metrics?: Effect.Effect<Metrics> | undefined
    /**
     * Ends when the store does, and with it what is still tried: responses that it failed to keep, and keys that it failed
     * to let go. Where there is none, the first end with their leases, and the second are tried once. A store that is
     * `watched` has one.
     */
    readonly scope?: Scope | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Metrics {
    readonly inFlight: number
    readonly done: number
    readonly bytes: number
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Memory extends Service {
    readonly metrics: Effect.Effect<Metrics>
  }
}
