import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import type { Bulkhead, BulkheadFullError } from "../../Bulkhead.js"
import { addUp } from "../calls.js"
import { openInstance, register } from "../instance.js"
import type { KeyedTable } from "../keyed.js"
import { openKeyed, Unguarded } from "../keyed.js"
import { Lending } from "../lending.js"
import * as option from "../options.js"
import { Pool } from "../pool.js"
import { orDie } from "../tag.js"
import type { KeyedOwn } from "./options.js"
import { checkKeyed, checkPool, permitsOrDie } from "./options.js"
import type { Watch } from "./watch.js"
import { watchOf } from "./watch.js"

/** Who asked for shared permits is not to have others without a word. */
const unshared = (name: string) =>
  Effect.die(
    new option.InvalidOptionError(
      "Bulkhead",
      name,
      "shared",
      true,
      "false",
      "a keyed bulkhead shares no permits with other processes"
    )
  )

/** Builds a keyed bulkhead. @internal */
export const buildKeyed = (
  errorOf: (name: string) => Watch["error"],
  options: KeyedOwn & { readonly name: string },
  site: string
): Effect.Effect<Bulkhead.KeyedService, never, Scope> =>
  Effect.gen(function*() {
    const { keyed, own } = yield* orDie(() => checkKeyed(options))
    const { name } = options
    if (Option.isSome(Context.getOption(yield* Effect.context<never>(), Lending))) return yield* unshared(name)
    const instance = yield* openInstance<Bulkhead.Event>("Bulkhead", name)
    const { emitter } = instance
    const { metrics: calls, watch } = addUp(watchOf(instance, false, errorOf(name)))
    const table: KeyedTable<Pool> = yield* openKeyed({
      ...keyed,
      make: (key) =>
        Effect.sync(() => {
          const options = option.merge<Bulkhead.PoolOptions>(own, keyed.optionsFor?.(key))
          const resolved = checkPool({ ...options, name: `${name}/${key}` })
          return new Pool({ ...resolved, fair: false }, watch, { key, pools: table })
        }),
      evictable: (pool) => pool.unsafeIdle()
    })
    const unguarded = new Unguarded(emitter, keyed.maxKeys)
    const metrics: Effect.Effect<Bulkhead.KeyedMetrics> = Effect.map(
      Effect.suspend(() =>
        Effect.forEach(table, ([key, pool]) =>
          Effect.map(pool.read, ({ limit, used, waiting }) => ({ key, limit, active: used, waiting })))
      ),
      (pools) => ({
        keys: pools.length,
        evicted: table.evicted,
        unguarded: unguarded.calls,
        ...calls(),
        busy: pools.filter((pool) =>
          pool.active > 0
        )
      })
    )
    yield* register({ pattern: "Bulkhead", instance: name, site, snapshot: metrics, actions: {} })
    const poolOf = <A, E, R>(
      key: string,
      use: (pool: Pool) => Effect.Effect<A, E, R>,
      unguardedUse: Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | BulkheadFullError, R> =>
      Effect.flatMap(table.get(key), (pool): Effect.Effect<A, E | BulkheadFullError, R> => {
        if (pool !== undefined) return use(pool)
        if (keyed.onFull === "admit") return Effect.zipRight(unguarded.count, unguardedUse)
        watch.rejected("TooManyKeys")
        if (emitter.listening) {
          emitter.emit({ _tag: "Rejected", ...emitter.call(), key, reason: "TooManyKeys", active: 0, waiting: 0 })
        }
        return Effect.fail(watch.error("TooManyKeys", 0, 0))
      })
    return {
      name,
      withPermitBy: ({ key, permits = 1 }) => (effect) =>
        poolOf(key, (pool) => {
          const guard = permits === 1 ? pool.withPermit : pool.withPermits(permitsOrDie(name, permits))
          return guard(effect)
        }, effect),
      acquireBy: ({ key, permits = 1 }) =>
        poolOf(key, (pool) => pool.acquire(permitsOrDie(name, permits)), Effect.void),
      metrics,
      metricsOf: (key) =>
        Effect.suspend(() => {
          const pool = table.peek(key)
          return pool === undefined ? Effect.succeedNone : Effect.asSome(pool.metrics)
        }),
      ...instance.observable
    }
  })
