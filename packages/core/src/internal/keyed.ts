import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyedOptions } from "../Pattern.js"
import type { Emitter } from "./hub.js"
import * as option from "./options.js"
import type { Nanos } from "./time.js"
import { forever, fromNanos, now, toNanos } from "./time.js"
import { doze } from "./timer.js"

/** How many keys are looked at for one that may go, once a whole round found none. */
const lookAt = 64

/** The longest time between two sweeps: a timer that is longer than 24 days never rings. */
const longestPause = toNanos("1 day")

/**
 * A bounded table of one state per key, the least recently used first. An entry that `evictable` protects (an open
 * breaker, a bulkhead in use) is never forgotten.
 *
 * Idle entries go by a sweep: one fiber that lives only while there are keys, and keeps no process from its end.
 *
 * @internal
 */
export class KeyedTable<A> {
  private readonly entries = new Map<string, { readonly value: A; used: Nanos }>()
  private sweeping = false
  /** Where the search for a key that may go stands. It moves on, so protected keys are not looked at again and again. */
  private cursor = this.entries.entries()
  /** Whether a whole round found none that may go. */
  private fruitless = false
  /** Entries forgotten, for the snapshot. */
  evicted = 0

  constructor(
    private readonly options: {
      readonly maxKeys: number
      readonly idleAfter: Nanos
      readonly make: (key: string) => Effect.Effect<A>
      readonly evictable: (value: A, now: Nanos) => boolean
      /** A new state has its place: what was made for nothing is not told. */
      readonly onKept?: (value: A) => void
      /** A state was forgotten. */
      readonly onGone?: (value: A) => void
      readonly scope: Scope.Scope
    }
  ) {}

  get size(): number {
    return this.entries.size
  }

  /** The state of a key, made if it is new; `undefined` when the table is full of live keys. Run it inside a fiber. */
  readonly get = (key: string): Effect.Effect<A | undefined> =>
    Effect.suspend(() => {
      const time = now()
      const known = this.entries.get(key)
      if (known !== undefined) {
        known.used = time
        this.entries.delete(key)
        this.entries.set(key, known)
        return this.swept(known.value)
      }
      if (!this.hasRoom(time)) return Effect.succeed(undefined)
      return Effect.flatMap(this.options.make(key), (value) => {
        // Other fibers may have made it, or taken the room, meanwhile: one state per key, and never too many.
        const made = this.entries.get(key)
        if (made !== undefined) return this.swept(made.value)
        if (!this.hasRoom(time)) return Effect.succeed(undefined)
        this.entries.set(key, { value, used: time })
        this.options.onKept?.(value)
        return this.swept(value)
      })
    })

  /**
   * Puts a state back that was forgotten too early, unless its key is taken or there is no room. The next call with any
   * key sees to the sweep.
   */
  putBack(key: string, value: A): void {
    const time = now()
    if (!this.entries.has(key) && this.hasRoom(time)) this.entries.set(key, { value, used: time })
  }

  /** The state of a key that is held; asking does not count as use. */
  peek(key: string): A | undefined {
    return this.entries.get(key)?.value
  }

  *[Symbol.iterator](): IterableIterator<readonly [string, A]> {
    for (const [key, { value }] of this.entries) yield [key, value]
  }

  private hasRoom(time: Nanos): boolean {
    return this.entries.size < this.options.maxKeys || this.evictOne(time)
  }

  /** Goes round the table once at most, or over a part of it while the last round found nothing. */
  private evictOne(time: Nanos): boolean {
    const looks = this.fruitless ? Math.min(lookAt, this.entries.size) : this.entries.size
    for (let look = 0; look <= looks; look++) {
      const next = this.cursor.next()
      if (next.done) {
        this.cursor = this.entries.entries()
        continue
      }
      const [key, { value }] = next.value
      if (!this.options.evictable(value, time)) continue
      this.entries.delete(key)
      this.evicted++
      this.options.onGone?.(value)
      this.fruitless = false
      return true
    }
    this.fruitless = true
    return false
  }

  private sweep(): void {
    const time = now()
    for (const [key, { used, value }] of this.entries) {
      if (time - used < this.options.idleAfter) return // the rest was used later
      if (!this.options.evictable(value, time)) continue
      this.entries.delete(key)
      this.evicted++
      this.options.onGone?.(value)
    }
  }

  private swept(value: A): Effect.Effect<A> {
    return this.sweeping || this.options.idleAfter >= forever
      ? Effect.succeed(value)
      : Effect.as(this.startSweep, value)
  }

  private readonly startSweep = Effect.uninterruptible(Effect.suspend(() => {
    this.sweeping = true
    const half = this.options.idleAfter / 2n
    const pause = fromNanos(half < longestPause ? half : longestPause)
    const loop: Effect.Effect<void> = Effect.flatMap(doze(pause), () => {
      this.sweep()
      if (this.entries.size > 0) return loop
      this.sweeping = false
      return Effect.void
    })
    return Effect.forkIn(Effect.interruptible(loop), this.options.scope)
  }))
}

/** Time between two warnings of a table that stays full. */
const warningPause = toNanos("1 minute")

/**
 * Calls with a new key that were let through because every key was live. Each is counted; a warning for each would bury
 * the log for as long as the table is full, so there is one a minute.
 *
 * @internal
 */
export class Unguarded {
  calls = 0
  private warned: Nanos | undefined

  constructor(
    private readonly emitter: Pick<Emitter<never>, "internalError">,
    /** `undefined` where the keys are in a store, which has a bound of its own. */
    private readonly maxKeys: number | undefined,
    private readonly what = "calls with a new one go unguarded"
  ) {}

  readonly count: Effect.Effect<void> = Effect.suspend(() => {
    this.calls++
    const time = now()
    if (this.warned !== undefined && time - this.warned < warningPause) return Effect.void
    this.warned = time
    const all = this.maxKeys === undefined ? "all keys of the store" : `all ${this.maxKeys} keys`
    const full = `${all} are live: ${this.what}, ${this.calls} so far`
    return this.emitter.internalError("Keys", new Error(full))
  })
}

/** The options of a keyed instance beside those of its pattern. @internal */
export const keyedFields = <Options>() => ({
  maxKeys: option.integer(10_000, { min: 1 }),
  idleAfter: option.duration("10 minutes", { min: 1, infinite: true }),
  onFull: option.literal("reject", "reject", "admit"),
  optionsFor: option.optional(option.fn<NonNullable<KeyedOptions<Options>["optionsFor"]>>(() => ({}) as Options, "—"))
})

/** Opens the table of a keyed instance, for the length of the scope. @internal */
export const openKeyed = <A>(options: {
  readonly maxKeys: number
  readonly idleAfter: Duration.Duration
  readonly make: (key: string) => Effect.Effect<A>
  readonly evictable: (value: A, now: Nanos) => boolean
  readonly onKept?: (value: A) => void
  readonly onGone?: (value: A) => void
}): Effect.Effect<KeyedTable<A>, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => new KeyedTable({ ...options, idleAfter: toNanos(options.idleAfter), scope }))
