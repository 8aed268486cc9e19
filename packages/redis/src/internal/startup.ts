import * as Effect from "effect/Effect"
import { Cluster } from "ioredis"
import type { Client } from "./client.js"
import { confirmDatabase, connectNode, isOfSelect, leaveWrongDatabase } from "./client.js"
import type { Reason } from "./failure.js"
import { detailOf, reasonOf } from "./failure.js"
import { awaited } from "./realTime.js"

interface Missing {
  readonly reason: Reason
  readonly detail: string
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
      const nodes = client instanceof Cluster ? client.nodes("master") : []
      Promise.all([confirmDatabase(client), ...nodes.map(connectNode)]).then(() => done(undefined), failed)
    }
    const failed = (error: Error) => {
      last = error
      leaveWrongDatabase(client, error)
      // To wait does not help.
      const reason = reasonOf(error)
      if (reason === "Denied" || isOfSelect(error)) done({ reason, detail: detailOf(error) })
    }
    const stop = awaited(patience, () =>
      done(
        last === undefined
          ? { reason: "Timeout", detail: `no connection within ${patience} ms` }
          : { reason: reasonOf(last), detail: detailOf(last) }
      ))
    client.on("ready", isReady).on("error", failed)
    if (client.status === "wait") client.connect().catch(() => {})
    if (client.status === "ready") isReady()
    return Effect.sync(leave)
  })
