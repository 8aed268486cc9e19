// Compiles every TypeScript fence of the documentation, compares the tables of options with the code, follows the links,
// and compares the table of faults with the tests, and that of aioresilience's names with their list.
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { optionTables as patternTables } from "../packages/core/src/internal/optionTables.ts"
import { resilienceFields } from "../packages/core/src/Resilience.ts"
import { adminFields } from "../packages/http/src/Admin.ts"
import { dashboardFields } from "../packages/http/src/Dashboard.ts"
import { idempotencyFields } from "../packages/http/src/Idempotency.ts"
import { idempotencyStoreFields } from "../packages/http/src/IdempotencyStore.ts"
import { clientFields, clientRetryFields } from "../packages/http/src/internal/client/options.ts"
import { overrideFields } from "../packages/http/src/internal/client/override.ts"
import { httpResilienceFields } from "../packages/http/src/internal/options.ts"
import { fallbackFields, staleFields } from "../packages/http/src/internal/substitute.ts"
import { staleStoreFields } from "../packages/http/src/StaleStore.ts"
import { clientFields as redisClientFields, connectionFields } from "../packages/redis/src/internal/options.ts"
import { redisBulkheadFields } from "../packages/redis/src/RedisBulkhead.ts"
import { circuitFields } from "../packages/redis/src/RedisCircuitBreaker.ts"
import { consumeFields, eventStreamFields } from "../packages/redis/src/RedisEventStream.ts"
import { fleetFields } from "../packages/redis/src/RedisFleet.ts"
import { redisIdempotencyStoreFields } from "../packages/redis/src/RedisIdempotencyStore.ts"
import { leaseFields, rateLimiterStoreFields } from "../packages/redis/src/RedisRateLimiterStore.ts"
import { redisStaleStoreFields } from "../packages/redis/src/RedisStaleStore.ts"
import { root } from "./run.mjs"

const optionTables = {
  ...patternTables,
  "Admin": adminFields,
  "Dashboard": dashboardFields,
  "Resilience": resilienceFields,
  "HttpResilience": httpResilienceFields,
  "Idempotency": idempotencyFields,
  "IdempotencyStore": idempotencyStoreFields,
  "StaleStore": staleStoreFields,
  "RedisIdempotencyStore": redisIdempotencyStoreFields,
  "RedisStaleStore": redisStaleStoreFields,
  "RedisBulkhead": redisBulkheadFields,
  "RedisCircuitBreaker": circuitFields,
  "HttpResilience.fallback": fallbackFields,
  "HttpResilience.staleIfError": staleFields,
  "RedisRateLimiterStore": rateLimiterStoreFields,
  "RedisRateLimiterStore.leases": leaseFields,
  ResilientHttpClient: clientFields,
  ResilientHttpClientRetry: clientRetryFields,
  ResilientHttpClientOverride: overrideFields,
  "RedisEventStream": eventStreamFields,
  "RedisEventStream.consume": consumeFields,
  "RedisFleet": fleetFields,
  "RedisConnection": connectionFields,
  "RedisConnection.fromClient": redisClientFields
}
const problems = []
const walk = (folder, ending) =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder), { recursive: true }).filter((f) =>
      f.endsWith(ending) && !f.includes("node_modules")
    )
      .map((f) => join(folder, f))
    : []
const pages = [
  ...["README.md", "CONTRIBUTING.md", "bench/README.md"].filter((file) => existsSync(join(root, file))),
  ...walk("docs", ".md"),
  ...["core", "http", "redis"].map((name) => `packages/${name}/README.md`).filter((f) => existsSync(join(root, f)))
]
const texts = new Map(pages.map((page) => [page, readFileSync(join(root, page), "utf8")]))

