import { PrometheusMetrics } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { parser } from "@prometheus-io/lezer-promql"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { parse } from "yaml"
import { all } from "../grafana/src/metrics.js"
import { useEveryPattern } from "./utils/everyPattern.js"
import type { Sample } from "./utils/prometheus.js"
import { families, samples } from "./utils/prometheus.js"

const read = (name: string) => readFileSync(new URL(`../grafana/${name}`, import.meta.url), "utf8")

interface Dashboard {
  readonly panels: ReadonlyArray<{
    readonly title: string
    readonly targets?: ReadonlyArray<{ readonly expr: string; readonly legendFormat: string }>
  }>
  readonly templating: { readonly list: ReadonlyArray<{ readonly query?: string | { readonly query: string } }> }
}
interface Rules {
  readonly groups: ReadonlyArray<{ readonly rules: ReadonlyArray<{ readonly alert: string; readonly expr: string }> }>
}

/** What Grafana would send. */
const filled = (expr: string) => expr.replaceAll("$__rate_interval", "5m").replace(/\$(job|instance|name)\b/g, ".*")

interface Selector {
  readonly metric: string
  readonly equal: Readonly<Record<string, string>>
  readonly matched: ReadonlyArray<string>
}

/** What an expression asks for, by the grammar of Prometheus itself. */
const ask = (expr: string) => {
  const selectors: Array<Selector> = []
  const grouped: Array<string> = []
  const errors: Array<string> = []
  parser.parse(expr).iterate({
    enter: (node) => {
      const text = expr.slice(node.from, node.to)
      if (node.type.isError) errors.push(`${expr} at ${node.from}`)
      if (node.name === "GroupingLabels") grouped.push(...text.replace(/[()\s]/g, "").split(","))
      if (node.name !== "VectorSelector") return
      const matchers = [...text.matchAll(/(\w+)(=~|=)"([^"]*)"/g)]
      selectors.push({
        metric: /^\w+/.exec(text)?.[0] ?? "",
        equal: Object.fromEntries(
          matchers.filter(([, , sign]) => sign === "=").map(([, key = "", , value = ""]) => [key, value])
        ),
        matched: matchers.map(([, key = ""]) => key)
      })
    }
  })
  return { errors, grouped, selectors }
}

/** Those that Prometheus adds itself. */
const ofTarget = ["job", "instance"]

/** What an expression refers to and no scrape has. */
const missing = (expr: string, scrape: ReadonlyArray<Sample>): ReadonlyArray<string> => {
  const { errors, grouped, selectors } = ask(filled(expr))
  if (selectors.length === 0) return [`${expr} asks for nothing`]
  const problems = [...errors]
  for (const { equal, matched, metric } of selectors) {
    const found = scrape.filter(({ labels, name }) =>
      name === metric && Object.entries(equal).every(([key, value]) => labels[key] === value)
    )
    if (found.length === 0) problems.push(`${metric} ${JSON.stringify(equal)}`)
    for (const label of [...matched, ...grouped].filter((label) => !ofTarget.includes(label))) {
      if (!found.some(({ labels }) => label in labels)) problems.push(`the label ${label} of ${metric}`)
    }
  }
  return problems
}

describe("dashboards and alerts", () => {
  it.scoped("refer to what a scrape has in which every pattern was used", () =>
    Effect.gen(function*() {
      yield* useEveryPattern
      const text = yield* PrometheusMetrics.text()
      const scrape = samples(text)
      const found = families(text)

      expect(all.filter((name) => !found.has(name))).toEqual([])

      const exprs: Array<string> = []
      for (const name of ["fleet.json", "policy.json"]) {
        const { panels, templating } = JSON.parse(read(name)) as Dashboard
        for (const { targets = [] } of panels) {
          for (const { expr, legendFormat } of targets) {
            exprs.push(expr)
            // A legend may name no label that the expression takes away.
            const { grouped } = ask(filled(expr))
            for (const [, label = ""] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) expect(grouped).toContain(label)
          }
        }
        for (const { query } of templating.list) {
          if (typeof query !== "object") continue
          const [, metric, label = ""] = /^label_values\((\w+), (\w+)\)$/.exec(query.query) ?? []
          expect(scrape.some(({ labels, name }) => name === metric && (ofTarget.includes(label) || label in labels)))
            .toBe(true)
        }
      }
      const { groups } = parse(read("alerts.yaml")) as Rules
      const rules = groups.flatMap((group) => group.rules)
      expect(new Set(rules.map((rule) => rule.alert)).size).toBe(rules.length)
      exprs.push(...rules.map((rule) => rule.expr))
      expect(exprs.length).toBeGreaterThan(40)
      expect(exprs.flatMap((expr) => missing(expr, scrape))).toEqual([])

      // And the check sees what is not there.
      expect(missing("rate(resilience_call_total[5m])", scrape)).toEqual(["resilience_call_total {}"])
      expect(missing("resilience_calls_total{outcome=\"rejcted\"}", scrape).length).toBe(2)
      expect(missing("sum by (nobody) (resilience_calls_total)", scrape)).toEqual([
        "the label nobody of resilience_calls_total"
      ])
      expect(missing("sum(resilience_calls_total", scrape).length).toBeGreaterThan(0)
    }))

  it("RB20: the limit of a shared bulkhead, which each process tells, is added up nowhere", () => {
    const told = ["fleet.json", "policy.json"].flatMap((name) =>
      (JSON.parse(read(name)) as Dashboard).panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
    )
    const rules = (parse(read("alerts.yaml")) as Rules).groups.flatMap((group) => group.rules)
    const asking = (exprs: ReadonlyArray<string>, metric: string) =>
      exprs.filter((expr) => ask(filled(expr)).selectors.some((selector) => selector.metric === metric))
    const exprs = [...told, ...rules.map(({ expr }) => expr)]
    // Wherever the limits of bulkheads are asked for.
    const shared = asking(exprs, "resilience_bulkhead_shared_limit")
    expect(shared).toEqual(asking(exprs, "resilience_bulkhead_limit"))
    expect(shared.length).toBe(5)
    for (const expr of shared) expect(expr).toMatch(/ or max by \([^)]*\) \(resilience_bulkhead_shared_limit/)
    expect(asking(shared, "resilience_bulkhead_in_use").length).toBe(3)
    for (const expr of asking(shared, "resilience_bulkhead_in_use")) expect(expr).toContain(" / (sum by (")
  })
})
