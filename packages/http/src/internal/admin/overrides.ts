import type { EventBus, OperatorAction, Registry, UnknownInstanceError } from "@effect-resilience/core"
import { ActionError } from "@effect-resilience/core"
import { publish } from "@effect-resilience/core/extension"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Scope } from "effect/Scope"
import type { Lasting } from "./plan.js"
import { endedBy, lastingOf } from "./plan.js"

/** What an operator asks for. @internal */
export interface Order {
  readonly pattern: string
  readonly instance: string
  readonly action: string
  readonly input?: unknown
  readonly reason: string
  readonly ttl: Duration.Duration
}

/** What was changed for a while. @internal */
export interface Override {
  readonly pattern: string
  readonly instance: string
  /** What of the instance is changed: `"state"`, `"limit"`, `"rate"`. */
  readonly setting: string
  readonly action: string
  readonly input: unknown
  readonly actor: string
  readonly reason: string
  /** Whether it is of this process alone, or of all that share the instance. */
  readonly reach: Registry.Reach
  /** Milliseconds since the epoch. */
  readonly since: number
  /** Milliseconds since the epoch. */
  readonly until: number
}

/** @internal */
export interface Applied {
  /** The metrics of the instance before. */
  readonly previous: object
  /** Whom the action reached. */
  readonly reach: Registry.Reach
  /** When it is returned; nothing for what is done once. */
  readonly override: Override | undefined
}

/**
 * An instance, and what puts its setting back as it was before the first of the overrides that followed each other. It is
 * the instance itself: another of its name, built later, has a setting of its own.
 */
interface Changed {
  readonly entry: Registry.Entry
  readonly back: Lasting["back"]
  /** When what is put back ends by itself, in milliseconds since the epoch. */
  readonly backUntil: number
  /** What the action did, by which it is known whether that still stands. */
  readonly act: object | undefined
}

/** What ends within this time, in milliseconds, is waited for. */
const atOnce = 5

/** What stands by an operator's hand; nothing of an instance that does not say. */
const standingOf = (entry: Registry.Entry, input: unknown): Effect.Effect<Registry.Standing | undefined> =>
  Effect.orElseSucceed(entry.standing?.(input) ?? Effect.succeed(undefined), () => undefined)

/**
 * Whether it ended by itself, which it has by now or in a moment: a timer may be early by a part of a millisecond. A reset
 * would be one of all processes then, and close what they opened meanwhile.
 */
const isOver = (entry: Registry.Entry, input: unknown): Effect.Effect<boolean> =>
  Effect.flatMap(standingOf(entry, input), (standing) => {
    if (standing === undefined) return Effect.succeed(false)
    if (!Duration.isFinite(standing.left)) return Effect.succeed(true)
    return Duration.toMillis(standing.left) > atOnce
      ? Effect.succeed(false)
      : Effect.delay(isOver(entry, input), standing.left)
  })

/** Whether it is to be put back: its instance lives, and nobody else acted on that since. */
const stands = ({ act, entry }: Changed, input: unknown): Effect.Effect<boolean> =>
  Effect.map(
    standingOf(entry, input),
    (standing) => entry.standing === undefined || (act !== undefined && standing?.act === act)
  )

interface Held {
  readonly override: Override
  /** More than one where a name is there twice by mistake. */
  readonly changed: ReadonlyArray<Changed>
  readonly timer: Fiber.RuntimeFiber<void>
}

const jsonOf = (input: unknown) => input === undefined ? undefined : JSON.stringify(input)

/**
 * The overrides of this process: one for each setting of an instance, each with its end. One order at a time, so that what
 * an override returns to is what was there.
 *
 * @internal
 */
export class Overrides {
  private readonly held = new Map<string, Held>()

  private constructor(
    private readonly registry: Registry.Service,
    private readonly bus: EventBus.Service,
    private readonly lock: Effect.Semaphore,
    private readonly scope: Scope
  ) {}

  /** When the scope closes, what is overridden is put back. */
  static readonly make = (
    registry: Registry.Service,
    bus: EventBus.Service
  ): Effect.Effect<Overrides, never, Scope> =>
    Effect.gen(function*() {
      const overrides = new Overrides(registry, bus, yield* Effect.makeSemaphore(1), yield* Effect.scope)
      yield* Effect.addFinalizer(() =>
        Effect.forEach(
          [...overrides.held.values()],
          (held) => overrides.giveBack(held, "automatic", "the end of Admin")
        )
      )
      return overrides
    })

