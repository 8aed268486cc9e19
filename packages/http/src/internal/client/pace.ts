import { RateLimitExceededError } from "@effect-resilience/core"
import { fromNanos, now, openKeyed, stackless, toNanos } from "@effect-resilience/core/extension"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import { parseList } from "structured-headers"
import type { Answer } from "./answers.js"

/*
 * The limits that servers tell of, obeyed before they have to say 429: what is left of a window is counted down here, and
 * who finds nothing left waits for the next.
 */

/** What a server said is left, and until when. @internal */
export interface Told {
  readonly remaining: number
  readonly resetAfter: Duration.Duration
}

/** What is left of the window of a server. Times are nanoseconds of the monotonic clock. @internal */
export interface Pace {
  readonly remaining: number
  readonly resetAt: bigint
}

const number = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,15}(\.\d+)?$/.test(text.trim()) ? Number(text) : undefined

const tightest = (told: ReadonlyArray<Told>): Told | undefined =>
  told.reduce<Told | undefined>(
    (least, one) => least === undefined || one.remaining < least.remaining ? one : least,
    undefined
  )

/** `"default";r=0;t=5`, one item for each policy. */
const ofFields = (text: string): Told | undefined => {
  try {
    return tightest(
      parseList(text).flatMap(([, parameters]) => {
        const remaining = parameters.get("r")
        const reset = parameters.get("t")
        return typeof remaining === "number" && typeof reset === "number"
          ? [{ remaining: Math.max(0, remaining), resetAfter: Duration.seconds(Math.max(0, reset)) }]
          : []
      })
    )
  } catch {
    return undefined
  }
}

/** `limit=100, remaining=0, reset=5`, as the seventh draft has it. */
const ofSeventh = (text: string): Told | undefined => {
  const remaining = number(/(?:^|[,\s])remaining=(\d+)/.exec(text)?.[1])
  const reset = number(/(?:^|[,\s])reset=(\d+)/.exec(text)?.[1])
  return remaining === undefined || reset === undefined ? undefined : { remaining, resetAfter: Duration.seconds(reset) }
}

/** Three fields. A reset that is no span is a time since 1970, in seconds or in milliseconds. */
const ofThree = (headers: Answer["headers"], prefix: string, time: number): Told | undefined => {
  const remaining = number(headers[`${prefix}remaining`])
  const reset = number(headers[`${prefix}reset`])
  if (remaining === undefined || reset === undefined) return undefined
  const seconds = reset > 1e11 ? (reset - time) / 1000 : reset > 1e9 ? reset - time / 1000 : reset
  return { remaining, resetAfter: Duration.seconds(Math.max(0, seconds)) }
}

/** What the fields of a response say of the server's limit, in any of the forms that there are. @internal */
export const toldBy = ({ headers }: Answer, time: number): Told | undefined => {
  const field = headers["ratelimit"]
  return (field === undefined ? undefined : ofFields(field) ?? ofSeventh(field)) ??
    ofThree(headers, "ratelimit-", time) ?? ofThree(headers, "x-ratelimit-", time)
}

/** A request goes out: at once, or after a wait. @internal */
export const depart = (pace: Pace | undefined, time: bigint): readonly [wait: bigint, next: Pace | undefined] => {
  if (pace === undefined || pace.resetAt <= time) return [0n, undefined]
  return pace.remaining >= 1 ? [0n, { ...pace, remaining: pace.remaining - 1 }] : [pace.resetAt - time, pace]
}

/** Two resets that are less than this apart are of one window: they come in whole seconds. */
const slack = 1_500_000_000n

/**
 * A server told what is left. Answers overtake each other: within a window the least counts, for requests on their way are
 * not in the others.
 *
 * @internal
 */
export const learn = (pace: Pace | undefined, told: Told, time: bigint): Pace => {
  const resetAt = time + toNanos(told.resetAfter)
  const isSameWindow = pace !== undefined && pace.resetAt > time && resetAt <= pace.resetAt + slack
  return isSameWindow
    ? { remaining: Math.min(pace.remaining, told.remaining), resetAt: resetAt > pace.resetAt ? resetAt : pace.resetAt }
    : { remaining: told.remaining, resetAt }
}

/** @internal */
export interface Pacer {
  /** Waits for the turn of a request, where that is soon. */
  readonly depart: (authority: string) => Effect.Effect<void, RateLimitExceededError>
  readonly learn: (authority: string, told: Told) => Effect.Effect<void>
}

const tooFar = (instance: string, wait: bigint) =>
  stackless(() =>
    new RateLimitExceededError({
      instance,
      reason: "Exceeded",
      retryAfter: Option.some(fromNanos(wait)),
      limit: 0,
      remaining: 0
    }, true)
  )

/** The paces of a client's servers. A server that is not held, because there are too many, is not paced. @internal */
export const openPacer = (options: {
  readonly name: string
  readonly maxWait: bigint
  /** A server that tells of a later reset is asked again after this. */
  readonly maxReset: Duration.Duration
  readonly left: Effect.Effect<bigint>
  readonly maxKeys: number
}): Effect.Effect<Pacer, never, Scope> =>
  Effect.map(
    openKeyed<{ pace: Pace | undefined }>({
      maxKeys: options.maxKeys,
      idleAfter: Duration.minutes(10),
      make: () => Effect.succeed({ pace: undefined }),
      evictable: ({ pace }, time) => pace === undefined || pace.resetAt <= time
    }),
    (table) => {
      const departs: Pacer["depart"] = (authority) =>
        Effect.flatMap(Effect.zip(table.get(authority), options.left), ([entry, left]) => {
          if (entry === undefined) return Effect.void
          const [wait, next] = depart(entry.pace, now())
          entry.pace = next
          if (wait === 0n) return Effect.void
          if (wait > options.maxWait || wait >= left) return Effect.fail(tooFar(options.name, wait))
          return Effect.zipRight(Effect.sleep(fromNanos(wait)), Effect.suspend(() => departs(authority)))
        })
      return {
        depart: departs,
        learn: (authority, told) =>
          Effect.map(table.get(authority), (entry) => {
            if (entry === undefined) return
            const resetAfter = Duration.min(told.resetAfter, options.maxReset)
            entry.pace = learn(entry.pace, { ...told, resetAfter }, now())
          })
      }
    }
  )
