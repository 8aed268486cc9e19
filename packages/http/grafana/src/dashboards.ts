import type { Name } from "./metrics.js"
import { bulkheadLimit, bulkheadUse, series } from "./metrics.js"

/** One panel: a title, what is asked, and how its numbers are read. */
interface Panel {
  readonly title: string
  readonly type: "timeseries" | "stat" | "state-timeline"
  readonly unit: string
  readonly targets: ReadonlyArray<readonly [legend: string, expr: string]>
}

interface Row {
  readonly title: string
  readonly panels: ReadonlyArray<Panel>
}

const chosen = "job=~\"$job\",instance=~\"$instance\""
const one = `${chosen},resilience_name=~"$name"`

type Selector = (name: Name, more?: string) => string

const select = (labels: string): Selector => (name, more) =>
  `${series(name)}{${labels}${more === undefined ? "" : `,${more}`}}`

const rate = (expr: string, by: string): string => `sum by (${by}) (rate(${expr}[$__rate_interval]))`
const p95 = (buckets: string, by: string): string =>
  `histogram_quantile(0.95, sum by (le,${by}) (rate(${buckets}[$__rate_interval])))`
const bucketOf = (selector: string): string => selector.replace("{", "_bucket{")

const graph = (title: string, unit: string, ...targets: Panel["targets"]): Panel => ({
  title,
  type: "timeseries",
  unit,
  targets
})
const stat = (title: string, unit: string, expr: string): Panel => ({
  title,
  type: "stat",
  unit,
  targets: [["", expr]]
})

const by = "resilience_name"
const named = `{{${by}}}`

