// What the compiler does not check of the sources: circular imports, `@since` and `@category` of every export, and the
// documentation of every option.
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import ts from "typescript"
import { root } from "./run.mjs"

const problems = []
const files = readdirSync(join(root, "packages"))
  .flatMap((name) =>
    readdirSync(join(root, "packages", name, "src"), { recursive: true })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => join(root, "packages", name, "src", file))
  )
const parsed = new Map(files.map((file) => [
  file,
  ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.ES2022, true)
]))
const show = (file) => relative(root, file)

// Circular imports. Imports of types do not exist at run time.
const imports = (file) =>
  parsed.get(file).statements.flatMap((statement) => {
    if (!ts.isImportDeclaration(statement) && !ts.isExportDeclaration(statement)) return []
    const specifier = statement.moduleSpecifier
    if (specifier === undefined || !specifier.text.startsWith(".")) return []
    const typesOnly = ts.isImportDeclaration(statement) ? statement.importClause?.isTypeOnly : statement.isTypeOnly
    return typesOnly ? [] : [resolve(dirname(file), specifier.text.replace(/\.js$/, ".ts"))]
  })
const done = new Set()
const visit = (file, path) => {
  const at = path.indexOf(file)
  if (at >= 0) return problems.push(`circular import: ${[...path.slice(at), file].map(show).join(" -> ")}`)
  if (done.has(file)) return
  for (const next of imports(file)) visit(next, [...path, file])
  done.add(file)
}
for (const file of files) visit(file, [])

// Documentation.
const categories = ["constructors", "models", "errors", "events", "layers", "guards", "references", "metrics"]
const tagsOf = (node) => new Map(ts.getJSDocTags(node).map((tag) => [tag.tagName.text, tag.comment]))
const textOf = (node) => ts.getJSDocCommentsAndTags(node).map((doc) => doc.getText()).join("\n")
const isExported = (node) => node.modifiers?.some((modifier) => modifier.kind === ts.SyntaxKind.ExportKeyword)

const checkExport = (file, node, name) => {
  const tags = tagsOf(node)
  if (tags.has("internal")) return
  if (!tags.has("since")) problems.push(`${show(file)}: ${name} has no @since`)
  if (!ts.isModuleDeclaration(node) && !categories.includes(tags.get("category"))) {
    problems.push(`${show(file)}: ${name} has no @category of ${categories.join(", ")}`)
  }
}
const checkOptions = (file, node) => {
  if (!ts.isInterfaceDeclaration(node) || !/Options$/.test(node.name.text)) return
  for (const member of node.members) {
    const name = member.name?.getText()
    if (!ts.isPropertySignature(member)) continue
    const text = textOf(member)
    if (text === "") problems.push(`${show(file)}: option ${name} of ${node.name.text} is not documented`)
    else if (member.questionToken && !/Defaults to/.test(text)) {
      problems.push(`${show(file)}: option ${name} of ${node.name.text} does not say its default`)
    }
  }
}
const nameOf = (node) =>
  node.name?.getText() ?? node.declarationList?.declarations.map((d) => d.name.getText()).join(", ") ?? "an export"
const walk = (file, statements, inside) => {
  for (const node of statements) {
    checkOptions(file, node)
    if (isExported(node)) checkExport(file, node, inside + nameOf(node))
    if (ts.isModuleDeclaration(node) && node.body && ts.isModuleBlock(node.body)) {
      walk(file, node.body.statements, `${nameOf(node)}.`)
    }
  }
}
for (const [file, source] of parsed) {
  if (!show(file).includes("internal/")) walk(file, source.statements, "")
}

for (const problem of problems) console.error(problem)
console.error(`${files.length} source files checked, ${problems.length} problems`)
process.exit(problems.length === 0 ? 0 : 1)
