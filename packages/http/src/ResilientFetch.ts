/**
 * A `fetch` with the patterns of `ResilientHttpClient`, for code that knows nothing of Effect.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import type { Chain } from "./internal/client/chain.js"
import { fetchAround } from "./internal/client/fetch.js"
import { checkClient } from "./internal/client/options.js"
import { ResilientHttpClient } from "./ResilientHttpClient.js"

/**
 * Whatever is called like `fetch`.
 *
 * @since 0.1.0
 * @category models
 */
export type Fetch = (input: never, init?: never) => Promise<unknown>

/**
 * A `fetch` with limits, retries, circuits and permits. It is of the type of the one it is given, honours `init.signal`, and
 * rejects as `fetch` does: with the signal's reason, with the transport's own error, with a `DOMException` named
 * `TimeoutError`; what our patterns turn away is one of their errors (`CircuitOpenError`, `BulkheadFullError`,
 * `RateLimitExceededError`). `close` ends what runs, also bodies that are not read to their end: with an `AbortError`, as every
 * later call.
 *
 * @example
 * import { resilientFetch } from "@effect-resilience/http"
 *
 * declare const fetch: (url: string) => Promise<{ readonly json: () => Promise<unknown> }>
 *
 * const payments = resilientFetch(fetch, { name: "payments", timeout: "10 seconds", attemptTimeout: "2 seconds" })
 *
 * const invoices = async () => (await payments("https://payments.example.com/invoices")).json()
 *
 * @since 0.1.0
 * @category constructors
 */
export const resilientFetch = <F extends Fetch>(
  fetch: F,
  options: ResilientHttpClient.Options
): F & { readonly close: () => Promise<void> } => {
  const checked = checkClient(options)
  const runtime = ManagedRuntime.make(ResilientHttpClient.Live)
  const chain: Effect.Effect<Chain, never, ResilientHttpClient> = Effect.flatMap(
    ResilientHttpClient,
    (service) => service.chain(options, checked)
  )
  const scope = Effect.runSync(Scope.make())
  const call = Effect.runSync(
    fetchAround(fetch, { name: options.name, chain, scope, fork: (effect) => runtime.runFork(effect, { scope }) })
  )
  const close = async () => {
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await runtime.dispose()
  }
  return Object.assign(call as Fetch as F, { close })
}

/**
 * The same with the instances of the `ResilientHttpClient` in the context: seen by its `Registry`, and closed with it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeResilientFetch = <F extends Fetch>(
  fetch: F,
  options: ResilientHttpClient.Options
): Effect.Effect<F, never, ResilientHttpClient> => {
  const checked = checkClient(options)
  return Effect.gen(function*() {
    const service = yield* ResilientHttpClient
    const chain = yield* service.chain(options, checked)
    const runtime = yield* Effect.runtime<never>()
    const { scope } = chain
    const fork = <A, E>(effect: Effect.Effect<A, E>) => Runtime.runFork(runtime)(effect, { scope })
    const call = yield* fetchAround(fetch, { name: options.name, chain: Effect.succeed(chain), scope, fork })
    return call as Fetch as F
  })
}
