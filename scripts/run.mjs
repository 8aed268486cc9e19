// The launcher: plain Node, nothing global. It installs what is missing by the pinned pnpm and runs a task, so that a
// fresh clone needs one command. What it says itself goes to standard error.
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { banner, provision } from "./provision.mjs"

export const root = fileURLToPath(new URL("..", import.meta.url))
const at = (path) => join(root, path)

/** Runs a program with its output on ours; returns its exit code. */
export const run = (command, args, options = {}) => {
  const { status, error, signal } = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options })
  if (error) console.error(`${command}: ${error.message}`)
  return status ?? (signal ? 130 : 1)
}

/** The pinned pnpm, through npx: nothing has to be installed. Its output goes to standard error. */
export const pnpm = (args, options = {}) => {
  const { packageManager } = JSON.parse(readFileSync(at("package.json"), "utf8"))
  return run("npx", ["--yes", packageManager.split("+")[0], ...args], {
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
    ...options
  })
}

const ensureDependencies = () => {
  const marker = at("node_modules/.modules.yaml")
  if (existsSync(marker) && statSync(at("pnpm-lock.yaml")).mtimeMs <= statSync(marker).mtimeMs) return
  console.error("Installing dependencies ...")
  const code = pnpm(["install", "--frozen-lockfile"])
  if (code !== 0) process.exit(code)
}

const bin = (name, ...args) => [process.execPath, [at(`node_modules/${name}`), ...args]]
const source = ["--conditions=@effect-resilience/source", "--import", "tsx"]
const script = (file, ...args) => [process.execPath, [...source, at(file), ...args]]
const vitest = (...args) => bin("vitest/vitest.mjs", "run", ...args)
const tsc = (...args) => bin("typescript/bin/tsc", ...args)
const build = tsc(
  "-b",
  "packages/core/tsconfig.build.json",
  "packages/http/tsconfig.build.json",
  "packages/redis/tsconfig.build.json"
)

/** The laws of the stores, which are what may differ between servers; or what else is asked for. */
const lawsOnValkey = (args, { VALKEY_BINARY }) =>
  VALKEY_BINARY === undefined ? [] : [
    [...vitest("--project", "redis", ...(args.length > 0 ? args : ["laws.test.ts"])), { REDIS_BINARY: VALKEY_BINARY }]
  ]

/** What a task runs, in order; the first that fails ends it, but for the tests. */
const tasks = {
  // All tests, with coverage or without it; whatever else is asked for goes to vitest alone.
  test: (args) =>
    args.some((arg) => arg !== "--coverage") ? [vitest(...args)] : [
      vitest(
        // Those over Redis and over sockets wait more than they work: a core is left idle otherwise, where there are two.
        "--maxWorkers=3",
        "--reporter=default",
        "--reporter=json",
        `--outputFile.json=${at("node_modules/.cache/vitest.json")}`,
        ...args
      ),
      bin("tstyche/build/bin.js", "--config", at("tstyche.json"))
    ],
  // The tests of the Redis package at full length: minutes of faults, where among all tests there are seconds.
  "test:redis": (args, found) => [
    vitest("--project", "redis*", "--maxWorkers=1", ...args),
    ...(args.length > 0 ? [] : lawsOnValkey([], found))
  ],
  "test:valkey": lawsOnValkey,
  demo: (args) => [script("examples/src/demo/main.ts", ...args)],
  build: () => [build],
  check: () => [
    [process.execPath, [at("scripts/embed-page.mjs"), "--check"]],
    tsc("-b", "tsconfig.json"),
    [process.execPath, [at("scripts/check-source.mjs")]],
    [process.execPath, [at("scripts/check-effect.mjs")]]
  ],
  embed: () => [[process.execPath, [at("scripts/embed-page.mjs")]]],
  screenshots: () => [
    script("scripts/screenshots.ts"),
    script("scripts/fleet-screenshot.ts"),
    script("scripts/demo-screenshots.ts")
  ],
  lint: (args) => [bin("eslint/bin/eslint.js", "--max-warnings=0", ".", ...args)],
  format: () => [bin("eslint/bin/eslint.js", "--fix", ".")],
  "docs:check": () => [script("scripts/check-docs.mjs"), [process.execPath, [at("scripts/rejections.mjs"), "--check"]]],
  rejections: () => [[process.execPath, [at("scripts/rejections.mjs")]]],
  examples: (args) => [[process.execPath, [at("scripts/examples.mjs"), ...args]]],
  consumer: () => [build, [process.execPath, [at("scripts/consumer.mjs")]]],
  "pack:check": () => [build, [process.execPath, [at("scripts/check-packs.mjs")]]],
  "audit:prod": () => [[process.execPath, [at("scripts/audit.mjs")]]],
  grafana: (args) => [script("packages/http/grafana/src/main.ts", ...args)],
  soak: (args) => [script("bench/src/soak.ts", ...args)],
  "bench:overhead": (args) => [
    build,
    tsc("-b", "bench"),
    [process.execPath, ["--expose-gc", at("bench/build/overhead.js"), ...args]]
  ],
  "bench:subscribers": (args) => [script("bench/src/subscribers.ts", ...args)],
  // Compiled, for the loader's own work would be a third of it.
  "bench:scenarios": (args) => [
    build,
    tsc("-b", "bench"),
    [process.execPath, [at("bench/build/scenarios.js"), ...args]]
  ],
  "bench:overload": (args) => [build, tsc("-b", "bench"), [process.execPath, [at("bench/build/overload.js"), ...args]]],
  "bench:redis": (args) => [build, tsc("-b", "bench"), [process.execPath, [at("bench/build/redis.js"), ...args]]],
  "bench:http": (args) => [
    build,
    tsc("-b", "bench"),
    [process.execPath, [at("bench/build/http.js"), ...args]]
  ]
}

/** The servers that a task needs. */
const needs = {
  test: ["redis", "chromium"],
  "test:redis": ["redis", "valkey"],
  "test:valkey": ["valkey"],
  "bench:redis": ["redis"],
  examples: ["redis"],
  screenshots: ["redis", "chromium"]
}

const main = () => {
  const [name, ...args] = process.argv.slice(2)
  const task = tasks[name]
  if (task === undefined) {
    console.error(`Unknown task ${name}. There are: ${Object.keys(tasks).join(", ")}`)
    process.exit(2)
  }
  ensureDependencies()
  const found = needs[name] === undefined ? { env: {}, missing: [] } : provision(needs[name])
  banner(found.missing)
  let failure = 0
  for (const [command, rest, env] of task(args, found.env)) {
    const code = run(command, rest, {
      env: { ...process.env, ...found.env, ...(name === "test:redis" ? { REDIS_LONG: "1" } : {}), ...env }
    })
    failure ||= code
    // Type tests do not need the others to pass; the rest builds on what came before.
    if (failure !== 0 && name !== "test") break
  }
  banner(found.missing)
  process.exitCode = failure
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main()
