import { existsSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"

export const quantile = (values: ReadonlyArray<number>, q: number) => {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const low = sorted[Math.floor(at)] ?? NaN
  return low + ((sorted[Math.ceil(at)] ?? NaN) - low) * (at % 1)
}

export const median = (values: ReadonlyArray<number>) => quantile(values, 0.5)

const require = createRequire(import.meta.url)

/** The version of a peer, and the Node it asks for. */
export const versionOf = (peer: string) => {
  let folder = require.resolve(peer).replace(/[^/\\]+$/, "")
  while (
    !existsSync(`${folder}package.json`) || JSON.parse(readFileSync(`${folder}package.json`, "utf8")).name !== peer
  ) {
    folder = folder.replace(/[^/\\]+[/\\]$/, "")
  }
  const { engines, version } = JSON.parse(readFileSync(`${folder}package.json`, "utf8"))
  return `${peer} ${version} (declares node ${engines?.node ?? "anything"})`
}
