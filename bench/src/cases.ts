/** What is measured: each case sets itself up in a process of its own and runs `n` calls. */
import {
  Bulkhead,
  CircuitBreaker,
  EventBus,
  Fallback,
  RateLimiter,
  ResilienceLive,
  Retry,
  Timeout
} from "@effect-resilience/core"
import type { Guard, Observable } from "@effect-resilience/core/Pattern"
import Bottleneck from "bottleneck"
import * as cockatiel from "cockatiel"
import { Clock, Context, Effect, Exit, Layer, RateLimiter as StockLimiter, Ref, Schedule, Scope } from "effect"
import Opossum from "opossum"
import pLimit from "p-limit"
import { RateLimiterMemory } from "rate-limiter-flexible"

export interface Case {
  /** Calls that are alike but for the guard: the bare one is subtracted. */
  readonly world: string
  /** Runs so many calls, and returns how many of them ended as they should. */
  readonly run: (n: number) => Promise<number>
}

export type Setup = () => Promise<Case>

// ---------------------------------------------------------------- worlds

export const work = async () => 1

/** One async function looping. */
export const promises = (call: () => Promise<unknown>, callers = 1): Case => ({
  world: callers === 1 ? "promise" : "promise, 100 callers",
  run: async (n) => {
    let done = 0
    const loop = async (count: number) => {
      for (let i = 0; i < count; i++) {
        await call()
        done++
      }
    }
    await Promise.all(Array.from({ length: callers }, () => loop(n / callers)))
    return done
  }
})

export const rejectedPromises = (call: () => Promise<unknown>): Case => ({
  world: "nothing",
  run: async (n) => {
    let done = 0
    for (let i = 0; i < n; i++) {
      try {
        await call()
      } catch {
        done++
      }
    }
    return done
  }
})

/** One fiber looping. */
export const fiber = <R = never>(
  world: string,
  call: Effect.Effect<unknown, unknown, R>,
  callers = 1,
  context = Context.empty() as Context.Context<R>
): Case => ({
  world,
  run: async (n) => {
    let done = 0
    const loop = (count: number): Effect.Effect<void, unknown, R> => {
      let i = 0
      return Effect.whileLoop({
        while: () => i < count,
        body: () => {
          i++
          return call
        },
        step: () => {
          done++
        }
      })
    }
    // The services are provided once, around all calls, as a program does it.
    await Effect.runPromise(Effect.provide(
      callers === 1
        ? loop(n)
        : Effect.all(Array.from({ length: callers }, () => loop(n / callers)), {
          concurrency: "unbounded",
          discard: true
        }),
      context
    ))
    return done
  }
})

export const sync = Effect.sync(() => 1)
export const async_ = Effect.promise(work)
const effects = (guard: <A>(effect: Effect.Effect<A>) => Effect.Effect<A, unknown>) => ({
  sync: () => fiber("effect", guard(sync)),
  async: () => fiber("effect, async body", guard(async_)),
  callers: () => fiber("effect, 100 callers", guard(async_), 100)
})

export const rejected = (call: Effect.Effect<unknown, unknown>): Case =>
  fiber(
    "nothing",
    Effect.matchCauseEffect(call, { onSuccess: () => Effect.die("let in"), onFailure: () => Effect.void })
  )

const scope = Effect.runSync(Scope.make())
export const build = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): Promise<A> =>
  Effect.runPromise(Scope.extend(effect, scope))

// ---------------------------------------------------------------- the peers

const sampling = () =>
  cockatiel.circuitBreaker(cockatiel.handleAll, {
    halfOpenAfter: 10_000,
    breaker: new cockatiel.SamplingBreaker({ threshold: 0.5, duration: 30_000, minimumRps: 1 })
  })
const consecutive = () =>
  cockatiel.circuitBreaker(cockatiel.handleAll, { halfOpenAfter: 10_000, breaker: new cockatiel.ConsecutiveBreaker(5) })
const opossum = (action: () => Promise<unknown>) => new Opossum(action, { timeout: false })
const cockatielRetry = () =>
  cockatiel.retry(cockatiel.handleAll, { maxAttempts: 2, backoff: new cockatiel.ExponentialBackoff() })
const cockatielTimeout = () => cockatiel.timeout(10_000, cockatiel.TimeoutStrategy.Aggressive)
const cockatielStack = () =>
  cockatiel.wrap(cockatielRetry(), sampling(), cockatielTimeout(), cockatiel.bulkhead(1000, 0))

/** What an Effect user would have to write today: the peer runs the effect as a promise, and the fiber waits for it. */
const bridge = (execute: (action: () => Promise<number>) => Promise<unknown>) =>
  fiber("effect, async body", Effect.tryPromise(() => execute(() => Effect.runPromise(async_))))

