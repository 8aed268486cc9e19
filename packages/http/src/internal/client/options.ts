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

/** Hosts as a URL has them. */
const lowered = (propagate: option.Resolved<typeof propagateFields>) => ({
  ...propagate,
  hosts: propagate.hosts.map((host) => host.toLowerCase())
})

/** @internal */
export const heedFields = {
  maxWait: option.duration("1 second", { min: 0 }),
  maxReset: option.duration("5 minutes", { min: 0 })
} satisfies option.Fields<ResilientHttpClient.HeedOptions>

const pattern = "ResilientHttpClient"
const defaultWindow = Duration.seconds(30)
const maxWaitOf = option.parseDuration({ min: 0, infinite: true })

const seconds = (duration: DurationInput) => Duration.format(Duration.decode(duration))

/** How long a call may wait in the queue, where that is said and has an end. */
const longestWait = (bulkhead: Bulkhead.PoolOptions | false): Duration.Duration | undefined => {
  if (bulkhead === false || bulkhead.maxWait === undefined) return undefined
  const maxWait = maxWaitOf(bulkhead.maxWait)
  return Duration.isFinite(maxWait) ? maxWait : undefined
}

interface Limits {
  readonly timeout: Duration.Duration | false
  readonly attemptTimeout: Duration.Duration | false
  readonly retry: option.Resolved<typeof clientRetryFields> | false
  readonly circuitBreaker: CircuitBreaker.Options | false
  readonly bulkhead: Bulkhead.PoolOptions | false
}

const isTime = (duration: Duration.Duration | false | undefined): duration is Duration.Duration =>
  duration !== undefined && duration !== false
const shortest = (own: Duration.Duration, ...others: ReadonlyArray<Duration.Duration | false | undefined>) =>
  others.filter(isTime).reduce(Duration.min, own)
const longest = (own: Duration.Duration, ...others: ReadonlyArray<Duration.Duration | false | undefined>) =>
  others.filter(isTime).reduce(Duration.max, own)

/** The limits with defaults that make way for what was said: only what was said can contradict itself. */
const fitted = (given: ResilientHttpClient.Options, limits: Limits): Limits => {
  const { bulkhead, circuitBreaker } = limits
  const said = given.retry === false || given.retry === undefined ? {} : given.retry
  const ifSaid = <A>(input: unknown, value: A): A | undefined => input === undefined ? undefined : value

  const initialDelay = limits.retry === false ? undefined : ifSaid(said.initialDelay, limits.retry.initialDelay)
  const ownTimeout = ifSaid(given.timeout, limits.timeout)
  const timeout = ownTimeout ?? (isTime(limits.timeout)
    ? longest(
      limits.timeout,
      ifSaid(given.attemptTimeout, limits.attemptTimeout),
      longestWait(bulkhead),
      initialDelay
    )
    : limits.timeout)

  const window = circuitBreaker === false ? undefined : circuitBreaker.window
  const half = window !== undefined && "duration" in window
    ? Duration.times(Duration.decode(window.duration), 0.5)
    : undefined
  const attemptTimeout = given.attemptTimeout === undefined && isTime(limits.attemptTimeout)
    ? shortest(limits.attemptTimeout, ownTimeout, half)
    : limits.attemptTimeout
  const grown = circuitBreaker === false || window !== undefined || !isTime(attemptTimeout)
    ? circuitBreaker
    : { ...circuitBreaker, window: { duration: longest(defaultWindow, Duration.times(attemptTimeout, 2)) } }

  if (limits.retry === false) return { ...limits, timeout, attemptTimeout, circuitBreaker: grown }
  const first = initialDelay ??
    shortest(limits.retry.initialDelay, ownTimeout, ifSaid(said.maxDelay, limits.retry.maxDelay))
  const maxDelay = said.maxDelay === undefined ? longest(limits.retry.maxDelay, first) : limits.retry.maxDelay
  const retry = { ...limits.retry, initialDelay: first, maxDelay }
  return { ...limits, timeout, attemptTimeout, circuitBreaker: grown, retry }
}

/** What several options say together must make sense. */
const agree = (name: string, { attemptTimeout, bulkhead, circuitBreaker, retry, timeout }: Limits) => {
  const refuse = (field: string, value: unknown, requirement: string): never => {
    throw new option.InvalidOptionError(pattern, name, field, value, requirement)
  }
  if (timeout !== false) {
    const most = `at most timeout (${seconds(timeout)})`
    if (attemptTimeout !== false && Duration.greaterThan(attemptTimeout, timeout)) {
      refuse("attemptTimeout", attemptTimeout, most)
    }
    const maxWait = longestWait(bulkhead)
    if (maxWait !== undefined && Duration.greaterThan(maxWait, timeout)) refuse("bulkhead.maxWait", maxWait, most)
    if (retry !== false && retry.maxAttempts > 1 && Duration.greaterThan(retry.initialDelay, timeout)) {
      refuse("retry.initialDelay", retry.initialDelay, most)
    }
  }
  if (retry !== false && Duration.greaterThan(retry.initialDelay, retry.maxDelay)) {
    refuse("retry.maxDelay", retry.maxDelay, `at least retry.initialDelay (${seconds(retry.initialDelay)})`)
  }
  const window = circuitBreaker === false ? undefined : circuitBreaker.window
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
    : lowered(option.resolve(pattern, `${name}/propagate`, propagateFields, { ...resolved.propagate }))
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
  const limits = fitted(options, { ...resolved, ...parts, retry })
  agree(name, limits)
  return { ...resolved, ...parts, ...limits, name, propagate, heed }
}

/** @internal */
export type Checked = ReturnType<typeof checkClient>
