// publint and arethetypeswrong on the packed packages.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { publint } from "publint"
import { formatMessage } from "publint/utils"
import { pack } from "./packs.mjs"
import { root, run } from "./run.mjs"

let failed = false
for (const { name, tarball } of pack(join(root, "node_modules/.cache/packs"))) {
  const bytes = readFileSync(tarball)
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
  const { messages, pkg } = await publint({ pack: { tarball: buffer }, strict: true })
  for (const message of messages) {
    failed = true
    console.error(`publint: ${name}: ${formatMessage(message, pkg)}`)
  }
  const code = run(process.execPath, [
    join(root, "node_modules/@arethetypeswrong/cli/dist/index.js"),
    tarball,
    "--profile",
    "esm-only",
    "--quiet"
  ], { stdio: ["ignore", 2, 2] })
  failed ||= code !== 0
  console.error(`${name}: ${tarball} checked`)
}
process.exit(failed ? 1 : 0)
