import { Effect } from "effect"
import type { ChildProcess } from "node:child_process"
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** Whether this machine can start servers of its own; the launcher of the tests finds the binary. */
export const canStart = process.env.REDIS_BINARY !== undefined

const canListen = (port: number) =>
  new Promise<boolean>((resolve) => {
    const probe = createServer().on("error", () => resolve(false))
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)))
  })

/**
 * A port of loopback that was free a moment ago: below those that the system hands out to clients, so that none of them
 * takes it while its server is down. The nodes of a cluster speak to each other 10,000 above theirs.
 */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 10_000)
    if (await canListen(port) && await canListen(port + 10_000)) return port
  }
}

const reachable = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.end()
      resolve(true)
    }).on("error", () => resolve(false))
  })

/** A server on loopback that a test may kill, pause and start again on the same port. It keeps nothing on disk. */
export class Server {
  private child: ChildProcess | undefined

  private constructor(readonly port: number, readonly dir: string, private readonly args: ReadonlyArray<string>) {}

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }
  get pid(): number {
    return Number(this.child?.pid)
  }

  /** With further arguments of `redis-server`. */
  static readonly start = (args: ReadonlyArray<string> = [], port?: number) =>
    Server.launch((own) => [...own, "--save", "", "--appendonly", "no", ...args], port)

  /** A sentinel with these lines in its file. */
  static readonly startSentinel = (lines: ReadonlyArray<string>, port: number) =>
    Server.launch((own, dir) => {
      const file = join(dir, "sentinel.conf")
      writeFileSync(file, lines.join("\n") + "\n")
      return [file, "--sentinel", ...own]
    }, port)

  private static readonly launch = (
    args: (own: ReadonlyArray<string>, dir: string) => ReadonlyArray<string>,
    port?: number
  ) =>
    Effect.acquireRelease(
      Effect.promise(async () => {
        const dir = mkdtempSync(join(tmpdir(), "effect-resilience-redis-"))
        const at = port ?? await freePort()
        const server = new Server(at, dir, args(["--port", String(at), "--bind", "127.0.0.1", "--dir", dir], dir))
        await server.start()
        return server
      }),
      (server) => Effect.promise(() => server.remove())
    )

  async start(): Promise<void> {
    const { REDIS_BINARY = "redis-server", REDIS_LD_LIBRARY_PATH = "" } = process.env
    this.child = spawn(REDIS_BINARY, [...this.args], {
      stdio: "ignore",
      env: { ...process.env, LD_LIBRARY_PATH: REDIS_LD_LIBRARY_PATH }
    })
    for (let attempt = 0; !(await reachable(this.port)); attempt++) {
      if (attempt > 500) throw new Error(`${REDIS_BINARY} did not start on port ${this.port}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  /** kill -9, and waits until it is gone. */
  async kill(): Promise<void> {
    const { child } = this
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once("exit", resolve))
    child.kill("SIGCONT")
    child.kill("SIGKILL")
    await gone
  }

  /** It is there, and does not answer. */
  pause(): void {
    this.child?.kill("SIGSTOP")
  }
  resume(): void {
    this.child?.kill("SIGCONT")
  }

  private async remove(): Promise<void> {
    await this.kill()
    rmSync(this.dir, { recursive: true, force: true })
  }
}
