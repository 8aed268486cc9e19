// Runs every example: a program that fails or does not end within a minute is a failure.
import { spawnSync } from "node:child_process"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { root } from "./run.mjs"

let failed = 0
const examples = readdirSync(join(root, "examples/src")).filter((file) => file.endsWith(".ts"))
for (const file of examples) {
  const started = Date.now()
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    ["--conditions=@effect-resilience/source", "--import", "tsx", join("examples/src", file)],
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