  /** Those that stand, of instances that live. */
  readonly list: Effect.Effect<ReadonlyArray<Override>> = Effect.suspend(() =>
    Effect.map(
      Effect.filter([...this.held.values()], (held) => Effect.map(this.standing(held), ({ length }) => length > 0)),
      (all) => all.map(({ override }) => override)
    )
  )

  readonly apply = (order: Order, actor: string): Effect.Effect<Applied, UnknownInstanceError | ActionError> =>
    this.alone(Effect.gen(this, function*() {
      const { action, instance, pattern, reason, ttl } = order
      const previous = yield* Effect.flatMap(this.registry.get(pattern, instance), (entry) => entry.snapshot)
      const lasting = lastingOf(pattern, action, order.input, previous)
      const wouldChange = yield* this.changes(order)
      const setting = lasting?.setting ?? endedBy(pattern, action, order.input, previous)
      const key = JSON.stringify([pattern, instance, setting])
      const before = this.held.get(key)
      const kept = before === undefined ? [] : yield* this.standing(before)
      const { done, reach } = yield* Effect.tapError(
        // Other processes keep the end too: this one may be gone by then.
        this.act(order, lasting === undefined ? undefined : ttl),
        () => this.audit(order, actor, "Refused", reason)
      )
      // It may end sooner by itself, by its input.
      const lefts = [...done.values()].flatMap((standing) => standing.act === undefined ? [] : [standing.left])
      const length = Math.ceil(Math.min(...[ttl, ...lefts].map(Duration.toMillis)))
      if (before !== undefined) {
        this.held.delete(key)
        yield* Fiber.interruptFork(before.timer)
      }
      const since = yield* Clock.currentTimeMillis
      const until = lasting === undefined ? undefined : since + length
      yield* this.audit(order, actor, "Applied", reason, until)
      if (lasting === undefined || until === undefined) return { previous, reach, override: undefined }
      const override = {
        pattern,
        instance,
        setting: lasting.setting,
        action,
        input: order.input,
        actor,
        reason,
        reach,
        since,
        until
      }
      const changed = wouldChange.map((now): Changed => ({
        ...kept.find(({ entry }) => entry === now.entry) ?? now,
        act: done.get(now.entry)?.act
      }))
      const timer = yield* Effect.forkIn(
        Effect.interruptible(Effect.delay(this.expire(key, override), length)),
        this.scope
      )
      this.held.set(key, { override, changed, timer })
      return { previous, reach, override }
    }))

  /** Ends an override before its time; tells whom that reached, or nothing where there was none. */
  readonly giveBackNow = (
    { instance, pattern, setting }: Pick<Override, "pattern" | "instance" | "setting">,
    actor: string,
    reason: string
  ): Effect.Effect<Registry.Reach | undefined> =>
    this.alone(Effect.suspend(() => {
      const held = this.held.get(JSON.stringify([pattern, instance, setting]))
      if (held === undefined) return Effect.succeed(undefined)
      return Effect.zipRight(Fiber.interruptFork(held.timer), this.giveBack(held, actor, reason))
    }))

  /**
   * Does it, and reads at once what stands by it: what is done from now on is somebody else's. It fails where nothing does,
   * for another operator acted first, and the instances follow that.
   */
  private act({ action, input, instance, pattern }: Order, lasts: Duration.Duration | undefined) {
    return Effect.gen(this, function*() {
      const reach = yield* this.registry.act(pattern, instance, action, input, lasts)
      const entries = (yield* this.registry.list).filter((one) => one.pattern === pattern && one.instance === instance)
      const done = new Map<Registry.Entry, Registry.Standing>()
      for (const entry of entries) {
        const standing = yield* standingOf(entry, input)
        if (standing !== undefined) done.set(entry, standing)
      }
      if (done.size > 0 && [...done.values()].every(({ act }) => act === undefined)) {
        const problem = "another operator acted first, which stands: it was not taken"
        return yield* new ActionError({ pattern, instance, action, problem })
      }
      return { reach, done }
    })
  }

