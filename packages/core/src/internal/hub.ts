import * as Cause from "effect/Cause"
import type * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { constTrue, constVoid } from "effect/Function"
import * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import type { InternalError } from "../InternalError.js"
import type { EventOf, Observable, Subscription } from "../Pattern.js"
import type { AnyEvent, Body, Call } from "./event.js"
import { failureLine } from "./failureLine.js"
import { Inbox } from "./inbox.js"
import { currentClock } from "./time.js"

/** Events that a hub holds until its drains run: they are woken at once, so this bounds one burst. @internal */
export const hubCapacity = 1024
/** Events that a subscription holds for a slow subscriber. @internal */
export const subscriptionCapacity = 256

/** An inbox, and a way to wait until what was published before has reached it. */
interface Open<E> {
  readonly inbox: Inbox<E>
  readonly drained: Effect.Effect<void>
}

/**
 * A dropping `PubSub` that knows whether anybody listens. Each subscription is drained at once into its own inbox, so a
 * slow subscriber neither fills the hub nor takes events from another.
 *
 * @internal
 */
export class Hub<E> {
  /** Live subscriptions. While it is `0` nothing is offered, and guards build no event. */
  listeners = 0
  /** What was built for events, whoever heard them. With nobody listening it does not move: guards ask first. */
  built = 0
  /** Events offered to subscribers. */
  published = 0
  /** Events lost because one burst exceeded the hub. */
  dropped = 0
  private closed = false
  private readonly opened = new Set<Open<E>>()

  constructor(readonly pubsub: PubSub.PubSub<E>) {}

  static readonly make = <E>(capacity: number = hubCapacity): Effect.Effect<Hub<E>, never, Scope> =>
    Effect.acquireRelease(Effect.map(PubSub.dropping<E>(capacity), (pubsub) => new Hub(pubsub)), (hub) => hub.close)

  /** Never waits and never fails. Call it only while `listeners > 0`. */
  unsafeOffer(event: E): void {
    if (this.closed) return
    this.published++
    if (!this.pubsub.unsafeOffer(event)) this.dropped++
  }

  readonly subscribe: Effect.Effect<Subscription<E>, never, Scope> = Effect.map(
    Effect.suspend(() => this.open),
    ({ inbox }) => inbox
  )

  readonly open: Effect.Effect<Open<E>, never, Scope> = Effect.gen(this, function*() {
    const inbox = yield* Inbox.make<E>(subscriptionCapacity)
    if (this.closed) {
      yield* inbox.end
      return { inbox, drained: Effect.void }
    }
    const source = yield* PubSub.subscribe(this.pubsub)
    const accepted = () => this.published - this.dropped
    let moved = accepted()
    const move = (events: Chunk.Chunk<E>) =>
      Effect.suspend(() => {
        moved += events.length
        return inbox.put(events)
      })
    const until = (target: number, turns: number): Effect.Effect<void> =>
      Effect.suspend(() =>
        moved >= target || turns === 0 ? Effect.void : Effect.flatMap(Effect.yieldNow(), () => until(target, turns - 1))
      )
    // The drain is woken when events come, so a few turns do; none come where the drain ended with its hub.
    const open: Open<E> = { inbox, drained: Effect.suspend(() => until(accepted(), hubCapacity)) }
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        this.listeners++
        this.opened.add(open)
      }),
      () =>
        Effect.sync(() => {
          this.listeners--
          this.opened.delete(open)
        })
    )
    // Who subscribes where nothing can be interrupted would have a drain that never ends.
    yield* Effect.forkScoped(
      Effect.interruptible(Effect.forever(Effect.flatMap(source.takeBetween(1, hubCapacity), move)))
    )
    return open
  })

  /** Nothing comes any more: whoever listens gets what was published, and ends. */
  private readonly close: Effect.Effect<void> = Effect.suspend(() => {
    this.closed = true
    return Effect.forEach([...this.opened], ({ drained, inbox }) => Effect.zipRight(drained, inbox.end), {
      discard: true
    })
  }).pipe(Effect.zipRight(Effect.suspend(() => PubSub.shutdown(this.pubsub))))
}

/**
 * Where an instance puts its events: its own hub, and the bus where there is one.
 *
 * @internal
 */
