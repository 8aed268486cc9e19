/** Writes the dashboards and the alert rules; with `--check` it says which of them are not as they would be written. */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { stringify } from "yaml"
import { alertRules } from "./alerts.js"
import { fleetDashboard, policyDashboard } from "./dashboards.js"

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

const files = {
  "fleet.json": json(fleetDashboard),
  "policy.json": json(policyDashboard),
  "alerts.yaml": stringify(alertRules, { lineWidth: 0 })
}

for (const [name, text] of Object.entries(files)) {
  const path = fileURLToPath(new URL(`../${name}`, import.meta.url))
  if (!process.argv.includes("--check")) writeFileSync(path, text)
  else if (!existsSync(path) || readFileSync(path, "utf8") !== text) {
    console.error(`packages/http/grafana/${name} is not as it would be written: npm run grafana`)
    process.exitCode = 1
  }
}
