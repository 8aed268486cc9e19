import type { EventBus, Fleet, Registry, SystemLoad } from "@effect-resilience/core"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as RcRef from "effect/RcRef"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import { fleetInterval, fleetWire } from "./fleet.js"
import type { Frame, Model } from "./model.js"
import { beatText } from "./model.js"
import type { Watch } from "./watch.js"
import type { Json } from "./wire.js"
import { toWire } from "./wire.js"

/** Frames that wait for a slow page: the oldest go, and a page that missed one gets a snapshot. @internal */
export const viewerCapacity = 32
const silence = "15 seconds"
/** How long sampling goes on without a viewer, for one that reloads the page. */
const patience = "5 seconds"

type Letter = Frame | "end"

/** @internal */
export interface FeedOptions {
  readonly registry: Registry.Service
  readonly bus: EventBus.Service
  readonly system: Option.Option<SystemLoad.Service>
  readonly overrides: Effect.Effect<Json>
  readonly fleet: Option.Option<Fleet.Service>
  readonly model: Model
  readonly watch: Watch
  readonly interval: Duration.Duration
  readonly maxViewers: number
  readonly history: boolean
}

/**
 * Samples for as long as somebody looks, and gives each viewer a bounded queue of what is new.
 *
 * @internal
 */
export class Feed {
  private looking = 0
  private taken = 0
  private fleet: Json = null
  readonly viewers: Effect.Effect<number> = Effect.sync(() => this.looking)
  readonly samples: Effect.Effect<number> = Effect.sync(() => this.taken)
  private readonly queues = new Map<Queue.Queue<Letter>, () => boolean>()

  private constructor(
    private readonly options: FeedOptions,
    private readonly sampling: RcRef.RcRef<void>
  ) {}

  static readonly make = (options: FeedOptions): Effect.Effect<Feed, never, Scope> =>
    Effect.gen(function*() {
      const { bus, history, interval, watch } = options
      const hear = bus.on("*", (event) => Effect.sync(() => watch.hear(event)))
      if (history) yield* hear
      const sampling: RcRef.RcRef<void> = yield* RcRef.make({
        acquire: Effect.gen(function*() {
          if (!history) yield* hear
          if (Option.isSome(options.fleet)) yield* feed.attendFleet(options.fleet.value)
          yield* feed.sample
          yield* Effect.forkScoped(Effect.forever(Effect.zipRight(Effect.sleep(interval), feed.sample)))
        }),
        idleTimeToLive: patience
      })
      const feed = new Feed(options, sampling)
      yield* Effect.addFinalizer(() => feed.tell("end"))
      return feed
    })

  private tell(letter: Letter): Effect.Effect<void> {
    return Effect.forEach(this.queues.keys(), (queue) => Queue.offer(queue, letter), { discard: true })
  }

  /** A server that closes waits for its responses, and these would never end. */
  private readonly dismiss: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(
      this.queues,
      ([queue, isClosing]) => isClosing() ? Queue.offer(queue, "end") : Effect.void,
      { discard: true }
    )
  )

  /** Looks at the other processes, and hears them, for the length of the scope. */
  private attendFleet({ events, self, view }: Fleet.Service): Effect.Effect<void, never, Scope> {
    const warn = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.catchAllCause(effect, (cause) => Effect.logWarning("The dashboard could not look at the fleet", cause))
    const look = warn(Effect.map(view, (seen) => {
      this.fleet = fleetWire(seen)
    }))
    const hear = Stream.runForEach(events, ({ event, label, process }) =>
      Effect.sync(() => {
        // What happens here is heard on the bus.
        if (process !== self) this.options.watch.hear(event, label)
      }))
    const pause = Effect.sleep(Duration.max(this.options.interval, fleetInterval))
    return Effect.forEach(
      [Effect.forever(Effect.zipRight(look, pause)), warn(hear)],
      (loop) => Effect.forkScoped(loop),
      { discard: true }
    )
  }

  /** One look at all instances. What fails in it is left out of this sample: a page must not hurt what it shows. */
  private readonly sample: Effect.Effect<void> = Effect.gen(this, function*() {
    const { model, overrides, registry, system } = this.options
    this.taken++
    const at = yield* Clock.currentTimeMillis
    const load = Option.isSome(system) ? toWire(yield* system.value.sample) : null
    const frame = model.advance(at, yield* registry.snapshot, {
      system: load,
      overrides: yield* overrides,
      fleet: this.fleet
    })
    if (frame !== undefined) yield* this.tell(frame)
    yield* this.dismiss
  }).pipe(Effect.catchAllCause((cause) => Effect.logWarning("The dashboard could not take a sample", cause)))

  /** The events for one more viewer, for the length of the scope, or nothing where there are enough of them. */
  readonly open = (
    lastEventId: string | undefined,
    isClosing: () => boolean
  ): Effect.Effect<Option.Option<Stream.Stream<string>>, never, Scope> =>
    Effect.flatMap(this.enter, (isIn) =>
      isIn
        ? Effect.zipRight(RcRef.get(this.sampling), Effect.asSome(this.attend(lastEventId, isClosing)))
        : Effect.succeedNone)

  private readonly enter: Effect.Effect<boolean, never, Scope> = Effect.acquireRelease(
    Effect.sync(() => {
      if (this.looking >= this.options.maxViewers) return false
      this.looking++
      return true
    }),
    (isIn) =>
      Effect.sync(() => {
        if (isIn) this.looking--
      })
  )

  private attend(
    lastEventId: string | undefined,
    isClosing: () => boolean
  ): Effect.Effect<Stream.Stream<string>, never, Scope> {
    return Effect.map(
      Effect.acquireRelease(
        Effect.tap(
          Queue.sliding<Letter>(viewerCapacity),
          (queue) => Effect.sync(() => this.queues.set(queue, isClosing))
        ),
        (queue) => Effect.suspend(() => Effect.as(Queue.shutdown(queue), this.queues.delete(queue)))
      ),
      (queue) => {
        const missed = this.options.model.since(lastEventId)
        return Stream.concat(Stream.make("retry: 2000\n\n"), this.follow(queue, missed))
      }
    )
  }

  /** What a page missed, or a snapshot; then the frames in order, and a snapshot wherever the queue lost some. */
  private follow(queue: Queue.Dequeue<Letter>, missed: ReadonlyArray<Frame> | undefined): Stream.Stream<string> {
    const { model } = this.options
    let last = 0
    const tell = (frame: Frame): string => {
      last = frame.seq
      return frame.text
    }
    const beginning = Stream.suspend(() => Stream.fromIterable((missed ?? [model.snapshot]).map(tell)))
    const next = Queue.take(queue).pipe(
      Effect.timeoutTo({ duration: silence, onSuccess: (letter) => letter, onTimeout: () => "beat" as const })
    )
    const rest = Stream.repeatEffect(next).pipe(
      Stream.takeWhile((letter) => letter !== "end"),
      Stream.map((letter) => {
        if (letter === "beat") return beatText
        if (letter.seq <= last) return ""
        return tell(letter.seq === last + 1 ? letter : model.snapshot)
      }),
      Stream.filter((text) => text !== "")
    )
    return Stream.concat(beginning, rest)
  }
}
