import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

const time = String.raw`(?<hours>\d{2}):(?<minutes>\d{2}):(?<seconds>\d{2})`
/** The form that is to be sent, and the two obsolete ones that are to be understood: of RFC 850 and of `asctime`. */
const forms = [
  String.raw`\w{3}, (?<day>\d{2}) (?<month>\w{3}) (?<year>\d{4}) ${time} GMT`,
  String.raw`\w{6,9}, (?<day>\d{2})-(?<month>\w{3})-(?<year>\d{2}) ${time} GMT`,
  String.raw`\w{3} (?<month>\w{3}) (?<day>[ \d]\d) ${time} (?<year>\d{4})`
].map((form) => new RegExp(`^${form}$`))

/** A year of two digits is of this century, but not more than fifty years ahead. */
const wholeYear = (year: number, now: number): number => {
  const thisYear = new Date(now).getUTCFullYear()
  const whole = thisYear - thisYear % 100 + year
  return whole > thisYear + 50 ? whole - 100 : whole
}

/** A date of HTTP (RFC 9110, 5.6.7); milliseconds since 1970. */
const parseDate = (text: string, now: number): number | undefined => {
  for (const form of forms) {
    const { day, hours, minutes, month = "", seconds, year = "" } = form.exec(text)?.groups ?? {}
    const at = months.indexOf(month)
    if (at < 0) continue
    const whole = year.length === 2 ? wholeYear(Number(year), now) : Number(year)
    return Date.UTC(whole, at, Number(day), Number(hours), Number(minutes), Number(seconds))
  }
  return undefined
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
  now: number
): Option.Option<Duration.Duration> => {
  const text = headers["retry-after"]?.trim() ?? ""
  if (/^\d{1,15}$/.test(text)) return Option.some(Duration.seconds(Number(text)))
  const at = parseDate(text, now)
  if (at === undefined) return Option.none()
  const from = parseDate(headers["date"]?.trim() ?? "", now) ?? now
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
