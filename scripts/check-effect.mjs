// The diagnostics of Effect's language service. It passes in silence when it finds no files, which is a failure here.
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { root } from "./run.mjs"

let failed = false
for (
  const project of [
    "packages/core/tsconfig.src.json",
    "packages/http/tsconfig.src.json",
    "packages/redis/tsconfig.src.json"
  ]
) {
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    [
      join(root, "node_modules/@effect/language-service/cli.js"),
      "diagnostics",
      "--project",
      project,
      "--format",
      "text"
    ],
    { cwd: root, encoding: "utf8" }
  )
  const output = `${stdout}${stderr}`
  const checked = Number(/Checked (\d+) files/.exec(output)?.[1] ?? 0)
  if (status !== 0 || checked === 0) {
    failed = true
    console.error(output)
  }
  console.error(`${project}: ${checked} files`)
}
process.exit(failed ? 1 : 0)
