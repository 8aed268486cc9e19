import type { Bulkhead, CircuitBreaker, RateLimiter } from "@effect-resilience/core"
import { RetryBudget } from "@effect-resilience/core"
import { option, optionChecks } from "@effect-resilience/core/extension"
import type { DurationInput } from "effect/Duration"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import type { ResilientHttpClient } from "../../ResilientHttpClient.js"
import { idempotentMethods, outcomeOf, retryableStatuses } from "./answers.js"

const part = <O extends object>(fallback: O | false) =>
  option.field<O | false, O | false>(fallback, (input) => {
    if (input === false || Predicate.isRecord(input)) return input as O | false
    throw new option.Requirement("options or false")
  }, fallback === false ? "false" : "see below")

const list = <A>(fallback: ReadonlyArray<A>, is: (value: unknown) => value is A, what: string) =>
  option.field<ReadonlyArray<A>, ReadonlyArray<A>>(fallback, (input) => {
    if (Array.isArray(input) && input.every(is)) return input
    throw new option.Requirement(`a list of ${what}`)
  })

const isStatus = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 400 && Number(value) <= 599

/** A limit of time, or `false`. @internal */
export const limit = (fallback: DurationInput) => {
  const parse = option.parseDuration({ above: 0 })
  return option.field<DurationInput | false, Duration.Duration | false>(
    fallback,
    (input) => input === false ? false : parse(input)
  )
}

/** The options, their defaults and what they accept. @internal */
export const clientFields = {
  timeout: limit("30 seconds"),
  retry: part<ResilientHttpClient.RetryOptions>({}),
  circuitBreaker: part<CircuitBreaker.Options>({}),
  rateLimit: part<ResilientHttpClient.RateLimitOptions>(false),
  heedRateLimit: part<ResilientHttpClient.HeedOptions>(false),
  bulkhead: part<Bulkhead.PoolOptions>({}),
  attemptTimeout: limit("10 seconds"),
  bodyIdleTimeout: limit("30 seconds"),
  propagate: part<ResilientHttpClient.PropagateOptions>(false),
  maxAuthorities: option.integer(1000, { min: 1 })
} satisfies option.Fields<Omit<ResilientHttpClient.Options, "name">>

/** @internal */
export const clientRetryFields = {
  maxAttempts: option.integer(3, { min: 1 }),
  initialDelay: option.duration("200 millis", { min: 0 }),
  factor: option.number(2, { min: 1 }),
  maxDelay: option.duration("5 seconds", { min: 0 }),
  maxRetryAfter: option.duration("1 minute", { min: 0 }),
  methods: list(idempotentMethods, Predicate.isString, "methods"),
  statuses: list(retryableStatuses, isStatus, "statuses from 400 to 599"),
  idempotencyKey: option.boolean(false),
  replayableBody: option.boolean(false),
  budget: option.field<
    NonNullable<ResilientHttpClient.RetryOptions["budget"]>,
    NonNullable<ResilientHttpClient.RetryOptions["budget"]>
  >(
    { tokensPerSuccess: 0.2, minPerSecond: 3 },
    (input) => {
      if (input === false || Predicate.isRecord(input)) return input
      throw new option.Requirement("false, options of a budget or a RetryBudget")
    }
  )
} satisfies option.Fields<ResilientHttpClient.RetryOptions>

/** @internal */
export const propagateFields = {
  hosts: list([], Predicate.isString, "hosts"),
  deadline: option.field<string | false, string | false>("x-request-timeout-ms", (input) => {
    if (input === false || Predicate.isString(input)) return input
    throw new option.Requirement("the name of a header field or false")
  }),
  priority: option.field<string | false, string | false>("x-priority", (input) => {
    if (input === false || Predicate.isString(input)) return input
    throw new option.Requirement("the name of a header field or false")
  })
} satisfies option.Fields<ResilientHttpClient.PropagateOptions>

/** @internal */
export const heedFields = {
  maxWait: option.duration("1 second", { min: 0 }),
  maxReset: option.duration("5 minutes", { min: 0 })
} satisfies option.Fields<ResilientHttpClient.HeedOptions>

const pattern = "ResilientHttpClient"
const maxWaitOf = option.parseDuration({ min: 0, infinite: true })

const seconds = (duration: DurationInput) => Duration.format(Duration.decode(duration))

