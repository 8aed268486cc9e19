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
export const trivial = async (path: string): Promise<Subject> => {
  const client = await connect(path)
  const sha = String(await client.script("LOAD", "return 1"))
  return {
    decide: { _tag: "Promise", ask: async (key) => (await client.evalsha(sha, 1, nameOf(key))) === 1 },
    close: disconnect(client)
  }
}

/** A script with the arguments that it is given by ours, without anything of ours around it. */
export const bare = async (
  path: string,
  script: { readonly text: string },
  argsOf: (key: number) => { readonly keys: ReadonlyArray<string>; readonly args: ReadonlyArray<string | number> }
): Promise<Subject> => {
  const client = await connect(path)
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

export const flexible = async (path: string): Promise<Subject> => {
  const client = await connect(path)
  const limiter = new RateLimiterRedis({ storeClient: client, points: plenty, duration: 60 })
  return {
    decide: {
      _tag: "Promise",
      ask: (key) => limiter.consume(nameOf(key)).then(() => true, () => false)
    },
    close: disconnect(client)
  }
}

export const experimental = async (path: string): Promise<Subject> => {
  const runtime = ManagedRuntime.make(Peer.layer.pipe(Layer.provide(layerStore({ path }))))
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
