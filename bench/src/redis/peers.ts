/** What ours is measured beside: bare scripts, and the limiters of others. */
import * as Peer from "@effect/experimental/RateLimiter"
import { layerStore } from "@effect/experimental/RateLimiter/Redis"
import { Effect, Layer, ManagedRuntime } from "effect"
import type { Redis } from "ioredis"
import { RateLimiterRedis } from "rate-limiter-flexible"
import type { Decide } from "./load.js"
import { connect } from "./server.js"

export interface Subject {
  readonly decide: Decide
  readonly close: () => Promise<void>
}

/** A limit that no load reaches: every decision is allowed, and charged. */
export const plenty = 1_000_000_000

export const nameOf = (key: number) => `key-${key}`

const disconnect = (client: Redis) => async () => client.disconnect()

/** The cheapest round trip of a script. */
export const trivial = async (url: string): Promise<Subject> => {
  const client = await connect(url)
  const sha = String(await client.script("LOAD", "return 1"))
  return {
    decide: { _tag: "Promise", ask: async (key) => (await client.evalsha(sha, 1, nameOf(key))) === 1 },
    close: disconnect(client)
  }
}

/** A script with the arguments that it is given by ours, without anything of ours around it. */
export const bare = async (
  url: string,
  script: { readonly text: string },
  argsOf: (key: number) => { readonly keys: ReadonlyArray<string>; readonly args: ReadonlyArray<string | number> }
): Promise<Subject> => {
  const client = await connect(url)
  const sha = String(await client.script("LOAD", script.text))
  const known: Array<ReturnType<typeof argsOf>> = []
  return {
    decide: {
      _tag: "Promise",
      ask: async (key) => {
        const { args, keys } = known[key] ??= argsOf(key)
        return (await client.evalsha(sha, keys.length, ...keys, ...args, 0)) !== null
      }
    },
    close: disconnect(client)
  }
}

/** The least that a caller costs that is an Effect: one that waits for a turn of the event loop, and one for nothing. */
export const leastThatWaits: Subject = {
  decide: { _tag: "Effect", ask: () => Effect.async((resume) => void setImmediate(() => resume(allowed))) },
  close: async () => {}
}
const allowed = Effect.succeed(true)
export const leastAtOnce: Subject = {
  decide: { _tag: "Effect", ask: () => Effect.suspend(() => allowed) },
  close: async () => {}
}

export const flexible = async (url: string): Promise<Subject> => {
  const client = await connect(url)
  const limiter = new RateLimiterRedis({ storeClient: client, points: plenty, duration: 60 })
  return {
    decide: {
      _tag: "Promise",
      ask: (key) => limiter.consume(nameOf(key)).then(() => true, () => false)
    },
    close: disconnect(client)
  }
}

/** What @effect/experimental takes in place of a URL. */
const address = (url: string) => {
  if (!url.startsWith("redis:")) return { path: url }
  const { hostname, port } = new URL(url)
  return { host: hostname, port: Number(port) }
}

export const experimental = async (url: string): Promise<Subject> => {
  const runtime = ManagedRuntime.make(Peer.layer.pipe(Layer.provide(layerStore(address(url)))))
  const limiter = await runtime.runPromise(Peer.RateLimiter)
  return {
    decide: {
      _tag: "Effect",
      ask: (key) =>
        Effect.as(
          limiter.consume({ key: nameOf(key), limit: plenty, window: `${plenty} millis`, algorithm: "fixed-window" }),
          true
        )
    },
    close: () => runtime.dispose()
  }
}
