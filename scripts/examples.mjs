// Runs every example: a program that fails or does not end within a minute is a failure. One that is named is run for
// people: `npm run examples -- app`. Those that read REDIS_URL are given a Redis.
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { withRedis } from "./redis.mjs"
import { root, run } from "./run.mjs"

const command = (file) => ["--conditions=@effect-resilience/source", "--import", "tsx", join("examples/src", file)]
const examples = readdirSync(join(root, "examples/src")).filter((file) => file.endsWith(".ts"))
const needsRedis = (file) => readFileSync(join(root, "examples/src", file), "utf8").includes("REDIS_URL")

/** What `use` returns, which is given the environment of the example; nothing where that cannot be. */
const provided = (file, use) =>
  needsRedis(file)
    ? withRedis((redis) => {
      if (redis !== undefined) return use({ ...process.env, ...redis })
      console.error(`${file} needs a Redis server: install redis-server, or set REDIS_URL.`)
      return undefined
    })
    : use(process.env)

for (const name of process.argv.slice(2)) {
  const file = `${name.replace(/\.ts$/, "")}.ts`
  if (!examples.includes(file)) {
    console.error(`There is no example ${name}. There are: ${examples.map((file) => file.slice(0, -3)).join(", ")}`)
    process.exit(2)
  }
  const status = await provided(file, (env) => run(process.execPath, command(file), { env })) ?? 1
  if (status !== 0) process.exit(status)
}
if (process.argv.length > 2) process.exit(0)

let failed = 0
let left = 0
for (const file of examples) {
  const started = Date.now()
  const ended = await provided(
    file,
    (env) => spawnSync(process.execPath, command(file), { cwd: root, encoding: "utf8", timeout: 60_000, env })
  )
  if (ended === undefined) {
    left++
    continue
  }
  const { status, stderr, stdout } = ended
  const ok = status === 0 && stdout.trim() !== ""
  console.error(`${ok ? "ok  " : "FAIL"} ${file} (${Date.now() - started} ms)`)
  if (!ok) {
    failed++
    console.error(stdout, stderr)
  }
}
console.error(`${examples.length} examples, ${failed} failed, ${left} not run`)
process.exit(failed === 0 && examples.length > 0 ? 0 : 1)