// ---------------------------------------------------------------- stock Effect

const handWritten = (effect: Effect.Effect<number>) =>
  Effect.map(Ref.make({ failures: 0, openUntil: 0 }), (ref) =>
    Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const state = yield* Ref.get(ref)
      if (now < state.openUntil) return yield* Effect.fail("open")
      const exit = yield* Effect.exit(effect)
      yield* Ref.update(ref, (s) =>
        Exit.isSuccess(exit)
          ? { failures: 0, openUntil: 0 }
          : s.failures + 1 >= 5
          ? { failures: 0, openUntil: now + 10_000 }
          : { ...s, failures: s.failures + 1 })
      return yield* exit
    }))
const stockRetry = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.retry(
    effect,
    Schedule.exponential("100 millis").pipe(Schedule.jittered, Schedule.intersect(Schedule.recurs(2)))
  )

// ---------------------------------------------------------------- ours

/** A guard in all the ways in which its instance can be met. */
interface Ours {
  /** The instance's own guard. */
  readonly make: Effect.Effect<
    { readonly guard: Guard<unknown>; readonly on: Observable<any>["on"] },
    never,
    Scope.Scope
  >
  /** The default instance: its layer and its static guard. */
  readonly live: Layer.Layer<any>
  readonly static: Guard<unknown, any>
  /** Timeouts around a synchronous body are no use to anybody. */
  readonly body?: typeof async_
}

export const ours = (name: string, { body, live, make, static: guard }: Ours): Record<string, Setup> => {
  const world = body === undefined ? "effect" : "effect, async body"
  const call = body ?? sync
  return {
    [`${name}: ours`]: async () => fiber(world, (await build(make)).guard(call)),
    [`${name}: ours, async body`]: async () => fiber("effect, async body", (await build(make)).guard(async_)),
    [`${name}: ours, 100 callers`]: async () => fiber("effect, 100 callers", (await build(make)).guard(async_), 100),
    [`${name}: ours, static`]: async () => fiber(world, guard(call), 1, await build(Layer.build(live))),
    [`${name}: ours, built per call`]: async () => {
      const instance = await build(make)
      return fiber(world, Effect.suspend(() => instance.guard(call)))
    },
    [`${name}: ours, one local subscriber`]: async () => {
      const instance = await build(make)
      await build(instance.on("*", () => Effect.void))
      return fiber(world, instance.guard(call))
    },
    [`${name}: ours, one bus subscriber`]: async () => {
      const context = await build(Layer.build(ResilienceLive))
      const instance = await build(Effect.provide(make, context))
      await build(Effect.provide(EventBus.on("*", () => Effect.void), context))
      return fiber(world, instance.guard(call))
    }
  }
}

const breaker = Effect.map(CircuitBreaker.make({ name: "b" }), ({ on, withBreaker }) => ({ guard: withBreaker, on }))
const bulkhead = Effect.map(
  Bulkhead.make({ name: "b", maxConcurrent: 1000 }),
  ({ on, withPermit }) => ({ guard: withPermit, on })
)
const retry = Effect.map(Retry.make({ name: "r" }), ({ on, withRetry }) => ({ guard: withRetry, on }))
const timeout = Effect.map(
  Timeout.make({ name: "t", duration: "10 seconds" }),
  ({ on, withTimeout }) => ({ guard: withTimeout, on })
)
/** A rate that no run uses up, so that each call is let in. */
const plenty = 1_000_000_000
const limiter = Effect.map(
  RateLimiter.make({ name: "l", rate: { limit: plenty, window: "1 hour" } }),
  ({ on, withLimit }) => ({ guard: withLimit as Guard<unknown>, on })
)
const fallback = Effect.map(Fallback.make({ name: "f" }), ({ on, withFallbackValue }) => ({
  guard: withFallbackValue(() => 0) as Guard<unknown>,
  on
}))

const open = async () => {
  const breaker = await build(CircuitBreaker.make({ name: "open", consecutiveFailures: 1, openDuration: "1 hour" }))
  await Effect.runPromise(Effect.exit(breaker.withBreaker(Effect.fail("down"))))
  return breaker
}
const ourStack = async () => {
  const breaker = await build(CircuitBreaker.make({ name: "s" }))
  const inner = await build(bulkhead)
  const limit = await build(timeout)
  const outer = await build(retry)
  return <A>(effect: Effect.Effect<A>) => effect.pipe(inner.guard, limit.guard, breaker.withBreaker, outer.guard)
}

