// Writes the script and the style of the dashboard into a module of strings, so that no bundler has to know of assets.
// The parts of the script are put one after the other: their imports are of each other only. `--check` writes nothing,
// and fails where the module is not what it would be.
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import ts from "typescript"
import { root } from "./run.mjs"

const folder = join(root, "packages/http/src/internal/dashboard")
const target = join(folder, "assets.ts")
const read = (name) => readFileSync(join(folder, "page", name), "utf8")

/** Each part after those that it imports. */
const parts = ["format", "dom", "judge", "cards", "store", "admin", "compare", "fleet", "timeline", "sections", "main"]

const withoutComments = (text) =>
  text.replace(/^[ \t]*\/\*(?:(?!\*\/)[\s\S])*\*\/\n/gm, "").replace(/\/\*\* @type [^*]*\*\/ ?/g, "")
    .replace(/^[ \t]*\/\/.*\n/gm, "").replace(/ \/\/ .*$/gm, "")
const trimmed = (text) => text.split("\n").map((line) => line.trim()).filter((line) => line !== "").join("\n")
/** No line begins or ends within a string, so one that plainly goes on is joined with the next. */
const joined = (text) =>
  text.replace(/(?<=[,([{+]|=>|\?\?|&&|\|\||[^=!<>]=)\n(?!\/\/)/g, "").replace(/\n(?=[)\]}?:]|\.(?!\.)|&&|\|\|)/g, "")
/** Without the spaces that separate nothing. */
const squeezed = (text) => {
  const file = ts.createSourceFile("page.js", text, ts.ScriptTarget.ES2022, false, ts.ScriptKind.JS)
  let [result, end] = ["", 0]
  const take = (node) => {
    const parts = node.getChildren(file)
    if (parts.length > 0) return parts.forEach(take)
    const token = node.getText(file)
    if (token === "") return
    const space = text.slice(end, node.getStart(file))
    const [last, first] = [result.at(-1) ?? "", token[0]]
    const separates = (/[\w$]/.test(last) && /[\w$]/.test(first)) || (/[+-]/.test(last) && last === first)
    result += (space.includes("\n") ? "\n" : separates ? " " : "") + token
    end = node.getEnd()
  }
  take(file)
  return result
}
const squeezedStyle = (text) => trimmed(text).replace(/\s*([{};,])\s*/g, "$1").replace(/: /g, ":").replace(/;\}/g, "}")

const script = squeezed(
  parts
    .map((name) => withoutComments(read(`${name}.js`)).replace(/^import .*\n/gm, "").replace(/^export /gm, ""))
    .map((text) => joined(trimmed(text)))
    .join("\n")
)
// Two parts with one name in them, say, would be noticed only in a browser.
new Function(script)
const style = squeezedStyle(read("style.css"))

const literal = (lines, between) =>
  `[\n${lines.map((line) => `  ${JSON.stringify(line)}`).join(",\n")}\n].join(${JSON.stringify(between)})`
const module = `// Written by scripts/embed-page.mjs from the files in page/. Change those.

/** @internal */
export const style = ${literal(style.split(/(?<=\})/), "")}

/** @internal */
export const script = ${literal(script.split("\n"), "\n")}
`

if (!process.argv.includes("--check")) writeFileSync(target, module)
else if (readFileSync(target, "utf8") !== module) {
  console.error("packages/http/src/internal/dashboard/assets.ts is not what page/ makes: npm run embed")
  process.exit(1)
}
console.error(`the page: ${style.length + script.length} characters`)
