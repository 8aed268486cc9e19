/**
 * Circuits that the processes of a fleet share.
 *
 * @since 0.1.0
 */
import type { ConfigOf } from "@effect-resilience/core"
import { SharedCircuits } from "@effect-resilience/core"
import { layerFromConfig, option, optionTables, orDie } from "@effect-resilience/core/extension"
import type { ConfigError } from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import { Fleet } from "./internal/circuit/fleet.js"
import { RedisConnection } from "./RedisConnection.js"

/** Names of instances: a bare string would be taken for a list of letters. */
const names = option.optional(
  option.field<ReadonlyArray<string>, ReadonlyArray<string>>([], (input) => {
    if (Array.isArray(input) && input.every((name) => typeof name === "string")) return input
    throw new option.Requirement("a list of names of circuit breakers")
  }),
  "—"
)

/** What the table of the documentation says. @internal */
export const circuitFields = {
  only: names,
  except: names,
  mode: option.literal("quorum", "quorum", "advisory"),
  quorum: option.integer(2, { min: 1 }),
  reportEvery: option.duration("1 second", { above: 0 }),
  probeLease: option.duration("1 minute", { above: 0 }),
  operators: option.literal("fleet", "fleet", "local")
} satisfies option.Fields<RedisCircuitBreaker.Options>

const ofBreaker: option.Elsewhere = {
  fields: optionTables.CircuitBreaker,
  where: () => "of each circuit breaker: give it to its Tag, or its layer"
}

const check = (options: RedisCircuitBreaker.Options) =>
  option.resolve("RedisCircuitBreaker", "circuits", circuitFields, { ...options }, ofBreaker)

const make = (
  options: RedisCircuitBreaker.Options
): Effect.Effect<SharedCircuits.Service, never, RedisConnection | Scope> =>
  Effect.gen(function*() {
    const { except, mode, only, operators, probeLease, quorum, reportEvery } = yield* orDie(() => check(options))
    const redis = yield* RedisConnection
    const run = Runtime.runSync(yield* Effect.runtime<never>())
    const advisory = mode === "advisory"
    // Circuits that only tell have a place of their own: they end without a probe.
    const prefix = `${redis.prefix}${advisory ? "ca" : "cb"}:`
    const channel = redis.channel(prefix)
    const fleet = new Fleet(
      prefix,
      (instance) => (only === undefined || only.includes(instance)) && except?.includes(instance) !== true,
      {
        redis,
        channel,
        advisory,
        probeLease: Duration.toMillis(probeLease),
        operators,
        quorum,
        run
      }
    )
    yield* redis.subscribe(channel, fleet)
    yield* Effect.forkScoped(Effect.schedule(Effect.sync(fleet.flush), Schedule.spaced(reportEvery)))
    return fleet
  })

/**
 * Circuit breakers that follow the circuit of their fleet. Provide the layer to those of the breakers, and nothing else of
 * the program changes:
 *
 * @example
 * import { CircuitBreaker } from "@effect-resilience/core"
 * import { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
 * import { Layer } from "effect"
 *
 * class Payments extends CircuitBreaker.Tag<Payments>()("payments") {}
 *
 * export const PaymentsShared = Payments.Live.pipe(
 *   Layer.provide(RedisCircuitBreaker.layer()),
 *   Layer.provide(RedisConnection.Live)
 * )
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisCircuitBreaker = {
  /** All circuit breakers that are built in its presence share their circuits by the name of the instance and the key. */
  layer: (options: RedisCircuitBreaker.Options = {}): Layer.Layer<SharedCircuits, never, RedisConnection> =>
    Layer.scoped(SharedCircuits, make(options)),
  /** `layer` with options from `Config`: each a value or a `Config`. A bad one fails the layer with a `ConfigError`. */
  layerConfig: (
    config: ConfigOf<RedisCircuitBreaker.Options>
  ): Layer.Layer<SharedCircuits, ConfigError, RedisConnection> =>
    layerFromConfig(config, check, RedisCircuitBreaker.layer)
}

/**
 * @since 0.1.0
 */
export declare namespace RedisCircuitBreaker {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** Names of the breakers that share their circuits. Defaults to all. */
    readonly only?: ReadonlyArray<string> | undefined
    /** Names of those that do not. Defaults to none. */
    readonly except?: ReadonlyArray<string> | undefined
    /**
     * `"quorum"`: every process opens when the fleet does. `"advisory"`: it only tells, by the event `FleetChanged`, the
     * metrics and a counter, when the fleet would have. Defaults to `"quorum"`.
     */
    readonly mode?: "quorum" | "advisory" | undefined
    /**
     * How many processes must fail for the fleet to open. Defaults to `2`: one sick process opens itself and nobody else,
     * and one that is alone needs no fleet. With `1` whoever opens first opens all.
     */
    readonly quorum?: number | undefined
    /** How often a process tells what it saw, and asks while something is open. Defaults to `"1 second"`. */
    readonly reportEvery?: Duration.DurationInput | undefined
    /**
     * How long a probe may take, and is waited for when its process died; `halfOpenTimeout` of the breaker where that is
     * less. One that takes longer is a failure. Defaults to `"1 minute"`.
     */
    readonly probeLease?: Duration.DurationInput | undefined
    /** Whether `forceOpen`, `disable`, `metricsOnly` and `reset` are for the whole fleet. Defaults to `"fleet"`. */
    readonly operators?: "fleet" | "local" | undefined
  }
}
