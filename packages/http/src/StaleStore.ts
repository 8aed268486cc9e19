/**
 * Where good responses are kept for the time when there are none.
 *
 * @since 0.1.0
 */
import { fromNanos, option, orDie, toNanos } from "@effect-resilience/core/extension"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import { StaleTable } from "./internal/stale/table.js"
import { StoredResponse } from "./StoredResponse.js"

/**
 * The store failed. Requests are not affected: nothing is kept, or nothing is served from it.
 *
 * @since 0.1.0
 * @category errors
 */
export class StaleStoreError extends Schema.TaggedError<StaleStoreError>("@effect-resilience/http/StaleStoreError")(
  "StaleStoreError",
  {
    operation: Schema.Literal("get", "put"),
    /** Why, where the store tells: as of an `IdempotencyStoreError`. */
    reason: Schema.optional(Schema.Literal("Unavailable", "Timeout", "Full")),
    /** What the store said. */
    detail: Schema.String
  }
) {
  /** What it is told as: one outage has several reasons, and is one. */
  get kind(): "Full" | "Absent" | undefined {
    return this.reason === undefined || this.reason === "Full" ? this.reason : "Absent"
  }

  override get message(): string {
    return `StaleStore: ${this.operation} failed: ${this.detail}`
  }
}

/** What the table of the documentation says. @internal */
export const staleStoreFields = {
  maxEntries: option.integer(1000, { min: 1 }),
  maxBytes: option.integer(64 * 1024 * 1024, { min: 0 })
} satisfies option.Fields<StaleStore.Options>

const makeMemory = (options: StaleStore.Options = {}): Effect.Effect<StaleStore.Memory> =>
  Effect.gen(function*() {
    const { maxBytes, maxEntries } = yield* orDie(() =>
      option.resolve("StaleStore", "memory", staleStoreFields, { ...options })
    )
    const table = yield* Ref.make(new StaleTable(maxEntries, maxBytes))
    const step = <A>(f: (table: StaleTable, now: bigint) => A) =>
      Effect.flatMap(Clock.currentTimeNanos, (now) => Effect.map(Ref.get(table), (table) => f(table, now)))
    return {
      get: (key) =>
        Effect.map(
          step((table, now) => table.get(now, key)),
          (found) => found === undefined ? Option.none() : Option.some({ ...found, age: fromNanos(found.age) })
        ),
      put: (key, entry, ttl) => step((table, now) => table.put(now, key, entry, toNanos(ttl))),
      metrics: step((table) => table.metrics())
    }
  })

/**
 * The seam for the responses that `HttpResilience` serves when there is an error. Where one is in the context when the
 * layer `HttpResilience.Live` is built, it is used; otherwise each middleware has one in memory.
 *
 * @since 0.1.0
 * @category models
 */
export class StaleStore extends Context.Tag("@effect-resilience/http/StaleStore")<StaleStore, StaleStore.Service>() {
  /** A store in this process. */
  static readonly makeMemory = makeMemory
  /** `makeMemory` as a layer. */
  static readonly layerMemory = (options?: StaleStore.Options): Layer.Layer<StaleStore> =>
    Layer.effect(StaleStore, makeMemory(options))

  /** What is kept under a key, with its form on the wire. */
  static readonly Entry = Schema.Struct({
    /** The header fields by which responses of this URL differ; where there are any, each variant has a key of its own. */
    vary: Schema.Array(Schema.String),
    /** `null` under the key of a URL that has variants. */
    response: Schema.NullOr(StoredResponse),
    /** For how many seconds it is fresh. */
    maxAge: Schema.Number,
    /** How many seconds old it was when it was kept. */
    age: Schema.Number
  })
}

/**
 * @since 0.1.0
 */
export declare namespace StaleStore {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** Responses held at once. Defaults to `1000`. */
    readonly maxEntries?: number | undefined
    /** Bytes of them and of their keys, about. Defaults to `67108864`, 64 MiB. */
    readonly maxBytes?: number | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export type Entry = typeof StaleStore.Entry.Type

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Found {
    readonly entry: Entry
    /** How long ago it was put, by the store's own clock. */
    readonly age: Duration.Duration
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    readonly get: (key: string) => Effect.Effect<Option.Option<Found>, StaleStoreError>
    /** Keeps it for `ttl` at most, in place of what was there. Every good response waits for it. */
    readonly put: (key: string, entry: Entry, ttl: Duration.Duration) => Effect.Effect<void, StaleStoreError>
    /** How much it holds, where it can tell without asking anybody: for the metrics. */
    readonly metrics?: Effect.Effect<Metrics> | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Metrics {
    readonly entries: number
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
