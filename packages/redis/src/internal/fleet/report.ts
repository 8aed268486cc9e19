import type { Fleet, Registry } from "@effect-resilience/core"
import { toWire } from "@effect-resilience/core/extension"
import { Buffer } from "node:buffer"

/*
 * What a process tells of itself: its label, how often it tells, and its instances.
 */

type Figures = Readonly<Record<string, unknown>>

/** @internal */
export type Instance = Fleet.Instance

interface Report {
  readonly version: 1
  readonly label: string
  /** Milliseconds between two reports. */
  readonly interval: number
  /** Instances that did not find room, or could not be asked. */
  readonly omitted: number
  readonly instances: ReadonlyArray<Instance>
}

const isFigures = (value: unknown): value is Figures =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isInstance = (value: unknown): boolean =>
  isFigures(value) && typeof value["pattern"] === "string" && typeof value["instance"] === "string" &&
  isFigures(value["metrics"]) && (value["settings"] === null || isFigures(value["settings"]))

const isReport = (value: unknown): value is Report =>
  isFigures(value) && value["version"] === 1 && typeof value["label"] === "string" &&
  typeof value["interval"] === "number" && value["interval"] > 0 && typeof value["omitted"] === "number" &&
  Array.isArray(value["instances"]) && value["instances"].every(isInstance)

/**
 * A report as it was written, or nothing where it is of another version. By hand: a schema would take several times as
 * long, for thousands of instances each second.
 *
 * @internal
 */
export const readReport = (text: string): Report | undefined => {
  try {
    const report: unknown = JSON.parse(text)
    return isReport(report) ? report : undefined
  } catch {
    return undefined
  }
}

const figures = (value: unknown): Figures => {
  const wire: unknown = toWire(value)
  return isFigures(wire) ? { ...wire } : {}
}

/** An instance as JSON. @internal */
export const instanceOf = ({ instance, pattern, settings }: Registry.Entry, metrics: object): Instance => ({
  pattern,
  instance,
  metrics: figures(metrics),
  settings: settings === undefined ? null : figures(settings)
})

/** The report, with as many instances as there is room for. @internal */
export const reportOf = (
  { instances, interval, label, maxBytes, silent }: {
    readonly label: string
    readonly interval: number
    readonly instances: ReadonlyArray<Instance>
    /** Instances that could not be asked. */
    readonly silent: number
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
  const omitted = instances.length - texts.length + silent
  const head = JSON.stringify({ version: 1, label, interval, omitted } satisfies Omit<Report, "instances">)
  return `${head.slice(0, -1)},"instances":[${texts.join(",")}]}`
}