  /** What an order would change, and how each instance is put back. */
  private changes({ action, input, instance, pattern }: Order): Effect.Effect<ReadonlyArray<Changed>> {
    return Effect.flatMap(this.registry.list, (entries) =>
      Effect.map(
        Effect.forEach(
          entries.filter((entry) => entry.pattern === pattern && entry.instance === instance),
          (entry) =>
            Effect.gen(function*() {
              const lasting = lastingOf(pattern, action, input, yield* entry.snapshot)
              if (lasting === undefined) return []
              const { left = Duration.infinity } = (yield* standingOf(entry, input)) ?? {}
              const backUntil = (yield* Clock.currentTimeMillis) + Duration.toMillis(left)
              return [{ entry, back: lasting.back, backUntil, act: undefined }]
            })
        ),
        (changed) => changed.flat()
      ))
  }

  /** What of an override is there to be put back. */
  private standing({ changed, override }: Held): Effect.Effect<ReadonlyArray<Changed>> {
    return Effect.flatMap(
      this.registry.list,
      (entries) =>
        Effect.filter(
          changed,
          (one) => entries.includes(one.entry) ? stands(one, override.input) : Effect.succeed(false)
        )
    )
  }

  /** What comes after the override has taken its place is not touched. */
  private expire(key: string, override: Override): Effect.Effect<void> {
    return this.alone(Effect.suspend(() => {
      const held = this.held.get(key)
      return held?.override === override
        ? Effect.asVoid(this.giveBack(held, "automatic", "its time is over"))
        : Effect.void
    }))
  }

  /** Tells whom it reached; nothing where the override is over: with its instances, or by what others did. */
  private giveBack(held: Held, actor: string, reason: string): Effect.Effect<Registry.Reach | undefined> {
    const { instance, pattern, setting } = held.override
    this.held.delete(JSON.stringify([pattern, instance, setting]))
    return Effect.flatMap(this.standing(held), (standing) =>
      Effect.map(
        Effect.forEach(standing, (changed) => this.putBack(changed, setting, actor, reason)),
        (reached) => reached.every((one) => one === "fleet") ? reached[0] : "process"
      ))
  }

  private putBack(
    { back, backUntil, entry }: Changed,
    setting: string,
    actor: string,
    reason: string
  ): Effect.Effect<Registry.Reach> {
    const { instance, pattern } = entry
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      // What was to end by itself gets what is left of its time.
      const left = Number.isFinite(backUntil) ? Duration.millis(backUntil - now) : undefined
      const action = backUntil > now ? back.action : "reset"
      const order = { pattern, instance, action, input: back.input }
      const isDone = action === "reset" ? isOver(entry, back.input) : Effect.succeed(false)
      return Effect.flatMap(
        isDone,
        (done) => done ? Effect.void : entry.actions[action]?.(back.input, left) ?? Effect.void
      ).pipe(
        Effect.zipLeft(this.audit(order, actor, "Returned", reason)),
        Effect.map((reach) => reach ?? "process"),
        Effect.catchAll((error) =>
          Effect.as(
            Effect.logError(`${pattern} "${instance}": ${setting} could not be put back as it was`, error),
            "process" as const
          )
        )
      )
    })
  }

  private alone<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.acquireUseRelease(restore(this.lock.take(1)), () => effect, () => this.lock.release(1))
    )
  }

  private audit(
    { action, input, instance, pattern }: Pick<Order, "pattern" | "instance" | "action" | "input">,
    actor: string,
    phase: OperatorAction["phase"],
    reason: string,
    until?: number
  ): Effect.Effect<void> {
    return Effect.flatMap(Clock.currentTimeMillis, (timestamp) => {
      const event: OperatorAction = {
        _tag: "OperatorAction",
        pattern,
        instance,
        timestamp,
        actor,
        action,
        input: jsonOf(input),
        reason,
        phase,
        until
      }
      return Effect.zipRight(
        publish(this.bus, () => event),
        Effect.annotateLogs(Effect.logInfo(`${pattern} "${instance}": ${action}, ${phase.toLowerCase()}`), {
          package: "@effect-resilience/http",
          actor,
          reason,
          input: event.input
        })
      )
    })
  }
}
