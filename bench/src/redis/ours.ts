/** Ours: the store each way, alone and behind a limiter. */
import { RateLimiter, type RateLimiterStore } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { Duration, Effect, Layer, ManagedRuntime } from "effect"
import { nameOf, plenty, type Subject } from "./peers.js"

let made = 0

/** A connection of its own, which shares its keys and its count of processes with nobody else. */
export const open = async (url: string, prefix = `bench-${process.pid}-${++made}:`) => {
  const server = { _tag: "Standalone", url } as const
  const runtime = ManagedRuntime.make(
    Layer.merge(
      RedisConnection.layer({ server, prefix, commandTimeout: "5 seconds", socketTimeout: "5 seconds" }),
      Layer.scope
    )
  )
  const redis = await runtime.runPromise(RedisConnection)
  return { runtime, redis, close: () => runtime.dispose() }
}

export type Opened = Awaited<ReturnType<typeof open>>

export const storeOf = (
  { runtime }: Opened,
  options: RedisRateLimiterStore.Options
): Promise<RateLimiterStore.Service> => runtime.runPromise(RedisRateLimiterStore.make(options))

interface Limit {
  readonly limit: number
  readonly window: Duration.Duration
  readonly burst: number
}

const allowing: Limit = { limit: plenty, window: Duration.minutes(1), burst: plenty }
/** After its first call a key is denied for as long as the bench runs. */
export const denying: Limit = { limit: 1, window: Duration.hours(1), burst: 1 }
export const busy: Limit = { limit: 10_000, window: Duration.seconds(1), burst: 10_000 }

export const requestsOf = (rate: Limit, mode: "all" | "peek" = "all", keys = 1000): Array<RateLimiterStore.Request> => {
  const rates = [rate]
  return Array.from(
    { length: keys },
    (_, key) => ({
      instance: "bench",
      key: nameOf(key),
      algorithm: "gcra",
      rates,
      cost: 1,
      mode,
      maxWait: Duration.zero
    })
  )
}

/** What is measured: `store.decide`. */
const deciding = (options: RedisRateLimiterStore.Options, rate: Limit) => async (url: string): Promise<Subject> => {
  const opened = await open(url)
  const store = await storeOf(opened, options)
  const requests = requestsOf(rate)
  return {
    decide: {
      _tag: "Effect",
      ask: (key) => Effect.map(store.decide(requests[key] as RateLimiterStore.Request), isGranted)
    },
    close: opened.close
  }
}
const isGranted = ({ granted }: RateLimiterStore.Decision) => granted > 0

/** The same as a program meets it. */
const consuming = (options: RedisRateLimiterStore.Options, rate: Limit) => async (url: string): Promise<Subject> => {
  const opened = await open(url)
  const store = await storeOf(opened, options)
  const limiter = await opened.runtime.runPromise(
    RateLimiter.make({ name: "bench", rate, storeTimeout: "10 seconds", store })
  )
  const args = requestsOf(rate).map(({ key }) => ({ key }))
  return {
    decide: { _tag: "Effect", ask: (key) => Effect.map(limiter.consume(args[key]), ({ allowed }) => allowed) },
    close: opened.close
  }
}

const ways = {
  direct: [{ batching: false, deniedFor: 0 }, allowing],
  batched: [{ deniedFor: 0 }, allowing],
  leased: [{ leases: {} }, busy],
  denied: [{ deniedFor: "1 minute" }, denying]
} as const satisfies Record<string, readonly [RedisRateLimiterStore.Options, Limit]>

export const ours = {
  direct: deciding(...ways.direct),
  batched: deciding(...ways.batched),
  leased: deciding(...ways.leased),
  denied: deciding(...ways.denied)
}
export const limiters = {
  direct: consuming(...ways.direct),
  batched: consuming(...ways.batched),
  leased: consuming(...ways.leased),
  denied: consuming(...ways.denied)
}

/** A trivial script through our connection: what the connection costs. */
export const connection = async (url: string): Promise<Subject> => {
  const opened = await open(url)
  const { script } = await captured(url)
  const trivial = { ...script, text: "return 1", sha: "e0e1f9fabfc9d4800c877a703b823ac0578ff8db" }
  return {
    decide: {
      _tag: "Effect",
      ask: (key) => Effect.map(opened.redis.run(trivial, [nameOf(key)], []), (reply) => reply === 1)
    },
    close: opened.close
  }
}

export interface Sent {
  readonly script: RedisConnection.AnyScript
  readonly of: ReadonlyArray<{ readonly keys: ReadonlyArray<string>; readonly args: ReadonlyArray<string | number> }>
}

/** What the store sends for each key, to be sent without it. */
export const captured = async (url: string): Promise<Sent> => {
  const opened = await open(url)
  const of: Array<Sent["of"][number]> = []
  let script: RedisConnection.AnyScript | undefined
  const spy: RedisConnection.Service = Object.assign(Object.create(opened.redis) as RedisConnection.Service, {
    unsafeRun: (...[sent, keys, args, settled]: Parameters<RedisConnection.Service["unsafeRun"]>) => {
      script = sent
      of.push({ keys, args })
      opened.redis.unsafeRun(sent, keys, args, settled)
    }
  })
  const store = await opened.runtime.runPromise(
    Effect.provideService(RedisRateLimiterStore.make(ways.direct[0]), RedisConnection, spy)
  )
  for (const request of requestsOf(allowing)) await opened.runtime.runPromise(store.decide(request))
  await opened.close()
  if (script === undefined) throw new Error("the store sent no script")
  return { script, of }
}
