import { EventBus } from "@effect-resilience/core"
import { now, toNanos } from "@effect-resilience/core/extension"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import type { IdempotencyStore } from "../../IdempotencyStore.js"
import { sizeOf } from "../storedResponse.js"
import type { BoundedStore } from "./bounded.js"
import type { Told } from "./told.js"

/** Soon after a short failure; every two seconds in a long one. Whole milliseconds, for the clock of tests knows no others. */
const pauses = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("2 seconds")),
  Schedule.jittered,
  Schedule.modifyDelay((_, pause) => Duration.millis(Math.ceil(Duration.toMillis(pause))))
)

/** What waits in memory at most. */
const most = { entries: 1000, bytes: 64 * 1024 * 1024 }

/** What is left of the context of a request: the rest of it need not stay in memory. */
const withoutRequest = Effect.mapInputContext((context: Context.Context<never>) =>
  Context.pick(EventBus)(context as Context.Context<EventBus>) as Context.Context<never>
)

/**
 * Responses of requests that were carried out, and that the store failed to keep. Each is tried again for the length of a
 * lease, until it is kept or the key is found to be another's: the store takes it from its owner, or where the key is
 * nobody's, and never twice. Meanwhile this process knows them, and need not ask.
 *
 * @internal
 */
export class Unkept {
  private readonly waiting = new Map<string, IdempotencyStore.Complete>()
  private bytes = 0

  /** `scope` ends the attempts; without one they end with the lease alone. */
  constructor(
    private readonly store: BoundedStore,
    private readonly lease: Duration.Duration,
    private readonly told: Told,
    private readonly scope: Scope | undefined,
    private readonly bounds = most
  ) {}

  find(key: string): IdempotencyStore.Complete | undefined {
    return this.waiting.get(key)
  }

  /** Begins to try again, and does not wait for what comes of it. `shown` is the key for people to read. */
  tryAgain(request: IdempotencyStore.Complete, shown: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const bytes = sizeOf(request.response)
      const { entries, bytes: room } = this.bounds
      if (this.waiting.has(request.key) || this.waiting.size >= entries || this.bytes + bytes > room) {
        return this.told.response("not_kept", shown, "too many wait already")
      }
      this.waiting.set(request.key, request)
      this.bytes += bytes
      const until = now() + toNanos(this.lease)
      const attempt = Effect.suspend(() => this.store.complete(request))
      const attempts = Effect.retry(attempt, { schedule: pauses, while: () => now() < until })
      const trying = Effect.flatMap(Effect.exit(Effect.interruptible(Effect.delay(attempts, "100 millis"))), (exit) => {
        this.waiting.delete(request.key)
        this.bytes -= bytes
        return Exit.isFailure(exit)
          ? this.told.response(
            "not_kept",
            shown,
            Cause.isInterrupted(exit.cause) ? "the store is closed" : Cause.squash(exit.cause)
          )
          : this.told.response(exit.value ? "kept_later" : "lease_lost", shown)
      })
      const running = this.scope === undefined ? Effect.forkDaemon(trying) : Effect.forkIn(trying, this.scope)
      // It begins uninterruptible, so that it ends in order also where the store is closed already.
      return Effect.asVoid(withoutRequest(Effect.uninterruptible(running)))
    })
  }
}
