import * as Predicate from "effect/Predicate"

// Where this library is, in `dist`, or in `src` where somebody follows the source maps.
const meta: { readonly url?: string } = import.meta
const root = (meta.url ?? "").replace(/(dist|src)[\\/].*$/, "")
const own = [root, root.replace(/^file:\/\//, "")].flatMap((folder) => [`${folder}dist`, `${folder}src`])

const isOwn = (line: string): boolean =>
  own.some((folder) => line.includes(folder)) || /[\\/]node_modules[\\/]effect[\\/]|node:internal/.test(line)

/** The line of the user's code that made a policy, where the stack has it. @internal */
export const policySite = (): string => {
  const lines = new Error().stack?.split("\n").slice(1) ?? []
  return (lines.find(Predicate.not(isOwn)) ?? "unknown").trim().replace(/^at /, "")
}
