import type { ServerResponse } from "node:http"
import { isEventStreamType } from "./eventStream.js"

/** The value of a field among those that `writeHead` takes: an object, or a list of names and values in turn. */
const fieldOf = (fields: unknown, name: string): unknown => {
  if (typeof fields !== "object" || fields === null) return undefined
  const list: ReadonlyArray<unknown> = Array.isArray(fields) ? fields.flat() : Object.entries(fields).flat()
  const at = list.findIndex((one, i) => i % 2 === 0 && String(one).toLowerCase() === name)
  return at < 0 ? undefined : list[at + 1]
}

/** Runs `listener` when a response that is no error begins to be a stream of events. @internal */
export const onEventStream = (response: ServerResponse, listener: () => void): void => {
  const writeHead: (status: number, ...rest: ReadonlyArray<any>) => ServerResponse = response.writeHead.bind(response)
  // Node itself writes a head by this, where its handler does not.
  response.writeHead = (status: number, ...rest: ReadonlyArray<unknown>) => {
    const written = writeHead(status, ...rest)
    const contentType = fieldOf(rest.at(-1), "content-type") ?? response.getHeader("content-type")
    if (status < 400 && isEventStreamType(String(contentType))) listener()
    return written
  }
}
