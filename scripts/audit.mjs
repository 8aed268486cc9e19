// The dependencies that users get: known vulnerabilities of what is depended on at run time. It asks the registry's
// advisory endpoint, which not every mirror has, so it is no part of .ci/run.
import { pnpm } from "./run.mjs"

process.exit(pnpm(["audit", "--prod"], { stdio: "inherit" }))
