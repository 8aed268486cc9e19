import { createHash } from "node:crypto"

/** What serves: the bare router, ours, and what fastify has. */
export type Kind = "bare" | "standard" | "under-pressure"

/**
 * What a request does. `cpu`: it hashes for so many rounds, a third more or less, and nothing else runs meanwhile. `io`: it
 * waits for one of ten connections, and holds it for 100 ms, a half more or less.
 */
export type Work = "cpu" | "io"

/** Drawn evenly from around a mean. */
export const about = (mean: number, spread: number): number => mean * (1 - spread + 2 * spread * Math.random())

const block = Buffer.alloc(4096, "work")

/** A fixed amount of work, not of time: a busy machine does not make it less. */
export const burn = (rounds: number): string => {
  let digest = ""
  for (let n = 0; n < rounds; n++) digest = createHash("sha256").update(block).update(digest).digest("hex")
  return digest
}

/** Rounds that take so long on this machine when nothing else runs: the best of some tries counts. */
export const roundsOf = (millis: number): number => {
  burn(20_000)
  const tries = Array.from({ length: 20 }, () => {
    const start = performance.now()
    burn(1000)
    return performance.now() - start
  })
  return Math.round(millis / Math.min(...tries) * 1000)
}