/** What is drawn of each pattern, over all instances or of the chosen ones. */
const rowsOf = (of: Selector): ReadonlyArray<Row> => [
  {
    title: "Circuit breakers",
    panels: [
      {
        title: "Open circuits",
        type: "state-timeline",
        unit: "none",
        targets: [[named, `max by (${by}) (${of("resilience.circuit_breaker.state", "state=\"open\"")})`]]
      },
      graph(
        "Failure and slow ratio",
        "percentunit",
        [`${named} failed`, `max by (${by}) (${of("resilience.circuit_breaker.failure_ratio")})`],
        [`${named} slow`, `max by (${by}) (${of("resilience.circuit_breaker.slow_ratio")})`]
      ),
      graph("Transitions", "ops", [
        `${named} {{from}} to {{to}}: {{cause}}`,
        rate(of("resilience.circuit_breaker.transitions"), `${by},from,to,cause`)
      ])
    ]
  },
  {
    title: "Retries and fallbacks",
    panels: [
      graph("Attempts for each call", "none", [
        named,
        `1 + ${rate(of("resilience.retry.attempts"), by)} / ${rate(of("resilience.retry.calls"), by)}`
      ]),
      graph("How calls ended", "ops", [`${named} {{kind}}`, rate(of("resilience.retry.calls"), `${by},kind`)]),
      graph("Budget left", "percentunit", [named, `min by (${by}) (${of("resilience.retry.budget.available")})`]),
      graph("Delay, p95", "s", [named, p95(bucketOf(of("resilience.retry.delay")), by)]),
      graph("Fallbacks", "ops", [`${named} {{cause}}`, rate(of("resilience.fallback.calls"), `${by},cause`)])
    ]
  },
  {
    title: "Concurrency",
    panels: [
      graph(
        "Bulkheads: in use of the limit",
        "none",
        [`${named} in use`, `sum by (${by}) (${of("resilience.bulkhead.in_use")})`],
        [`${named} limit`, bulkheadLimit(by, of)]
      ),
      graph(
        "Bulkheads: queue",
        "none",
        [`${named} waiting`, `sum by (${by}) (${of("resilience.bulkhead.queue.depth")})`],
        [`${named} limit`, `sum by (${by}) (${of("resilience.bulkhead.queue.limit")})`]
      ),
      graph("Bulkheads: wait, p95", "s", [named, p95(bucketOf(of("resilience.bulkhead.wait.duration")), by)]),
      graph(
        "Adaptive: in flight of the limit",
        "none",
        [`${named} in flight`, `sum by (${by}) (${of("resilience.adaptive.in_flight")})`],
        [`${named} waiting`, `sum by (${by}) (${of("resilience.adaptive.queue.depth")})`],
        [`${named} limit`, `sum by (${by}) (${of("resilience.adaptive.limit")})`]
      ),
      graph("Adaptive: wait, p95", "s", [named, p95(bucketOf(of("resilience.adaptive.wait.duration")), by)])
    ]
  },
  {
    title: "Rate limits",
    panels: [
      graph("Decisions", "ops", [`${named} {{result}}`, rate(of("resilience.rate_limiter.decisions"), `${by},result`)]),
      graph("Keys held", "none", [named, `sum by (${by}) (${of("resilience.rate_limiter.keys")})`]),
      graph("Wait, p95", "s", [named, p95(bucketOf(of("resilience.rate_limiter.wait.duration")), by)])
    ]
  },
  {
    title: "Kept responses",
    panels: [
      graph("Last good responses asked for", "ops", [
        `${named} {{result}}`,
        rate(of("resilience.cache.requests"), `${by},result`)
      ]),
      graph("Last good responses kept", "none", [named, `sum by (${by}) (${of("resilience.cache.entries")})`]),
      graph("Idempotency keys", "ops", [
        `${named} {{outcome}}`,
        rate(of("resilience.idempotency.requests"), `${by},outcome`)
      ]),
      graph("Idempotency keys held", "none", [
        `${named} {{state}}`,
        `sum by (${by},state) (${of("resilience.idempotency.keys")})`
      ]),
      graph(
        "Bytes kept",
        "bytes",
        [`${named} last good responses`, `sum by (${by}) (${of("resilience.cache.bytes")})`],
        [`${named} idempotency keys`, `sum by (${by}) (${of("resilience.idempotency.bytes")})`]
      )
    ]
  },
  {
    title: "Redis",
    panels: [
      graph(
        "Up, and refusing writes, in any process",
        "none",
        [`${named} up`, `min by (${by}) (${of("resilience.redis.up")})`],
        [`${named} refuses`, `max by (${by}) (${of("resilience.redis.degraded")})`]
      ),
      graph("Processes", "none", [named, `max by (${by}) (${of("resilience.redis.processes")})`]),
      graph("Errors", "ops", [`${named} {{reason}}`, rate(of("resilience.redis.errors"), `${by},reason`)]),
      graph("Time until an answer, p95", "s", [named, p95(bucketOf(of("resilience.redis.command.duration")), by)]),
      graph(
        "Commands",
        "ops",
        [`${named} sent`, rate(of("resilience.redis.round_trips"), by)],
        [`${named} waiting`, `sum by (${by}) (${of("resilience.redis.pending")})`]
      ),
      graph(
        "Lost",
        "ops",
        [`${named} leases`, rate(of("resilience.bulkhead.leases.lost"), by)],
        [`${named} events`, rate(of("resilience.redis.events.dropped"), by)]
      )
    ]
  },
  {
    title: "Load",
    panels: [
      graph("Pressure", "percentunit", [named, `max by (${by}) (${of("resilience.load.pressure")})`]),
      graph("Level: 0 normal to 3 critical", "none", [
        named,
        `max by (${by}) (${of("resilience.load_shedder.level")})`
      ]),
      graph(
        "Shedders: in flight of the limit",
        "none",
        [`${named} in flight`, `sum by (${by}) (${of("resilience.load_shedder.in_flight")})`],
        [`${named} waiting`, `sum by (${by}) (${of("resilience.load_shedder.queue.depth")})`],
        [`${named} limit`, `sum by (${by}) (${of("resilience.load_shedder.limit")})`]
      ),
      graph(
        "Backpressure",
        "none",
        [`${named} pending`, `sum by (${by}) (${of("resilience.backpressure.pending")})`],
        [`${named} waiting`, `sum by (${by}) (${of("resilience.backpressure.waiting")})`],
        [`${named} active`, `max by (${by}) (${of("resilience.backpressure.active")})`]
      )
    ]
  }
]

