import * as MetricKeyType from "effect/MetricKeyType"
import type * as MetricLabel from "effect/MetricLabel"
import type * as MetricPair from "effect/MetricPair"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"
import type { Type } from "./prometheusNames.js"
import { labelName, metricName } from "./prometheusNames.js"

/*
 * Prometheus' text format, version 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). One line that
 * is wrong makes Prometheus refuse the whole scrape, so that what cannot be written is left out, and counted.
 */

/** One line of a series. The label is `le` of a bucket, or `quantile`. */
interface Sample {
  readonly suffix: "" | "_bucket" | "_sum" | "_count"
  readonly label?: readonly [name: string, value: string]
  readonly value: number | bigint
}

interface Series {
  readonly labels: ReadonlyMap<string, string>
  readonly samples: ReadonlyArray<Sample>
}

interface Family {
  readonly name: string
  readonly type: Type
  readonly help: string | undefined
  /** By their labels as they are written. */
  readonly series: Map<string, ReadonlyArray<Sample>>
  /** The sum of those beyond the cap, where a sum means something. */
  overflow: ReadonlyArray<Sample> | undefined
}

/** Why a series is not in the scrape. */
type Omission = "cardinality" | "conflict" | "duplicate"

const omittedName = "effect_metrics_series_omitted"

/** A number as Go reads it. */
const show = (value: number | bigint): string =>
  value === Infinity ? "+Inf" : value === -Infinity ? "-Inf" : String(value)

const escapeHelp = (text: string): string => text.replace(/\\/g, "\\\\").replace(/\n/g, "\\n")
const escapeLabel = (text: string): string => escapeHelp(text).replace(/"/g, "\\\"")

const write = (labels: Iterable<readonly [string, string]>): string =>
  Array.from(labels, ([name, value]) => `${name}="${escapeLabel(value)}"`).join(",")

const typeOf = ({ metricKey: { keyType } }: MetricPair.MetricPair.Untyped): Type => {
  if (MetricKeyType.isCounterKey(keyType)) {
    return (keyType as MetricKeyType.MetricKeyType.Counter<number>).incremental ? "counter" : "gauge"
  }
  if (MetricKeyType.isFrequencyKey(keyType)) return "counter"
  if (MetricKeyType.isHistogramKey(keyType)) return "histogram"
  return MetricKeyType.isSummaryKey(keyType) ? "summary" : "gauge"
}

/** Effect gives the unit of a metric as a label; in Prometheus it is part of the name. */
const isUnit = ({ key }: MetricLabel.MetricLabel): boolean => key === "unit" || key === "time_unit"

const unitOf = (tags: ReadonlyArray<MetricLabel.MetricLabel>): string | undefined =>
  tags.find(({ key }) => key === "unit")?.value ?? tags.find(({ key }) => key === "time_unit")?.value

/** What the type of a metric needs for itself. */
const reserved = { le: "histogram", quantile: "summary", key: "frequency" } as const

/**
 * The labels, sorted by their names. Of one key the last value counts; where different keys become one name, their values
 * are joined. An empty value is no label.
 */
const labelsOf = (
  tags: ReadonlyArray<MetricLabel.MetricLabel>,
  kind: Type | "frequency"
): ReadonlyMap<string, string> => {
  const byKey = new Map(tags.filter((tag) => !isUnit(tag)).map(({ key, value }) => [key, value]))
  const byName = new Map<string, string>()
  for (const [key, value] of [...byKey].sort(([a], [b]) => a < b ? -1 : 1)) {
    const clean = labelName(key)
    const name = Object.hasOwn(reserved, clean) && reserved[clean as keyof typeof reserved] === kind
      ? `exported_${clean}`
      : clean
    const before = byName.get(name)
    if (value !== "") byName.set(name, before === undefined ? value : `${before};${value}`)
  }
  return new Map([...byName].sort(([a], [b]) => a < b ? -1 : 1))
}

/** The series of one metric of Effect: a frequency has one for each word, all others have one. */
const seriesOf = ({ metricKey, metricState }: MetricPair.MetricPair.Untyped, type: Type): ReadonlyArray<Series> => {
  if (MetricState.isFrequencyState(metricState)) {
    const labels = labelsOf(metricKey.tags, "frequency")
    return Array.from(metricState.occurrences, ([word, value]) => ({
      labels: word === "" ? labels : new Map([...labels, ["key", word]]),
      samples: [{ suffix: "", value }]
    }))
  }
  return [{ labels: labelsOf(metricKey.tags, type), samples: samplesOf(metricState) }]
}

