/**
 * All live instances: what they are, how they do, and what an operator may do to them.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import { unregistered } from "./internal/unregistered.js"

/**
 * There is no live instance of this pattern and name in the registry.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnknownInstanceError
  extends Schema.TaggedError<UnknownInstanceError>("@effect-resilience/UnknownInstanceError")("UnknownInstanceError", {
    pattern: Schema.String,
    instance: Schema.String,
    /** The instances of this pattern that there are. */
    known: Schema.Array(Schema.String)
  })
{
  override get message() {
    return `There is no ${this.pattern} "${this.instance}" in the Registry; there are: ${
      this.known.join(", ") || "none"
    }`
  }
}

/**
 * The pattern has no such action, or refuses its input.
 *
 * @since 0.1.0
 * @category errors
 */
export class ActionError extends Schema.TaggedError<ActionError>("@effect-resilience/ActionError")("ActionError", {
  pattern: Schema.String,
  instance: Schema.String,
  action: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.pattern} "${this.instance}": action ${this.action}: ${this.problem}`
  }
}

const make: Effect.Effect<Registry.Service> = Effect.sync(() => {
  const entries = new Set<Registry.Entry>()
  const find = (pattern: string, instance: string) =>
    [...entries].filter((entry) => entry.pattern === pattern && entry.instance === instance)

  const get = (pattern: string, instance: string) =>
    Effect.suspend(() => {
      const entry = find(pattern, instance)[0]
      return entry === undefined
        ? new UnknownInstanceError({
          pattern,
          instance,
          known: [...entries].filter((e) => e.pattern === pattern).map((e) => e.instance)
        })
        : Effect.succeed(entry)
    })

  return {
    register: (entry) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          const twin = find(entry.pattern, entry.instance)[0]
          entries.add(entry)
          return twin === undefined ? Effect.void : Effect.logWarning(
            `A second live ${entry.pattern} "${entry.instance}": names are unique in a process, and these two do not ` +
              `share their state.\n  first:  ${twin.site}\n  second: ${entry.site}`
          ).pipe(Effect.annotateLogs({ package: "@effect-resilience/core", pattern: entry.pattern }))
        }),
        () => Effect.sync(() => entries.delete(entry))
      ),
    list: Effect.sync(() => [...entries]),
    get,
    snapshot: Effect.suspend(() =>
      Effect.map(
        Effect.forEach(entries, (entry) =>
          Effect.map(entry.snapshot, (metrics): Registry.InstanceSnapshot => ({
            pattern: entry.pattern,
            instance: entry.instance,
            site: entry.site,
            actions: Object.keys(entry.actions),
            metrics,
            ...(entry.settings === undefined ? {} : { settings: entry.settings })
          }))),
        (instances) => ({
          instances,
          duplicates: instances.filter((one, i) =>
            instances.findIndex((other) => other.pattern === one.pattern && other.instance === one.instance) !== i
          ).map(({ instance, pattern }) => ({ pattern, instance })),
          unregistered: unregistered.count,
          ...(unregistered.count === 0 ? {} : { hint: wiring })
        })
      )
    ),
    act: (pattern, instance, action, input, lasts) => {
      const on = (entry: Registry.Entry) => {
        const found = Object.hasOwn(entry.actions, action) ? entry.actions[action] : undefined
        const problem = (text: string) => new ActionError({ pattern, instance, action, problem: text })
        return found === undefined
          ? problem(`there is none of this name; there are: ${Object.keys(entry.actions).join(", ") || "none"}`)
          : Effect.mapError(found(input, lasts), (error) => problem(error.message))
      }
      return Effect.flatMap(get(pattern, instance), () =>
        // Who stops "payments" means all of it, where a name is there twice by mistake.
        Effect.map(
          Effect.forEach(find(pattern, instance), on),
          (reached): Registry.Reach =>
            reached.length > 0 && reached.every((one) => one === "fleet") ? "fleet" : "process"
        ))
    }
  }
})

const wiring = "Some instances were built where no Registry was in the context. Provide it outermost: " +
  "patterns.pipe(Layer.provideMerge(ResilienceLive))"

/**
 * The registry. Instances enter it when they are built in its presence, and leave it when their scope closes.
 *
 * @example
 * import { Registry } from "@effect-resilience/core"
 * import { Effect } from "effect"
 *
 * const everything = Effect.gen(function*() {
 *   const { instances } = yield* Registry.snapshot
 *   yield* Effect.log(instances)
 * })
 *
 * @since 0.1.0
 * @category models
 */
export class Registry extends Context.Tag("@effect-resilience/Registry")<Registry, Registry.Service>() {
  static readonly Live: Layer.Layer<Registry> = Layer.effect(Registry, make)

  /** Every instance with its metrics, the duplicates, and how many instances are not registered anywhere. */
  static readonly snapshot: Effect.Effect<Registry.Snapshot, never, Registry> = Effect.flatMap(
    Registry,
    (registry) => registry.snapshot
  )

  /** The live instances. */
  static readonly list: Effect.Effect<ReadonlyArray<Registry.Entry>, never, Registry> = Effect.flatMap(
    Registry,
    (registry) => registry.list
  )

  /**
   * Runs an operator's action, as `Registry.act("CircuitBreaker", "payments", "forceOpen", "30 seconds")`. `lasts` is for
   * what reaches other processes, as `Registry.Action` says. Tells whom it reached.
   */
  static readonly act = (
    pattern: string,
    instance: string,
    action: string,
    input?: unknown,
    lasts?: Duration.Duration
  ): Effect.Effect<Registry.Reach, UnknownInstanceError | ActionError, Registry> =>
    Effect.flatMap(Registry, (registry) => registry.act(pattern, instance, action, input, lasts))
}

/**
 * @since 0.1.0
 */
export declare namespace Registry {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Entry {
    readonly pattern: string
    readonly instance: string
    /** Where the instance, or its tag, was written. */
    readonly site: string
    /** The instance's `metrics`. */
    readonly snapshot: Effect.Effect<object>
    /** What the metrics are measured by and do not hold: thresholds, say. Defaults to nothing. */
    readonly settings?: object | undefined
    /** What an operator may do. */
    readonly actions: Readonly<Record<string, Action>>
    /**
     * What stands by the hand of operators, of what the input of an action names; what is over ends with the question.
     * Defaults to what nobody else changes.
     */
    readonly standing?: ((input: unknown) => Effect.Effect<Standing, Error>) | undefined
  }

  /**
   * What operators did to an instance, as it stands.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Standing {
    /**
     * What was done last in this process: another object each time, and nothing where something was done in another process
     * since. Who acts for a while puts back only what is still its own.
     */
    readonly act: object | undefined
    /** How long it lasts by itself; infinity where it has no end, or nothing is overridden. */
    readonly left: Duration.Duration
  }

  /**
   * What an operator may do. It checks its input, and fails with what is wrong with it.
   *
   * `lasts` is how long it is to last in other processes. Where these follow it, they keep the end with it, so that it is
   * over for all although the process that acted is gone. In this process whoever acts ends it, but for a circuit, which ends
   * it by itself. Without `lasts`, and where the input ends sooner, it lasts as without other processes. Succeeds with whom it
   * reached; nothing is `"process"`.
   *
   * @since 0.1.0
   * @category models
   */
  export type Action = (input: unknown, lasts?: Duration.Duration) => Effect.Effect<void | Reach, Error>

  /**
   * Whom an action reached: this process alone, or all that share the instance.
   *
   * @since 0.1.0
   * @category models
   */
  export type Reach = "process" | "fleet"

  /**
   * @since 0.1.0
   * @category models
   */
  export interface InstanceSnapshot {
    readonly pattern: string
    readonly instance: string
    /** Where the instance, or its tag, was written. */
    readonly site: string
    readonly actions: ReadonlyArray<string>
    readonly metrics: object
    /** What the metrics are measured by and do not hold: thresholds, say. */
    readonly settings?: object
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Snapshot {
    readonly instances: ReadonlyArray<InstanceSnapshot>
    /** Instances whose pattern and name another live instance has. */
    readonly duplicates: ReadonlyArray<{ readonly pattern: string; readonly instance: string }>
    /** Live instances of the process that no registry knows. */
    readonly unregistered: number
    /** How to wire them, where there are some. */
    readonly hint?: string
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    readonly register: (entry: Entry) => Effect.Effect<void, never, Scope>
    readonly list: Effect.Effect<ReadonlyArray<Entry>>
    readonly get: (pattern: string, instance: string) => Effect.Effect<Entry, UnknownInstanceError>
    readonly snapshot: Effect.Effect<Snapshot>
    readonly act: (
      pattern: string,
      instance: string,
      action: string,
      input?: unknown,
      lasts?: Duration.Duration
    ) => Effect.Effect<Reach, UnknownInstanceError | ActionError>
  }
}
