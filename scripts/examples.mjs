// Runs every example: a program that fails or does not end within a minute is a failure. One that is named is run for
// people: `npm run examples -- app`.
import { spawnSync } from "node:child_process"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { root, run } from "./run.mjs"

const command = (file) => ["--conditions=@effect-resilience/source", "--import", "tsx", join("examples/src", file)]
const examples = readdirSync(join(root, "examples/src")).filter((file) => file.endsWith(".ts"))

for (const name of process.argv.slice(2)) {
  const file = `${name.replace(/\.ts$/, "")}.ts`
  if (!examples.includes(file)) {
    console.error(`There is no example ${name}. There are: ${examples.map((file) => file.slice(0, -3)).join(", ")}`)
    process.exit(2)
  }
  const status = run(process.execPath, command(file))
  if (status !== 0) process.exit(status)
}
if (process.argv.length > 2) process.exit(0)

let failed = 0
for (const file of examples) {
  const started = Date.now()
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    command(file),
    { cwd: root, encoding: "utf8", timeout: 60_000 }
  )
  const ok = status === 0 && stdout.trim() !== ""
  console.error(`${ok ? "ok  " : "FAIL"} ${file} (${Date.now() - started} ms)`)
  if (!ok) {
    failed++
    console.error(stdout, stderr)
  }
}
console.error(`${examples.length} examples, ${failed} failed`)
process.exit(failed === 0 && examples.length > 0 ? 0 : 1)
