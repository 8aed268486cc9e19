// Compiled against the declarations of program.ts alone: they must name nothing that the packages hide.
import type { CircuitOpenError, DeadlineExceededError, TimeoutExceededError } from "@effect-resilience/core"
import type { RateLimiterStore } from "@effect-resilience/core"
import type { IdempotencyStore, StaleStore } from "@effect-resilience/http"
import type { RedisUnavailableError } from "@effect-resilience/redis"
import { Effect, type Layer } from "effect"
import { charge, type Hosts, type Live, order, type Orders, type Payments, Reports, SharedLive } from "./program.js"

export const again: Effect.Effect<
  string,
  Effect.Effect.Error<ReturnType<typeof charge>>,
  Payments | Reports | Effect.Effect.Context<ReturnType<typeof charge>>
> = charge("1")
export const guarded = Effect.succeed(1).pipe(Reports.withPermit)
// No bulkhead, so no BulkheadFullError.
export const ordered: Effect.Effect<number, CircuitOpenError | DeadlineExceededError | TimeoutExceededError, Orders> =
  order
export type Provided = Layer.Layer.Success<typeof Live> extends infer P
  ? Payments extends P ? Hosts extends P ? true : false : false
  : false
export const provided: Provided = true
export const shared: Layer.Layer<
  Reports | Payments | RateLimiterStore | IdempotencyStore | StaleStore,
  RedisUnavailableError
> = SharedLive
