/**
 * A load shedder turns calls away before a process has more to do than it can: by what is in flight, by how long calls
 * wait, and by how busy the system is; the least important first.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import { deadlineOf, priorityOf } from "./internal/ambient.js"
import type { EnterAtOnce } from "./internal/atOnce.js"
import { isTooLate, lettingInAtOnce } from "./internal/atOnce.js"
import { callMetrics, noCalls } from "./internal/calls.js"
import { errorFields, ErrorTypeId, retryAfter, stackless } from "./internal/errors.js"
import { eventFields } from "./internal/event.js"
import type { Handlers, Restore } from "./internal/guard.js"
import { hold, onClose, passThrough } from "./internal/guard.js"
import { silent } from "./internal/hub.js"
import { callSite, openInstance, register } from "./internal/instance.js"
import * as metric from "./internal/metrics.js"
import * as option from "./internal/options.js"
import { Permits } from "./internal/permits.js"
import { cohortOf, isShed, levels, Shed } from "./internal/shed.js"
import { makeTag, orDie } from "./internal/tag.js"
import type { Nanos } from "./internal/time.js"
import { clockOf, now, toNanos } from "./internal/time.js"
import type { Waiter } from "./internal/waiters.js"
import { persistence, Waiters } from "./internal/waiters.js"
import { Turn, waitInLine } from "./internal/waiting.js"
import { InternalError } from "./InternalError.js"
import type { Outcome } from "./Outcome.js"
import { classify } from "./Outcome.js"
import type { CallMetrics, Guard, Observable, OnLayer, TagClass } from "./Pattern.js"
import { Priority } from "./Priority.js"
import { SystemLoad } from "./SystemLoad.js"

const Reason = Schema.Literal("InFlight", "Queue", "Cpu", "Memory", "EventLoop", "Signal")
const Level = Schema.Literal("normal", "elevated", "high", "critical")
const pressure = Schema.Number.pipe(Schema.between(0, 1))

/**
 * The call was shed: too much was in flight for its class (`InFlight`), the line was full or its turn did not come in
 * time (`Queue`), or a signal of the system said so (`Cpu`, `Memory`, `EventLoop`, or one's own `Signal`).
 *
 * @since 0.1.0
 * @category errors
 */
export class LoadShedError
  extends Schema.TaggedError<LoadShedError>("@effect-resilience/LoadShedError")("LoadShedError", {
    ...errorFields("LoadShedder"),
    reason: Reason,
    retryAfter,
    /** The call's own. */
    priority: Priority.Level,
    /** In flight when the call was shed. */
    active: Schema.NonNegativeInt,
    /** From 0 to 1. */
    pressure
  })
{
  /**
   * @since 0.1.0
   */
  get [ErrorTypeId]() {
    return "rejection" as const
  }
  override get message() {
    return `LoadShedder "${this.instance}" shed a ${this.priority} call (${this.reason}): ` +
      `${this.active} in flight, pressure ${this.pressure.toFixed(2)}`
  }
}

const fields = {
  ...eventFields("LoadShedder"),
  active: Schema.NonNegativeInt,
  pressure
}
const Event = Schema.Union(
  Schema.TaggedStruct("Accepted", fields),
  Schema.TaggedStruct("Shed", { ...fields, reason: Reason, priority: Priority.Level }),
  Schema.TaggedStruct("LevelChanged", { ...fields, from: Level, to: Level }),
  InternalError
)

type Shares = { readonly [L in Priority.Level]: number }

const defaultShares: Shares = { critical: 1, high: 1, normal: 1, low: 0.8, sheddable: 0.5 }

