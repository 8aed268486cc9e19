import { afterEach } from "@effect/vitest"

// Models and sweeps hold the thread for long. The runner hears of a test only where the loop turns, and gives up a worker
// that is silent for a minute.
afterEach(() => new Promise<void>((resolve) => setImmediate(resolve)))
