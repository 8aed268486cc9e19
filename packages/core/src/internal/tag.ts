import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import type { ConfigOf, Guard } from "../Pattern.js"
import { InvalidOptionError, merge } from "./options.js"

/*
 * The tag factory: one class that is the default service, its namespace and its layers. The casts of this file are the
 * price of having them nowhere else; a port to Effect 4 rewrites this file.
 */

/**
 * How each operation of a service is lifted to the static side, checked against its type: an operation that is missing
 * or of another kind does not compile. `Effect` is tested before `Stream`, because in Effect 3 an effect is a stream.
 *
 * @internal
 */
export type Accessors<Operations> = {
  readonly [K in keyof Operations]: Operations[K] extends Effect.Effect<any, any, any> ? "effect"
    : Operations[K] extends Stream.Stream<any, any, any> ? "stream"
    : Operations[K] extends Guard<infer _E, infer _R> ? "guard"
    : Operations[K] extends (...args: any) => Effect.Effect<any, any, any> ? "method"
    : Operations[K] extends (...args: any) => Stream.Stream<any, any, any> ? "operator"
    : "curried"
}

type Lift = (tag: any, key: string) => unknown

/** A guard, whose guarded effect is built once for the instance it meets. */
const lifted = (tag: any, guardOf: (self: any) => Guard<any, any>) => (effect: Effect.Effect<any, any, any>) => {
  let met: unknown
  let built: Effect.Effect<any, any, any>
  return Effect.flatMap(tag, (self: any) => {
    if (self !== met) {
      met = self
      built = guardOf(self)(effect)
    }
    return built
  })
}

const lift: Record<"effect" | "stream" | "guard" | "method" | "operator" | "curried", Lift> = {
  effect: (tag, key) => Effect.flatMap(tag, (self: any) => self[key]),
  stream: (tag, key) => Stream.unwrap(Effect.map(tag, (self: any) => self[key])),
  guard: (tag, key) => lifted(tag, (self) => self[key]),
  method: (tag, key) => (...args: Array<unknown>) => Effect.flatMap(tag, (self: any) => self[key](...args)),
  operator: (tag, key) => (...args: Array<unknown>) =>
    Stream.unwrap(Effect.map(tag, (self: any) => self[key](...args))),
  curried: (tag, key) => (...args: Array<unknown>) => lifted(tag, (self) => self[key](...args))
}

/** @internal */
export interface Definition<Operations, Options extends object> {
  /** The pattern's name, part of the key of every tag. */
  readonly pattern: string
  /** Builds an instance. Bad options must have been found by `check`. */
  readonly make: (options: Options & { readonly name: string }, site: string) => Effect.Effect<any, never, any>
  /** Throws an `InvalidOptionError` for a bad option. What only `make` finds dies with one. */
  readonly check: (options: Options & { readonly name: string }) => unknown
  /** Lays options over those of the tag. Defaults to `merge`. */
  readonly merge?: (own: Options | undefined, over: Options | undefined) => Options
  /** An instance that lets everything through, or an effect that makes one. */
  readonly noop: (name: string) => unknown
  readonly accessors: Accessors<Operations>
}

/** @internal */
export const makeTag =
  <Operations, Options extends object>(definition: Definition<Operations, Options>, callSite: () => string) =>
  <Self>() =>
  (name: string, own?: Options): any => {
    const site = callSite()
    // The class that users derive from this one is the service's `Self`.
    // @effect-diagnostics-next-line classSelfMismatch:off
    class Tag extends Context.Tag(`@effect-resilience/${definition.pattern}/${name}`)<Self, any>() {}

    const all = (options?: Options) => ({ ...(definition.merge ?? merge<Options>)(own, options), name })
    const build = (options?: Options) =>
      Layer.scoped(
        Tag,
        Effect.suspend(() => definition.make(all(options), site)) as Effect.Effect<
          any,
          never,
          Scope
        >
      )
    // Layers are memoised by reference: `Live` is one, and `layer()` returns it.
    const Live = build()
    const layer = (options?: Options) => options === undefined ? Live : build(options)
    const layerConfig = (config: ConfigOf<Options>) =>
      layerFromConfig(config, (options) => definition.check(all(options)), build)
    const statics: Record<string, unknown> = {}
    for (const [key, kind] of Object.entries<keyof typeof lift>(definition.accessors as any)) {
      statics[key] = lift[kind](Tag, key)
    }
    if ("on" in statics) {
      statics["onLayer"] = (tag: any, handler: any) => Layer.scopedDiscard((statics["on"] as any)(tag, handler))
    }
    const noop = Effect.suspend(() => {
      const made = definition.noop(name)
      return Effect.isEffect(made) ? made as Effect.Effect<any> : Effect.succeed(made)
    })
    return Object.assign(Tag, {
      Live,
      layer,
      layerConfig,
      layerNoop: Layer.effect(Tag, noop),
      ...statics
    })
  }

/**
 * The layer of options that come from `Config`. Bad ones fail it, whether `check` finds them or the building.
 *
 * @internal
 */
export const layerFromConfig = <Options, A, E, R>(
  config: ConfigOf<Options>,
  check: (options: Options) => unknown,
  build: (options: Options) => Layer.Layer<A, E, R>
): Layer.Layer<A, E | ConfigError.ConfigError, R> =>
  Layer.unwrapEffect(Effect.map(
    Config.mapOrFail(unwrapConfig(config), (options: Options) => {
      const invalid = problem(() => check(options))
      return invalid === undefined ? Either.right(options) : Either.left(configError(invalid))
    }),
    (options) => Layer.catchAllCause(build(options), invalidToConfigError)
  ))

const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> =>
  Predicate.isRecord(value) && Object.getPrototypeOf(value) === Object.prototype

const hasConfig = (value: unknown): boolean =>
  Config.isConfig(value) || (isPlain(value) && Object.values(value).some(hasConfig))

/** A `Config` of what has `Config`s in it. `Config.unwrap` takes no values beside them. */
const unwrapConfig = (value: unknown): Config.Config<any> => {
  if (Config.isConfig(value)) return value
  if (!isPlain(value) || !hasConfig(value)) return Config.succeed(value)
  return Config.all(Object.fromEntries(Object.entries(value).map(([key, one]) => [key, unwrapConfig(one)])))
}

/** The invalid option that this finds, if any. */
const problem = (check: () => unknown): InvalidOptionError | undefined => {
  try {
    check()
    return undefined
  } catch (error) {
    if (error instanceof InvalidOptionError) return error
    throw error
  }
}

const configError = ({ field, message }: InvalidOptionError) => ConfigError.InvalidData([field], message)

/** Options from `Config` that the building found bad: a failure of the layer. */
const invalidToConfigError = <E>(cause: Cause.Cause<E>): Layer.Layer<any, E | ConfigError.ConfigError> =>
  Option.match(
    Cause.find(
      cause,
      (part) =>
        Cause.isDieType(part) && part.defect instanceof InvalidOptionError ? Option.some(part.defect) : Option.none()
    ),
    {
      onNone: () => Layer.failCause(cause),
      onSome: (invalid) => Layer.fail(configError(invalid))
    }
  )

/** Runs a check of options: a bad one becomes a defect. @internal */
export const orDie = <A>(check: () => A): Effect.Effect<A> => Effect.suspend(() => Effect.succeed(check()))