/** A share for each class, given or by default; none below that of a less important one. */
const parseShares = (input: Partial<Shares>): Shares => {
  const bad = (why = ""): never => {
    throw new option.Requirement(
      `shares from 0 to 1 of ${Priority.levels.join(", ")}, none below that of a less important class${why}`
    )
  }
  if (!Predicate.isRecord(input) || Object.keys(input).some((key) => !Object.hasOwn(defaultShares, key))) return bad()
  const shares = option.merge<Shares>(defaultShares, input as Shares)
  const isShare = (share: unknown) => Predicate.isNumber(share) && share >= 0 && share <= 1
  if (!Priority.levels.every((level) => isShare(shares[level]))) return bad()
  Priority.levels.forEach((level, i) => {
    const next = Priority.levels[i + 1]
    if (next === undefined || shares[level] >= shares[next]) return
    const all = Priority.levels.map((each) => `${each} ${shares[each]}`).join(", ")
    bad(` (with the defaults they are ${all}: ${level} is below ${next})`)
  })
  return shares
}

const ratio = (fallback: number) => option.number(fallback, { above: 0, max: 1 })

/** The options, their defaults and what they accept. @internal */
export const loadShedderFields = {
  maxInFlight: option.integer(1000, { min: 1 }),
  maxQueueDepth: option.integer(500, { min: 0 }),
  maxQueueWait: option.duration("100 millis"),
  shares: option.field<Partial<Shares>, Shares>({}, parseShares, "critical, high, normal 1, low 0.8, sheddable 0.5"),
  cpu: option.field<number | false, number | false>(
    0.85,
    (input) => input === false ? false : option.parseNumber({ above: 0, max: 1 })(input)
  ),
  memory: ratio(0.85),
  eventLoopDelay: option.duration("5 millis"),
  recoverAt: option.number(0.8, { above: 0, max: 1 }),
  sampleEvery: option.duration("200 millis", { min: 1 })
} satisfies option.Fields<LoadShedder.Options>

type Named = LoadShedder.Options & { readonly name: string }

/** Reads the options of a shedder. Throws an `InvalidOptionError` for a bad one. @internal */
export const check = (options: Named) => option.resolve("LoadShedder", options.name, loadShedderFields, options)

/** What a call said of itself: nonsense is a bug of the caller. */
const argumentsOrDie = (name: string, { cohort, cost = 1, priority }: LoadShedder.Call): LoadShedder.Call => {
  const refuse = (field: string, value: unknown, requirement: string) => {
    throw new option.InvalidOptionError("LoadShedder", name, field, value, requirement)
  }
  if (!Number.isInteger(cost) || cost < 1) refuse("cost", cost, "an integer of at least 1")
  if (priority !== undefined && !Priority.levels.includes(priority)) {
    refuse("priority", priority, `one of ${Priority.levels.join(", ")}`)
  }
  if (cohort !== undefined && !Predicate.isString(cohort)) refuse("cohort", cohort, "a string")
  return { cohort, cost, priority }
}

/** A call in line. */
class Place extends Turn<true | "Queue" | "QueueFull" | "TooManyPermits"> implements Waiter {
  place: Waiter["place"] = "Waiting"
  before: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  constructor(readonly permits: number, readonly rank: number) {
    super()
  }
}

/** The options that are thresholds of what a `SystemLoad` measures. */
const signals = ["cpu", "memory", "eventLoopDelay"] as const

/** Samples that may fail in a row before the pressure falls. */
const heldFor = 5
/** How often a sampler that goes on failing is told of. */
const tellEvery = toNanos("1 minute")