const samplesOf = (state: MetricState.MetricState.Untyped): ReadonlyArray<Sample> => {
  if (MetricState.isCounterState(state)) return [{ suffix: "", value: state.count }]
  if (MetricState.isGaugeState(state)) return [{ suffix: "", value: state.value }]
  if (MetricState.isHistogramState(state)) {
    const finite = state.buckets.filter(([bound]) => bound !== Infinity)
    return [
      ...finite.map(([bound, value]): Sample => ({ suffix: "_bucket", label: ["le", show(bound)], value })),
      { suffix: "_bucket", label: ["le", "+Inf"], value: state.count },
      { suffix: "_sum", value: state.sum },
      { suffix: "_count", value: state.count }
    ]
  }
  if (MetricState.isSummaryState(state)) {
    return [
      ...state.quantiles.map(([quantile, value]): Sample => ({
        suffix: "",
        label: ["quantile", show(quantile)],
        value: Option.getOrElse(value, () => NaN)
      })),
      { suffix: "_sum", value: state.sum },
      { suffix: "_count", value: state.count }
    ]
  }
  return []
}

const add = (
  sum: ReadonlyArray<Sample> | undefined,
  more: ReadonlyArray<Sample>
): ReadonlyArray<Sample> | undefined => {
  if (sum === undefined) return more
  const fits = sum.length === more.length && sum.every(({ label }, i) => label?.[1] === more[i]?.label?.[1])
  return fits ? sum.map((sample, i) => ({ ...sample, value: Number(sample.value) + Number(more[i]?.value) })) : sum
}

const suffixes = {
  counter: [""],
  gauge: [""],
  histogram: ["", "_bucket", "_sum", "_count"],
  summary: ["", "_sum", "_count"]
}

const overflowLabels = write([["otel_metric_overflow", "true"]])

const linesOf = ({ help, name, overflow, series, type }: Family): ReadonlyArray<string> => {
  const all = new Map(series)
  const rest = overflow === undefined ? undefined : add(overflow, all.get(overflowLabels) ?? [])
  if (rest !== undefined) all.set(overflowLabels, rest)
  return [
    ...(help === undefined ? [] : [`# HELP ${name} ${escapeHelp(help)}`]),
    `# TYPE ${name} ${type}`,
    ...Array.from(all).flatMap(([labels, samples]) =>
      samples.map(({ label, suffix, value }) => {
        const written = [labels, label === undefined ? "" : write([label])].filter((part) => part !== "").join(",")
        return `${name}${suffix}${written === "" ? "" : `{${written}}`} ${show(value)}`
      })
    )
  ]
}

/** @internal */
export const format = (snapshot: Iterable<MetricPair.MetricPair.Untyped>, maxSeries: number): string => {
  const families = new Map<string, Family>()
  // Whose the names of samples are: a gauge `x_count` beside a histogram `x` would be two metrics in one name.
  const owners = new Map<string, string>([[omittedName, ""]])
  const omitted = new Map<string, number>()
  const omit = (metric: string, reason: Omission) => {
    const labels = write([["metric", metric], ["reason", reason]])
    omitted.set(labels, (omitted.get(labels) ?? 0) + 1)
  }

  const familyOf = (name: string, type: Type, help: string | undefined): Family | undefined => {
    const known = families.get(name)
    if (known !== undefined) return known.type === type ? known : undefined
    const names = suffixes[type].map((suffix) => name + suffix)
    if (names.some((sample) => owners.has(sample))) return undefined
    for (const sample of names) owners.set(sample, name)
    const family: Family = { name, type, help, series: new Map(), overflow: undefined }
    families.set(name, family)
    return family
  }

  const enter = (family: Family, { labels, samples }: Series): void => {
    const written = write(labels)
    if (family.series.has(written)) return omit(family.name, "duplicate")
    if (family.series.size < maxSeries) return void family.series.set(written, samples)
    omit(family.name, "cardinality")
    if (family.type === "counter" || family.type === "histogram") family.overflow = add(family.overflow, samples)
  }

  for (const pair of snapshot) {
    const type = typeOf(pair)
    const { description, name, tags } = pair.metricKey
    const exposed = metricName(name, type, unitOf(tags))
    const family = familyOf(exposed, type, Option.getOrUndefined(description))
    for (const series of seriesOf(pair, type)) {
      if (family === undefined) omit(exposed, "conflict")
      else enter(family, series)
    }
  }

  const told = omitted.size === 0 ? [] : [{
    name: omittedName,
    type: "gauge" as const,
    help: "Series that are not in this scrape: beyond the cap, in the name of another metric, or there twice",
    series: new Map([...omitted].map(([labels, value]) => [labels, [{ suffix: "" as const, value }]])),
    overflow: undefined
  }]
  const sorted = [...families.values(), ...told].sort((a, b) => a.name < b.name ? -1 : 1)
  return sorted.flatMap(linesOf).map((line) => `${line}\n`).join("")
}
