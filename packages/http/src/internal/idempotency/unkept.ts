import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { IdempotencyStore } from "../../IdempotencyStore.js"
import { sizeOf } from "../storedResponse.js"
import type { Again } from "./again.js"
import { mostAgain } from "./again.js"
import type { BoundedStore } from "./bounded.js"
import type { Told } from "./told.js"

/** What waits in memory at most. */
const most = { entries: mostAgain, bytes: 64 * 1024 * 1024 }

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

  constructor(
    private readonly store: Pick<BoundedStore, "complete">,
    private readonly again: Again,
    private readonly told: Told,
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
      return this.again(Effect.suspend(() => this.store.complete(request)), (exit) => {
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
    })
  }
}
