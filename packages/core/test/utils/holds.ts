import type { FastCheck } from "effect"
import { FastCheck as fc } from "effect"

/**
 * Asserts a property of pure code in parts: a test that holds the thread for a minute looks dead to the runner.
 */
export const holds = async <Ts>(property: FastCheck.IProperty<Ts>, runs: number): Promise<void> => {
  for (let done = 0; done < runs; done += 1000) {
    fc.assert(property, { numRuns: Math.min(1000, runs - done) })
    await new Promise((resolve) => setImmediate(resolve))
  }
}
