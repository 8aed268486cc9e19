import { createHash } from "node:crypto"

/**
 * A Lua script, sent by its digest. All of it is one atomic step of the server.
 *
 * In the body `now` is the server's time in whole microseconds, an exact number; keys are in `KEYS`, all of one hash tag,
 * and arguments in `ARGV`, from 1. It answers with whole numbers and strings, or lists of them, and never with
 * `redis.error_reply`.
 *
 * @internal
 */
export interface Script {
  readonly name: string
  readonly text: string
  readonly sha: string
  /** The same with a clock that a test moves. */
  readonly skewed: { readonly text: string; readonly sha: string }
}

/** What a script answers that came after the deadline of its command: then it did nothing. @internal */
export const late = "LATE"

// Before the body: the time, read once, for it moves while a script runs before Redis 7.2; and the deadline, which is the
// last argument, by the server's time, or 0. A command that waited in a paused server or in a buffer, while its caller was
// told that it failed, does nothing.
const prelude = (skew: string) => `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local deadline = tonumber(table.remove(ARGV))
if deadline > 0 and now > deadline then return '${late}' end
${skew}`

const sha = (text: string) => createHash("sha1").update(text).digest("hex")

/** @internal */
export const script = (name: string, body: string): Script => {
  const text = prelude("") + body
  // A test's clock is ahead of the server's by the argument before the deadline, in microseconds.
  const skewed = prelude("now = now + tonumber(table.remove(ARGV))\n") + body
  return { name, text, sha: sha(text), skewed: { text: skewed, sha: sha(skewed) } }
}