const overviewOf = (of: Selector): Row => ({
  title: "Overview",
  panels: [
    stat("Open circuits", "none", `sum(${of("resilience.circuit_breaker.state", "state=\"open\"")})`),
    stat("Rejections", "ops", `sum(rate(${of("resilience.rejections", "enforced=\"true\"")}[$__rate_interval]))`),
    stat(
      "Would be rejected (dry run)",
      "ops",
      `sum(rate(${of("resilience.rejections", "enforced=\"false\"")}[$__rate_interval]))`
    ),
    graph("Calls", "ops", [
      "{{resilience_pattern}} {{outcome}}",
      rate(of("resilience.calls"), "resilience_pattern,outcome")
    ]),
    graph("Rejections", "ops", [
      `{{resilience_pattern}} ${named} {{reason}}`,
      rate(of("resilience.rejections"), `resilience_pattern,${by},reason`)
    ]),
    graph("Saturated bulkheads, worst ten", "percentunit", [
      named,
      `topk(10, ${bulkheadUse(by, of)})`
    ])
  ]
})

const httpOf = (of: Selector): Row => ({
  title: "HTTP server",
  panels: [
    graph("Requests by status", "reqps", [
      "{{http_response_status_code}}",
      rate(of("http.server.request.duration").replace("{", "_count{"), "http_response_status_code")
    ]),
    graph("Duration by route, p95", "s", [
      "{{http_route}}",
      p95(bucketOf(of("http.server.request.duration")), "http_route")
    ]),
    graph("Under way", "none", [
      "{{http_request_method}}",
      `sum by (http_request_method) (${of("http.server.active_requests")})`
    ])
  ]
})

const variable = (name: string, metric: Name, label: string) => ({
  name,
  label: name,
  type: "query",
  datasource: { type: "prometheus", uid: "${datasource}" },
  query: { query: `label_values(${series(metric)}, ${label})`, refId: name },
  refresh: 2,
  includeAll: true,
  multi: true,
  allValue: ".*",
  current: { text: "All", value: "$__all" }
})

const datasource = { type: "prometheus", uid: "${datasource}" }

/** Rows under each other, three panels side by side. */
const layout = (rows: ReadonlyArray<Row>) => {
  const panels: Array<object> = []
  let y = 0
  let id = 1
  for (const row of rows) {
    panels.push({
      id: id++,
      type: "row",
      title: row.title,
      collapsed: false,
      panels: [],
      gridPos: { h: 1, w: 24, x: 0, y: y++ }
    })
    row.panels.forEach((panel, i) => {
      panels.push({
        id: id++,
        type: panel.type,
        title: panel.title,
        datasource,
        gridPos: { h: 8, w: 8, x: (i % 3) * 8, y: y + Math.floor(i / 3) * 8 },
        fieldConfig: { defaults: { unit: panel.unit, min: 0 }, overrides: [] },
        targets: panel.targets.map(([legendFormat, expr], n) => ({
          refId: String.fromCharCode(65 + n),
          datasource,
          expr,
          legendFormat
        }))
      })
    })
    y += Math.ceil(row.panels.length / 3) * 8
  }
  return panels
}

const dashboard = (uid: string, title: string, rows: ReadonlyArray<Row>, variables: ReadonlyArray<object>) => ({
  uid,
  title,
  tags: ["effect-resilience"],
  schemaVersion: 39,
  version: 1,
  editable: true,
  refresh: "30s",
  time: { from: "now-1h", to: "now" },
  templating: {
    list: [
      { name: "datasource", label: "datasource", type: "datasource", query: "prometheus", current: {} },
      variable("job", "resilience.calls", "job"),
      variable("instance", "resilience.calls", "instance"),
      ...variables
    ]
  },
  panels: layout(rows)
})

const fleet = select(chosen)
const policy = select(one)

/** All instances of all services. */
export const fleetDashboard = dashboard(
  "effect-resilience-fleet",
  "effect-resilience: fleet",
  [overviewOf(fleet), httpOf(fleet), ...rowsOf(fleet)],
  []
)

/** The instances of a name. */
export const policyDashboard = dashboard(
  "effect-resilience-policy",
  "effect-resilience: one policy",
  [overviewOf(policy), ...rowsOf(policy)],
  [variable("name", "resilience.calls", "resilience_name")]
)