const build = (options: Named, site: string): Effect.Effect<LoadShedder.Service, never, Scope> =>
  Effect.gen(function*() {
    const resolved = yield* orDie(() => check(options))
    const { maxInFlight, maxQueueDepth, name } = { ...resolved, name: options.name }
    const system = Context.getOption(yield* Effect.context<never>(), SystemLoad)
    const instance = yield* openInstance<LoadShedder.Event>("LoadShedder", name)
    const { emitter } = instance
    const ended = { success: 0, failure: 0, ignored: 0 }
    const shed = { InFlight: 0, Queue: 0, Cpu: 0, Memory: 0, EventLoop: 0, Signal: 0 }
    let running = 0
    let rejected = 0
    let canceled = 0
    let latest: SystemLoad.Sample = {}

    const labels = metric.attributes("LoadShedder", name)
    const counted = metric.calls("LoadShedder", name, instance.enforced)
    const rejection = metric.rejections<LoadShedder.Reason>("LoadShedder", name, instance.enforced)
    metric.gauge("resilience.load_shedder.limit", "Calls that may be in flight", labels)(maxInFlight)
    const inFlight = metric.gauge("resilience.load_shedder.in_flight", "Calls in flight", labels)
    const depth = metric.gauge("resilience.load_shedder.queue.depth", "Calls that wait", labels)
    const pressureOf = metric.gauge("resilience.load.pressure", "Pressure of the signals, 0 to 1", labels)
    const levelOf = metric.gauge("resilience.load_shedder.level", "0 normal, 1 elevated, 2 high, 3 critical", labels)
    levelOf(0)
    depth(0)

    const permits = new Permits(maxInFlight, maxQueueDepth, new Waiters("adaptive"))
    const own = new Shed(permits, resolved.shares, resolved.recoverAt)
    const read = Ref.get(yield* Ref.make(own))

    // The line is empty most of the time: a gauge is set where it changes.
    let shown = 0
    /** After each change of what is in flight, in line, or of the pressure. */
    const show = (self: Shed) => {
      inFlight(self.permits.used)
      if (self.permits.waiting !== shown) depth(shown = self.permits.waiting)
      const from = self.changeLevel()
      if (from === undefined) return
      levelOf(levels.indexOf(self.level))
      if (emitter.listening) {
        const { level: to, load: pressure, permits: { used: active } } = self
        emitter.emit({ _tag: "LevelChanged", active, pressure, from, to })
      }
    }

    // Building an error is most of what a rejection costs, and under load the same is said many times.
    let last: LoadShedError | undefined
    const errorOf = (reason: LoadShedder.Reason, priority: Priority.Level, active: number, pressure: number) =>
      last?.reason === reason && last.priority === priority && last.active === active && last.pressure === pressure ?
        last :
        (last = stackless(() =>
          new LoadShedError({ instance: name, reason, retryAfter: Option.none(), priority, active, pressure }, true)
        ))
    /** Turns a call away: counted, and told. */
    const refusal = (self: Shed, reason: LoadShedder.Reason, priority: Priority.Level): LoadShedError => {
      rejected++
      shed[reason]++
      counted.rejected()
      rejection(reason)
      const { load: pressure, permits: { used: active } } = self
      if (emitter.listening) emitter.emit({ _tag: "Shed", ...emitter.call(), reason, priority, active, pressure })
      return errorOf(reason, priority, active, pressure)
    }
    const refuse = (self: Shed, reason: LoadShedder.Reason, priority: Priority.Level) =>
      Exit.fail(refusal(self, reason, priority))
    const entered = (self: Shed) => {
      running++
      show(self)
      if (emitter.listening) {
        emitter.emit({ _tag: "Accepted", ...emitter.call(), active: self.permits.used, pressure: self.load })
      }
    }
    const leave = (self: Shed, cost: number, outcome: Outcome) => {
      // The order of an empty line asks for no time.
      self.permits.release(cost, self.permits.waiting > 0 ? now() : 0n)
      running--
      ended[outcome]++
      counted[outcome]()
      show(self)
    }

    const maxWait = toNanos(resolved.maxQueueWait)
    const target = Duration.toMillis(resolved.eventLoopDelay)
    const sampledLag = () => latest.eventLoopDelay === undefined ? 0 : Duration.toMillis(latest.eventLoopDelay)
    const lagOf = system._tag === "Some" ? system.value.eventLoopLag ?? sampledLag : () => 0
    /** The pressure of the event loop at this moment. */
    const loopOf = (self: Shed) => self.late(lagOf() / target)

    /** Lets a call in, or has it wait under `restore`; `known` is its cohort. Uninterruptible. */
    const enter = <A, E, R>(
      { cost = 1, priority }: LoadShedder.Call,
      known: number | undefined,
      restore: Restore,
      onEntered: () => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | LoadShedError, R> => {
      const admit = (self: Shed, cohort: number, loop: number): Effect.Effect<A, E | LoadShedError, R> => {
        const fiber = Fiber.getCurrentFiber()
        const level = priority ?? (fiber._tag === "Some" ? priorityOf(fiber.value) : "normal")
        const rank = Priority.rank(level)
        const deadline = fiber._tag === "Some" ? deadlineOf(fiber.value) : undefined
        // Its time is over, wherever it spent it: nothing that starts now can be of use.
        if (deadline !== undefined && deadline.at <= now()) return refuse(self, "Queue", level)
        const verdict = self.admit(cost, rank, cohort, loop, now)
        if (verdict === true) {
          entered(self)
          return onEntered()
        }
        if (verdict !== "Wait") return refuse(self, verdict, level)
        if (fiber._tag === "None") return refuse(self, "Queue", level)
        return wait(self, fiber.value, level, new Place(cost, rank), restore, onEntered)
      }
      return Effect.flatMap(read, (self) => {
        const loop = loopOf(self)
        if (known !== undefined) return admit(self, known, loop)
        if (self.pressure.value === 0 && loop === 0) return admit(self, 0, 0)
        // A call of no cohort is shed by chance, drawn only where it matters; then the state is read anew.
        return Effect.flatMap(Random.next, (drawn) => Effect.flatMap(read, (self) => admit(self, drawn, loop)))
      })
    }

    const wait = <A, E, R>(
      self: Shed,
      fiber: Fiber.RuntimeFiber<unknown, unknown>,
      level: Priority.Level,
      place: Place,
      restore: Restore,
      onEntered: () => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | LoadShedError, R> => {
      const { permits } = self
      const clock = clockOf(fiber)
      const since = clock.unsafeCurrentTimeNanos()
      if (permits.waiting === 0) self.standing = since
      permits.enqueue(place, since)
      show(self)
      const leaveLine = () => {
        permits.abandon(place, clock.unsafeCurrentTimeNanos())
        show(self)
      }
      // CoDel: a line that drains is a burst, and worth a wait; one that stands is overload, and is kept short.
      const span = since - self.standing >= persistence ? maxWait / 10n : maxWait
      return waitInLine(fiber, span, place, restore, {
        expired: (): "Queue" => {
          permits.abandon(place, clock.unsafeCurrentTimeNanos())
          return "Queue"
        },
        decided: (verdict, _waited, late): Effect.Effect<A, E | LoadShedError, R> => {
          if (verdict === true && !late) {
            entered(self)
            return onEntered()
          }
          leaveLine()
          return refuse(self, "Queue", level)
        },
        interrupted: () => {
          leaveLine()
          canceled++
          counted.canceled()
        }
      })
    }

    const handlersFor = (cost: number): Handlers => ({
      onSuccess: (value) =>
        Effect.map(read, (self) => {
          leave(self, cost, "success")
          return value
        }),
      onFailure: (cause) =>
        Effect.flatMap(read, (self) => {
          const exit = Exit.failCause(cause)
          leave(self, cost, classify(exit))
          return exit
        })
    })
    const known = ({ cohort }: LoadShedder.Call) => cohort === undefined ? undefined : cohortOf(cohort)
    const guard = (call: LoadShedder.Call): Guard<LoadShedError> => {
      const handlers = handlersFor(call.cost ?? 1)
      const cohort = known(call)
      return hold<LoadShedError>((restore, run) => enter(call, cohort, restore, () => run(handlers)))
    }

    /** The scoped form. */
    const acquire = (call: LoadShedder.Call): Effect.Effect<void, LoadShedError, Scope> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.zipRight(
          enter(call, known(call), restore, () => Effect.void),
          onClose((exit) => Effect.map(read, (self) => leave(self, call.cost ?? 1, classify(exit))))
        )
      )

    const atOnce: EnterAtOnce<LoadShedError, string | undefined> = (arrival, cohort) => {
      const loop = loopOf(own)
      // Who is in no cohort is shed by chance, which is drawn by `acquire`.
      if (isTooLate(arrival) || (cohort === undefined && (own.pressure.value > 0 || loop > 0))) return undefined
      const level = arrival.priority
      const verdict = own.admit(1, Priority.rank(level), cohort === undefined ? 0 : cohortOf(cohort), loop, now)
      if (verdict === "Wait") return undefined
      if (verdict !== true) return refusal(own, verdict, level)
      entered(own)
      return (outcome) => {
        leave(own, 1, outcome)
        return Effect.void
      }
    }

    const take = (sample: SystemLoad.Sample) =>
      Effect.map(read, (self) => {
        latest = sample
        const part = (value: number | undefined, of: number | false) =>
          value === undefined || of === false ? 0 : value / of
        self.observe(
          {
            Cpu: part(sample.cpu, resolved.cpu),
            Memory: part(sample.memory, resolved.memory)
          },
          sample.signal ?? 0,
          sampledLag() / target
        )
        pressureOf(self.signals)
        show(self)
      })
    const thresholds = signals.filter((signal) => options[signal] !== undefined && options[signal] !== false)
    if (system._tag === "None" && thresholds.length > 0) {
      yield* emitter.internalError(
        "Sampler",
        `${thresholds.join(", ")} given, and no SystemLoad is there to measure it: provide one to the layer, ` +
          `such as NodeSystemLoad.Live`
      )
    }
    if (system._tag === "Some") {
      // A sampler that fails says nothing about the system: what it said last holds for a while, then the pressure falls.
      let failed = 0
      let told: Nanos | undefined
      const tick = system.value.sample.pipe(
        Effect.timeoutFail({
          duration: Duration.times(resolved.sampleEvery, 10),
          onTimeout: () => new Error("the sample took too long")
        }),
        Effect.exit,
        Effect.flatMap((exit) => {
          if (Exit.isSuccess(exit)) {
            failed = 0
            return take(exit.value)
          }
          const next = ++failed > heldFor ? take({}) : Effect.void
          const time = now()
          if (told !== undefined && time - told < tellEvery) return next
          told = time
          return Effect.zipRight(emitter.internalError("Sampler", Cause.squash(exit.cause)), next)
        })
      )
      yield* Effect.forkScoped(
        Effect.interruptible(Effect.forever(Effect.zipRight(tick, Effect.sleep(resolved.sampleEvery))))
      )
    }

    const metrics = Effect.map(read, (self): LoadShedder.Metrics => {
      const { permits } = self
      return {
        level: self.level,
        pressure: self.signals,
        load: self.load,
        system: latest,
        limit: permits.limit,
        active: permits.used,
        peak: permits.peak,
        waiting: permits.waiting,
        queueLimit: permits.maxQueued,
        utilization: permits.used / permits.limit,
        shed: { ...shed },
        ...callMetrics({
          succeeded: ended.success,
          failed: ended.failure,
          ignored: ended.ignored,
          running,
          rejected,
          canceled
        })
      }
    })
    yield* register({ pattern: "LoadShedder", instance: name, site, snapshot: metrics, actions: {} })
    const service: LoadShedder.Service = {
      name,
      withShedding: guard({}),
      withSheddingBy: (call) => guard(argumentsOrDie(name, call)),
      acquire: acquire({}),
      acquireBy: (call) => Effect.suspend(() => acquire(argumentsOrDie(name, call))),
      wouldAdmit: Effect.map(read, (self) => {
        const fiber = Fiber.getCurrentFiber()
        const rank = Priority.rank(fiber._tag === "Some" ? priorityOf(fiber.value) : "normal")
        return !isShed(Math.max(self.pressure.value, loopOf(self)), rank, 1) && self.hasRoom(rank, now)
      }),
      level: Effect.map(read, ({ level }) => level),
      metrics,
      ...instance.observable
    }
    return lettingInAtOnce(service, atOnce)
  })

const noMetrics: LoadShedder.Metrics = {
  level: "normal",
  pressure: 0,
  load: 0,
  system: {},
  limit: Infinity,
  active: 0,
  peak: 0,
  waiting: 0,
  queueLimit: 0,
  utilization: 0,
  shed: { InFlight: 0, Queue: 0, Cpu: 0, Memory: 0, EventLoop: 0, Signal: 0 },
  ...noCalls
}

const Tag: <Self>() => <const Name extends string>(
  name: Name,
  options?: LoadShedder.Options
) =>
  & TagClass<Self, `@effect-resilience/LoadShedder/${Name}`, LoadShedder.Service, LoadShedder.Options>
  & LoadShedder.Operations<Self>
  & OnLayer<LoadShedder.Event, Self> = makeTag<LoadShedder.Operations, LoadShedder.Options>({
    pattern: "LoadShedder",
    make: build,
    check,
    noop: (name): LoadShedder.Service => ({
      name,
      withShedding: passThrough,
      withSheddingBy: () => passThrough,
      acquire: Effect.void,
      acquireBy: () => Effect.void,
      wouldAdmit: Effect.succeed(true),
      level: Effect.succeed("normal"),
      metrics: Effect.succeed(noMetrics),
      ...silent
    }),
    accessors: {
      withShedding: "guard",
      withSheddingBy: "curried",
      acquire: "effect",
      acquireBy: "method",
      wouldAdmit: "effect",
      level: "effect",
      metrics: "effect",
      events: "stream",
      subscribe: "effect",
      on: "method"
    }
  }, callSite)

/**
 * The load shedder. `LoadShedder` is the default instance, `LoadShedder.Tag` makes named ones. Where a `SystemLoad` is in
 * the context when the layer is built, its signals count; without it only what is in flight does.
 *
 * @example
 * import { LoadShedder } from "@effect-resilience/core"
 * import { NodeSystemLoad } from "@effect-resilience/core/node"
 * import { Effect, Layer } from "effect"
 *
 * class Api extends LoadShedder.Tag<Api>()("api", { maxInFlight: 200 }) {}
 *
 * declare const handler: Effect.Effect<string>
 *
 * const program = handler.pipe(Api.withShedding)
 *
 * const layer = Api.Live.pipe(Layer.provide(NodeSystemLoad.Live))
 *
 * @since 0.1.0
 * @category models
 */
export class LoadShedder extends Tag<LoadShedder>()("default") {
  /** Named instances: `class Api extends LoadShedder.Tag<Api>()("api", { maxInFlight: 200 }) {}`. */
  static readonly Tag = Tag
  /** An instance that is nobody's service. */
  static readonly make = (options: Named): Effect.Effect<LoadShedder.Service, never, Scope> =>
    build(options, callSite())
  /** The events as a schema for the wire. */
  static readonly Event = Event
}

/**
 * @since 0.1.0
 */
export declare namespace LoadShedder {
  /**
   * @since 0.1.0
   * @category models
   */
  export type Reason = typeof Reason.Type

  /**
   * From 60, 75 and 90 % of the load on; each is left again when the load has fallen below `recoverAt` of that.
   *
   * @since 0.1.0
   * @category models
   */
  export type Level = typeof Level.Type

  /**
   * @since 0.1.0
   * @category events
   */
  export type Event = typeof Event.Type

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** What may be in flight at once. At least 1. Defaults to `1000`. */
    readonly maxInFlight?: number | undefined
    /**
     * Calls that may wait when `maxInFlight` is reached; `0` sheds at once. When it is full, a call of a higher priority
     * pushes out the newest of the lowest. Defaults to `500`.
     */
    readonly maxQueueDepth?: number | undefined
    /**
     * How long a call may wait, a tenth of it once somebody has been waiting all the time for 100 ms, cut at the ambient
     * `Deadline`. Defaults to `"100 millis"`.
     */
    readonly maxQueueWait?: Duration.DurationInput | undefined
    /**
     * The part of `maxInFlight` up to which a class is let in, 0 to 1: one call at least, unless it is `0`. A class with
     * less than all never waits. None may
     * lie below that of a less important class. Defaults to `1` for critical, high and normal, `0.8` for low and `0.5`
     * for sheddable.
     */
    readonly shares?: { readonly [L in Priority.Level]?: number } | undefined
    /**
     * Processor time in use from which calls are shed, above 0 to 1; `false` does not look at it, where a process may use
     * all there is. Defaults to `0.85`.
     */
    readonly cpu?: number | false | undefined
    /** Memory in use from which calls are shed, above 0 to 1. Defaults to `0.85`. */
    readonly memory?: number | undefined
    /**
     * How long calls may wait for the event loop. While its least lag over 100 ms has reached this, by two samples, calls
     * that have waited longer are shed: normal ones from this on and all of them at twice as much, as in CoDel. What is ten
     * times as late is shed at once. Defaults to `"5 millis"`.
     */
    readonly eventLoopDelay?: Duration.DurationInput | undefined
    /** The part of a threshold below which a signal, or a level, has recovered, above 0 to 1. Defaults to `0.8`. */
    readonly recoverAt?: number | undefined
    /**
     * How often the signals are read. With each reading of `cpu` or `memory` over its threshold the pressure rises by 0.1,
     * with each after both have recovered it falls by 0.05. Defaults to `"200 millis"`.
     */
    readonly sampleEvery?: Duration.DurationInput | undefined
  }

  /**
   * What a call says of itself.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Call {
    /** How important it is. Defaults to the ambient `Priority`. */
    readonly priority?: Priority.Level | undefined
    /** How much of `maxInFlight` it takes. Defaults to `1`. */
    readonly cost?: number | undefined
    /**
     * Who calls: under pressure the same callers of a class are shed, here and wherever the same name is given. Defaults
     * to chance.
     */
    readonly cohort?: string | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Operations<Env = never> extends Observable<Event, Env> {
    /** Runs the effect, if it is let in by its ambient `Priority`. */
    readonly withShedding: Guard<LoadShedError, Env>
    /** Runs the effect, if a call that is as it says is let in. */
    readonly withSheddingBy: (call: Call) => Guard<LoadShedError, Env>
    /** Is in flight for the length of the scope: for a response that is still being sent. */
    readonly acquire: Effect.Effect<void, LoadShedError, Scope | Env>
    /** Is in flight for the length of the scope, if a call that is as it says is let in. */
    readonly acquireBy: (call: Call) => Effect.Effect<void, LoadShedError, Scope | Env>
    /** Whether a call of the ambient priority could be let in, or wait, now. A hint: it reserves nothing. */
    readonly wouldAdmit: Effect.Effect<boolean, never, Env>
    readonly level: Effect.Effect<Level, never, Env>
    readonly metrics: Effect.Effect<Metrics, never, Env>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service extends Operations {
    readonly name: string
  }

  /**
   * @since 0.1.0
   * @category metrics
   */
  export interface Metrics extends CallMetrics {
    readonly level: Level
    /** What the signals come to, 0 to 1. */
    readonly pressure: number
    /** `pressure` or `utilization`, whichever is more. */
    readonly load: number
    /** The latest sample of the system. */
    readonly system: SystemLoad.Sample
    readonly limit: number
    readonly active: number
    /** The most that was in flight at once. */
    readonly peak: number
    readonly waiting: number
    readonly queueLimit: number
    /** `active / limit`. */
    readonly utilization: number
    /** `rejected` by reason. */
    readonly shed: { readonly [R in Reason]: number }
  }
}

/**
 * The default instance.
 *
 * @since 0.1.0
 * @category layers
 */
export const LoadShedderLive = LoadShedder.Live
