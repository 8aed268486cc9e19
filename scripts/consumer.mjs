// Installs the packed packages into an empty project outside the workspace, compiles a program there with declarations
// on, compiles a second one against those declarations, and runs the first.
import { spawnSync } from "node:child_process"
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pack } from "./packs.mjs"
import { root, run } from "./run.mjs"

const fail = (what) => {
  console.error(`consumer: ${what} failed in ${project}`)
  process.exit(1)
}
const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const redis = JSON.parse(readFileSync(join(root, "packages/redis/package.json"), "utf8")).devDependencies
const http = JSON.parse(readFileSync(join(root, "packages/http/package.json"), "utf8")).devDependencies

const project = mkdtempSync(join(tmpdir(), "effect-resilience-consumer-"))
const tarballs = pack(join(root, "node_modules/.cache/packs"))
writeFileSync(
  join(project, "package.json"),
  JSON.stringify({
    name: "consumer",
    private: true,
    type: "module",
    dependencies: {
      effect: devDependencies.effect,
      ioredis: redis.ioredis,
      "@effect/platform": http["@effect/platform"],
      "@types/node": devDependencies["@types/node"],
      typescript: devDependencies.typescript,
      ...Object.fromEntries(tarballs.map(({ name, tarball }) => [`@effect-resilience/${name}`, `file:${tarball}`]))
    }
  })
)
const quiet = { cwd: project, stdio: ["ignore", 2, 2] }
if (run("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"], quiet) !== 0) fail("the installation")

const options = (include, extra) =>
  JSON.stringify({
    compilerOptions: {
      strict: true,
      exactOptionalPropertyTypes: true,
      module: "NodeNext",
      target: "ES2022",
      lib: ["ES2022", "DOM"],
      types: ["node"],
      skipLibCheck: false,
      declaration: true,
      ...extra
    },
    include
  })
const compile = (file, what) => {
  if (run(process.execPath, ["node_modules/typescript/bin/tsc", "-p", file], quiet) !== 0) fail(what)
}
mkdirSync(join(project, "src"))
copyFileSync(join(root, "scripts/consumer/program.ts"), join(project, "src/program.ts"))
writeFileSync(join(project, "tsconfig.json"), options(["src"], { rootDir: "src", outDir: "out" }))
compile("tsconfig.json", "the compilation with declarations")

const declarations = readFileSync(join(project, "out/program.d.ts"), "utf8")
if (declarations.includes("/internal/")) fail("the check of the declarations, which name an internal path:")

// The program's source is out of sight from here on: its users see the declarations.
mkdirSync(join(project, "user"))
for (const file of ["program.d.ts", "program.js"]) copyFileSync(join(project, "out", file), join(project, "user", file))
copyFileSync(join(root, "scripts/consumer/user.ts"), join(project, "user/user.ts"))
writeFileSync(join(project, "tsconfig.user.json"), options(["user"], { noEmit: true }))
compile("tsconfig.user.json", "the compilation against the declarations")

const expected = "default, paid 42, 1, no, true, program.js, alone"
// Source maps turn our frames in a stack into those of the sources: the place of an instance must still be the user's.
for (const flags of [[], ["--enable-source-maps"]]) {
  const { status, stderr, stdout } = spawnSync(process.execPath, [...flags, "out/program.js"], {
    cwd: project,
    encoding: "utf8"
  })
  if (status !== 0 || stdout.trim() !== expected) {
    console.error(stdout, stderr)
    fail(`the program, which should print "${expected}", run with [${flags}],`)
  }
}
// The index of the Redis package is for those, too, who have neither HTTP package.
for (const name of ["@effect-resilience/http", "@effect/platform"]) {
  rmSync(join(project, "node_modules", name), { recursive: true, force: true })
}
const { status, stderr } = spawnSync(
  process.execPath,
  ["--input-type=module", "--eval", `import "@effect-resilience/redis"`],
  { cwd: project, encoding: "utf8" }
)
if (status !== 0) {
  console.error(stderr)
  fail("the Redis package without its optional peers")
}
rmSync(project, { recursive: true, force: true })
console.error(`consumer: installed from tarballs, compiled twice and ran: ${expected}`)
