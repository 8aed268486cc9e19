import * as Duration from "effect/Duration"
import { serializeList } from "structured-headers"

/** What a limiter decided, as a header tells it. @internal */
export interface Quota {
  /** The name of the policy: printable ASCII. */
  readonly name: string
  readonly limit: number
  readonly window: Duration.Duration
  readonly remaining: number
  /** Until there is more, or all of it, as the algorithm has it. */
  readonly resetAfter: Duration.Duration
}

/**
 * The forms that there are: the fields of draft-ietf-httpapi-ratelimit-headers from its eighth edition on, those of the
 * seventh and the sixth, and what was there before, whose reset is a span (`"legacy"`) or a time in seconds since 1970
 * (`"legacy-epoch"`).
 *
 * @internal
 */
export const forms = ["draft-10", "draft-8", "draft-7", "draft-6", "legacy", "legacy-epoch"] as const
/** @internal */
export type Form = (typeof forms)[number]

/** Whole seconds, at least one: a client must not come back a fraction too early. @internal */
export const wholeSeconds = (duration: Duration.Duration): number =>
  Math.max(1, Math.ceil(Duration.toSeconds(duration) - 1e-9))

// A structured field's integer has fifteen digits.
const largest = 999_999_999_999_999
const integer = (value: number): number => Math.max(0, Math.min(largest, Math.floor(value)))
const seconds = (duration: Duration.Duration): number => Math.min(largest, wholeSeconds(duration))
/** Until the reset: nothing to wait for is none. */
const reset = (duration: Duration.Duration): number => Duration.toMillis(duration) <= 0 ? 0 : seconds(duration)

const lists = (quotas: ReadonlyArray<Quota>): Record<string, string> => ({
  "ratelimit-policy": serializeList(
    quotas.map(({ limit, name, window }) => [name, new Map([["q", integer(limit)], ["w", seconds(window)]])])
  ),
  "ratelimit": serializeList(
    quotas.map((
      { name, remaining, resetAfter }
    ) => [name, new Map([["r", integer(remaining)], ["t", reset(resetAfter)]])])
  )
})

/** The older forms know one policy: the one that has least left. */
const tightest = (quotas: readonly [Quota, ...Array<Quota>]): Quota =>
  quotas.reduce((least, quota) =>
    quota.remaining < least.remaining ||
      (quota.remaining === least.remaining && Duration.greaterThan(quota.resetAfter, least.resetAfter))
      ? quota
      : least
  )

/** Header fields of a response on whose request these were decided. @internal */
export const rateLimitHeaders = (
  quotas: ReadonlyArray<Quota>,
  wanted: ReadonlyArray<Form>,
  /** Milliseconds since 1970. */
  time: number
): Record<string, string> => {
  const [first, ...rest] = quotas
  if (first === undefined) return {}
  const { limit, remaining, resetAfter, window } = tightest([first, ...rest])
  const three = (prefix: string, at: number) => ({
    [`${prefix}limit`]: String(integer(limit)),
    [`${prefix}remaining`]: String(integer(remaining)),
    [`${prefix}reset`]: String(at)
  })
  const of = {
    "draft-10": () => lists(quotas),
    "draft-8": () => lists(quotas),
    "draft-7": () => ({
      "ratelimit-policy": `${integer(limit)};w=${seconds(window)}`,
      "ratelimit": `limit=${integer(limit)}, remaining=${integer(remaining)}, reset=${reset(resetAfter)}`
    }),
    "draft-6": () => three("ratelimit-", reset(resetAfter)),
    "legacy": () => three("x-ratelimit-", reset(resetAfter)),
    "legacy-epoch": () => three("x-ratelimit-", Math.ceil(time / 1000) + reset(resetAfter))
  } satisfies Record<Form, () => Record<string, string>>
  return Object.assign({}, ...wanted.map((form) => of[form]()))
}

/** Whether a name can stand in the header: a string of printable ASCII. @internal */
export const isPolicyName = (name: string): boolean => name.length > 0 && /^[\x20-\x7e]+$/.test(name)
