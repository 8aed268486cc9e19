import type * as Stream from "effect/Stream"
import type { RedisConnection } from "../RedisConnection.js"
import type { Client } from "./client.js"
import type { Subscriptions } from "./subscriptions.js"
import type { Watch } from "./watch.js"

/** What a connection is made of. @internal */
export interface Parts {
  readonly name: string
  readonly prefix: string
  readonly id: string
  /** Milliseconds. */
  readonly timeout: number
  readonly downAfter: number
  readonly expectedProcesses: number
  readonly client: Client
  /** Whether the client is closed with the connection. */
  readonly isOwn: boolean
  readonly subscriptions: Subscriptions
  readonly dedicated: () => Client
  readonly watch: Watch
  readonly events: Stream.Stream<RedisConnection.Event>
  readonly skew: (() => number) | undefined
  readonly random: () => number
}
