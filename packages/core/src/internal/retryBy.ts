import type * as Effect from "effect/Effect"
import type { Retry } from "../Retry.js"

/** What is given for one call, once its types are checked. @internal */
export type AnyByOptions = Retry.ByOptions<any, any>

/**
 * The typed form of a retry: what its options and the effect it is piped to mean for its types is in `Retry.By`.
 *
 * @internal
 */
export const retryBy = (
  guardBy: (options: AnyByOptions) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, unknown, unknown>
): Retry.By => guardBy as any
