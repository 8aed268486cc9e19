// Packs the packages as they would be published.
import { mkdirSync, readdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { pnpm } from "./run.mjs"

export const packages = ["core", "http", "redis"]

/** Packs all packages into a folder and returns the tarballs by package. */
export const pack = (folder) => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const code = pnpm(["--recursive", "--filter", "./packages/*", "pack", "--pack-destination", folder])
  if (code !== 0) process.exit(code)
  return packages.map((name) => {
    const file = readdirSync(folder).find((file) => file.startsWith(`effect-resilience-${name}-`))
    return { name, tarball: join(folder, file) }
  })
}
