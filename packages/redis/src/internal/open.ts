import { orDie } from "@effect-resilience/core/extension"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { RedisConnection } from "../RedisConnection.js"
import type { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { Client, Settings } from "./client.js"
import { checkClient, dedicatedClient, keyPrefixOf, makeClient, subscriberClient } from "./client.js"
import { Connection } from "./connection.js"
import type { Common } from "./options.js"
import { resolveClient, resolveConnection } from "./options.js"
import { placeOf } from "./place.js"
import { Skew } from "./skew.js"
import { Subscriptions } from "./subscriptions.js"
import { enter, openWatch } from "./watch.js"

type Opened = Effect.Effect<RedisConnection.Service, RedisUnavailableError, Scope>

const settingsOf = (connectTimeout: Duration.Duration, socketTimeout: Duration.Duration) =>
  Effect.map(Effect.random, (random): Settings => ({
    connectTimeout: Duration.toMillis(connectTimeout),
    socketTimeout: Duration.toMillis(socketTimeout),
    random: () => Effect.runSync(random.next)
  }))

const open = (common: Common, settings: Settings, site: string, make: () => Client, isOwn: boolean): Opened =>
  Effect.gen(function*() {
    const { commandTimeout, downAfter, expectedProcesses, name, startup } = common
    const skew = yield* Skew
    const { events, watch } = yield* openWatch(name)
    const connection = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const client = make()
        const { random } = settings
        const whileReady = () => client.status === "ready" ? subscriberClient(client, settings) : undefined
        return new Connection({
          name,
          prefix: keyPrefixOf(client) + common.prefix,
          id: randomUUID(),
          timeout: Duration.toMillis(commandTimeout),
          downAfter,
          expectedProcesses,
          client,
          isOwn,
          subscriptions: new Subscriptions(
            whileReady,
            random,
            (error) => watch.internal("Subscriber", error),
            (error, channel, isNews) => watch.refused(error, placeOf(client), channel, isNews)
          ),
          dedicated: () => dedicatedClient(client, settings),
          watch,
          events,
          skew,
          random
        })
      }),
      (connection) => Effect.sync(() => connection.close())
    )
    const error = yield* connection.open(settings.connectTimeout)
    if (error !== undefined) {
      if (startup === "require") return yield* error
      connection.beginWithout(error)
    }
    yield* enter(name, site, connection.metrics)
    return connection
  })

/** @internal */
export const openConnection = (options: RedisConnection.Options, site: string): Opened =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => resolveConnection(options))
    const settings = yield* settingsOf(resolved.connectTimeout, resolved.socketTimeout)
    return yield* open(resolved, settings, site, () => makeClient(resolved.server, settings), true)
  })

/** How long the connections that are made beside a client of the user's may hear nothing. */
const socketTimeout = Duration.seconds(1)

/** @internal */
export const useClient = (client: Client, options: RedisConnection.ClientOptions, site: string): Opened =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => resolveClient(options))
    const checked = yield* orDie(() => checkClient(resolved.name, client, resolved.allowUnsafe))
    const settings = yield* settingsOf(resolved.connectTimeout, socketTimeout)
    return yield* open(resolved, settings, site, () => checked, false)
  })
