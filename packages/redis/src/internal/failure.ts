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

/** What the text of an error reply means. @internal */
export const reasonOfReply = (message: string): Reason =>
  scriptDenied.test(message) ? "Denied" : byCode[codeOf(message)] ?? "Reply"

type Failed = Error & { readonly lastNodeError?: unknown }

/** Why a command failed, as far as its error tells. @internal */
export const reasonOf = (error: Failed): Reason => {
  if (error.name === "ReplyError") return reasonOfReply(error.message)
  if (error.lastNodeError instanceof Error) return reasonOf(error.lastNodeError)
  if (/timed out|ETIMEDOUT/.test(error.message)) return "Timeout"
  return unsent.test(error.message) ? "NotReady" : "Disconnected"
}

/** What ioredis says, mostly of its own options, in words for people who have not chosen them. */
const ours: ReadonlyArray<readonly [theirs: RegExp, ours: string]> = [
  [unsent, "there is no connection"],
  [/max retries per request|Command aborted/, "the connection broke before the answer"],
  [/^Connection is closed|Cluster is ended/, "there is no connection, or it broke before the answer"],
  [/^Socket timeout/, "the server was silent for too long, and the connection was broken off"],
  [/^connect ETIMEDOUT$/, "the server did not take the connection in time"],
  [/^All sentinels are unreachable/, "no sentinel names it"],
  [/^Failed to refresh slots cache/, "no node of the cluster answers"]
]

const inOurs = (text: string): string | undefined => ours.find(([theirs]) => theirs.test(text))?.[1]

/**
 * What happened, in words: those of the server, of the socket, or ours where ioredis speaks for itself. `cause` is what the
 * connection was lost by, where that is known.
 *
 * @internal
 */
export const detailOf = (error: Failed, cause?: string): string => {
  const { lastNodeError, message, name } = error
  const text = name === "ReplyError" ? undefined : inOurs(message)
  if (text === undefined) return message
  const last = lastNodeError instanceof Error ? lastNodeError.message : /Last error: (.*)/s.exec(message)?.[1]
  const why = last === undefined || inOurs(last) !== undefined ? cause : last
  return why === undefined || why === text ? text : `${text}: ${why}`
}
