import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KeyedOptions } from "../Pattern.js"
import * as option from "./options.js"
import type { Nanos } from "./time.js"
import { fromNanos, now, toNanos } from "./time.js"

/** How many of the oldest keys are looked at for one that may go, when the table is full. */
const lookAt = 64

/**
 * A bounded table of one state per key, the least recently used first. An entry that `evictable` protects (an open
 * breaker, a bulkhead in use) is never forgotten.
 *
 * Idle entries go by a sweep: one fiber that lives only while there are keys.
 *
 * @internal
 */
export class KeyedTable<A> {
  private readonly entries = new Map<string, { readonly value: A; used: Nanos }>()
  private sweeping = false
  /** Entries forgotten, for the snapshot. */
  evicted = 0

  constructor(
    private readonly options: {
      readonly maxKeys: number
      readonly idleAfter: Nanos
      readonly make: (key: string) => Effect.Effect<A>
      readonly evictable: (value: A, now: Nanos) => boolean
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
        return Effect.succeed(known.value)
      }
      if (this.entries.size >= this.options.maxKeys && !this.evictOne(time)) return Effect.succeed(undefined)
      return Effect.flatMap(this.options.make(key), (value) => {
        // Another fiber may have made it meanwhile: one state per key.
        const entry = this.entries.get(key) ?? { value, used: time }
        this.entries.set(key, entry)
        return this.sweeping ? Effect.succeed(entry.value) : Effect.as(this.startSweep, entry.value)
      })
    })

  /** The state of a key that is held; asking does not count as use. */
  peek(key: string): A | undefined {
    return this.entries.get(key)?.value
  }

  *[Symbol.iterator](): IterableIterator<readonly [string, A]> {
    for (const [key, { value }] of this.entries) yield [key, value]
  }

  private evictOne(time: Nanos): boolean {
    let seen = 0
    for (const [key, { value }] of this.entries) {
      if (this.options.evictable(value, time)) {
        this.entries.delete(key)
        this.evicted++
        return true
      }
      if (++seen >= lookAt) return false
    }
    return false
  }

  private sweep(): void {
    const time = now()
    for (const [key, { used, value }] of this.entries) {
      if (time - used < this.options.idleAfter) return // the rest was used later
      if (!this.options.evictable(value, time)) continue
      this.entries.delete(key)
      this.evicted++
    }
  }

  private readonly startSweep = Effect.uninterruptible(Effect.suspend(() => {
    this.sweeping = true
    const half = fromNanos(this.options.idleAfter / 2n)
    const loop: Effect.Effect<void> = Effect.flatMap(Effect.sleep(half), () => {
      this.sweep()
      if (this.entries.size > 0) return loop
      this.sweeping = false
      return Effect.void
    })
    return Effect.forkIn(Effect.interruptible(loop), this.options.scope)
  }))
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
}): Effect.Effect<KeyedTable<A>, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => new KeyedTable({ ...options, idleAfter: toNanos(options.idleAfter), scope }))
