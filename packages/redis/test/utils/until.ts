/** Waits until a condition holds, and dies where it does not in time. */
export const until = async (what: string, holds: () => Promise<boolean> | boolean, millis = 10_000): Promise<void> => {
  const end = performance.now() + millis
  while (!await holds()) {
    if (performance.now() > end) throw new Error(`not within ${millis} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
