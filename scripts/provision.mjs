// Finds what some tests and examples need and a machine may lack. What is not there is said loudly, and is a failure where
// REQUIRE_REDIS or REQUIRE_CHROMIUM is set.
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, symlinkSync } from "node:fs"
import { delimiter, isAbsolute, join } from "node:path"
import { fileURLToPath } from "node:url"

const cache = fileURLToPath(new URL("../node_modules/.cache/redis", import.meta.url))

const answers = (command, env = {}) =>
  spawnSync(command, ["--version"], { stdio: "ignore", env: { ...process.env, ...env } }).status === 0

/** Where a command is. */
const absolute = (command) =>
  isAbsolute(command) ? command : (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, command))
    .find((file) => existsSync(file)) ?? command

/** What was unpacked into the cache, if it runs. */
const unpackedRedis = () => {
  const binary = join(cache, "usr/bin/redis-server")
  if (!existsSync(binary)) return undefined
  const libraries = readdirSync(join(cache, "usr/lib")).map((dir) => join(cache, "usr/lib", dir)).join(":")
  const env = { REDIS_BINARY: binary, REDIS_LD_LIBRARY_PATH: libraries }
  return answers(binary, { LD_LIBRARY_PATH: libraries }) ? env : undefined
}

/** Unpacks Debian's packages into the cache: needs neither root nor an installation. */
const unpackRedis = () => {
  if (!answers("apt-get") || !answers("dpkg")) return undefined
  mkdirSync(cache, { recursive: true })
  const quiet = { cwd: cache, stdio: "ignore" }
  const packages = ["redis-tools", "libjemalloc2", "liblzf1", "libatomic1"]
  if (spawnSync("apt-get", ["download", ...packages], quiet).status !== 0) return undefined
  for (const file of readdirSync(cache).filter((name) => name.endsWith(".deb"))) {
    if (spawnSync("dpkg", ["-x", file, "."], quiet).status !== 0) return undefined
  }
  // The server is the same program as its checker, by another name.
  symlinkSync("redis-check-rdb", join(cache, "usr/bin/redis-server"))
  return unpackedRedis()
}

const findRedis = () => {
  if (process.env.REDIS_URL) return {}
  const { REDIS_BINARY } = process.env
  // Another server is meant, and no other will do.
  if (REDIS_BINARY) return answers(REDIS_BINARY) ? { REDIS_BINARY: absolute(REDIS_BINARY) } : undefined
  const onPath = ["redis-server", "valkey-server"].find((name) => answers(name))
  return onPath === undefined ? unpackedRedis() ?? unpackRedis() : { REDIS_BINARY: onPath }
}

const findChromium = () => {
  const names = [process.env.CHROMIUM_BINARY, "chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
  const found = names.find((name) => name !== undefined && answers(name))
  return found === undefined ? undefined : { CHROMIUM_BINARY: absolute(found) }
}

/** Debian has Valkey from its release 13 on, and among the backports of the one before, where they are among the sources. */
const findValkey = () => answers("valkey-server") ? { VALKEY_BINARY: absolute("valkey-server") } : undefined

/** The environment of what needs one of `servers`, and what is missing on this machine. */
export const provision = (servers = ["redis", "chromium"]) => {
  const missing = []
  const env = {}
  const look = (what, found, required) => {
    if (found !== undefined) return Object.assign(env, found)
    missing.push(what)
    if (what.includes("REDIS_BINARY names")) env.REDIS_BINARY = undefined
    if (required) {
      banner(missing)
      console.error(`${what} is required here.`)
      process.exit(1)
    }
  }
  if (servers.includes("redis")) {
    look(
      process.env.REDIS_BINARY && !process.env.REDIS_URL
        ? `the Redis server that REDIS_BINARY names (${process.env.REDIS_BINARY} does not run)`
        : "a Redis server (install redis-server or valkey-server, or set REDIS_BINARY or REDIS_URL)",
      findRedis(),
      process.env.REQUIRE_REDIS
    )
  }
  if (servers.includes("valkey")) {
    look("Valkey (install valkey-server)", findValkey(), process.env.REQUIRE_VALKEY)
  }
  if (servers.includes("chromium")) {
    look("a browser (install chromium, or set CHROMIUM_BINARY)", findChromium(), process.env.REQUIRE_CHROMIUM)
  }
  return { env, missing }
}

/** Says what was not run. */
export const banner = (missing) => {
  for (const what of missing) console.error(`\n  !! NOT RUN: what needs ${what}\n`)
}
