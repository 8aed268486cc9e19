/** What a process knows of its permits. @internal */
export interface View {
  /** Permits that it holds by its lease. */
  readonly held: number
  /** Permits that its calls use. */
  readonly used: number
  /** The most that they used at once in the last second or two. */
  readonly peak: number
  /** What its waiting calls ask for, all and the largest of them. */
  readonly wanted: { readonly all: number; readonly most: number }
  /** What it may hold, as others wait that come before it; undefined where none do. */
  readonly spare: number | undefined
  /** Whether it has had what it was given last for long enough to part with it. */
  readonly settled: boolean
  /** The permits of all processes. */
  readonly most: number
}

/** @internal */
export interface Plan {
  /** What its calls may use from now on. */
  readonly limit: number
  readonly keep: number
  readonly want: number
  readonly need: number
}

/**
 * What a process does with its permits. While nobody else waits it parts with those that it has not used for a while. When
 * others wait it parts with all that it does not use, and with what is above `spare` as its calls end.
 *
 * @internal
 */
export const plan = ({ held, most, peak, settled, spare, used, wanted }: View): Plan => {
  const asked = used + wanted.all
  const limit = spare === undefined
    ? Math.min(held, most, Math.max(asked, peak))
    : settled
    ? Math.min(held, spare, asked)
    : held
  const keep = Math.min(held, Math.max(used, limit))
  return { limit, keep, want: Math.max(keep, Math.min(most, asked)), need: Math.max(1, wanted.most) }
}

/**
 * What a process lends by itself while Redis cannot be asked and it holds nothing.
 *
 * @internal
 */
export const aloneLimit = (
  onStoreError: "fail" | "open" | "closed" | "local",
  most: number,
  processes: number
): number => {
  if (onStoreError === "open") return most
  return onStoreError === "local" ? Math.max(1, Math.floor(most / processes)) : 0
}
