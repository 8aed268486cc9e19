import type { RedisUnavailableError } from "../RedisUnavailableError.js"

/** @internal */
export type Reason = RedisUnavailableError["reason"]

/** What the code of an error reply means for the one who asked. */
const byCode: Record<string, Reason> = {
  READONLY: "ReadOnly",
  NOREPLICAS: "ReadOnly",
  MISCONF: "ReadOnly",
  OOM: "OutOfMemory",
  LOADING: "Loading",
  BUSY: "Busy",
  MASTERDOWN: "Disconnected",
  CLUSTERDOWN: "ClusterDown",
  TRYAGAIN: "ClusterDown",
  NOAUTH: "Denied",
  WRONGPASS: "Denied",
  NOPERM: "Denied"
}

/** What ioredis says where it did not send a command. Of a closed connection it says the same, sent or not. */
const unsent = /isn't writeable|isn't ready/

/** The code is the first word; before Redis 7 that of a command in a script comes later, after a dash. */
const codeOf = (message: string): string =>
  /^-?([A-Z]+)\b/.exec(message.replace(/^-?ERR Error running script.*? -(?=[A-Z]+ )/, ""))?.[1] ?? ""

/** What is said without a code where the user may not do what the script does: by Redis 7.0, and by those after it and Valkey. */
const scriptDenied = /user executing the script can't|ACL failure in script/

/** Why a command failed, as far as its error tells. @internal */
export const reasonOf = (error: Error & { readonly lastNodeError?: unknown }): Reason => {
  if (error.name === "ReplyError") {
    return scriptDenied.test(error.message) ? "Denied" : byCode[codeOf(error.message)] ?? "Reply"
  }
  if (error.lastNodeError instanceof Error) return reasonOf(error.lastNodeError)
  if (/timed out|ETIMEDOUT/.test(error.message)) return "Timeout"
  return unsent.test(error.message) ? "NotReady" : "Disconnected"
}
