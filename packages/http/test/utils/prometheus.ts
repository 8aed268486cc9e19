import parse from "parse-prometheus-text-format"

/** A line of a scrape. */
export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: string
}

/** What the parser made of a scrape: families by name, in their types. */
export const families = (text: string) => new Map(parse(text).map((family) => [family.name, family]))

/** The lines of a scrape, each read by the parser alone. */
export const samples = (text: string): ReadonlyArray<Sample> =>
  text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
    // The parser makes buckets and quantiles a structure; without a type a line stays a line.
    const metric = parse(`${line}\n`)[0]
    const sample = metric?.metrics[0]
    if (metric === undefined || sample === undefined) throw new Error(`not a sample: ${line}`)
    return { name: metric.name, labels: sample.labels ?? {}, value: sample.value ?? "" }
  })

/** The sum of the samples of a name that have these labels. */
export const valueOf = (text: string, name: string, labels: Readonly<Record<string, string>> = {}): number =>
  samples(text).filter((sample) =>
    sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value)
  ).reduce((sum, { value }) => sum + Number(value), 0)