/** What several options say together must make sense. */
const agree = (
  { attemptTimeout, bulkhead, circuitBreaker, name, retry, timeout }: {
    readonly name: string
    readonly timeout: Duration.Duration | false
    readonly attemptTimeout: Duration.Duration | false
    readonly retry: option.Resolved<typeof clientRetryFields> | false
    readonly circuitBreaker: CircuitBreaker.Options | false
    readonly bulkhead: Bulkhead.PoolOptions | false
  }
) => {
  const refuse = (field: string, value: unknown, requirement: string): never => {
    throw new option.InvalidOptionError(pattern, name, field, value, requirement)
  }
  if (timeout !== false) {
    const most = `at most timeout (${seconds(timeout)})`
    if (attemptTimeout !== false && Duration.greaterThan(attemptTimeout, timeout)) {
      refuse("attemptTimeout", attemptTimeout, most)
    }
    if (
      bulkhead !== false && bulkhead.maxWait !== undefined && Duration.greaterThan(maxWaitOf(bulkhead.maxWait), timeout)
    ) {
      refuse("bulkhead.maxWait", Duration.decode(bulkhead.maxWait), most)
    }
    if (retry !== false && retry.maxAttempts > 1 && Duration.greaterThan(retry.initialDelay, timeout)) {
      refuse("retry.initialDelay", retry.initialDelay, most)
    }
  }
  if (retry !== false && Duration.greaterThan(retry.initialDelay, retry.maxDelay)) {
    refuse("retry.maxDelay", retry.maxDelay, `at least retry.initialDelay (${seconds(retry.initialDelay)})`)
  }
  const window = circuitBreaker === false ? undefined : circuitBreaker.window ?? { duration: "30 seconds" as const }
  if (window !== undefined && "duration" in window && attemptTimeout !== false) {
    const least = Duration.times(attemptTimeout, 2)
    if (Duration.lessThan(Duration.decode(window.duration), least)) {
      refuse(
        "circuitBreaker.window",
        Duration.decode(window.duration),
        `at least twice attemptTimeout (${
          seconds(least)
        }), or the failures of slow attempts are forgotten before they are counted`
      )
    }
  }
}

/** The options of a part laid over its own defaults, and read by its pattern now: what is wrong shows at once. */
const partOf = <O extends object>(
  name: string,
  check: (options: O & { readonly name: string }) => unknown,
  own: Partial<O>,
  given: O | false
): O | false => {
  if (given === false) return false
  const options: O = { ...given, ...option.merge<Partial<O>>(own, given) }
  check({ ...options, name })
  return options
}

/** The options of a client, read and agreed. Throws an `InvalidOptionError`. @internal */
export const checkClient = (options: ResilientHttpClient.Options) => {
  const { name } = options
  const resolved = option.resolve(pattern, name, clientFields, { ...options })
  const retry = resolved.retry === false
    ? false as const
    : option.resolve(pattern, `${name}/retry`, clientRetryFields, { ...resolved.retry })
  const propagate = resolved.propagate === false
    ? undefined
    : option.resolve(pattern, `${name}/propagate`, propagateFields, { ...resolved.propagate })
  const heed = resolved.heedRateLimit === false
    ? undefined
    : option.resolve(pattern, `${name}/heedRateLimit`, heedFields, { ...resolved.heedRateLimit })
  if (retry !== false && retry.budget !== false && !RetryBudget.isService(retry.budget)) {
    optionChecks.RetryBudget({ ...retry.budget, name })
  }
  const parts = {
    circuitBreaker: partOf<CircuitBreaker.Options>(
      name,
      optionChecks.CircuitBreaker,
      { consecutiveFailures: false, classify: outcomeOf },
      resolved.circuitBreaker
    ),
    rateLimit: partOf<RateLimiter.Options>(name, optionChecks.RateLimiter, { mode: "wait" }, resolved.rateLimit),
    bulkhead: partOf<Bulkhead.PoolOptions>(
      name,
      optionChecks.BulkheadPool,
      { maxConcurrent: 256, maxQueued: 256 },
      resolved.bulkhead
    )
  }
  agree({ ...resolved, ...parts, name, retry })
  return { ...resolved, ...parts, name, retry, propagate, heed }
}

/** @internal */
export type Checked = ReturnType<typeof checkClient>
