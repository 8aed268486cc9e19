// publint and arethetypeswrong on the packed packages; and whether what their pages link to is in them.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { publint } from "publint"
import { formatMessage } from "publint/utils"
import { pack } from "./packs.mjs"
import { root, run } from "./run.mjs"

/** Links of the README and of the pages that lead out of the package, or nowhere in it. */
const brokenLinks = (tarball) => {
  const folder = mkdtempSync(join(tmpdir(), "effect-resilience-pack-"))
  if (run("tar", ["-xzf", tarball, "-C", folder]) !== 0) process.exit(1)
  const at = (...path) => join(folder, "package", ...path)
  const pages = ["README.md", ...existsSync(at("docs")) ? readdirSync(at("docs")).map((name) => `docs/${name}`) : []]
  const broken = pages.flatMap((page) =>
    [...readFileSync(at(page), "utf8").matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].flatMap(([, target]) => {
      const path = join(dirname(page), target)
      return path.startsWith("..") || !existsSync(at(path)) ? [`${page}: the link to ${target} leads nowhere`] : []
    })
  )
  rmSync(folder, { recursive: true })
  return pages.length === 1 ? [...broken, "no page is packed"] : broken
}

let failed = false
for (const { name, tarball } of pack(join(root, "node_modules/.cache/packs"))) {
  const bytes = readFileSync(tarball)
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
  const { messages, pkg } = await publint({ pack: { tarball: buffer }, strict: true })
  for (const message of messages) {
    failed = true
    console.error(`publint: ${name}: ${formatMessage(message, pkg)}`)
  }
  for (const link of brokenLinks(tarball)) {
    failed = true
    console.error(`${name}: ${link}`)
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
