import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"

declare module "vitest" {
  export interface ProvidedContext {
    /** Where the Redis of the tests is; undefined where the machine has none. */
    redisUrl: string | undefined
  }
}

const reachable = (socket: string) =>
  new Promise<boolean>((resolve) => {
    const connection = connect(socket, () => {
      connection.end()
      resolve(true)
    }).on("error", () => resolve(false))
  })

/** Starts a server of our own on a unix socket, unless `REDIS_URL` names one. The launcher finds the binary. */
export default async (project: TestProject) => {
  const { REDIS_BINARY, REDIS_LD_LIBRARY_PATH, REDIS_URL } = process.env
  if (REDIS_URL !== undefined || REDIS_BINARY === undefined) {
    project.provide("redisUrl", REDIS_URL)
    return
  }
  const dir = mkdtempSync(join(tmpdir(), "effect-resilience-redis-"))
  const socket = join(dir, "redis.sock")
  const server = spawn(
    REDIS_BINARY,
    ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", dir],
    { stdio: "ignore", env: { ...process.env, LD_LIBRARY_PATH: REDIS_LD_LIBRARY_PATH ?? "" } }
  )
  for (let attempts = 0; !(await reachable(socket)); attempts++) {
    if (attempts > 500) throw new Error(`${REDIS_BINARY} did not start`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  project.provide("redisUrl", socket)
  return () => {
    server.kill("SIGTERM")
    rmSync(dir, { recursive: true, force: true })
  }
}
