// A Redis for a program that needs one: that of REDIS_URL, or one of our own on a free port of loopback.
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

const freePort = () =>
  new Promise((resolve, reject) => {
    const probe = createServer().on("error", reject).listen(0, "127.0.0.1", () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })

const isReachable = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.end()
      resolve(true)
    }).on("error", () => resolve(false))
  })

/**
 * Runs `use` with the environment of a Redis, whose keys are nobody else's; with `undefined` where the launcher found no
 * server. It keeps nothing on disk, and ends when `use` does.
 */
export const withRedis = async (use) => {
  const { REDIS_BINARY, REDIS_LD_LIBRARY_PATH = "", REDIS_URL } = process.env
  if (REDIS_URL) return use({ REDIS_URL, REDIS_PREFIX: `${randomUUID()}:` })
  if (REDIS_BINARY === undefined) return use(undefined)
  const dir = mkdtempSync(join(tmpdir(), "effect-resilience-redis-"))
  const port = await freePort()
  const server = spawn(
    REDIS_BINARY,
    ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir],
    { stdio: "ignore", env: { ...process.env, LD_LIBRARY_PATH: REDIS_LD_LIBRARY_PATH } }
  )
  try {
    for (let attempts = 0; !(await isReachable(port)); attempts++) {
      if (attempts > 500) throw new Error(`${REDIS_BINARY} did not start on port ${port}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    return await use({ REDIS_URL: `redis://127.0.0.1:${port}`, REDIS_PREFIX: `${randomUUID()}:` })
  } finally {
    server.kill("SIGKILL")
    rmSync(dir, { recursive: true, force: true })
  }
}
