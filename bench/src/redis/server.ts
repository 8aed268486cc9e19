/** A Redis of the bench's own: one process on loopback, which keeps nothing on disk. */
import { Redis } from "ioredis"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

export interface Counts {
  readonly version: string
  /** Calls of scripts since the server began: the round trips of whoever decides by them. */
  readonly roundTrips: () => Promise<number>
  /** Microseconds of processor time that the server has used. */
  readonly cpu: () => Promise<number>
  readonly close: () => void
}

export interface Server {
  /** What a client connects to: a URL, or the path of a socket. */
  readonly url: string
  readonly version: string
  readonly stop: () => Promise<void>
}

const plain = (url: string) => new Redis(url, { lazyConnect: true, enableReadyCheck: false })

export const connect = async (url: string): Promise<Redis> => {
  for (let attempt = 0;; attempt++) {
    const client = plain(url).on("error", () => {})
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

/** What the server counts. */
export const counts = async (url: string): Promise<Counts> => {
  const admin = await connect(url)
  const info = async (section: string) => String(await admin.info(section))
  return {
    version: /redis_version:(\S+)/.exec(await info("server"))?.[1] ?? "unknown",
    roundTrips: async () => {
      const calls = [...(await info("commandstats")).matchAll(/^cmdstat_(?:evalsha|eval):calls=(\d+)/gm)]
      return calls.reduce((sum, [, count]) => sum + Number(count), 0)
    },
    cpu: async () => {
      const used = [...(await info("cpu")).matchAll(/^used_cpu_(?:user|sys)_main_thread:([\d.]+)/gm)]
      return used.reduce((sum, [, seconds]) => sum + Number(seconds) * 1e6, 0)
    },
    close: () => admin.disconnect()
  }
}

/** A port of loopback that was free a moment ago. */
const freePort = () =>
  new Promise<number>((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** As programs reach it, by TCP; or by a unix socket, whose round trips cost both sides less. */
export const start = async (by: "tcp" | "socket"): Promise<Server> => {
  const { REDIS_BINARY, REDIS_LD_LIBRARY_PATH = "" } = process.env
  if (REDIS_BINARY === undefined) throw new Error("there is no redis-server on this machine")
  const dir = mkdtempSync(join(tmpdir(), "effect-resilience-bench-"))
  const socket = join(dir, "redis.sock")
  const port = by === "tcp" ? await freePort() : 0
  const url = by === "tcp" ? `redis://127.0.0.1:${port}` : socket
  const listen = by === "tcp" ? ["--bind", "127.0.0.1"] : ["--unixsocket", socket]
  const child = spawn(
    REDIS_BINARY,
    ["--port", String(port), ...listen, "--save", "", "--appendonly", "no", "--dir", dir],
    { stdio: "ignore", env: { ...process.env, LD_LIBRARY_PATH: REDIS_LD_LIBRARY_PATH } }
  )
  const { close, version } = await counts(url)
  close()
  return {
    url,
    version,
    stop: async () => {
      const gone = new Promise((resolve) => child.once("exit", resolve))
      child.kill("SIGTERM")
      await gone
      rmSync(dir, { recursive: true, force: true })
    }
  }
}