export class Emitter<E extends AnyEvent> {
  private calls = 0

  constructor(
    readonly pattern: string,
    readonly instance: string,
    readonly hub: Hub<E | InternalError>,
    readonly bus: Hub<any> | undefined
  ) {}

  /** Ask this before you build an event. */
  get listening(): boolean {
    return this.hub.listeners > 0 || (this.bus !== undefined && this.bus.listeners > 0)
  }

  /** Never waits and never fails. It must run inside a fiber, whose clock gives the timestamp. */
  emit(body: Body<E> | Body<InternalError>): void {
    const event = {
      ...body,
      pattern: this.pattern,
      instance: this.instance,
      timestamp: currentClock().unsafeCurrentTimeMillis()
    } as unknown as E
    this.count()
    if (this.hub.listeners > 0) this.hub.unsafeOffer(event)
    if (this.bus !== undefined && this.bus.listeners > 0) this.bus.unsafeOffer(event)
  }

  /** Identifies the call of the running fiber in its events. Only for those who listen: it counts. */
  call(): Call {
    this.count()
    const fiber = Fiber.getCurrentFiber()
    const span = fiber._tag === "Some" ? fiber.value.currentSpan : undefined
    return { callId: ++this.calls, traceId: span?.traceId, spanId: span?.spanId }
  }

  private count(): void {
    this.hub.built++
    if (this.bus !== undefined) this.bus.built++
  }

  /**
   * A helper of ours failed: an event where somebody listens, and always a warning, which says what that means, where it is
   * told.
   */
  internalError(source: InternalError["source"], error: unknown, meaning?: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.listening) this.emit({ _tag: "InternalError", source, error })
      return this.warn(source, error, meaning)
    })
  }

  /**
   * A subscriber failed on an event. Where that event is such a report itself there is only the warning: it would
   * otherwise hear of itself without end.
   */
  readonly subscriberFailed = (error: unknown, event: AnyEvent): Effect.Effect<void> =>
    event._tag === "InternalError" ? this.warn("Subscriber", error) : this.internalError("Subscriber", error)

  private warn(source: InternalError["source"], error: unknown, meaning?: string): Effect.Effect<void> {
    const what = `${this.pattern} "${this.instance}": ${source.toLowerCase()} failed`
    return Effect.logWarning(...failureLine(what, error, meaning)).pipe(
      Effect.annotateLogs({ package: "@effect-resilience/core", pattern: this.pattern, instance: this.instance })
    )
  }
}

/**
 * Each event of a subscription, until it ends. `Effect.forever` would wait a turn after each, and fall behind calls that
 * have several events a turn.
 *
 * @internal
 */
export const each = <E, R>(
  queue: Queue.Dequeue<E>,
  handle: (event: E) => Effect.Effect<void, never, R>
): Effect.Effect<void, never, R> =>
  Effect.whileLoop({ while: constTrue, body: () => Effect.flatMap(queue.take, handle), step: constVoid })

/**
 * The ways to watch a hub. `report` tells of a handler that failed, and on which event.
 *
 * @internal
 */
export const observable = <E extends AnyEvent>(
  hub: Hub<E>,
  report: (error: unknown, event: E) => Effect.Effect<void>
): Observable<E> => ({
  events: Stream.unwrapScoped(Effect.map(hub.subscribe, (queue) => Stream.fromQueue(queue))),
  subscribe: hub.subscribe,
  on: (tag, handler) =>
    Effect.flatMap(
      hub.subscribe,
      (queue) =>
        Effect.asVoid(Effect.forkScoped(Effect.interruptible(each(queue, (event) =>
          tag !== "*" && event._tag !== tag ? Effect.void : Effect.flatMap(
            Effect.exit(Effect.suspend(() =>
              handler(event as EventOf<E, typeof tag>)
            )),
            (exit) =>
              Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause)
                ? Effect.void
                : report(Cause.squash(exit.cause), event)
          )))))
    )
})

/** The ways to watch an instance that never has anything to tell. @internal */
export const silent: Observable<never> = {
  events: Stream.never,
  subscribe: Effect.map(
    Effect.acquireRelease(Queue.sliding<never>(1), Queue.shutdown),
    (queue) => Object.assign(queue, { dropped: Effect.succeed(0) })
  ),
  on: () => Effect.void
}
