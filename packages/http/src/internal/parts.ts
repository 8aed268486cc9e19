import type { RateLimiterStoreError, ResilienceError } from "@effect-resilience/core"
import {
  AdaptiveConcurrency,
  Backpressure,
  Bulkhead,
  CircuitBreaker,
  LoadShedder,
  RateLimiter,
  RateLimiterStore,
  RateLimitExceededError
} from "@effect-resilience/core"
import type { EnterAtOnce } from "@effect-resilience/core/extension"
import { assemble, consumeAtOnce, Enforced, enterAtOnce, metric } from "@effect-resilience/core/extension"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Scope } from "effect/Scope"
import type { HttpResilience } from "../HttpResilience.js"
import type { Arrival, Step, Ticket } from "./engine.js"
import { Refused } from "./engine.js"
import { longLivedName } from "./partChecks.js"
import type { Quota } from "./rateLimitHeaders.js"
import type { Look } from "./rejection.js"
import type { RequestInfo } from "./request.js"

const none: Ticket = {}

type Admission = Step["admit"]

/** The settings of a part that are about HTTP; the rest are those of its pattern. */
const split = <O extends HttpResilience.PartOptions>(part: O, detail: "minimal" | "full") => {
  const { dryRun, headers, message, retryAfter, status, ...options } = part
  const look: Look = {
    status,
    message,
    headers,
    retryAfter: retryAfter === undefined || retryAfter === "jittered" || typeof retryAfter === "function"
      ? retryAfter
      : Duration.decode(retryAfter),
    detail
  }
  return { dryRun: dryRun === true, look, options }
}

const refuse = (error: ResilienceError) => new Refused(error)

type Acquire = NonNullable<ReturnType<Admission>>

/** A pattern whose permit has no more to say than that it is held. */
const held = <E extends ResilienceError>(acquire: Effect.Effect<void, E, Scope>): Acquire =>
  Effect.mapBoth(acquire, { onSuccess: () => none, onFailure: refuse })

/** The same in one step: it is given back in one, too. `settles`: it has to be told how it went. */
const atOnce = (
  instance: object,
  find: ((request: RequestInfo) => Option.Option<string>) | undefined,
  { settles }: { readonly settles: boolean }
): Step["atOnce"] => {
  const enter: EnterAtOnce<ResilienceError, string | undefined> | undefined = enterAtOnce(instance)
  return enter && ((arrival) => {
    if (arrival.isLongLived) return undefined
    const entered = enter(arrival, find && Option.getOrUndefined(find(arrival.request)))
    return Predicate.isFunction(entered)
      ? { sent: (outcome) => entered(settles ? outcome : "success"), dropped: () => entered("ignored") }
      : entered && refuse(entered)
  })
}

/** Who stays is only let in: those that are idle are no load. */
const passed = (admit: Admission): Admission => (arrival) => {
  const acquire = admit(arrival)
  return arrival.isLongLived && acquire !== undefined ? Effect.scoped(acquire) : acquire
}

/** A permit that has to be told how it went. */
const settled = <E extends ResilienceError>(acquire: Effect.Effect<AdaptiveConcurrency.Permit, E, Scope>): Acquire =>
  Effect.mapBoth(acquire, { onSuccess: (permit): Ticket => ({ sent: permit.settle }), onFailure: refuse })

/** Admission by what is found of a request, where anything is looked for. */
const by = (
  find: ((request: RequestInfo) => Option.Option<string>) | undefined,
  acquire: Acquire,
  acquireBy: (found: string | undefined) => Acquire
): Admission => find === undefined ? () => acquire : ({ request }) => acquireBy(Option.getOrUndefined(find(request)))

/** The instance of a part. In a dry run it turns nobody away, and counts so. */
const make = <A>(dryRun: boolean, instance: Effect.Effect<A, never, Scope>) =>
  Effect.provideService(instance, Enforced, !dryRun)

/** Where nothing waits in a dry run. */
const unqueued = { maxQueued: 0 }

