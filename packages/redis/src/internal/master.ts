/** Looking for the master, after a server said that it is none. @internal */
export interface Search {
  readonly tries: number
  /** When to look again at the earliest, in milliseconds. */
  readonly next: number
}

/** @internal */
export const noSearch: Search = { tries: 0, next: 0 }

const firstWait = 500
const longestWait = 5000

/**
 * After a server said that it is read-only: whether to connect anew now. At once, then after half a second, and twice as
 * long each time up to five seconds, less up to half of it by chance; who heard nothing of it for as long begins anew.
 *
 * @internal
 */
export const afterReadOnly = (
  search: Search,
  now: number,
  random: () => number
): { readonly search: Search; readonly isDue: boolean } => {
  if (now < search.next) return { search, isDue: false }
  const tries = now > search.next + longestWait ? 0 : search.tries
  const wait = Math.min(firstWait * 2 ** tries, longestWait) * (1 - random() / 2)
  return { search: { tries: tries + 1, next: now + wait }, isDue: true }
}
