import { Redis } from "ioredis"

/** One command to the server at a port, over a connection of its own. */
export const ask = async (port: number, command: string, ...args: ReadonlyArray<string | number>): Promise<unknown> => {
  const client = new Redis(port, "127.0.0.1", { retryStrategy: () => null, lazyConnect: true, enableReadyCheck: false })
  client.on("error", () => {})
  try {
    await client.connect()
    return await client.call(command, ...args)
  } finally {
    client.disconnect()
  }
}

/** The same where the server may be down, paused or not ready: then it is undefined. */
export const askOrNothing = (port: number, command: string, ...args: ReadonlyArray<string | number>) =>
  Promise.race([
    ask(port, command, ...args).catch(() => undefined),
    new Promise<undefined>((resolve) => setTimeout(resolve, 500, undefined))
  ])
