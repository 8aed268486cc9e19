// Writes what `examples/src/http-rejections.ts` prints into docs/http-rejections.md. With `--check` the page is compared instead.
import { spawnSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./run.mjs"

const page = join(root, "docs/http-rejections.md")
const { status, stderr, stdout } = spawnSync(
  process.execPath,
  ["--conditions=@effect-resilience/source", "--import", "tsx", "examples/src/http-rejections.ts"],
  { cwd: root, encoding: "utf8", timeout: 60_000 }
)
if (status !== 0) {
  console.error(stdout, stderr)
  process.exit(1)
}
const text = readFileSync(page, "utf8")
const [start, end] = ["<!-- rejections -->\n", "<!-- /rejections -->"]
const [from, to] = [text.indexOf(start) + start.length, text.indexOf(end)]
// Times vary by a second or two, and by chance; a trace is never the same.
const timeless = (part) => part.replace(/(retry-after: |;t=)\d+|(urn:uuid:)[\w-]+/g, "$1$2…").trim()
if (!process.argv.includes("--check")) {
  writeFileSync(page, `${text.slice(0, from)}\n${stdout.trim()}\n\n${text.slice(to)}`)
} else if (timeless(text.slice(from, to)) !== timeless(stdout)) {
  console.error(
    "docs/http-rejections.md does not show what the server answers: `npm run rejections` writes it anew\n",
    stdout
  )
  process.exit(1)
}