export const cases: Readonly<Record<string, Setup>> = {
  "bare promise": async () => promises(work),
  "bare promise, 100 callers": async () => promises(work, 100),
  "bare effect": async () => fiber("effect", sync),
  "bare effect, async body": async () => fiber("effect, async body", async_),
  "bare effect, 100 callers": async () => fiber("effect, 100 callers", async_, 100),

  // What Effect itself asks for the least that such a guard has to do: no rules, no counts, no time.
  "floor: a Ref read and a match": async () => {
    const match = Effect.matchCauseEffect(sync, { onSuccess: Exit.succeed, onFailure: Exit.failCause })
    return fiber("effect", Effect.flatMap(Ref.get(Ref.unsafeMake(0)), () => match))
  },
  "floor: a mask, a Ref taken and given back": async () => {
    const ref = Ref.unsafeMake(1000)
    const back = { onSuccess: () => Ref.update(ref, (n) => n + 1), onFailure: Exit.failCause }
    const match = Effect.matchCauseEffect(Effect.interruptible(sync), back)
    return fiber(
      "effect",
      Effect.uninterruptible(Effect.flatMap(Ref.modify(ref, (n) => [n, n - 1] as const), () => match))
    )
  },

  ...ours("breaker", { make: breaker, live: CircuitBreaker.Live, static: CircuitBreaker.withBreaker }),
  "breaker: ours, slow calls counted": async () =>
    effects((await build(CircuitBreaker.make({ name: "b", slowCallDuration: "1 second" }))).withBreaker).sync(),
  "breaker: cockatiel consecutive": async () => {
    const policy = consecutive()
    return promises(() => policy.execute(work))
  },
  "breaker: cockatiel sampling": async () => {
    const policy = sampling()
    return promises(() => policy.execute(work))
  },
  "breaker: cockatiel sampling, 100 callers": async () => {
    const policy = sampling()
    return promises(() => policy.execute(work), 100)
  },
  "breaker: opossum": async () => {
    const breaker = opossum(work)
    return promises(() => breaker.fire())
  },
  "breaker: opossum, 100 callers": async () => {
    const breaker = opossum(work)
    return promises(() => breaker.fire(), 100)
  },
  "breaker: stock Effect": async () => fiber("effect", await Effect.runPromise(handWritten(sync))),
  "breaker: cockatiel through its bridge": async () => {
    const policy = sampling()
    return bridge((action) => policy.execute(action))
  },
  "breaker: opossum through its bridge": async () => {
    const breaker = opossum(() => Effect.runPromise(async_))
    return bridge(() => breaker.fire())
  },

  "open: ours": async () => rejected((await open()).withBreaker(sync)),
  "open: cockatiel": async () => {
    const policy = cockatiel.circuitBreaker(cockatiel.handleAll, {
      halfOpenAfter: 3_600_000,
      breaker: new cockatiel.ConsecutiveBreaker(1)
    })
    await policy.execute(() => Promise.reject(new Error("down"))).catch(() => {})
    return rejectedPromises(() => policy.execute(work))
  },
  "open: opossum": async () => {
    let down = true
    const breaker = new Opossum(() => down ? Promise.reject(new Error("down")) : work(), {
      timeout: false,
      resetTimeout: 3_600_000
    })
    await breaker.fire().catch(() => {})
    down = false // from here on only the breaker rejects, so a call that is let in is noticed
    return rejectedPromises(() => breaker.fire())
  },

  ...ours("bulkhead", { make: bulkhead, live: Bulkhead.Live, static: Bulkhead.withPermit }),
  "full: ours": async () => {
    const full = await build(Bulkhead.make({ name: "full", maxConcurrent: 1, maxQueued: 0 }))
    await build(full.acquire.pipe(Effect.orDie))
    return rejected(full.withPermit(sync))
  },
  "full: cockatiel": async () => {
    const full = cockatiel.bulkhead(1, 0)
    void full.execute(() => new Promise(() => {}))
    return rejectedPromises(() => full.execute(work))
  },
  "bulkhead: cockatiel": async () => {
    const policy = cockatiel.bulkhead(1000, 0)
    return promises(() => policy.execute(work))
  },
  "bulkhead: p-limit": async () => {
    const limit = pLimit(1000)
    return promises(() => limit(work))
  },
  "bulkhead: p-limit, 100 callers": async () => {
    const limit = pLimit(1000)
    return promises(() => limit(work), 100)
  },
  "bulkhead: stock Effect": async () => effects((await build(Effect.makeSemaphore(1000))).withPermits(1)).sync(),
  "bulkhead: cockatiel through its bridge": async () => {
    const policy = cockatiel.bulkhead(1000, 0)
    return bridge((action) => policy.execute(action))
  },

  ...ours("limiter", {
    make: limiter,
    live: RateLimiter.layer({ rate: { limit: plenty, window: "1 hour" } }),
    static: RateLimiter.withLimit
  }),
  "limiter: rate-limiter-flexible": async () => {
    const limiter = new RateLimiterMemory({ points: plenty, duration: 3600 })
    return promises(async () => {
      await limiter.consume("key")
      return work()
    })
  },
  "limiter: bottleneck": async () => {
    const limiter = new Bottleneck({ reservoir: plenty })
    return promises(() => limiter.schedule(work))
  },
  "limiter: stock Effect": async () =>
    fiber(
      "effect",
      (await build(StockLimiter.make({ limit: plenty, interval: "1 hour", algorithm: "fixed-window" })))(sync)
    ),
  "over: ours": async () => {
    const limiter = await build(RateLimiter.make({ name: "over", rate: "1/day" }))
    await Effect.runPromise(Effect.exit(limiter.withLimit(Effect.void)))
    return rejected(limiter.withLimit(sync))
  },
  "over: rate-limiter-flexible": async () => {
    const limiter = new RateLimiterMemory({ points: 1, duration: 86_400 })
    await limiter.consume("key")
    return rejectedPromises(() => limiter.consume("key"))
  },

  ...ours("retry", { make: retry, live: Retry.Live, static: Retry.withRetry }),
  "retry: ours, failing at once": async () => {
    const once = await build(Retry.make({ name: "once", maxAttempts: 1 }))
    return rejected(once.withRetry(Effect.fail("no")))
  },
  "retry: cockatiel, failing at once": async () => {
    const policy = cockatiel.retry(cockatiel.handleAll, { maxAttempts: 0 })
    return rejectedPromises(() => policy.execute(() => Promise.reject("no")))
  },
  "retry: stock Effect, failing at once": async () => rejected(Effect.retry(Effect.fail("no"), { times: 0 })),
  "retry: cockatiel": async () => {
    const policy = cockatielRetry()
    return promises(() => policy.execute(work))
  },
  "retry: stock Effect": async () => effects(stockRetry).sync(),
  "retry: cockatiel through its bridge": async () => {
    const policy = cockatielRetry()
    return bridge((action) => policy.execute(action))
  },

  ...ours("timeout", { make: timeout, live: Timeout.Live, static: Timeout.withTimeout, body: async_ }),
  "timeout: ours, without layer": async () => effects(Timeout.within("10 seconds")).async(),
  "timeout: cockatiel": async () => {
    const policy = cockatielTimeout()
    return promises(() => policy.execute(work))
  },
  "timeout: stock Effect": async () => effects(Effect.timeout("10 seconds")).async(),
  "timeout: cockatiel through its bridge": async () => {
    const policy = cockatielTimeout()
    return bridge((action) => policy.execute(action))
  },

  ...ours("fallback", {
    make: fallback,
    live: Fallback.Live,
    static: Fallback.withFallbackValue(() => 0) as Guard<unknown, Fallback>
  }),
  "fallback: cockatiel": async () => {
    const policy = cockatiel.fallback(cockatiel.handleAll, 0)
    return promises(() => policy.execute(work))
  },
  "fallback: stock Effect": async () => fiber("effect", Effect.orElseSucceed(sync, () => 0)),
  "fallback: ours, answering": async () => fiber("nothing", (await build(fallback)).guard(Effect.fail("no"))),
  "fallback: cockatiel, answering": async () => {
    const policy = cockatiel.fallback(cockatiel.handleAll, 0)
    return { ...promises(() => policy.execute(() => Promise.reject("no"))), world: "nothing" }
  },
  "fallback: stock Effect, answering": async () => fiber("nothing", Effect.orElseSucceed(Effect.fail("no"), () => 0)),

  "stack: ours": async () => effects(await ourStack()).async(),
  "stack: cockatiel": async () => {
    const policy = cockatielStack()
    return promises(() => policy.execute(work))
  },
  "stack: stock Effect": async () => {
    const semaphore = await build(Effect.makeSemaphore(1000))
    const inner = async_.pipe(semaphore.withPermits(1), Effect.timeout("10 seconds"), Effect.orDie)
    return fiber("effect, async body", stockRetry(await Effect.runPromise(handWritten(inner))))
  },
  "stack: cockatiel through its bridge": async () => {
    const policy = cockatielStack()
    return bridge((action) => policy.execute(action))
  }
}

/** The bare call of each world. */
export const bare: Readonly<Record<string, string | undefined>> = {
  promise: "bare promise",
  "promise, 100 callers": "bare promise, 100 callers",
  effect: "bare effect",
  "effect, async body": "bare effect, async body",
  "effect, 100 callers": "bare effect, 100 callers",
  nothing: undefined
}
