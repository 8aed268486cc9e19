import type { Registry } from "@effect-resilience/core"
import { toWire } from "@effect-resilience/core/extension"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"

/*
 * What a process tells of itself: its label, how often it tells, and its instances.
 */

const Figures = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/** @internal */
export const Report = Schema.parseJson(Schema.Struct({
  version: Schema.Literal(1),
  label: Schema.String,
  /** Milliseconds between two reports. */
  interval: Schema.Positive,
  /** Instances that did not find room. */
  omitted: Schema.NonNegativeInt,
  instances: Schema.Array(Schema.Struct({
    pattern: Schema.String,
    instance: Schema.String,
    metrics: Figures,
    settings: Schema.NullOr(Figures)
  }))
}))

/** @internal */
export type Instance = (typeof Report.Type)["instances"][number]

const figures = (value: unknown): Record<string, unknown> => {
  const wire = toWire(value)
  return typeof wire === "object" && wire !== null && !Array.isArray(wire) ? { ...wire } : {}
}

/** Instances as JSON. @internal */
export const instancesOf = ({ instances }: Registry.Snapshot): ReadonlyArray<Instance> =>
  instances.map(({ instance, metrics, pattern, settings }) => ({
    pattern,
    instance,
    metrics: figures(metrics),
    settings: settings === undefined ? null : figures(settings)
  }))

/** The report, with as many instances as there is room for. @internal */
export const reportOf = (
  { instances, interval, label, maxBytes }: {
    readonly label: string
    readonly interval: number
    readonly instances: ReadonlyArray<Instance>
    readonly maxBytes: number
  }
): string => {
  const texts: Array<string> = []
  // The head: a label is not longer than that.
  let size = 500
  for (const instance of instances) {
    const text = JSON.stringify(instance)
    size += Buffer.byteLength(text) + 1
    if (size > maxBytes) break
    texts.push(text)
  }
  const omitted = instances.length - texts.length
  const head = JSON.stringify({ version: 1, label, interval, omitted })
  return `${head.slice(0, -1)},"instances":[${texts.join(",")}]}`
}
