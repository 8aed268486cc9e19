import type * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type { Scope } from "effect/Scope"
import type { Subscription } from "../Pattern.js"

/**
 * What a subscriber holds: its own sliding queue, which ends with the hub. What it holds by then can still be taken;
 * whoever takes after that is interrupted, as by any queue that was shut down.
 *
 * @internal
 */
export class Inbox<E> extends Effectable.Class<E> implements Subscription<E> {
  readonly [Queue.DequeueTypeId] = { _Out: identity }
  private ended = false
  private lost = 0
  readonly dropped: Effect.Effect<number> = Effect.sync(() => this.lost)

  constructor(private readonly queue: Queue.Queue<E>) {
    super()
  }

  static readonly make = <E>(capacity: number): Effect.Effect<Inbox<E>, never, Scope> =>
    Effect.acquireRelease(
      Effect.map(Queue.sliding<E>(capacity), (queue) => new Inbox(queue)),
      (inbox) => inbox.shutdown
    )

  put(events: Chunk.Chunk<E>): Effect.Effect<boolean> {
    this.lost += Math.max(0, this.held + events.length - this.capacity())
    return this.queue.offerAll(events)
  }

  /** No more will come. */
  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    this.ended = true
    return this.afterTake
  })

  private get held(): number {
    return Math.max(0, Option.getOrElse(this.queue.unsafeSize(), () => 0))
  }
  private readonly afterTake: Effect.Effect<void> = Effect.suspend(() =>
    this.ended && this.held === 0 ? this.shutdown : Effect.void
  )

  override commit(): Effect.Effect<E> {
    return this.take
  }
  get take(): Effect.Effect<E> {
    return Effect.zipLeft(this.queue.take, this.afterTake)
  }
  get takeAll(): Effect.Effect<Chunk.Chunk<E>> {
    return Effect.zipLeft(this.queue.takeAll, this.afterTake)
  }
  takeUpTo(max: number): Effect.Effect<Chunk.Chunk<E>> {
    return Effect.zipLeft(this.queue.takeUpTo(max), this.afterTake)
  }
  /** The last events may be fewer than `min`. */
  takeBetween(min: number, max: number): Effect.Effect<Chunk.Chunk<E>> {
    return Effect.suspend(() =>
      Effect.zipLeft(this.queue.takeBetween(this.ended ? Math.min(min, 1) : min, max), this.afterTake)
    )
  }

  capacity(): number {
    return this.queue.capacity()
  }
  isActive(): boolean {
    return this.queue.isActive()
  }
  unsafeSize(): Option.Option<number> {
    return this.queue.unsafeSize()
  }
  get size(): Effect.Effect<number> {
    return this.queue.size
  }
  get isFull(): Effect.Effect<boolean> {
    return this.queue.isFull
  }
  get isEmpty(): Effect.Effect<boolean> {
    return this.queue.isEmpty
  }
  get shutdown(): Effect.Effect<void> {
    return this.queue.shutdown
  }
  get isShutdown(): Effect.Effect<boolean> {
    return this.queue.isShutdown
  }
  get awaitShutdown(): Effect.Effect<void> {
    return this.queue.awaitShutdown
  }
}
