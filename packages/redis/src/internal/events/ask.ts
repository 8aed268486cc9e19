import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { Command } from "ioredis"
import type { RedisConnection } from "../../RedisConnection.js"
import { RedisUnavailableError } from "../../RedisUnavailableError.js"
import type { Client } from "../client.js"
import { detailOf, reasonOf } from "../failure.js"
import { placeOf } from "../place.js"
import { later } from "../realTime.js"

/** Milliseconds that the server holds a read without news: shorter than a connection may be silent. @internal */
export const block = 500
/** What an answer may take beyond that, until the connection is taken for dead. */
const grace = 1000

/** @internal */
export type Ask = (
  name: string,
  ...args: ReadonlyArray<string | number>
) => Effect.Effect<unknown, RedisUnavailableError>

/** Commands that may wait. A connection that does not answer in time is taken for dead, and opened anew. @internal */
export const asking = (redis: RedisConnection.Service, client: Client): Ask => (name, ...args) =>
  Effect.async((resume) => {
    const failed = (reason: RedisUnavailableError["reason"], detail: string) =>
      resume(
        new RedisUnavailableError({ connection: redis.name, server: placeOf(client), command: name, reason, detail })
      )
    const stop = later(block + grace, () => {
      client.disconnect(true)
      failed("Timeout", `no answer within ${block + grace} ms`)
    })
    client.sendCommand(
      new Command(name, [...args], { replyEncoding: "utf8" }, (error, reply) => {
        stop()
        if (error) failed(reasonOf(error), detailOf(error))
        else resume(Effect.succeed(reply))
      })
    )
    return Effect.sync(stop)
  })

/** Waiting does not cure these. @internal */
export const isLasting = ({ reason }: RedisUnavailableError): boolean => reason === "Denied" || reason === "Reply"

/** Full jitter, up to two seconds. @internal */
export const backOff = (failures: number): Effect.Effect<void> =>
  Effect.flatMap(Random.next, (part) => Effect.sleep(10 + part * Math.min(50 * 2 ** Math.min(failures, 10), 2000)))
