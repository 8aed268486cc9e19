import * as Predicate from "effect/Predicate"
import type { Limit } from "../../Limit.js"
import { Priority } from "../../Priority.js"
import type { Simulation } from "../../testing.js"
import { fairField } from "../fair.js"
import { isLimit } from "../limits/isLimit.js"
import * as option from "../options.js"

type Table = Record<string, option.Field<any, any>>

const must = (text: string): never => {
  throw new option.Requirement(text)
}

const amount = option.parseNumber({ min: 0 })

/** What a function gave. It is looked at when it is asked, for only then it is known. */
const answered = (part: string, field: string, value: number): number => {
  if (Predicate.isNumber(value) && value >= 0 && value < Infinity) return value
  const text = `option ${field} must give numbers of at least 0, but gave ${option.show(value)}`
  throw new option.InvalidOptionError(
    "Simulation",
    part,
    field,
    value,
    "a function that gives numbers of at least 0",
    text
  )
}

const law = (part: string, field: string, fallback: number): option.Field<Simulation.Law | undefined, Simulation.Law> =>
  option.field<Simulation.Law | undefined, Simulation.Law>(
    fallback,
    (input) => typeof input === "function" ? (now) => answered(part, field, input(now)) : amount(input as number)
  )

/** An object with options of its own, or none. */
const nested = <F extends Table>(part: string, fields: F) =>
  option.field<object | undefined, option.Resolved<F> | undefined>(undefined, (input) => {
    if (input === undefined) return undefined
    if (!Predicate.isRecord(input)) return must("an object")
    return option.resolve("Simulation", part, fields, input as { readonly [K in keyof F]?: unknown })
  })

const millis = option.number(Infinity, { above: 0, infinite: true })

const text = option.field<string, string>("", (input) => Predicate.isString(input) ? input : must("a string"))

const arrivalFields = {
  rate: law("arrivals", "rate", NaN),
  priority: option.literal("normal", ...Priority.levels),
  key: option.optional(text)
} satisfies option.Fields<Simulation.ArrivalOptions>

const service = option.field<Simulation.Service | undefined, Simulation.Service>(
  undefined,
  (input) =>
    Predicate.isFunction(input)
      ? (random, at) => answered("server", "service", input(random, at))
      : must("a function, such as Service.deterministic(50)")
)

const spans = option.field<ReadonlyArray<Simulation.Span>, ReadonlyArray<Simulation.Span>>([], (input) => {
  const inOrder = Array.isArray(input) &&
    input.every((span, i) => span?.from >= 0 && span.to >= span.from && (i === 0 || span.from >= input[i - 1].to))
  return inOrder ? input : must("a list of spans { from, to }, one after the other")
})

const workersFields = {
  workers: option.integer(NaN, { min: 1 }),
  service,
  slowdown: law("server", "slowdown", 1),
  delay: law("server", "delay", 0),
  contention: option.number(0, { min: 0 }),
  failure: law("server", "failure", 0),
  down: law("server", "down", 0),
  stalls: spans
} satisfies option.Fields<Simulation.WorkersOptions>

const loopFields = {
  slices: option.integer(NaN, { min: 1 }),
  cpu: option.number(NaN, { above: 0 }),
  io: option.number(NaN, { min: 0 }),
  rejection: option.number(NaN, { min: 0 })
} satisfies option.Fields<Simulation.EventLoopOptions>

const parseServer = (input: Simulation.Server | undefined): Simulation.Server => {
  if (input?._tag === "Workers") {
    const { _tag, ...options } = input
    return { _tag, ...option.resolve("Simulation", "server", workersFields, options) }
  }
  if (input?._tag === "EventLoop") {
    const { _tag, ...options } = input
    return { _tag, ...option.resolve("Simulation", "server", loopFields, options) }
  }
  return must("Simulation.workers({ … }) or Simulation.eventLoop({ … })")
}