// Fences: each is a module of its own, compiled inside the examples, where the packages resolve.
const folder = join(root, `examples/.snippets-${process.pid}`)
rmSync(folder, { recursive: true, force: true })
mkdirSync(folder)
const origins = new Map()
for (const [page, text] of texts) {
  for (const match of text.matchAll(/^```ts\n([\s\S]*?)^```/gm)) {
    const line = text.slice(0, match.index).split("\n").length + 1
    const name = `${page.replace(/[^a-z0-9]+/gi, "_")}_${line}.ts`
    origins.set(name, { page, line })
    writeFileSync(join(folder, name), `${match[1]}\nexport {}\n`)
  }
}
writeFileSync(
  join(folder, "tsconfig.json"),
  JSON.stringify({
    extends: "../../tsconfig.base.json",
    include: ["*.ts"],
    compilerOptions: { noEmit: true, composite: false, incremental: false, noUnusedLocals: false, types: ["node"] }
  })
)
const tsc = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", folder], {
  cwd: folder,
  encoding: "utf8"
})
for (const line of tsc.stdout.split("\n").filter((line) => line.trim() !== "")) {
  const match = /^([^(]+\.ts)\((\d+),/.exec(line)
  const origin = match && origins.get(match[1])
  problems.push(origin ? `${origin.page}:${origin.line + Number(match[2]) - 1}: ${line.slice(match[0].length)}` : line)
}
if (tsc.status !== 0 && problems.length === 0) problems.push("the snippets do not compile")
rmSync(folder, { recursive: true })

// Tables of options.
const described = new Set()
for (const [page, text] of texts) {
  for (const match of text.matchAll(/<!-- options: ([\w.]+) -->\n+((?:\|.*\n)+)/g)) {
    const [, pattern, table] = match
    const fields = optionTables[pattern]
    if (fields === undefined) {
      problems.push(`${page}: there are no options of ${pattern}`)
      continue
    }
    described.add(pattern)
    const rows = table.trim().split("\n").slice(2).map((row) => row.split("|").slice(1, -1).map((cell) => cell.trim()))
    const seen = new Set()
    for (const [option, shown] of rows) {
      const name = option.replaceAll("`", "")
      seen.add(name)
      const expected = fields[name]?.shown
      if (expected === undefined) problems.push(`${page}: ${pattern} has no option ${name}`)
      else if (shown.replaceAll("`", "") !== expected) {
        problems.push(`${page}: the default of ${pattern}.${name} is ${expected}, not ${shown}`)
      }
    }
    for (const name of Object.keys(fields)) {
      if (!seen.has(name)) problems.push(`${page}: the option ${pattern}.${name} is missing`)
    }
  }
}
for (const pattern of Object.keys(optionTables)) {
  if (!described.has(pattern)) problems.push(`no page has the options of ${pattern}`)
}

// Links inside the repository.
for (const [page, text] of texts) {
  for (const [, target] of text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)) {
    if (!existsSync(join(root, dirname(page), target))) problems.push(`${page}: the link to ${target} leads nowhere`)
  }
}

// Events and metrics: the page about observing has those of the code, and no others.
const observingPage = "docs/observing.md"
const observing = texts.get(observingPage) ?? ""
const inSources = (pattern) =>
  new Set(
    ["core", "redis"].flatMap((name) => walk(`packages/${name}/src`, ".ts")).flatMap((file) =>
      [...readFileSync(join(root, file), "utf8").matchAll(pattern)].map(([, name]) => name)
    )
  )
const attributes = ["resilience.pattern", "resilience.name", "resilience.event"]
const metrics = inSources(/"(resilience\.[a-z_.]+)"/g)
for (const name of [...metrics, ...inSources(/TaggedStruct\("(\w+)"/g)]) {
  if (!attributes.includes(name) && !observing.includes(`\`${name}\``)) {
    problems.push(`${observingPage}: ${name} is missing`)
  }
}
for (const [, name] of observing.matchAll(/`(resilience\.[a-z_.]+)`/g)) {
  if (!metrics.has(name) && !attributes.includes(name)) problems.push(`${observingPage}: there is no ${name}`)
}

// Faults: each has a test that names it, and each named one is in the table.
const faultsPage = "docs/faults.md"
const idPattern = /\b(?:W-[A-Z]\d+|CK\d+|OP\d+|R[A-Z]\d+|AN\d+|HT\d+)\b/g
const inTests = new Map()
for (const file of ["core", "http", "redis"].flatMap((name) => walk(`packages/${name}/test`, ".ts"))) {
  for (const [, name] of readFileSync(join(root, file), "utf8").matchAll(/it(?:\.\w+)*\(\s*["`]([^"`]+)["`]/g)) {
    for (const [id] of name.matchAll(idPattern)) inTests.set(id, [...inTests.get(id) ?? [], basename(file)])
  }
}
const inTable = new Map()
for (const row of (texts.get(faultsPage) ?? "").split("\n").filter((row) => row.startsWith("| "))) {
  const [id, , where] = row.split("|").slice(1, -1).map((cell) => cell.trim())
  if (!/^(W-[A-Z]\d+|CK\d+|OP\d+|R[A-Z]\d+|AN\d+|HT\d+)$/.test(id)) continue
  if (inTable.has(id)) problems.push(`${faultsPage}: two rows of ${id}`)
  inTable.set(id, where)
}
for (const [id, where] of inTable) {
  // Rows that begin with words point at something other than a test.
  for (const [, file] of where.startsWith("`") ? where.matchAll(/(?:^|; )`([^`]+)`: /g) : []) {
    if (!inTests.get(id)?.includes(file)) problems.push(`${faultsPage}: no test in ${file} names ${id}`)
  }
}
for (const [id, files] of inTests) {
  if (!inTable.has(id)) problems.push(`${files[0]} names ${id}, which ${faultsPage} does not list`)
}

// The names of aioresilience: each has a row that says what stands for it, and but one in a section; no row has a name
// that is not listed.
const parityPage = "docs/from-aioresilience.md"
const names = new Set(
  readFileSync(join(root, "scripts/aioresilience-names.txt"), "utf8").split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
)
const answered = new Set()
for (const section of (texts.get(parityPage) ?? "").split("\n## ")) {
  const seen = new Set()
  for (const row of section.split("\n").filter((row) => row.startsWith("| "))) {
    const [left, right] = row.split("|").slice(1, -1).map((cell) => cell.trim())
    for (const [, name] of left.matchAll(/`([^`]+)`/g)) {
      if (!names.has(name)) problems.push(`${parityPage}: ${name} is not in scripts/aioresilience-names.txt`)
      else if (right !== "") answered.add(name)
      if (seen.has(name)) problems.push(`${parityPage}: ${name} stands in two rows of a section`)
      seen.add(name)
    }
  }
}
for (const name of names) {
  if (!answered.has(name)) problems.push(`${parityPage}: no row says what stands for ${name}`)
}

for (const problem of problems) console.error(problem)
console.error(
  `${pages.length} pages, ${origins.size} snippets, ${described.size} tables of options, ${inTable.size} faults, ` +
    `${names.size} names of aioresilience, ${problems.length} problems`
)
process.exit(problems.length === 0 ? 0 : 1)