type Build<O> = (name: string, part: O, detail: "minimal" | "full") => Effect.Effect<Step, never, Scope>

/** @internal */
export const bulkhead: Build<HttpResilience.BulkheadOptions> = (name, { key, ...part }, detail) => {
  const { dryRun, look, options } = split(part, detail)
  return Effect.map(
    make(dryRun, Bulkhead.make({ ...options, ...(dryRun ? unqueued : {}), name })),
    (instance): Step => ({
      pattern: "Bulkhead",
      look,
      dryRun,
      atOnce: atOnce(instance, key, { settles: false }),
      admit: by(key, held(instance.acquire), (key) => held(instance.acquireBy({ key })))
    })
  )
}

/** Lets in by a step who stays, or who does not. */
const onlyFor = (isLongLived: boolean) => (step: Step): Step => ({
  ...step,
  atOnce: isLongLived ? undefined : step.atOnce,
  admit: (arrival: Arrival) => arrival.isLongLived === isLongLived ? step.admit(arrival) : undefined
})

/** The bulkhead of those that stay. @internal */
export const longLived: Build<HttpResilience.BulkheadOptions> = (name, part, detail) =>
  Effect.map(bulkhead(longLivedName(name), part, detail), onlyFor(true))

/** A bulkhead beside that of those that stay. @internal */
export const shortLived: Build<HttpResilience.BulkheadOptions> = (name, part, detail) =>
  Effect.map(bulkhead(name, part, detail), onlyFor(false))

/** @internal */
export const loadShedder: Build<HttpResilience.LoadShedderOptions> = (name, { cohort, ...part }, detail) => {
  const { dryRun, look, options } = split(part, detail)
  return Effect.map(
    make(
      dryRun,
      LoadShedder.make({
        ...options,
        // A server that answers as much as it can uses its processor up: only what has to wait for it is too much.
        cpu: options.cpu ?? false,
        ...(dryRun ? { maxQueueDepth: 0 } : {}),
        name
      })
    ),
    (instance): Step => ({
      pattern: "LoadShedder",
      look,
      dryRun,
      atOnce: atOnce(instance, cohort, { settles: false }),
      admit: passed(by(cohort, held(instance.acquire), (cohort) => held(instance.acquireBy({ cohort }))))
    })
  )
}

/** @internal */
export const backpressure: Build<HttpResilience.BackpressureOptions> = (name, part, detail) => {
  const { dryRun, look, options } = split(part, detail)
  return Effect.map(
    make(dryRun, Backpressure.make({ ...options, ...(dryRun ? { maxWait: 0 } : {}), name })),
    (instance): Step => {
      const admit = held(instance.acquire)
      return {
        pattern: "Backpressure",
        look,
        dryRun,
        admit: passed(() => admit)
      }
    }
  )
}

/** @internal */
export const adaptiveConcurrency: Build<HttpResilience.AdaptiveConcurrencyOptions> = (
  name,
  { key, ...part },
  detail
) => {
  const { dryRun, look, options } = split(part, detail)
  return Effect.map(
    make(dryRun, AdaptiveConcurrency.make({ ...options, ...(dryRun ? unqueued : {}), name })),
    (instance): Step => {
      const admit = by(key, settled(instance.acquire), (key) => settled(instance.acquireBy({ key })))
      return {
        pattern: "AdaptiveConcurrency",
        look,
        dryRun,
        atOnce: atOnce(instance, key, { settles: true }),
        admit: (arrival) => arrival.isLongLived ? undefined : admit(arrival)
      }
    }
  )
}

/** @internal */
export const circuitBreaker: Build<HttpResilience.CircuitBreakerOptions> = (name, part, detail) => {
  const { dryRun, look, options } = split(part, detail)
  return Effect.map(make(dryRun, CircuitBreaker.make({ ...options, name })), (instance): Step => {
    const admit = Effect.mapBoth(instance.acquire, {
      onSuccess: (permit): Ticket => ({ answered: permit.settle }),
      onFailure: refuse
    })
    return {
      pattern: "CircuitBreaker",
      look,
      dryRun,
      admit: () => admit
    }
  })
}

