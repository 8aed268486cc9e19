import { Effect } from "effect"
import type { ChildProcess } from "node:child_process"
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"

/**
 * Another process that runs a TypeScript file of the tests, `new URL("./workers/x.ts", import.meta.url)`. Both sides send
 * JSON: the file with `process.send`, and listens with `process.on("message")`.
 */
export class Worker {
  private readonly inbox: Array<unknown> = []
  private readonly readers: Array<(message: unknown) => void> = []
  stderr = ""

  private constructor(readonly child: ChildProcess) {
    child.on("message", (message) => {
      const reader = this.readers.shift()
      if (reader === undefined) this.inbox.push(message)
      else reader(message)
    })
    child.stderr?.on("data", (text) => {
      this.stderr += String(text)
    })
  }

  static readonly start = (file: URL, ...args: ReadonlyArray<string>) =>
    Effect.acquireRelease(
      Effect.sync(() =>
        new Worker(fork(fileURLToPath(file), [...args], {
          execArgv: ["--conditions=@effect-resilience/source", "--import", "tsx"],
          stdio: ["ignore", "ignore", "pipe", "ipc"]
        }))
      ),
      (worker) =>
        Effect.promise(async () => {
          const { child } = worker
          if (child.exitCode !== null || child.signalCode !== null) return
          const gone = new Promise((resolve) => child.once("exit", resolve))
          child.kill("SIGCONT")
          child.kill("SIGKILL")
          await gone
        })
    )

  send(message: unknown): void {
    this.child.send(message as object)
  }

  /** The next message that it sent. Dies with what it wrote to standard error if it ends first. */
  readonly next = Effect.async<unknown>((resume) => {
    const first = this.inbox.shift()
    if (first !== undefined) return resume(Effect.succeed(first))
    const died = () => resume(Effect.die(new Error(`the worker ended: ${this.stderr}`)))
    // It may be gone before all that it said is here.
    this.child.once("close", died)
    this.readers.push((message) => {
      this.child.off("close", died)
      resume(Effect.succeed(message))
    })
  })
}
