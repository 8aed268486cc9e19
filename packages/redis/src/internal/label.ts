import { hostname } from "node:os"

declare const process: { readonly pid: number }

/** What people call this process where nobody says more. @internal */
export const ownLabel = `${hostname()}:${process.pid}`
