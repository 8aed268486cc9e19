/** A Redis of the bench's own: one process on a unix socket, which keeps nothing on disk. */
import { Redis } from "ioredis"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

export interface Server {
  /** What a client connects to. */
  readonly path: string
  readonly version: string
  /** Calls of scripts since the server began: the round trips of whoever decides by them. */
  readonly roundTrips: () => Promise<number>
  /** Microseconds of processor time that the server has used. */
  readonly cpu: () => Promise<number>
  readonly stop: () => Promise<void>
}

const plain = (path: string) => new Redis(path, { lazyConnect: true, enableReadyCheck: false })

export const connect = async (path: string): Promise<Redis> => {
  for (let attempt = 0;; attempt++) {
    const client = plain(path).on("error", () => {})
    try {
      await client.connect()
      await client.ping()
      return client
    } catch (error) {
      client.disconnect()
      if (attempt > 500) throw error
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}

export const start = async (): Promise<Server> => {
  const { REDIS_BINARY, REDIS_LD_LIBRARY_PATH = "" } = process.env
  if (REDIS_BINARY === undefined) throw new Error("there is no redis-server on this machine")
  const dir = mkdtempSync(join(tmpdir(), "effect-resilience-bench-"))
  const path = join(dir, "redis.sock")
  const child = spawn(
    REDIS_BINARY,
    ["--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", dir],
    { stdio: "ignore", env: { ...process.env, LD_LIBRARY_PATH: REDIS_LD_LIBRARY_PATH } }
  )
  const admin = await connect(path)
  const info = async (section: string) => String(await admin.info(section))
  return {
    path,
    version: /redis_version:(\S+)/.exec(await info("server"))?.[1] ?? "unknown",
    roundTrips: async () => {
      const calls = [...(await info("commandstats")).matchAll(/^cmdstat_(?:evalsha|eval):calls=(\d+)/gm)]
      return calls.reduce((sum, [, count]) => sum + Number(count), 0)
    },
    cpu: async () => {
      const used = [...(await info("cpu")).matchAll(/^used_cpu_(?:user|sys)_main_thread:([\d.]+)/gm)]
      return used.reduce((sum, [, seconds]) => sum + Number(seconds) * 1e6, 0)
    },
    stop: async () => {
      admin.disconnect()
      const gone = new Promise((resolve) => child.once("exit", resolve))
      child.kill("SIGTERM")
      await gone
      rmSync(dir, { recursive: true, force: true })
    }
  }
}
