import type { option } from "@effect-resilience/core/extension"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { StaleStore, StaleStoreError } from "../../StaleStore.js"
import { targetOf } from "../paths.js"
import { capture, revive } from "../storedResponse.js"
import type { staleFields, Substitute } from "../substitute.js"
import { attempt } from "../substitute.js"
import { isRefusedBy, keepingOf } from "./rules.js"
import type { StaleWatch } from "./watch.js"

/** Those of RFC 5861, and 429, which has to be asked for. */
const statuses: ReadonlySet<number> = new Set([500, 502, 503, 504, 429])

type Options = option.Resolved<typeof staleFields>

/** Under which key the responses of a request are, where they may be kept at all. */
const keyOf = (name: string, { principal }: Options, request: HttpServerRequest): string | undefined => {
  const { headers } = request
  const url = targetOf(request)
  const host = headers["host"] ?? ""
  if (principal !== undefined) {
    const who = principal(request)
    return Option.isSome(who) ? JSON.stringify([name, host, url, who.value]) : undefined
  }
  const isAnybodys = headers["authorization"] === undefined && headers["cookie"] === undefined
  return isAnybodys ? JSON.stringify([name, host, url]) : undefined
}

const variantOf = (key: string, vary: ReadonlyArray<string>, { headers }: HttpServerRequest): string =>
  key + JSON.stringify(vary.map((name) => [name, headers[name] ?? null]))

/**
 * Serves what it has seen before when there is an error. `limit` is how long the store may take, where it is not in this
 * process.
 *
 * @internal
 */
export const stale = (
  name: string,
  options: Options,
  store: StaleStore.Service,
  limit: Duration.Duration | undefined,
  watch: StaleWatch
): Substitute => {
  const find = (key: string, request: HttpServerRequest) =>
    Effect.flatMap(
      store.get(key),
      (found) =>
        Option.isSome(found) && found.value.entry.response === null
          ? store.get(variantOf(key, found.value.entry.vary, request))
          : Effect.succeed(found)
    )

  const keep = (
    request: HttpServerRequest,
    key: string,
    response: HttpServerResponse
  ): Effect.Effect<void, StaleStoreError> => {
    const whose = options.principal === undefined ? "anybody" : "principal"
    const keeping = keepingOf(request, response, Duration.toSeconds(options.staleIfError), whose)
    if (Option.isNone(keeping)) return Effect.void
    const stored = capture(response, options.maxBodySize)
    if (stored.body === null) return Effect.void
    const { age, maxAge, staleIfError, vary } = keeping.value
    const ttl = Duration.seconds(Math.max(0, maxAge - age) + staleIfError)
    const entry = { vary, response: stored, maxAge, age }
    const put = vary.length === 0 ? store.put(key, entry, ttl) : Effect.zipRight(
      store.put(key, { ...entry, response: null }, ttl),
      store.put(variantOf(key, vary, request), entry, ttl)
    )
    return Effect.zipRight(put, Effect.zipRight(watch.kept, watch.worked))
  }

  return {
    applies: (request, failure) =>
      request.method === "GET" && statuses.has(failure.status) && options.on.has(failure.reason),
    answer: (request) => {
      const read = Effect.suspend(() => {
        const key = isRefusedBy(request) ? undefined : keyOf(name, options, request)
        return key === undefined ? Effect.succeedNone : Effect.zipLeft(find(key, request), watch.worked)
      })
      const answer = Effect.map(
        read,
        Option.flatMap(({ age: since, entry }) => {
          if (entry.response === null) return Option.none()
          const age = entry.age + Math.floor(Duration.toSeconds(since))
          return Option.some(revive(entry.response, {
            "age": String(age),
            "cache-status": `resilience; hit; ttl=${entry.maxAge - age}; detail="stale-if-error"`
          }))
        })
      )
      const told = Effect.tap(answer, (found) => watch.looked(Option.isSome(found)))
      return Effect.map(attempt(limit, watch.failed, told), Option.flatten)
    },
    observe: (request, response) => {
      if (request.method !== "GET" || response.status !== 200) return Effect.void
      const kept = Effect.suspend(() => {
        const key = keyOf(name, options, request)
        return key === undefined ? Effect.void : keep(request, key, response)
      })
      return Effect.asVoid(attempt(limit, watch.failed, kept))
    }
  }
}
