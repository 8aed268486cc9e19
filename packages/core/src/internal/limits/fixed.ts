import type { Limit } from "../../Limit.js"

/** The same limit whatever happens; an operator may set another. @internal */
export const fixed = (n: number): Limit<number> => {
  const same = (limit: number) => limit
  return {
    name: "fixed",
    initial: n,
    limit: same,
    onAdmit: same,
    onReject: same,
    onSample: same,
    onDrop: same,
    onIgnore: same,
    inspect: () => ({ reason: "fixed" }),
    resize: (limit, wish) => wish >= 1 && Number.isFinite(wish) ? Math.floor(wish) : limit
  }
}