const retryFields = {
  retries: option.integer(NaN, { min: 0 }),
  delay: option.number(50, { min: 0 }),
  maxDelay: option.number(5000, { min: 0 }),
  jitter: option.literal("full", "full", "equal", "none"),
  rejected: option.boolean(true),
  budget: nested(
    "budget",
    {
      tokensPerSuccess: option.number(0.1, { min: 0 }),
      maxTokens: option.number(50, { min: 0 }),
      minPerSecond: option.number(0, { min: 0 })
    } satisfies option.Fields<Simulation.BudgetOptions>
  )
} satisfies option.Fields<Simulation.RetryOptions>

const clientFields = {
  timeout: millis,
  deadline: millis,
  interrupt: option.boolean(false),
  retry: nested("retry", retryFields)
} satisfies option.Fields<Simulation.ClientOptions>

const queueFields = {
  size: option.integer(NaN, { min: 0 }),
  maxWait: option.number(100, { min: 0 }),
  order: option.literal("adaptive", "fifo", "lifo", "adaptive"),
  fair: option.field(fairField.default, (input: typeof fairField.default) => fairField.parse(input) ?? false)
} satisfies option.Fields<Simulation.QueueOptions>

const breakerFields = {
  failureRate: option.number(0.5, { above: 0, max: 1 }),
  consecutiveFailures: option.field<number | false, number | false>(
    5,
    (input) => input === false ? false : option.parseInteger({ min: 1 })(input)
  ),
  minimumCalls: option.integer(20, { min: 1 }),
  window: option.number(30_000, { above: 0 }),
  openDuration: option.number(5000, { above: 0 }),
  maxOpenDuration: option.number(60_000, { above: 0 }),
  halfOpenMaxCalls: option.integer(3, { min: 1 }),
  successThreshold: option.integer(2, { min: 1 }),
  rampUp: option.optional(option.number(NaN, { above: 0 }))
} satisfies option.Fields<Simulation.BreakerOptions>

const protectionFields = {
  limit: option.field<Limit.Any | undefined, Limit.Any | undefined>(
    undefined,
    (input) => input === undefined || isLimit(input) ? input : must("a Limit, such as Limit.fixed(16)")
  ),
  queue: nested("queue", queueFields),
  perKey: option.boolean(false),
  breaker: nested("breaker", breakerFields)
} satisfies option.Fields<Simulation.ProtectionOptions<any>>

const runFields = {
  seed: option.integer(0, {}),
  duration: option.number(NaN, { above: 0 }),
  sampleEvery: option.number(100, { above: 0 }),
  arrivals: option.field<ReadonlyArray<Simulation.ArrivalOptions>, ReadonlyArray<Simulation.ArrivalOptions>>(
    [],
    (input) =>
      Array.isArray(input) && input.length > 0
        ? input.map((one) => option.resolve("Simulation", "arrivals", arrivalFields, one))
        : must("a list of one stream or more, such as [{ rate: 100 }]")
  ),
  server: option.field<Simulation.Server | undefined, Simulation.Server>(undefined, parseServer),
  client: nested("client", clientFields),
  protection: nested("protection", protectionFields)
} satisfies option.Fields<Simulation.Options<any>>

/**
 * The options, read: with their defaults, and functions that are looked at when they are asked. A number that is none would
 * make a simulation run for ever, or tell nonsense, and so would a misspelt name. Throws an `InvalidOptionError` for the
 * first of them.
 *
 * @internal
 */
export const check = <State>(options: Simulation.Options<State>): Simulation.Options<any> => {
  const checked = option.resolve("Simulation", "run", runFields, options)
  const { protection } = checked
  if (protection?.queue !== undefined && protection.limit === undefined) {
    const needed = "given where there is a queue: without a limit nothing waits"
    throw new option.InvalidOptionError("Simulation", "protection", "limit", undefined, needed)
  }
  return checked
}

/** A number that is asked for: an index, a moment. @internal */
export const refuse = (part: string, field: string, value: unknown, requirement: string): never => {
  throw new option.InvalidOptionError("Simulation", part, field, value, requirement)
}
