// The dependencies that users get: known vulnerabilities of what the published packages depend on at run time.
import { pnpm } from "./run.mjs"

process.exit(pnpm(["audit", "--prod", "--filter", "./packages/*"], { stdio: "inherit" }))
