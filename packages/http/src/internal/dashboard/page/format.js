// @ts-check
/*
 * Figures and times for people.
 */

/** @param {number} n @param {number} [digits] */
const plain = (n, digits = 0) => n.toLocaleString("en", { maximumFractionDigits: digits })

/** A count: `1,234`, `12.3 k`. @param {number | null | undefined} n */
export const count = (n) => {
  if (n === null || n === undefined) return "∞"
  if (n >= 1e6) return `${plain(n / 1e6, 1)} M`
  return n >= 1e4 ? `${plain(n / 1e3, 1)} k` : plain(n, n % 1 === 0 ? 0 : 1)
}

/** So many a second. @param {number} n */
export const rate = (n) => `${n > 0 && n < 10 ? plain(n, 1) : count(Math.round(n))}/s`

/** A part of one, in per cent. @param {number} part */
export const percent = (part) => {
  const value = part * 100
  return `${plain(value, value > 0 && value < 10 ? 1 : 0)} %`
}

/** A time span. @param {number | null | undefined} millis */
export const span = (millis) => {
  if (millis === null || millis === undefined) return "no end"
  if (millis === 0) return "0 ms"
  if (millis < 1) return "under 1 ms"
  if (millis < 1000) return `${plain(millis)} ms`
  if (millis < 60_000) return `${plain(millis / 1000, millis < 10_000 ? 1 : 0)} s`
  if (millis < 3_600_000) return `${plain(millis / 60_000, millis < 600_000 ? 1 : 0)} min`
  if (millis < 172_800_000) return `${plain(millis / 3_600_000, 1)} h`
  return `${plain(millis / 86_400_000, 1)} days`
}

/** The time of day. @param {number} at */
export const clock = (at) => new Date(at).toLocaleTimeString("en-GB")

/** `HalfOpen`, `QueueFull`: as words. @param {unknown} name */
export const words = (name) => String(name).replace(/([a-z])([A-Z])/g, "$1 $2").replaceAll("_", " ").toLowerCase()

/** `1 circuit`, `2 circuits`. @param {number} n @param {string} one @param {string} [many] */
export const some = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`

const collator = new Intl.Collator("en", { numeric: true })

/** The order of names for people: `p2` before `p10`. @param {string} a @param {string} b */
export const byName = (a, b) => collator.compare(a, b)
