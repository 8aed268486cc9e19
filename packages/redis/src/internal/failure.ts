import type { RedisUnavailableError } from "../RedisUnavailableError.js"
import { late } from "./script.js"

/** @internal */
export type Reason = RedisUnavailableError["reason"]

/** What the first word of an error reply means for the one who asked. */
const byCode: Record<string, Reason> = {
  READONLY: "ReadOnly",
  OOM: "OutOfMemory",
  LOADING: "Loading",
  BUSY: "Busy",
  MASTERDOWN: "Disconnected",
  CLUSTERDOWN: "ClusterDown",
  TRYAGAIN: "ClusterDown",
  NOAUTH: "Denied",
  WRONGPASS: "Denied",
  NOPERM: "Denied",
  [late]: "Late"
}

/** Why a command failed, as far as its error tells. @internal */
export const reasonOf = (error: Error): Reason => {
  if (error.name === "ReplyError") return byCode[/^-?([A-Z]+)/.exec(error.message)?.[1] ?? ""] ?? "Reply"
  if (error.name === "ClusterAllFailedError") return "Disconnected"
  return /isn't writeable|isn't ready/.test(error.message) ? "NotReady" : "Disconnected"
}
