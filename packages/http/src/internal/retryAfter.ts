import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

/** A date of HTTP (RFC 9110, 5.6.7), in the form that is to be sent; milliseconds since 1970. */
const parseDate = (text: string): number | undefined => {
  const match = /^\w{3}, (\d{2}) (\w{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT$/.exec(text)
  const month = months.indexOf(match?.[2] ?? "")
  if (match === null || month < 0) return undefined
  const time = Date.UTC(Number(match[3]), month, Number(match[1]), Number(match[4]), Number(match[5]), Number(match[6]))
  return Number.isFinite(time) ? time : undefined
}

/**
 * How long a server asks to wait: seconds or a date, which is measured against the response's own `date`, for clocks
 * differ. A time that has passed is no wait; what cannot be read says nothing.
 *
 * @internal
 */
export const parseRetryAfter = (
  headers: Readonly<Record<string, string | undefined>>,
  /** Milliseconds since 1970, where the response has no date. */
  time: number
): Option.Option<Duration.Duration> => {
  const text = headers["retry-after"]?.trim() ?? ""
  if (/^\d{1,15}$/.test(text)) return Option.some(Duration.seconds(Number(text)))
  const at = parseDate(text)
  if (at === undefined) return Option.none()
  const from = parseDate(headers["date"]?.trim() ?? "") ?? time
  return Option.some(Duration.millis(Math.max(0, at - from)))
}

/**
 * The value of the header: whole seconds, never earlier than `wait`, and by `random` (from 0 to 1) up to a tenth later, or
 * a second, so that those who are turned away together do not come back together.
 *
 * @internal
 */
export const retryAfterSeconds = (wait: Duration.Duration, random: number): number => {
  const least = Math.max(1, Math.ceil(Duration.toSeconds(wait) - 1e-9))
  return Math.min(999_999_999_999_999, least + Math.floor(random * (Math.ceil(least / 10) + 1)))
}
