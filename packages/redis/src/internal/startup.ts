import * as Effect from "effect/Effect"
import { Cluster, Command } from "ioredis"
import type { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Client } from "./client.js"
import { confirmDatabase, connectNodes, isOfSelect, leaveWrongDatabase, ofDatabase } from "./client.js"
import type { Reason } from "./failure.js"
import { detailOf, reasonOf } from "./failure.js"
import { awaited, realNow } from "./realTime.js"

interface Missing {
  readonly reason: Reason
  readonly detail: string
}

/** What it may be where somebody takes a connection, and does not speak as we do. */
const hint = (client: Client, last: Error | undefined): string => {
  const { tls } = client instanceof Cluster ? client.options.redisOptions ?? {} : client.options
  if (tls) return last === undefined ? "; does the server speak TLS (rediss://)?" : ""
  const isBrokenOff = last !== undefined && detailOf(last) === "there is no connection"
  return isBrokenOff ? "; does the server speak TLS alone (rediss://)?" : ""
}

/** Connects; succeeds with what went wrong where the server is not there within `patience` ms. @internal */
export const connected = (client: Client, patience: number): Effect.Effect<Missing | undefined> =>
  Effect.async((resume) => {
    let last: Error | undefined
    const leave = () => {
      stop()
      client.off("ready", isReady)
      client.off("error", failed)
    }
    const done = (missing: Missing | undefined) => {
      leave()
      resume(Effect.succeed(missing))
    }
    const isReady = () => {
      Promise.all([confirmDatabase(client), connectNodes(client)]).then(() => done(undefined), failed)
    }
    const failed = (error: Error) => {
      last = error
      leaveWrongDatabase(client, error)
      // To wait does not help.
      const reason = reasonOf(error)
      if (reason === "Denied" || isOfSelect(error)) {
        done({ reason, detail: isOfSelect(error) ? ofDatabase(client, error) : detailOf(error) })
      }
    }
    const stop = awaited(patience, () =>
      done(
        last === undefined
          ? { reason: "Timeout", detail: `no connection within ${patience} ms${hint(client, last)}` }
          : { reason: reasonOf(last), detail: detailOf(last) + hint(client, last) }
      ))
    client.on("ready", isReady).on("error", failed)
    if (client.status === "wait") client.connect().catch(() => {})
    if (client.status === "ready") isReady()
    return Effect.sync(leave)
  })

/** To wait does not help; a replica may be on its way to be left. */
const isFinal = (reason: Reason): boolean => reason === "Denied" || reason === "Reply"

/** Full memory comes back, and meanwhile services do without what is new: it is no reason not to begin. */
const isPassing = (reason: Reason): boolean => reason === "OutOfMemory"

const askAgain = 250

/**
 * Asks whether the server does what services need, until it does, or it is later than `end`; succeeds with what it said
 * last where it does not.
 *
 * @internal
 */
export const usable = (
  ask: (told: (error: RedisUnavailableError | undefined) => void) => void,
  end: number
): Effect.Effect<RedisUnavailableError | undefined> =>
  Effect.async((resume) => {
    let isOver = false
    let cancel = () => {}
    const once = () =>
      ask((error) => {
        if (isOver) return
        if (error === undefined || isPassing(error.reason)) return resume(Effect.succeed(undefined))
        if (isFinal(error.reason) || realNow() >= end) return resume(Effect.succeed(error))
        cancel = awaited(askAgain, once)
      })
    once()
    return Effect.sync(() => {
      isOver = true
      cancel()
    })
  })

/** How many milliseconds an answer takes, however long, up to `patience`. @internal */
export const roundTrip = (client: Client, patience: number): Effect.Effect<number | undefined> =>
  Effect.async((resume) => {
    const begin = realNow()
    const stop = awaited(patience, () => resume(Effect.succeed(undefined)))
    const done = (millis: number | undefined) => {
      stop()
      resume(Effect.succeed(millis))
    }
    client.ping().then(() => done(realNow() - begin), () => done(undefined))
    return Effect.sync(stop)
  })

/** Tells of a policy by which the server makes room by keys of ours, where it says so. @internal */
export const mindEviction = (client: Client, told: (policy: string) => void): void => {
  const answered = (error: Error | null | undefined, reply: unknown) => {
    const policy = /maxmemory_policy:(\S+)/.exec(error ? "" : String(reply))?.[1]
    if (policy !== undefined && policy !== "noeviction") told(policy)
  }
  client.sendCommand(new Command("info", ["memory"], { replyEncoding: "utf8" }, answered))
}