const quotaOf = (name: string, decision: RateLimiter.Decision): Quota => ({
  name,
  limit: decision.limit,
  window: decision.window,
  remaining: decision.remaining,
  resetAfter: decision.remaining > 0 ? decision.resetAfter : Duration.max(decision.retryAfter, decision.resetAfter)
})

/** A rate limit whose clients are known. */
type RateLimitPart = HttpResilience.RateLimitOptions & {
  readonly key: NonNullable<HttpResilience.RateLimitOptions["key"]>
  /** Whether header fields tell of it. */
  readonly isTold: boolean
}

/** @internal */
export const rateLimiter: Build<RateLimitPart> = (name, part, detail) => {
  const { cost, isTold, key, onMissingKey = "reject", rateFor, ...rest } = part
  const { dryRun, look, options } = split(rest, detail)
  const rejected = metric.rejections<"UnknownClient">("RateLimiter", name, !dryRun)
  const limiter = Effect.flatMap(
    Effect.serviceOption(RateLimiterStore),
    (store) => RateLimiter.make({ ...options, name, store: Option.getOrUndefined(store) })
  )
  return Effect.map(make(dryRun, limiter), (instance): Step => {
    let isWarned = false
    const warn = (hasAddress: boolean) =>
      Effect.suspend(() => {
        if (isWarned || hasAddress) return Effect.void
        isWarned = true
        return Effect.logWarning(
          `HttpResilience "${name}": a request has no key, and is turned away. Its server does not tell the address of a ` +
            "client: set `clientIp`, or the `key` of the rate limit"
        )
      })
    const told = (decision: RateLimiter.Decision): Ticket | Refused => {
      const quotas = isTold ? [quotaOf(name, decision)] : []
      return decision.allowed ? { quotas, decision } : new Refused(exceeded(name, decision), quotas)
    }
    const decide = (args: RateLimiter.Args): Effect.Effect<Ticket, Refused> =>
      Effect.matchEffect(instance.consume(args), {
        onFailure: (error: RateLimiterStoreError) => Effect.fail(new Refused(error)),
        onSuccess: (decision) => {
          const found = told(decision)
          return found instanceof Refused ? Effect.fail(found) : Effect.succeed(found)
        }
      })
    const argsOf = (id: string, request: RequestInfo): RateLimiter.Args => ({
      key: id,
      cost: cost?.(request),
      rate: rateFor?.(request)
    })
    const consume = consumeAtOnce(instance)
    return {
      pattern: "RateLimiter",
      look,
      dryRun,
      atOnce: consume && (({ request }) => {
        const found = key(request)
        // Who has no key is asked about below.
        const decision = Option.isNone(found) ? undefined : consume(argsOf(found.value, request))
        return decision && told(decision)
      }),
      admit: ({ request }) => {
        const found = key(request)
        if (Option.isNone(found) && onMissingKey === "skip") return undefined
        if (Option.isNone(found) && onMissingKey === "reject") {
          rejected("UnknownClient")
          return Effect.zipRight(
            warn(Option.isSome(request.remoteAddress)),
            Effect.fail(new Refused(unknownClient(name)))
          )
        }
        const id = Option.getOrElse(found, () => "unknown client")
        return decide(argsOf(id, request))
      }
    }
  })
}

const exceeded = (instance: string, { limit, remaining, retryAfter }: RateLimiter.Decision) =>
  limited({ instance, retryAfter: Option.some(retryAfter), limit, remaining })

const unknownClient = (instance: string) => limited({ instance, retryAfter: Option.none(), limit: 0, remaining: 0 })

/** Assembled: to construct an error is most of what a rejection costs, and there are many where there is one. */
const limited = (
  fields: Pick<RateLimitExceededError, "instance" | "retryAfter" | "limit" | "remaining">
): RateLimitExceededError =>
  assemble(RateLimitExceededError, {
    _tag: "RateLimitExceededError",
    pattern: "RateLimiter",
    reason: "Exceeded",
    ...fields
  })
