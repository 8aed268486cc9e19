/*
 * Names as the mapping from OpenTelemetry to Prometheus writes them
 * (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/): the unit and `_total` are part of
 * a name, and what may not stand in one is an underscore.
 */

/** @internal */
export type Type = "counter" | "gauge" | "histogram" | "summary"

const units: Readonly<Record<string, string>> = {
  d: "days",
  h: "hours",
  min: "minutes",
  s: "seconds",
  ms: "milliseconds",
  us: "microseconds",
  ns: "nanoseconds",
  By: "bytes",
  KiBy: "kibibytes",
  MiBy: "mebibytes",
  GiBy: "gibibytes",
  KBy: "kilobytes",
  MBy: "megabytes",
  GBy: "gigabytes",
  m: "meters",
  V: "volts",
  A: "amperes",
  J: "joules",
  W: "watts",
  g: "grams",
  Cel: "celsius",
  Hz: "hertz",
  "%": "percent"
}

const perUnits: Readonly<Record<string, string>> = {
  s: "second",
  min: "minute",
  h: "hour",
  d: "day",
  w: "week",
  mo: "month",
  y: "year"
}

const underscored = (text: string): string => text.replace(/_{2,}/g, "_")

const lookUp = (table: Readonly<Record<string, string>>, unit: string): string =>
  Object.hasOwn(table, unit) ? table[unit] ?? unit : unit

/** The words of a unit: those of `By/s` are `bytes_per_second`, and `{request}` has none. */
const unitWords = (unit: string): string => {
  const [of = "", per = ""] = unit.replace(/\{[^}]*\}/g, "").split("/", 2).map((part) => part.trim())
  const words = of === "1" ? "" : lookUp(units, of)
  const all = per === "" ? words : `${words}_per_${lookUp(perUnits, per)}`
  return underscored(all.replace(/[^a-zA-Z0-9]+/g, "_")).replace(/^_|_$/g, "")
}

/** A metric's name in Prometheus. @internal */
export const metricName = (name: string, type: Type, unit = ""): string => {
  const clean = underscored(name.replace(/[^a-zA-Z0-9_:]/g, "_"))
  const base = type === "counter" ? clean.replace(/_total$/, "") : clean
  const suffix = type === "gauge" && unit === "1" ? "ratio" : unitWords(unit)
  const withUnit = suffix === "" || `_${base}_`.includes(`_${suffix}_`) ? base : `${base}_${suffix}`
  const whole = underscored(type === "counter" ? `${withUnit}_total` : withUnit)
  return /^[a-zA-Z_:]/.test(whole) ? whole : `_${whole}`
}

/** A label's name in Prometheus; those that begin with two underscores are its own. @internal */
export const labelName = (key: string): string => {
  const clean = underscored(key.replace(/[^a-zA-Z0-9_]/g, "_")) || "_"
  return /^[0-9]/.test(clean) ? `key_${clean}` : clean
}
